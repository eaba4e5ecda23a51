"""The items in a stream of POST /v1/responses: a strict state machine. Pure.

Each output item goes from its `added` to its `done`, in it each part likewise, and in that the
deltas and their `done`. Source: OpenAI API reference ("Streaming events").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import responses_shapes as shapes
from pytest_vllm.client.difference import difference
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.responses_items import check_item
from pytest_vllm.client.shapes import COUNT, NAME, STRING, conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect

__all__ = ["Machine"]

Event = Mapping[str, Any]

#: By the stem of a delta: the field of its `.done`, and of the part or item that it adds up to.
_TEXTS = {
    "output_text": "text",
    "reasoning_text": "text",
    "reasoning_summary_text": "text",
    "refusal": "refusal",
    "function_call_arguments": "arguments",
}
_PARTS = ("content_part", "reasoning_part", "reasoning_summary_part")


@dataclass
class Machine:
    """What is open at the moment, and what is done."""

    dialect: Dialect
    done: list[dict[str, Any]] = field(default_factory=list)
    item: dict[str, Any] | None = None
    part: dict[str, Any] | None = None
    parts: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    logprobs: list[Any] = field(default_factory=list)

    def take(self, event: Event) -> None:
        """Check an event against what is open. Raises CheckFailed."""
        stem, _, verb = event["type"].removeprefix("response.").rpartition(".")
        if stem == "output_item":
            self._item_added(event) if verb == "added" else self._item_done(event)
            return
        if stem not in (*_TEXTS, *_PARTS):
            return  # of tools that the server runs itself
        self._check_place(event)
        steps: dict[str, Callable[[Event, str], None]] = {
            "added": self._part_added,
            "delta": self._delta,
        }
        finish = self._part_done if stem in _PARTS else self._text_done
        steps.get(verb, finish)(event, stem)

    def _check_place(self, event: Event) -> None:
        kind = event["type"]
        must(self.item is not None, f"{kind} must come within an output item")
        conform(event, shapes.INDEXED, kind)
        at, name = len(self.done), (self.item or {}).get("id")
        seen = (event["output_index"], event["item_id"])
        rule = f"output_index and item_id of {kind} must be those of the open item"
        must(seen == (at, name), rule, expected=[at, name], seen=list(seen))
        index = event.get("summary_index", event.get("content_index"))
        if "function_call" not in kind:
            opening = kind.endswith("part.added")
            expected = self.parts if opening else max(self.parts - 1, 0)
            rule = f"content_index of {kind} must be that of the open part"
            must(index == expected, rule, expected=expected, seen=index)

    def _item_added(self, event: Event) -> None:
        must(self.item is None, "An output item must be done before the next is added")
        self._check_output(event)
        item = event["item"]
        empty = not item.get("content") and not item.get("arguments")
        must(empty, "An output item must be empty when it is added", seen=item)
        self.item, self.part, self.parts = dict(item), None, 0
        self.texts, self.said = {}, set()

    def _item_done(self, event: Event) -> None:
        must(self.item is not None, "output_item.done must come after output_item.added")
        self._check_output(event)
        must(self.part is None, "Each part must end with a content_part.done")
        item, opened = dict(event["item"]), self.item or {}
        for name in ("id", "type", "role", "call_id", "name"):
            rule = f"{name} must be the same in output_item.added and .done"
            must(item.get(name) == opened.get(name), rule, expected=opened.get(name), seen=item)
        check_item(item, "item", self.dialect)
        if item["type"] == "function_call":
            said = "function_call_arguments" in self.said
            must(said, "function_call_arguments.done must come before output_item.done")
            self._check_text(item["arguments"], "function_call_arguments", "output_item.done")
        if item["type"] == "message":
            rule = "output_item.done must have the parts that were streamed"
            expected = opened.get("content") or []
            must(difference(expected, item["content"]) is None, rule, expected=expected, seen=item)
        self.done.append(item)
        self.item = None

    def _check_output(self, event: Event) -> None:
        conform(event, {"output_index": COUNT, "item": {"type": NAME}}, event["type"])
        at = len(self.done)
        rule = f"output_index of {event['type']} must count the items"
        must(event["output_index"] == at, rule, expected=at, seen=event["output_index"])

    def _part_added(self, event: Event, stem: str) -> None:
        must(self.part is None, f"A {stem} must be done before the next is added")
        conform(event, {"part": {"type": NAME}}, event["type"])
        text = event["part"].get("text")
        must(not text, f"A {stem} must be empty when it is added", seen=text)
        self.part, self.parts = dict(event["part"]), self.parts + 1
        self.texts, self.said = {}, set()

    def _part_done(self, event: Event, stem: str) -> None:
        must(self.part is not None, f"{stem}.done must come after {stem}.added")
        conform(event, {"part": {"type": NAME}}, event["type"])
        part = dict(event["part"])
        kind = (self.part or {})["type"]
        must(part["type"] == kind, f"A {stem} must keep its type", expected=kind, seen=part)
        for name, text in self.texts.items():
            must(name in self.said, f"{name}.done must come before {stem}.done")
            seen = part.get(_TEXTS[name])
            rule = f"{stem}.done must have the text of the deltas"
            must(seen == text, rule, expected=text, seen=seen)
        if self.item is not None and stem == "content_part":
            self.item["content"] = [*(self.item.get("content") or []), part]
        self.part = None

    def _delta(self, event: Event, stem: str) -> None:
        conform(event, {"delta": STRING}, event["type"])
        must(stem not in self.said, f"No {stem}.delta must follow {stem}.done")
        in_part = self.part is not None or stem == "function_call_arguments"
        must(in_part, f"{event['type']} must come within a part")
        self.texts[stem] = self.texts.get(stem, "") + event["delta"]
        self.logprobs += event.get("logprobs") or []

    def _text_done(self, event: Event, stem: str) -> None:
        conform(event, {_TEXTS[stem]: STRING}, event["type"])
        must(stem not in self.said, f"{stem}.done must come once")
        self._check_text(event[_TEXTS[stem]], stem, f"{stem}.done")
        self.texts.setdefault(stem, "")
        self.said.add(stem)

    def _check_text(self, seen: str, stem: str, where: str) -> None:
        text = self.texts.get(stem, "")
        must(seen == text, f"{where} must have the text of the deltas", expected=text, seen=seen)
