"""A month's life: open, closing while late facts still arrive, closed for good.

A month closes once it is over, its grace has run out, the months before it are closed, and nothing
in it is unsettled or unpriced. Re-opening does not exist: what is learned later stands in the next
open month, as corrections. Months are UTC calendar months, "YYYY-MM".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from proxy.core.columns import second_text
from proxy.core.pricing import format_usd
from proxy.core.statement import parse_month

NAMED_MAX: Final = 10
"""How many clips a refusal's message names; its `clips` holds them all."""


class Phase(StrEnum):
    """Where a month stands."""

    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Obstacle(StrEnum):
    """Why a month may not be closed."""

    CLOSED = "closed"
    RUNNING = "running"
    GRACE = "grace"
    EARLIER_OPEN = "earlier_open"
    UNSETTLED = "unsettled"
    UNPRICED = "unpriced"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason not to close; `until` is when waiting alone may have cured it."""

    obstacle: Obstacle
    message: str
    clips: tuple[str, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger says when a month is to be closed.

    `last_closed` is the latest closed month and `first` the earliest with anything in it;
    `unsettled` are clips accepted before the month's end whose end is open, worth
    `unsettled_micros_max` at most, and `unpriced` those billed without a price.
    """

    first: str | None = None
    last_closed: str | None = None
    unsettled: Sequence[str] = ()
    unsettled_micros_max: int = 0
    unpriced: Sequence[str] = ()


def bounds(month: str) -> tuple[datetime, datetime]:
    """The month's first moment, and the first after it, in UTC; `ValueError` for no month."""
    year, number = map(int, parse_month(month).split("-"))
    return datetime(year, number, 1, tzinfo=UTC), _first_day(year + number // 12, number % 12 + 1)


def following(month: str) -> str:
    """The month after `month`."""
    return f"{bounds(month)[1]:%Y-%m}"


def preceding(month: str) -> str:
    """The month before `month`."""
    return f"{bounds(month)[0] - timedelta(days=1):%Y-%m}"


def phase(month: str, now: datetime, last_closed: str | None) -> Phase:
    """Where `month` stands at `now`, when `last_closed` is the latest closed month."""
    if last_closed is not None and month <= last_closed:
        return Phase.CLOSED
    return Phase.OPEN if now < bounds(month)[1] else Phase.CLOSING


def landing(month: str, last_closed: str | None) -> str:
    """The month in which a fact of `month` stands: itself, or the first that is not closed."""
    if last_closed is None or month > last_closed:
        return month
    return following(last_closed)


def refusals(month: str, now: datetime, grace: timedelta, books: Books) -> tuple[Refusal, ...]:
    """Every reason why `month` may not be closed at `now`; none at all means that it may."""
    if phase(month, now, books.last_closed) is Phase.CLOSED:
        message = f"{month} is closed already; what is learned now stands in a later month"
        return (Refusal(Obstacle.CLOSED, message),)
    return tuple(
        refusal
        for refusal in (
            _too_early(month, now, grace),
            _earlier_open(month, books),
            _unsettled(month, books),
            _unpriced(month, books),
        )
        if refusal is not None
    )


def _first_day(year: int, number: int) -> datetime:
    return datetime(year, number, 1, tzinfo=UTC)


def _too_early(month: str, now: datetime, grace: timedelta) -> Refusal | None:
    end = bounds(month)[1]
    if now < end:
        message = f"{month} is not over before {second_text(end)}"
        return Refusal(Obstacle.RUNNING, message, until=end + grace)
    if now < end + grace:
        message = f"{month} takes late facts until {second_text(end + grace)}"
        return Refusal(Obstacle.GRACE, message, until=end + grace)
    return None


def _earlier_open(month: str, books: Books) -> Refusal | None:
    first = books.first if books.last_closed is None else following(books.last_closed)
    if first is None or first >= month:
        return None
    return Refusal(Obstacle.EARLIER_OPEN, f"{first} comes first: months close one after the other")


def _unsettled(month: str, books: Books) -> Refusal | None:
    if not books.unsettled:
        return None
    clips, verb = _counted(books.unsettled, "is", "are")
    worth = format_usd(books.unsettled_micros_max)
    message = (
        f"{clips} of {month} or before {verb} still open, worth ${worth} at most: "
        f"{_named(books.unsettled)}"
    )
    return Refusal(Obstacle.UNSETTLED, message, tuple(books.unsettled))


def _unpriced(month: str, books: Books) -> Refusal | None:
    if not books.unpriced:
        return None
    clips, verb = _counted(books.unpriced, "has", "have")
    message = f"{clips} of {month} {verb} no price: {_named(books.unpriced)}"
    return Refusal(Obstacle.UNPRICED, message, tuple(books.unpriced))


def _counted(clips: Sequence[str], one: str, many: str) -> tuple[str, str]:
    return ("1 clip", one) if len(clips) == 1 else (f"{len(clips)} clips", many)


def _named(clips: Sequence[str]) -> str:
    shown = ", ".join(clips[:NAMED_MAX])
    left = len(clips) - NAMED_MAX
    return f"{shown} and {left} more" if left > 0 else shown
