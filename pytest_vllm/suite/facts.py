"""Facts about the server and its model that several tests need; each is found out once.

And what is made of them: prompts as token ids, a greedy text that is varied on any model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pytest_vllm.client.difference import difference
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT, completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

__all__ = [
    "Greedy",
    "context_length",
    "end_token",
    "eventually",
    "greedy",
    "must_agree",
    "text_of",
    "tokens_of",
    "varied",
]

#: How models call the token that ends an answer.
_ENDS = (
    "</s>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<eos>",
    "<end_of_turn>",
    "<|return|>",
    "[EOS]",
)


@dataclass(frozen=True)
class Greedy:
    """A greedy text, and the tokens that it is made of."""

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    """Empty on a server that does not give them."""

    @property
    def clean(self) -> bool:
        """Whether each token has a text, and these add up to the whole."""
        return "\ufffd" not in self.text and "".join(self.tokens) == self.text

    def tokens_until(self, characters: int) -> int:
        """How many tokens it takes until the text has so many characters."""
        length = 0
        for number, token in enumerate(self.tokens, 1):
            length += len(token)
            if length >= characters:
                return number
        return len(self.tokens)


def varied(api: Api, prompt: str | Sequence[int] = PROMPT, **more: Any) -> Request:
    """A greedy request whose text does not repeat itself, whatever model it is."""
    return completion(api.model, prompt, **{"frequency_penalty": 2.0, **more})


def greedy(api: Api) -> Greedy:
    """What `varied` is answered with: at least 4 characters, and each token with a text.

    Raises Unsupported where none of a few prompts has such an answer.
    """
    return found_prompt(api)[1]


def found_prompt(api: Api) -> tuple[str, Greedy]:
    """The prompt of `greedy`, and the answer to it."""
    found = api.once("greedy text", lambda: _find_greedy(api))
    if found is None:
        api.unsupported("the model's tokens are parts of characters: no text to look for")
    return found


def _find_greedy(api: Api) -> tuple[str, Greedy] | None:
    more = {"return_token_ids": True} if api.has("vllm") else {}
    for prompt in (PROMPT, "Count from one", "Once upon a time", "Hello", "1, 2, 3,", "def f("):
        [choice] = api.ask(varied(api, prompt, logprobs=1, **more)).json["choices"]
        ids, tokens = choice.get("token_ids") or (), choice["logprobs"]["tokens"]
        if choice["finish_reason"] == "stop":
            ids, tokens = ids[:-1], tokens[:-1]
        found = Greedy(choice["text"], tuple(tokens), tuple(ids))
        if found.clean and len(found.tokens) >= 4 and len({*found.tokens}) >= 4:
            return prompt, found
    return None


def end_token(api: Api) -> int:
    """The id of a token that ends an answer, found by forcing candidates on the model.

    Raises Unsupported where none of the usual names is one.
    """
    found = api.once("end token", lambda: _find_end(api))
    if found is None:
        api.unsupported(f"none of {', '.join(_ENDS)} ends an answer of this model")
    return found


def _find_end(api: Api) -> int | None:
    for name in _ENDS:
        ids = tokens_of(api, name, add_special_tokens=False)
        if len(ids) == 1:
            forced = completion(api.model, max_tokens=2, logit_bias={str(ids[0]): 100})
            if api.ask(forced).json["choices"][0]["finish_reason"] == "stop":
                return ids[0]
    return None


def tokens_of(api: Api, text: str, **more: Any) -> list[int]:
    """The tokens of a text (vLLM's /tokenize)."""
    request = Request("POST", "/tokenize", {"model": api.model, "prompt": text, **more})
    answer = api.once(("tokens", text, *more.items()), lambda: api.ask(request))
    return cast("list[int]", answer.json["tokens"])


def text_of(api: Api, ids: Sequence[int]) -> str:
    """The text of tokens (vLLM's /detokenize)."""
    request = Request("POST", "/detokenize", {"model": api.model, "tokens": list(ids)})
    return str(api.ask(request).json["prompt"])


def context_length(api: Api) -> int | None:
    """How many tokens fit into the model; None where the server does not say."""
    models = api.once("model cards", lambda: api.ask(Request("GET", "/v1/models")).json["data"])
    lengths = [m.get("max_model_len") for m in models if m["id"] == api.model]
    return next((length for length in lengths if isinstance(length, int)), None)


def root_of(api: Api) -> str | None:
    """Where the model's files are, by its card; None where the server does not say."""
    models = api.once("model cards", lambda: api.ask(Request("GET", "/v1/models")).json["data"])
    return next((m.get("root") for m in models if m["id"] == api.model), None)


def must_agree(
    rule: str, left: Answer, right: Answer, *, ignore: Sequence[str] = (), tolerance: float = 0.05
) -> None:
    """Two answers have the same choices. Raises CheckFailed, with both curl lines."""
    __tracebackhide__ = True
    found = difference(
        {key: left.json.get(key) for key in ("choices", "usage")},
        {key: right.json.get(key) for key in ("choices", "usage")},
        ignore=ignore,
        tolerance=tolerance,
    )
    if found is not None:
        raise CheckFailed(
            f"{rule}; {found.where} differs", expected=found.left, seen=found.right
        ).reproduced_by(right.curl, left.curl)


def eventually(check: Callable[[], None], times: int = 3) -> None:
    """Try a comparison of two runs again: under load a near-tie may be rounded either way.

    Raises CheckFailed of the last try.
    """
    __tracebackhide__ = True
    for last in range(times):
        try:
            return check()
        except CheckFailed:
            if last == times - 1:
                raise
    return None
