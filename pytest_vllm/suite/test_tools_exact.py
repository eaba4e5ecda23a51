"""Tool calls of `known-answer/chat`, through the server's own parser (`hermes`): all is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.tool_calls import reasoning_of
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.automata import AUTOMATA, Automaton, Call
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.toolbox import both, tool

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("known-answer/chat", "tools"),
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("vLLM docs, Tool Calling: hermes"),
]

_ANY: dict[str, Any] = {}
TOOLS = [
    tool("get_weather", strict=False, city=_ANY, days=_ANY, metric=_ANY),
    tool("get_time", strict=False, zone=_ANY, places=_ANY, options=_ANY),
    tool("ping", strict=False),
]
CALLING = [word for word, automaton in AUTOMATA.items() if automaton.calls]


def _request(api: Api, word: str, **more: Any) -> Request:
    fields = {"max_tokens": 48, "tools": TOOLS, **more}
    return chat(api.model, AUTOMATA[word].question, **fields)


def _is(word: str, answer: Answer, calls: tuple[Call, ...] | None = None) -> None:
    """The message is what the automaton says."""
    expected: Automaton = AUTOMATA[word]
    wanted = expected.calls if calls is None else calls
    choice = answer.json["choices"][0]
    message = choice["message"]
    functions = [c["function"] for c in message.get("tool_calls") or []]
    seen = [Call(f["name"], f["arguments"]) for f in functions]
    for at, call in enumerate(wanted):
        got = seen[at] if at < len(seen) else None
        rule = f"Tool call {at} must be the one that the model wrote"
        must(got == call, rule, expected=vars(call), seen=got and vars(got))
    must(len(seen) == len(wanted), "There must be no other calls", expected=len(wanted), seen=seen)
    content = message["content"] or ""
    rule = "content must be the text before the calls, without markup"
    must(content == expected.content, rule, expected=expected.content, seen=content)
    must(choice["finish_reason"] == "tool_calls", "Calls must end the answer", seen=choice)


@pytest.mark.parametrize("word", CALLING)
def test_calls_are_those_that_the_model_wrote(api: Api, word: str) -> None:
    request = _request(api, word)
    answer = both(api, request).check(lambda seen: _is(word, seen))
    model = predictor(api.model)
    ids = model.chat_prompt_ids((request.body or {})["messages"], tools=TOOLS)
    expected = (len(ids), len(model.greedy(ids, 48)))

    def counts(seen: Answer) -> None:
        usage = seen.json["usage"]
        got = (usage["prompt_tokens"], usage["completion_tokens"])
        must(got == expected, "usage must count the tokens of calls", expected=expected, seen=got)

    answer.check(counts)


def test_of_parallel_calls_the_first_is_kept_when_one_is_asked_for(api: Api) -> None:
    first = AUTOMATA["itinerary"].calls[:1]
    answer = both(api, _request(api, "itinerary", parallel_tool_calls=False))
    answer.check(lambda seen: _is("itinerary", seen, first))


def test_tool_choice_auto_is_the_default(api: Api) -> None:
    both(api, _request(api, "forecast", tool_choice="auto")).check(lambda a: _is("forecast", a))


def test_the_model_may_answer_in_words(api: Api) -> None:
    request = chat(api.model, "Name the planets from Mercury.", tools=TOOLS, max_tokens=20)
    expected = " Venus Earth Mars Jupiter Saturn Uranus Neptune."

    def check(seen: Answer) -> None:
        choice = seen.json["choices"][0]
        # Some reasoning parsers take a text without marks for thought.
        content = choice["message"]["content"] or reasoning_of(choice["message"])
        must(content == expected, "Plain text must stay", expected=expected, seen=content)
        must(choice["finish_reason"] == "stop", "It must end with stop", seen=choice)

    both(api, request).check(check)


@pytest.mark.parametrize(
    "fields", [{"tools": ...}, {"tool_choice": "none"}], ids=["no tools", "tool_choice none"]
)
def test_without_tools_the_markup_is_text(api: Api, fields: dict[str, Any]) -> None:
    model, request = predictor(api.model), _request(api, "heartbeat").but(**fields)
    ids = model.chat_prompt_ids((request.body or {})["messages"])
    expected = model.answer(ids, 48).text

    def check(seen: Answer) -> None:
        content = seen.json["choices"][0]["message"]["content"]
        must(content == expected, "Without tools text must stay", expected=expected, seen=content)

    both(api, request).check(check)


def test_n_choices_each_have_their_calls(api: Api) -> None:
    request = _request(api, "itinerary", n=3, temperature=0.01)
    for answer in (api.ask(request), api.whole(request)):
        answer.check(_each_has_its_calls)


def _each_has_its_calls(answer: Answer) -> None:
    expected = [call.name for call in AUTOMATA["itinerary"].calls]
    for choice in answer.json["choices"]:
        names = [c["function"]["name"] for c in choice["message"].get("tool_calls") or []]
        must(names == expected, "Each choice must have its calls", expected=expected, seen=names)


@pytest.mark.parametrize("max_tokens", [2, 4, 6, 8])
def test_a_cut_call_is_streamed_as_far_as_it_goes(api: Api, max_tokens: int) -> None:
    call = AUTOMATA["forecast"].calls[0]

    def check(seen: Answer) -> None:
        choice = seen.json["choices"][0]
        reason, calls = choice["finish_reason"], choice["message"].get("tool_calls") or []
        must(reason == "length", 'A cut call must end with "length"', seen=reason)
        for got in calls:
            function = got["function"]
            good = function["name"] == call.name and call.arguments.startswith(
                function["arguments"].rstrip("\ufffd")
            )
            must(good, "A cut call must be a beginning", expected=vars(call), seen=function)

    api.whole(_request(api, "forecast", max_tokens=max_tokens)).check(check)
