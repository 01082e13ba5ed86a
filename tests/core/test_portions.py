"""Header fields and bodies of answers about a kept clip, byte by byte."""

from __future__ import annotations

import email
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.portions import body, fields
from proxy.core.ranges import (
    Answer,
    Kept,
    NotModified,
    Part,
    Parts,
    PreconditionFailed,
    Span,
    Unsatisfiable,
    Whole,
    answer,
)

CLIP = bytes(range(200))
TAG = f'"{"0f" * 32}"'
KEPT = Kept(len(CLIP), TAG, datetime(2026, 11, 22, 12, 0, 0, 400_000, UTC))
COMMON = {"accept-ranges": "bytes", "etag": TAG}
DATED = {**COMMON, "last-modified": "Sun, 22 Nov 2026 12:00:00 GMT"}


def named(found: Answer, kept: Kept = KEPT) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields(found, kept)}


def sent(found: Answer) -> bytes:
    pieces = body(found, KEPT)
    return b"".join(
        each if isinstance(each, bytes) else CLIP[each.start : each.stop] for each in pieces
    )


@pytest.mark.parametrize(
    ("found", "headers"),
    [
        (Whole(), {**DATED, "content-type": "video/mp4", "content-length": "200"}),
        (
            Part(Span(0, 2)),
            {
                **DATED,
                "content-type": "video/mp4",
                "content-length": "2",
                "content-range": "bytes 0-1/200",
            },
        ),
        (NotModified(), DATED),
        (PreconditionFailed(), COMMON),
        (Unsatisfiable(), {**COMMON, "content-range": "bytes */200"}),
    ],
)
def test_each_answer_has_its_headers(found: Answer, headers: dict[str, str]) -> None:
    assert named(found) == headers


def test_several_parts_are_framed_as_the_rfc_shows() -> None:
    found = Parts((Span(0, 2), Span(198, 200)))
    boundary = "0f" * 16
    head = f"--{boundary}\r\nContent-Type: video/mp4\r\nContent-Range: bytes ".encode()
    expected = head + b"0-1/200\r\n\r\n\x00\x01"
    expected += b"\r\n" + head + b"198-199/200\r\n\r\n\xc6\xc7"
    expected += f"\r\n--{boundary}--\r\n".encode()
    assert sent(found) == expected
    headers = named(found)
    assert headers["content-type"] == f"multipart/byteranges; boundary={boundary}"
    assert headers["content-length"] == str(len(expected))
    assert "content-range" not in headers


@pytest.mark.parametrize("found", [NotModified(), PreconditionFailed(), Unsatisfiable()])
def test_what_is_not_sent_has_no_body(found: Answer) -> None:
    assert body(found, KEPT) == ()


def test_a_date_is_told_in_gmt_wherever_it_comes_from() -> None:
    kept = Kept(1, TAG, KEPT.modified_at.astimezone(timezone(timedelta(hours=9))))
    assert named(Whole(), kept)["last-modified"] == "Sun, 22 Nov 2026 12:00:00 GMT"


def test_the_type_is_the_clips_own() -> None:
    assert named(Whole(), Kept(1, TAG, KEPT.modified_at, "image/webp"))["content-type"] == (
        "image/webp"
    )


@given(
    st.lists(
        st.tuples(st.integers(0, 250), st.integers(0, 250)).map(sorted), min_size=1, max_size=5
    )
)
def test_what_is_sent_is_as_long_as_it_says_and_reads_back(asked: list[list[int]]) -> None:
    value = "bytes=" + ",".join(f"{first}-{last}" for first, last in asked)
    found = answer("GET", [(b"range", value.encode())], KEPT)
    headers, whole = named(found), sent(found)
    if isinstance(found, Unsatisfiable):
        assert whole == b""
        return
    assert headers["content-length"] == str(len(whole))
    if isinstance(found, Part):
        assert whole == CLIP[found.span.start : found.span.stop]
    if isinstance(found, Parts):
        head = f"Content-Type: {headers['content-type']}\r\n\r\n".encode()
        read = email.message_from_bytes(head + whole).get_payload()
        assert isinstance(read, list)
        told = [message["Content-Range"] for message in read]  # type: ignore[index]
        assert told == [span.of(len(CLIP)) for span in found.spans]
