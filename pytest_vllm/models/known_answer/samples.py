"""Prompts whose greedy answer is beyond doubt on every known-answer model (`Answer.certain`)."""

from __future__ import annotations

from hashlib import shake_256

from pytest_vllm.models.known_answer.words import WORDS

__all__ = ["PROMPTS", "QUESTIONS", "RUN", "long_prompt"]

PROMPTS = (
    "Today is Monday",
    "Count from one",
    "The planets: Mercury",
    "Hello",
    "Say unicode",
    "你好",
)
"""Texts for completions. The first is answered without end, the others stop by themselves."""

QUESTIONS = (
    "What comes after Monday?",
    "Count from one!",
    "Name the planets from Mercury.",
    "Please say unicode",
    "你好",
)
"""User messages for chat; the answer continues the last word."""

RUN = 16
"""How often a long prompt repeats a word: the size of vLLM's KV-cache block on GPUs."""


def long_prompt(tokens: int, seed: int = 0) -> str:
    """Return a prompt of exactly this many tokens (`<s>` counts), words mixed by `seed`.

    Repeating the words makes each block weigh: at 300 tokens, `known-answer/context` answers a
    lost, repeated or foreign block of 16 with a logprob that is 0.05 off within eight tokens,
    five times the bfloat16 tolerance.
    """
    dice = shake_256(b"prompt %d" % seed).digest(tokens)
    return "".join(WORDS[dice[place // RUN] % len(WORDS)] for place in range(1, tokens))
