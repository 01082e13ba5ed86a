"""An answer to a conditional or range request as HTTP: header fields, and a body in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from email.utils import format_datetime
from typing import Final

from proxy.core.ranges import Answer, Kept, NotModified, Part, Parts, Span, Unsatisfiable, Whole

_BOUNDARY_CHARS: Final = 32


def fields(found: Answer, kept: Kept) -> list[tuple[bytes, bytes]]:
    """The header fields that belong to `found`, for GET and HEAD alike.

    With 412 and 416 the body, and its type and length, are the sender's to choose.
    """
    named = [("accept-ranges", "bytes"), ("etag", kept.etag)]
    if isinstance(found, Whole | Part | Parts | NotModified):
        modified = format_datetime(kept.modified_at.astimezone(UTC), usegmt=True)
        named.append(("last-modified", modified))
    if isinstance(found, Whole | Part | Parts):
        parted = f"multipart/byteranges; boundary={_boundary(kept)}"
        named.append(("content-type", parted if isinstance(found, Parts) else kept.media_type))
        named.append(("content-length", str(_length(body(found, kept)))))
    if isinstance(found, Part):
        named.append(("content-range", found.span.of(kept.size)))
    if isinstance(found, Unsatisfiable):
        named.append(("content-range", f"bytes */{kept.size}"))
    return [(name.encode(), value.encode()) for name, value in named]


def body(found: Answer, kept: Kept) -> tuple[bytes | Span, ...]:
    """What a GET sends, in order: spans of the clip, and the bytes that frame them."""
    match found:
        case Whole():
            return (Span(0, kept.size),)
        case Part(span):
            return (span,)
        case Parts(spans):
            return _framed(spans, kept)
    return ()


def _framed(spans: Sequence[Span], kept: Kept) -> tuple[bytes | Span, ...]:
    """A `multipart/byteranges` body (RFC 9110, 14.6)."""
    pieces: list[bytes | Span] = []
    for span in spans:
        lead = "\r\n" if pieces else ""
        head = f"Content-Type: {kept.media_type}\r\nContent-Range: {span.of(kept.size)}"
        pieces += [f"{lead}--{_boundary(kept)}\r\n{head}\r\n\r\n".encode(), span]
    return (*pieces, f"\r\n--{_boundary(kept)}--\r\n".encode())


def _boundary(kept: Kept) -> str:
    """Part of the clip's own digest, which no clip can hold."""
    return kept.etag.strip('"')[:_BOUNDARY_CHARS]


def _length(pieces: Sequence[bytes | Span]) -> int:
    lengths = (len(each) if isinstance(each, bytes) else each.stop - each.start for each in pieces)
    return sum(lengths)
