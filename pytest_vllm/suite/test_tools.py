"""Tool calls of any chat model: constrained decoding makes even random weights call one.

That a call is whole, of an offered tool, with unique ids and arguments that fit, and that a
stream gives each piece once, is checked of every answer (`client/readers/tool_calls.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.toolbox import LEVELS, PICK, PING, both, calling, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("OpenAI API reference, chat: tools, tool_choice"),
]

TOOLS = pytest.mark.parametrize(
    "tool", [PICK, LEVELS, PING], ids=["enum", "nested", "no arguments"]
)
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def _calls(answer: Answer, choice: int = 0) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = answer.json["choices"][choice]["message"].get("tool_calls") or []
    return calls


def _called(api: Api, request: Request) -> Answer:
    """Ask both ways. White space between the arguments may differ: a parser may write them anew."""
    answer = both(api, request, ignore=("arguments",))
    return answer.check(_is_called)


def _is_called(answer: Answer) -> None:
    reason = answer.json["choices"][0]["finish_reason"]
    must(_calls(answer), "A tool must be called where tool_choice wants it", seen=reason)


@TOOLS
def test_a_named_tool_is_called(api: Api, tool: dict[str, Any]) -> None:
    _called(api, calling(api, PICK, LEVELS, PING, choice=named(tool["function"]["name"])))


@TOOLS
def test_a_required_tool_is_called(api: Api, tool: dict[str, Any]) -> None:
    _called(api, calling(api, tool))


def test_of_several_tools_one_is_called(api: Api) -> None:
    _called(api, calling(api, PING, PICK))


def test_with_parallel_tool_calls_false_one_tool_is_called(api: Api) -> None:
    _called(api, calling(api, PING, PICK, parallel_tool_calls=False))


def test_with_tool_choice_none_no_tool_is_called(api: Api) -> None:
    both(api, chat(api.model, tools=[PICK, PING], tool_choice="none"))


@pytest.mark.requires("tools")
def test_with_tool_choice_auto_an_answer_may_do_without_a_call(api: Api) -> None:
    left_out = both(api, chat(api.model, tools=[PICK, PING], max_tokens=8))
    auto = both(api, chat(api.model, tools=[PICK, PING], max_tokens=8, tool_choice="auto"))
    found = difference(
        left_out.json["choices"], auto.json["choices"], ignore=("id", "logprobs"), tolerance=0.05
    )
    if found:
        raise CheckFailed(
            f"tool_choice must be auto where it is left out; {found.where} differs",
            expected=found.right,
            seen=found.left,
        ).reproduced_by(left_out.curl, auto.curl)


@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM docs, Tool Calling: automatic function calling")
def test_without_a_parser_tool_choice_auto_is_refused_and_says_how_to_get_one(api: Api) -> None:
    if api.has("tools"):
        api.unsupported("the server has a tool parser")
    request = chat(api.model, tools=[PING], tool_choice="auto")
    api.refused(request, says=("--enable-auto-tool-choice",))


def test_ids_of_tool_calls_are_never_used_again(api: Api) -> None:
    request = calling(api, PING)
    answers = api.together(*[lambda: api.ask(request).check(_is_called)] * 3)
    ids = [call["id"] for answer in answers for call in _calls(answer)]
    answers[0].check(
        lambda _: must(len(set(ids)) == len(ids), "Each call must have an id of its own", seen=ids)
    )


@BOTH
def test_each_of_several_choices_calls_a_tool(api: Api, streamed: bool) -> None:
    request = calling(api, PING, n=2, temperature=0.5)
    answer = api.whole(request) if streamed else api.ask(request)
    calls = [call["id"] for choice in (0, 1) for call in _calls(answer, choice)]
    answer.check(
        lambda _: must(
            len(set(calls)) == len(calls) >= 2,
            "Each choice must call a tool, with an id of its own",
            seen=calls,
        )
    )


@BOTH
def test_a_call_that_is_cut_short_has_finish_reason_length(api: Api, streamed: bool) -> None:
    request = calling(api, PICK, max_tokens=1)
    usage = {"include_usage": True}
    answer = api.whole(request.but(stream=True, stream_options=usage)) if streamed else None
    answer = answer or api.ask(request)

    def check(seen: Answer) -> None:
        reason, count = seen.json["choices"][0]["finish_reason"], seen.json["usage"]
        must(reason == "length", 'A call cut by max_tokens must end with "length"', seen=reason)
        must(count["completion_tokens"] == 1, "max_tokens=1 must give one token", seen=count)

    answer.check(check)


def test_a_tool_call_may_have_logprobs(api: Api) -> None:
    answer = _called(api, calling(api, PING, logprobs=True, top_logprobs=2))

    def check(seen: Answer) -> None:
        content = (seen.json["choices"][0].get("logprobs") or {}).get("content")
        must(content, "With logprobs=true, a tool call must have logprobs, too", seen=content)

    answer.check(check)


def test_tools_are_forgotten_after_their_request(api: Api) -> None:
    plain = chat(api.model, "What is left?")
    before = api.ask(plain)
    for request in (calling(api, PING), chat(api.model, tools=[PICK], tool_choice="none")):
        api.ask(request)
        after = api.ask(plain)
        after.check(_has_prompt_of(before))


def _has_prompt_of(before: Answer) -> Callable[[Answer], None]:
    expected = before.json["usage"]["prompt_tokens"]

    def check(answer: Answer) -> None:
        seen = answer.json["usage"]["prompt_tokens"]
        rule = "Tools of another request must not be in the prompt"
        must(seen == expected, rule, expected=expected, seen=seen)

    return check


@pytest.mark.requires("vllm")
def test_the_legacy_functions_do_no_harm(api: Api) -> None:
    functions = [{"name": "ping", "parameters": {"type": "object", "properties": {}}}]
    answer = api.send(chat(api.model, functions=functions, function_call="auto"))
    answer.check(
        lambda seen: must(
            seen.status == 200 or 400 <= seen.status < 500,
            "`functions` must be ignored or refused",
            seen=seen.status,
        )
    )
