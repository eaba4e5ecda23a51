from __future__ import annotations

import json

import pytest

from pytest_vllm.client.refusals import is_chat_refusal, server_message
from tests.faults.healthy import NO_TEMPLATE

VLLM = json.dumps({"error": {"message": NO_TEMPLATE, "type": "BadRequestError", "code": 400}})


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, VLLM, True),
        (400, VLLM.replace("define one.", "define one. None"), True),
        (400, '{"message": "Cannot use Chat Template functions"}', False),
        (500, VLLM, False),
        (404, VLLM, False),
        (200, VLLM, False),
        (400, '{"error": {"message": "max_tokens must be at least 1"}}', False),
        (400, "", False),
    ],
)
def test_only_the_missing_template_is_a_chat_refusal(
    status: int, body: str, expected: bool
) -> None:
    assert is_chat_refusal(status, body) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (VLLM, NO_TEMPLATE),
        ('{"error": "Unauthorized"}', "Unauthorized"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"message": "flat"}', "flat"),
        ('{"error": {"code": 1}}', '{"code": 1}'),
        ('{"detail": [{"loc": ["body"], "msg": "é"}]}', '[{"loc": ["body"], "msg": "é"}]'),
        ('"just text"', "just text"),
        ("<html>\n  <b>502</b>\n</html>", "<html> <b>502</b> </html>"),
        ("[" * 100_000, "[" * 100_000),
        ("", ""),
    ],
)
def test_the_sentence_for_people_is_found(body: str, expected: str) -> None:
    assert server_message(body) == expected
