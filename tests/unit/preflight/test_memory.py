"""Do weights and KV cache fit, and is that memory free?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.machine import GIB
from tests.unit.machine import Machine as MadeUp
from tests.unit.preflight.conftest import MI300X, Examine

DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
Checkpoint = Callable[..., str]


# --- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gpus", [None, 1], ids=["not said", "one"])
def test_deepseek_on_one_gpu_is_told_that_it_needs_eight(
    eight: MadeUp, look: Examine, gpus: int | None
) -> None:
    finding = look(eight, DEEPSEEK, gpus=gpus, gpu_util=0.8)["oom_loading_weights"]
    assert finding.level == "refuse"
    assert "take about 624.9 GiB (the project's recipe), and 1 GPU of 192.0 GiB" in finding.what
    assert finding.remedy == (
        "It needs 8 GPUs: --vllm-gpus 8 (vllm serve --tensor-parallel-size 8)."
    )
    assert finding.numbers["gpus_needed"] == 8


def test_on_a_machine_with_one_gpu_that_is_said_too(mi300x: MadeUp, look: Examine) -> None:
    finding = look(mi300x, DEEPSEEK)["oom_loading_weights"]
    assert finding.remedy.endswith("--tensor-parallel-size 8); this machine has 1.")


def test_deepseek_on_eight_gpus_is_fine(eight: MadeUp, look: Examine) -> None:
    assert set(look(eight, DEEPSEEK, gpus=8)) <= {"disk_full"}


def test_on_larger_gpus_fewer_are_enough(eight: MadeUp, look: Examine) -> None:
    for number in range(8):
        eight.vram(128 + 8 * number, total=288 * 10**9)
    assert "--vllm-gpus 4 " in look(eight, DEEPSEEK)["oom_loading_weights"].remedy


def test_where_no_gpu_can_be_seen_the_recipe_warns(mi300x: MadeUp, look: Examine) -> None:
    (mi300x.root / "sys/class/drm/renderD128/device/mem_info_vram_total").unlink()
    finding = look(mi300x, DEEPSEEK)["oom_loading_weights"]
    assert finding.level == "warn"
    assert "needs 8 GPUs of 192 GB by the project's recipe, and is to get 1" in finding.what


def test_a_size_that_only_the_name_tells_is_no_reason_to_refuse(
    mi300x: MadeUp, look: Examine
) -> None:
    finding = look(mi300x, "acme/foo-405B")["oom_loading_weights"]
    assert finding.level == "warn"
    assert "about 754.4 GiB (estimated from its name)" in finding.what


def test_files_that_are_too_large_are(
    mi300x: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    ((cause, finding),) = look(mi300x, checkpoint(300 * GIB)).items()
    assert cause == "oom_loading_weights"
    assert finding.level == "refuse"
    assert "take 300.0 GiB (by its files)" in finding.what
    assert "--vllm-gpus 2 (vllm serve --tensor-parallel-size 2)" in finding.remedy


@pytest.mark.parametrize("arg", ["--cpu-offload-gb=200", "--quantization=fp8", "--hf_overrides={}"])
def test_flags_that_change_the_sum_end_the_sum(
    mi300x: MadeUp, look: Examine, checkpoint: Checkpoint, arg: str
) -> None:
    assert look(mi300x, checkpoint(300 * GIB), args=(arg,)) == {}


def test_pipelines_divide_the_weights_too(
    eight: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    model = checkpoint(300 * GIB)
    assert look(eight, model, args=("--pipeline-parallel-size", "4")) == {}


def test_the_engine_of_another_machine_has_other_gpus(mi300x: MadeUp, look: Examine) -> None:
    assert "oom_loading_weights" not in look(mi300x, DEEPSEEK, {"DOCKER_HOST": "ssh://a"})


# --- one request -------------------------------------------------------------------------------


def test_weights_above_the_share_are_a_warning_with_the_sum(
    eight: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    finding = look(eight, checkpoint(140 * GIB), gpu_util=0.5)["no_memory_for_kv_cache"]
    assert finding.level == "warn"
    assert "140.0 GiB of weights (its files), 1.00 GiB of KV cache for one request of 8192" in (
        finding.what
    )
    assert "vLLM may use 96.0 GiB (0.5, of 192.0 GiB)" in finding.what
    assert finding.remedy == (
        "Use a higher --vllm-gpu-util (vllm serve --gpu-memory-utilization), or --vllm-gpus 2 "
        "(vllm serve --tensor-parallel-size 2)."
    )


def test_a_request_that_is_too_long_gets_the_length_that_fits(
    mi300x: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    model = checkpoint(170 * GIB, max_position_embeddings=131072)
    finding = look(mi300x, model)["kv_cache_too_small_for_max_model_len"]
    left = 0.92 * MI300X - 173 * GIB
    fits = int(left // (16 * 131072)) * 16
    assert f"--vllm-max-model-len {fits} (vllm serve --max-model-len {fits})" in finding.remedy
    assert look(mi300x, model, max_model_len=fits) == {}


@pytest.mark.parametrize(
    "args", [("--max-model-len", "8192"), ("--max_model_len=8192",), ("--kv-cache-dtype=fp8",)]
)
def test_the_users_own_flags_count(
    mi300x: MadeUp, look: Examine, checkpoint: Checkpoint, args: tuple[str, ...]
) -> None:
    model = checkpoint(170 * GIB, max_position_embeddings=49152)
    assert look(mi300x, model) != {}
    assert look(mi300x, model, args=args) == {}


# --- what is free now --------------------------------------------------------------------------


def test_a_gpu_that_others_use_is_told_with_their_names(mi300x: MadeUp, look: Examine) -> None:
    mi300x.vram(128, used=28 * GIB)
    mi300x.holder(4711, 2, 27 * GIB, "python3", "0::/docker/" + "ab" * 32)
    finding = look(mi300x, "facebook/opt-125m")["gpu_memory_utilization_too_high"]
    assert finding.level == "warn"
    assert "/dev/dri/renderD128 has 164.0 GiB of 192.0 GiB free" in finding.what
    assert "176.6 GiB are (0.92, vLLM's default)" in finding.what
    assert "python3 (pid 4711) in container abababababab: 27.0 GiB" in finding.remedy
    assert "--vllm-gpu-util 0.85 (vllm serve --gpu-memory-utilization 0.85)" in finding.remedy
    assert "163.98/191.98 GiB = 0.854" in finding.remedy


def test_a_lower_share_is_no_remedy_where_the_weights_need_more(
    mi300x: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    mi300x.vram(128, used=150 * GIB)
    finding = look(mi300x, checkpoint(60 * GIB))["gpu_memory_utilization_too_high"]
    assert "--vllm-gpu-util" not in finding.remedy
    assert "no process that the driver knows of" in finding.remedy


def test_a_share_that_is_free_is_fine(mi300x: MadeUp, look: Examine) -> None:
    mi300x.vram(128, used=28 * GIB)
    assert look(mi300x, "facebook/opt-125m", gpu_util=0.85) == {}


def test_the_emptiest_gpus_are_the_ones_that_count(eight: MadeUp, look: Examine) -> None:
    eight.vram(128, used=100 * GIB)
    assert look(eight, "facebook/opt-125m", gpus=4) == {}


def test_a_process_gets_the_first_gpus_however_full(eight: MadeUp, look: Examine) -> None:
    eight.vram(128, used=100 * GIB)
    for gpus in (None, 4):
        found = look(eight, "facebook/opt-125m", launcher="process", gpus=gpus)
        assert found.keys() == {"gpu_memory_utilization_too_high"}


@pytest.mark.parametrize("name", ["HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"])
def test_a_process_uses_the_gpus_that_a_variable_leaves(
    eight: MadeUp, look: Examine, name: str
) -> None:
    eight.vram(128, used=100 * GIB)
    assert look(eight, "facebook/opt-125m", {name: "3,1"}, launcher="process") == {}


# --- without a GPU -----------------------------------------------------------------------------


def test_on_a_cpu_the_weights_go_into_the_machines_memory(bare: MadeUp, look: Examine) -> None:
    finding = look(bare, "acme/foo-70B", platform="cpu")["host_oom_killed"]
    assert finding.level == "warn"
    assert "130.4 GiB (estimated from its name) for its weights and 1.00 GiB" in finding.what
    assert "24.0 GiB of memory are available" in finding.what


def test_the_limit_of_a_control_group_counts(bare: MadeUp, look: Examine) -> None:
    group = bare.root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{8 * GIB}\n")
    (group / "memory.current").write_text(f"{2 * GIB}\n")
    assert "6.00 GiB" in look(bare, "acme/foo-7B", platform="cpu")["host_oom_killed"].what


def test_on_a_cpu_one_request_must_fit_into_its_cache(
    bare: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    model = checkpoint(GIB, max_position_embeddings=16384)
    finding = look(bare, model, platform="cpu")["kv_cache_too_small_for_max_model_len"]
    assert "One request of 16384 tokens takes 2.00 GiB of KV cache" in finding.what
    assert "--vllm-max-model-len 8064" in finding.remedy  # one of 64 blocks is vLLM's own
    assert look(bare, model, platform="cpu", env=(("VLLM_CPU_KVCACHE_SPACE", "3"),)) == {}
