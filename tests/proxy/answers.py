"""Faults of whole answers and of every choice: ids, names, texts, reasons, counts."""

# mypy: disable-error-code="func-returns-value"
# A change is an expression in a table here; what it returns is nobody's business.

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

from tests.proxy.fault import (
    ALL,
    GEN,
    Apply,
    C,
    Fault,
    Forward,
    H,
    Start,
    asks,
    choices,
    each_choice,
    objects,
    put,
    replies,
    say,
    text_of,
    texts,
    whole,
)
from tests.proxy.messages import Ask, Body, Reply, answer

F = Fault


def pops(*names: str) -> Callable[[Body, Body], None]:
    """Leave fields out."""

    def change(body: Body, ask: Body) -> None:
        for name in names:
            body.pop(name, None)

    return change


def gives(**fields: Any) -> Callable[[Body, Body], None]:
    """Give fields another value: one that is there, or made from the old one."""

    def change(body: Body, ask: Body) -> None:
        for name, value in fields.items():
            if name in body:
                body[name] = value(body[name]) if callable(value) else value

    return change


def usage(change: Callable[[Body], Any], paths: tuple[str, ...] = GEN) -> Start:
    """Change the usage of whole answers."""
    return whole(lambda body, ask: body.get("usage") and change(body["usage"]), paths)


def recount(counts: Body, **more: int) -> None:
    """Other counts with a right sum, so that one rule is broken."""
    counts |= more
    counts["total_tokens"] = counts["prompt_tokens"] + counts["completion_tokens"]


def _same_id() -> Apply:
    return plain_id("cmpl-1")


def plain_id(value: str) -> Apply:
    def apply(ask: Ask, forward: Forward) -> Reply:
        return objects(gives(id=value))()(ask, forward)

    return apply


def _stale() -> Apply:
    """A cache of answers whose key is the prompt alone."""
    kept: dict[str, bytes] = {}

    def apply(ask: Ask, forward: Forward) -> Reply:
        body = ask.body
        if ask.route not in GEN or body.get("stream"):
            return forward(ask)
        key = json.dumps([ask.route, body.get("prompt"), body.get("messages")])
        reply = forward(ask) if key not in kept else answer(json.loads(kept[key]))
        if reply.status == 200:
            kept.setdefault(key, reply.read())
        return reply

    return apply


def _idempotent() -> Apply:
    """A cache of whole answers by the whole request: sampling repeats itself."""
    kept: dict[bytes, bytes] = {}

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route not in GEN or ask.body.get("stream") or not ask.body:
            return forward(ask)
        if ask.content in kept:
            return answer(json.loads(kept[ask.content]))
        reply = forward(ask)
        if reply.status == 200:
            kept[ask.content] = reply.read()
        return reply

    return apply


def _cross_talk() -> Apply:
    """Now and then somebody gets the text of the request before."""
    last: list[str] = []
    count = itertools.count()

    def change(body: Body, ask: Body) -> None:
        choice = body["choices"][0]
        mine = text_of(choice)
        if last and next(count) % 3 == 2:
            say(choice, last[-1])
        last.append(mine)

    return whole(change)()


def _previous_parameters() -> Apply:
    """Parameters of one request stay for the next."""
    last: Body = {}

    def change(body: Body) -> None:
        given = {
            k: body[k] for k in ("logit_bias", "stop", "max_tokens", "ignore_eos") if k in body
        }
        for name, value in last.items():
            body.setdefault(name, value)
        last.clear()
        for name, value in given.items():
            last[name] = value

    return asks(change, GEN)()


def _collapse(body: Body, ask: Body) -> None:
    body["choices"] = body["choices"][:1]


def _copy_first(body: Body, ask: Body) -> None:
    for choice in body["choices"][1:]:
        say(choice, text_of(body["choices"][0]))


def _fence(choice: Body, ask: Body) -> None:
    if ask.get("response_format"):
        say(choice, f"```json\n{text_of(choice)}\n```")


def _echo_lost(choice: Body, ask: Body) -> None:
    if ask.get("echo") and isinstance(ask.get("prompt"), str):
        say(choice, text_of(choice).removeprefix(ask["prompt"]))


def _keep_stop(choice: Body, ask: Body) -> None:
    stop = choice.get("stop_reason")
    if isinstance(stop, str) and not ask.get("include_stop_str_in_output"):
        say(choice, text_of(choice) + stop)


def _cut_before_stop(choice: Body, ask: Body) -> None:
    if choice.get("finish_reason") == "stop" and ask.get("stop"):
        say(choice, text_of(choice)[:-1])


def _trail(reply: Reply, ask: Ask) -> None:
    reply.parts = [reply.read() + b"\n}"]
    reply.headers.pop("content-length", None)


def _null_for_empty(message: Body, ask: Body) -> None:
    message.update(content=None)


def _in_messages(change: Callable[[Body, Body], Any]) -> Start:
    def edit(choice: Body, ask: Body) -> None:
        change(choice["message"], ask)

    return whole(each_choice(edit), (H,))


FAULTS = [
    # who answers
    F("model_is_a_path", "parallax#440", objects(gives(model="/models/snapshot"))),
    F("model_is_null", "hub#6", objects(gives(model=None))),
    F("model_is_left_out", "hub#6", objects(pops("model"))),
    F(
        "any_model_name_is_taken",
        "mlx-serve#257",
        replies(
            lambda reply, ask: answer(
                {
                    "id": "cmpl-1",
                    "object": "text_completion",
                    "created": int(time.time()),
                    "model": ask.body.get("model"),
                    "choices": [
                        {"index": 0, "text": "x", "logprobs": None, "finish_reason": "length"}
                    ],
                    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                }
            ),
            GEN,
            lambda reply, ask: reply.status == 404,
        ),
    ),
    F("id_is_always_the_same", "cascadia#14", _same_id),
    F("id_is_empty", "inferencer#42", objects(gives(id=""))),
    F("id_is_left_out", "inferencer#42", objects(pops("id"))),
    F("id_is_a_number", "llama.cpp#10728", objects(gives(id=7))),
    F("object_is_wrong", "inferencer#42", whole(gives(object="list"))),
    F(
        "object_of_the_other_endpoint",
        "llama.cpp#11346",
        whole(gives(object="chat.completion"), (C,)),
    ),
    F("created_in_milliseconds", "", objects(gives(created=lambda t: t * 1000))),
    F("created_is_a_float", "inferencer#42", objects(gives(created=lambda t: t + 0.5))),
    F("created_is_zero", "parallax#440", objects(gives(created=0))),
    F(
        "created_is_the_start_of_the_server",
        "parallax#440",
        objects(gives(created=lambda t: t - 7200)),
    ),
    F("created_is_a_string", "llama.cpp#10728", objects(gives(created=str))),
    # choices
    F("no_choices", "litellm#10686", whole(gives(choices=[]))),
    F("choices_missing", "litellm#10686", whole(pops("choices"))),
    F("n_collapses_to_one", "vllm#5250", whole(_collapse)),
    F("n_copies_the_first", "sglang#3059", whole(_copy_first)),
    F("index_is_always_0", "ollama#15457", choices(gives(index=0))),
    F("index_starts_at_1", "litellm#376", choices(gives(index=lambda i: i + 1))),
    F("index_is_left_out", "ollama#7881", choices(pops("index"))),
    F("choices_out_of_order", "sglang#3059", whole(lambda b, a: b["choices"].reverse())),
    F(
        "batch_is_one_late",
        "vllm#13408",
        whole(
            lambda b, a: (
                [
                    say(c, t)
                    for c, t in zip(
                        b["choices"],
                        [text_of(x) for x in b["choices"][1:] + b["choices"][:1]],
                        strict=True,
                    )
                ]
                and None
            )
        ),
    ),
    # text
    F(
        "text_is_stripped",
        "vllm#29953",
        whole(each_choice(lambda c, a: say(c, text_of(c).strip()))),
    ),
    F(
        "leading_space_lost",
        "lmdeploy#992",
        whole(each_choice(lambda c, a: say(c, text_of(c).removeprefix(" ")))),
    ),
    F(
        "extra_leading_space",
        "vllm#33457",
        whole(each_choice(lambda c, a: say(c, " " + text_of(c)))),
    ),
    F(
        "special_token_leaks",
        "dynamo#12562",
        whole(each_choice(lambda c, a: say(c, text_of(c) + "</s>"))),
    ),
    F(
        "html_escaped",
        "",
        texts(lambda t: t.replace("'", "&#39;").replace("<", "&lt;").replace(" ", "&nbsp;")),
    ),
    F("spaces_doubled", "vllm#630", texts(lambda t: t.replace(" ", "  "))),
    F(
        "first_character_lost",
        "vmlx-swift#109",
        whole(each_choice(lambda c, a: say(c, text_of(c)[1:]))),
    ),
    F(
        "last_character_lost",
        "lucebox#641",
        whole(each_choice(lambda c, a: say(c, text_of(c)[:-1]))),
    ),
    F("text_is_empty", "llama-cpp-python#1195", whole(each_choice(lambda c, a: say(c, "")))),
    F("text_is_null", "vllm#22627", whole(each_choice(gives(text=None)), (C,))),
    F("content_is_null", "vllm#22627", _in_messages(_null_for_empty)),
    F("content_is_left_out", "", _in_messages(pops("content"))),
    F(
        "content_is_a_list_of_parts",
        "dify#9775",
        _in_messages(lambda m, a: m.update(content=[{"type": "text", "text": m["content"] or ""}])),
    ),
    F("role_is_left_out", "inferencer#42", _in_messages(pops("role"))),
    F("role_is_user", "inferencer#42", _in_messages(gives(role="user"))),
    F(
        "message_is_a_delta",
        "uor-r4#684",
        whole(each_choice(lambda c, a: c.update(delta=c.pop("message"))), (H,)),
    ),
    F(
        "prompt_is_echoed_unasked",
        "vllm#2706",
        whole(
            each_choice(
                lambda c, a: (
                    isinstance(a.get("prompt"), str)
                    and not a.get("echo")
                    and say(c, a["prompt"] + text_of(c))
                )
            ),
            (C,),
        ),
    ),
    F("echo_does_not_echo", "vllm#2706", whole(each_choice(_echo_lost), (C,))),
    F("json_in_a_fence", "vllm#4070", choices(_fence, (H,))),
    F(
        "replacement_characters",
        "llama.cpp#4036",
        whole(
            each_choice(
                lambda c, a: say(c, "".join("\ufffd" if ord(x) > 127 else x for x in text_of(c)))
            )
        ),
    ),
    # finish
    F(
        "finish_is_eos_token",
        "tgi#1896",
        whole(
            each_choice(
                lambda c, a: c["finish_reason"] == "stop" and c.update(finish_reason="eos_token")
            )
        ),
    ),
    F(
        "finish_is_always_stop",
        "cascadia#14",
        choices(lambda c, a: c.get("finish_reason") == "length" and c.update(finish_reason="stop")),
    ),
    F(
        "finish_is_always_length",
        "vllm-mlx#628",
        choices(lambda c, a: c.get("finish_reason") == "stop" and c.update(finish_reason="length")),
    ),
    F("finish_is_null", "vllm#27572", whole(each_choice(gives(finish_reason=None)))),
    F("finish_is_empty", "ollama#4357", whole(each_choice(gives(finish_reason="")))),
    F("finish_is_left_out", "litellm#10686", whole(each_choice(pops("finish_reason")))),
    F(
        "finish_in_capitals",
        "",
        choices(
            lambda c, a: (
                c.get("finish_reason") and c.update(finish_reason=c["finish_reason"].upper())
            )
        ),
    ),
    F("stop_string_is_kept", "vmlx-swift#109", whole(each_choice(_keep_stop))),
    F("too_much_cut_before_stop", "vllm#3672", whole(each_choice(_cut_before_stop))),
    F("stop_reason_is_lost", "vllm#1973", whole(each_choice(gives(stop_reason=None)))),
    F(
        "stop_reason_is_the_list",
        "vllm#1973",
        whole(
            each_choice(
                lambda c, a: c.get("stop_reason") and c.update(stop_reason=[c["stop_reason"]])
            )
        ),
    ),
    # usage
    F("no_usage", "freellmapi#845", whole(pops("usage"))),
    F("usage_is_null", "claude-code-hub#1165", whole(gives(usage=None))),
    F(
        "usage_by_other_names",
        "pi#2326",
        usage(
            lambda u: u.update(
                input_tokens=u.pop("prompt_tokens"), output_tokens=u.pop("completion_tokens")
            )
        ),
    ),
    F(
        "usage_is_zero",
        "",
        usage(lambda u: u.update(prompt_tokens=0, completion_tokens=0, total_tokens=0)),
    ),
    F(
        "total_is_wrong",
        "fastdeploy#3247",
        usage(lambda u: u.update(total_tokens=u["prompt_tokens"])),
    ),
    F("total_is_left_out", "fastdeploy#3247", usage(lambda u: u.pop("total_tokens"))),
    F(
        "prompt_tokens_one_too_many",
        "vllm#2012",
        usage(lambda u: recount(u, prompt_tokens=u["prompt_tokens"] + 1)),
    ),
    F(
        "prompt_tokens_one_too_few",
        "vllm#27477",
        usage(lambda u: recount(u, prompt_tokens=u["prompt_tokens"] - 1)),
    ),
    F(
        "completion_tokens_one_too_few",
        "vllm#41368",
        usage(lambda u: recount(u, completion_tokens=u["completion_tokens"] - 1)),
    ),
    F(
        "completion_tokens_one_too_many",
        "freellmapi#845",
        usage(lambda u: recount(u, completion_tokens=u["completion_tokens"] + 1)),
    ),
    F(
        "usage_counts_one_choice_of_n",
        "vllm#5250",
        whole(
            lambda b, a: (
                len(b["choices"]) > 1
                and recount(
                    b["usage"],
                    completion_tokens=b["usage"]["completion_tokens"] // len(b["choices"]),
                )
            )
        ),
    ),
    F(
        "usage_counts_the_prompt_n_times",
        "vllm#5250",
        whole(
            lambda b, a: (
                (a.get("n") or 1) > 1
                and recount(b["usage"], prompt_tokens=b["usage"]["prompt_tokens"] * a["n"])
            )
        ),
    ),
    F(
        "usage_are_strings",
        "llama.cpp#10728",
        usage(lambda u: u.update({k: str(v) for k, v in u.items() if isinstance(v, int)})),
    ),
    F(
        "usage_are_floats",
        "llama.cpp#10728",
        usage(lambda u: u.update({k: v + 0.0 for k, v in u.items() if isinstance(v, int)})),
    ),
    # memory between requests
    F("answers_are_cached_by_prompt", "vllm#56009", _stale),
    F("answers_are_cached_by_request", "tt-metal#44701", _idempotent),
    F("cross_talk", "vllm#13408", _cross_talk),
    F("parameters_stay_for_the_next", "vllm#9910", _previous_parameters),
    # the wire
    F(
        "answer_is_not_json_type",
        "",
        replies(
            lambda r, a: r.headers.update({"content-type": "text/plain"}),
            ALL,
            lambda r, a: not r.is_stream and r.status == 200,
        ),
    ),
    F(
        "trailing_garbage",
        "",
        replies(
            _trail,
            ALL,
            lambda r, a: not r.is_stream and r.status == 200,
        ),
    ),
    F("nan_in_the_json", "", whole(lambda b, a: b.update(score=float("nan")))),
    F(
        "answer_is_cut",
        "vllm#23837",
        replies(
            lambda r, a: setattr(r, "parts", [r.read()[:-20]]),
            ALL,
            lambda r, a: not r.is_stream and r.status == 200,
        ),
    ),
    F(
        "answer_is_a_json_string",
        "dify#9775",
        replies(
            lambda r, a: put(r, json.dumps(r.body)),
            ALL,
            lambda r, a: not r.is_stream and r.status == 200,
        ),
    ),
    F(
        "snake_becomes_camel",
        "",
        whole(each_choice(lambda c, a: c.update(finishReason=c.pop("finish_reason")))),
    ),
]
