"""The ways to be broken, by name. Each breaks one rule, on the endpoints that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.faults.reply import Frames, Reply, error

Body = dict[str, Any]

COMPLETION, CHAT = "/v1/completions", "/v1/chat/completions"
BOTH = (COMPLETION, CHAT)


@dataclass(frozen=True)
class Fault:
    """One way to be broken."""

    apply: Callable[[Reply], Reply]
    paths: tuple[str, ...] = BOTH
    streams: bool | None = None  # only streams, only whole answers, or both
    after: int = 0  # healthy for so many requests
    when: Callable[[Body], bool] = lambda body: True

    def concerns(self, path: str, body: Body, count: int) -> bool:
        """Whether a request is answered wrongly; `count` says the how many-th to this path."""
        return (
            path in self.paths
            and self.streams in (None, bool(body.get("stream")))
            and count > self.after
            and self.when(body)
        )


def _is_no_probe(body: Body) -> bool:
    """Whether more than one token is asked for: start-up and probes ask for one."""
    return int(body.get("max_tokens", 16)) > 1


# --- how to make one ----------------------------------------------------------------------------


def _refuses(status: int = 500, **more: Any) -> Fault:
    return Fault(lambda reply: error(status, "it broke", "InternalServerError"), **more)


def _replies(change: Callable[[Reply], Any], **more: Any) -> Fault:
    """Change the reply itself."""

    def apply(reply: Reply) -> Reply:
        change(reply)
        return reply

    return Fault(apply, **more)


def _answers(change: Callable[[Body], Any], **more: Any) -> Fault:
    """Change a whole answer, unless it is an error."""

    def apply(reply: Reply) -> Reply:
        if reply.status == 200:
            change(reply.body)
        return reply

    return Fault(apply, **({"streams": False} | more))


def _chooses(change: Callable[[Body], Any], **more: Any) -> Fault:
    """Change the only choice of a whole answer."""
    return _answers(lambda body: change(body["choices"][0]), **more)


def _streams(change: Callable[[list[Body]], list[Body]], **more: Any) -> Fault:
    """Change the chunks of a stream."""

    def apply(reply: Reply) -> Reply:
        if reply.chunks is not None:
            reply.chunks = change(reply.chunks)
        return reply

    return Fault(apply, streams=True, **more)


def _frames(change: Callable[[Frames], Frames], **more: Any) -> Fault:
    """Change the parts that go over the wire."""
    return _replies(lambda reply: reply.edit_frames.append(change), streams=True, **more)


# --- what is done to answers --------------------------------------------------------------------


def _say(choice: Body, text: str) -> None:
    if "message" in choice:
        choice["message"]["content"] = text
    else:
        choice["text"] = text


def _say_more(choice: Body) -> None:
    _say(choice, (choice.get("text") or choice["message"]["content"]) + " indeed")


def _count_wrongly(usage: Body, **more: int) -> None:
    """Change counts and keep the sum right, so that only one rule is broken."""
    usage |= more
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]


def _count_a_token_too_many(body: Body) -> None:
    _count_wrongly(body["usage"], prompt_tokens=body["usage"]["prompt_tokens"] + 1)


def _finish_too_early(body: Body) -> None:
    body["choices"][0]["finish_reason"] = "length"
    _count_wrongly(body["usage"], completion_tokens=1)


def _shift_logprobs(body: Body) -> None:
    if logprobs := body["choices"][0].get("logprobs"):
        logprobs["token_logprobs"][-1] -= 0.05


def _shift_candidates(body: Body) -> None:
    if logprobs := body["choices"][0].get("logprobs"):
        last = logprobs["top_logprobs"][-1]
        last[min(last, key=lambda token: last[token])] -= 0.05


def _drop_candidates(body: Body) -> None:
    if logprobs := body["choices"][0].get("logprobs"):
        logprobs["top_logprobs"][0].popitem()


# --- what is done to streams --------------------------------------------------------------------


def _each(chunks: Iterable[Body], **fields: Any) -> list[Body]:
    return [chunk | fields for chunk in chunks]


def _each_choice(chunks: list[Body], change: Callable[[Body], Any]) -> list[Body]:
    for chunk in chunks:
        for choice in chunk["choices"]:
            change(choice)
    return chunks


def _say_nothing(choice: Body) -> None:
    if "delta" in choice:
        choice["delta"]["content"] = ""
    else:
        choice["text"] = ""


def _with_choices(chunks: list[Body]) -> list[Body]:
    return [chunk for chunk in chunks if chunk["choices"]]


def _finish_early(chunks: list[Body]) -> list[Body]:
    """The reason moves to the first chunk; text follows."""
    reason = _with_choices(chunks)[-1]["choices"][0]["finish_reason"]
    _each_choice(chunks, lambda choice: choice.update(finish_reason=None))
    chunks[0]["choices"][0]["finish_reason"] = reason
    return chunks


def _finish_twice(chunks: list[Body]) -> list[Body]:
    at = len(_with_choices(chunks))
    extra = chunks[at - 1] | {"choices": [{**chunks[at - 1]["choices"][0]}]}
    _each_choice([extra], _say_nothing)
    return [*chunks[:at], extra, *chunks[at:]]


def _change_usage(chunks: list[Body], change: Callable[[Body], Any]) -> list[Body]:
    for chunk in chunks:
        if "usage" in chunk:
            change(chunk["usage"])
    return chunks


def _merge_usage(chunks: list[Body]) -> list[Body]:
    """Usage comes with the last choice, not after it."""
    if "usage" in chunks[-1]:
        chunks[-2]["usage"] = chunks.pop()["usage"]
    return chunks


FAULTS: dict[str, Fault] = {
    # the whole server
    "completions_500": _refuses(paths=(COMPLETION,)),
    "chat_500": _refuses(paths=(CHAT,)),
    "chat_400": _refuses(400, paths=(CHAT,)),
    "models_500": _refuses(paths=("/v1/models",)),
    "health_500": _refuses(paths=("/health",), after=1),  # healthy while it is waited for
    "version_500": _refuses(paths=("/version",)),
    "docs_500": _refuses(paths=("/docs",)),
    "hangs_up": _replies(lambda reply: setattr(reply, "silent", True), when=_is_no_probe),
    "is_slow": _replies(lambda reply: setattr(reply, "pause_s", 0.2)),
    "dies": _replies(
        lambda reply: setattr(reply, "dies", True),
        paths=(COMPLETION,),
        when=_is_no_probe,
    ),
    "dies_in_chat": _replies(
        lambda reply: setattr(reply, "dies", True), paths=(CHAT,), when=_is_no_probe
    ),
    # GET
    "models_empty": _answers(lambda body: body["data"].clear(), paths=("/v1/models",)),
    "models_other": _answers(lambda body: body["data"][0].update(id="x"), paths=("/v1/models",)),
    "models_no_list": _answers(lambda body: body.update(object="x"), paths=("/v1/models",)),
    "version_empty": _answers(lambda body: body.update(version=""), paths=("/version",)),
    "docs_not_html": _replies(
        lambda reply: setattr(reply, "content_type", "text/plain"), paths=("/docs",)
    ),
    # whole answers: the body
    "not_json_type": _replies(
        lambda reply: setattr(reply, "content_type", "text/plain"), streams=False
    ),
    "broken_json": _replies(
        lambda reply: reply.edit_bytes.append(lambda content: content[:-1]), streams=False
    ),
    "nan": _answers(lambda body: body.update(extra=float("nan"))),
    # whole answers: fields
    "no_id": _answers(lambda body: body.pop("id")),
    "empty_id": _answers(lambda body: body.update(id="")),
    "other_object": _answers(lambda body: body.update(object="completion")),
    "created_ms": _answers(lambda body: body.update(created=body["created"] * 1000)),
    "created_float": _answers(lambda body: body.update(created=body["created"] + 0.5)),
    "other_model": _answers(lambda body: body.update(model="x")),
    "no_choices": _answers(lambda body: body.pop("choices")),
    "two_choices": _answers(lambda body: body["choices"].append(body["choices"][0] | {"index": 1})),
    "index_one": _chooses(lambda choice: choice.update(index=1)),
    "other_finish": _chooses(lambda choice: choice.update(finish_reason="eos_token")),
    "null_finish": _chooses(lambda choice: choice.update(finish_reason=None)),
    "no_text": _chooses(lambda choice: choice.pop("text"), paths=(COMPLETION,)),
    "no_message": _chooses(lambda choice: choice.pop("message"), paths=(CHAT,)),
    "other_role": _chooses(lambda choice: choice["message"].update(role="bot"), paths=(CHAT,)),
    "empty_text": _chooses(lambda choice: _say(choice, "")),
    "text_differs": _chooses(_say_more),
    # whole answers: usage
    "no_usage": _answers(lambda body: body.pop("usage")),
    "usage_wrong": _answers(lambda body: body["usage"].update(total_tokens=1)),
    "usage_negative": _answers(lambda body: body["usage"].update(completion_tokens=-1)),
    "usage_no_prompt": _answers(lambda body: _count_wrongly(body["usage"], prompt_tokens=0)),
    "usage_over_limit": _answers(lambda body: _count_wrongly(body["usage"], completion_tokens=99)),
    "finish_too_early": _answers(_finish_too_early, when=_is_no_probe),
    # known-answer models only
    "prompt_miscounted": _answers(_count_a_token_too_many),
    "finish_confused": _chooses(
        lambda choice: choice.update(finish_reason="stop"), paths=(COMPLETION,)
    ),
    "logprob_off": _answers(_shift_logprobs, paths=(COMPLETION,)),
    "context_lost": _answers(
        _shift_logprobs, paths=(COMPLETION,), when=lambda body: len(body["prompt"]) > 500
    ),
    "ids_misread": _chooses(
        _say_more, paths=(COMPLETION,), when=lambda body: isinstance(body["prompt"], list)
    ),
    "candidate_off": _answers(_shift_candidates, paths=(COMPLETION,)),
    "candidate_lost": _answers(_drop_candidates, paths=(COMPLETION,)),
    # streams: framing
    "no_stream": _replies(lambda reply: setattr(reply, "content_type", "text/plain"), streams=True),
    "no_done": _frames(lambda frames: frames[:-1]),
    "done_twice": _frames(lambda frames: [*frames, frames[-1]]),
    "data_after_done": _frames(lambda frames: [*frames, frames[0]]),
    "no_data_field": _frames(lambda frames: [frame.removeprefix(b"data: ") for frame in frames]),
    "no_blank_lines": _frames(lambda frames: [frame[:-1] for frame in frames]),
    "last_blank_line_lost": _frames(lambda frames: [*frames[:-1], frames[-1][:-1]]),
    "broken_chunk": _frames(lambda frames: [frames[0].replace(b"}\n", b"\n"), *frames[1:]]),
    "chunk_is_list": _frames(lambda frames: [b"data: []\n\n", *frames]),
    "error_in_stream": _frames(
        lambda frames: [frames[0], b'data: {"error": {"message": "it broke"}}\n\n', frames[-1]]
    ),
    "bad_utf8": _frames(lambda frames: [b": \xff\n\n", *frames]),
    "cut": _replies(lambda reply: setattr(reply, "cut", True), streams=True),
    # streams: chunks
    "id_changes": _streams(lambda chunks: [*chunks[:-1], chunks[-1] | {"id": "x"}]),
    "model_changes": _streams(lambda chunks: [*chunks[:-1], chunks[-1] | {"model": "x"}]),
    "other_model_streamed": _streams(lambda chunks: _each(chunks, model="x")),
    "other_object_streamed": _streams(lambda chunks: _each(chunks, object="x")),
    "index_one_streamed": _streams(
        lambda chunks: _each_choice(chunks, lambda choice: choice.update(index=1))
    ),
    "no_chunks": _streams(lambda chunks: []),
    "no_finish": _streams(
        lambda chunks: _each_choice(chunks, lambda choice: choice.update(finish_reason=None))
    ),
    "finish_left_out": _streams(
        lambda chunks: [
            *_each_choice(chunks[:1], lambda choice: choice.pop("finish_reason")),
            *chunks[1:],
        ]
    ),
    "two_finishes": _streams(_finish_twice),
    "text_after_finish": _streams(_finish_early),
    "no_role": _streams(
        lambda chunks: _each_choice(chunks, lambda choice: choice["delta"].pop("role", None)),
        paths=(CHAT,),
    ),
    "empty_text_streamed": _streams(lambda chunks: _each_choice(chunks, _say_nothing)),
    "stream_differs": _streams(lambda chunks: [chunks[0], *chunks[2:]]),
    # streams: usage
    "no_stream_usage": _streams(_with_choices),
    "stream_usage_early": _streams(_merge_usage),
    "stream_usage_wrong": _streams(
        lambda chunks: _change_usage(chunks, lambda usage: usage.update(total_tokens=1))
    ),
    "stream_usage_incomplete": _streams(
        lambda chunks: _change_usage(chunks, lambda usage: usage.pop("total_tokens"))
    ),
}
