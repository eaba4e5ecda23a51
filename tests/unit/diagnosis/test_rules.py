"""Each cause is known by its sentence, wherever it stands and whichever version says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pytest_vllm.diagnosis import diagnose
from pytest_vllm.diagnosis.ending import Ending
from pytest_vllm.diagnosis.rules import DOCKER, LOG

READY = "INFO:     Application startup complete."


def worker(text: str) -> str:
    """A log whose worker failed, as vLLM 0.32 writes it."""
    return "\n".join(
        [
            "INFO 11-22 07:58:20 [api_utils.py:347] version 0.32.0",
            f"(Worker pid=16) ERROR 11-22 07:58:32 [multiproc_executor.py:953] {text}",
            "(EngineCore pid=9) ERROR 11-22 07:58:33 [core.py:1510] Exception: WorkerProc "
            "initialization failed due to an exception in a background process. See stack trace "
            "for root cause.",
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core "
            "proc(s): {}",
        ]
    )


@pytest.mark.parametrize(
    ("text", "cause", "numbers", "do"),
    [
        (
            "ValueError: Free memory on device (164.76/191.98 GiB) on startup is less than desired "
            "GPU memory utilization (0.9, 172.79 GiB).",
            "gpu_memory_utilization_too_high",
            {"free_gib": 164.76, "total_gib": 191.98, "requested": 0.9, "max_gpu_util": 0.85},
            "164.76/191.98 GiB = 0.858 of the memory is free, so use --vllm-gpu-util 0.85 or less",
        ),
        (
            "ValueError: The model's max seq len (32768) is larger than the maximum number of "
            "tokens that can be stored in KV cache (7344).",
            "kv_cache_too_small_for_max_model_len",
            {"max_model_len": 32768, "kv_cache_tokens": 7344},
            "--vllm-max-model-len 7344 or less",
        ),
        (
            "ValueError: To serve at least one request with the models's max seq len (262144), "
            "(24.00 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(3.18 GiB). Based on the available memory, the estimated maximum model length is "
            "34736.",
            "kv_cache_too_small_for_max_model_len",
            {"needed_gib": 24.0, "available_gib": 3.18, "estimated_max_model_len": 34736},
            "--vllm-max-model-len 34736 or less (vllm serve --max-model-len 34736)",
        ),
        (
            "Value error, Total number of attention heads (52) must be divisible by tensor "
            "parallel size (8). [type=value_error]",
            "tp_not_dividing_heads",
            {"heads": 52, "tp": 8, "tp_valid": [1, 2, 4, 13]},
            "over 1, 2, 4, 13 GPUs, and not over 8: --vllm-gpus 4 (vllm serve --tensor-parallel-size 4)",
        ),
        (
            "RuntimeError: HIP error: invalid device function",
            "unsupported_gpu_arch",
            {},
            "HIP_VISIBLE_DEVICES=0",
        ),
        (
            "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: 160 MiB "
            "required, 64 MiB free.",
            "shm_too_small",
            {"required_mib": 160, "free_mib": 64},
            "160 MiB are needed, 64 MiB are free: docker run --shm-size 1g",
        ),
        (
            "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
            "lora_rank_too_high",
            {"rank": 64, "limit": 16},
            "--max-lora-rank=64",
        ),
        (
            "huggingface_hub.errors.GatedRepoError: 401 Client Error.",
            "hf_gated_no_token",
            {"status": 401},
            "HF_TOKEN",
        ),
        (
            "Input should be less than or equal to 1 [type=less_than_equal, input_value=90.0, "
            "input_type=float]",
            "invalid_argument_value",
            {"value": 90, "suggest": 0.9},
            "--vllm-gpu-util 0.9",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.islower() else "",
)
def test_a_cause_is_named_with_its_figures_and_what_to_do(
    text: str, cause: str, numbers: Mapping[str, Any], do: str
) -> None:
    found = diagnose(worker(text), state=Ending(1))
    assert found.cause == cause
    assert numbers.items() <= found.numbers.items()
    assert do in found.remedy
    assert found.evidence.startswith(text[:60])


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ('Conflict. The container name "/vllm" is already in use by …', "docker_name_conflict"),
        ("Unable to find group render: no matching entries in group file", "docker_group_missing"),
        (
            'error gathering device information while adding custom device "/dev/kfd": no such file',
            "gpu_device_missing",
        ),
        ("No such image: rocm/vllm:nope", "docker_image_missing"),
        (
            "driver failed …: listen tcp4 127.0.0.1:8000: bind: address already in use",
            "docker_port_in_use",
        ),
    ],
)
@pytest.mark.parametrize(
    "wrapped",
    [
        "docker: Error response from daemon: {}",
        '500 Server Error for http+docker://localhost/…: Internal Server Error ("{}")',
    ],
)
def test_docker_is_understood_from_its_command_and_its_sdk(
    error: str, cause: str, wrapped: str
) -> None:
    assert diagnose("", docker_error=wrapped.format(error)).cause == cause


@pytest.mark.parametrize("prefix", ["", "vllm-1  | ", "2026-11-22T07:58:32.123456Z ", "\x1b[31m"])
def test_what_compose_kubernetes_and_terminals_add_changes_nothing(prefix: str) -> None:
    log = "\n".join(
        prefix + line
        for line in worker("ValueError: No available memory for the cache blocks.").splitlines()
    )
    assert diagnose(log, state=Ending(1)).cause == "no_memory_for_kv_cache"


def test_of_several_gpus_the_fullest_decides() -> None:
    text = "Free memory on device cuda:{} ({}/192.0 GiB) on startup is less than desired GPU memory utilization (0.9, 172.8 GiB)"
    log = "\n".join(
        worker("ValueError: " + text.format(n, free)) for n, free in enumerate((150.0, 60.0, 120.0))
    )
    assert diagnose(log).numbers["free_gib"] == 60.0


def test_a_healthy_server_has_nothing_although_it_was_stopped_loudly() -> None:
    log = f"{READY}\nINFO 11-22 08:46:08 [launcher.py:254] [shutdown] API server: shutdown triggered\n(APIServer pid=2) ERROR 11-22 08:46:08 [async_llm.py:9] AsyncLLM output_handler failed."
    assert diagnose(log, state=Ending(0)).cause == "none"


def test_an_engine_that_died_while_it_served_is_told_by_its_log_and_not_by_its_exit_code() -> None:
    log = f"{READY}\n(APIServer pid=2) ERROR 11-22 08:46:08 [core_client.py:9] Engine core proc died: engine core exited unexpectedly"
    assert diagnose(log, state=Ending(0)).cause == "engine_died_serving"


def test_memory_that_ends_in_a_request_is_not_memory_for_the_weights() -> None:
    text = "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.25 GiB. GPU 0 has a total capacity of 191.98 GiB of which 412.00 MiB is free."
    assert diagnose(worker(text), state=Ending(1)).cause == "oom_loading_weights"
    found = diagnose(f"{READY}\n{worker(text)}", state=Ending(0))
    assert (found.cause, found.also) == ("engine_died_serving", ("oom_serving",))
    assert found.numbers["tried_gib"] == 2.25


@pytest.mark.parametrize(
    ("code", "cause"),
    [(132, "cpu_illegal_instruction"), (137, "container_killed"), (139, "worker_crashed")],
)
def test_an_end_by_a_signal_is_told_by_the_exit_code(code: int, cause: str) -> None:
    assert diagnose("INFO loading", state=Ending(code, oom_killed=False)).cause == cause


def test_a_worker_that_says_nothing_was_killed() -> None:
    log = "\n".join(worker("x").splitlines()[2:])
    assert diagnose(log, state=Ending(1)).cause == "worker_killed"


def test_no_rule_leaves_a_placeholder_unfilled() -> None:
    for rule in (*DOCKER, *LOG):
        texts = [rule.title] if callable(rule.remedy) else [rule.title, rule.remedy]
        names = set(rule.pattern.groupindex)
        for text in texts:
            used = {
                part.partition("}")[0]
                for part in text.split("{")[1:]
                if part.partition("}")[0].isidentifier()
            }
            assert used <= names, (rule.cause, used - names)


def test_a_long_log_is_read_in_one_pass_and_its_end_counts() -> None:
    noise = "\n".join(f"(Worker pid=1) ERROR 11-22 07:58:32 [x.py:1] odd {i}" for i in range(5000))
    log = f"{noise}\n{worker('ValueError: No available memory for the cache blocks.')}"
    assert diagnose(log, state=Ending(1)).cause == "no_memory_for_kv_cache"
