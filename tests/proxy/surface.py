"""Faults around generation: statuses, errors, models, tokenizer, embeddings, health, metrics."""

# mypy: disable-error-code="func-returns-value"
# A change is an expression in a table here; what it returns is nobody's business.

from __future__ import annotations

import base64
import itertools
import re
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tests.proxy.answers import gives, pops
from tests.proxy.fault import (
    ALL,
    DETOKENIZE,
    EMBED,
    GEN,
    HEALTH,
    METRICS,
    MODELS,
    TOKENIZE,
    VERSION,
    Apply,
    C,
    Fault,
    Forward,
    H,
    Start,
    asks,
    plain,
    put,
    refusals,
    replies,
    whole,
)
from tests.proxy.messages import Ask, Body, Cut, Frame, Reply, answer, error

F = Fault


def fails(status: int, message: str, when: Callable[[Body], Any]) -> Start:
    """Answer some requests with an error."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        return error(status, message) if ask.route in ALL and when(ask.body) else forward(ask)

    return plain(apply)


def instead(path: str, reply: Callable[[Ask], Reply], method: str = "") -> Start:
    """Answer one path oneself."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        mine = ask.route == path and method in ("", ask.method)
        return reply(ask) if mine else forward(ask)

    return plain(apply)


def _status(new: int, old: int | None = None) -> Start:
    def edit(reply: Reply, ask: Ask) -> None:
        reply.status = new

    return replies(
        edit,
        (*ALL, TOKENIZE, DETOKENIZE),
        lambda r, a: r.status == old if old else 400 <= r.status < 500,
    )


def _error(change: Callable[[Body], Any]) -> Start:
    return refusals(
        lambda body, ask: isinstance(body.get("error"), dict) and change(body["error"]),
        (C, H, TOKENIZE, DETOKENIZE, EMBED),
    )


def _lenient(*names: str, good: Callable[[Any], bool]) -> Start:
    """Bad values are dropped instead of refused."""
    return asks(lambda body: [body.pop(n) for n in names if n in body and not good(body[n])], GEN)


def _metrics(change: Callable[[str], str]) -> Start:
    def edit(reply: Reply, ask: Ask) -> None:
        content = change(reply.read().decode()).encode()
        reply.parts = [content]
        reply.headers.pop("content-length", None)

    return replies(edit, (METRICS,), lambda r, a: r.status == 200)


def _scale(name: str, change: Callable[[float], float]) -> Start:
    line = re.compile(rf"^({re.escape(name)}(?:{{[^}}]*}})?) (\S+)$", re.M)
    return _metrics(lambda text: line.sub(lambda m: f"{m[1]} {change(float(m[2]))}", text))


def _frozen() -> Apply:
    """Counters stay where they were when first looked at."""
    kept: list[bytes] = []

    def edit(reply: Reply, ask: Ask) -> None:
        kept[:] = kept or [reply.read()]
        reply.parts = [kept[0]]
        reply.headers.pop("content-length", None)

    return replies(edit, (METRICS,), lambda r, a: r.status == 200)()


def _without(*families: str) -> Start:
    names = "|".join(map(re.escape, families))
    line = re.compile(
        rf"^(?:# (?:HELP|TYPE) )?(?:{names})(?:_total|_bucket|_count|_sum|_created)?"
        rf"[ {{].*\n",
        re.M,
    )
    return _metrics(lambda text: line.sub("", text))


def _deaf() -> Apply:
    """Nobody notices that a client has gone: the request runs to its end."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route not in ALL:
            return forward(ask)
        reply = forward(replace(ask, to_its_end=True))
        if reply.status != 200:
            return reply
        parts, ready = iter(reply.parts), threading.Semaphore(0)
        got: list[bytes | None] = []

        def drain() -> None:
            try:
                for part in parts:
                    got.append(part)
                    ready.release()
            except (Cut, OSError):
                pass
            got.append(None)
            ready.release()

        threading.Thread(target=drain, daemon=True).start()

        def read() -> Any:
            for position in itertools.count():
                ready.acquire()
                if got[position] is None:
                    return
                yield got[position]

        return Reply(reply.status, reply.headers, read())

    return apply


def _resets() -> Apply:
    """Every 25th request breaks the connection."""
    count = itertools.count(1)

    def apply(ask: Ask, forward: Forward) -> Reply:
        reply = forward(ask)
        if ask.route in ALL and next(count) % 25 == 0:
            reply.parts = _cut()
        return reply

    return apply


def _cut() -> Iterator[bytes]:
    yield from ()
    raise Cut


def _sometimes_500() -> Apply:
    count = itertools.count(1)

    def apply(ask: Ask, forward: Forward) -> Reply:
        busy = ask.route in ALL and next(count) % 20 == 0
        return error(500, "Internal Server Error") if busy else forward(ask)

    return apply


def _one_at_a_time() -> Apply:
    lock = threading.Lock()

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route not in ALL:
            return forward(ask)
        with lock:
            reply = forward(ask)
            reply.parts = list(reply.parts)
        return reply

    return apply


def _too_many() -> Apply:
    running = threading.Semaphore(3)

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route not in ALL:
            return forward(ask)
        if not running.acquire(blocking=False):
            return error(429, "too many requests", "RateLimitError")
        try:
            reply = forward(ask)
            reply.parts = list(reply.parts)
            return reply
        finally:
            running.release()

    return apply


def _model(change: Callable[[Body], Any]) -> Start:
    return whole(lambda b, a: [change(m) for m in b["data"]] and None, (MODELS,))


def _vectors(change: Callable[[list[Any]], Any]) -> Start:
    return whole(lambda b, a: change(b["data"]), (EMBED,))


def _unnormal(data: list[Any]) -> None:
    for entry in data:
        if isinstance(entry["embedding"], list):
            entry["embedding"] = [x * 3 for x in entry["embedding"]]


def _base64_as_double(data: list[Any]) -> None:
    for entry in data:
        if isinstance(entry["embedding"], str):
            raw = base64.b64decode(entry["embedding"])
            floats = struct.unpack(f"<{len(raw) // 4}f", raw)
            entry["embedding"] = base64.b64encode(struct.pack(f"<{len(floats)}d", *floats)).decode()


def _swap(data: list[Any]) -> None:
    if len(data) > 1:
        data[0]["embedding"], data[1]["embedding"] = data[1]["embedding"], data[0]["embedding"]


def _only_a_detail(body: Body, ask: Body) -> None:
    body.clear()
    body["detail"] = "Bad Request"


def _in_stream(reply: Reply, ask: Ask) -> Reply | None:
    """A refused stream is a 200 with an event."""
    if not ask.body.get("stream"):
        return None
    event = bytes(Frame(reply.read().decode())) + b"data: [DONE]\n\n"
    return Reply(200, {"content-type": "text/event-stream"}, [event])


FAULTS = [
    # statuses and errors
    F("bad_requests_are_500", "vllm-omni#1952", _status(500, 400)),
    F("bad_requests_are_422", "", _status(422, 400)),
    F("bad_requests_are_200", "vllm#49181", _status(200, 400)),
    F("bad_requests_are_404", "", _status(404, 400)),
    F("unknown_model_is_400", "hub#6", _status(400, 404)),
    F(
        "too_long_prompts_are_500",
        "kserve#3886",
        replies(
            lambda r, a: setattr(r, "status", 500),
            GEN,
            lambda r, a: r.status == 400 and b"maximum" in r.read(),
        ),
    ),
    F(
        "bad_response_format_is_500",
        "vllm#35438",
        replies(
            lambda r, a: error(500, ""),
            GEN,
            lambda r, a: (
                r.status == 400 and ("response_format" in a.body or "structured_outputs" in a.body)
            ),
        ),
    ),
    F(
        "refused_streams_are_200",
        "llama.cpp#14566",
        replies(_in_stream, GEN, lambda r, a: 400 <= r.status < 500),
    ),
    F("error_is_a_string", "vllm#23837", refusals(lambda b, a: b.update(error="it broke"), (C, H))),
    F(
        "error_is_a_detail",
        "",
        refusals(_only_a_detail, (C, H)),
    ),
    F(
        "error_is_flat",
        "vllm#6174",
        refusals(lambda b, a: b.update(object="error", **b.pop("error", {})), (C, H)),
    ),
    F(
        "error_is_html",
        "",
        replies(
            lambda r, a: Reply(r.status, {"content-type": "text/html"}, [b"<h1>Bad Request</h1>"]),
            GEN,
            lambda r, a: 400 <= r.status < 500,
        ),
    ),
    F(
        "error_is_empty",
        "aibridge#56",
        replies(
            lambda r, a: Reply(r.status, {"content-type": "application/json"}, []),
            GEN,
            lambda r, a: 400 <= r.status < 500,
        ),
    ),
    F("error_message_is_empty", "vllm#35438", _error(lambda e: e.update(message=""))),
    F("error_message_is_null", "vllm#35438", _error(lambda e: e.update(message=None))),
    F("error_type_is_null", "ark#372", _error(lambda e: e.update(type=None))),
    F("error_type_is_left_out", "ark#372", _error(lambda e: e.pop("type", 0))),
    F("error_code_is_a_string", "kserve#3886", _error(lambda e: e.update(code="bad_request"))),
    F("error_code_is_another", "litellm-rs#357", _error(lambda e: e.update(code=500))),
    F("error_param_is_left_out", "ogx#4942", _error(lambda e: e.pop("param", 0))),
    F("error_param_is_null", "ogx#4942", _error(lambda e: e.update(param=None))),
    F(
        "error_shows_a_traceback",
        "ogx#4942",
        _error(
            lambda e: e.update(
                message='Traceback (most recent call last):\n  File "/usr/lib/python3/x.py", line 1'
            )
        ),
    ),
    F("error_says_nothing", "vllm-metal#331", _error(lambda e: e.update(message="2326"))),
    # what must be refused
    F(
        "bad_temperature_is_taken",
        "",
        _lenient(
            "temperature", good=lambda v: v is None or (isinstance(v, (int, float)) and 0 <= v <= 2)
        ),
    ),
    F(
        "bad_top_p_is_taken",
        "",
        _lenient("top_p", good=lambda v: v is None or (isinstance(v, (int, float)) and 0 < v <= 1)),
    ),
    F(
        "bad_max_tokens_is_taken",
        "",
        _lenient("max_tokens", good=lambda v: v is None or (isinstance(v, int) and v > 0)),
    ),
    F(
        "bad_n_is_taken",
        "",
        _lenient("n", good=lambda v: v is None or (isinstance(v, int) and 0 < v < 100)),
    ),
    F(
        "bad_penalty_is_taken",
        "",
        _lenient(
            "presence_penalty",
            "frequency_penalty",
            good=lambda v: v is None or (isinstance(v, (int, float)) and -2 <= v <= 2),
        ),
    ),
    F(
        "too_many_logprobs_are_taken",
        "",
        _lenient(
            "logprobs",
            "top_logprobs",
            good=lambda v: v is None or not isinstance(v, int) or 0 <= v <= 20,
        ),
    ),
    F("unknown_model_is_served", "mlx-serve#257", asks(lambda b: b.pop("model", 0), GEN)),
    F(
        "stream_options_without_stream_is_taken",
        "",
        asks(lambda b: b.get("stream") or b.pop("stream_options", 0), GEN),
    ),
    F(
        "too_long_prompt_is_cut",
        "",
        asks(
            lambda b: (
                isinstance(b.get("prompt"), str)
                and len(b["prompt"]) > 1200
                and b.update(prompt=b["prompt"][:200])
            ),
            (C,),
        ),
    ),
    F(
        "too_many_max_tokens_are_taken",
        "",
        asks(
            lambda b: (
                isinstance(b.get("max_tokens"), int)
                and b["max_tokens"] > 500
                and b.update(max_tokens=4)
            ),
            GEN,
        ),
    ),
    # models
    F("models_are_empty", "localmind#11", whole(gives(data=[]), (MODELS,))),
    F("models_data_is_left_out", "llamafile#713", whole(pops("data"), (MODELS,))),
    F(
        "models_are_a_bare_list",
        "llamafile#713",
        replies(lambda r, a: put(r, r.body["data"]), (MODELS,), lambda r, a: r.status == 200),
    ),
    F("models_object_is_wrong", "parallax#440", whole(gives(object="models"), (MODELS,))),
    F("model_created_is_left_out", "parallax#440", _model(lambda m: m.pop("created"))),
    F("model_owner_is_left_out", "localmind#11", _model(lambda m: m.pop("owned_by"))),
    F("model_id_is_a_path", "vllm-mlx#125", _model(lambda m: m.update(id="/models/" + m["id"]))),
    F("model_max_len_is_wrong", "", _model(lambda m: m.update(max_model_len=2048))),
    F("model_max_len_is_null", "", _model(lambda m: m.update(max_model_len=None))),
    F(
        "model_is_listed_twice",
        "instructlab#3080",
        whole(lambda b, a: b["data"].extend(b["data"][:1]), (MODELS,)),
    ),
    F("model_object_is_wrong", "parallax#440", _model(lambda m: m.update(object="engine"))),
    # the tokenizer
    F(
        "tokenize_without_special_tokens",
        "vllm#5054",
        asks(lambda b: b.update(add_special_tokens=False), (TOKENIZE,)),
    ),
    F(
        "tokenize_count_is_off",
        "vllm#5054",
        whole(lambda b, a: b.update(count=b["count"] + 1), (TOKENIZE,)),
    ),
    F("tokenize_tokens_are_empty", "", whole(gives(tokens=[]), (TOKENIZE,))),
    F("tokenize_max_len_is_left_out", "vllm#5054", whole(pops("max_model_len"), (TOKENIZE,))),
    F(
        "tokenize_ids_are_strings",
        "vllm#5054",
        whole(lambda b, a: b.update(tokens=[str(t) for t in b["tokens"]]), (TOKENIZE,)),
    ),
    F(
        "tokenize_strips",
        "lmdeploy#992",
        asks(
            lambda b: isinstance(b.get("prompt"), str) and b.update(prompt=b["prompt"].strip()),
            (TOKENIZE,),
        ),
    ),
    F(
        "detokenize_strips",
        "lmdeploy#992",
        whole(lambda b, a: b.update(prompt=b["prompt"].strip()), (DETOKENIZE,)),
    ),
    F(
        "detokenize_adds_a_space",
        "llama.cpp#8039",
        whole(lambda b, a: b.update(prompt=" " + b["prompt"]), (DETOKENIZE,)),
    ),
    F(
        "detokenize_joins_with_spaces",
        "vllm#630",
        whole(lambda b, a: b.update(prompt=b["prompt"].replace(" ", "  ")), (DETOKENIZE,)),
    ),
    F("tokenize_is_500", "vllm#10051", instead(TOKENIZE, lambda a: error(500, "it broke"))),
    F("detokenize_is_500", "vllm#8627", instead(DETOKENIZE, lambda a: error(500, "it broke"))),
    F("token_strings_are_lost", "vllm#5054", whole(gives(token_strs=None), (TOKENIZE,))),
    # embeddings
    F("embeddings_not_normal", "ollama#7858", _vectors(_unnormal), "embed"),
    F("embeddings_are_doubles", "vllm#6744", _vectors(_base64_as_double), "embed"),
    F("embeddings_out_of_order", "", _vectors(_swap), "embed"),
    F(
        "embeddings_ignore_the_format",
        "lmstudio#756",
        asks(lambda b: b.pop("encoding_format", 0), (EMBED,)),
        "embed",
    ),
    F("embeddings_without_usage", "", whole(pops("usage"), (EMBED,)), "embed"),
    F(
        "embeddings_indices_are_0",
        "",
        _vectors(lambda d: [e.update(index=0) for e in d] and None),
        "embed",
    ),
    # health, version, pages
    F("health_is_500", "skypilot#3549", instead(HEALTH, lambda a: Reply(500))),
    F("health_wants_a_key", "sglang#901", instead(HEALTH, lambda a: error(401, "Unauthorized"))),
    F("version_is_empty", "", whole(gives(version=""), (VERSION,))),
    F("version_is_404", "", instead(VERSION, lambda a: answer({"detail": "Not Found"}, 404))),
    F("openapi_is_500", "", instead("/openapi.json", lambda a: error(500, "it broke"))),
    F(
        "openapi_lacks_chat",
        "",
        whole(lambda b, a: b["paths"].pop(H, 0) and None, ("/openapi.json",)),
    ),
    F("docs_are_404", "", instead("/docs", lambda a: answer({"detail": "Not Found"}, 404))),
    # metrics
    F("metrics_are_404", "production-stack#318", instead(METRICS, lambda a: Reply(404))),
    F("metrics_are_500", "production-stack#318", instead(METRICS, lambda a: Reply(500))),
    F("metrics_are_frozen", "vllm.cpp#538", _frozen),
    F("success_counts_double", "vllm#5250", _scale("vllm:request_success_total", lambda x: 2 * x)),
    F(
        "prompt_tokens_count_double",
        "vllm#41368",
        _scale("vllm:prompt_tokens_total", lambda x: 2 * x),
    ),
    F(
        "generation_tokens_stay_0",
        "vllm.cpp#538",
        _scale("vllm:generation_tokens_total", lambda x: 0),
    ),
    F("running_never_returns_to_0", "", _scale("vllm:num_requests_running", lambda x: x + 1)),
    F("waiting_is_negative", "vllm#6642", _scale("vllm:num_requests_waiting", lambda x: x - 1)),
    F("ttft_is_missing", "vllm#8178", _without("vllm:time_to_first_token_seconds")),
    F("success_is_missing", "vllm#8178", _without("vllm:request_success")),
    F(
        "gauges_are_missing",
        "vllm#8178",
        _without("vllm:num_requests_running", "vllm:num_requests_waiting"),
    ),
    F("cache_usage_is_in_percent", "", _scale("vllm:kv_cache_usage_perc", lambda x: 100 * x + 7)),
    F(
        "metrics_without_types",
        "production-stack#318",
        _metrics(lambda text: re.sub(r"^# .*\n", "", text, flags=re.M)),
    ),
    F(
        "ttft_counts_double",
        "vllm#8115",
        _scale("vllm:time_to_first_token_seconds_count", lambda x: 2 * x),
    ),
    F(
        "latency_is_in_milliseconds",
        "vllm#8178",
        _scale("vllm:e2e_request_latency_seconds_sum", lambda x: 1000 * x),
    ),
    F(
        "finished_reason_is_another",
        "vllm#31503",
        _metrics(
            lambda text: (
                text.replace('finished_reason="length"', 'finished_reason="x"')
                .replace('finished_reason="stop"', 'finished_reason="length"')
                .replace('finished_reason="x"', 'finished_reason="stop"')
            )
        ),
    ),
    # load
    F("aborts_are_not_noticed", "vllm#10806", _deaf),
    F("connection_resets_now_and_then", "", _resets),
    F("now_and_then_500", "vllm#40856", _sometimes_500),
    F("one_request_at_a_time", "inferencer#127", _one_at_a_time),
    F("more_than_three_are_refused", "vllm#2752", _too_many),
    F("slow_to_answer", "", replies(lambda r, a: time.sleep(2.0), GEN), "never"),
]
