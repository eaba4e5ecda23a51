"""The known-answer chat model: every prompt, text and logprob must be the formula's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.suite.chats import CONVERSATIONS, content, talk
from pytest_vllm.suite.predicted import tolerance

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("known-answer/chat"),
    pytest.mark.endpoint("POST /v1/chat/completions"),
]

#: Those whose contents are strings; the template of the formula knows no parts.
WRITTEN = [
    name
    for name, messages in CONVERSATIONS.items()
    if all(isinstance(m["content"], str) for m in messages)
]


@pytest.mark.parametrize("name", WRITTEN)
def test_a_conversation_has_the_predicted_answer(api: Api, name: str) -> None:
    model = predictor(api.model)
    messages: Any = CONVERSATIONS[name]
    ids = model.chat_prompt_ids(messages)
    expected = model.answer(ids, 12)
    answer = api.both(talk(api, messages, max_tokens=12, logprobs=True, return_token_ids=True))
    choice = answer.json["choices"][0]
    must(
        answer.json["prompt_token_ids"] == ids,
        "The prompt must be what the template makes of the messages",
        expected=ids,
        seen=answer.json["prompt_token_ids"],
    )
    if not expected.certain:
        return  # an honest rounding may choose the other token
    must(
        choice["token_ids"] == [step.token_id for step in expected.steps],
        "The tokens must be what the model's formula says",
        expected=[step.token_id for step in expected.steps],
        seen=choice["token_ids"],
    )
    must(
        (content(answer), choice["finish_reason"]) == (expected.text, expected.finish_reason),
        "The answer must be what the model's formula says",
        expected=[expected.text, expected.finish_reason],
        seen=[content(answer), choice["finish_reason"]],
    )
    limit = tolerance(api.server)
    for at, (step, entry) in enumerate(
        zip(expected.steps, choice["logprobs"]["content"], strict=True)
    ):
        must(
            abs(step.logprob - entry["logprob"]) <= limit,
            f"The logprob at position {at} must be within {limit:g} of the model's formula",
            expected=round(step.logprob, 6),
            seen=entry["logprob"],
        )


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_the_end_token_ends_a_chat_unless_ignored(api: Api, ignore_eos: bool) -> None:
    model = predictor(api.model)
    messages: Any = [{"role": "user", "content": "Please say unicode"}]
    ids = model.chat_prompt_ids(messages)
    expected = model.answer(ids, 24, ignore_eos=ignore_eos)
    if not expected.certain:
        api.unsupported("no certain answer")
    more = {"ignore_eos": ignore_eos, "return_token_ids": True}
    answer = api.both(talk(api, messages, max_tokens=24, **more))
    choice = answer.json["choices"][0]
    seen = [choice["finish_reason"], choice["token_ids"]]
    must(
        seen == [expected.finish_reason, [step.token_id for step in expected.steps]],
        f"An answer must end at the end token unless ignore_eos ({ignore_eos})",
        expected=[expected.finish_reason, [step.token_id for step in expected.steps]],
        seen=seen,
    )
