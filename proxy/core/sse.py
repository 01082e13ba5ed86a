"""Bytes in any chunking → events.

A push parser for the event-stream format (WHATWG HTML, "Parsing an event stream"), kept to what a
relay has to read: the data of each event, and where in the bytes an event ended. It never raises,
and copies each byte once, however small the chunks are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BOM: Final = b"\xef\xbb\xbf"
_LF: Final = 0x0A
_FOREIGN: Final = frozenset({b"{", b"[", b"<"})


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a chunk completed: each event's data, and the offset in the chunk after the last one.

    `boundary` is 0 when the chunk ends inside the event it began in. Blank lines and comments
    between events count as ended, so `boundary` may move without an event. `foreign` is the offset
    of a line between events that is none of an event stream (JSON, or a web page): nothing from
    there on was read.
    """

    events: list[bytes]
    boundary: int
    foreign: int | None = None


class EventReader:
    """Collects one event stream; an event above `event_bytes_max` is skipped and remembered."""

    __slots__ = (
        "_after_cr",
        "_at_start",
        "_begun",
        "_bytes",
        "_data",
        "_line",
        "bytes_max",
        "oversized",
        "skipping",
    )

    def __init__(self, event_bytes_max: int) -> None:
        """Begin before the first byte of a stream."""
        self.bytes_max = event_bytes_max
        self.oversized = False
        """Whether an event of this stream was too long to be read."""
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._bytes = 0
        self._begun = False
        self.skipping = False
        self._at_start = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> Parsed:
        """Take the next bytes of the stream."""
        events: list[bytes] = []
        boundary = start = 0
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:  # the second half of a CRLF that a chunk border split
                start = 1
                boundary = 0 if self.in_event else 1
        for end in _LINE_END.finditer(chunk, start):
            if self._is_foreign(chunk, start):
                return Parsed(events, boundary, start)
            self._end_line(chunk[start : end.start()], events)
            start = end.end()
            if not self.in_event:
                boundary = start
        if self._is_foreign(chunk, start):
            return Parsed(events, boundary, start)
        if start < len(chunk):
            self._keep(chunk[start:])
        elif chunk.endswith(b"\r"):
            self._after_cr = True
        return Parsed(events, boundary)

    def finish(self) -> list[bytes]:
        """The stream has ended; the data of an event that lacks its blank line, if there is one.

        The format drops such an event. A relay cannot: its bytes went to the caller.
        """
        events: list[bytes] = []
        if self._line:
            self._end_line(b"", events)
        self._end_line(b"", events)
        return events

    @property
    def in_event(self) -> bool:
        """Whether the bytes so far end inside an event, or inside a line."""
        return bool(self._begun or self._line or self.skipping)

    def _is_foreign(self, chunk: bytes, start: int) -> bool:
        """Whether a line that is none of an event stream begins at `start`."""
        return not self.in_event and chunk[start : start + 1] in _FOREIGN

    def _keep(self, part: bytes) -> None:

        self._bytes += len(part)
        if self._bytes > self.bytes_max:
            self.oversized = self.skipping = True
            self._data.clear()
            self._line[:] = [b":"]  # stands for a line that is not blank
        else:
            self._line.append(part)

    def _end_line(self, rest: bytes, events: list[bytes]) -> None:
        if rest:
            self._keep(rest)
        line = b"".join(self._line)
        self._line.clear()
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
            self._data.clear()
            self._bytes = 0
            self._begun = self.skipping = False
            return
        field, _, value = line.partition(b":")
        self._begun = self._begun or field != b""  # a comment may stand anywhere
        if field == b"data" and not self.skipping:
            self._data.append(value.removeprefix(b" "))
        elif not self._data and not self.skipping:
            self._bytes = 0
