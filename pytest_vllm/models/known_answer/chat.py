"""The chat template of `known-answer/chat`, and the same rendering without Jinja.

The model sees only its last token, so the template repeats the last word of the last message
after `<|assistant|>`: the answer then depends on the question, and an answer that belongs to
another request is noticed. "What comes after Monday?" ends in ` Monday` and is answered
` Tuesday`. A message without words ends in `<|assistant|>` itself, which is answered ` one two`.
Tools and tool calls are written briefly, so that one of them that is lost or changed is noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

__all__ = ["TEMPLATE", "Content", "Message", "render"]

Content: TypeAlias = str | Sequence[Mapping[str, str]] | None
#: A message as the API takes it: `role`, `content`, `tool_calls`.
Message: TypeAlias = Mapping[str, Any]

TEMPLATE = (
    "{{ bos_token }}"
    "{% for tool in tools or [] %}"
    "{% set schema = tool['function']['parameters'] or {} %}"
    "{{ '<|tool|>' + tool['function']['name'] + '(' + (schema['properties'] or {}) | join(',')"
    " + ')' + (tool['function']['description'] or '') + '<|end|>' }}"
    "{% endfor %}"
    "{% for message in messages %}"
    "{% set role = 'system' if message['role'] == 'developer' else message['role'] %}"
    "{{ '<|' + role + '|>' + (message['content'] or '') }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{{ '<|tool|>' + call['function']['name'] + ' ' + call['function']['arguments'] | tojson }}"
    "{% endfor %}"
    "{{ '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    "{% set words = (messages[-1]['content'] or '').rstrip('?!. \\n').split() %}"
    "{{ '<|assistant|>' + (' ' + words[-1] if words else '') }}"
    "{% endif %}"
)


def render(
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    add_generation_prompt: bool = True,
) -> str:
    """Return the prompt text that `TEMPLATE` gives for these messages and tools."""
    offers = "".join(f"<|tool|>{_offer(tool['function'])}<|end|>" for tool in tools)
    turns = "".join(f"<|{_role(m)}|>{_text(m)}{_calls(m)}<|end|>" for m in messages)
    opening = _opening(messages[-1]) if add_generation_prompt else ""
    return "<s>" + offers + turns + opening


def _offer(function: Mapping[str, Any]) -> str:
    """Name a tool and its parameters; a whole schema would fill a small context."""
    names = (function.get("parameters") or {}).get("properties") or {}
    return f"{function['name']}({','.join(names)}){function.get('description') or ''}"


def _calls(message: Message) -> str:
    """Write the calls in a message; vLLM gives templates the arguments as an object."""
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return "".join(f"<|tool|>{f['name']} {_arguments(f['arguments'])}" for f in functions)


def _arguments(text: str) -> str:
    return json.dumps(json.loads(text or "{}"), ensure_ascii=False)


def _opening(last: Message) -> str:
    words = _text(last).rstrip("?!. \n").split()
    return "<|assistant|>" + (f" {words[-1]}" if words else "")


def _role(message: Message) -> str:
    """Return the role; newer vLLM does the same to `developer` where a template lacks it."""
    return "system" if message["role"] == "developer" else str(message["role"])


def _text(message: Message) -> str:
    """Return the content as one string; vLLM joins a list of text parts by newlines."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
