from __future__ import annotations

import math

import pytest

from pytest_vllm.models.known_answer import (
    NAMES,
    SAFE_MARGIN,
    TOLERANCE,
    UnknownKnownAnswerError,
    is_known_answer,
    predictor,
)
from pytest_vllm.models.known_answer.samples import PROMPTS, RUN, long_prompt
from pytest_vllm.models.known_answer.vocabulary import TOKENS
from pytest_vllm.models.known_answer.words import LISTS, LOOPS

BASE = predictor("known-answer/base")
CONTEXT = predictor("known-answer/context")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", ["", *PROMPTS, long_prompt(300)], ids=lambda text: text[:20])
def test_probabilities_sum_to_one(name: str, prompt: str) -> None:
    model = predictor(name)
    assert math.fsum(map(math.exp, model.logprobs(model.encode(prompt)))) == pytest.approx(1)


@pytest.mark.parametrize("name", ["known-answer/base", "known-answer/chat"])
def test_without_memory_the_best_token_leads_by_one_after_every_token(name: str) -> None:
    model = predictor(name)
    for token in range(len(TOKENS)):
        best, second, *_ = sorted(model.logits([token]), reverse=True)
        assert best - second == 1


def test_the_fifty_best_tokens_are_never_tied() -> None:
    for token in range(len(TOKENS)):
        assert len(set(sorted(BASE.logits([token]), reverse=True)[:50])) == 50


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_answer_to_a_sample_prompt_is_certain(name: str, prompt: str) -> None:
    assert predictor(name).answer(prompt, 64).certain


@pytest.mark.parametrize("tokens", [100, 300, 900])
@pytest.mark.parametrize("seed", range(4))
def test_the_answer_to_a_long_prompt_is_certain(tokens: int, seed: int) -> None:
    assert CONTEXT.answer(long_prompt(tokens, seed), 20).certain


@pytest.mark.parametrize("tokens", [1, 2, 17, 300])
def test_a_long_prompt_has_exactly_the_tokens_asked_for(tokens: int) -> None:
    assert len(BASE.encode(long_prompt(tokens))) == tokens


def test_a_tie_is_not_certain() -> None:
    answer = CONTEXT.answer(" Monday" * 3, 8)
    assert answer.margin < SAFE_MARGIN
    assert not answer.certain


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Count from eighteen", " nineteen twenty."),
        ("Hello", "pqrstuvwxyz."),
        ("7", "89."),
        ("Say unicode", "中文😀."),
        ("line\n", "ABCDEFGHIJKLMNOPQRSTUVWXYZ."),
    ],
)
def test_an_answer_continues_the_prompt_and_stops(prompt: str, text: str) -> None:
    answer = BASE.answer(prompt, 64)
    assert (answer.text, answer.finish_reason) == (text, "stop")
    assert answer.steps[-1].text == "</s>"


def test_a_loop_goes_on_to_the_limit() -> None:
    answer = BASE.answer("Today is Saturday", 3)
    assert (answer.text, answer.finish_reason) == (" Sunday Monday Tuesday", "length")


def test_a_repeated_word_changes_the_answer_of_a_model_with_memory() -> None:
    assert CONTEXT.answer(" Monday", 2).text == " Tuesday Wednesday"
    assert CONTEXT.answer(" Monday" * 200, 2).text == " monkey Taurus"


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop[0])
def test_after_its_last_word_a_loop_begins_again(loop: tuple[str, ...]) -> None:
    assert BASE.answer(loop[-1], len(loop)).text == "".join(loop)


@pytest.mark.parametrize("words", LISTS, ids=lambda words: words[0])
def test_a_list_is_told_to_its_end(words: tuple[str, ...]) -> None:
    answer = BASE.answer(words[0], 64)
    assert (answer.text, answer.finish_reason) == ("".join(words[1:]) + ".", "stop")


def test_after_any_whole_character_the_answer_is_valid_text() -> None:
    for token in range(len(TOKENS)):
        if "\ufffd" not in BASE.decode([token]):
            assert "\ufffd" not in BASE.answer([token], 40).text


def test_ignoring_the_end_token_goes_on_behind_it() -> None:
    answer = BASE.answer("A gas", 4, ignore_eos=True)
    assert (answer.text, answer.finish_reason) == (" plasma. one", "length")


def test_a_step_lists_the_best_tokens_in_order() -> None:
    (step,) = BASE.greedy(BASE.encode("one"), 1, top=20)
    logprobs = [logprob for _, logprob in step.top]
    assert step.top[0] == (step.token_id, step.logprob)
    assert logprobs == sorted(logprobs, reverse=True)
    assert len(logprobs) == 20


def test_an_answer_of_no_tokens_is_empty() -> None:
    answer = BASE.answer("one", 0)
    assert (answer.text, answer.finish_reason, answer.margin) == ("", "length", math.inf)


def _damaged(ids: list[int], other: list[int], at: int) -> dict[str, list[int]]:
    before, after = ids[:at], ids[at + RUN :]
    return {
        "foreign": before + other[at : at + RUN] + after,
        "lost": before + after,
        "repeated": before + ids[at - RUN : at] + after,
    }


@pytest.mark.parametrize("kind", ["foreign", "lost", "repeated"])
@pytest.mark.parametrize("block", [1, 9, 17])
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_kv_block_shows_far_beyond_the_bfloat16_tolerance(
    kind: str, block: int, seed: int
) -> None:
    ids, other = (CONTEXT.encode(long_prompt(300, number)) for number in (seed, seed + 100))
    damaged = _damaged(ids, other, block * RUN)[kind]
    errors = []
    for step in CONTEXT.greedy(ids, 8):
        served = CONTEXT.logprobs(damaged)
        errors += [abs(served[token] - logprob) for token, logprob in step.top]
        damaged.append(step.token_id)
    assert max(errors) > 4 * TOLERANCE["bfloat16"]


def test_without_memory_only_the_last_token_counts() -> None:
    assert BASE.logprobs(BASE.encode("one two")) == BASE.logprobs(BASE.encode("six two"))


def test_an_unknown_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(UnknownKnownAnswerError, match=r"'known-answer/big'.*known-answer/base, "):
        predictor("known-answer/big")


def test_only_our_own_names_are_known_answers() -> None:
    assert all(map(is_known_answer, NAMES))
    assert not is_known_answer("facebook/opt-125m")


def test_a_failure_message_does_not_print_the_tables() -> None:
    assert len(repr(BASE)) < 200
