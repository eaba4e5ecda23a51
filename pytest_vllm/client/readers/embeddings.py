"""POST /v1/embeddings, read strictly against its request.

Sources: OpenAI API reference (embeddings); vLLM, `entrypoints/pooling/embed/protocol.py`.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import (
    check_created,
    check_id,
    check_json_type,
    check_model,
    must,
)
from pytest_vllm.client.shapes import COUNT, NAME, STRING, Shape, conform, exactly, is_number

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["inputs_of", "norm", "read", "vector", "vectors"]

_SHAPE: dict[str, Shape] = {
    "object": exactly("list"),
    "model": NAME,
    "data": [{"index": COUNT, "object": exactly("embedding")}],
    "usage": {"prompt_tokens": COUNT, "total_tokens": COUNT},
}


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    conform(body, _SHAPE)
    if dialect.is_vllm:
        conform(body, {"id": STRING})
        check_id(body["id"], "embd-", dialect)
        check_created(body.get("created"), answer)
    check_model(body["model"], request)
    indices = [entry["index"] for entry in body["data"]]
    count = len(inputs_of(request))
    must(
        indices == list(range(count)),
        "There must be one embedding for each input, in order",
        expected=list(range(count)),
        seen=indices,
    )
    _check_vectors(answer)
    _check_usage(body["usage"])


def _check_vectors(answer: Answer) -> None:
    found = vectors(answer)
    sizes = {len(v) for v in found}
    must(len(sizes) == 1 and 0 not in sizes, "All embeddings must have one size", seen=[*sizes])
    wanted = answer.request.get("dimensions")
    if wanted is not None:
        must(sizes == {wanted}, "An embedding must have `dimensions` numbers", seen=[*sizes])
    for at, numbers in enumerate(found):
        must(
            all(math.isfinite(number) for number in numbers),
            f"data[{at}].embedding must be finite numbers",
        )


def _check_usage(usage: Mapping[str, Any]) -> None:
    must(usage["prompt_tokens"] > 0, "usage.prompt_tokens must count the input", seen=0)
    must(
        usage["total_tokens"] == usage["prompt_tokens"],
        "usage.total_tokens must be prompt_tokens: nothing is generated",
        expected=usage["prompt_tokens"],
        seen=usage["total_tokens"],
    )
    must(not usage.get("completion_tokens"), "No token is generated for an embedding", seen=usage)


def inputs_of(request: Request) -> list[Any]:
    """The inputs of a request: a text, token ids, or a chat is one."""
    given = request.get("input")
    if given is None or isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def vectors(answer: Answer) -> list[list[float]]:
    """Return the embeddings, in the form that was asked for. Raises CheckFailed."""
    is_base64 = answer.request.get("encoding_format") == "base64"
    return [
        vector(entry.get("embedding"), f"data[{at}].embedding", is_base64=is_base64)
        for at, entry in enumerate(answer.json["data"])
    ]


def vector(value: Any, where: str, *, is_base64: bool) -> list[float]:
    """Read one embedding: a list of numbers, or float32 in base64, low byte first."""
    if not is_base64:
        good = isinstance(value, list) and all(is_number(number) for number in value)
        must(good, f"{where} must be a list of numbers", seen=value)
        return [float(number) for number in value]
    must(isinstance(value, str), f"{where} must be base64", seen=value)
    try:
        data = base64.b64decode(value, validate=True)
        return list(struct.unpack(f"<{len(data) // 4}f", data))
    except (binascii.Error, struct.error) as error:
        raise CheckFailed(f"{where} must be float32 numbers in base64 ({error})") from None


def norm(numbers: list[float]) -> float:
    """The Euclidean length."""
    return math.sqrt(math.fsum(number * number for number in numbers))
