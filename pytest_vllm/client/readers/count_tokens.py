"""POST /v1/messages/count_tokens, read strictly. Source: Anthropic API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vllm.client import messages_shapes as shapes
from pytest_vllm.client.readers.common import check_json_type, must
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer

__all__ = ["read"]


def read(answer: Answer, dialect: Dialect) -> None:
    """Check the count. Raises CheckFailed."""
    body = answer.json
    check_json_type(answer)
    conform(body, shapes.COUNTED)
    count = body["input_tokens"]
    must(count > 0, "input_tokens must count the prompt", seen=count)
    original = (body.get("context_management") or {}).get("original_input_tokens", count)
    must(
        original == count,
        "original_input_tokens must be input_tokens where no context was edited",
        expected=count,
        seen=original,
    )
