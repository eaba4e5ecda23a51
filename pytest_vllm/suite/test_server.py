"""GET /health, /version, /metrics and the like: for those who look after a server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.checks import has_shape, is_html, is_json
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.metrics import is_of, look
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.facts import root_of

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.source("vLLM docs (OpenAI-compatible server)"),
]

#: What vLLM counts, without the prefix `vllm:`, and of what type it is.
FAMILIES = {
    "num_requests_running": "gauge",
    "num_requests_waiting": "gauge",
    "kv_cache_usage_perc": "gauge",
    "prefix_cache_queries": "counter",
    "prefix_cache_hits": "counter",
    "num_preemptions": "counter",
    "prompt_tokens": "counter",
    "generation_tokens": "counter",
    "request_success": "counter",
    "time_to_first_token_seconds": "histogram",
    "inter_token_latency_seconds": "histogram",
    "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram",
    "request_inference_time_seconds": "histogram",
    "request_prefill_time_seconds": "histogram",
    "request_decode_time_seconds": "histogram",
    "iteration_tokens_total": "histogram",
    "cache_config_info": "gauge",
}


# Only the status counts: vLLM sends neither a body nor a content type.
@pytest.mark.endpoint("GET /health")
def test_the_server_says_that_it_is_healthy(api: Api) -> None:
    answer = api.ask(Request("GET", "/health"))
    if api.dialect.is_vllm:
        answer.check(_is_empty)


@pytest.mark.endpoint("GET /ping")
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_server_answers_a_ping(api: Api, method: str) -> None:
    if f"{method} /ping" not in api.server.capabilities.endpoints:
        api.unsupported(f"GET /openapi.json lists no {method} /ping")
    api.ask(Request(method, "/ping")).check(_is_empty)


def _is_empty(answer: Answer) -> None:
    must(answer.content == b"", "The answer must have no body", seen=answer.text)


@pytest.mark.endpoint("GET /version")
@pytest.mark.requires("version")
def test_the_server_says_its_version(api: Api) -> None:
    answer = api.ask(Request("GET", "/version")).check(is_json, has_shape(shapes.VERSION))
    if api.dialect.is_vllm:
        answer.check(_is_a_version)


def _is_a_version(answer: Answer) -> None:
    seen = answer.json["version"]
    good = re.fullmatch(r"v?\d+\.\d+(\.\d+)*((a|b|rc|\.?post|\.?dev)\d*)*(\+[\w.]+)?", seen)
    must(good, "version must be one as Python packages have", seen=seen)


@pytest.mark.endpoint("GET /version")
@pytest.mark.requires("version", "generation", "vllm")
def test_the_fingerprint_tells_the_version(api: Api) -> None:
    version = api.ask(Request("GET", "/version")).json["version"]
    answer = api.ask(completion(api.model, "Hello", max_tokens=1))
    print_of_it = answer.json.get("system_fingerprint")
    if not isinstance(print_of_it, str) or not print_of_it.startswith("vllm-"):
        api.unsupported(f"system_fingerprint is {print_of_it!r}")
    must(
        print_of_it.startswith(f"vllm-{version}"),
        "system_fingerprint must be of the server's version",
        expected=version,
        seen=print_of_it,
    )


@pytest.mark.endpoint("GET /docs")
@pytest.mark.requires("docs")
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_can_be_read(api: Api, path: str) -> None:
    if path == "/redoc" and not api.dialect.is_vllm:
        api.unsupported("only vLLM has it")
    api.ask(Request("GET", path)).check(is_html)


@pytest.mark.endpoint("GET /load")
@pytest.mark.requires("vllm")
def test_the_load_is_a_number(api: Api) -> None:
    if "GET /load" not in api.server.capabilities.endpoints:
        api.unsupported("GET /openapi.json lists no GET /load")

    def check(answer: Answer) -> None:
        load = answer.json.get("server_load")
        good = isinstance(load, int) and not isinstance(load, bool) and load >= 0
        must(good, "server_load must be an integer, 0 or more", seen=answer.json)

    api.ask(Request("GET", "/load")).check(is_json, check)


@pytest.mark.alone
@pytest.mark.endpoint("GET /load")
@pytest.mark.requires("vllm")
def test_an_idle_server_has_no_load(api: Api) -> None:
    if "GET /load" not in api.server.capabilities.endpoints:
        api.unsupported("GET /openapi.json lists no GET /load")
    if api.has("metrics") and look(api.client).in_flight:
        api.unsupported("somebody else uses the server")
    answer = api.ask(Request("GET", "/load"))
    rule = "server_load must be 0 while nothing is asked"
    answer.check(lambda a: must(a.json["server_load"] == 0, rule, expected=0, seen=a.json))


# --- metrics ---------------------------------------------------------------------------------


@pytest.mark.endpoint("GET /metrics")
@pytest.mark.requires("metrics")
@pytest.mark.source("Prometheus text format; vLLM docs (metrics)")
def test_the_metrics_can_be_read(api: Api) -> None:
    from prometheus_client.parser import text_string_to_metric_families as parse

    def check(answer: Answer) -> None:
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        must(
            media_type in ("text/plain", "application/openmetrics-text"),
            "Metrics must be text/plain",
            seen=media_type,
        )
        try:
            families = {family.name: family for family in parse(answer.content.decode())}
        except ValueError as error:
            raise CheckFailed(f"Metrics must be in Prometheus's format ({error})") from None
        must(families, "There must be metrics", seen=[])
        if api.dialect.is_vllm and api.has("generation"):
            kinds = {name: family.type for name, family in families.items()}
            helped = {name for name, family in families.items() if family.documentation}
            _has_families(kinds, helped, since_0_11=api.dialect.since(0, 11))

    api.ask(Request("GET", "/metrics")).check(check)


def _has_families(kinds: dict[str, str], helped: set[str], *, since_0_11: bool) -> None:
    """All families are there, under their names of this version, with their type and help."""
    if not since_0_11:
        return  # some had other names
    for name, kind in FAMILIES.items():
        name = f"vllm:{name}"
        # The parser leaves `_total` off counters only.
        must(name in kinds, f"There must be the metric {name}", seen="none")
        must(
            kinds[name] == kind,
            f"{name} must be declared as {kind}",
            expected=kind,
            seen=kinds[name],
        )
        must(name in helped, f"{name} must have a HELP line", seen="none")


@pytest.mark.endpoint("GET /metrics")
@pytest.mark.requires("metrics", "vllm")
def test_the_metrics_are_of_the_served_model(api: Api) -> None:
    from prometheus_client.parser import text_string_to_metric_families as parse

    text = api.ask(Request("GET", "/metrics")).content.decode()
    names = {
        sample.labels["model_name"]
        for family in parse(text)
        if family.name.startswith("vllm:")
        for sample in family.samples
        if "model_name" in sample.labels
    }
    must(
        names and all(is_of(name, api.model, root_of(api)) for name in names),
        "model_name must be the served model",
        expected=api.model,
        seen=sorted(names),
    )
