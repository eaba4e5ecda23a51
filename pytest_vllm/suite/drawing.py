"""Drawing many tokens cheaply, and the candidates of a model that no formula describes.

A drawing request never has a seed: on a CPU, vLLM 0.32 dies of a seeded prompt that is computed
in several steps (`gen.set_offset`), which many at a time can bring about. Seeded requests
have a prompt of one token, which no scheduler can split.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

__all__ = ["NEUTRAL", "ONE_TOKEN", "draw", "top_candidates"]

#: A prompt that every vocabulary has, and that is computed in one step.
ONE_TOKEN = [100]

#: All sampling parameters at their neutral values: a model's generation_config.json may have
#: others, and vLLM takes those where a request does not say.
NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}

_AT_ONCE = 128

_ID = re.compile(r"token_id:[0-9]+")
_AS_IDS = "With return_tokens_as_token_ids each token must be named token_id and its number"


def draw(api: Api, draws: int, **fields: Any) -> list[int]:
    """Draw the first token after ONE_TOKEN this many times; returns token ids (vLLM only)."""
    __tracebackhide__ = True
    more = {**NEUTRAL, "max_tokens": 1, "return_token_ids": True, "seed": ..., **fields}
    request = completion(api.model, ONE_TOKEN).but(n=_AT_ONCE, **more)
    answers = [api.ask(request) for _ in range(draws // _AT_ONCE)]
    return [choice["token_ids"][0] for answer in answers for choice in answer.json["choices"]]


def top_candidates(api: Api) -> dict[int, float]:
    """The twenty best tokens after ONE_TOKEN with their raw logprobs, best first (vLLM only)."""
    __tracebackhide__ = True

    def find() -> dict[int, float]:
        more = {"logprobs": 20, "return_tokens_as_token_ids": True, "max_tokens": 1}
        answer = api.ask(completion(api.model, ONE_TOKEN, **more))
        top = answer.json["choices"][0]["logprobs"]["top_logprobs"][0]
        answer.check(lambda _: must(all(map(_ID.fullmatch, top)), _AS_IDS, seen=next(iter(top))))
        pairs = [(int(name.removeprefix("token_id:")), value) for name, value in top.items()]
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    return api.once("the twenty best tokens after one", find)
