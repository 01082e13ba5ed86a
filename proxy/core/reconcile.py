"""Our clips against the vendor's lines: what both have, what only one has, what differs.

Compared is the vendor's list price of what we delivered with what its lists took for the request,
after refunds. A request may have bought several clips in one line, so its sum is told clip by clip:
as many as it pays for match, the rest is ours alone or theirs alone, and a sum that is no whole
number of clips differs. Nothing is lost on the way: the findings add up to both sides' totals.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Final

from proxy.core.clip import FINAL, State
from proxy.core.export import ExportRow
from proxy.core.vendor_book import Bill, VendorBook

_PAID_MAX: Final = 100
"""Clips of one request: a sum that pays for more is told as one that differs."""


class Verdict(StrEnum):
    """How a clip stands between us and the vendor."""

    MATCHED = "matched"
    ONLY_OURS = "only_ours"
    ONLY_THEIRS = "only_theirs"
    DIFFERENT = "different"
    PENDING = "pending"  # the vendor took the money in advance, and its task has not ended


@dataclass(frozen=True, slots=True)
class OurClip:
    """A clip as we know it; `list_micros` is what the vendor asks for one."""

    clip_id: str
    list_micros: int
    delivered: bool
    settled: bool = True


@dataclass(frozen=True, slots=True)
class OurRequest:
    """One paid request: every id the vendor may know it by, of all its attempts, and its clips.

    One of a `neighbour`ing month only explains the vendor's lines, and is found nowhere itself.
    """

    generation_id: str
    keys: tuple[str, ...]
    clips: tuple[OurClip, ...]
    neighbour: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One clip, or one bill without a clip of ours; amounts are micro-dollars.

    `settled` is False where our own clip's end is open, so that a finding may say what became of
    it.
    """

    verdict: Verdict
    ours_micros: int
    theirs_micros: int
    clip_id: str | None = None
    generation_id: str | None = None
    keys: tuple[str, ...] = ()
    model: str | None = None
    at: datetime | None = None
    settled: bool = True


@dataclass(slots=True)
class Comparison:
    """Sums over findings, filled by `add`; clips and micro-dollars by verdict."""

    clips: dict[Verdict, int] = field(default_factory=dict)
    ours_micros: dict[Verdict, int] = field(default_factory=dict)
    theirs_micros: dict[Verdict, int] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count one finding in."""
        verdict = finding.verdict
        self.clips[verdict] = self.clips.get(verdict, 0) + 1
        self.ours_micros[verdict] = self.ours_micros.get(verdict, 0) + finding.ours_micros
        self.theirs_micros[verdict] = self.theirs_micros.get(verdict, 0) + finding.theirs_micros

    @property
    def capture_ratio(self) -> float | None:
        """Our sum over the vendor's, of what is final; None where the vendor has nothing."""
        ours, theirs = (
            sum(micros for verdict, micros in side.items() if verdict is not Verdict.PENDING)
            for side in (self.ours_micros, self.theirs_micros)
        )
        return ours / theirs if theirs else None

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to look into."""
        return self.clips.keys() <= {Verdict.MATCHED}


def requests_of(rows: Iterable[ExportRow], *, neighbour: bool = False) -> Iterator[OurRequest]:
    """The requests of `rows`, of which each request's stand together (sorted by generation)."""
    paid = (row for row in rows if row.outcome != State.REPLAYED and row.sign > 0)
    for generation_id, group in groupby(paid, key=lambda row: row.generation_id):
        clips = [row for row in group if row.clip_id is not None]
        if generation_id is None or not clips:
            continue
        keys = (key for row in clips for key in (row.upstream_request_id, row.upstream_id) if key)
        yield OurRequest(
            generation_id,
            tuple(dict.fromkeys(keys)),
            tuple(
                OurClip(
                    row.clip_id or "",
                    row.list_price_micros or 0,
                    row.outcome == State.DELIVERED,
                    row.outcome in FINAL,
                )
                for row in clips
            ),
            neighbour,
        )


def reconcile(
    requests: Iterable[OurRequest],
    book: VendorBook,
    window: tuple[datetime, datetime] | None = None,
) -> Iterator[Finding]:
    """Every finding, request by request, and then what is left in the vendor's book.

    `book` is used up. Bills that are left and lie outside `window`, a half-open span of time, are
    another month's and passed over; those without a time are told.
    """
    for request in requests:
        bill = book.take(request.keys)
        if not request.neighbour:
            yield from _of_request(request, bill)
    for bill in book.left():
        if window is not None and bill.at is not None and not window[0] <= bill.at < window[1]:
            continue
        if bill.pending or bill.micros:
            verdict = Verdict.PENDING if bill.pending else Verdict.ONLY_THEIRS
            yield Finding(verdict, 0, bill.micros, keys=bill.keys, model=bill.model, at=bill.at)


def _of_request(request: OurRequest, bill: Bill | None) -> Iterator[Finding]:
    delivered = [clip for clip in request.clips if clip.delivered]
    others = [clip for clip in request.clips if not clip.delivered]
    theirs = 0 if bill is None else bill.micros
    if bill is not None and bill.pending:
        yield from _shared(Verdict.PENDING, request, request.clips, theirs, bill)
        return
    paid = _paid_clips(theirs, request.clips)
    if paid is None and delivered:
        yield from _shared(Verdict.DIFFERENT, request, delivered, theirs, bill)
        return
    if paid is None:
        yield _found(Verdict.ONLY_THEIRS, request, None, bill, theirs)
        return
    for clip in delivered[:paid]:
        yield _found(Verdict.MATCHED, request, clip, bill, clip.list_micros)
    for clip in delivered[paid:]:
        yield _found(Verdict.ONLY_OURS, request, clip, bill, 0)
    for clip in others[: max(0, paid - len(delivered))]:
        yield _found(Verdict.ONLY_THEIRS, request, clip, bill, clip.list_micros)
    for _ in range(paid - len(request.clips)):
        yield _found(Verdict.ONLY_THEIRS, request, None, bill, request.clips[0].list_micros)


def _paid_clips(micros: int, clips: Sequence[OurClip]) -> int | None:
    """How many clips a sum pays for; None where it is no whole number of them."""
    delivered = [clip.list_micros for clip in clips if clip.delivered]
    if micros == sum(delivered):
        return len(delivered)
    if not micros:
        return 0
    prices = {clip.list_micros for clip in clips}
    if len(prices) != 1 or micros < 0:
        return None
    price = prices.pop()
    paid, rest = divmod(micros, price) if price else (0, micros)
    return None if rest or paid > _PAID_MAX else paid


def _shared(
    verdict: Verdict,
    request: OurRequest,
    clips: Sequence[OurClip],
    theirs: int,
    bill: Bill | None,
) -> Iterator[Finding]:
    """One sum for several clips, shared out to the micro."""
    share, rest = divmod(theirs, len(clips))
    for number, clip in enumerate(clips):
        yield _found(verdict, request, clip, bill, share + (number < rest))


def _found(
    verdict: Verdict, request: OurRequest, clip: OurClip | None, bill: Bill | None, theirs: int
) -> Finding:
    """A finding about `clip`, or about what the vendor took for the request beyond its clips."""
    return Finding(
        verdict,
        clip.list_micros if clip and clip.delivered else 0,
        theirs,
        clip.clip_id if clip else None,
        request.generation_id,
        request.keys,
        bill.model if bill else None,
        bill.at if bill else None,
        clip.settled if clip else True,
    )
