from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.client.curl import curl_line
from pytest_vllm.client.exchange import Request

URL = "http://127.0.0.1:8000/v1/completions"


def words_of(line: str, folder: Path) -> list[str]:
    """What a real shell makes of the line, with a `curl` that shows its arguments."""
    (folder / "curl").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    (folder / "curl").chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "VLLM_API_KEY": "s3cret"}
    shown = subprocess.run(["sh", "-c", line], env=environment, capture_output=True, check=True)
    return shown.stdout.decode().split("\0")[:-1]


def test_a_plain_request_is_short() -> None:
    assert curl_line(Request("GET", "/"), URL) == f"curl -sS {URL}"
    assert curl_line(Request("POST", "/", {"n": 1}), URL) == (
        f"""curl -sS {URL} -H 'Content-Type: application/json' --data-raw '{{"n": 1}}'"""
    )


@pytest.mark.parametrize(
    ("method", "body", "expected"),
    [
        ("GET", None, "curl -sS http"),
        ("POST", {"a": 1}, "curl -sS http"),
        ("POST", {"stream": True}, "curl -sSN http"),
        ("POST", {"stream": False}, "curl -sS http"),
        ("POST", None, "curl -sS -X POST http"),
        ("HEAD", None, "curl -sS -X HEAD http"),
        ("GET", {}, "curl -sS -X GET http"),
    ],
)
def test_the_method_is_named_where_curl_would_take_another(
    method: str, body: dict[str, Any] | None, expected: str
) -> None:
    assert curl_line(Request(method, "/", body), URL).startswith(expected)


@pytest.mark.parametrize(
    "prompt",
    ["It's", '"$HOME"', "`id` $(id) \\", "a\nb\t", "中文😀", "@/etc/passwd", "-d; rm *", "!!", ""],
)
def test_any_prompt_survives_the_shell(prompt: str, tmp_path: Path) -> None:
    words = words_of(curl_line(Request("POST", "/", {"prompt": prompt}), URL), tmp_path)
    assert json.loads(words[-1]) == {"prompt": prompt}
    assert words[-2] == "--data-raw"


def test_the_key_is_filled_in_by_the_shell_only(tmp_path: Path) -> None:
    line = curl_line(Request("GET", "/"), URL, with_key=True)
    assert '"Authorization: Bearer $VLLM_API_KEY"' in line
    assert "Authorization: Bearer s3cret" in words_of(line, tmp_path)


def test_a_password_in_the_address_is_left_out() -> None:
    assert curl_line(Request("GET", "/"), "https://me:s3cret@host/v1") == "curl -sS https://host/v1"
    assert "x@y" in curl_line(Request("GET", "/"), "https://host/v1?q=x@y")


def test_an_address_for_the_shell_is_quoted(tmp_path: Path) -> None:
    url = "http://127.0.0.1/v1?a=1&b=2"
    assert words_of(curl_line(Request("GET", "/"), url), tmp_path)[-1] == url
