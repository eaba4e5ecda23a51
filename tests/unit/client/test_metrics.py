"""Prometheus text -> Metrics."""

from __future__ import annotations

import pytest

from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.metrics import Metrics, read_metrics

TEXT = """\
# HELP vllm:num_requests_running n
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0"} 1.0
# HELP vllm:num_requests_waiting n
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0"} 2.0
# HELP vllm:request_success_total n
# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop",engine="0"} 3.0
vllm:request_success_total{finished_reason="length",engine="0"} 4.0
# HELP vllm:e2e n
# TYPE vllm:e2e histogram
vllm:e2e_bucket{le="+Inf"} 7.0
vllm:e2e_count 7.0
vllm:e2e_sum 1.5
"""


def metrics(text: str) -> Metrics:
    return read_metrics(Answer(Request("GET", "/metrics"), "curl x", 200, {}, text.encode()))


def test_a_sum_goes_over_all_samples_with_the_labels() -> None:
    seen = metrics(TEXT)
    assert seen.sum("vllm:request_success_total") == 7
    assert seen.sum("vllm:request_success_total", finished_reason="stop") == 3
    assert seen.sum("vllm:request_success_total", finished_reason="abort") == 0


def test_a_counter_moves_between_two_looks() -> None:
    later = metrics(TEXT.replace('"stop",engine="0"} 3.0', '"stop",engine="0"} 5.0'))
    assert later.since(metrics(TEXT), "vllm:request_success_total") == 2


def test_what_runs_and_what_waits_is_in_flight() -> None:
    assert metrics(TEXT).in_flight == 3


def test_counters_and_histograms_may_not_fall_and_gauges_may() -> None:
    names = {name for name, _ in metrics(TEXT).counters()}
    assert names == {
        "vllm:request_success_total",
        "vllm:e2e_bucket",
        "vllm:e2e_count",
        "vllm:e2e_sum",
    }


def test_a_family_has_its_type() -> None:
    assert metrics(TEXT).types["vllm:request_success"] == "counter"
    assert metrics(TEXT).has("vllm:e2e_count")
    assert not metrics(TEXT).has("vllm:e2e")


def test_text_that_is_not_prometheus_is_refused() -> None:
    with pytest.raises(CheckFailed, match="/metrics must be in Prometheus' text format"):
        metrics("<html>{</html>\n")
