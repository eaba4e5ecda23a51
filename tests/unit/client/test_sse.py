from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.sse import Event, events


def read(*parts: bytes) -> list[str]:
    return [event.data for event in events(parts)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_all_three_line_ends_are_lines(end: bytes) -> None:
    assert read(end.join([b"data: a", b"", b"data: b", b"", b""])) == ["a", "b"]


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n", "\r\r"], ids=["LF", "CRLF", "CR"])
def test_the_bytes_may_be_cut_anywhere(end: str) -> None:
    stream = f"data: 中文😀{end}: ping{end}data:  é{end}".encode()
    for cut in range(len(stream) + 1):
        assert read(stream[:cut], stream[cut:]) == ["中文😀", " é"]
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == ["中文😀", " é"]


def test_an_event_comes_as_soon_as_its_last_byte() -> None:
    seen = []

    def parts() -> Iterator[bytes]:
        yield b"data: a\n"
        seen.append("open")
        yield b"\n"
        seen.append("closed")

    for event in events(parts()):
        seen.append(event.data)
    assert seen == ["open", "a", "closed"]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"", []),
        (b": keep-alive\n\n: again\n\n", []),
        (b"data:a\n\n", [Event("a")]),
        (b"data:  a \n\n", [Event(" a ")]),
        (b"data: a\ndata: b\n\n", [Event("a\nb")]),
        (b"data\n\n", [Event("")]),
        (
            b"event: done\ndata: a\nid: 7\nretry: 10\n\ndata: b\n\n",
            [Event("a", "done"), Event("b")],
        ),
        (b"event: no data\n\ndata: a\n\n", [Event("a")]),
        ("data: a\u2028b\x0bc\x85d\n\n".encode(), [Event("a\u2028b\x0bc\x85d")]),
        (b"data: a\n\n\n\n\ndata: b\n\n", [Event("a"), Event("b")]),
    ],
)
def test_what_the_standard_allows_is_read(stream: bytes, expected: list[Event]) -> None:
    assert list(events([stream])) == expected


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b'{"a": 1}\n\n', r'Every line .* must be an SSE field such as `data:`: got "\{'),
        (b"Data: a\n\n", "Every line"),
        (b"data : a\n\n", "Every line"),
        (b"data: a\n", "Every event of a stream must end with a blank line"),
        (b"data: a", "must end with a blank line"),
        (b"data: a\n\nevent: x", "must end with a blank line"),
        (b"data: \xff\n\n", 'A stream must be UTF-8: got "ff 0a 0a"'),
        (b"data: \xe4\xb8", 'must be UTF-8: got "e4 b8"'),
        (b"data: \xed\xa0\x80\n\n", "must be UTF-8"),  # half a surrogate pair
    ],
)
def test_what_loses_text_is_a_failure(stream: bytes, message: str) -> None:
    for parts in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        with pytest.raises(CheckFailed, match=message.split(": got")[0]):
            list(events(parts))
    with pytest.raises(CheckFailed, match=message):
        list(events([stream]))
