"""Faults of /v1/responses and of Anthropic's /v1/messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.proxy.answers import gives, pops
from tests.proxy.fault import Fault, M, R, Start, chunks, refusals, stream, whole
from tests.proxy.messages import Body, Frame

F = Fault
COUNT = "/v1/messages/count_tokens"


def _event(kind: str, change: Callable[[Body], Any], paths: tuple[str, ...]) -> Start:
    """Change the events of one type."""
    return chunks(lambda chunk, ask: change(chunk) if chunk.get("type") == kind else None, paths)


def _no_event(kind: str, paths: tuple[str, ...]) -> Start:
    return chunks(lambda chunk, ask: chunk.get("type") != kind, paths)


def _item(change: Callable[[Body], Any]) -> Start:
    return whole(lambda b, a: [change(item) for item in b["output"]] and None, (R,))


def _block(change: Callable[[Body], Any]) -> Start:
    return whole(lambda b, a: [change(block) for block in b["content"]] and None, (M,))


def _swap_first(frames: Iterator[Frame], ask: Body) -> Iterable[Frame]:
    one, two = next(frames), next(frames)
    yield from (two, one)
    yield from frames


def _unnamed(frames: Iterator[Frame], ask: Body) -> Iterable[Frame]:
    return (Frame(frame.data) for frame in frames)


def _delta_lost(kind: str) -> Callable[[Iterator[Frame], Body], Iterable[Frame]]:
    def change(frames: Iterator[Frame], ask: Body) -> Iterable[Frame]:
        seen = 0
        for frame in frames:
            seen += (frame.chunk or {}).get("type") == kind
            if seen != 1 or (frame.chunk or {}).get("type") != kind:
                yield frame

    return change


def _usage(change: Callable[[Body], Any], path: str) -> Start:
    return whole(lambda b, a: b.get("usage") and change(b["usage"]), (path,))


def R_(name: str, report: str, start: Start) -> Fault:
    return F(f"responses_{name}", report, start, "chat")


def M_(name: str, report: str, start: Start) -> Fault:
    return F(f"messages_{name}", report, start, "chat")


TEXT = "response.output_text.delta"
FAULTS = [
    R_("no_sequence_numbers", "litellm#28899", chunks(pops("sequence_number"), (R,))),
    R_("sequence_numbers_all_1", "litellm#28899", chunks(gives(sequence_number=1), (R,))),
    R_("item_ids_are_empty", "vllm#23218", chunks(gives(item_id=""), (R,))),
    R_(
        "item_ids_change",
        "vllm#23218",
        _event(TEXT, lambda c: c.update(item_id=f"msg_{c['sequence_number']}"), (R,)),
    ),
    R_(
        "output_index_is_wrong",
        "vllm#23218",
        _event(TEXT, lambda c: c.update(output_index=3), (R,)),
    ),
    R_("no_item_added", "vllm#48274", _no_event("response.output_item.added", (R,))),
    R_("no_item_done", "vllm#37071", _no_event("response.output_item.done", (R,))),
    R_("no_part_added", "vllm#35184", _no_event("response.content_part.added", (R,))),
    R_("no_text_done", "vllm#37071", _no_event("response.output_text.done", (R,))),
    R_("no_created", "onyx#13624", _no_event("response.created", (R,))),
    R_("no_completed", "vllm#37071", _no_event("response.completed", (R,))),
    R_("events_out_of_order", "onyx#13624", stream(_swap_first, (R,))),
    R_("events_without_names", "onyx#13624", stream(_unnamed, (R,))),
    R_("a_delta_is_lost", "vllm#37071", stream(_delta_lost(TEXT), (R,))),
    R_(
        "done_text_is_empty",
        "vllm#37071",
        _event("response.output_text.done", lambda c: c.update(text=""), (R,)),
    ),
    R_("status_is_left_out", "", whole(pops("status"), (R,))),
    R_("status_is_in_progress", "", whole(gives(status="in_progress"), (R,))),
    R_(
        "cut_answer_is_completed",
        "vllm#45386",
        whole(
            lambda b, a: (
                b["status"] == "incomplete"
                and b.update(status="completed", incomplete_details=None)
            ),
            (R,),
        ),
    ),
    R_(
        "created_at_is_a_float",
        "inferencer#42",
        whole(lambda b, a: b.update(created_at=b["created_at"] + 0.5), (R,)),
    ),
    R_("id_is_empty", "inferencer#42", whole(gives(id=""), (R,))),
    R_(
        "id_has_another_prefix",
        "inferencer#42",
        whole(lambda b, a: b.update(id=b["id"].replace("resp_", "chatcmpl-")), (R,)),
    ),
    R_("output_is_empty", "inferencer#42", whole(gives(output=[]), (R,))),
    R_("role_is_left_out", "", _item(lambda i: i.pop("role", 0))),
    R_("item_type_is_left_out", "", _item(lambda i: i.pop("type", 0))),
    R_(
        "text_type_is_text",
        "",
        _item(lambda i: [p.update(type="text") for p in i.get("content") or []]),
    ),
    R_(
        "annotations_are_left_out",
        "",
        _item(lambda i: [p.pop("annotations", 0) for p in i.get("content") or []]),
    ),
    R_("no_usage", "llama.cpp#22659", whole(pops("usage"), (R,))),
    R_("usage_is_null", "llama.cpp#22659", whole(gives(usage=None), (R,))),
    R_(
        "usage_lacks_details",
        "llama.cpp#22659",
        _usage(lambda u: u.pop("output_tokens_details", 0), R),
    ),
    R_(
        "usage_by_chat_names",
        "pi#2326",
        _usage(
            lambda u: u.update(
                prompt_tokens=u.pop("input_tokens"), completion_tokens=u.pop("output_tokens")
            ),
            R,
        ),
    ),
    R_(
        "output_tokens_one_too_few",
        "vllm#41368",
        _usage(
            lambda u: u.update(
                output_tokens=u["output_tokens"] - 1, total_tokens=u["total_tokens"] - 1
            ),
            R,
        ),
    ),
    R_("object_is_wrong", "", whole(gives(object="chat.completion"), (R,))),
    R_("temperature_is_null", "", whole(gives(temperature=None), (R,))),
    M_(
        "stop_sequence_is_end_turn",
        "vllm#45807",
        whole(
            lambda b, a: (
                b["stop_reason"] == "stop_sequence"
                and b.update(stop_reason="end_turn", stop_sequence=None)
            ),
            (M,),
        ),
    ),
    M_(
        "stop_reason_is_openai",
        "vllm#22627",
        whole(
            lambda b, a: b.update(
                stop_reason={"max_tokens": "length", "end_turn": "stop"}.get(
                    b["stop_reason"], b["stop_reason"]
                )
            ),
            (M,),
        ),
    ),
    M_("stop_reason_is_null", "langchain-google#342", whole(gives(stop_reason=None), (M,))),
    M_("always_end_turn", "vllm#45807", whole(gives(stop_reason="end_turn"), (M,))),
    M_(
        "content_is_a_string",
        "vllm#22627",
        whole(
            lambda b, a: b.update(content="".join(x.get("text", "") for x in b["content"])), (M,)
        ),
    ),
    M_("content_is_empty", "llama.cpp#18542", whole(gives(content=[]), (M,))),
    M_("text_is_null", "vllm#22627", _block(lambda x: x.update(text=None))),
    M_("block_type_is_left_out", "vllm#22627", _block(lambda x: x.pop("type", 0))),
    M_("type_is_left_out", "vllm#22627", whole(pops("type"), (M,))),
    M_("role_is_left_out", "vllm#22627", whole(pops("role"), (M,))),
    M_("model_is_left_out", "vllm-mlx#125", whole(pops("model"), (M,))),
    M_("no_usage", "vllm#22627", whole(pops("usage"), (M,))),
    M_(
        "usage_is_openai",
        "pi#2326",
        _usage(
            lambda u: u.update(
                prompt_tokens=u.pop("input_tokens"), completion_tokens=u.pop("output_tokens")
            ),
            M,
        ),
    ),
    M_("input_tokens_are_0", "vllm#22627", _usage(lambda u: u.update(input_tokens=0), M)),
    M_(
        "output_tokens_one_too_few",
        "vllm#41368",
        _usage(lambda u: u.update(output_tokens=u["output_tokens"] - 1), M),
    ),
    M_("id_is_empty", "vllm#22627", whole(gives(id=""), (M,))),
    M_("no_message_start", "helicone#4518", _no_event("message_start", (M,))),
    M_("no_message_stop", "helicone#4518", _no_event("message_stop", (M,))),
    M_("no_block_start", "helicone#4518", _no_event("content_block_start", (M,))),
    M_("no_block_stop", "litellm#29600", _no_event("content_block_stop", (M,))),
    M_("no_message_delta", "langchain-google#342", _no_event("message_delta", (M,))),
    M_(
        "stream_without_stop_reason",
        "langchain-google#342",
        _event("message_delta", lambda c: c["delta"].update(stop_reason=None), (M,)),
    ),
    M_(
        "stream_usage_is_0",
        "vllm#22627",
        _event(
            "message_delta", lambda c: c.get("usage") and c["usage"].update(output_tokens=0), (M,)
        ),
    ),
    M_(
        "block_index_is_1",
        "litellm#29600",
        chunks(lambda c, a: ("index" in c and c.update(index=c["index"] + 1)) or None, (M,)),
    ),
    M_("a_delta_is_lost", "typebot#1359", stream(_delta_lost("content_block_delta"), (M,))),
    M_("events_without_names", "helicone#4518", stream(_unnamed, (M,))),
    M_("errors_are_openai", "aibridge#56", refusals(lambda b, a: b.pop("type", 0), (M,))),
    M_(
        "count_tokens_is_off",
        "vllm#22627",
        whole(lambda b, a: b.update(input_tokens=b["input_tokens"] + 1), (COUNT,)),
    ),
    M_("count_tokens_is_0", "vllm#22627", whole(gives(input_tokens=0), (COUNT,))),
]
