"""What a correct server must answer: the formula of `geometry`, in float64 and pure Python.

How close a server comes depends on its dtype alone. Token-only models are exact in every dtype.
With memory, the mean and the logits are rounded; TOLERANCE holds for the five best tokens after
any context, measured on vLLM 0.32 (CPU) and by rounding at each step in the unit tests.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_vllm.models.known_answer import chat, geometry, tokenizer
from pytest_vllm.models.known_answer.recipe import recipe
from pytest_vllm.models.known_answer.tables import Table, memory, transitions
from pytest_vllm.models.known_answer.vocabulary import IDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["SAFE_MARGIN", "TOLERANCE", "Answer", "KnownAnswer", "Step", "predictor"]

TOLERANCE = {"bfloat16": 1e-2, "float16": 2e-3, "float32": 1e-3}
"""Largest honest error of the logprobs of the five best tokens (nats), by the server's dtype.

Measured with memory: 0.005, 0.0007 and 4e-7; a GPU that multiplies float32 as TF32 needs more.
"""

SAFE_MARGIN = 0.1
"""Two logits this far apart (nats) keep their order in bfloat16, with room to spare."""


@dataclass(frozen=True)
class Step:
    """One token that greedy decoding must choose."""

    token_id: int
    text: str
    """The token alone; U+FFFD where it is a part of a character."""
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The best (token id, logprob) pairs, best first; the chosen one is the first."""
    margin: float
    """The distance in logits to the next best token."""


@dataclass(frozen=True)
class Answer:
    """A whole greedy answer, as the completions endpoint reports it."""

    steps: tuple[Step, ...]
    """One per completion token, with the end token if it was reached."""
    text: str
    """Ends in U+FFFD if max_tokens cuts a character; a server may hold such an end back."""
    finish_reason: str
    """`stop` when the end token came, else `length`."""

    @property
    def margin(self) -> float:
        """The smallest margin of any step; infinite without steps."""
        return min((step.margin for step in self.steps), default=math.inf)

    @property
    def certain(self) -> bool:
        """Whether no rounding can change the text: only then may a test insist on it."""
        return self.margin >= SAFE_MARGIN


@dataclass(frozen=True)
class KnownAnswer:
    """A known-answer model as mathematics: every logit for every context."""

    name: str
    eos_id: int
    transitions: Table = field(repr=False, compare=False)
    memory: Table | None = field(repr=False, compare=False)
    has_chat_template: bool

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Return the token ids, beginning with `<s>` unless told otherwise."""
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text; bytes that are not UTF-8 become U+FFFD."""
        return tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)

    def chat_prompt_ids(
        self,
        messages: Sequence[chat.Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """Return the prompt that the server must make of these messages and tools.

        Raises ValueError for a model without a chat template.
        """
        if not self.has_chat_template:
            raise ValueError(f"{self.name} has no chat template")
        prompt = chat.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
        return self.encode(prompt, add_special_tokens=False)

    def logits(self, context: Sequence[int]) -> list[float]:
        """Return the raw logits after this context (prompt and answer so far), by token id.

        Raises IndexError for an empty context.
        """
        row = self.transitions[context[-1]]
        if self.memory is None:
            return list(row)
        shares = {token: count / len(context) for token, count in Counter(context).items()}
        squares = math.fsum(share * share for share in shares.values())
        scale = 1 / math.sqrt(1 + squares / geometry.HIDDEN + geometry.EPSILON)
        sums = list(row)
        for token, share in shares.items():
            sums = [
                total + share * add for total, add in zip(sums, self.memory[token], strict=True)
            ]
        return [total * scale for total in sums]

    def logprobs(self, context: Sequence[int]) -> list[float]:
        """Return the natural logarithm of each next token's probability, by token id."""
        logits = self.logits(context)
        best = max(logits)
        total = best + math.log(math.fsum(math.exp(logit - best) for logit in logits))
        return [logit - total for logit in logits]

    def greedy(
        self, prompt_ids: Sequence[int], max_tokens: int, *, top: int = 5, ignore_eos: bool = False
    ) -> list[Step]:
        """Return what temperature 0 must generate; the end token is the last step if it comes."""
        context = list(prompt_ids)
        steps: list[Step] = []
        while len(steps) < max_tokens:
            steps.append(self._step(context, top))
            context.append(steps[-1].token_id)
            if steps[-1].token_id == self.eos_id and not ignore_eos:
                break
        return steps

    def _step(self, context: Sequence[int], top: int) -> Step:
        logprobs = self.logprobs(context)
        ranked = sorted(range(len(logprobs)), key=lambda token: -logprobs[token])
        best, second = ranked[:2]
        return Step(
            token_id=best,
            text=self.decode([best], skip_special_tokens=False),
            logprob=logprobs[best],
            top=tuple((token, logprobs[token]) for token in ranked[:top]),
            margin=logprobs[best] - logprobs[second],
        )

    def answer(
        self,
        prompt: str | Sequence[int],
        max_tokens: int,
        *,
        top: int = 5,
        ignore_eos: bool = False,
    ) -> Answer:
        """Return the greedy answer to a prompt (a text, or token ids)."""
        ids = self.encode(prompt) if isinstance(prompt, str) else prompt
        steps = tuple(self.greedy(ids, max_tokens, top=top, ignore_eos=ignore_eos))
        ended = not ignore_eos and bool(steps) and steps[-1].token_id == self.eos_id
        text = self.decode(step.token_id for step in steps)
        return Answer(steps, text, "stop" if ended else "length")


def predictor(name: str) -> KnownAnswer:
    """Return the model of this name; raises UnknownKnownAnswerError, naming the right ones."""
    chosen = recipe(name)
    return KnownAnswer(
        name=chosen.name,
        eos_id=IDS[chosen.end.encode()],
        transitions=transitions(chosen.end),
        memory=memory() if chosen.remembers else None,
        has_chat_template=chosen.chat_template is not None,
    )
