"""Faults of requests: each parameter that is accepted and ignored, or misread."""

from __future__ import annotations

from typing import Any

from tests.proxy.fault import GEN, C, Fault, H, M, R, asks, drops, sets
from tests.proxy.messages import Body

F = Fault


def _first_stop(body: Body) -> None:
    if isinstance(body.get("stop"), list):
        body["stop"] = body["stop"][:1]


def _last_prompt(body: Body) -> None:
    if isinstance(body.get("prompt"), list) and isinstance(body["prompt"][0], (str, list)):
        body["prompt"] = [body["prompt"][0]] * len(body["prompt"])


def _without_system(body: Body) -> None:
    if len(kept := [m for m in body["messages"] if m.get("role") not in ("system", "developer")]):
        body["messages"] = kept


def _last_message(body: Body) -> None:
    body["messages"] = body["messages"][-1:]


def _all_users(body: Body) -> None:
    for message in body["messages"]:
        if message.get("role") == "assistant":
            message["role"] = "user"


def _first_part(body: Body) -> None:
    for message in body["messages"]:
        if isinstance(message.get("content"), list):
            message["content"] = message["content"][:1]


def _extra_system(body: Body) -> None:
    body["messages"].insert(0, {"role": "system", "content": "You are a helpful assistant."})


def _keep_last_tokens(body: Body) -> None:
    prompt = body.get("prompt")
    if isinstance(prompt, str) and len(prompt) > 200:
        body["prompt"] = prompt[-200:]
    elif isinstance(prompt, list) and len(prompt) > 64 and isinstance(prompt[0], int):
        body["prompt"] = prompt[-64:]


def _strip_prompt(body: Body) -> None:
    if isinstance(body.get("prompt"), str):
        body["prompt"] = body["prompt"].strip() or body["prompt"]


def _plus(name: str, more: int, least: int = 1) -> Any:
    def change(body: Body) -> None:
        if isinstance(body.get(name), int):
            body[name] = max(least, body[name] + more)

    return change


def _unstrict(body: Body) -> None:
    if (body.get("response_format") or {}).get("type") == "json_schema":
        body["response_format"] = {"type": "json_object"}


IGNORED = {
    "seed": "osaurus#1793",
    "temperature": "pegainfer#237",
    "top_p": "tt-metal#44701",
    "top_k": "pegainfer#237",
    "min_p": "osaurus#1793",
    "frequency_penalty": "pegainfer#237",
    "presence_penalty": "cascadia#14",
    "repetition_penalty": "pegainfer#237",
    "logit_bias": "sglang#6171",
    "stop": "cascadia#14",
    "stop_token_ids": "vllm#3672",
    "min_tokens": "vllm#21987",
    "ignore_eos": "vllm-ascend#9260",
    "bad_words": "",
    "allowed_token_ids": "",
    "include_stop_str_in_output": "vllm#57052",
    "skip_special_tokens": "vllm#1044",
    "echo": "vllm#2706",
    "n": "sglang#3059",
    "logprobs": "llama.cpp#11346",
    "top_logprobs": "vllm#4795",
    "prompt_logprobs": "vllm-metal#680",
    "truncate_prompt_tokens": "",
    "add_special_tokens": "vllm#2012",
    "return_token_ids": "",
    "return_tokens_as_token_ids": "vllm#19368",
    "max_tokens": "cascadia#14",
    "max_completion_tokens": "orcarouter#126",
    "response_format": "ogx#529",
    "structured_outputs": "vllm#12692",
    "add_generation_prompt": "vllm#1044",
    "continue_final_message": "",
    "chat_template_kwargs": "",
    "tool_choice": "vllm#9693",
    "tools": "colibri#1698",
    "length_penalty": "",
    "use_beam_search": "",
    "top_n_tokens": "tgi#1896",
    "instructions": "",
    "max_output_tokens": "vllm#45386",
    "system": "vllm#22627",
    "stop_sequences": "vllm#45807",
    "stream_options": "freellmapi#845",
    "prompt_logprobs_chat": "vllm#27477",
    "truncation_side": "",
    "documents": "",
}
#: Neither OpenAI's nor easily seen from outside on every model.
_UNSEEN = {"length_penalty", "top_n_tokens", "prompt_logprobs_chat", "documents"}
#: What a chat model is needed for.
_CHAT = {
    "max_completion_tokens",
    "top_logprobs",
    "tool_choice",
    "tools",
    "instructions",
    "system",
    "max_output_tokens",
    "stop_sequences",
    "add_generation_prompt",
    "continue_final_message",
    "chat_template_kwargs",
}

FAULTS = [
    *(
        F(f"{name}_is_ignored", report, drops(name), "chat" if name in _CHAT else "any")
        for name, report in IGNORED.items()
        if name not in _UNSEEN
    ),
    F("chat_seed_is_ignored", "osaurus#1793", drops("seed", paths=(H,)), "chat"),
    F("chat_stop_is_ignored", "cascadia#14", drops("stop", paths=(H,)), "chat"),
    F("chat_logit_bias_is_ignored", "orcarouter#126", drops("logit_bias", paths=(H,)), "chat"),
    F("chat_temperature_is_ignored", "pegainfer#237", drops("temperature", paths=(H,)), "chat"),
    F("chat_n_is_ignored", "sglang#3059", drops("n", paths=(H,)), "chat"),
    F("always_greedy", "pegainfer#237", asks(lambda b: b.update(temperature=0, n=1), GEN)),
    F("everybody_has_one_seed", "habana#773", asks(lambda b: b.update(seed=1), GEN)),
    F("seed_is_a_boolean", "openarc#105", sets(GEN, seed=lambda s: int(bool(s)))),
    F("temperature_zero_is_one", "pegainfer#237", sets(GEN, temperature=lambda t: t or 1.0)),
    F("temperature_is_capped", "tt-metal#44701", sets(GEN, temperature=lambda t: min(t, 0.2))),
    F("top_p_is_one_minus", "tt-metal#44701", sets(GEN, top_p=lambda p: max(1 - p, 0.01))),
    F(
        "top_k_one_too_many",
        "pegainfer#237",
        asks(
            lambda b: isinstance(b.get("top_k"), int) and b["top_k"] > 0 and _plus("top_k", 1)(b),
            GEN,
        ),
    ),
    F("max_tokens_one_too_few", "vllm#41368", asks(_plus("max_tokens", -1), GEN)),
    F("max_tokens_one_too_many", "vllm#41368", asks(_plus("max_tokens", 1), GEN)),
    F("max_tokens_is_capped", "", sets(GEN, max_tokens=lambda t: min(t, 8))),
    F("min_tokens_is_capped", "vllm#5849", sets(GEN, min_tokens=lambda t: min(t, 2))),
    F("default_max_tokens_is_8", "", asks(lambda b: b.setdefault("max_tokens", 8), (C,))),
    F(
        "logit_bias_keys_are_shifted",
        "sglang#3187",
        sets(
            GEN,
            logit_bias=lambda bias: {
                str(int(k) + 1) if str(k).isdigit() else k: v for k, v in (bias or {}).items()
            },
        ),
    ),
    F(
        "logit_bias_is_negated",
        "sglang#3059",
        sets(
            GEN,
            logit_bias=lambda bias: {
                k: -v if isinstance(v, (int, float)) else v for k, v in (bias or {}).items()
            },
        ),
    ),
    F("only_the_first_stop_string", "osaurus#1793", asks(_first_stop, GEN)),
    F(
        "stop_list_is_dropped",
        "osaurus#1793",
        asks(lambda b: isinstance(b.get("stop"), list) and b.pop("stop"), GEN),
    ),
    F(
        "penalties_are_swapped",
        "cascadia#14",
        asks(
            lambda b: b.update(
                {k: b.pop(o) for k, o in (("presence_penalty", "frequency_penalty"),) if o in b}
            ),
            GEN,
        ),
    ),
    F(
        "logprobs_are_capped",
        "vllm#3707",
        asks(
            lambda b: [
                b.update({k: 1})
                for k in ("logprobs", "top_logprobs")
                if isinstance(b.get(k), int) and not isinstance(b.get(k), bool) and b[k] > 1
            ],
            GEN,
        ),
    ),
    F("batch_repeats_the_first_prompt", "vllm#13408", asks(_last_prompt, (C,))),
    F("prompt_is_truncated_silently", "", asks(_keep_last_tokens, (C,))),
    F("prompt_is_stripped", "vllm#29953", asks(_strip_prompt, (C,))),
    F(
        "bos_doubled",
        "vllm#27486",
        asks(
            lambda b: isinstance(b.get("prompt"), str) and b.update(prompt="</s>" + b["prompt"]),
            (C,),
        ),
    ),
    F("system_prompt_is_dropped", "vllm#2263", asks(_without_system, (H,)), "chat"),
    F("only_the_last_message", "", asks(_last_message, (H,)), "chat"),
    F("assistant_becomes_user", "", asks(_all_users, (H,)), "chat"),
    F("only_the_first_part", "", asks(_first_part, (H,)), "chat"),
    F("a_system_prompt_is_added", "vllm#2263", asks(_extra_system, (H,)), "chat"),
    F(
        "special_tokens_added_in_chat",
        "vllm#2012",
        asks(lambda b: b.update(add_special_tokens=True), (H,)),
        "chat",
    ),
    F(
        "template_adds_no_generation_prompt",
        "vllm#2012",
        asks(lambda b: b.update(add_generation_prompt=False), (H,)),
        "chat",
    ),
    F("schema_becomes_any_json", "vllm#13038", asks(_unstrict, (H, C)), "chat"),
    F("parallel_tool_calls_is_ignored", "", drops("parallel_tool_calls"), "chat"),
    F("anthropic_system_is_dropped", "vllm#22627", drops("system", paths=(M,)), "chat"),
    F(
        "responses_input_last_only",
        "",
        asks(lambda b: isinstance(b.get("input"), list) and b.update(input=b["input"][-1:]), (R,)),
        "chat",
    ),
    F("anthropic_history_is_dropped", "vllm#22627", asks(_last_message, (M,)), "chat"),
    F(
        "anthropic_max_tokens_is_ignored",
        "vllm#22627",
        asks(lambda b: b.update(max_tokens=min(b.get("max_tokens", 1), 2)), (M,)),
        "chat",
    ),
    F(
        "tool_choice_required_becomes_auto",
        "vllm#53255",
        asks(lambda b: b.get("tool_choice") == "required" and b.update(tool_choice="auto"), (H,)),
        "chat",
    ),
    F(
        "named_tool_becomes_required",
        "vllm#9048",
        asks(
            lambda b: isinstance(b.get("tool_choice"), dict) and b.update(tool_choice="required"),
            (H,),
        ),
        "chat",
    ),
]
