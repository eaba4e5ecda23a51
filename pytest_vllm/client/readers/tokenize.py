"""POST /tokenize and /detokenize, read strictly against their requests.

Source: vLLM, `entrypoints/serve/tokenize/protocol.py`. Other servers have endpoints of these
names, too, with answers of their own: of those only the tokens are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vllm.client.readers.common import check_json_type, must
from pytest_vllm.client.shapes import COUNT, STRING, Kind, conform, is_integer, nullable

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer

__all__ = ["read", "read_text"]

_LENGTH = Kind("a positive integer", lambda seen: is_integer(seen) and seen > 0)
_STRINGS = Kind("a list", lambda seen: isinstance(seen, list))


def read(answer: Answer, dialect: Dialect) -> None:
    """Check the tokens of a text or a chat. Raises CheckFailed."""
    if not dialect.is_vllm:
        return
    request, body = answer.request, answer.json
    check_json_type(answer)
    conform(
        body,
        {
            "count": COUNT,
            "max_model_len": _LENGTH,
            "tokens": [COUNT],
            "token_strs": nullable(_STRINGS),
        },
    )
    tokens, words = body["tokens"], body["token_strs"]
    must(
        body["count"] == len(tokens),
        "count must be the number of tokens",
        expected=len(tokens),
        seen=body["count"],
    )
    if not request.get("return_token_strs"):
        must(words is None, "token_strs must be null where not asked for", seen=words)
        return
    must(words is not None, "token_strs must be there where asked for", seen=words)
    conform(words, [STRING], "token_strs")
    must(
        len(words) == len(tokens),
        "token_strs must have one entry for each token",
        expected=len(tokens),
        seen=len(words),
    )


def read_text(answer: Answer, dialect: Dialect) -> None:
    """Check the text of some tokens. Raises CheckFailed."""
    if dialect.is_vllm:
        check_json_type(answer)
        conform(answer.json, {"prompt": STRING})
