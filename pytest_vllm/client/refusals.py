"""What a server says when it refuses, and which refusal means "this model cannot chat"."""

from __future__ import annotations

import json
import re

__all__ = ["is_chat_refusal", "server_message"]

_NO_TEMPLATE = re.compile(
    r"default chat template is no longer allowed|must provide a chat template"
    r"|(?:no|without a?|not have a|missing a?) ?chat template"
)


def is_chat_refusal(status: int, body: str) -> bool:
    """Whether the server refuses chat for lack of a chat template, and not for anything else.

    vLLM 0.6 to 0.32 answers 400: "As of transformers v4.44, default chat template is no longer
    allowed, so you must provide a chat template if the tokenizer does not define one." A
    template that is there and broken is another matter.
    """
    return status == 400 and _NO_TEMPLATE.search(body.lower()) is not None


def server_message(body: str) -> str:
    """Find the sentence for people in an error body: OpenAI's, FastAPI's or plain text."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body.split())
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        answer = (
            error.get("message", error.get("detail", error)) if isinstance(error, dict) else error
        )
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
