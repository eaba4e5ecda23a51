"""Faults of streams: framing, chunks, the order and the time in which they come."""

# mypy: disable-error-code="func-returns-value"
# A change is an expression in a table here; what it returns is nobody's business.

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.proxy.answers import gives, pops, recount
from tests.proxy.fault import (
    GEN,
    Apply,
    Fault,
    H,
    chunks,
    drops,
    each_choice,
    replies,
    say,
    stream,
    text_of,
    wire,
)
from tests.proxy.messages import Body, Cut, Frame

F = Fault
Frames = Iterator[Frame]
DONE = b"data: [DONE]\n\n"


def _speaks(frame: Frame) -> bool:
    """Whether a frame has text of a choice."""
    chunk = frame.chunk or {}
    return any(text_of(choice) for choice in chunk.get("choices") or [])


def _edit(frame: Frame, change: Callable[[Body], Any]) -> Frame:
    chunk = frame.chunk
    assert chunk is not None
    for choice in chunk.get("choices") or []:
        change(choice)
    return frame.with_chunk(chunk)


def _mute(frame: Frame) -> Frame:
    return _edit(frame, lambda choice: say(choice, ""))


def _first_lost(frames: Frames, ask: Body) -> Iterable[Frame]:
    seen = False
    for frame in frames:
        lost = not seen and _speaks(frame)
        seen = seen or lost
        yield _mute(frame) if lost else frame


def _last_lost(frames: Frames, ask: Body) -> Iterable[Frame]:
    kept: list[Frame] = []
    for frame in frames:
        if _speaks(frame):
            yield from kept
            kept = []
        kept.append(frame)
    yield from ([_mute(kept[0]), *kept[1:]] if kept and _speaks(kept[0]) else kept)


def _middle_lost(frames: Frames, ask: Body) -> Iterable[Frame]:
    spoken = 0
    for frame in frames:
        spoken += _speaks(frame)
        yield _mute(frame) if _speaks(frame) and spoken == 2 else frame


def _repeated(frames: Frames, ask: Body) -> Iterable[Frame]:
    spoken = 0
    for frame in frames:
        yield frame
        spoken += _speaks(frame)
        if _speaks(frame) and spoken == 2:
            yield _edit(frame, lambda choice: choice.update(finish_reason=None))


def _swapped(frames: Frames, ask: Body) -> Iterable[Frame]:
    """Two neighbours change their texts."""
    held: Frame | None = None
    done = False
    for frame in frames:
        if not done and _speaks(frame):
            if held is None:
                held = frame
                continue
            one, two = (text_of(f.chunk["choices"][0]) for f in (held, frame))  # type: ignore[index]
            yield _edit(held, lambda choice, t=two: say(choice, t))  # type: ignore[misc]
            frame, held, done = _edit(frame, lambda choice, t=one: say(choice, t)), None, True  # type: ignore[misc]
        elif held is not None:
            yield held
            held, done = None, True
        yield frame
    if held is not None:
        yield held


def _cumulative(frames: Frames, ask: Body) -> Iterable[Frame]:
    said: dict[int, str] = {}

    def grow(choice: Body) -> None:
        index = choice.get("index", 0)
        said[index] = said.get(index, "") + text_of(choice)
        say(choice, said[index])

    for frame in frames:
        yield _edit(frame, grow) if frame.chunk else frame


def _buffered(frames: Frames, ask: Body) -> Iterable[Frame]:
    yield from list(frames)


def _merged(frames: Frames, ask: Body) -> Iterable[Frame]:
    """All text in one chunk at the end: streaming in name only."""
    kept = list(frames)
    texts: dict[int, str] = {}
    for frame in kept:
        for choice in (frame.chunk or {}).get("choices") or []:
            texts[choice.get("index", 0)] = texts.get(choice.get("index", 0), "") + text_of(choice)
    for frame in kept:
        ends = [c for c in (frame.chunk or {}).get("choices") or [] if c.get("finish_reason")]
        if ends:
            yield _edit(frame, lambda choice: say(choice, texts[choice.get("index", 0)]))
        elif not _speaks(frame):
            yield frame


def _split_characters(frames: Frames, ask: Body) -> Iterable[Frame]:
    """Characters of several bytes are broken by chunk borders."""
    for frame in frames:
        yield (
            _edit(
                frame,
                lambda c: say(
                    c,
                    "".join("\ufffd" * len(x.encode()) if ord(x) > 127 else x for x in text_of(c)),
                ),
            )
            if frame.chunk
            else frame
        )


def _finish_first(frames: Frames, ask: Body) -> Iterable[Frame]:
    """The reason comes with the first text; more follows."""
    done: set[int] = set()

    def change(choice: Body) -> None:
        index = choice.get("index", 0)
        early = bool(text_of(choice)) and index not in done
        choice["finish_reason"] = "length" if early else None
        done.update([index] if early else [])

    for frame in frames:
        yield _edit(frame, change) if frame.chunk else frame


def _finish_twice(frames: Frames, ask: Body) -> Iterable[Frame]:
    for frame in frames:
        yield frame
        if any(c.get("finish_reason") for c in (frame.chunk or {}).get("choices") or []):
            yield _mute(frame)


def _extra_empty(frames: Frames, ask: Body) -> Iterable[Frame]:
    for position, frame in enumerate(frames):
        yield frame
        if position == 1 and frame.chunk:
            yield frame.with_chunk({**frame.chunk, "choices": []})


def _after_done(extra: bytes) -> Callable[[Iterator[bytes]], Iterable[bytes]]:
    def change(parts: Iterator[bytes]) -> Iterable[bytes]:
        yield from parts
        yield extra

    return change


def _each(change: Callable[[bytes], bytes]) -> Callable[[Iterator[bytes]], Iterable[bytes]]:
    return lambda parts: (change(part) for part in parts)


def _broken_off(parts: Iterator[bytes]) -> Iterable[bytes]:
    yield from itertools.islice(parts, 3)
    raise Cut


def _ends_early(parts: Iterator[bytes]) -> Iterable[bytes]:
    """A clean end in the middle."""
    yield from itertools.islice(parts, 3)


def _error_inside(parts: Iterator[bytes]) -> Iterable[bytes]:
    yield from itertools.islice(parts, 2)
    yield b'data: {"error": {"message": "list index out of range", "type": '
    yield b'"InternalServerError", "param": null, "code": 500}}\n\n'
    yield DONE


def _stalls(frames: Frames, ask: Body) -> Iterable[Frame]:
    for position, frame in enumerate(frames):
        if position == 2:
            time.sleep(2.5)
        yield frame


def _new_ids() -> Apply:
    numbers = itertools.count()
    return chunks(lambda c, a: c.update(id=f"{c.get('id')}-{next(numbers)}"))()


def _usage(change: Callable[[Body], Any]) -> Callable[[Body, Body], Any]:
    return lambda chunk, ask: chunk.get("usage") and change(chunk["usage"]) and None


def _usage_with_finish(frames: Frames, ask: Body) -> Iterable[Frame]:
    held: Frame | None = None
    for frame in frames:
        chunk = frame.chunk
        if held is not None and chunk and chunk.get("usage") and not chunk.get("choices"):
            held = held.with_chunk({**(held.chunk or {}), "usage": chunk["usage"]})
            continue
        if held is not None:
            yield held
        held = frame
    if held is not None:
        yield held


def _delta(change: Callable[[Body, Body], Any]) -> Callable[[Body, Body], Any]:
    return each_choice(lambda choice, ask: change(choice.get("delta") or {}, ask))


def _usage_unasked(frames: Frames, ask: Body) -> Iterable[Frame]:
    for frame in frames:
        chunk = frame.chunk
        if chunk and not (ask.get("stream_options") or {}).get("include_usage"):
            chunk["usage"] = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
            frame = frame.with_chunk(chunk)
        yield frame


def _leak_stop(frames: Frames, ask: Body) -> Iterable[Frame]:
    stop = ask.get("stop")
    first = stop if isinstance(stop, str) else (stop or [""])[0]

    def leak(choice: Body) -> None:
        if choice.get("finish_reason") == "stop" and choice.get("stop_reason") and first:
            say(choice, text_of(choice) + first[: max(1, len(first) // 2)])

    for frame in frames:
        yield _edit(frame, leak) if frame.chunk else frame


def _plain_type(reply: Any, ask: Any) -> None:
    reply.headers["content-type"] = "application/json"


FAULTS = [
    # framing
    F("no_done", "tgi#1896", wire(lambda parts: (p for p in parts if p != DONE))),
    F(
        "no_done_in_chat",
        "lightllm#1262",
        wire(lambda parts: (p for p in parts if p != DONE), (H,)),
    ),
    F("done_twice", "", wire(_after_done(DONE))),
    F("chunk_after_done", "vmlx-swift#109", wire(_after_done(b'data: {"x": 1}\n\n'))),
    F(
        "stream_is_json_type",
        "hermes-webui#4447",
        replies(_plain_type, GEN, lambda r, a: r.is_stream),
    ),
    F("stream_is_ignored", "textgen#6851", drops("stream", "stream_options", paths=GEN)),
    F("no_space_free_data", "", wire(_each(lambda p: p.replace(b"data: {", b"{", 1)))),
    F("single_line_ends", "smg#2391", wire(_each(lambda p: p.replace(b"\n\n", b"\n")))),
    F("broken_json_chunk", "liter-llm#152", wire(_each(lambda p: p.replace(b"}]", b"]", 1)))),
    F(
        "half_a_character",
        "llama.cpp#28926",
        wire(_each(lambda p: p.replace(b'"choices"', b'"x":"\xe4\xb8","choices"', 1))),
    ),
    F("stream_breaks_off", "vllm#36849", wire(_broken_off)),
    F("stream_ends_early", "inferencer#127", wire(_ends_early)),
    F("error_inside_a_200_stream", "llama.cpp#14566", wire(_error_inside)),
    # chunks
    F("first_text_lost", "vllm#41691", stream(_first_lost)),
    F("last_text_lost", "vllm#37071", stream(_last_lost)),
    F("a_text_lost", "openless#413", stream(_middle_lost)),
    F("a_text_twice", "camelid#731", stream(_repeated)),
    F("texts_swapped", "onyx#13624", stream(_swapped)),
    F("texts_are_cumulative", "xinference#1215", stream(_cumulative)),
    F("stream_comes_at_once", "uor-r4#684", stream(_buffered)),
    F("stream_in_one_chunk", "uor-r4#684", stream(_merged)),
    F("characters_broken_by_chunks", "mlx-vlm#1076", stream(_split_characters)),
    F(
        "stream_text_stripped",
        "vllm#29953",
        chunks(each_choice(lambda c, a: say(c, text_of(c).strip()))),
    ),
    F("stop_string_leaks_in_stream", "swiftlm#132", stream(_leak_stop)),
    F("chunk_ids_change", "onyx#13624", _new_ids),
    F("chunk_model_is_left_out", "hub#6", chunks(pops("model"))),
    F(
        "chunk_object_of_the_whole",
        "inferencer#42",
        chunks(gives(object=lambda o: o.removesuffix(".chunk") + ("" if "chunk" in o else "s"))),
    ),
    F("chunk_created_is_null", "opencrabs#1499", chunks(gives(created=None))),
    F("chunk_without_choices", "litellm#376", stream(_extra_empty)),
    F("chunk_choices_missing", "vercel-ai#2763", chunks(pops("choices"))),
    F("stream_index_is_null", "ollama#7881", chunks(each_choice(gives(index=None)))),
    F("stream_index_always_0", "ollama#15457", chunks(each_choice(gives(index=0)))),
    # role and finish
    F(
        "role_in_every_chunk",
        "lightllm#1262",
        chunks(_delta(lambda d, a: d.update(role="assistant")), (H,)),
    ),
    F("role_is_missing", "lightllm#1262", chunks(_delta(pops("role")), (H,))),
    F("role_is_null", "opencrabs#1499", chunks(_delta(gives(role=None)), (H,))),
    F("role_is_empty", "opencrabs#1499", chunks(_delta(gives(role="")), (H,))),
    F(
        "delta_is_a_message",
        "uor-r4#684",
        chunks(each_choice(lambda c, a: c.update(message=c.pop("delta", {}))), (H,)),
    ),
    F(
        "delta_is_left_out_at_the_end",
        "vllm-ascend#8327",
        chunks(each_choice(lambda c, a: c.get("finish_reason") and c.pop("delta", None)), (H,)),
    ),
    F("no_finish_in_stream", "vllm-mlx#628", chunks(each_choice(gives(finish_reason=None)))),
    F(
        "finish_is_empty_in_chunks",
        "ollama#4357",
        chunks(each_choice(lambda c, a: c.update(finish_reason=c.get("finish_reason") or ""))),
    ),
    F(
        "finish_key_missing_in_chunks",
        "vllm#19650",
        chunks(each_choice(lambda c, a: c.get("finish_reason") or c.pop("finish_reason", None))),
    ),
    F("finish_before_the_end", "litellm#376", stream(_finish_first)),
    F(
        "finish_in_every_chunk",
        "litellm#376",
        chunks(each_choice(lambda c, a: c.update(finish_reason="stop"))),
    ),
    F("finish_twice", "opencrabs#1499", stream(_finish_twice)),
    F(
        "stream_finish_is_always_stop",
        "generate#64",
        chunks(each_choice(lambda c, a: c.get("finish_reason") and c.update(finish_reason="stop"))),
    ),
    F("stream_stop_reason_is_lost", "vllm#1973", chunks(each_choice(gives(stop_reason=None)))),
    F(
        "finish_lost_with_logprobs",
        "litellm#10686",
        chunks(each_choice(gives(finish_reason=None)), GEN, lambda ask: ask.get("logprobs")),
    ),
    # usage
    F(
        "usage_chunk_is_missing",
        "ihub-apps#1721",
        chunks(lambda c, a: not (c.get("usage") and not c.get("choices"))),
    ),
    F("usage_comes_with_the_finish", "koog#1404", stream(_usage_with_finish)),
    F("usage_comes_unasked", "", stream(_usage_unasked)),
    F(
        "stream_usage_total_is_missing",
        "fastdeploy#3247",
        chunks(_usage(lambda u: u.pop("total_tokens"))),
    ),
    F(
        "stream_completion_tokens_missing",
        "vercel-ai#2763",
        chunks(_usage(lambda u: u.pop("completion_tokens"))),
    ),
    F(
        "stream_usage_is_zero",
        "",
        chunks(_usage(lambda u: u.update(prompt_tokens=0, completion_tokens=0, total_tokens=0))),
    ),
    F(
        "stream_usage_one_too_few",
        "vllm#41368",
        chunks(_usage(lambda u: recount(u, completion_tokens=max(0, u["completion_tokens"] - 1)))),
    ),
    F(
        "stream_prompt_tokens_wrong",
        "dify-plugins#3650",
        chunks(_usage(lambda u: recount(u, prompt_tokens=u["prompt_tokens"] + 1))),
    ),
    F(
        "usage_in_every_chunk_is_the_last",
        "",
        chunks(
            lambda c, a: (
                c.get("usage") and recount(c["usage"], completion_tokens=a.get("max_tokens") or 16)
            )
        ),
    ),
]
