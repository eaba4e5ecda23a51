from __future__ import annotations

import pytest

from pytest_vllm.servers.phases import PhaseTracker, clean, phase_of

#: Lines in the wordings of vLLM 0.10 to 0.32, as each process prefixes them.
LINES = [
    (
        "(APIServer pid=1) INFO 11-23 04:00:00 [api_server.py:1772] vLLM API server version 0.32.0",
        "vLLM 0.32.0 starts",
    ),
    (
        "INFO 08-20 10:00:00 [api_server.py:1805] vLLM API server version 0.10.1rc2.dev1+g5.rocm7",
        "vLLM 0.10.1rc2.dev1+g5.rocm7 starts",
    ),
    (
        "(APIServer pid=1) INFO [model.py:5] Resolved architecture: OPTForCausalLM",
        "architecture OPTForCausalLM",
    ),
    (
        "(EngineCore_DP0 pid=9) INFO [core.py:65] Initializing a V1 LLM engine (v0.32.0) with …",
        "engine starts",
    ),
    (
        "(Worker_TP0_EP0 pid=9) INFO [gpu_model_runner.py:2] Starting to load model /models/m...",
        "loading weights",
    ),
    (
        "Loading safetensors checkpoint shards:  50% Completed | 2/4 [00:01<00:01,  1.5it/s]",
        "loading weights 50 %",
    ),
    (
        "Loading pt checkpoint shards: 100% Completed | 1/1 [00:00<00:00, 13.31it/s]",
        "loading weights 100 %",
    ),
    (
        "Loading safetensors using Runai Model Streamer:  25% Completed | 1/4 [00:01<00:03, 1it/s]",
        "loading weights 25 %",
    ),
    (
        "Multi-thread loading shards:   5% Completed | 1/20 [00:00<00:01, 13.31it/s]",
        "loading weights 5 %",
    ),
    ("[aiter] start build [module_rmsnorm] under /root/", "building AITER kernel module_rmsnorm"),
    (
        "(VllmWorker rank=0 pid=5) INFO [default_loader.py:2] Loading weights took 12.31 seconds",
        "weights loaded in 12.31 s",
    ),
    ("INFO [backends.py:5] Dynamo bytecode transform time: 4.20 s", "compiling"),
    ("INFO [backends.py:2] Compiling a graph for dynamic shape takes 12.00 s", "compiling"),
    ("INFO [monitor.py:34] torch.compile takes 16.20 s in total", "compiled in 16.20 s"),
    ("INFO [monitor.py:34] torch.compile took 6.20 s in total", "compiled in 6.20 s"),
    (
        "(EngineCore pid=9) INFO [kv_cache_utils.py:1] GPU KV cache size: 1,234,567 tokens",
        "KV cache of 1,234,567 tokens",
    ),
    (
        "INFO [kv_cache_utils.py:1] CPU KV cache size: 2,097,152 tokens",
        "KV cache of 2,097,152 tokens",
    ),
    (
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  12%|█▏ | 8/67 [00:01<00:08]",
        "capturing graphs 12 %",
    ),
    (
        "INFO [gpu_model_runner.py:3] Graph capturing finished in 7 secs, took 0.61 GiB",
        "graphs captured in 7 s",
    ),
    (
        "INFO [core.py:2] init engine (profile, create kv cache, warmup model) took 28.45 s (…)",
        "engine is up",
    ),
    (
        "INFO [api_server.py:1] Starting vLLM API server 0 on http://0.0.0.0:8000",
        "HTTP server starts",
    ),
    ("INFO [api_server.py:1] Starting vLLM server on http://127.0.0.1:41233", "HTTP server starts"),
]


@pytest.mark.parametrize(("line", "phase"), LINES)
def test_a_line_announces_its_phase(line: str, phase: str) -> None:
    assert phase_of(line) == phase


@pytest.mark.parametrize(
    "line",
    [
        "",
        "INFO:     Application startup complete.",
        "INFO [scheduler.py:1] Chunked prefill is enabled with max_num_batched_tokens=2048.",
        "INFO [shm_broadcast.py:1] No available shared memory broadcast block found in 60 seconds",
    ],
)
def test_any_other_line_announces_nothing(line: str) -> None:
    assert phase_of(line) is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x1b[1;36m(EngineCore pid=9)\x1b[0;0m INFO", "(EngineCore pid=9) INFO"),
        ("\r 10%\r 20%\r\n", " 20%"),
        ("plain\n", "plain"),
    ],
)
def test_a_clean_line_has_no_colours_and_only_the_last_step_of_a_bar(raw: str, text: str) -> None:
    assert clean(raw) == text


def test_phases_are_kept_with_their_times_in_order() -> None:
    tracker = PhaseTracker()
    for seconds, (line, _) in enumerate(LINES[2:5]):
        tracker.feed(line, seconds + 0.04)
    assert tracker.seen == [
        ("architecture OPTForCausalLM", 0.0),
        ("engine starts", 1.0),
        ("loading weights", 2.0),
    ]


def test_a_coloured_line_counts() -> None:
    assert PhaseTracker().feed("\x1b[36mResolved architecture: \x1b[0mOPT", 1) == "architecture OPT"


def test_the_same_phase_of_several_workers_counts_once() -> None:
    tracker = PhaseTracker()
    told = [
        tracker.feed(f"(Worker_TP{n} pid=9) Loading weights took {seconds} seconds", n)
        for n, seconds in enumerate(("12.31", "12.35", "12.31"))
    ]
    assert told == ["weights loaded in 12.31 s", None, None]


def test_each_share_of_the_weights_counts() -> None:
    tracker = PhaseTracker()
    bar = "Loading safetensors checkpoint shards: {}% Completed | 1/4"
    told = [tracker.feed(bar.format(percent), 1) for percent in (0, 50, 50, 100)]
    assert told == ["loading weights 0 %", "loading weights 50 %", None, "loading weights 100 %"]
