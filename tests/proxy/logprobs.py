"""Faults of logprobs: numbers, tokens, bytes, offsets and shapes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tests.proxy.fault import C, Fault, H, choices, chunks, each_choice, objects, whole
from tests.proxy.messages import Body
from tests.proxy.surface import fails

F = Fault


def legacy(change: Callable[[Body], Any]) -> Callable[[Body, Body], Any]:
    """Change the logprobs of a completion's choice."""
    return lambda choice, ask: choice.get("logprobs") and change(choice["logprobs"])


def content(change: Callable[[list[Body]], Any]) -> Callable[[Body, Body], Any]:
    """Change the logprobs of a chat choice: a list of tokens."""
    return lambda choice, ask: (
        (choice.get("logprobs") or {}).get("content") and change(choice["logprobs"]["content"])
    )


def _each(change: Callable[[Body], Any]) -> Callable[[list[Body]], Any]:
    return lambda tokens: [change(token) for token in tokens] and None


def _numbers(change: Callable[[float], float]) -> Callable[[Body, Body], Any]:
    """Change every logprob of a choice, old style or new."""

    def edit(choice: Body, ask: Body) -> None:
        found = choice.get("logprobs") or {}
        if "token_logprobs" in found:
            found["token_logprobs"] = [
                x if x is None else change(x) for x in found["token_logprobs"]
            ]
            for top in found.get("top_logprobs") or []:
                top and top.update({k: change(v) for k, v in top.items()})
        for token in found.get("content") or []:
            token["logprob"] = change(token["logprob"])
            for top in token.get("top_logprobs") or []:
                top["logprob"] = change(top["logprob"])

    return edit


def _reverse(tokens: list[Body]) -> None:
    for token in tokens:
        token["top_logprobs"].reverse()


def _drop_one_top(lp: Body) -> None:
    for top in lp.get("top_logprobs") or []:
        if top and len(top) > 1:
            top.pop(min(top, key=lambda token: top[token]))


def _sampled_shift(lp: Body) -> None:
    lp["token_logprobs"] = [x if x is None else x - 0.5 for x in lp["token_logprobs"]]


def _prompt(change: Callable[[list[Any]], Any]) -> Callable[[Body, Body], Any]:
    """Change prompt_logprobs, wherever they are."""

    def edit(body: Body, ask: Body) -> None:
        for place in (body, *(body.get("choices") or [])):
            if place.get("prompt_logprobs"):
                change(place["prompt_logprobs"])

    return edit


def _no_none(entries: list[Any]) -> None:
    entries[0] = {"1": {"logprob": 0.0, "rank": 1, "decoded_token": "x"}}


def _shift_ranks(entries: list[Any]) -> None:
    for entry in entries:
        for one in (entry or {}).values():
            one["rank"] -= 1


def _shift_values(entries: list[Any]) -> None:
    for entry in entries:
        for one in (entry or {}).values():
            one["logprob"] -= 0.7


FAULTS = [
    F("logprobs_are_null", "llama.cpp#11346", choices(lambda c, a: c.update(logprobs=None))),
    F(
        "logprobs_are_empty",
        "tenstorrent-vllm#343",
        choices(content(lambda t: t.clear()), (H,)),
        "chat",
    ),
    F(
        "logprobs_make_500",
        "vllm-metal#331",
        fails(
            500,
            "list index out of range",
            lambda b: b.get("logprobs") is not None and "prompt" in b,
        ),
    ),
    F(
        "chat_logprobs_make_500",
        "tenstorrent-vllm#343",
        fails(500, "list index out of range", lambda b: b.get("logprobs") and "messages" in b),
        "chat",
    ),
    F("logprobs_are_probabilities", "vllm#9453", choices(_numbers(math.exp))),
    F("logprobs_are_base_10", "vllm#9453", choices(_numbers(lambda x: x / math.log(10)))),
    F("logprobs_are_after_temperature", "vllm#9453", choices(_numbers(lambda x: x * 0.5))),
    F("logprobs_are_a_bit_off", "vllm#15381", choices(_numbers(lambda x: x - 0.2))),
    F("logprobs_are_all_zero", "vllm#17637", choices(_numbers(lambda x: 0.0))),
    F("logprobs_are_minus_9999", "vllm#17637", choices(_numbers(lambda x: -9999.0))),
    F("sampled_logprob_differs_from_top", "vllm#15381", choices(legacy(_sampled_shift), (C,))),
    F(
        "logprobs_one_token_short",
        "vllm#37071",
        whole(
            each_choice(
                legacy(
                    lambda lp: [
                        lp[k].pop()
                        for k in ("tokens", "token_logprobs", "text_offset")
                        if lp.get(k)
                    ]
                )
            ),
            (C,),
        ),
    ),
    F(
        "chat_logprobs_one_token_short",
        "vllm#37071",
        whole(each_choice(content(lambda t: t.pop())), (H,)),
        "chat",
    ),
    F(
        "logprobs_one_late",
        "llama.cpp#27174",
        whole(
            each_choice(
                legacy(
                    lambda lp: lp.update(
                        token_logprobs=[lp["token_logprobs"][-1], *lp["token_logprobs"][:-1]]
                    )
                )
            ),
            (C,),
        ),
    ),
    F("top_logprobs_one_short", "vllm#3707", choices(legacy(_drop_one_top), (C,))),
    F(
        "chat_top_logprobs_one_short",
        "vllm#4795",
        choices(content(_each(lambda t: t["top_logprobs"] and t["top_logprobs"].pop())), (H,)),
        "chat",
    ),
    F(
        "top_logprobs_are_null",
        "llama.cpp#11346",
        choices(legacy(lambda lp: lp.update(top_logprobs=None)), (C,)),
    ),
    F("top_logprobs_reversed", "vllm#15381", choices(content(_reverse), (H,)), "chat"),
    F(
        "logprob_bytes_are_null",
        "vllm#4795",
        choices(content(_each(lambda t: t.update(bytes=None))), (H,)),
        "chat",
    ),
    F(
        "logprob_bytes_are_wrong",
        "vllm#4795",
        choices(content(_each(lambda t: t.update(bytes=[*t["bytes"], 32]))), (H,)),
        "chat",
    ),
    F(
        "logprob_tokens_are_raw",
        "vllm#4577",
        choices(
            legacy(lambda lp: lp.update(tokens=[t.replace(" ", "\u0120") for t in lp["tokens"]])),
            (C,),
        ),
    ),
    F(
        "chat_logprob_tokens_are_raw",
        "vllm#4577",
        choices(content(_each(lambda t: t.update(token=t["token"].replace(" ", "\u0120")))), (H,)),
        "chat",
    ),
    F(
        "text_offset_is_off_by_one",
        "vllm#5334",
        choices(legacy(lambda lp: lp.update(text_offset=[x + 1 for x in lp["text_offset"]])), (C,)),
    ),
    F(
        "text_offset_missing",
        "vllm#3707",
        choices(legacy(lambda lp: lp.pop("text_offset", 0)), (C,)),
    ),
    F(
        "stream_text_offset_restarts",
        "vllm#19368",
        chunks(
            each_choice(legacy(lambda lp: lp.update(text_offset=[0] * len(lp["text_offset"])))),
            (C,),
        ),
    ),
    F(
        "stream_logprobs_are_lost",
        "litellm#10686",
        chunks(each_choice(lambda c, a: c.update(logprobs=None))),
    ),
    F(
        "prompt_logprobs_are_none",
        "vllm-metal#680",
        objects(_prompt(lambda entries: entries.__setitem__(slice(None), [None]))),
    ),
    F("prompt_logprobs_one_short", "vllm#27477", objects(_prompt(lambda e: e.pop()))),
    F("prompt_logprobs_first_not_null", "vllm#27477", objects(_prompt(_no_none))),
    F("prompt_logprobs_ranks_from_0", "vllm#5334", objects(_prompt(_shift_ranks))),
    F("prompt_logprobs_off", "vllm#5334", objects(_prompt(_shift_values))),
    F(
        "echo_logprobs_only_generated",
        "llama.cpp#27174",
        whole(
            each_choice(
                lambda c, a: (
                    a.get("echo")
                    and c.get("logprobs")
                    and c["logprobs"].update(
                        {
                            k: v[-(a.get("max_tokens") or 16) :]
                            for k, v in c["logprobs"].items()
                            if v
                        }
                    )
                )
            ),
            (C,),
        ),
    ),
    F(
        "echo_first_logprob_is_0",
        "vllm#5334",
        whole(
            each_choice(
                legacy(
                    lambda lp: (
                        lp["token_logprobs"][0] is None and lp["token_logprobs"].__setitem__(0, 0.0)
                    )
                )
            ),
            (C,),
        ),
    ),
    F(
        "token_ids_are_shifted",
        "",
        objects(
            each_choice(
                lambda c, a: (
                    c.get("token_ids") and c.update(token_ids=[i + 1 for i in c["token_ids"]])
                )
            )
        ),
    ),
    F(
        "prompt_token_ids_are_empty",
        "",
        objects(
            lambda b, a: [
                p.update(prompt_token_ids=[])
                for p in (b, *(b.get("choices") or []))
                if p.get("prompt_token_ids")
            ]
        ),
    ),
]
