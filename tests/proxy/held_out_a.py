# mypy: disable-error-code="func-returns-value"
"""Faults that were written before anybody looked whether the suite catches them.

A red team's list for models, completions, chat and their streams: real reports of vLLM's users and
of its peers', and what such servers are known to get wrong. `measure --faults-of` takes them.
"""

# mypy: disable-error-code="func-returns-value"
# A change is an expression in a table here; what it returns is nobody's business.

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.proxy.fault import (
    GEN,
    MODELS,
    TOKENIZE,
    Apply,
    C,
    Fault,
    Forward,
    H,
    Start,
    asks,
    choices,
    chunks,
    objects,
    plain,
    put,
    replies,
    say,
    stream,
    text_of,
    texts,
    whole,
)
from tests.proxy.messages import Ask, Body, Frame, Reply

FAULTS: list[Fault] = []


def fault(name: str, start: Start, on: str = "any", report: str = "") -> None:
    FAULTS.append(Fault(name, report, start, on))


# --- helpers --------------------------------------------------------------------------------------


def drop_if(when: Callable[[Body], Any], *names: str, paths: tuple[str, ...] = GEN) -> Start:
    """Parameters that are ignored only under a condition."""

    def change(body: Body) -> None:
        if when(body):
            for name in names:
                body.pop(name, None)

    return asks(change, paths)


def streamed(body: Body) -> bool:
    return body.get("stream") is True


def many(body: Body) -> bool:
    return isinstance(body.get("n"), int) and body["n"] > 1


def batched(body: Body) -> bool:
    prompt = body.get("prompt")
    return isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)


def of_ids(body: Body) -> bool:
    prompt = body.get("prompt")
    return isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)


def falsy(*names: str, paths: tuple[str, ...] = GEN) -> Start:
    """`if request.x:` where it should say `is not None`."""

    def change(body: Body) -> None:
        for name in names:
            if name in body and body[name] is not None and not body[name]:
                body.pop(name)

    return asks(change, paths)


def number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def num(change: Callable[[Any], Any], *names: str, paths: tuple[str, ...] = GEN) -> Start:
    def edit(body: Body) -> None:
        for name in names:
            if number(body.get(name)):
                body[name] = change(body[name])

    return asks(edit, paths)


def usage(
    change: Callable[[Body, Body], Any], when: Callable[[Body], Any] = lambda b: True
) -> Start:
    """Change the usage of answers and of chunks that have one."""

    def edit(body: Body, ask: Body) -> None:
        if isinstance(body.get("usage"), dict):
            change(body["usage"], ask)

    return objects(edit, GEN, when)


def final_usage(
    change: Callable[[Body, Body], Any], when: Callable[[Body], Any] = lambda b: True
) -> Start:
    """Change the usage chunk of a stream."""

    def edit(body: Body, ask: Body) -> None:
        if isinstance(body.get("usage"), dict) and not body.get("choices"):
            change(body["usage"], ask)

    return chunks(edit, GEN, when)


def set_count(body: Body, value: int) -> None:
    body["completion_tokens"] = value
    body["total_tokens"] = body["prompt_tokens"] + value


def last_of_choice(change: Callable[[Body, Body], Any], paths: tuple[str, ...] = GEN) -> Start:
    """Change the streamed choice that has the finish reason."""

    def edit(chunk: Body, ask: Body) -> None:
        for choice in chunk.get("choices") or []:
            if choice.get("finish_reason"):
                change(choice, ask)

    return chunks(edit, paths)


def ids_of(forward: Forward, ask: Ask, text: str) -> list[int]:
    body = {"model": ask.body.get("model"), "prompt": text}
    reply = forward(Ask("POST", TOKENIZE, dict(ask.headers), json.dumps(body).encode()))
    return list((reply.body or {}).get("tokens") or [])


def prompts(change: Callable[[list[int]], list[int] | None]) -> Start:
    """Change the token ids of a single prompt of a completion behind the back of its usage."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        body = ask.body
        prompt = body.get("prompt")
        if ask.route != C or not (isinstance(prompt, str) or of_ids(body)):
            return forward(ask)
        ids = ids_of(forward, ask, prompt) if isinstance(prompt, str) else list(prompt or ())
        new = change(list(ids)) if ids else None
        if not new or new == ids or body.get("echo") or "prompt_logprobs" in body:
            return forward(ask)
        reply = forward(ask.with_body(body | {"prompt": new}))
        return _with_prompt_tokens(reply, len(ids), ids)

    return plain(apply)


def _with_prompt_tokens(reply: Reply, count: int, ids: list[int]) -> Reply:
    def fix(body: Body, ask: Body) -> None:
        if isinstance(body.get("usage"), dict):
            body["usage"]["prompt_tokens"] = count
            body["usage"]["total_tokens"] = count + body["usage"].get("completion_tokens", 0)
        for choice in body.get("choices") or []:
            if choice.get("prompt_token_ids"):
                choice["prompt_token_ids"] = ids

    fixed = Ask("POST", C, {}, b"{}")
    return objects(fix, (C,))()(fixed, lambda ask: reply)


def messages(change: Callable[[list[Body]], list[Body] | None]) -> Start:
    def edit(body: Body) -> None:
        found = body.get("messages")
        if isinstance(found, list) and all(isinstance(m, dict) for m in found):
            new = change(found)
            if new:
                body["messages"] = new

    return asks(edit, (H,))


def contents(change: Callable[[str], str]) -> Start:
    def edit(found: list[Body]) -> list[Body]:
        return [
            m | {"content": change(m["content"])} if isinstance(m.get("content"), str) else m
            for m in found
        ]

    return messages(edit)


def schemas(change: Callable[[Body], Any]) -> Start:
    """Change every (sub)schema that an answer should obey."""

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            change(value)
            for item in list(value.values()):
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    def edit(body: Body) -> None:
        form = body.get("response_format")
        if isinstance(form, dict) and isinstance(form.get("json_schema"), dict):
            walk(form["json_schema"].get("schema"))
        outputs = body.get("structured_outputs")
        if isinstance(outputs, dict) and isinstance(outputs.get("json"), dict):
            walk(outputs["json"])

    return asks(edit, GEN)


def entries(change: Callable[[list[Any], Body], list[Any] | None]) -> Start:
    """Change the list of a chat choice's token logprobs."""

    def edit(choice: Body, ask: Body) -> None:
        found = (choice.get("logprobs") or {}).get("content")
        if isinstance(found, list):
            new = change(found, ask)
            if new is not None:
                choice["logprobs"]["content"] = new

    return choices(edit, (H,))


def legacy(change: Callable[[Body, Body], Any]) -> Start:
    """Change the logprobs object of a completion's choice."""

    def edit(choice: Body, ask: Body) -> None:
        if isinstance(choice.get("logprobs"), dict) and choice["logprobs"].get("tokens"):
            change(choice["logprobs"], ask)

    return choices(edit, (C,))


def prompt_logprobs(
    change: Callable[[list[Any]], list[Any] | None], paths: tuple[str, ...] = GEN
) -> Start:
    def edit(body: Body, ask: Body) -> None:
        for holder in (body, *(body.get("choices") or [])):
            if isinstance(holder.get("prompt_logprobs"), list):
                new = change(holder["prompt_logprobs"])
                if new is not None:
                    holder["prompt_logprobs"] = new

    return whole(edit, paths)


def stateful(begin: Callable[[], Apply]) -> Start:
    return begin


# --- models ---------------------------------------------------------------------------------------


def models(change: Callable[[Body], Any]) -> Start:
    return whole(lambda body, ask: change(body), (MODELS,))


fault(
    "max_model_len is twice what the server takes",
    models(lambda b: [m.update(max_model_len=m["max_model_len"] * 2) for m in b["data"]]),
)
fault(
    "max_model_len is one less than the server takes",
    models(lambda b: [m.update(max_model_len=m["max_model_len"] - 1) for m in b["data"]]),
)
fault(
    "a model is listed that cannot be used",
    models(
        lambda b: b["data"].append(
            b["data"][0] | {"id": b["data"][0]["id"] + "-draft", "parent": None}
        )
    ),
)
fault(
    "models are created in milliseconds",
    models(lambda b: [m.update(created=m["created"] * 1000) for m in b["data"]]),
)
fault("models list the served model twice", models(lambda b: b["data"].append(dict(b["data"][0]))))
fault(
    "models is a plain list", replies(lambda reply, ask: put(reply, reply.body["data"]), (MODELS,))
)
fault("models have no object", models(lambda b: [m.pop("object") for m in b["data"]]))

# --- falsy values ---------------------------------------------------------------------------------

fault("temperature zero is taken as not given", falsy("temperature"))
fault("seed zero is taken as not given", falsy("seed"))
fault("logprobs zero is taken as not given", falsy("logprobs"), report="")
fault(
    "top_logprobs zero is taken as no logprobs",
    asks(lambda b: b.pop("logprobs", None) if b.get("top_logprobs") == 0 else None, (H,)),
)
fault("prompt_logprobs zero is taken as not given", falsy("prompt_logprobs"))
fault("max_tokens zero is taken as not given", falsy("max_tokens", paths=(C,)))
fault(
    "logit_bias of token zero is lost",
    asks(
        lambda b: b["logit_bias"].pop("0", None) if isinstance(b.get("logit_bias"), dict) else None
    ),
)
fault(
    "top_k zero keeps one token",
    asks(lambda b: b.update(top_k=1) if b.get("top_k") in (0, -1) else None),
)

# --- sampling: only sometimes ---------------------------------------------------------------------

fault("seed is ignored when n is more than one", drop_if(many, "seed"))
fault("seed is ignored in streams", drop_if(streamed, "seed"))
fault("seed is ignored for a batch of prompts", drop_if(batched, "seed"))
fault("seed is ignored by chat", drop_if(lambda b: "messages" in b, "seed"))
fault("seed is cut to eight bits", num(lambda v: int(v) % 256, "seed"))
fault("negative seeds are made positive", num(abs, "seed"))
fault(
    "a seed makes it greedy",
    asks(lambda b: b.update(temperature=0) if b.get("seed") is not None else None),
)
fault(
    "all choices of a seed are the same",
    whole(
        lambda body, ask: [say(c, text_of(body["choices"][0])) for c in body["choices"]],
        GEN,
        lambda b: many(b) and b.get("seed") is not None,
    ),
)
fault("temperature is capped at one", num(lambda v: min(v, 1.0), "temperature"))
fault("temperature above one is halved", num(lambda v: v / 2 if v > 1 else v, "temperature"))
fault("low temperature is taken as greedy", num(lambda v: 0 if v < 0.7 else v, "temperature"))
fault("temperature is ignored in streams", drop_if(streamed, "temperature"))
fault(
    "temperature is ignored with logprobs",
    drop_if(lambda b: b.get("logprobs") and b.get("temperature"), "temperature"),
)
fault(
    "temperature is ignored with top_k",
    drop_if(lambda b: number(b.get("top_k")) and b.get("temperature"), "temperature"),
)
fault("temperature is squared", num(lambda v: v * v, "temperature"))
fault("top_p is ignored when top_k is given", drop_if(lambda b: "top_k" in b, "top_p"))
fault("top_p is ignored when min_p is given", drop_if(lambda b: "min_p" in b, "top_p"))
fault("top_p is ignored in streams", drop_if(streamed, "top_p"))
fault("top_p is ignored by chat", drop_if(lambda b: "messages" in b, "top_p"))
fault("top_p is raised to a half", num(lambda v: max(v, 0.5), "top_p"))
fault("top_k keeps one too many", num(lambda v: v + 1 if v > 0 else v, "top_k"))
fault("top_k keeps one too few", num(lambda v: v - 1 if v > 1 else v, "top_k"))
fault("top_k is ignored by chat", drop_if(lambda b: "messages" in b, "top_k"))
fault("top_k is ignored with n", drop_if(many, "top_k"))
fault("min_p is ignored by chat", drop_if(lambda b: "messages" in b, "min_p"))
fault("min_p is ignored with n", drop_if(many, "min_p"))
fault("min_p is halved", num(lambda v: v / 2, "min_p"))
fault(
    "presence and frequency penalty are swapped",
    asks(
        lambda b: (
            b.update(
                presence_penalty=b.get("frequency_penalty", 0),
                frequency_penalty=b.get("presence_penalty", 0),
            )
            if {"presence_penalty", "frequency_penalty"} & b.keys()
            else None
        )
    ),
)
fault(
    "negative penalties are taken as zero",
    num(lambda v: max(v, 0), "presence_penalty", "frequency_penalty"),
)
fault(
    "penalties are capped at one", num(lambda v: min(v, 1), "presence_penalty", "frequency_penalty")
)
fault(
    "penalties are ignored in streams",
    drop_if(streamed, "presence_penalty", "frequency_penalty", "repetition_penalty"),
)
fault(
    "penalties are ignored by chat",
    drop_if(
        lambda b: "messages" in b, "presence_penalty", "frequency_penalty", "repetition_penalty"
    ),
)
fault(
    "repetition penalty is applied twice",
    num(lambda v: min(v * v, 4), "repetition_penalty"),
    report="",
)
fault("repetition penalty below one is ignored", num(lambda v: max(v, 1), "repetition_penalty"))
fault("frequency penalty is halved", num(lambda v: v / 2, "frequency_penalty"))
fault(
    "penalties are ignored with logprobs",
    drop_if(
        lambda b: b.get("logprobs") not in (None, False),
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
    ),
)
fault(
    "negative logit_bias is ignored",
    asks(
        lambda b: (
            b.update(logit_bias={k: v for k, v in b["logit_bias"].items() if number(v) and v > 0})
            if isinstance(b.get("logit_bias"), dict)
            else None
        )
    ),
)
fault(
    "logit_bias is capped at one",
    asks(
        lambda b: (
            b.update(
                logit_bias={
                    k: max(-1, min(1, v)) if number(v) else v for k, v in b["logit_bias"].items()
                }
            )
            if isinstance(b.get("logit_bias"), dict)
            else None
        )
    ),
)
fault(
    "only the first logit_bias counts",
    asks(
        lambda b: (
            b.update(logit_bias=dict(list(b["logit_bias"].items())[:1]))
            if isinstance(b.get("logit_bias"), dict)
            else None
        )
    ),
)
fault("logit_bias is ignored in streams", drop_if(streamed, "logit_bias"))
fault("logit_bias is ignored by chat", drop_if(lambda b: "messages" in b, "logit_bias"))
fault("logit_bias is ignored with n", drop_if(many, "logit_bias"))
fault(
    "only the first bad word counts",
    asks(
        lambda b: (
            b.update(bad_words=b["bad_words"][:1]) if isinstance(b.get("bad_words"), list) else None
        )
    ),
)
fault(
    "bad words of several tokens are ignored",
    asks(
        lambda b: (
            b.update(
                bad_words=[w for w in b["bad_words"] if isinstance(w, str) and " " not in w.strip()]
            )
            if isinstance(b.get("bad_words"), list)
            else None
        )
    ),
)
fault("bad words are ignored by chat", drop_if(lambda b: "messages" in b, "bad_words"))
fault("bad words are ignored in streams", drop_if(streamed, "bad_words"))
fault("allowed tokens are ignored by chat", drop_if(lambda b: "messages" in b, "allowed_token_ids"))
fault("allowed tokens are ignored in streams", drop_if(streamed, "allowed_token_ids"))
fault("allowed tokens are ignored with n", drop_if(many, "allowed_token_ids"))
fault(
    "only the first allowed token counts",
    asks(
        lambda b: (
            b.update(allowed_token_ids=b["allowed_token_ids"][:1])
            if isinstance(b.get("allowed_token_ids"), list)
            else None
        )
    ),
)

# --- length ---------------------------------------------------------------------------------------

fault(
    "max_tokens is capped at a hundred",
    num(lambda v: min(v, 100), "max_tokens", "max_completion_tokens"),
)
fault(
    "max_tokens is capped at 256", num(lambda v: min(v, 256), "max_tokens", "max_completion_tokens")
)
fault(
    "max_completion_tokens is ignored when it is alone",
    asks(lambda b: b.pop("max_completion_tokens", None) if "max_tokens" not in b else None, (H,)),
)
fault(
    "max_tokens wins over max_completion_tokens",
    asks(
        lambda b: (
            b.pop("max_completion_tokens")
            if {"max_tokens", "max_completion_tokens"} <= b.keys()
            else None
        ),
        (H,),
    ),
)
fault(
    "max_tokens is one more in streams",
    asks(
        lambda b: (
            b.update(max_tokens=b["max_tokens"] + 1)
            if streamed(b) and number(b.get("max_tokens"))
            else None
        )
    ),
)
fault(
    "max_tokens is shared by the choices",
    asks(
        lambda b: (
            b.update(max_tokens=max(1, b["max_tokens"] // b["n"]))
            if many(b) and number(b.get("max_tokens"))
            else None
        )
    ),
)
fault(
    "chat stops after sixteen tokens by default",
    asks(
        lambda b: b.setdefault("max_tokens", 16) if "max_completion_tokens" not in b else None, (H,)
    ),
)
fault(
    "completions do not stop after sixteen tokens by default",
    asks(lambda b: b.setdefault("max_tokens", 64), (C,)),
)
fault("min_tokens is one less", num(lambda v: max(0, v - 1), "min_tokens"))
fault("min_tokens is ignored by chat", drop_if(lambda b: "messages" in b, "min_tokens"))
fault("min_tokens is ignored with stop strings", drop_if(lambda b: b.get("stop"), "min_tokens"))
fault(
    "min_tokens is ignored with stop tokens",
    drop_if(lambda b: b.get("stop_token_ids"), "min_tokens"),
)
fault("min_tokens is ignored in streams", drop_if(streamed, "min_tokens"))
fault("ignore_eos is ignored by chat", drop_if(lambda b: "messages" in b, "ignore_eos"))
fault("ignore_eos is ignored in streams", drop_if(streamed, "ignore_eos"))
fault(
    "ignore_eos ignores stop strings too",
    asks(lambda b: b.pop("stop", None) if b.get("ignore_eos") else None),
)
fault(
    "ignore_eos ignores stop tokens too",
    asks(lambda b: b.pop("stop_token_ids", None) if b.get("ignore_eos") else None),
)

# --- stop -----------------------------------------------------------------------------------------


def stops(change: Callable[[Any], Any], when: Callable[[Body], Any] = lambda b: True) -> Start:
    def edit(body: Body) -> None:
        if body.get("stop") and when(body):
            body["stop"] = change(body["stop"])
            if not body["stop"]:
                del body["stop"]

    return asks(edit, GEN)


def listed(keep: Callable[[str], Any]) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [v for v in value if not isinstance(v, str) or keep(v)]
        return value if not isinstance(value, str) or keep(value) else None

    return change


fault("stop as a string is ignored", stops(lambda v: v if isinstance(v, list) else None))
fault("only the first stop string counts", stops(lambda v: v[:1] if isinstance(v, list) else v))
fault("only the last stop string counts", stops(lambda v: v[-1:] if isinstance(v, list) else v))
fault(
    "stop strings past the fourth are ignored", stops(lambda v: v[:4] if isinstance(v, list) else v)
)
fault("stop strings of white space are ignored", stops(listed(lambda s: s.strip())))
fault("stop strings that are not ASCII are ignored", stops(listed(lambda s: s.isascii())))
fault(
    "stop strings of several tokens are ignored",
    stops(listed(lambda s: len(s) < 2 or (len(s.split()) < 2 and s.startswith(" ")))),
)
fault(
    "stop strings are stripped",
    stops(
        lambda v: (
            [s.strip() or s for s in v if isinstance(s, str)]
            if isinstance(v, list)
            else v.strip() or v
        )
    ),
)
fault("stop is ignored in streams", drop_if(streamed, "stop"))
fault("stop is ignored by chat", drop_if(lambda b: "messages" in b, "stop"))
fault("stop is ignored with n", drop_if(many, "stop"))
fault("stop is ignored for a batch", drop_if(batched, "stop"))
fault("stop tokens are ignored by chat", drop_if(lambda b: "messages" in b, "stop_token_ids"))
fault("stop tokens are ignored in streams", drop_if(streamed, "stop_token_ids"))
fault(
    "only the first stop token counts",
    asks(
        lambda b: (
            b.update(stop_token_ids=b["stop_token_ids"][:1])
            if isinstance(b.get("stop_token_ids"), list)
            else None
        )
    ),
)
fault(
    "the stop string is kept in streams",
    asks(
        lambda b: (
            b.update(include_stop_str_in_output=True) if streamed(b) and b.get("stop") else None
        )
    ),
)
fault(
    "include_stop_str_in_output is ignored in streams",
    drop_if(streamed, "include_stop_str_in_output"),
)
fault(
    "include_stop_str_in_output is ignored by chat",
    drop_if(lambda b: "messages" in b, "include_stop_str_in_output"),
)
fault(
    "include_stop_str_in_output is ignored for stop tokens",
    drop_if(lambda b: b.get("stop_token_ids"), "include_stop_str_in_output"),
)


def _held_back_lost() -> Apply:
    """What was held back as the possible beginning of a stop string is never sent."""

    def each(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
        found = ask.get("stop")
        longest = (
            max((len(s) for s in ([found] if isinstance(found, str) else found or ())), default=1)
            - 1
        )
        for frame in events:
            chunk = frame.chunk
            if chunk is None:
                yield frame
                continue
            for choice in chunk.get("choices") or []:
                if choice.get("finish_reason") == "length" and longest > 0:
                    say(choice, text_of(choice)[:-longest])
            yield frame.with_chunk(chunk)

    return stream(each, GEN, lambda b: b.get("stop"))()


fault("text that was held back for a stop string is lost", _held_back_lost)


def _leak(choice: Body, ask: Body) -> None:
    if isinstance(choice.get("stop_reason"), str) and not ask.get("include_stop_str_in_output"):
        say(choice, text_of(choice) + choice["stop_reason"][:1])
        if not isinstance(choice.get("text"), str):
            (choice.get("delta") or {}).setdefault("content", choice["stop_reason"][:1])


fault("the first letter of the stop string leaks into streams", last_of_choice(_leak))
fault(
    "stop_reason is null for stop strings",
    choices(
        lambda c, a: c.update(stop_reason=None) if isinstance(c.get("stop_reason"), str) else None
    ),
)
fault(
    "stop_reason is null for stop tokens",
    choices(
        lambda c, a: c.update(stop_reason=None) if isinstance(c.get("stop_reason"), int) else None
    ),
)
fault(
    "stop_reason is a string for stop tokens",
    choices(
        lambda c, a: (
            c.update(stop_reason=str(c["stop_reason"]))
            if isinstance(c.get("stop_reason"), int)
            else None
        )
    ),
)
fault(
    "stop_reason is always the first stop string",
    choices(
        lambda c, a: (
            c.update(stop_reason=a["stop"][0])
            if isinstance(c.get("stop_reason"), str) and isinstance(a.get("stop"), list)
            else None
        )
    ),
)
fault("stop_reason is missing in streams", last_of_choice(lambda c, a: c.pop("stop_reason", None)))
fault(
    "finish_reason is length when it stops at the last token",
    whole(
        lambda body, ask: [
            c.update(finish_reason="length")
            for c in body["choices"]
            if c.get("finish_reason") == "stop"
            and len(body["choices"]) == 1
            and body["usage"]["completion_tokens"]
            == (ask.get("max_tokens") or ask.get("max_completion_tokens"))
        ]
    ),
)
fault(
    "finish_reason is stop whatever happened in streams",
    last_of_choice(
        lambda c, a: c.update(finish_reason="stop") if c["finish_reason"] == "length" else None
    ),
)
fault(
    "finish_reason of an end token is eos",
    choices(
        lambda c, a: (
            c.update(finish_reason="eos")
            if c.get("finish_reason") == "stop" and c.get("stop_reason") is None
            else None
        )
    ),
)
fault(
    "finish_reason of the second choice is null",
    choices(lambda c, a: c.update(finish_reason=None) if c.get("index") == 1 else None),
)
fault(
    "finish_reason is null for natural stops in streams",
    last_of_choice(
        lambda c, a: (
            c.update(finish_reason=None)
            if c["finish_reason"] == "stop" and c.get("stop_reason") is None
            else None
        )
    ),
)

# --- n, batches, echo -----------------------------------------------------------------------------

fault("n is ignored in streams", drop_if(streamed, "n"))
fault("n is ignored by greedy requests", drop_if(lambda b: b.get("temperature") == 0, "n"))
fault("n is capped at two", num(lambda v: min(v, 2), "n"))
fault("n is capped at four", num(lambda v: min(v, 4), "n"))
fault("n is ignored for a batch", drop_if(batched, "n"))
fault(
    "choices of a batch come in reverse order",
    whole(
        lambda body, ask: (
            [
                c.update(index=i)
                for i, c in enumerate(body["choices"].__class__(reversed(body["choices"])))
            ]
            and body["choices"].reverse()
        ),
        (C,),
        batched,
    ),
)
fault(
    "the last two prompts of a batch are swapped",
    asks(
        lambda b: (
            b.update(prompt=[*b["prompt"][:-2], b["prompt"][-1], b["prompt"][-2]])
            if batched(b) and len(b["prompt"]) > 2
            else None
        ),
        (C,),
    ),
)
fault(
    "a batch of token prompts answers the first for all",
    asks(
        lambda b: (
            b.update(prompt=[b["prompt"][0]] * len(b["prompt"]))
            if batched(b) and isinstance(b["prompt"][0], list)
            else None
        ),
        (C,),
    ),
)
fault(
    "a batch of more than eight is cut",
    asks(lambda b: b.update(prompt=b["prompt"][:8]) if batched(b) else None, (C,)),
)
fault(
    "only the first prompt of a batch is echoed",
    choices(
        lambda c, a: (
            c.update(text=c["text"][-1:])
            if c["index"] > 0 and a.get("echo") and c.get("text")
            else None
        ),
        (C,),
    ),
)
fault(
    "the prompt of the second choice is not echoed",
    choices(
        lambda c, a: (
            c.update(text=c["text"].removeprefix(a["prompt"]))
            if c["index"] > 0 and a.get("echo") and isinstance(a.get("prompt"), str)
            else None
        ),
        (C,),
    ),
)
fault("prompts of token ids are not echoed", drop_if(of_ids, "echo"))
fault("echo is ignored in streams", drop_if(streamed, "echo"))
fault("echo is ignored with logprobs", drop_if(lambda b: b.get("logprobs") is not None, "echo"))
fault("echo is ignored without logprobs", drop_if(lambda b: b.get("logprobs") is None, "echo"))
fault(
    "the echoed prompt is stripped",
    choices(lambda c, a: c.update(text=c["text"].lstrip()) if a.get("echo") else None, (C,)),
)
fault(
    "the echoed prompt has the beginning token",
    choices(
        lambda c, a: (
            c.update(text="<s>" + c["text"])
            if a.get("echo")
            and isinstance(c.get("text"), str)
            and isinstance(a.get("prompt"), str)
            and c["text"].startswith(a["prompt"][:1])
            else None
        ),
        (C,),
    ),
)
fault(
    "echo with max_tokens zero generates a token",
    asks(
        lambda b: b.update(max_tokens=1) if b.get("echo") and b.get("max_tokens") == 0 else None,
        (C,),
    ),
)
fault(
    "choices after the first are empty",
    choices(lambda c, a: say(c, "") if c.get("index", 0) > 0 else None),
)
fault(
    "choices of chat come without an order",
    whole(lambda body, ask: body["choices"].sort(key=lambda c: -c["index"]), (H,), many),
)
fault(
    "chat choices of n are all the first",
    whole(
        lambda body, ask: [say(c, text_of(body["choices"][0])) for c in body["choices"]], (H,), many
    ),
)


def _double(body: Body) -> None:
    if many(body):
        body["temperature"] = 0


fault("all choices are greedy", asks(_double))

# --- usage ----------------------------------------------------------------------------------------

fault(
    "usage of n counts one choice",
    usage(lambda u, a: set_count(u, u["completion_tokens"] // a["n"]), many),
)
fault(
    "usage of a stream of n counts one choice",
    final_usage(lambda u, a: set_count(u, u["completion_tokens"] // a["n"]), many),
)
fault(
    "usage counts the prompt once per choice",
    usage(
        lambda u, a: u.update(
            prompt_tokens=u["prompt_tokens"] * a["n"],
            total_tokens=u["prompt_tokens"] * a["n"] + u["completion_tokens"],
        ),
        many,
    ),
)
fault(
    "usage of a batch counts its first prompt",
    usage(
        lambda u, a: u.update(
            prompt_tokens=u["prompt_tokens"] // len(a["prompt"]),
            total_tokens=u["prompt_tokens"] // len(a["prompt"]) + u["completion_tokens"],
        ),
        batched,
    ),
)
fault(
    "usage of a stream counts one token too many",
    final_usage(lambda u, a: set_count(u, u["completion_tokens"] + 1)),
)
fault(
    "usage of a stream counts one token too few",
    final_usage(lambda u, a: set_count(u, u["completion_tokens"] - 1)),
)
fault(
    "usage of a stream has no prompt tokens",
    final_usage(lambda u, a: u.update(prompt_tokens=0, total_tokens=u["completion_tokens"])),
)
fault(
    "usage of a stopped answer counts no stop token",
    whole(
        lambda body, ask: (
            set_count(body["usage"], body["usage"]["completion_tokens"] - 1)
            if len(body["choices"]) == 1
            and body["choices"][0]["finish_reason"] == "stop"
            and body["usage"]["completion_tokens"] > 1
            else None
        )
    ),
)
fault(
    "usage total leaves the answer out",
    usage(lambda u, a: u.update(total_tokens=u["prompt_tokens"])),
)
fault(
    "usage of chat has one prompt token less",
    whole(
        lambda b, a: b["usage"].update(
            prompt_tokens=b["usage"]["prompt_tokens"] - 1,
            total_tokens=b["usage"]["total_tokens"] - 1,
        ),
        (H,),
    ),
)
fault(
    "usage counts characters",
    whole(lambda b, a: set_count(b["usage"], sum(len(text_of(c)) for c in b["choices"]))),
)
fault(
    "usage with echo counts the prompt as answer",
    whole(
        lambda b, a: set_count(
            b["usage"], b["usage"]["completion_tokens"] + b["usage"]["prompt_tokens"]
        ),
        (C,),
        lambda b: b.get("echo"),
    ),
)
fault(
    "usage of long prompts is capped at 512",
    usage(
        lambda u, a: u.update(
            prompt_tokens=min(512, u["prompt_tokens"]),
            total_tokens=min(512, u["prompt_tokens"]) + u["completion_tokens"],
        )
    ),
)
fault(
    "continuous usage is ignored",
    asks(
        lambda b: (
            b["stream_options"].pop("continuous_usage_stats", None)
            if isinstance(b.get("stream_options"), dict)
            else None
        )
    ),
)
fault(
    "continuous usage counts each chunk alone",
    chunks(
        lambda c, a: (
            set_count(c["usage"], 1)
            if c.get("choices")
            and isinstance(c.get("usage"), dict)
            and c["usage"]["completion_tokens"]
            else None
        )
    ),
)
fault(
    "continuous usage is one token behind",
    chunks(
        lambda c, a: (
            set_count(c["usage"], c["usage"]["completion_tokens"] - 1)
            if c.get("choices")
            and isinstance(c.get("usage"), dict)
            and c["usage"]["completion_tokens"] > 1
            else None
        )
    ),
)
fault("the usage chunk has the last choice", stream(lambda events, ask: _usage_with_choice(events)))
fault(
    "the usage chunk is left out with n",
    chunks(lambda c, a: bool(c.get("choices")) or not c.get("usage"), GEN, many),
)
fault(
    "the usage chunk comes without being asked for",
    asks(
        lambda b: b.setdefault("stream_options", {"include_usage": True}) if streamed(b) else None
    ),
)
fault(
    "include_usage false is taken as true",
    asks(
        lambda b: (
            b["stream_options"].update(include_usage=True)
            if isinstance(b.get("stream_options"), dict) and "include_usage" in b["stream_options"]
            else None
        )
    ),
)
fault("the usage chunk comes after DONE", stream(lambda events, ask: _done_first(events)))
fault(
    "usage is in the last choice's chunk and no chunk of its own",
    stream(lambda events, ask: _usage_inside(events)),
)


def _usage_with_choice(events: Iterator[Frame]) -> Iterator[Frame]:
    last: Body = {}
    for frame in events:
        chunk = frame.chunk
        if chunk and chunk.get("choices"):
            last = chunk["choices"][-1]
        if chunk and chunk.get("usage") and not chunk.get("choices"):
            chunk["choices"] = [last]
            frame = frame.with_chunk(chunk)
        yield frame


def _done_first(events: Iterator[Frame]) -> Iterator[Frame]:
    held = None
    for frame in events:
        chunk = frame.chunk
        if chunk and chunk.get("usage") and not chunk.get("choices"):
            held = frame
            continue
        yield frame
    if held:
        yield held


def _usage_inside(events: Iterator[Frame]) -> Iterator[Frame]:
    kept = list(events)
    own = next(
        (f for f in kept if f.chunk and f.chunk.get("usage") and not f.chunk.get("choices")), None
    )
    for frame in kept:
        chunk = frame.chunk
        if frame is own:
            continue
        if own and chunk and any(c.get("finish_reason") for c in chunk.get("choices") or []):
            frame = frame.with_chunk(chunk | {"usage": (own.chunk or {})["usage"]})
        yield frame


# --- streams --------------------------------------------------------------------------------------


def _nth_choice_role(chunk: Body, ask: Body) -> None:
    for choice in chunk.get("choices") or []:
        if choice.get("index", 0) > 0:
            (choice.get("delta") or {}).pop("role", None)


fault("only the first choice of a stream has a role", chunks(_nth_choice_role, (H,)))
fault(
    "every chunk has the role",
    chunks(
        lambda c, a: [x["delta"].update(role="assistant") for x in c.get("choices") or []], (H,)
    ),
)
fault(
    "finish_reason is an empty string until the end",
    chunks(
        lambda c, a: [
            x.update(finish_reason="")
            for x in c.get("choices") or []
            if x.get("finish_reason") is None
        ]
    ),
)
fault(
    "the last token of a stream is lost at max_tokens",
    last_of_choice(lambda c, a: say(c, "") if c["finish_reason"] == "length" else None),
)
fault("the whole text is sent again at the end", stream(lambda events, ask: _again(events)))
fault("the last chunk with text is sent twice", stream(lambda events, ask: _twice(events)))
fault(
    "chunks after the tenth are lost", stream(lambda events, ask: _only(events, lambda i: i < 10))
)
fault(
    "every seventh chunk is lost", stream(lambda events, ask: _only(events, lambda i: i % 7 != 6))
)
fault(
    "chunks of white space are lost",
    chunks(
        lambda c, a: (
            not (
                c.get("choices")
                and all(text_of(x).isspace() and not x.get("finish_reason") for x in c["choices"])
            )
        )
    ),
)
fault(
    "chunks are stripped",
    chunks(lambda c, a: [say(x, text_of(x).strip()) for x in c.get("choices") or []]),
)
fault("the first space of a stream is lost", stream(lambda events, ask: _first_space(events)))
fault(
    "a letter of several tokens is garbled in streams",
    chunks(
        lambda c, a: [
            say(x, "".join(ch if ord(ch) < 0x10000 else "\ufffd" for ch in text_of(x)))
            for x in c.get("choices") or []
        ]
    ),
)
fault(
    "letters beyond ASCII are garbled in streams",
    chunks(
        lambda c, a: [
            say(x, "".join(ch if ch.isascii() else "\ufffd" for ch in text_of(x)))
            for x in c.get("choices") or []
        ]
    ),
)
fault(
    "letters beyond ASCII are lost in streams",
    chunks(
        lambda c, a: [
            say(x, "".join(ch for ch in text_of(x) if ch.isascii())) for x in c.get("choices") or []
        ]
    ),
)
fault(
    "letters beyond ASCII are escaped twice",
    texts(lambda t: "".join(c if c.isascii() else f"\\u{ord(c):04x}" for c in t)),
)
fault("each chunk has an id of its own", stream(lambda events, ask: _own_ids(events)))
fault(
    "the usage chunk has another id",
    chunks(lambda c, a: c.update(id=c["id"] + "-usage") if not c.get("choices") else None),
)
fault(
    "the usage chunk has another model",
    chunks(lambda c, a: c.update(model="") if not c.get("choices") else None),
)
fault("created is zero in streams", chunks(lambda c, a: c.update(created=0)))
fault("created is a float", objects(lambda c, a: c.update(created=c["created"] + 0.5)))
fault(
    "streamed choices of n all have index zero",
    chunks(lambda c, a: [x.update(index=0) for x in c.get("choices") or []], GEN, many),
)
fault(
    "streamed choices of a batch all have index zero",
    chunks(lambda c, a: [x.update(index=0) for x in c.get("choices") or []], (C,), batched),
)
fault(
    "the first two choices of a stream are mixed at the end",
    stream(lambda events, ask: _mixed(events), GEN, many),
)
fault(
    "a stream ends when its first choice ends",
    stream(lambda events, ask: _first_end(events), GEN, many),
)
fault(
    "DONE is missing with n",
    stream(lambda events, ask: (f for f in events if f.data != "[DONE]"), GEN, many),
)
fault(
    "DONE comes twice",
    stream(
        lambda events, ask: (x for f in events for x in ([f, f] if f.data == "[DONE]" else [f]))
    ),
)
fault(
    "DONE is quoted",
    stream(lambda events, ask: (Frame('"[DONE]"') if f.data == "[DONE]" else f for f in events)),
)
fault(
    "chunks of completions are chat chunks",
    chunks(lambda c, a: c.update(object="chat.completion.chunk"), (C,)),
)
fault(
    "chat chunks are whole answers by name",
    chunks(lambda c, a: c.update(object="chat.completion"), (H,)),
)
fault(
    "delta is called message",
    chunks(lambda c, a: [x.update(message=x.pop("delta")) for x in c.get("choices") or []], (H,)),
)
fault("the last delta is missing", last_of_choice(lambda c, a: c.pop("delta", None), (H,)))
fault(
    "a long stream is cut after fifty chunks with a finish reason",
    stream(lambda events, ask: _cut_after(events, 50)),
)
fault(
    "text after the stop string appears in streams",
    asks(
        lambda b: (
            b.pop("stop", None)
            if streamed(b) and isinstance(b.get("stop"), list) and len(b["stop"]) > 1
            else None
        )
    ),
)
fault(
    "a stream starts with an empty list of choices",
    stream(lambda events, ask: _empty_first(events)),
)
fault(
    "streams repeat the echoed prompt in each chunk",
    chunks(
        lambda c, a: [
            say(x, a["prompt"] + text_of(x))
            for x in c.get("choices") or []
            if isinstance(a.get("prompt"), str) and not text_of(x).startswith(a["prompt"])
        ],
        (C,),
        lambda b: b.get("echo"),
    ),
)
fault(
    "streams join two tokens in one chunk but report ids of one",
    stream(lambda events, ask: _joined(events)),
)


def _again(events: Iterator[Frame]) -> Iterator[Frame]:
    said: dict[int, str] = {}
    for frame in events:
        chunk = frame.chunk
        if chunk:
            for choice in chunk.get("choices") or []:
                said[choice["index"]] = said.get(choice["index"], "") + text_of(choice)
                if choice.get("finish_reason"):
                    say(choice, said[choice["index"]])
            frame = frame.with_chunk(chunk)
        yield frame


def _twice(events: Iterator[Frame]) -> Iterator[Frame]:
    kept = list(events)
    last = max(
        (
            i
            for i, f in enumerate(kept)
            if f.chunk
            and any(text_of(c) and not c.get("finish_reason") for c in f.chunk.get("choices") or [])
        ),
        default=-1,
    )
    for i, frame in enumerate(kept):
        yield frame
        if i == last:
            yield frame


def _only(events: Iterator[Frame], keep: Callable[[int], bool]) -> Iterator[Frame]:
    i = 0
    for frame in events:
        chunk = frame.chunk
        if chunk and any(
            text_of(c) and not c.get("finish_reason") for c in chunk.get("choices") or []
        ):
            i += 1
            if not keep(i - 1):
                continue
        yield frame


def _first_space(events: Iterator[Frame]) -> Iterator[Frame]:
    begun = set()
    for frame in events:
        chunk = frame.chunk
        if chunk:
            for choice in chunk.get("choices") or []:
                if text_of(choice) and choice["index"] not in begun:
                    begun.add(choice["index"])
                    say(choice, text_of(choice).removeprefix(" "))
            frame = frame.with_chunk(chunk)
        yield frame


def _own_ids(events: Iterator[Frame]) -> Iterator[Frame]:
    for i, frame in enumerate(events):
        chunk = frame.chunk
        yield (
            frame.with_chunk(chunk | {"id": f"{chunk['id']}-{i}"})
            if chunk and "id" in chunk
            else frame
        )


def _mixed(events: Iterator[Frame]) -> Iterator[Frame]:
    kept = list(events)
    for choice_chunk in kept:
        chunk = choice_chunk.chunk
        for choice in (chunk or {}).get("choices") or []:
            if choice.get("finish_reason") and choice["index"] in (0, 1):
                choice["index"] = 1 - choice["index"]
        yield choice_chunk.with_chunk(chunk) if chunk else choice_chunk


def _first_end(events: Iterator[Frame]) -> Iterator[Frame]:
    over = False
    for frame in events:
        chunk = frame.chunk
        if over and chunk and chunk.get("choices"):
            continue
        yield frame
        over = over or any(c.get("finish_reason") for c in (chunk or {}).get("choices") or [])


def _cut_after(events: Iterator[Frame], count: int) -> Iterator[Frame]:
    seen = 0
    for frame in events:
        chunk = frame.chunk
        if chunk and chunk.get("choices"):
            seen += 1
            if seen == count:
                for choice in chunk["choices"]:
                    choice["finish_reason"] = "length"
                yield frame.with_chunk(chunk)
                continue
            if seen > count:
                continue
        yield frame


def _empty_first(events: Iterator[Frame]) -> Iterator[Frame]:
    first = True
    for frame in events:
        chunk = frame.chunk
        if first and chunk:
            first = False
            yield frame.with_chunk(
                {k: v for k, v in chunk.items() if k != "usage"} | {"choices": []}
            )
        yield frame


def _joined(events: Iterator[Frame]) -> Iterator[Frame]:
    held: Body | None = None
    for frame in events:
        chunk = frame.chunk
        choice = ((chunk or {}).get("choices") or [{}])[0]
        if (
            chunk
            and held is None
            and text_of(choice)
            and not choice.get("finish_reason")
            and not choice.get("logprobs")
        ):
            held = chunk
            continue
        if held is not None:
            if (
                chunk
                and choice
                and text_of(choice)
                and choice.get("index") == held["choices"][0]["index"]
            ):
                say(choice, text_of(held["choices"][0]) + text_of(choice))
                frame = frame.with_chunk(chunk)
            else:
                yield frame.with_chunk(held)
            held = None
        yield frame


# --- logprobs -------------------------------------------------------------------------------------

fault("logprobs are ignored in streams", drop_if(streamed, "logprobs", "top_logprobs"))
fault("logprobs are ignored with n", drop_if(many, "logprobs", "top_logprobs"))
fault(
    "logprobs are missing in the last chunk", last_of_choice(lambda c, a: c.update(logprobs=None))
)
fault(
    "logprobs need top_logprobs",
    asks(
        lambda b: (
            b.pop("logprobs", None)
            if b.get("logprobs") is True and not b.get("top_logprobs")
            else None
        ),
        (H,),
    ),
)
fault(
    "only the first choice has logprobs",
    choices(lambda c, a: c.update(logprobs=None) if c.get("index", 0) > 0 else None),
)
fault(
    "top_logprobs lack the least likely",
    entries(
        lambda found, a: (
            [
                e.update(top_logprobs=e["top_logprobs"][:-1])
                for e in found
                if len(e["top_logprobs"]) > 1
            ]
            and None
        )
    ),
)
fault(
    "top_logprobs lack the token that was drawn",
    entries(
        lambda found, a: (
            [
                e.update(top_logprobs=[t for t in e["top_logprobs"] if t["token"] != e["token"]])
                for e in found
            ]
            and None
        )
    ),
)
fault(
    "top_logprobs are those of the first token",
    entries(
        lambda found, a: [e.update(top_logprobs=found[0]["top_logprobs"]) for e in found] and None
    ),
)
fault(
    "top_logprobs are not sorted",
    entries(lambda found, a: [e["top_logprobs"].reverse() for e in found] and None),
)
fault(
    "token bytes are code points",
    entries(
        lambda found, a: [e.update(bytes=[ord(ch) for ch in e["token"]]) for e in found] and None
    ),
)
fault(
    "token bytes are null", entries(lambda found, a: [e.update(bytes=None) for e in found] and None)
)
fault(
    "bytes of alternatives are missing",
    entries(lambda found, a: [t.pop("bytes") for e in found for t in e["top_logprobs"]] and None),
)
fault(
    "logprobs are shifted by one",
    entries(
        lambda found, a: (
            [e.update(logprob=n["logprob"]) for e, n in itertools.pairwise(found)] and None
        )
    ),
)
fault(
    "the last logprob is missing", entries(lambda found, a: found[:-1] if len(found) > 1 else None)
)
fault(
    "logprobs of chat are of base ten",
    entries(
        lambda found, a: (
            [
                t.update(logprob=t["logprob"] / 2.302585)
                for e in found
                for t in (e, *e["top_logprobs"])
            ]
            and None
        )
    ),
)
fault(
    "logprobs of completions are of base two",
    legacy(
        lambda lp, a: lp.update(
            token_logprobs=[None if v is None else v / 0.693147 for v in lp["token_logprobs"]]
        )
    ),
)
fault(
    "logprobs are rounded to one digit",
    legacy(
        lambda lp, a: lp.update(
            token_logprobs=[None if v is None else round(v, 1) for v in lp["token_logprobs"]]
        )
    ),
)
fault(
    "logprobs are probabilities",
    entries(
        lambda found, a: (
            [
                t.update(logprob=2.718281828 ** t["logprob"])
                for e in found
                for t in (e, *e["top_logprobs"])
            ]
            and None
        )
    ),
)
fault(
    "logprobs past the sixteenth token are those of the sixteenth",
    legacy(
        lambda lp, a: (
            lp.update(
                token_logprobs=lp["token_logprobs"][:16]
                + [lp["token_logprobs"][15]] * (len(lp["token_logprobs"]) - 16)
            )
            if len(lp["token_logprobs"]) > 16
            else None
        )
    ),
)
fault(
    "logprobs are those of the drawn temperature",
    legacy(
        lambda lp, a: (
            lp.update(
                token_logprobs=[
                    None if v is None else v / a["temperature"] for v in lp["token_logprobs"]
                ]
            )
            if a.get("temperature") not in (None, 0, 1)
            else None
        )
    ),
)
fault("text offsets count bytes", legacy(lambda lp, a: lp.update(text_offset=_byte_offsets(lp))))
fault(
    "text offsets start anew in each chunk",
    chunks(
        lambda c, a: [
            x["logprobs"].update(text_offset=[0 for _ in x["logprobs"]["text_offset"]])
            for x in c.get("choices") or []
            if x.get("logprobs")
        ],
        (C,),
    ),
)
fault(
    "text offsets leave the echoed prompt out in streams",
    stream(lambda events, ask: _offsets(events, ask), (C,), lambda b: b.get("echo")),
)
fault(
    "text offsets are all minus one",
    legacy(lambda lp, a: lp.update(text_offset=[-1] * len(lp["text_offset"]))),
)
fault(
    "the first echoed token has a logprob",
    legacy(
        lambda lp, a: (
            lp.update(token_logprobs=[-1.0, *lp["token_logprobs"][1:]])
            if lp["token_logprobs"][0] is None
            else None
        )
    ),
)
fault(
    "echoed tokens have no logprobs",
    legacy(
        lambda lp, a: (
            _cut_legacy(
                lp, next((i for i, v in enumerate(lp["token_logprobs"]) if v is None), -1) + 1
            )
            if a.get("echo") and lp["token_logprobs"][0] is None
            else None
        )
    ),
)
fault(
    "top_logprobs of completions are a list",
    legacy(
        lambda lp, a: lp.update(
            top_logprobs=[
                None if t is None else [{"token": k, "logprob": v} for k, v in t.items()]
                for t in lp["top_logprobs"]
            ]
        )
    ),
)
fault(
    "completions have one alternative less than asked for",
    legacy(
        lambda lp, a: (
            lp.update(
                top_logprobs=[
                    None if t is None else dict(list(t.items())[:-1]) for t in lp["top_logprobs"]
                ]
            )
            if (a.get("logprobs") or 0) > 1
            else None
        )
    ),
)
fault(
    "tokens of logprobs have the tokenizer's marks",
    legacy(lambda lp, a: lp.update(tokens=[t.replace(" ", "\u0120") for t in lp["tokens"]])),
)
fault("prompt_logprobs are ignored by chat", drop_if(lambda b: "messages" in b, "prompt_logprobs"))
fault("prompt_logprobs lack the last token", prompt_logprobs(lambda found: found[:-1]))
fault(
    "prompt_logprobs have a first entry",
    prompt_logprobs(lambda found: [found[1] if len(found) > 1 else None, *found[1:]]),
)
fault(
    "prompt_logprobs have ranks from zero",
    prompt_logprobs(
        lambda found: [
            None if e is None else {k: v | {"rank": v["rank"] - 1} for k, v in e.items()}
            for e in found
        ]
    ),
)
fault(
    "prompt_logprobs lack the prompt's own token",
    prompt_logprobs(
        lambda found: [
            None if e is None else dict(list(e.items())[1:] or list(e.items())) for e in found
        ]
    ),
)
fault(
    "prompt_logprobs of the first chunk of a long prompt are null",
    prompt_logprobs(lambda found: [None] * 64 + found[64:] if len(found) > 128 else None),
)
fault("prompt_logprobs of a second request are of its end only", lambda: _prompt_logprobs_cached())
fault(
    "prompt_logprobs are those of the token before",
    prompt_logprobs(lambda found: [None, found[1], *found[1:-1]] if len(found) > 2 else None),
)
fault(
    "prompt_logprobs of a batch are of its first prompt",
    whole(
        lambda b, a: [
            c.update(prompt_logprobs=b["choices"][0].get("prompt_logprobs"))
            for c in b["choices"]
            if "prompt_logprobs" in c
        ],
        (C,),
        batched,
    ),
)
fault(
    "decoded_token is missing in prompt_logprobs",
    prompt_logprobs(
        lambda found: [
            None
            if e is None
            else {k: {n: x for n, x in v.items() if n != "decoded_token"} for k, v in e.items()}
            for e in found
        ]
    ),
)
fault(
    "prompt_logprobs name tokens by text",
    prompt_logprobs(
        lambda found: [
            None if e is None else {v["decoded_token"]: v for v in e.values()} for e in found
        ]
    ),
)
fault(
    "return_tokens_as_token_ids is ignored by chat",
    drop_if(lambda b: "messages" in b, "return_tokens_as_token_ids"),
)
fault("return_token_ids is ignored in streams", drop_if(streamed, "return_token_ids"))
fault(
    "token_ids lack the stop token",
    choices(
        lambda c, a: (
            c.update(token_ids=c["token_ids"][:-1])
            if c.get("token_ids") and c.get("finish_reason") == "stop"
            else None
        )
    ),
)
fault(
    "prompt_token_ids lack the beginning token",
    whole(
        lambda b, a: [
            h.update(prompt_token_ids=h["prompt_token_ids"][1:])
            for h in (b, *b["choices"])
            if h.get("prompt_token_ids")
        ]
    ),
)


def _byte_offsets(lp: Body) -> list[int]:
    start = lp["text_offset"][0]
    found = []
    for token in lp["tokens"]:
        found.append(start)
        start += len(token.encode())
    return found


def _cut_legacy(lp: Body, _: int) -> None:
    count = sum(1 for _ in lp["tokens"]) - 1
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        if lp.get(name):
            lp[name] = lp[name][-max(1, min(3, count)) :]


def _offsets(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    prompt = ask["prompt"] if isinstance(ask.get("prompt"), str) else ""
    first = True
    for frame in events:
        chunk = frame.chunk
        for choice in (chunk or {}).get("choices") or []:
            lp = choice.get("logprobs")
            if lp and not first:
                lp["text_offset"] = [o - len(prompt) for o in lp["text_offset"]]
        if chunk and chunk.get("choices"):
            first = False
        yield frame.with_chunk(chunk) if chunk else frame


def _prompt_logprobs_cached() -> Apply:
    seen: set[str] = set()

    def edit(reply: Reply, ask: Ask) -> None:
        body = reply.body
        key = json.dumps(ask.body.get("prompt") or ask.body.get("messages"))
        with lock:
            again, _ = key in seen, seen.add(key)
        if again and isinstance(body, dict):
            for holder in (body, *(body.get("choices") or [])):
                found = holder.get("prompt_logprobs")
                if isinstance(found, list) and len(found) > 17:
                    holder["prompt_logprobs"] = found[16:]
            put(reply, body)

    lock = threading.Lock()
    return replies(edit, GEN, lambda reply, ask: reply.status == 200 and not reply.is_stream)()


# --- chat -----------------------------------------------------------------------------------------

fault(
    "system messages are ignored",
    messages(lambda m: [x for x in m if x.get("role") != "system"]),
    "chat",
)
fault("only the last message counts", messages(lambda m: m[-1:]), "chat")
fault("only the last four messages count", messages(lambda m: m[-4:]), "chat")
fault(
    "assistant messages are ignored",
    messages(lambda m: [x for x in m[:-1] if x.get("role") != "assistant"] + m[-1:]),
    "chat",
)
fault(
    "the first user message is lost when a system message is given",
    messages(lambda m: [m[0], *m[2:]] if len(m) > 3 and m[0].get("role") == "system" else None),
    "chat",
)
fault(
    "system messages go to the front",
    messages(lambda m: sorted(m, key=lambda x: x.get("role") != "system")),
    "chat",
)
fault("two messages of a user are merged", messages(lambda m: _merged(m)), "chat")
fault("only the first content part counts", messages(lambda m: _parts(m, lambda p: p[:1])), "chat")
fault("only the last content part counts", messages(lambda m: _parts(m, lambda p: p[-1:])), "chat")
fault("content parts are joined with a space", messages(lambda m: _parts_text(m, " ")), "chat")
fault("content parts are joined without a line end", messages(lambda m: _parts_text(m, "")), "chat")
fault("contents are stripped", contents(str.strip), "chat")
fault("contents are lower case", contents(str.lower), "chat")
fault("line ends in contents are spaces", contents(lambda t: t.replace("\n", " ")), "chat")
fault(
    "contents beyond ASCII are escaped",
    contents(lambda t: t.encode("ascii", "backslashreplace").decode()),
    "chat",
)
fault(
    "letters beyond ASCII of contents are lost",
    contents(lambda t: t.encode("ascii", "ignore").decode()),
    "chat",
)
fault("long contents are cut at 512 letters", contents(lambda t: t[:512]), "chat")
fault("long contents are cut at 2000 letters", contents(lambda t: t[:2000]), "chat")
fault(
    "continue_final_message is ignored",
    drop_if(lambda b: True, "continue_final_message", "add_generation_prompt"),
    "chat",
)
fault(
    "add_generation_prompt false is ignored",
    drop_if(
        lambda b: b.get("add_generation_prompt") is False and not b.get("continue_final_message"),
        "add_generation_prompt",
    ),
    "chat",
)
fault(
    "chat echoes the final message without being asked",
    asks(lambda b: b.update(echo=True) if b.get("continue_final_message") else None, (H,)),
    "chat",
)
fault("chat_template_kwargs are ignored", drop_if(lambda b: True, "chat_template_kwargs"), "chat")
fault(
    "add_special_tokens is ignored by chat",
    drop_if(lambda b: "messages" in b, "add_special_tokens"),
    "chat",
)
fault(
    "add_special_tokens is ignored by completions",
    drop_if(lambda b: "prompt" in b, "add_special_tokens"),
)
fault(
    "skip_special_tokens is ignored by chat",
    drop_if(lambda b: "messages" in b, "skip_special_tokens"),
    "chat",
)
fault("skip_special_tokens is ignored in streams", drop_if(streamed, "skip_special_tokens"))
fault(
    "chat has null content where it is empty",
    whole(
        lambda b, a: [
            c["message"].update(content=None)
            for c in b["choices"]
            if c["message"].get("content") == ""
        ],
        (H,),
    ),
    "chat",
)
fault(
    "developer messages are ignored",
    messages(lambda m: [x for x in m if x.get("role") != "developer"]),
    "chat",
)
fault(
    "a default system message is put before",
    messages(
        lambda m: (
            [{"role": "system", "content": "You are a helpful assistant."}, *m]
            if m[0].get("role") != "system"
            else None
        )
    ),
    "chat",
)
fault(
    "the name of a message is part of its content",
    messages(
        lambda m: [
            x | {"content": f"{x['name']}: {x['content']}"}
            if x.get("name") and isinstance(x.get("content"), str)
            else x
            for x in m
        ]
    ),
    "chat",
)
fault(
    "chat repeats the user's text",
    whole(
        lambda b, a: [
            say(c, a["messages"][-1]["content"] + text_of(c))
            for c in b["choices"]
            if isinstance(a.get("messages"), list)
            and isinstance(a["messages"][-1].get("content"), str)
        ],
        (H,),
    ),
    "chat",
)
fault(
    "chat answers start with a space",
    whole(lambda b, a: [say(c, " " + text_of(c)) for c in b["choices"]], (H,)),
    "chat",
)
fault(
    "chat answers are stripped",
    whole(lambda b, a: [say(c, text_of(c).strip()) for c in b["choices"]], (H,)),
    "chat",
)
fault(
    "a trailing line end of an answer is lost", texts(lambda t: t[:-1] if t.endswith("\n") else t)
)
fault(
    "answers longer than 200 letters are cut",
    whole(lambda b, a: [say(c, text_of(c)[:200]) for c in b["choices"]]),
)


def _merged(found: list[Body]) -> list[Body]:
    new: list[Body] = []
    for message in found:
        plain_text = isinstance(message.get("content"), str)
        if (
            new
            and plain_text
            and new[-1].get("role") == message.get("role") == "user"
            and isinstance(new[-1].get("content"), str)
        ):
            new[-1] = new[-1] | {"content": new[-1]["content"] + "\n" + message["content"]}
        else:
            new.append(message)
    return new


def _parts(found: list[Body], change: Callable[[list[Any]], list[Any]]) -> list[Body]:
    return [
        m | {"content": change(m["content"])} if isinstance(m.get("content"), list) else m
        for m in found
    ]


def _parts_text(found: list[Body], joint: str) -> list[Body]:
    return [
        m | {"content": joint.join(p.get("text", "") for p in m["content"])}
        if isinstance(m.get("content"), list)
        and all(isinstance(p, dict) and p.get("type") == "text" for p in m["content"])
        else m
        for m in found
    ]


# --- prompts --------------------------------------------------------------------------------------

fault(
    "prompts are stripped",
    asks(
        lambda b: (
            b.update(prompt=b["prompt"].strip() or b["prompt"])
            if isinstance(b.get("prompt"), str)
            else None
        ),
        (C,),
    ),
)
fault("prompts of more than 256 tokens lose their beginning", prompts(lambda ids: ids[-256:]))
fault("prompts of more than 512 tokens lose their end", prompts(lambda ids: ids[:512]))
fault(
    "prompts of more than 1024 tokens lose their middle",
    prompts(lambda ids: ids[:512] + ids[-512:] if len(ids) > 1024 else None),
)
fault("prompts of more than 2048 tokens lose their beginning", prompts(lambda ids: ids[-2048:]))
fault(
    "prompts of token ids get a beginning token",
    asks(lambda b: b.update(prompt=[0, *b["prompt"]]) if of_ids(b) else None, (C,)),
)
fault(
    "prompts of text get no beginning token",
    asks(lambda b: b.setdefault("add_special_tokens", False), (C,)),
)
fault(
    "prompts of text get two beginning tokens",
    prompts(lambda ids: [ids[0], *ids] if ids and ids[0] == 0 else None),
)
fault(
    "truncate_prompt_tokens is ignored by chat",
    drop_if(lambda b: "messages" in b, "truncate_prompt_tokens"),
)
fault(
    "truncate_prompt_tokens keeps one too many",
    num(lambda v: v + 1 if v > 0 else v, "truncate_prompt_tokens"),
)


def _other_side() -> Apply:
    def apply(ask: Ask, forward: Forward) -> Reply:
        body = ask.body
        keep = body.get("truncate_prompt_tokens")
        if (
            ask.route == C
            and isinstance(keep, int)
            and keep > 0
            and isinstance(body.get("prompt"), str)
        ):
            ids = ids_of(forward, ask, body["prompt"])
            if len(ids) > keep:
                body["prompt"] = ids[:keep]
                del body["truncate_prompt_tokens"]
                return forward(ask.with_body(body))
        return forward(ask)

    return apply


fault("truncate_prompt_tokens keeps the beginning", _other_side)

# --- structured outputs ---------------------------------------------------------------------------


def _form(
    kind: str, new: Callable[[Body], Any], when: Callable[[Body], Any] = lambda b: True
) -> Start:
    def edit(body: Body) -> None:
        form = body.get("response_format")
        if isinstance(form, dict) and form.get("type") == kind and when(body):
            value = new(form)
            if value is None:
                del body["response_format"]
            else:
                body["response_format"] = value

    return asks(edit, GEN)


def _outputs(change: Callable[[Body], Any], when: Callable[[Body], Any] = lambda b: True) -> Start:
    def edit(body: Body) -> None:
        outputs = body.get("structured_outputs")
        if isinstance(outputs, dict) and when(body):
            change(outputs)
            if not outputs:
                del body["structured_outputs"]

    return asks(edit, GEN)


def without(*names: str) -> Callable[[Body], Any]:
    return lambda schema: [
        schema.pop(n)
        for n in names
        if n in schema and not isinstance(schema.get("properties", {}).get(n), dict)
    ]


fault(
    "json_schema is taken as json_object", _form("json_schema", lambda f: {"type": "json_object"})
)
fault("json_object is ignored", _form("json_object", lambda f: None))
fault("json_schema is ignored in streams", _form("json_schema", lambda f: None, streamed))
fault("json_schema is ignored with n", _form("json_schema", lambda f: None, many))
fault(
    "json_schema is ignored by completions",
    _form("json_schema", lambda f: None, lambda b: "prompt" in b),
)
fault("structured outputs are ignored in streams", _outputs(dict.clear, streamed))
fault("structured outputs are ignored by chat", _outputs(dict.clear, lambda b: "messages" in b))
fault("structured outputs are ignored with n", _outputs(dict.clear, many))
fault(
    "structured outputs are ignored with logprobs",
    _outputs(dict.clear, lambda b: b.get("logprobs")),
)
fault("a regex is ignored", _outputs(lambda o: o.pop("regex", None)))
fault("a grammar is ignored", _outputs(lambda o: o.pop("grammar", None)))
fault(
    "only the first choice is allowed",
    _outputs(lambda o: o.update(choice=o["choice"][:1]) if o.get("choice") else None),
)
fault(
    "the last choice is not allowed",
    _outputs(
        lambda o: (
            o.update(choice=o["choice"][:-1]) if o.get("choice") and len(o["choice"]) > 1 else None
        )
    ),
)
fault("required is ignored in schemas", schemas(without("required")))
fault("enum is ignored in schemas", schemas(without("enum", "const")))
fault("lengths are ignored in schemas", schemas(without("minLength", "maxLength")))
fault("patterns are ignored in schemas", schemas(without("pattern", "format")))
fault("numbers of items are ignored in schemas", schemas(without("minItems", "maxItems")))
fault(
    "limits of numbers are ignored in schemas",
    schemas(without("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
)
fault(
    "additional properties are allowed",
    schemas(lambda s: s.update(additionalProperties=True) if s.get("type") == "object" else None),
)
fault(
    "integers may be numbers",
    schemas(lambda s: s.update(type="number") if s.get("type") == "integer" else None),
)
fault("schemas are remembered by name", lambda: _schema_cache())
fault(
    "JSON answers are fenced",
    whole(
        lambda b, a: [say(c, "```json\n" + text_of(c) + "\n```") for c in b["choices"]],
        GEN,
        lambda b: (
            isinstance(b.get("response_format"), dict)
            and b["response_format"].get("type") in ("json_object", "json_schema")
        ),
    ),
)
fault(
    "JSON answers have single quotes",
    whole(
        lambda b, a: [say(c, text_of(c).replace('"', "'")) for c in b["choices"]],
        GEN,
        lambda b: isinstance(b.get("response_format"), dict),
    ),
)
fault("response_format text gives JSON", _form("text", lambda f: {"type": "json_object"}))


def _schema_cache() -> Apply:
    seen: dict[str, Any] = {}

    def edit(body: Body) -> None:
        form = body.get("response_format")
        if isinstance(form, dict) and isinstance(form.get("json_schema"), dict):
            name = str(form["json_schema"].get("name"))
            form["json_schema"] = seen.setdefault(name, form["json_schema"])

    return asks(edit, GEN)()


# --- concurrency, caches --------------------------------------------------------------------------


def caching(key: Callable[[Ask], Any], keep: Callable[[Ask], Any] = lambda ask: True) -> Start:
    """A gateway that answers again what it answered before to the same key."""

    def begin() -> Apply:
        known: dict[str, bytes] = {}

        def apply(ask: Ask, forward: Forward) -> Reply:
            if ask.route not in GEN or not ask.body or streamed(ask.body) or not keep(ask):
                return forward(ask)
            name = ask.route + json.dumps(key(ask), sort_keys=True)
            if name in known:
                return Reply(200, {"content-type": "application/json"}, [known[name]])
            reply = forward(ask)
            content = reply.read()
            if reply.status == 200 and not reply.is_stream:
                known[name] = content
            return reply

        return apply

    return begin


def _but(*names: str) -> Callable[[Ask], Any]:
    return lambda ask: {k: v for k, v in ask.body.items() if k not in names}


fault("the same request is answered from a cache", caching(lambda ask: ask.body))
fault(
    "the same greedy request is answered from a cache with another id",
    caching(lambda ask: ask.body, lambda ask: ask.body.get("temperature") == 0),
)
fault("a cache does not look at the seed", caching(_but("seed")))
fault("a cache does not look at stop", caching(_but("stop", "stop_token_ids")))
fault(
    "a cache does not look at the system message",
    caching(
        lambda ask: (
            ask.body
            if "messages" not in ask.body or not isinstance(ask.body["messages"], list)
            else ask.body
            | {
                "messages": [
                    m
                    for m in ask.body["messages"]
                    if isinstance(m, dict) and m.get("role") != "system"
                ]
            }
        )
    ),
)
fault(
    "a cache looks at the first 256 letters of a prompt",
    caching(
        lambda ask: (
            ask.body
            | {
                "prompt": str(ask.body.get("prompt"))[:256],
                "messages": str(ask.body.get("messages"))[:256],
            }
        )
    ),
)


def _prefix_hit() -> Apply:
    """The first block of a prompt is another's when its prefix was seen before."""
    seen: set[tuple[int, ...]] = set()
    lock = threading.Lock()

    def change(ids: list[int]) -> list[int] | None:
        if len(ids) <= 32:
            return None
        with lock:
            hit = tuple(ids[:32]) in seen
            seen.add(tuple(ids[:32]))
        return [*ids[:1], *ids[16:17], *ids[2:]] if hit else None

    return prompts(change)()


fault("a second prompt with the same prefix has a wrong block", _prefix_hit)


def _neighbours() -> Apply:
    """With more than three on their way, one gets the text of another."""
    active: list[Ask] = []
    lock = threading.Lock()
    count = [0]

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route not in GEN or streamed(ask.body) or not ask.body:
            return forward(ask)
        with lock:
            same = [a for a in active if a.route == ask.route]
            active.append(ask)
            count[0] += 1
            use = same[0] if len(same) > 3 and count[0] % 5 == 0 else ask
        try:
            if use is not ask:
                kept = "prompt" if ask.route == C else "messages"
                return forward(ask.with_body(ask.body | {kept: use.body.get(kept)}))
            return forward(ask)
        finally:
            with lock:
                active.remove(ask)

    return apply


fault("one of five concurrent requests gets another's prompt", _neighbours)


def every(nth: int, change: Callable[[Body, Body], Any], paths: tuple[str, ...] = GEN) -> Start:
    """Change every nth unstreamed answer."""

    def begin() -> Apply:
        count = [0]
        lock = threading.Lock()

        def edit(body: Body, ask: Body) -> None:
            with lock:
                count[0] += 1
                hit = count[0] % nth == 0
            if hit:
                change(body, ask)

        return whole(edit, paths)()

    return begin


fault("every twentieth answer is empty", every(20, lambda b, a: [say(c, "") for c in b["choices"]]))
fault("every twentieth answer has no usage", every(20, lambda b, a: b.update(usage=None)))
fault(
    "every tenth answer has no finish reason",
    every(10, lambda b, a: [c.update(finish_reason=None) for c in b["choices"]]),
)
fault("ids are one of a thousand", lambda: _few_ids())
fault(
    "ids are those of the process",
    objects(lambda b, a: b.update(id="cmpl-1" if b["id"].startswith("cmpl") else "chatcmpl-1")),
)
fault(
    "greedy answers change after 64 tokens",
    whole(lambda b, a: [say(c, text_of(c)[:150] + text_of(c)[150:][::-1]) for c in b["choices"]]),
)


def _few_ids() -> Apply:
    count = [0]
    lock = threading.Lock()

    def edit(body: Body, ask: Body) -> None:
        with lock:
            count[0] += 1
        body["id"] = f"{body['id'].partition('-')[0]}-{count[0] % 50}"

    return whole(edit, GEN)()


fault(
    "the model is the path of its files",
    objects(lambda b, a: b.update(model="/models/" + str(b["model"]).rpartition("/")[2])),
)
fault(
    "the object of chat answers is that of completions",
    whole(lambda b, a: b.update(object="text_completion"), (H,)),
)
fault(
    "the message has no role",
    whole(lambda b, a: [c["message"].pop("role") for c in b["choices"]], (H,)),
)
fault(
    "the role of the message is user",
    whole(lambda b, a: [c["message"].update(role="user") for c in b["choices"]], (H,)),
)
fault(
    "text is a list", whole(lambda b, a: [c.update(text=[c["text"]]) for c in b["choices"]], (C,))
)
fault(
    "the index is a string",
    whole(lambda b, a: [c.update(index=str(c["index"])) for c in b["choices"]]),
)
fault("the answer says nothing about the model", whole(lambda b, a: b.pop("model")))
fault(
    "max_tokens of greedy requests is ignored by one token",
    asks(
        lambda b: (
            b.update(max_tokens=b["max_tokens"] + 1)
            if b.get("temperature") == 0 and number(b.get("max_tokens")) and b["max_tokens"] > 20
            else None
        )
    ),
)
fault(
    "detokenize drops spaces before punctuation",
    texts(lambda t: t.replace(" .", ".").replace(" ,", ",")),
)
fault(
    "replies of completions are trimmed at the first line end",
    whole(lambda b, a: [say(c, text_of(c).split("\n")[0]) for c in b["choices"]], (C,)),
)
