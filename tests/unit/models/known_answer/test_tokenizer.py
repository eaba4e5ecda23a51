from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.models.known_answer.tokenizer import BOS, decode, encode
from pytest_vllm.models.known_answer.vocabulary import IDS, SPECIALS, TOKENS

if TYPE_CHECKING:
    from tests.unit.models.known_answer.conftest import Built


def _noise(seed: int) -> str:
    """Draw 40 characters of one to four UTF-8 bytes."""
    dice = random.Random(seed)
    blocks = (range(0x80), range(0x80, 0x800), range(0xE000, 0x10000), range(0x10000, 0x11000))
    return "".join(chr(dice.choice(dice.choice(blocks))) for _ in range(40))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Hello, world!",
        "今天是星期一",
        "👩‍👩‍👧 é",
        "a  two\n\t three",
        "\0\x7f\r\n",
        *map(_noise, range(20)),
    ],
)
def test_any_text_comes_back_unchanged(text: str) -> None:
    assert decode(encode(text)) == text


def test_a_word_of_the_vocabulary_is_one_token() -> None:
    assert encode("Today is Monday") == [BOS, *map(_byte, "Today is"), IDS[b" Monday"]]


def test_a_word_inside_a_longer_word_is_not_a_token() -> None:
    assert encode(" Mondays", add_special_tokens=False) == list(map(_byte, " Mondays"))


def test_only_the_last_of_several_spaces_belongs_to_the_word() -> None:
    assert encode("  two", add_special_tokens=False) == [_byte(" "), IDS[b" two"]]


def test_special_tokens_are_recognised_inside_text() -> None:
    assert encode("a</s>b", add_special_tokens=False) == [_byte("a"), IDS[b"</s>"], _byte("b")]


def test_special_tokens_are_left_out_of_text_unless_asked_for() -> None:
    ids = encode("a<|end|>")
    assert decode(ids) == "a"
    assert decode(ids, skip_special_tokens=False) == "<s>a<|end|>"


def test_half_a_character_decodes_to_the_replacement_character() -> None:
    assert decode([IDS[b"\xe4\xb8"]]) == "\ufffd"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode("\ud800")


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(IndexError):
        decode([len(TOKENS)])


def test_the_tokenizer_file_has_every_token_under_its_id(built: Built) -> None:
    vocabulary = json.loads((built.path / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(len(TOKENS)))
    assert vocabulary["<|assistant|>"] == IDS[b"<|assistant|>"]
    # How byte-level tokenizers write a space, and the bytes of 中.
    assert vocabulary["ĠMonday"] == IDS[b" Monday"]
    assert vocabulary["ä¸"] == IDS[b"\xe4\xb8"]


def test_the_tokenizer_file_marks_exactly_the_special_tokens(built: Built) -> None:
    added = json.loads((built.path / "tokenizer.json").read_text())["added_tokens"]
    assert [(token["content"], token["id"]) for token in added] == [
        (special, index) for index, special in enumerate(SPECIALS)
    ]


def _byte(character: str) -> int:
    return IDS[character.encode()]
