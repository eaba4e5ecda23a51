"""What tells the three models apart: four facts each, read by the builder and the predictor."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_vllm.models.known_answer.chat import TEMPLATE

__all__ = ["NAMES", "Recipe", "UnknownKnownAnswerError", "is_known_answer", "recipe"]


@dataclass(frozen=True)
class Recipe:
    """One known-answer model."""

    name: str
    end: str = "</s>"
    """The special token that ends an answer."""
    remembers: bool = False
    """Whether the logits depend on the whole context, or on the last token only."""
    chat_template: str | None = None


_RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("known-answer/base"),
        Recipe("known-answer/context", remembers=True),
        Recipe("known-answer/chat", end="<|end|>", chat_template=TEMPLATE),
    )
}
NAMES: tuple[str, ...] = tuple(_RECIPES)


class UnknownKnownAnswerError(ValueError):
    """There is no known-answer model of this name."""


def is_known_answer(model: str) -> bool:
    """Say whether this model name is one that `build` can make."""
    return model in _RECIPES


def recipe(name: str) -> Recipe:
    """Return the recipe; raises UnknownKnownAnswerError, which names the right ones."""
    try:
        return _RECIPES[name]
    except KeyError:
        message = f"no known-answer model is called {name!r}: choose one of {', '.join(NAMES)}"
        raise UnknownKnownAnswerError(message) from None
