"""Reasoning: what stands between `<think>` and `</think>` is a field of its own.

Only a server with a reasoning parser separates it. With one or without, the fields have the right
types (`client/readers/tool_calls.py`), a stream adds up, and no token is lost or uncounted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.tool_calls import reasoning_of
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.automata import AUTOMATA, THINK, THOUGHT, after_thinking
from pytest_vllm.models.known_answer.vocabulary import IDS
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.toolbox import both, tool

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("vllm"),
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("vLLM docs, Reasoning Outputs"),
]

EXACT = pytest.mark.requires("known-answer/chat")
#: Templates and parsers listen to one of the two names, or to none.
THINKING: dict[str, Any] = {"chat_template_kwargs": {"thinking": True, "enable_thinking": True}}
PONDER = AUTOMATA["ponder"]


def _ponder(api: Api, **more: Any) -> Request:
    fields = {"max_tokens": 32, **THINKING, **more}
    return chat(api.model, PONDER.question, **fields)


def _parts(answer: Answer) -> tuple[str | None, str | None]:
    message = answer.json["choices"][0]["message"]
    return reasoning_of(message), message.get("content")


def _raw(api: Api, request: Request) -> str:
    """What the model writes, with its markup."""
    model = predictor(api.model)
    ids = model.chat_prompt_ids((request.body or {})["messages"])
    return model.answer(ids, request.get("max_tokens")).text


def _separated(api: Api, request: Request) -> Answer:
    """Ask both ways; the answer ends the test where nothing parses reasoning at all.

    Then the whole text must be there as content: a parser that loses something is no excuse.
    """
    answer = both(api, request)
    reasoning, content = _parts(answer)
    if not reasoning and content == _raw(api, request):
        api.unsupported("no reasoning parser: <think>…</think> came as content")
    return answer


def _is(answer: Answer, reasoning: str | None, content: str) -> None:
    got, text = _parts(answer)
    must(got == reasoning, "Reasoning must be what was thought", expected=reasoning, seen=got)
    must((text or "") == content, "Content must follow it", expected=content, seen=text)


def test_an_answer_with_thinking_streams_the_same(api: Api) -> None:
    both(api, chat(api.model, **THINKING))


def test_without_include_reasoning_every_token_still_counts(api: Api) -> None:
    request = chat(api.model, max_tokens=8, **THINKING)
    shown, hidden = both(api, request), request.but(include_reasoning=False)
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    # Not read by the endpoint's reader: where all was a thought, nothing is left to say.
    api.send(hidden).check(_hides(shown))
    api.whole(hidden.but(**usage)).check(_hides(shown))


def _hides(shown: Answer) -> Callable[[Answer], None]:
    expected = (None, _parts(shown)[1] or "", shown.json["usage"]["completion_tokens"])

    def check(answer: Answer) -> None:
        must(answer.status == 200, "include_reasoning=false must be answered", seen=answer.status)
        reasoning, content = _parts(answer)
        seen = (reasoning or None, content or "", answer.json["usage"]["completion_tokens"])
        rule = "include_reasoning=false must hide the reasoning, and count its tokens"
        must(seen == expected, rule, expected=expected, seen=seen)

    return check


@EXACT
def test_reasoning_is_separated_from_the_answer(api: Api) -> None:
    answer = _separated(api, _ponder(api))
    answer.check(lambda seen: _is(seen, PONDER.reasoning, PONDER.content))

    def ends(seen: Answer) -> None:
        reason, usage = seen.json["choices"][0]["finish_reason"], seen.json["usage"]
        must(reason == "stop", 'The answer must end with "stop"', seen=reason)
        must(
            usage["completion_tokens"] == 14, "usage must count reasoning", expected=14, seen=usage
        )

    answer.check(ends)


@EXACT
def test_include_reasoning_false_leaves_the_answer_only(api: Api) -> None:
    _separated(api, _ponder(api))
    hidden = both(api, _ponder(api, include_reasoning=False))
    hidden.check(lambda seen: _is(seen, None, PONDER.content))


@EXACT
@pytest.mark.parametrize("max_tokens", [2, 3, 5])
def test_reasoning_that_is_cut_is_no_content(api: Api, max_tokens: int) -> None:
    request = _ponder(api, max_tokens=max_tokens)
    answer = _separated(api, request)
    thought = _raw(api, request).removeprefix(THINK.decode()).removesuffix("\ufffd")

    def check(seen: Answer) -> None:
        reasoning, content = _parts(seen)
        must(not content, "Cut reasoning must not be content", seen=content)
        got = (reasoning or "").rstrip("\ufffd")
        rule = "Reasoning must be there as far as it went"
        must(got == thought, rule, expected=thought, seen=got)
        reason = seen.json["choices"][0]["finish_reason"]
        must(reason == "length", "finish_reason must be length", seen=reason)

    answer.check(check)


@EXACT
@pytest.mark.requires("tools")
def test_after_reasoning_a_tool_may_be_called(api: Api) -> None:
    call = AUTOMATA["forecast"].calls[0]
    _separated(api, _ponder(api))
    second = IDS[after_thinking()[1]]
    weather: dict[str, Any] = {"city": {}, "days": {}, "metric": {}}
    tools = [tool("get_weather", strict=False, **weather)]
    answer = both(api, _ponder(api, tools=tools, logit_bias={str(second): 2}))

    def check(seen: Answer) -> None:
        _is(seen, PONDER.reasoning, "")
        calls = seen.json["choices"][0]["message"].get("tool_calls") or []
        got = [(c["function"]["name"], c["function"]["arguments"]) for c in calls]
        expected = [(call.name, call.arguments)]
        must(got == expected, "The tool must be called", expected=expected, seen=got)

    answer.check(check)


@EXACT
def test_an_answer_without_thought_has_no_reasoning(api: Api) -> None:
    """Without the switch of `THINKING`; a parser that takes all for a thought is no mistake."""
    answer = both(api, chat(api.model, "What comes after Monday?"))

    def check(seen: Answer) -> None:
        reasoning, content = _parts(seen)
        whole = (reasoning or "") + (content or "")
        expected = _raw(api, seen.request)
        must(whole == expected, "No text must be lost", expected=expected, seen=whole)
        must(THOUGHT.decode() not in whole, "There must be no markup", seen=whole)

    answer.check(check)
