"""Faults written before the suite was looked at: tools, reasoning, other endpoints, HTTP.

python -m tests.proxy.measure URL MODEL --faults-of tests.proxy.held_out_b
"""

# mypy: disable-error-code="func-returns-value, no-any-return, assignment"
# ruff: noqa: SIM102
# A change is an expression in a table here; what it returns is nobody's business.

from __future__ import annotations

import base64
import contextlib
import json
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

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
    M,
    R,
    Start,
    asks,
    chunks,
    drops,
    objects,
    plain,
    put,
    refusals,
    replies,
    stream,
    together,
    whole,
    wire,
)
from tests.proxy.messages import Ask, Body, Frame, Reply, answer, error

CT = "/v1/messages/count_tokens"


# --- words for tools ------------------------------------------------------------------------------


def _calls(body: Body) -> list[Body]:
    return [
        call
        for choice in body.get("choices") or []
        for call in (choice.get("message") or choice.get("delta") or {}).get("tool_calls") or []
    ]


def calls(change: Any, when_stream: bool = True, when_whole: bool = True) -> Start:
    def edit(body: Body, ask: Body) -> None:
        for call in _calls(body):
            change(call)

    starts = ([whole(edit, (H,))] if when_whole else []) + (
        [chunks(edit, (H,))] if when_stream else []
    )
    return together(*starts)


def _args(change: Any, **kw: bool) -> Start:
    def edit(call: Body) -> None:
        function = call.get("function") or {}
        if isinstance(function.get("arguments"), str) and function["arguments"]:
            function["arguments"] = change(function["arguments"])

    return calls(edit, **kw)


def _reparse(change: Any) -> Any:
    """Change whole arguments as a value; what cannot be parsed stays."""

    def edit(text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError:
            return text
        return json.dumps(change(value), ensure_ascii=False)

    return edit


def _nested_as_string(value: Any) -> Any:
    return (
        {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in value.items()}
        if isinstance(value, dict)
        else value
    )


def _numbers_as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _numbers_as_strings(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers_as_strings(v) for v in value]
    return str(value) if type(value) in (int, float) else value


def _bools_as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _bools_as_strings(v) for k, v in value.items()}
    return str(value).lower() if isinstance(value, bool) else value


def _each(kind: type, change: Any) -> Any:
    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: walk(v) for k, v in value.items()}
        if isinstance(value, list):
            return [walk(v) for v in value]
        return change(value) if isinstance(value, kind) else value

    return walk


def _last_call_only(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    """Streams that send the arguments once more when the call ends."""
    sent: dict[int, str] = {}
    for frame in events:
        chunk = frame.chunk
        choice = ((chunk or {}).get("choices") or [{}])[0]
        for call in (choice.get("delta") or {}).get("tool_calls") or []:
            sent[call.get("index", 0)] = sent.get(call.get("index", 0), "") + (
                (call.get("function") or {}).get("arguments") or ""
            )
        if choice.get("finish_reason") and sent and chunk is not None:
            last = max(sent)
            more = json.loads(json.dumps(chunk))
            more["choices"][0]["finish_reason"] = None
            more["choices"][0]["delta"] = {
                "tool_calls": [{"index": last, "function": {"arguments": sent[last]}}]
            }
            yield frame.with_chunk(more)
        yield frame


def _index_zero(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    for frame in events:
        chunk = frame.chunk
        for call in _calls(chunk or {}):
            call["index"] = 0
        yield frame.with_chunk(chunk) if chunk else frame


def _first_args_lost(number: int) -> Any:
    """The first piece of the arguments of the k-th call is lost."""

    def change(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
        lost = False
        for frame in events:
            chunk = frame.chunk
            for call in _calls(chunk or {}):
                function = call.get("function") or {}
                if call.get("index") == number and function.get("arguments") and not lost:
                    function["arguments"], lost = "", True
            yield frame.with_chunk(chunk) if chunk else frame

    return change


def _finish(reason: str, seen: str = "tool_calls") -> Any:
    def change(body: Body, ask: Body) -> None:
        for choice in body.get("choices") or []:
            if choice.get("finish_reason") == seen:
                choice["finish_reason"] = reason

    return change


def _content_null_to_text(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        message = choice.get("message") or {}
        if message.get("tool_calls"):
            message["content"] = json.dumps(message["tool_calls"][0]["function"])


def _second_call_lost(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        message = choice.get("message") or {}
        if message.get("tool_calls"):
            message["tool_calls"] = message["tool_calls"][:1]


def _calls_reversed(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        message = choice.get("message") or {}
        if message.get("tool_calls"):
            message["tool_calls"].reverse()


def _text_before_call_lost(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        message = choice.get("message") or {}
        if message.get("tool_calls"):
            message["content"] = None


def _stream_text_before_call_lost(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    kept = list(events)
    called = any(_calls(f.chunk or {}) for f in kept)
    for frame in kept:
        chunk = frame.chunk
        if called and chunk:
            for choice in chunk.get("choices") or []:
                if (choice.get("delta") or {}).get("content"):
                    choice["delta"]["content"] = ""
            frame = frame.with_chunk(chunk)
        yield frame


def _id_each_chunk(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    n = 0
    for frame in events:
        chunk = frame.chunk
        for call in _calls(chunk or {}):
            n += 1
            call["id"] = f"call_{n}"
        yield frame.with_chunk(chunk) if chunk else frame


def _name_split(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    """The name comes again with each piece of the arguments."""
    names: dict[int, str] = {}
    for frame in events:
        chunk = frame.chunk
        for call in _calls(chunk or {}):
            function = call.setdefault("function", {})
            names.setdefault(call.get("index", 0), function.get("name") or "")
            function["name"] = names[call.get("index", 0)]
        yield frame.with_chunk(chunk) if chunk else frame


def _forget_tool_messages(body: Body) -> None:
    if isinstance(body.get("messages"), list):
        body["messages"] = [
            m for m in body["messages"] if not (isinstance(m, dict) and m.get("role") == "tool")
        ]


def _forget_call_history(body: Body) -> None:
    for message in body.get("messages") or []:
        if isinstance(message, dict) and message.get("tool_calls"):
            message.pop("tool_calls")
            message["content"] = message.get("content") or ""


def _strip_tool_descriptions(body: Body) -> None:
    for tool in body.get("tools") or []:
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict):
            tool["function"].pop("description", None)


def _first_tool_only(body: Body) -> None:
    if isinstance(body.get("tools"), list) and body["tools"]:
        body["tools"] = body["tools"][:1]


def _required_as_auto(body: Body) -> None:
    if body.get("tool_choice") == "required":
        body["tool_choice"] = "auto"


def _unknown_named_tool_ok() -> Start:
    def change(body: Body) -> None:
        choice = body.get("tool_choice")
        if isinstance(choice, dict):
            name = (choice.get("function") or {}).get("name")
            names = [
                (t.get("function") or {}).get("name")
                for t in body.get("tools") or []
                if isinstance(t, dict)
            ]
            if name not in names:
                body["tool_choice"] = "none"

    return asks(change, (H,))


# --- reasoning ------------------------------------------------------------------------------------


def _reasoning_into_content(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        part = choice.get("message") or choice.get("delta") or {}
        for key in ("reasoning", "reasoning_content"):
            if part.get(key):
                part["content"] = part.pop(key) + (part.get("content") or "")


def _reasoning_twice(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        part = choice.get("message") or choice.get("delta") or {}
        if part.get("reasoning"):
            part["content"] = (part.get("content") or "") + part["reasoning"]


def _think_tag(body: Body, ask: Body) -> None:
    for choice in body.get("choices") or []:
        part = choice.get("message") or {}
        if part.get("reasoning"):
            part["reasoning"] = part["reasoning"] + "</think>"


def _think_tag_in_content(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    thinking = False
    for frame in events:
        chunk = frame.chunk
        for choice in (chunk or {}).get("choices") or []:
            delta = choice.get("delta") or {}
            if delta.get("reasoning"):
                thinking = True
            elif thinking and delta.get("content"):
                delta["content"], thinking = "</think>" + delta["content"], False
        yield frame.with_chunk(chunk) if chunk else frame


def _reasoning_last_lost(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    """The chunk that has both the end of a thought and the start of the text loses one."""
    held: Frame | None = None
    for frame in events:
        thought = any(
            (c.get("delta") or {}).get("reasoning")
            for c in (frame.chunk or {}).get("choices") or []
        )
        if held is not None and thought:
            yield held
        held = frame if thought else None
        if not thought:
            yield frame


# --- /v1/responses --------------------------------------------------------------------------------


def events_of(kind: str, change: Any, paths: tuple[str, ...] = (R,)) -> Start:
    def edit(chunk: Body, ask: Body) -> Any:
        return change(chunk, ask) if chunk.get("type") == kind else None

    return chunks(edit, paths)


def without(*kinds: str, paths: tuple[str, ...] = (R,)) -> Start:
    return chunks(lambda chunk, ask: chunk.get("type") not in kinds, paths)


def output(change: Any, kind: str) -> Start:
    """Of items of a kind in whole answers, final events and item events."""

    def edit(body: Body, ask: Body) -> None:
        items = list(body.get("output") or [])
        items += (body.get("response") or {}).get("output") or []
        items += [body["item"]] if isinstance(body.get("item"), dict) else []
        for item in items:
            if item.get("type") == kind:
                change(item)

    return objects(edit, (R,))


def whole_r(change: Any) -> Start:
    return whole(change, (R,))


def _r_swap_done(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    held: Frame | None = None
    for frame in events:
        kind = (frame.chunk or {}).get("type")
        if kind == "response.output_text.done":
            held = frame
            continue
        yield frame
        if held and kind == "response.content_part.done":
            yield held
            held = None


def _r_repeat_delta(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    done = False
    for frame in events:
        yield frame
        if (frame.chunk or {}).get("type") == "response.output_text.delta" and not done:
            done = True
            yield frame


def _done_marker(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    yield from events
    yield Frame("[DONE]")


def _no_event_names(parts: Iterator[bytes]) -> Iterable[bytes]:
    return (p.split(b"\n", 1)[1] if p.startswith(b"event:") else p for p in parts)


def _r_usage(change: Any) -> Start:
    def edit(body: Body, ask: Body) -> None:
        usage = body.get("usage") or (body.get("response") or {}).get("usage")
        if usage:
            change(usage)

    return objects(edit, (R,))


def _r_incomplete_as_completed(body: Body, ask: Body) -> None:
    for one in (body, body.get("response") or {}):
        if one.get("status") == "incomplete":
            one["status"], one["incomplete_details"] = "completed", None


def _r_stream_incomplete(chunk: Body, ask: Body) -> None:
    if chunk.get("type") == "response.incomplete":
        chunk["type"] = "response.completed"


# --- /v1/messages ---------------------------------------------------------------------------------


def m_blocks(change: Any, kind: str) -> Start:
    def edit(body: Body, ask: Body) -> None:
        for block in body.get("content") or []:
            if isinstance(block, dict) and block.get("type") == kind:
                change(block)

    return whole(edit, (M,))


def _m_stop(chunk: Body, ask: Body, seen: str = "tool_use", said: str = "end_turn") -> None:
    for part in (chunk, chunk.get("delta") or {}):
        if part.get("stop_reason") == seen:
            part["stop_reason"] = said


def _m_index(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    for frame in events:
        chunk = frame.chunk
        if chunk and "index" in chunk:
            chunk["index"] = 0
            frame = frame.with_chunk(chunk)
        yield frame


def _m_empty_text_block_first(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    """An empty text block stands before the call."""
    for frame in events:
        chunk = frame.chunk
        if chunk and chunk.get("type") == "content_block_start" and chunk.get("index") == 0:
            if (chunk.get("content_block") or {}).get("type") == "tool_use":
                yield frame.with_chunk(
                    {
                        "type": "content_block_start",
                        "index": 0,
                        "content_block": {"type": "text", "text": ""},
                    }
                )
        yield frame


def _m_no_stop_of_last_block(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    held: Frame | None = None
    for frame in events:
        kind = (frame.chunk or {}).get("type")
        if kind == "content_block_stop":
            held = frame
            continue
        if held and kind == "content_block_start":
            yield held
        held = None
        yield frame


def _m_input_twice(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    """The whole input is in content_block_start and comes as deltas again."""
    kept = list(events)
    inputs: dict[int, str] = {}
    for frame in kept:
        chunk = frame.chunk or {}
        delta = chunk.get("delta") or {}
        if delta.get("type") == "input_json_delta":
            at = chunk["index"]
            inputs[at] = inputs.get(at, "") + delta.get("partial_json", "")
    for frame in kept:
        chunk = frame.chunk
        block = (chunk or {}).get("content_block") or {}
        if chunk and block.get("type") == "tool_use":
            try:
                block["input"] = json.loads(inputs.get(chunk["index"], "") or "{}")
            except ValueError:
                block["input"] = {"x": 1}
            frame = frame.with_chunk(chunk)
        yield frame


# --- embeddings -----------------------------------------------------------------------------------


def data(change: Any, when: Any = lambda rows, ask: True) -> Start:
    def edit(body: Body, ask: Body) -> None:
        rows = body.get("data") or []
        if rows and when(rows, ask):
            body["data"] = change(rows, ask) or rows

    return whole(edit, (EMBED,))


def _vector(row: Body) -> list[float]:
    value = row["embedding"]
    if isinstance(value, str):
        raw = base64.b64decode(value)
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    return value


def _set(row: Body, vector: list[float]) -> None:
    if isinstance(row["embedding"], str):
        row["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    else:
        row["embedding"] = vector


def _swap_vectors(rows: list[Body], ask: Body) -> None:
    rows[0]["embedding"], rows[-1]["embedding"] = rows[-1]["embedding"], rows[0]["embedding"]


def _big_endian(rows: list[Body], ask: Body) -> None:
    for row in rows:
        if isinstance(row["embedding"], str):
            raw = base64.b64decode(row["embedding"])
            row["embedding"] = base64.b64encode(
                struct.pack(f">{len(raw) // 4}f", *struct.unpack(f"<{len(raw) // 4}f", raw))
            ).decode()


def _half(rows: list[Body], ask: Body) -> None:
    for row in rows:
        if isinstance(row["embedding"], str):
            vector = _vector(row)
            row["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}e", *vector)).decode()


def _doubles(rows: list[Body], ask: Body) -> None:
    for row in rows:
        if isinstance(row["embedding"], str):
            vector = _vector(row)
            row["embedding"] = base64.b64encode(struct.pack(f"<{len(vector)}d", *vector)).decode()


def _url_safe(rows: list[Body], ask: Body) -> None:
    for row in rows:
        if isinstance(row["embedding"], str):
            row["embedding"] = row["embedding"].replace("+", "-").replace("/", "_")


def _scale(rows: list[Body], ask: Body) -> None:
    for row in rows:
        _set(row, [x * 2 for x in _vector(row)])


def _same_in_batch(rows: list[Body], ask: Body) -> None:
    for row in rows[1:]:
        row["embedding"] = rows[0]["embedding"]


def _batch_noise(rows: list[Body], ask: Body) -> None:
    """In a batch, shorter inputs see the padding."""
    for row in rows[1:]:
        vector = _vector(row)
        vector[0], vector[1] = vector[1], vector[0]
        vector[2] += 0.05
        _set(row, vector)


# --- HTTP -----------------------------------------------------------------------------------------


def every(k: int, change: Any, paths: tuple[str, ...] | None = ALL) -> Start:
    """Only each k-th request of a kind is hit. `change` makes a Reply of (ask, forward)."""

    def begin() -> Apply:
        lock, count = threading.Lock(), [0]

        def apply(ask: Ask, forward: Forward) -> Reply:
            if paths is None or ask.route in paths:
                with lock:
                    count[0] += 1
                    hit = count[0] % k == 0
                if hit:
                    return change(ask, forward)
            return forward(ask)

        return apply

    return begin


def _header(name: str, value: str | None, paths: tuple[str, ...], streams: bool = False) -> Start:
    def edit(reply: Reply, ask: Ask) -> None:
        if value is None:
            reply.headers.pop(name, None)
        else:
            reply.headers[name] = value

    return replies(edit, paths, lambda reply, ask: reply.is_stream == streams)


def own(method: str | None, path: str, reply: Any) -> Start:
    """Answer a route by itself."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route == path and method in (None, ask.method):
            return reply(ask, forward)
        return forward(ask)

    return plain(apply)


def _text(status: int, text: str, kind: str = "text/plain") -> Reply:
    return Reply(status, {"content-type": kind}, [text.encode()])


def _big_body(limit: int) -> Start:
    def apply(ask: Ask, forward: Forward) -> Reply:
        if len(ask.content) > limit:
            return _text(413, "Payload Too Large")
        return forward(ask)

    return plain(apply)


def metrics(change: Any) -> Start:
    """Change the lines of /metrics."""

    def edit(reply: Reply, ask: Ask) -> None:
        text = reply.read().decode()
        new = "\n".join(new for line in text.split("\n") for new in change(line)).encode()
        reply.parts = [new]
        if "content-length" in reply.headers:
            reply.headers["content-length"] = str(len(new))

    return replies(edit, (METRICS,))


def _gone(prefix: str) -> Any:
    return lambda line: [] if prefix in line else [line]


def _zero(prefix: str) -> Any:
    def change(line: str) -> list[str]:
        if line.startswith(prefix) and " " in line:
            return [line.rsplit(" ", 1)[0] + " 0.0"]
        return [line]

    return change


def _times(prefix: str, factor: float) -> Any:
    def change(line: str) -> list[str]:
        if line.startswith(prefix):
            head, value = line.rsplit(" ", 1)
            return [f"{head} {float(value) * factor}"]
        return [line]

    return change


def _label(old: str, new: str) -> Any:
    return lambda line: [line.replace(old, new)]


def _frozen_metrics() -> Start:
    def begin() -> Apply:
        kept: list[tuple[dict[str, str], bytes]] = []

        def apply(ask: Ask, forward: Forward) -> Reply:
            if ask.route != METRICS:
                return forward(ask)
            if not kept:
                reply = forward(ask)
                kept.append((dict(reply.headers), reply.read()))
            return Reply(200, dict(kept[0][0]), [kept[0][1]])

        return apply

    return begin


def _abort_ignored() -> Start:
    """A client that leaves is not noticed: the answer goes on."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        reply = forward(ask)
        if reply.is_stream:
            parts = iter(reply.parts)
            buffer: list[bytes] = []
            ended = threading.Event()

            def drain() -> None:
                with contextlib.suppress(Exception):  # the other end has gone
                    buffer.extend(parts)
                ended.set()

            threading.Thread(target=drain, daemon=True).start()

            def give() -> Iterator[bytes]:
                at = 0
                while True:
                    if at < len(buffer):
                        yield buffer[at]
                        at += 1
                    elif ended.is_set() and at >= len(buffer):
                        return
                    else:
                        time.sleep(0.002)

            reply.parts = give()
        return reply

    return plain(apply)


def _status(new: int, old: int, paths: tuple[str, ...] = ALL) -> Start:
    def edit(reply: Reply, ask: Ask) -> None:
        reply.status = new
        body = reply.body
        if isinstance(body, dict) and isinstance(body.get("error"), dict):
            if "code" in body["error"]:
                body["error"]["code"] = new
            put(reply, body)

    return replies(edit, paths, lambda reply, ask: reply.status == old)


def _leak(text: str) -> Start:
    def change(body: Body, ask: Body) -> None:
        if isinstance(body.get("error"), dict):
            body["error"]["message"] = str(body["error"].get("message", "")) + text

    return refusals(change)


def _accepts(field: str, bad: Any, instead: Any, paths: tuple[str, ...] = (C, H)) -> Start:
    """A bad value is taken silently."""

    def change(body: Body) -> None:
        if field in body and bad(body[field]):
            if instead is None:
                body.pop(field)
            else:
                body[field] = instead

    return asks(change, paths)


def _stream_error_inside(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
    for n, frame in enumerate(events):
        if n == 2:
            yield Frame(json.dumps({"error": {"message": "boom", "type": "x", "code": 500}}))
        yield frame


def _refusal_as_stream() -> Start:
    """A refused streaming request is answered with 200 and an error event."""

    def edit(reply: Reply, ask: Ask) -> Reply | None:
        text = reply.read().decode()
        return Reply(
            200,
            {"content-type": "text/event-stream; charset=utf-8"},
            [f"data: {text}\n\n".encode(), b"data: [DONE]\n\n"],
        )

    return replies(edit, GEN, lambda r, a: r.status >= 400 and a.body.get("stream") is True)


def _open_routes(*paths: str) -> Start:
    """The key is not asked for at these routes (used in front of a server with a key)."""
    import os

    def apply(ask: Ask, forward: Forward) -> Reply:
        if ask.route in paths:
            headers = {**ask.headers, "authorization": f"Bearer {os.environ['VLLM_API_KEY']}"}
            ask = Ask(ask.method, ask.path, headers, ask.content)
        return forward(ask)

    return plain(apply)


def _key_fix(change: Any) -> Start:
    """What the client sends as its key is read too kindly."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        import os

        given, key = ask.headers.get("authorization", ""), os.environ["VLLM_API_KEY"]
        if change(given, key):
            headers = {**ask.headers, "authorization": f"Bearer {key}"}
            ask = Ask(ask.method, ask.path, headers, ask.content)
        return forward(ask)

    return plain(apply)


def _unauthorized(status: int = 401, body: Any = None, text: str | None = None) -> Start:
    def edit(reply: Reply, ask: Ask) -> Reply | None:
        if text is not None:
            return _text(status, text)
        return (
            answer(body, status) if body is not None else Reply(status, reply.headers, reply.parts)
        )

    every_path = (C, H, R, M, MODELS, EMBED, TOKENIZE, DETOKENIZE)
    return replies(edit, every_path, lambda reply, ask: reply.status == 401)


def _tokens(change: Any, when: Any = lambda ask: True) -> Start:
    def edit(body: Body, ask: Body) -> None:
        if isinstance(body.get("tokens"), list):
            change(body)

    return whole(edit, (TOKENIZE,), when)


def _pop_special(body: Body) -> None:
    body["tokens"] = body["tokens"][1:]
    body["count"] = len(body["tokens"])


def _no_route(reply: Reply) -> Reply:
    body = reply.body
    body["paths"].pop("/v1/chat/completions", None)
    put(reply, body)
    return reply


def _emptied(reply: Reply, ask: Ask) -> Reply:
    body = reply.body if not reply.is_stream else None
    if reply.status == 200 and body:
        for choice in body.get("choices") or []:
            if "text" in choice:
                choice["text"] = ""
            else:
                choice["message"]["content"] = ""
        put(reply, body)
    return reply


def _no_done(reply: Reply) -> Reply:
    if reply.status == 200 and reply.is_stream:
        reply.parts = (p for p in reply.parts if b"[DONE]" not in p)
    return reply


def _cache_of_last(k: int) -> Start:
    """Each k-th answer is that of the request before."""

    def begin() -> Apply:
        lock = threading.Lock()
        last: list[Any] = []
        count = [0]

        def apply(ask: Ask, forward: Forward) -> Reply:
            reply = forward(ask)
            if ask.route not in GEN or reply.is_stream or reply.status != 200:
                return reply
            body = reply.read()
            with lock:
                count[0] += 1
                if count[0] % k == 0 and last:
                    headers = {**reply.headers, "content-length": str(len(last[0]))}
                    return Reply(200, headers, [last[0]])
                last[:] = [body]
            return reply

        return apply

    return begin


def _404_html(reply: Reply) -> Reply:
    if reply.status == 404 and not isinstance((reply.body or {}).get("error"), dict):
        return _text(404, "<html>404</html>", "text/html")
    return reply


def _restatus(reply: Reply, old: int, new: int) -> Reply:
    if reply.status == old:
        reply.status = new
    return reply


def _pop_header(reply: Reply, name: str) -> Reply:
    reply.headers.pop(name, None)
    return reply


def _gzip_bare(reply: Reply, ask: Ask) -> None:
    import gzip

    reply.parts = [gzip.compress(reply.read())]
    if "content-length" in reply.headers:
        reply.headers["content-length"] = str(len(reply.read()))


def _bad_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False


F = Fault
FAULTS: list[Fault] = [
    # tools, whole and streamed
    F("b_tool_args_sent_again_at_the_end", "", stream(_last_call_only, (H,)), "chat"),
    F("b_tool_index_always_zero_in_stream", "", stream(_index_zero, (H,)), "tools"),
    F("b_tool_first_args_piece_lost", "", stream(_first_args_lost(0), (H,)), "chat"),
    F("b_tool_second_call_first_args_piece_lost", "", stream(_first_args_lost(1), (H,)), "tools"),
    F("b_tool_finish_reason_stop", "", objects(_finish("stop"), (H,)), "tools"),
    F("b_tool_finish_reason_stop_in_stream_only", "", chunks(_finish("stop"), (H,)), "tools"),
    F("b_tool_finish_function_call", "", objects(_finish("function_call"), (H,)), "tools"),
    F("b_tool_call_also_in_content", "", whole(_content_null_to_text, (H,)), "chat"),
    F("b_tool_second_call_lost", "", whole(_second_call_lost, (H,)), "tools"),
    F("b_tool_calls_reversed", "", whole(_calls_reversed, (H,)), "tools"),
    F("b_tool_text_before_call_lost", "", whole(_text_before_call_lost, (H,)), "tools"),
    F(
        "b_tool_text_before_call_lost_both",
        "",
        together(whole(_text_before_call_lost, (H,)), stream(_stream_text_before_call_lost, (H,))),
        "tools",
    ),
    F("b_tool_id_new_each_chunk", "", stream(_id_each_chunk, (H,)), "chat"),
    F("b_tool_name_in_each_chunk", "", stream(_name_split, (H,)), "chat"),
    F(
        "b_tool_args_as_object",
        "",
        calls(
            lambda c: c["function"].update(arguments=json.loads(c["function"]["arguments"])),
            when_stream=False,
        ),
        "tools",
    ),
    F(
        "b_tool_args_null_when_empty",
        "",
        calls(
            lambda c: (
                c["function"].update(arguments=None)
                if c["function"].get("arguments") in ("{}", "")
                else None
            ),
            when_stream=False,
        ),
        "chat",
    ),
    F(
        "b_tool_args_empty_string_for_none",
        "",
        calls(
            lambda c: (
                c["function"].update(arguments="")
                if c["function"].get("arguments") == "{}"
                else None
            ),
            when_stream=False,
        ),
        "chat",
    ),
    F("b_tool_args_double_encoded", "", _args(lambda t: json.dumps(t), when_stream=False), "chat"),
    F(
        "b_tool_nested_args_as_string",
        "",
        _args(_reparse(_nested_as_string), when_stream=False),
        "chat",
    ),
    F(
        "b_tool_numbers_as_strings",
        "",
        _args(_reparse(_numbers_as_strings), when_stream=False),
        "chat",
    ),
    F("b_tool_bools_as_strings", "", _args(_reparse(_bools_as_strings), when_stream=False), "chat"),
    F(
        "b_tool_args_single_quotes",
        "",
        _args(lambda t: str(json.loads(t)), when_stream=False),
        "tools",
    ),
    F(
        "b_tool_args_unicode_twice_escaped",
        "",
        _args(
            _reparse(_each(str, lambda s: s.encode("unicode_escape").decode())), when_stream=False
        ),
        "tools",
    ),
    F(
        "b_tool_args_unicode_lost_both",
        "",
        _args(lambda t: t.encode("ascii", "ignore").decode()),
        "tools",
    ),
    F(
        "b_tool_args_stripped_strings",
        "",
        _args(_reparse(_each(str, lambda s: s.replace("\n", " "))), when_stream=False),
        "tools",
    ),
    F(
        "b_tool_args_ints_as_floats",
        "",
        _args(
            _reparse(_each(int, lambda n: n if isinstance(n, bool) else float(n))),
            when_stream=False,
        ),
        "tools",
    ),
    F(
        "b_tool_null_args_dropped",
        "",
        _args(_reparse(lambda v: {k: x for k, x in v.items() if x is not None}), when_stream=False),
        "tools",
    ),
    F("b_tool_id_missing_whole", "", calls(lambda c: c.pop("id", 0), when_stream=False), "chat"),
    F("b_tool_id_missing_stream", "", calls(lambda c: c.pop("id", 0), when_whole=False), "chat"),
    F("b_tool_id_null", "", calls(lambda c: c.update(id=None), when_stream=False), "chat"),
    F(
        "b_tool_id_constant",
        "",
        calls(lambda c: c.update(id="call_0") if c.get("id") else None),
        "chat",
    ),
    F("b_tool_type_missing", "", calls(lambda c: c.pop("type", 0)), "chat"),
    F(
        "b_tool_type_tool",
        "",
        calls(lambda c: c.update(type="tool") if c.get("type") else None),
        "chat",
    ),
    F(
        "b_tool_name_prefixed",
        "",
        calls(
            lambda c: (
                c["function"].update(name="functions." + c["function"]["name"])
                if (c.get("function") or {}).get("name")
                else None
            )
        ),
        "chat",
    ),
    F(
        "b_tool_name_with_space",
        "",
        calls(
            lambda c: (
                c["function"].update(name=c["function"]["name"] + " ")
                if (c.get("function") or {}).get("name")
                else None
            )
        ),
        "chat",
    ),
    F("b_tool_results_forgotten", "", asks(_forget_tool_messages, (H,)), "chat"),
    F("b_tool_call_history_forgotten", "", asks(_forget_call_history, (H,)), "chat"),
    F("b_tool_descriptions_not_in_prompt", "", asks(_strip_tool_descriptions, (H,)), "chat"),
    F("b_only_first_tool_is_offered", "", asks(_first_tool_only, (H,)), "chat"),
    F("b_tool_choice_required_as_auto", "", asks(_required_as_auto, (H,)), "tools"),
    F(
        "b_tool_choice_none_ignored",
        "",
        asks(lambda b: b.pop("tool_choice") if b.get("tool_choice") == "none" else None, (H,)),
        "tools",
    ),
    F(
        "b_tool_choice_none_as_auto_in_responses",
        "",
        asks(lambda b: b.pop("tool_choice") if b.get("tool_choice") == "none" else None, (R,)),
        "tools",
    ),
    F("b_unknown_named_tool_accepted", "", _unknown_named_tool_ok(), "chat"),
    F(
        "b_tools_dropped_with_stream",
        "",
        asks(
            lambda b: [b.pop(k, 0) for k in ("tools", "tool_choice")] if b.get("stream") else 0,
            (H,),
        ),
        "tools",
    ),
    F(
        "b_tool_delta_content_empty_missing_role",
        "",
        chunks(
            lambda c, a: (
                [
                    x["delta"].pop("role", 0)
                    for x in c.get("choices") or []
                    if x["delta"].get("tool_calls") or a.get("tools")
                ]
                and None
            ),
            (H,),
        ),
        "chat",
    ),
    F(
        "b_tool_tool_calls_null_vs_list_string",
        "",
        whole(
            lambda b, a: [
                c["message"].update(tool_calls=json.dumps(c["message"]["tool_calls"]))
                for c in b.get("choices") or []
                if c["message"].get("tool_calls")
            ],
            (H,),
        ),
        "chat",
    ),
    F(
        "b_tool_logprobs_dropped",
        "",
        objects(
            lambda b, a: (
                [c.update(logprobs=None) for c in b.get("choices") or []]
                if a.get("tools")
                else None
            ),
            (H,),
        ),
        "chat",
    ),
    F(
        "b_tool_usage_zero_with_tools_stream",
        "",
        chunks(
            lambda c, a: (
                c["usage"].update(completion_tokens=0, total_tokens=c["usage"]["prompt_tokens"])
                if a.get("tools") and c.get("usage")
                else None
            ),
            (H,),
        ),
        "chat",
    ),
    F("b_parallel_tool_calls_false_ignored", "", drops("parallel_tool_calls", paths=(H,)), "tools"),
    # reasoning
    F("b_reasoning_in_content", "", objects(_reasoning_into_content, (H,)), "reasoning"),
    F("b_reasoning_in_content_stream", "", chunks(_reasoning_into_content, (H,)), "reasoning"),
    F("b_reasoning_also_in_content", "", whole(_reasoning_twice, (H,)), "reasoning"),
    F("b_reasoning_ends_with_tag", "", whole(_think_tag, (H,)), "reasoning"),
    F("b_content_begins_with_tag_stream", "", stream(_think_tag_in_content, (H,)), "reasoning"),
    F("b_reasoning_last_piece_lost", "", stream(_reasoning_last_lost, (H,)), "reasoning"),
    F(
        "b_reasoning_missing_whole",
        "",
        whole(
            lambda b, a: [c["message"].pop("reasoning", 0) for c in b.get("choices") or []], (H,)
        ),
        "reasoning",
    ),
    F(
        "b_reasoning_stripped",
        "",
        whole(
            lambda b, a: [
                c["message"].update(reasoning=c["message"]["reasoning"].strip()[:-1])
                for c in b.get("choices") or []
                if c["message"].get("reasoning")
            ],
            (H,),
        ),
        "reasoning",
    ),
    F(
        "b_content_null_to_string_none",
        "",
        whole(
            lambda b, a: [
                c["message"].update(content="None")
                for c in b.get("choices") or []
                if c["message"].get("content") is None
            ],
            (H,),
        ),
        "chat",
    ),
    F(
        "b_reasoning_empty_string_content_missing",
        "",
        whole(
            lambda b, a: [
                c["message"].pop("content", 0)
                for c in b.get("choices") or []
                if c["message"].get("content") is None
            ],
            (H,),
        ),
        "chat",
    ),
    F("b_include_reasoning_ignored", "", drops("include_reasoning", paths=(H,)), "reasoning"),
    # responses
    F("b_r_no_completed", "", without("response.completed", "response.incomplete")),
    F("b_r_no_created", "", without("response.created"), "chat"),
    F("b_r_no_in_progress", "", without("response.in_progress"), "chat"),
    F("b_r_no_content_part_added", "", without("response.content_part.added"), "chat"),
    F("b_r_no_text_done", "", without("response.output_text.done"), "chat"),
    F("b_r_no_item_done", "", without("response.output_item.done"), "chat"),
    F(
        "b_r_sequence_starts_over",
        "",
        events_of("response.output_text.delta", lambda c, a: c.update(sequence_number=1)),
        "chat",
    ),
    F(
        "b_r_sequence_missing_in_last",
        "",
        events_of("response.completed", lambda c, a: c.pop("sequence_number", 0)),
        "chat",
    ),
    F(
        "b_r_item_id_empty_in_deltas",
        "",
        events_of("response.output_text.delta", lambda c, a: c.update(item_id="")),
        "chat",
    ),
    F(
        "b_r_item_id_differs_in_done",
        "",
        events_of("response.output_item.done", lambda c, a: c["item"].update(id="msg_other")),
        "chat",
    ),
    F(
        "b_r_output_index_wrong_in_text_done",
        "",
        events_of(
            "response.output_text.done", lambda c, a: c.update(output_index=c["output_index"] + 1)
        ),
        "chat",
    ),
    F(
        "b_r_content_index_off",
        "",
        events_of("response.content_part.done", lambda c, a: c.update(content_index=-1)),
        "chat",
    ),
    F(
        "b_r_text_done_is_last_delta",
        "",
        events_of("response.output_text.done", lambda c, a: c.update(text=c["text"][-3:])),
        "chat",
    ),
    F(
        "b_r_part_done_text_empty",
        "",
        events_of("response.content_part.done", lambda c, a: (c.get("part") or {}).update(text="")),
        "chat",
    ),
    F(
        "b_r_completed_output_empty",
        "",
        events_of("response.completed", lambda c, a: c["response"].update(output=[])),
        "chat",
    ),
    F(
        "b_r_completed_usage_null",
        "",
        together(
            events_of("response.completed", lambda c, a: c["response"].update(usage=None)),
            events_of("response.incomplete", lambda c, a: c["response"].update(usage=None)),
        ),
        "chat",
    ),
    F(
        "b_r_status_in_progress_at_end",
        "",
        together(
            events_of("response.completed", lambda c, a: c["response"].update(status="in_progress"))
        ),
        "chat",
    ),
    F("b_r_done_before_part_done_swapped", "", stream(_r_swap_done, (R,)), "chat"),
    F("b_r_delta_repeated", "", stream(_r_repeat_delta, (R,)), "chat"),
    F("b_r_no_event_names", "", wire(_no_event_names, (R,)), "chat"),
    F(
        "b_r_id_changes_in_completed",
        "",
        events_of("response.completed", lambda c, a: c["response"].update(id="resp_other")),
        "chat",
    ),
    F("b_r_incomplete_as_completed", "", whole_r(_r_incomplete_as_completed), "chat"),
    F(
        "b_r_incomplete_as_completed_stream",
        "",
        together(chunks(_r_stream_incomplete, (R,)), chunks(_r_incomplete_as_completed, (R,))),
        "chat",
    ),
    F(
        "b_r_usage_total_wrong",
        "",
        _r_usage(lambda u: u.update(total_tokens=u["output_tokens"])),
        "chat",
    ),
    F(
        "b_r_usage_chat_names",
        "",
        _r_usage(
            lambda u: u.update(
                prompt_tokens=u.pop("input_tokens"), completion_tokens=u.pop("output_tokens")
            )
        ),
        "chat",
    ),
    F(
        "b_r_usage_details_missing",
        "",
        _r_usage(lambda u: u.pop("output_tokens_details", 0)),
        "chat",
    ),
    F("b_r_instructions_ignored", "", drops("instructions", paths=(R,)), "chat"),
    F("b_r_max_output_tokens_ignored", "", drops("max_output_tokens", paths=(R,)), "chat"),
    F("b_r_temperature_not_echoed", "", whole_r(lambda b, a: b.update(temperature=1.0)), "chat"),
    F("b_r_metadata_lost", "", whole_r(lambda b, a: b.update(metadata=None)), "chat"),
    F(
        "b_r_created_at_float",
        "",
        whole_r(lambda b, a: b.update(created_at=b["created_at"] + 0.5)),
        "chat",
    ),
    F("b_r_object_wrong", "", whole_r(lambda b, a: b.update(object="chat.completion")), "chat"),
    F(
        "b_r_text_parts_type_text",
        "",
        output(lambda i: [p.update(type="text") for p in i.get("content") or []], "message"),
        "chat",
    ),
    F(
        "b_r_annotations_missing",
        "",
        output(lambda i: [p.pop("annotations", 0) for p in i.get("content") or []], "message"),
        "chat",
    ),
    F("b_r_call_id_missing", "", output(lambda i: i.pop("call_id", 0), "function_call"), "chat"),
    F(
        "b_r_call_args_object",
        "",
        whole_r(
            lambda b, a: [
                i.update(arguments=json.loads(i["arguments"]))
                for i in b.get("output") or []
                if i.get("type") == "function_call"
            ]
        ),
        "tools",
    ),
    F(
        "b_r_call_args_done_empty",
        "",
        events_of("response.function_call_arguments.done", lambda c, a: c.update(arguments="")),
        "chat",
    ),
    F(
        "b_r_call_item_done_args_empty",
        "",
        events_of(
            "response.output_item.done",
            lambda c, a: (
                c["item"].update(arguments="") if c["item"].get("type") == "function_call" else None
            ),
        ),
        "chat",
    ),
    F(
        "b_r_call_args_deltas_missing",
        "",
        without("response.function_call_arguments.delta"),
        "chat",
    ),
    F("b_r_message_status_missing", "", output(lambda i: i.pop("status", 0), "message"), "chat"),
    F(
        "b_r_input_history_first_only",
        "",
        asks(
            lambda b: b.update(input=b["input"][-1:]) if isinstance(b.get("input"), list) else 0,
            (R,),
        ),
        "chat",
    ),
    F("b_r_unknown_previous_id_accepted", "", drops("previous_response_id", paths=(R,)), "chat"),
    F("b_r_text_format_ignored", "", drops("text", paths=(R,)), "chat"),
    F(
        "b_r_error_shape_detail",
        "",
        refusals(lambda b, a: b.update(detail=b.pop("error", {}).get("message")), (R,)),
    ),
    # messages
    F(
        "b_m_stop_reason_end_turn_for_tools",
        "",
        together(whole(_m_stop, (M,)), chunks(_m_stop, (M,))),
        "tools",
    ),
    F("b_m_stop_reason_end_turn_for_tools_stream", "", chunks(_m_stop, (M,)), "tools"),
    F(
        "b_m_max_tokens_as_end_turn_stream",
        "",
        chunks(lambda c, a: _m_stop(c, a, "max_tokens", "end_turn"), (M,)),
        "chat",
    ),
    F("b_m_block_index_zero", "", stream(_m_index, (M,)), "tools"),
    F("b_m_last_block_never_stops", "", stream(_m_no_stop_of_last_block, (M,)), "chat"),
    F("b_m_input_in_start_and_deltas", "", stream(_m_input_twice, (M,)), "tools"),
    F(
        "b_m_message_delta_without_usage",
        "",
        chunks(
            lambda c, a: c.pop("usage", 0) and None if c.get("type") == "message_delta" else None,
            (M,),
        ),
        "chat",
    ),
    F(
        "b_m_start_input_tokens_zero_all",
        "",
        chunks(
            lambda c, a: (
                c["message"]["usage"].update(input_tokens=0)
                if c.get("type") == "message_start"
                else (c.get("usage") or {}).update(input_tokens=0)
            ),
            (M,),
        ),
        "chat",
    ),
    F(
        "b_m_output_tokens_one_stream",
        "",
        chunks(lambda c, a: (c.get("usage") or {}).update(output_tokens=1), (M,)),
        "chat",
    ),
    F("b_m_no_message_stop", "", without("message_stop", paths=(M,)), "chat"),
    F("b_m_extra_done", "", stream(_done_marker, (M,)), "chat"),
    F("b_m_no_event_names", "", wire(_no_event_names, (M,)), "chat"),
    F(
        "b_m_tool_input_string",
        "",
        m_blocks(lambda b: b.update(input=json.dumps(b["input"])), "tool_use"),
        "chat",
    ),
    F("b_m_tool_id_missing", "", m_blocks(lambda b: b.pop("id", 0), "tool_use"), "chat"),
    F("b_m_tool_input_empty", "", m_blocks(lambda b: b.update(input={}), "tool_use"), "tools"),
    F("b_m_system_ignored", "", drops("system", paths=(M, CT)), "chat"),
    F(
        "b_m_system_blocks_ignored",
        "",
        asks(lambda b: b.pop("system") if isinstance(b.get("system"), list) else 0, (M, CT)),
        "chat",
    ),
    F(
        "b_m_stop_sequence_null",
        "",
        objects(
            lambda b, a: [
                p.update(stop_sequence=None)
                for p in (b, b.get("delta") or {})
                if isinstance(p, dict) and p.get("stop_sequence")
            ],
            (M,),
        ),
        "chat",
    ),
    F("b_m_stop_sequences_ignored", "", drops("stop_sequences", paths=(M,)), "chat"),
    F("b_m_top_k_ignored", "", drops("top_k", paths=(M,)), "chat"),
    F("b_m_openai_error_shape", "", refusals(lambda b, a: b.pop("type", 0), (M,)), "chat"),
    F(
        "b_m_error_type_openai",
        "",
        refusals(lambda b, a: (b.get("error") or {}).update(type="BadRequestError"), (M,)),
        "chat",
    ),
    F(
        "b_m_count_tokens_off_by_one",
        "",
        whole(lambda b, a: b.update(input_tokens=b["input_tokens"] + 1), (CT,)),
        "chat",
    ),
    F("b_m_count_tokens_ignores_tools", "", drops("tools", paths=(CT,)), "chat"),
    F("b_m_count_tokens_404", "", own("POST", CT, lambda a, f: error(404, "Not Found")), "chat"),
    F(
        "b_m_tool_result_forgotten",
        "",
        asks(
            lambda b: [
                m.update(content=[p for p in m["content"] if p.get("type") != "tool_result"] or "x")
                for m in b.get("messages") or []
                if isinstance(m, dict) and isinstance(m.get("content"), list)
            ],
            (M, CT),
        ),
        "chat",
    ),
    F("b_m_role_user", "", whole(lambda b, a: b.update(role="user"), (M,)), "chat"),
    F(
        "b_m_content_string",
        "",
        whole(
            lambda b, a: b.update(content="".join(p.get("text", "") for p in b["content"])), (M,)
        ),
        "chat",
    ),
    F(
        "b_m_cached_tokens_counted_as_input",
        "",
        objects(
            lambda b, a: [
                u.update(input_tokens=u["input_tokens"] + 3)
                for u in (b.get("usage"), (b.get("message") or {}).get("usage"))
                if u and u.get("input_tokens")
            ],
            (M,),
        ),
        "chat",
    ),
    # embeddings
    F(
        "b_e_order_swapped_index_right",
        "",
        data(_swap_vectors, lambda rows, ask: len(rows) > 1),
        "embed",
    ),
    F(
        "b_e_index_all_zero",
        "",
        data(lambda rows, a: [r.update(index=0) for r in rows] and rows),
        "embed",
    ),
    F("b_e_rows_unsorted", "", data(lambda rows, a: rows[::-1]), "embed"),
    F("b_e_base64_ignored", "", drops("encoding_format", paths=(EMBED,)), "embed"),
    F("b_e_base64_big_endian", "", data(_big_endian), "embed"),
    F("b_e_base64_half", "", data(_half), "embed"),
    F("b_e_base64_double", "", data(_doubles), "embed"),
    F("b_e_base64_url_safe", "", data(_url_safe), "embed"),
    F("b_e_not_normalised", "", data(_scale), "embed"),
    F("b_e_same_for_batch", "", data(_same_in_batch), "embed"),
    F("b_e_batch_differs_from_single", "", data(_batch_noise), "embed"),
    F(
        "b_e_usage_first_only",
        "",
        whole(
            lambda b, a: b["usage"].update(
                prompt_tokens=b["usage"]["prompt_tokens"] // len(b["data"]),
                total_tokens=b["usage"]["prompt_tokens"] // len(b["data"]),
            ),
            (EMBED,),
        ),
        "embed",
    ),
    F("b_e_usage_missing", "", whole(lambda b, a: b.pop("usage", 0), (EMBED,)), "embed"),
    F(
        "b_e_usage_completion_tokens",
        "",
        whole(lambda b, a: b["usage"].update(completion_tokens=1), (EMBED,)),
        "embed",
    ),
    F(
        "b_e_last_row_lost_big_batch",
        "",
        data(lambda rows, a: rows[:-1], lambda rows, ask: len(rows) > 8),
        "embed",
    ),
    F("b_e_dimensions_ignored", "", drops("dimensions", paths=(EMBED,)), "embed"),
    F(
        "b_e_empty_string_refused",
        "",
        own(
            "POST",
            EMBED,
            lambda a, f: error(500, "boom") if a.body.get("input") in ("", [""]) else f(a),
        ),
        "embed",
    ),
    F(
        "b_e_token_ids_as_text",
        "",
        asks(
            lambda b: (
                b.update(input=str(b["input"]))
                if isinstance(b.get("input"), list)
                and b["input"]
                and isinstance(b["input"][0], int)
                else 0
            ),
            (EMBED,),
        ),
        "embed",
    ),
    F("b_e_model_alias_wrong", "", whole(lambda b, a: b.update(model="other"), (EMBED,)), "embed"),
    F(
        "b_e_object_missing",
        "",
        data(lambda rows, a: [r.pop("object", 0) for r in rows] and rows),
        "embed",
    ),
    F(
        "b_e_too_long_truncated_silently",
        "",
        asks(lambda b: b.setdefault("truncate_prompt_tokens", -1), (EMBED,)),
        "embed",
    ),
    F("b_e_truncate_ignored", "", drops("truncate_prompt_tokens", paths=(EMBED,)), "embed"),
    # tokenize
    F(
        "b_t_count_off_by_one",
        "",
        whole(lambda b, a: b.update(count=b["count"] + 1), (TOKENIZE,)),
        "any",
    ),
    F("b_t_add_special_tokens_ignored", "", drops("add_special_tokens", paths=(TOKENIZE,)), "any"),
    F(
        "b_t_token_strs_always_null",
        "",
        whole(lambda b, a: b.update(token_strs=None), (TOKENIZE,)),
        "any",
    ),
    F(
        "b_t_messages_lack_generation_prompt",
        "",
        asks(
            lambda b: b.update(add_generation_prompt=False) if "messages" in b else 0, (TOKENIZE,)
        ),
        "chat",
    ),
    F("b_t_tools_ignored", "", drops("tools", paths=(TOKENIZE,)), "chat"),
    F(
        "b_t_max_model_len_wrong",
        "",
        whole(lambda b, a: b.update(max_model_len=2048), (TOKENIZE,)),
        "any",
    ),
    F(
        "b_t_detok_strips",
        "",
        whole(lambda b, a: b.update(prompt=b["prompt"].strip()), (DETOKENIZE,)),
        "any",
    ),
    F(
        "b_t_detok_collapses_spaces",
        "",
        whole(lambda b, a: b.update(prompt=b["prompt"].replace("  ", " ")), (DETOKENIZE,)),
        "any",
    ),
    F("b_t_detok_500_out_of_range", "", _status(500, 400, (DETOKENIZE,)), "any"),
    F(
        "b_t_detok_skips_special",
        "",
        whole(
            lambda b, a: b.update(
                prompt=b["prompt"].replace("<s>", "").replace("</s>", "").replace("<|im_end|>", "")
            ),
            (DETOKENIZE,),
        ),
        "known",
    ),
    # errors
    F("b_err_500_for_400", "", _status(500, 400)),
    F("b_err_422_for_400", "", _status(422, 400)),
    F("b_err_400_for_404_model", "", _status(400, 404)),
    F("b_err_413_as_500_route_r", "", _status(500, 400, (R,)), "chat"),
    F(
        "b_err_code_string",
        "",
        refusals(
            lambda b, a: (b.get("error") or {}).update(
                code=str((b.get("error") or {}).get("code"))
            ),
            GEN,
        ),
    ),
    F(
        "b_err_code_mismatch",
        "",
        refusals(lambda b, a: (b.get("error") or {}).update(code=500), GEN),
    ),
    F("b_err_flat_envelope", "", refusals(lambda b, a: b.update(b.pop("error", None) or {}), GEN)),
    F(
        "b_err_traceback",
        "",
        _leak('\nTraceback (most recent call last):\n  File "/usr/lib/python3/x.py", line 3, in f'),
    ),
    F("b_err_path", "", _leak(" (see /usr/local/lib/python3.12/dist-packages/vllm/engine.py:12)")),
    F(
        "b_err_pydantic_url",
        "",
        _leak(" For further information visit https://errors.pydantic.dev/2.11/v/missing"),
    ),
    F(
        "b_err_echoes_whole_request",
        "",
        refusals(
            lambda b, a: (b.get("error") or {}).update(
                message=str((b.get("error") or {}).get("message")) + json.dumps(a)
            ),
            GEN,
        ),
    ),
    F(
        "b_err_message_empty",
        "",
        refusals(lambda b, a: (b.get("error") or {}).update(message=""), GEN),
    ),
    F(
        "b_err_message_object",
        "",
        refusals(lambda b, a: (b.get("error") or {}).update(message={"detail": "x"}), GEN),
    ),
    F(
        "b_err_html",
        "",
        replies(
            lambda r, a: _text(r.status, "<html><h1>Bad Request</h1></html>", "text/html"),
            GEN,
            lambda r, a: r.status == 400,
        ),
    ),
    F(
        "b_err_text_type_json_body",
        "",
        replies(
            lambda r, a: r.headers.update({"content-type": "text/plain"}),
            GEN,
            lambda r, a: r.status >= 400,
        ),
    ),
    F("b_err_refusal_in_stream_200", "", _refusal_as_stream()),
    F("b_err_in_stream_then_goes_on", "", stream(_stream_error_inside)),
    F(
        "b_accept_temperature_negative",
        "",
        _accepts("temperature", lambda v: isinstance(v, (int, float)) and v < 0, 0),
    ),
    F(
        "b_accept_top_p_above_one",
        "",
        _accepts("top_p", lambda v: isinstance(v, (int, float)) and v > 1, 1),
    ),
    F("b_accept_max_tokens_zero", "", _accepts("max_tokens", lambda v: v == 0, 1)),
    F(
        "b_accept_max_tokens_negative",
        "",
        _accepts("max_tokens", lambda v: isinstance(v, int) and v < 0, None),
    ),
    F("b_accept_n_zero", "", _accepts("n", lambda v: v == 0, 1)),
    F(
        "b_accept_empty_messages",
        "",
        _accepts("messages", lambda v: v == [], [{"role": "user", "content": "x"}]),
    ),
    F(
        "b_accept_bad_role",
        "",
        asks(
            lambda b: [
                m.update(role="user")
                for m in b.get("messages") or []
                if isinstance(m, dict)
                and isinstance(m.get("role"), str)
                and m["role"] not in ("user", "system", "assistant", "tool", "developer")
            ],
            (H,),
        ),
        "chat",
    ),
    F("b_accept_unknown_model", "", asks(lambda b: b.pop("model", 0), ALL)),
    F(
        "b_accept_unknown_model_embeddings",
        "",
        asks(lambda b: b.pop("model", 0), (EMBED,)),
        "embed",
    ),
    F("b_accept_string_bool_stream", "", _accepts("stream", lambda v: isinstance(v, str), None)),
    F(
        "b_accept_top_logprobs_without_logprobs",
        "",
        asks(lambda b: b.pop("top_logprobs", 0) if not b.get("logprobs") else 0, (H,)),
        "chat",
    ),
    F(
        "b_accept_long_prompt_truncated",
        "",
        asks(lambda b: b.setdefault("truncate_prompt_tokens", -1), GEN),
    ),
    F("b_accept_get_on_post", "", own("GET", H, lambda a, f: answer({}))),
    F(
        "b_json_error_trailing_comma_ok",
        "",
        plain(lambda a, f: f(Ask(a.method, a.path, a.headers, a.content.replace(b",}", b"}")))),
    ),
    # auth
    F("b_auth_open_messages", "", _open_routes(M, CT), "key"),
    F("b_auth_open_responses", "", _open_routes(R), "key"),
    F("b_auth_open_models", "", _open_routes(MODELS), "key"),
    F("b_auth_open_embeddings_route", "", _open_routes(EMBED), "key"),
    F("b_auth_scheme_ignored", "", _key_fix(lambda g, k: g.endswith(k)), "key"),
    F(
        "b_auth_prefix_enough",
        "",
        _key_fix(lambda g, k: g.startswith("Bearer ") and len(g) > 7 and k.startswith(g[7:])),
        "key",
    ),
    F("b_auth_longer_key_ok", "", _key_fix(lambda g, k: g.startswith(f"Bearer {k}")), "key"),
    F("b_auth_case_ignored", "", _key_fix(lambda g, k: g.lower() == f"bearer {k}".lower()), "key"),
    F("b_auth_empty_bearer_ok", "", _key_fix(lambda g, k: g.strip() == "Bearer"), "key"),
    F("b_auth_403", "", _unauthorized(403), "key"),
    F("b_auth_text_401", "", _unauthorized(401, text="Unauthorized"), "key"),
    F(
        "b_auth_health_closed",
        "",
        own(
            "GET",
            HEALTH,
            lambda a, f: error(401, "Unauthorized") if "authorization" not in a.headers else f(a),
        ),
        "key",
    ),
    F(
        "b_auth_key_in_refusal",
        "",
        replies(
            lambda r, a: answer(
                {"error": "Unauthorized", "expected": __import__("os").environ.get("VLLM_API_KEY")},
                401,
            ),
            (C, H, R, M, MODELS),
            lambda r, a: r.status == 401,
        ),
        "key",
    ),
    F("b_auth_wrong_method_skips", "", own("POST", H, lambda a, f: f(a)), "key"),
    # metrics, health and the like
    F("b_x_metrics_frozen", "", _frozen_metrics()),
    F("b_x_generation_tokens_zero", "", metrics(_zero("vllm:generation_tokens_total"))),
    F("b_x_prompt_tokens_doubled", "", metrics(_times("vllm:prompt_tokens_total", 2))),
    F("b_x_request_success_missing", "", metrics(_gone("vllm:request_success_total"))),
    F("b_x_model_name_label_wrong", "", metrics(_label('model_name="', 'model_name="x'))),
    F("b_x_running_always_zero", "", metrics(_zero("vllm:num_requests_running"))),
    F("b_x_ttft_missing", "", metrics(_gone("vllm:time_to_first_token_seconds"))),
    F("b_x_ttft_in_ms", "", metrics(_times("vllm:time_to_first_token_seconds_sum", 1000))),
    F("b_x_e2e_count_doubled", "", metrics(_times("vllm:e2e_request_latency_seconds_count", 2))),
    F("b_x_kv_usage_percent", "", metrics(_times("vllm:kv_cache_usage_perc", 100))),
    F(
        "b_x_finish_reason_label_merged",
        "",
        metrics(_label('finished_reason="length"', 'finished_reason="stop"')),
    ),
    F(
        "b_x_histogram_not_cumulative",
        "",
        metrics(
            lambda line: (
                [line.rsplit(" ", 1)[0] + " 0.0"]
                if "_bucket" in line
                and 'le="+Inf"' in line
                and line.startswith("vllm:request_prompt_tokens")
                else [line]
            )
        ),
    ),
    F(
        "b_x_help_missing",
        "",
        metrics(lambda line: [] if line.startswith("# TYPE vllm") else [line]),
    ),
    F("b_x_metrics_html", "", _header("content-type", "text/html", (METRICS,))),
    F("b_x_health_body_error", "", own("GET", HEALTH, lambda a, f: answer({"status": "error"}))),
    F("b_x_health_post_ok_get_204", "", own("GET", HEALTH, lambda a, f: Reply(204))),
    F("b_x_version_empty", "", own("GET", VERSION, lambda a, f: answer({"version": ""}))),
    F("b_x_version_unknown", "", own("GET", VERSION, lambda a, f: answer({"version": "unknown"}))),
    F("b_x_ping_404", "", own(None, "/ping", lambda a, f: error(404, "Not Found"))),
    F("b_x_load_text", "", own("GET", "/load", lambda a, f: answer({"server_load": "0"}))),
    F("b_x_load_leaks", "", own("GET", "/load", lambda a, f: answer({"server_load": 7}))),
    F("b_x_docs_500", "", own("GET", "/docs", lambda a, f: _text(500, "Internal Server Error"))),
    F("b_x_openapi_lacks_route", "", own("GET", "/openapi.json", lambda a, f: _no_route(f(a)))),
    F("b_x_models_empty_list", "", whole(lambda b, a: b.update(data=[]), (MODELS,))),
    F(
        "b_x_models_max_len_missing",
        "",
        whole(lambda b, a: [m.pop("max_model_len", 0) for m in b["data"]], (MODELS,)),
    ),
    F("b_x_models_object_wrong", "", whole(lambda b, a: b.update(object="models"), (MODELS,))),
    F(
        "b_x_models_created_ms",
        "",
        whole(lambda b, a: [m.update(created=m["created"] * 1000) for m in b["data"]], (MODELS,)),
    ),
    # cancellation and every k-th
    F("b_c_abort_ignored", "", _abort_ignored()),
    F("b_k_every_20th_is_503", "", every(20, lambda a, f: error(503, "busy"))),
    F("b_k_every_15th_empty_content", "", every(15, lambda a, f: _emptied(f(a), a), (H, C))),
    F("b_k_every_7th_stream_lacks_done", "", every(7, lambda a, f: _no_done(f(a)), (H, C))),
    F("b_k_every_9th_answer_of_other", "", _cache_of_last(9)),
    # HTTP
    F("b_h_json_as_text", "", _header("content-type", "text/plain; charset=utf-8", ALL)),
    F("b_h_sse_as_json", "", _header("content-type", "application/json", ALL, True)),
    F("b_h_no_content_type", "", _header("content-type", None, ALL)),
    F(
        "b_h_sse_latin1",
        "",
        _header("content-type", "text/event-stream; charset=latin-1", ALL, True),
    ),
    F(
        "b_h_connection_closed_each",
        "",
        replies(lambda r, a: r.headers.update({"connection": "close"}), ALL),
    ),
    F(
        "b_h_404_is_200",
        "",
        replies(
            lambda r, a: Reply(200, r.headers, r.parts),
            ("/v1/nothing", "/nothing", "/nope", "/v1/nope", "/v1/unknown", "/unknown"),
        ),
    ),
    F("b_h_any_404_html", "", plain(lambda a, f: _404_html(f(a)))),
    F("b_h_405_as_404", "", plain(lambda a, f: _restatus(f(a), 405, 404))),
    F("b_h_405_as_500", "", plain(lambda a, f: _restatus(f(a), 405, 500))),
    F("b_h_no_allow_header", "", plain(lambda a, f: _pop_header(f(a), "allow"))),
    F("b_h_big_body_413", "", _big_body(100_000)),
    F("b_h_big_body_reset", "", _big_body(1_000_000)),
    F("b_h_gzip_without_header", "", replies(_gzip_bare, GEN, lambda r, a: not r.is_stream)),
    F("b_h_cors_options_405", "", own("OPTIONS", H, lambda a, f: error(405, "no"))),
    F(
        "b_h_trailing_slash_redirect_http",
        "",
        plain(
            lambda a, f: (
                Reply(307, {"location": "http://internal:8000" + a.path})
                if a.route.endswith("/") and len(a.route) > 1
                else f(a)
            )
        ),
    ),
    F(
        "b_h_query_string_404",
        "",
        plain(lambda a, f: error(404, "Not Found") if "?" in a.path else f(a)),
    ),
    F(
        "b_h_charset_request_415",
        "",
        plain(
            lambda a, f: (
                error(415, "Unsupported")
                if "charset" in a.headers.get("content-type", "")
                else f(a)
            )
        ),
    ),
    F(
        "b_h_missing_content_type_500",
        "",
        plain(
            lambda a, f: (
                error(500, "boom")
                if a.method == "POST" and "content-type" not in a.headers
                else f(a)
            )
        ),
    ),
    F(
        "b_h_nul_bytes_500",
        "",
        plain(
            lambda a, f: (
                error(500, "boom")
                if b"\\u0000" in a.content
                or (b"\\ud83d" in a.content and b"\\ude" not in a.content)
                else f(a)
            )
        ),
    ),
    F(
        "b_h_bom_body_500",
        "",
        plain(lambda a, f: error(500, "boom") if a.content.startswith(b"\xef\xbb\xbf") else f(a)),
    ),
    F(
        "b_h_invalid_utf8_500",
        "",
        plain(lambda a, f: error(500, "boom") if _bad_utf8(a.content) else f(a)),
    ),
    F(
        "b_h_deep_json_500",
        "",
        plain(
            lambda a, f: (
                error(500, "boom")
                if a.content.count(b"[") > 400 or a.content.count(b"{") > 400
                else f(a)
            )
        ),
    ),
]
