"""The words after which a model calls tools or thinks, and what it then says, token by token.

A model that sees only its last token can recite: give it a chain of tokens that occur nowhere
else. The chat template repeats the question's last word, so " forecast" is answered by a tool
call that a server's real parser (`hermes`) must find, and " ponder" by `<think>…</think>`.
The chains are cut where parsers err: inside markup, names, escapes and characters.

What text cannot give is needed by no chain: each token but the words has a letter and something
else in it, so the tokenizer, which looks up runs of letters, never makes one of text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

__all__ = ["AUTOMATA", "CHAINS", "THINK", "THOUGHT", "Automaton", "Call", "after_thinking"]

#: The markup of `deepseek_r1`, `deepseek_v3`, `qwen3`, … whose parsers want single tokens.
THINK, THOUGHT = b"<think>", b"</think>"

_WEATHER = (
    b'<tool_call>\n{"na',
    b'me": "get_',
    b'weather", "arg',
    b'uments": {"city": "Z\xc3',
    b'\xbcrich \\"Al',
    b'tstadt\\"\\n", "da',
    b'ys": 3, "met',
    b'ric": true}}\n</tool',
    b"_call>",
)
_TIME = (
    b'<tool_call>{"name": "get_t',
    b'ime", "arguments": {"zo',
    b'ne": "Asia/To',
    b'kyo", "places": ["to \xe6\x9d',
    b"\xb1\xe4\xba\xac x",
    b'", "{}"], "opt',
    b'ions": {"seconds": false, "off',
    b'set": -1.5}}}</tool_call>',  # As it began, and no more: a grammar may end it here.
)
_PING = (b'<tool_call>{"name": "pi', b'ng", "arguments": {}}</tool_call>')
_TALK = (b"Let me see. ", b"The <tool", b"box> has it. ")
_THOUGHT = (THINK, b"The user wan", b"ts a num", b"ber \xf0\x9f", b"\x98\x80 <b>", THOUGHT)
_RESULT = (b"The ans", b"wer is")

#: Each token is followed by the next; None is the token that ends an answer.
CHAINS: tuple[tuple[bytes | None, ...], ...] = (
    (b" forecast", *_WEATHER, None),
    (b" itinerary", *_TIME, _WEATHER[0]),
    (b" heartbeat", *_PING, None),
    (b" briefing", *_TALK, _WEATHER[0]),
    (b" ponder", *_THOUGHT, *_RESULT, b" seventeen"),
)


@dataclass(frozen=True)
class Call:
    """A tool call that a model makes: its name, and its arguments as they are generated."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Automaton:
    """A last word, and what the parsers must make of the answer to it."""

    word: str
    content: str = ""
    calls: tuple[Call, ...] = ()
    reasoning: str | None = None

    @property
    def question(self) -> str:
        """A user's message that ends in the word."""
        return f"Please {self.word}"


def _call(tokens: tuple[bytes, ...]) -> Call:
    text = b"".join(tokens).decode().replace("<tool_call>", "").replace("</tool_call>", "")
    call = json.loads(text)
    return Call(call["name"], json.dumps(call["arguments"], ensure_ascii=False))


_CALLS = {name: _call(tokens) for name, tokens in (("w", _WEATHER), ("t", _TIME), ("p", _PING))}

AUTOMATA: dict[str, Automaton] = {
    automaton.word: automaton
    for automaton in (
        Automaton("forecast", calls=(_CALLS["w"],)),
        Automaton("itinerary", calls=(_CALLS["t"], _CALLS["w"])),
        Automaton("heartbeat", calls=(_CALLS["p"],)),
        Automaton("briefing", b"".join(_TALK).decode(), calls=(_CALLS["w"],)),
        Automaton(
            "ponder",
            b"".join(_RESULT).decode() + " seventeen eighteen nineteen twenty.",
            reasoning=b"".join(_THOUGHT[1:-1]).decode(),
        ),
    )
}


def after_thinking() -> tuple[bytes, bytes]:
    """Give a token, and the one that comes second after it instead of a word.

    A logit_bias of +2 for the second makes the model call a tool when it has thought; elsewhere
    that token is at the floor, and the bias does nothing.
    """
    return THOUGHT, _WEATHER[0]
