"""Text to token ids and back, exactly as the tokenizer file tells a server to do it.

Special tokens are recognised anywhere in the text, as Hugging Face tokenizers do. Of the rest, a
run of ASCII letters with at most one space before it is looked up whole; every other character
becomes its UTF-8 bytes. There are no merges (`ignore_merges` in the file), so this
module and a server's Rust tokenizer have nothing to disagree about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer.vocabulary import IDS, SPECIALS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BOS", "WORD_PATTERN", "decode", "encode"]

BOS = IDS[b"<s>"]
WORD_PATTERN = " ?[A-Za-z]+"

_SPECIAL = re.compile("(" + "|".join(re.escape(special) for special in SPECIALS) + ")")
_WORD = re.compile(f"({WORD_PATTERN})")


def encode(text: str, *, add_special_tokens: bool = True) -> list[int]:
    """Return the ids of a text; `add_special_tokens` puts `<s>` first.

    Raises UnicodeEncodeError for lone surrogates, which are not text.
    """
    ids = [BOS] if add_special_tokens else []
    for part in _SPECIAL.split(text):
        ids += [IDS[part.encode()]] if part in SPECIALS else _encode_plain(part)
    return ids


def _encode_plain(text: str) -> list[int]:
    ids: list[int] = []
    for part in _WORD.split(text):
        data = part.encode()
        whole = IDS.get(data)
        ids += [whole] if whole is not None else [IDS[bytes([value])] for value in data]
    return ids


def decode(ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
    """Return the text of some ids; bytes that are not UTF-8 become U+FFFD.

    Raises IndexError for an id outside the vocabulary.
    """
    skip = len(SPECIALS) if skip_special_tokens else 0
    return b"".join(TOKENS[index] for index in ids if index >= skip).decode(errors="replace")
