"""GET /v1/models. What every entry must be is in the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.difference import difference
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers import errors
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.endpoint("GET /v1/models"),
    pytest.mark.source("OpenAI reference (models)"),
]

_MODELS = Request("GET", "/v1/models")


def test_the_list_names_the_served_model_once(api: Api) -> None:
    def check(answer: Answer) -> None:
        names = [model["id"] for model in answer.json["data"]]
        must(
            names.count(api.model) == 1,
            "The list must name the served model once",
            expected=api.model,
            seen=names,
        )

    api.ask(_MODELS).check(check)


@pytest.mark.source("vLLM, deviation 12: created and permission ids are of the request")
def test_the_list_stays_the_same(api: Api) -> None:
    first = api.ask(_MODELS).json
    for again in api.together(*[lambda: api.ask(_MODELS)] * 4):
        found = difference(first, again.json, ignore=["created", "permission"])
        if found is not None:
            raise CheckFailed(
                f"The list of models must stay the same; {found.where} differs",
                expected=found.left,
                seen=found.right,
            ).reproduced_by(again.curl)


@pytest.mark.requires("generation")
def test_every_listed_name_is_served(api: Api) -> None:
    for model in api.ask(_MODELS).json["data"][:8]:
        # The reader looks at the name in the answer.
        api.ask(completion(model["id"], "Hello", max_tokens=1))


@pytest.mark.requires("vllm")
def test_all_names_of_one_model_are_of_one_kind(api: Api) -> None:
    models = [model for model in api.ask(_MODELS).json["data"] if model["parent"] is None]
    kinds = {(model["root"], model["max_model_len"]) for model in models}
    must(len(kinds) == 1, "All names must stand for the one model", seen=sorted(kinds))


@pytest.mark.endpoint("GET /v1/models/{id}")
def test_a_single_model_is_described_or_not_found(api: Api) -> None:
    answer = api.send(Request("GET", f"/v1/models/{api.model}"))
    if answer.status == 404 and "GET /v1/models/{model_id}" not in _listed(api):
        api.unsupported("GET /v1/models/{id}: 404")

    def check(found: Answer) -> None:
        must(found.status == 200, "A listed model must be found", seen=found.status)
        must(found.json["id"] == api.model, "The model must be the asked one", seen=found.json)

    answer.check(check)


@pytest.mark.endpoint("GET /v1/models/{id}")
def test_an_unknown_model_is_not_described(api: Api) -> None:
    answer = api.send(Request("GET", "/v1/models/no-such-model"))
    if answer.status == 200 and not api.dialect.is_vllm:
        api.unsupported("this server describes any model")
    answer.check(lambda a: _is_refusal(api, a))


def _is_refusal(api: Api, answer: Answer) -> None:
    errors.read(answer, 404, api.dialect, plain=True)


def _listed(api: Api) -> frozenset[str]:
    return api.server.capabilities.endpoints
