"""POST /v1/chat/completions, read strictly against its request.

Sources: OpenAI API reference (chat); vLLM, `entrypoints/openai/chat_completion/protocol.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.common import (
    check_created,
    check_finish,
    check_id,
    check_indices,
    check_json_type,
    check_model,
    check_total,
    is_streamed,
)
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer

__all__ = ["read"]


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    shape = {
        k: v for k, v in shapes.CHAT_COMPLETION.items() if k != "usage" or not is_streamed(answer)
    }
    conform(body, shape)
    check_id(body["id"], "chatcmpl-", dialect)
    check_created(body["created"], answer)
    check_model(body["model"], request)
    check_indices(body["choices"], request.get("n", 1))
    for choice in body["choices"]:
        check_finish(choice, request, dialect)
    if body.get("usage"):
        conform(body["usage"], shapes.USAGE, "usage")
        check_total(body["usage"])
