from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sse import EventReader
from tests.streams import cut


def events(chunks: list[bytes], bytes_max: int = 1 << 20) -> list[bytes]:
    reader = EventReader(bytes_max)
    read = [data for chunk in chunks for data in reader.feed(chunk).events]
    return read + reader.finish()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data\n\n", [b""]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"a", b"b"]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": comment\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"]),
        (b"event: x\n\n", []),
        (b"datax: a\n\n", []),
        (b"data: no blank line", [b"no blank line"]),
        (b"data: no blank line\n", [b"no blank line"]),
        (b"\n\n\n", []),
        (b"", []),
    ],
    ids=repr,
)
def test_an_event_stream_gives_its_events_under_any_chunking(
    body: bytes, expected: list[bytes]
) -> None:
    assert events([body]) == expected
    for seed in range(6):
        assert events(cut(body, seed)) == expected


@given(
    st.lists(st.sampled_from([b"data: a", b"\r", b"\n", b"\r\n", b":", b"x", b"\xef\xbb\xbf"])),
    st.integers(0, 500),
)
def test_chunking_never_changes_the_events(tokens: list[bytes], seed: int) -> None:
    body = b"".join(tokens)
    assert events(cut(body, seed)) == events([body])


def test_the_boundary_stands_after_the_last_whole_event() -> None:
    reader = EventReader(1 << 20)
    parsed = reader.feed(b"data: a\n\ndata: b")
    assert (parsed.events, parsed.boundary, reader.in_event) == ([b"a"], 9, True)
    assert reader.feed(b"\n\n").boundary == 2
    assert not reader.in_event


def test_a_carriage_return_at_a_chunks_end_waits_for_its_line_feed() -> None:
    reader = EventReader(1 << 20)
    assert reader.feed(b"data: a\r").events == []
    assert reader.feed(b"\n").events == []
    assert reader.feed(b"\r").events == [b"a"]
    assert reader.feed(b"\n").boundary == 1


def test_an_event_that_is_too_long_is_skipped_and_the_next_one_read() -> None:
    body = b"data: " + b"x" * 200 + b"\ndata: y\n\ndata: a\n\n"
    for seed in range(6):
        reader = EventReader(100)
        read = [data for chunk in cut(body, seed) for data in reader.feed(chunk).events]
        assert (read, reader.oversized) == ([b"a"], True)


def test_many_short_lines_add_up_to_an_event_that_is_too_long() -> None:
    reader = EventReader(100)
    assert reader.feed(b"data: xxxxxxxx\n" * 20 + b"\n").events == []
    assert reader.oversized
