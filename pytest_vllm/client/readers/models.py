"""GET /v1/models, read strictly.

Sources: OpenAI API reference (models); vLLM, `entrypoints/openai/models/protocol.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.common import check_created, check_json_type, must
from pytest_vllm.client.shapes import NAME, Kind, Shape, conform, exactly, is_integer, nullable

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer

__all__ = ["read"]

_LENGTH = Kind("a positive integer", lambda seen: is_integer(seen) and seen > 0)
_BOOLEAN = Kind("true or false", lambda seen: isinstance(seen, bool))

_PERMISSION: dict[str, Shape] = {
    "id": NAME,
    "object": exactly("model_permission"),
    "allow_sampling": _BOOLEAN,
    "allow_logprobs": _BOOLEAN,
    "allow_view": _BOOLEAN,
}
_OF_VLLM: dict[str, Shape] = {
    "owned_by": exactly("vllm"),
    "root": NAME,
    "parent": nullable(NAME),
    "permission": [_PERMISSION],
}


def read(answer: Answer, dialect: Dialect) -> None:
    """Check the list of models. Raises CheckFailed."""
    body = answer.json
    check_json_type(answer)
    conform(body, shapes.MODEL_LIST)
    names = Counter(model["id"] for model in body["data"])
    twice = [name for name, count in names.items() if count > 1]
    must(not twice, "Each model must be listed once", seen=twice)
    must(len(names) > 0, "There must be a model", seen=[])
    if not dialect.is_vllm:
        return
    for at, model in enumerate(body["data"]):
        where = f"data[{at}]"
        conform(model, _OF_VLLM, where)
        check_created(model["created"], answer)
        # An adapter has no length of its own.
        if model["parent"] is None:
            conform(model, {"max_model_len": _LENGTH}, where)
        else:
            must(
                model["parent"] in names,
                f"{where}.parent must be a model of the list",
                seen=model["parent"],
            )
