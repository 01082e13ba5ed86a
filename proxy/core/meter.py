"""Watches one answer go by; says which clips were Delivered, Failed or Lost.

Success is a link to a clip (decision 6). HTTP 200, `finish_reason`, `[DONE]` and the end of the
stream prove nothing about delivery; they only tell an answer that *said* how it ended from one
that broke off ("How an answer ended" in the architecture).

A meter also holds bytes back: what announces a clip may go on only once its charge is durable
(law 4). Whole events go on as soon as their clips are charged; those that leave a line with a link
in it unfinished wait for its end. Of an event that is still coming in, everything goes on at once
up to where a link may begin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from proxy.core.failure import Reason, classify
from proxy.core.links import Asked, Failure, Transcript, identity
from proxy.core.sse import EventReader
from proxy.core.wire import Frame, read_completion, read_frame

_PROGRESS: Final = re.compile(r"(?:进度|progress)\s*[:：]\s*(\d{1,3}(?:\.\d+)?)\s*%", re.IGNORECASE)
_LINK_BEGINS: Final = re.compile(rb"(?i)http|\\u00[4-7]|(?:h|ht|htt|\\|\\u|\\u0|\\u00)\Z")
_LINK_CERTAIN: Final = re.compile(rb"(?i)http|\\u00[4-7]")
_WORDS_CHARS_MAX: Final = 2000
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a chunk brought: new clips' links, and the bytes that may go on once these are charged.

    The bytes of all readings and of the verdict, joined, are the bytes fed.
    """

    links: tuple[str, ...]
    passed: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an answer ended for the clips that it was asked for.

    `links` and `passed` are what the end itself brought, as in a `Reading`. `told` says whether
    the answer said how it ended; of the clips without a link `failed` are Failed and `lost` Lost.
    `words` are the vendor's own, for the clip's row. `surplus` counts links beyond those asked for.
    """

    links: tuple[str, ...]
    passed: bytes
    told: bool
    failed: int
    lost: int
    reason: Reason
    words: str
    surplus: int


class _Account:
    """What the frames of one answer have said so far; the same for a stream and a unary body."""

    def __init__(self, clips: int, asked: Asked) -> None:
        self.clips = clips
        self.surplus = 0
        self.percent = 0.0
        self.done = False
        self.error: str | None = None
        self._asked = asked
        self._transcripts: dict[tuple[int, bool], Transcript] = {}
        self._links: dict[str, str] = {}
        self._seen: set[int] = set()
        self._finished: set[int] = set()

    @property
    def delivered(self) -> int:
        return len(self._links)

    @property
    def ended(self) -> bool:
        """Whether no text is to come: what stands in an unfinished line is all of it."""
        return self.done or bool(self._finished and self._seen == self._finished)

    def take(self, frame: Frame) -> list[str]:
        """The links of clips that `frame` newly announces."""
        self.done = self.done or frame.done
        self.error = self.error or frame.error
        self._seen |= frame.choices
        self._finished |= frame.finished
        links: list[str] = []
        for piece in frame.pieces:
            key = (piece.choice, piece.reasoning)
            transcript = self._transcripts.get(key)
            if transcript is None:
                transcript = self._transcripts[key] = Transcript(self._asked)
            links += self._new(transcript.feed(piece.text))
            for match in _PROGRESS.finditer(piece.text):
                self.percent = max(self.percent, min(float(match[1]), 100.0))
        return links

    def finish(self, *, complete: bool) -> list[str]:
        """The links of last lines without a line end; `complete` when nothing was cut off."""
        return [
            link
            for transcript in self._transcripts.values()
            for link in self._new(transcript.finish(complete=complete))
        ]

    def _new(self, links: list[str]) -> list[str]:
        new = []
        for link in links:
            key = identity(link)
            if key in self._links:
                continue
            if len(self._links) >= self.clips:
                self.surplus += 1
                continue
            self._links[key] = link
            new.append(link)
        return new

    def failures(self) -> list[Failure]:
        return [
            failure for transcript in self._transcripts.values() for failure in transcript.failures
        ]

    @property
    def link_open(self) -> bool:
        return any(transcript.link_open for transcript in self._transcripts.values())

    @property
    def link_begun(self) -> bool:
        return any(transcript.link_begun for transcript in self._transcripts.values())

    @property
    def in_doubt(self) -> bool:
        """Whether a link may have been overlooked: among too many, or in an unclosed echo."""
        echoing = any(transcript.echoing for transcript in self._transcripts.values())
        return echoing or self._asked.exhausted

    def told_of(self, *, whole: bool, framed: bool) -> int:
        """How many of the clips without a link the answer accounted for.

        `whole` is a unary body that was read, `framed` a stream that was ended properly: one that
        broke off after some choices finished says nothing of choices that never appeared.
        """
        missing = self.clips - self.delivered
        failures = self.failures()
        if whole or self.done or self.error is not None:
            return missing
        finished = len(self._finished)
        if finished and (finished >= self.clips or (framed and self._seen == self._finished)):
            return missing
        if any(failure.number is None for failure in failures):
            return missing
        return min(missing, len({failure.number for failure in failures}))

    def words(self) -> str:
        failures = self.failures()
        texts = ([self.error] if self.error else []) + [failure.words for failure in failures]
        return "\n".join(dict.fromkeys(texts))[:_WORDS_CHARS_MAX]


class Meter:
    """Watches one answer to a request for `clips` clips; any bytes, never an exception.

    An answer that is no event stream, or ceases to be one, is held whole until it ends: `opaque`
    is true then.
    """

    def __init__(self, clips: int, asked: Asked, *, streamed: bool, event_bytes_max: int) -> None:
        """Begin before the first byte; `streamed` when the answer calls itself an event stream."""
        self.opaque = not streamed
        self._account = _Account(clips, asked)
        self._reader = EventReader(event_bytes_max)
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._certain = False
        self._start = b"" if streamed else None  # the beginning of a byte order mark
        self._body: list[bytes] = []

    @property
    def delivered(self) -> int:
        """How many clips were announced so far."""
        return self._account.delivered

    @property
    def percent(self) -> float:
        """The highest progress that the answer told, in percent; it never goes back."""
        return self._account.percent

    @property
    def between_events(self) -> bool:
        """Whether what was passed on ends where an event may begin."""
        return not (self.opaque or self._held or self._reader.in_event)

    def feed(self, chunk: bytes) -> Reading:
        """Take the next bytes."""
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
                self._start = chunk
                return Reading((), b"")
            self._start = None
            if chunk.startswith(_BOM):
                self._hold(_BOM)
                chunk = chunk[len(_BOM) :]
        if self.opaque:
            self._body.append(chunk)
            return Reading((), b"")
        parsed = self._reader.feed(chunk)
        links: list[str] = []
        for data in parsed.events:
            links += self._account.take(read_frame(data))
        if self._account.ended:
            links += self._account.finish(complete=True)
        if parsed.foreign is None:
            return Reading(tuple(links), self._pass(chunk, parsed.boundary))
        passed = self._pass(chunk[: parsed.foreign], parsed.foreign)
        self.opaque = True
        self._body.append(chunk[parsed.foreign :])
        return Reading(tuple(links), passed)

    def finish(self, *, complete: bool) -> Verdict:
        """The answer has ended; `complete` when its framing said so, False when it broke off."""
        links: list[str] = []
        whole = False
        if self.opaque:
            frame = read_completion(b"".join(self._body)) if complete else None
            if frame is not None:
                links += self._account.take(frame)
                whole = True
        else:
            for data in self._reader.finish():
                links += self._account.take(read_frame(data))
        links += self._account.finish(complete=complete)
        account = self._account
        missing = account.clips - account.delivered
        accounted = account.told_of(whole=whole, framed=complete)
        doubtful = self._reader.oversized or account.in_doubt
        if doubtful and account.error is None and not account.failures():
            accounted = 0  # the link may stand where it could not be read
        words = account.words()
        return Verdict(
            links=tuple(links),
            passed=b"".join((self._start or b"", *self._held, *self._body)),
            told=accounted == missing,
            failed=accounted,
            lost=missing - accounted,
            reason=classify(words) if words else Reason.NO_CLIP if accounted else Reason.LOST,
            words=words,
            surplus=account.surplus,
        )

    def _hold(self, part: bytes) -> None:
        self._held.append(part)
        self._held_bytes += len(part)

    def _release(self, *more: bytes) -> bytes:
        passed = b"".join((*self._held, *more))
        self._held.clear()
        self._held_bytes = 0
        return passed

    def _pass(self, chunk: bytes, boundary: int) -> bytes:
        """What of `chunk`, and of what was held before it, may go on."""
        passed = b""
        if boundary:
            if self._account.link_open:
                self._hold(chunk)
                return self._let_go(passed)
            passed = self._release(chunk[:boundary])
            self._certain = self._account.link_begun
            chunk = chunk[boundary:]
        if not chunk:
            return passed
        if self._certain or self._account.link_open:
            self._hold(chunk)
            return self._let_go(passed)
        waiting = self._release(chunk)
        begins = _LINK_BEGINS.search(waiting)
        if begins is None:
            return passed + waiting
        self._hold(waiting[begins.start() :])
        self._certain = _LINK_CERTAIN.match(waiting, begins.start()) is not None
        return self._let_go(passed + waiting[: begins.start()])

    def _let_go(self, passed: bytes) -> bytes:
        """What is too long to be read is not held either: memory stays bounded."""
        if not self._reader.skipping and self._held_bytes <= self._reader.bytes_max:
            return passed
        self._reader.oversized = True
        self._certain = False
        return passed + self._release()
