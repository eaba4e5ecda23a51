from __future__ import annotations

import pytest

from pytest_vllm import parsers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 2 m ", 120), ("0.5", 0.5)],
)
def test_a_duration_is_seconds_or_has_a_unit(text: str, seconds: float) -> None:
    assert parsers.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0h", "-5", "10d", "ten", "1m30s", "1e3", "inf"])
def test_what_is_no_positive_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time such as 90, 90s, 10m or 1\.5h"):
        parsers.duration(text)


@pytest.mark.parametrize(("text", "value"), [("0.85", 0.85), ("1", 1.0), (".5", 0.5)])
def test_a_share_of_the_memory_is_above_zero_and_at_most_one(text: str, value: float) -> None:
    assert parsers.fraction(text) == value


@pytest.mark.parametrize("text", ["0", "1.01", "-0.5", "85%", "nan", "inf", ""])
def test_what_is_no_share_of_the_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number above 0 and at most 1"):
        parsers.fraction(text)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("08", 8)])
def test_a_count_is_a_whole_number_of_at_least_one(text: str, value: int) -> None:
    assert parsers.count(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "", "²", "1_0"])
def test_what_is_no_count_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number of at least 1"):
        parsers.count(text)


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
def test_words_for_yes(text: str) -> None:
    assert parsers.flag(text) is True


@pytest.mark.parametrize("text", ["0", "False", "no", "off"])
def test_words_for_no(text: str) -> None:
    assert parsers.flag(text) is False


def test_a_flag_is_yes_or_no_and_nothing_between() -> None:
    with pytest.raises(ValueError, match="is neither true nor false"):
        parsers.flag("maybe")


def test_a_choice_names_all_choices_when_it_is_refused() -> None:
    with pytest.raises(ValueError, match="is not one of rocm, cuda"):
        parsers.one_of("rocm", "cuda")("tpu")


def test_a_text_is_stripped() -> None:
    assert parsers.nonempty(" facebook/opt-125m\n") == "facebook/opt-125m"


def test_a_blank_text_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        parsers.nonempty("  ")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://node7:8000/", "http://node7:8000"),
        ("https://llm.example.com/v1", "https://llm.example.com"),
        ("https://llm.example.com/v1/", "https://llm.example.com"),
        ("https://llm.example.com/team/a/v1", "https://llm.example.com/team/a"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
        ("https://llm.example.com/v12", "https://llm.example.com/v12"),
    ],
)
def test_an_address_is_taken_without_its_slash_and_version(text: str, address: str) -> None:
    assert parsers.url(text) == address


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8000", "ftp://h", "http://", "http://a b", "http://h:port", "http://h:"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address such as http://127\.0\.0\.1:8000$"):
        parsers.url(text)


def test_a_key_in_the_address_is_refused_with_the_place_where_it_belongs() -> None:
    with pytest.raises(ValueError, match="give the key in VLLM_API_KEY, never in the address"):
        parsers.url("https://user:sk-123@llm.example.com")


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("A=1", ("A", "1")),
        ("_a2", ("_a2", None)),
        ("A=", ("A", "")),
        ("A=b=c d", ("A", "b=c d")),
    ],
)
def test_a_variable_has_a_value_or_hands_on_our_own(
    text: str, pair: tuple[str, str | None]
) -> None:
    assert parsers.variable(text) == pair


@pytest.mark.parametrize("text", ["", "=1", "2A=1", "A-B=1", "A B"])
def test_what_is_no_name_of_a_variable_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not NAME or NAME=VALUE"):
        parsers.variable(text)


@pytest.mark.parametrize(
    "text", ["--max-num-seqs=4", "--enforce-eager", "-O3", "a b.json", '--json={"a": 1}']
)
def test_an_argument_is_handed_on_as_it_is(text: str) -> None:
    assert parsers.argument(text) == text


@pytest.mark.parametrize("text", ["--host=0.0.0.0", "--port", "--port=8000", "--uds /tmp/s"])
def test_arguments_that_the_launcher_chooses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not yours to set"):
        parsers.argument(text)


@pytest.mark.parametrize("text", ["--api-key=sk-123", "--api_key", "--api-key sk-123"])
def test_the_key_is_no_argument(text: str) -> None:
    with pytest.raises(ValueError, match="set VLLM_API_KEY in the environment"):
        parsers.argument(text)


def test_a_flag_and_its_value_in_one_argument_are_refused_with_the_right_spelling() -> None:
    with pytest.raises(ValueError, match="write it as --vllm-arg=--max-num-seqs=4"):
        parsers.argument("--max-num-seqs 4")


def test_an_empty_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="is empty"):
        parsers.argument("")
