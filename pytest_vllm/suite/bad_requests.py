"""Bad requests as data: what is wrong, and the field that the refusal must name.

Each row was tried on vLLM 0.32. What that takes without complaint (numbers as strings, unknown
roles and fields, `logit_bias` beyond 100, a missing model) is no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Request

__all__ = ["CHAT", "COMPLETIONS", "GENERATION", "PROMPTS", "Bad"]

OUTSIDE = 999_999_999
"""No vocabulary is that large."""


@dataclass(frozen=True)
class Bad:
    """One way to spoil a good request.

    Attributes:
        name: What is wrong, for people.
        fields: What is put into the good request; `...` leaves a field out.
        param: The field that vLLM's `error.param` names; None where it names none.
        late: vLLM's engine finds it, after it has begun to answer a stream.
        anywhere: No server can make sense of it. Of the rest, servers other than vLLM may.
    """

    name: str
    fields: dict[str, Any]
    param: str | None = None
    late: bool = False
    anywhere: bool = False

    def __str__(self) -> str:
        return self.name

    def spoil(self, good: Request) -> Request:
        """The bad request."""
        return good.but(**self.fields)


def _of(field: str, *values: Any, **more: Any) -> list[Bad]:
    """Rows for one field: each of these values is wrong, and the refusal names the field."""
    more = {"param": field, **more}
    return [Bad(f"{field}={_short(value)}", {field: value}, **more) for value in values]


def _short(value: Any) -> str:
    shown = "null" if value is None else str(value).replace(" ", "")
    return shown if len(shown) <= 24 else f"{shown[:20]}..."


GENERATION: list[Bad] = [
    *_of("max_tokens", 0, -1, "abc", 1.5, [1], 10**9, 10**30),
    *_of("temperature", -1, -0.01, 2.01, 1e9, "hot", [1]),
    *_of("top_p", 0, -1, 1.01, 2, "x"),
    *_of("top_k", -2, param=None),
    *_of("top_k", 1.5, "x"),
    *_of("min_p", -0.1, 1.1, param=None),
    *_of("min_p", "x"),
    *_of("n", 0, -1, param=None),
    *_of("n", "x", 1.5),
    Bad("n=10**12", {"n": 10**12, "temperature": 1}),
    *_of("seed", 2**63, -(2**63) - 1, 1.5, "x"),
    *_of("presence_penalty", 2.1, -2.1, param=None),
    *_of("presence_penalty", "x"),
    *_of("frequency_penalty", 2.1, -2.1, param=None),
    *_of("frequency_penalty", "x"),
    *_of("repetition_penalty", 0, -1, param=None),
    *_of("repetition_penalty", "x"),
    *_of("logit_bias", {"a": 1}, {"5": "x"}, {"5": None}, [1], "x"),
    *_of("logit_bias", {str(OUTSIDE): 1}, {"-1": 1}, late=True),
    *_of("stop", 5, {"a": 1}, [1], [None]),
    *_of("stop", "", [""], param=None),
    *_of("stop_token_ids", "x", ["x"], 5),
    *_of("stream", "maybe", 7, [], anywhere=True),
    *_of("stream_options", "x", {"include_usage": "maybe"}),
    *_of("prompt_logprobs", -2, "x"),
    *_of("min_tokens", -1, 17, param=None),
    *_of("min_tokens", "x"),
    *_of("response_format", "json", {"type": "zzz"}, {"type": "json_schema"}, {}),
    *_of("allowed_token_ids", "x"),
    *_of("allowed_token_ids", [], [OUTSIDE], [-1], late=True),
    *_of("bad_words", "x", [1]),
    *_of("bad_words", [""], param=None),
    *_of("ignore_eos", "maybe"),
    *_of("skip_special_tokens", "maybe"),
    *_of("include_stop_str_in_output", "maybe"),
    *_of("truncate_prompt_tokens", -2, "x", 10**6),
    *_of("user", 5),
    *_of("cache_salt", "", 5),
    *_of("priority", "x"),
    *_of("model", 5, [1], {"a": 1}),
]
"""For completions and chat alike."""

PROMPTS: list[Bad] = [
    Bad("no prompt", {"prompt": ...}, "prompt", anywhere=True),
    *_of("prompt", None, "", anywhere=False),
    *_of("prompt", 5, True, {"a": 1}, [1.5], [None], [1, "a"], ["a", 1], [[1], "a"], [[[1]]]),
    *_of("prompt", [], param=None),
    *_of("prompt", [[]], param=None, late=True),
    *_of("prompt", [-1], [[1], [-1]]),
    *_of("prompt", [OUTSIDE], [2**31], [2**63], [2**70], [[1], [OUTSIDE]], param=None, late=True),
]
"""Prompts of completions."""

COMPLETIONS: list[Bad] = [
    *PROMPTS,
    *_of("logprobs", "x", 1.5),
    *_of("logprobs", -1, 21, 10**6, late=True),
    *_of("echo", "maybe"),
    *_of("suffix", 5),
    *_of("prompt_embeds", "x"),
]


def _said(name: str, message: Any, param: str | None = None, **more: Any) -> Bad:
    """A row with one message."""
    return Bad(name, {"messages": [message]}, param, **more)


def _part(name: str, part: Any) -> Bad:
    return _said(name, {"role": "user", "content": [part]})


CHAT: list[Bad] = [
    Bad("no messages", {"messages": ...}, "messages", anywhere=True),
    Bad("messages=[]", {"messages": []}),
    *_of("messages", "x", {"role": "user"}, ["x"], [None]),
    _said("no role", {"content": "x"}, "messages"),
    _said("role=5", {"role": 5, "content": "x"}, "messages"),
    _said("role=null", {"role": None, "content": "x"}, "messages"),
    _said("content=5", {"role": "user", "content": 5}, "messages"),
    _said("content=object", {"role": "user", "content": {"a": 1}}),
    _part("content part of an unknown type", {"type": "zzz", "text": "x"}),
    _part("content part without a type", {"text": "x"}),
    _part("content part without its text", {"type": "text"}),
    _part("content part is a number", 5),
    _part("content part with a number for text", {"type": "text", "text": 5}),
    *_of("logprobs", 5, "x"),
    *_of("top_logprobs", 2, "x", 1.5),
    Bad("top_logprobs without logprobs", {"logprobs": False, "top_logprobs": 2}, "top_logprobs"),
    Bad("top_logprobs=-1", {"logprobs": True, "top_logprobs": -1}, "logprobs", late=True),
    Bad("top_logprobs=21", {"logprobs": True, "top_logprobs": 21}, "logprobs", late=True),
    *_of("max_completion_tokens", 0, -1, param="max_tokens"),
    *_of("max_completion_tokens", "x"),
    Bad(
        "continue_final_message and add_generation_prompt",
        {"continue_final_message": True, "add_generation_prompt": True},
    ),
    *_of("chat_template_kwargs", "x"),
    *_of("documents", "x"),
    *_of("tools", "x", []),
    *_of("tool_choice", "required", {"type": "function", "function": {"name": "x"}}),
]
