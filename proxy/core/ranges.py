"""Conditional and range requests (RFC 9110): what of a kept clip a request gets.

A clip's bytes never change, so its ETag is strong (its quoted SHA-256) and so is its date. What is
malformed, unknown or too much in a `Range` is ignored, as the RFC allows, and the whole is sent:
a player is served either way (reliability facts, R66 to R69).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from proxy.core.headers import parse_http_date

RANGES_MAX: Final = 5
"""More ranges than this in one request are ignored (RFC 9110, 14.2; R68)."""

_Raw = Iterable[tuple[bytes, bytes]]

_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_BETWEEN: Final = re.compile(r"[ \t,]*")
_RANGE: Final = re.compile(r"bytes=(.*)", re.IGNORECASE)
_ONE: Final = re.compile(r"[ \t]*(?P<first>[0-9]*)-(?P<last>[0-9]*)[ \t]*")
_DIGITS_MAX: Final = 18
"""No file has a length of more digits; Python refuses to read numbers of thousands."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept clip: `etag` in its quotes, `modified_at` aware, `size` in bytes."""

    size: int
    etag: str
    modified_at: datetime
    media_type: str = "video/mp4"


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` up to, and not with, `stop`."""

    start: int
    stop: int

    def of(self, size: int) -> str:
        """As a `Content-Range` of `size` bytes in all."""
        return f"bytes {self.start}-{self.stop - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Whole:
    """All of it."""

    status: ClassVar[int] = 200


@dataclass(frozen=True, slots=True)
class Part:
    """One range of it."""

    status: ClassVar[int] = 206
    span: Span


@dataclass(frozen=True, slots=True)
class Parts:
    """Several ranges that neither meet nor overlap, in the order they were asked for."""

    status: ClassVar[int] = 206
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class NotModified:
    """Nothing: the caller has it."""

    status: ClassVar[int] = 304


@dataclass(frozen=True, slots=True)
class PreconditionFailed:
    """Nothing: it is not what the caller insists on."""

    status: ClassVar[int] = 412


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing: every range asked for lies beyond its end."""

    status: ClassVar[int] = 416


Answer = Whole | Part | Parts | NotModified | PreconditionFailed | Unsatisfiable


def answer(method: str, headers: _Raw, kept: Kept) -> Answer:
    """What a GET or HEAD with these `headers` gets, conditions in the order of RFC 9110, 13.2.2.

    HEAD gets what GET gets without its ranges, which HEAD does not have.
    """
    raw = list(headers)
    if _fails(raw, kept):
        return PreconditionFailed()
    if _is_known(raw, kept):
        return NotModified()
    asked = _values(raw, b"range")
    if method != "GET" or len(asked) != 1 or not _is_same(raw, kept):
        return Whole()
    return _ranges(asked[0], kept.size)


def _fails(raw: _Raw, kept: Kept) -> bool:
    """Whether `If-Match`, or else `If-Unmodified-Since`, stops the request."""
    tags = _values(raw, b"if-match")
    if tags:
        return not _matches(tags, kept.etag, weakly=False)
    since = _date(_values(raw, b"if-unmodified-since"), kept)
    return since is not None and kept.modified_at.replace(microsecond=0) > since


def _is_known(raw: _Raw, kept: Kept) -> bool:
    """Whether `If-None-Match`, or else `If-Modified-Since`, says that the caller has the clip."""
    tags = _values(raw, b"if-none-match")
    if tags:
        return _matches(tags, kept.etag, weakly=True)
    since = _date(_values(raw, b"if-modified-since"), kept)
    return since is not None and kept.modified_at.replace(microsecond=0) <= since


def _is_same(raw: _Raw, kept: Kept) -> bool:
    """Whether `If-Range`, if there is one, names exactly this clip: by ETag or by its very date."""
    values = _values(raw, b"if-range")
    if not values:
        return True
    if values == [kept.etag]:
        return True
    return _date(values, kept) == kept.modified_at.replace(microsecond=0)


def _values(raw: _Raw, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip(" \t") for other, value in raw if other.lower() == name]


def _date(values: Sequence[str], kept: Kept) -> datetime | None:
    # The reference for years of two digits may as well be the clip's own day.
    return parse_http_date(values[0], kept.modified_at) if len(values) == 1 else None


def _matches(values: Sequence[str], etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags, over any number of header lines, has `etag` in it."""
    text = ",".join(values)
    if text == "*":
        return True
    position = _end(_BETWEEN, text, 0)
    while (found := _TAG.match(text, position)) is not None:
        tag = found[0].removeprefix("W/") if weakly else found[0]
        if tag == etag:
            return True
        position = _end(_BETWEEN, text, found.end())
    return False


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    return position if found is None else found.end()


def _ranges(value: str, size: int) -> Answer:
    header = _RANGE.fullmatch(value)
    if header is None or header[1].count(",") > 4 * RANGES_MAX:
        return Whole()
    asked = [text for text in header[1].split(",") if text.strip(" \t")]
    if not 0 < len(asked) <= RANGES_MAX:
        return Whole()
    spans = []
    for text in asked:
        match = _ONE.fullmatch(text)
        if match is None:
            return Whole()
        span = _span(match["first"], match["last"], size)
        if span is None:
            return Whole()
        if span.start < span.stop:
            spans.append(span)
    if not spans:
        return Unsatisfiable()
    merged = _merged(spans)
    return Part(merged[0]) if len(merged) == 1 else Parts(tuple(merged))


def _span(first: str, last: str, size: int) -> Span | None:
    """The bytes a range stands for; None if it is no range, an empty span if it lies outside."""
    if not first:
        return Span(max(0, size - _whole(last)), size) if last else None
    start = _whole(first)
    stop = _whole(last) + 1 if last else size
    if last and stop <= start:
        return None
    return Span(min(start, size), min(stop, size)) if start < size else Span(size, size)


def _whole(digits: str) -> int:
    plain = digits.lstrip("0")
    return int(plain or "0") if len(plain) <= _DIGITS_MAX else 10**_DIGITS_MAX


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same bytes in spans that do not touch; each stands where its first part was asked for."""
    merged: list[tuple[int, Span]] = []
    for order, span in sorted(enumerate(spans), key=lambda each: each[1].start):
        if merged and span.start <= merged[-1][1].stop:
            before, last = merged.pop()
            stop = max(last.stop, span.stop)
            merged.append((min(before, order), Span(last.start, stop)))
        else:
            merged.append((order, span))
    return [span for _, span in sorted(merged, key=lambda each: each[0])]
