"""The chat template of `known-answer/chat`, and the same rendering without Jinja.

The model sees only its last token, so the template repeats the last word of the last message
after `<|assistant|>`: the answer then depends on the question, and an answer that belongs to
another request is noticed. "What comes after Monday?" ends in ` Monday` and is answered
` Tuesday`. A message without words ends in `<|assistant|>` itself, which is answered ` one two`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

__all__ = ["TEMPLATE", "Content", "Message", "render"]

Content: TypeAlias = str | Sequence[Mapping[str, str]] | None
Message: TypeAlias = Mapping[str, Content]

TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{{ '<|' + role + '|>' + (message['content'] or '') + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{% set words = (messages[-1]['content'] or '').rstrip('?!. \\n').split() %}"
    "{{ '<|assistant|>' + (' ' + words[-1] if words else '') }}"
    "{% endif %}"
)


def render(messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
    """Return the prompt text that `TEMPLATE` gives for these messages."""
    turns = "".join(f"<|{_role(message)}|>{_text(message)}<|end|>" for message in messages)
    return "<s>" + turns + (_opening(messages[-1]) if add_generation_prompt else "")


def _opening(last: Message) -> str:
    words = _text(last).rstrip("?!. \n").split()
    return "<|assistant|>" + (f" {words[-1]}" if words else "")


def _role(message: Message) -> Content:
    """Return the role; newer vLLM does the same to `developer` where a template lacks it."""
    return "system" if message["role"] == "developer" else message["role"]


def _text(message: Message) -> str:
    """Return the content as one string; vLLM joins a list of text parts by newlines."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
