"""May this tenant spend n more clips?

A hold counts against a limit at once, so that requests in flight can never add up to more than
the limit allows. The budget month is the UTC month of acceptance (decision 15).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

IN_FLIGHT_RETRY_SECONDS: Final = 15
"""What a caller at a limit of clips in flight is told to wait: about one clip's progress step."""


class Limit(StrEnum):
    """The limits a request can run into, by the name its refusal and the metrics give."""

    CLIPS_PER_MONTH = "clips_per_month"
    USD_PER_MONTH = "usd_per_month"
    CLIPS_IN_FLIGHT = "clips_in_flight"
    REQUESTS_PER_MINUTE = "requests_per_minute"
    VENDOR_CLIPS_IN_FLIGHT = "vendor_clips_in_flight"


@dataclass(frozen=True, slots=True)
class Limits:
    """A tenant's limits and the vendor account's; None means none."""

    clips_per_month: int | None = None
    micros_per_month: int | None = None
    clips_in_flight: int | None = None
    requests_per_minute: int | None = None
    vendor_clips_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """What is taken already: held or charged this month, in flight now, asked this minute."""

    clips_month: int = 0
    micros_month: int = 0
    clips_in_flight: int = 0
    requests_minute: int = 0
    vendor_clips_in_flight: int = 0


@dataclass(frozen=True, slots=True)
class OverLimit:
    """A refusal: which limit, and after how many seconds trying again can help, if ever soon."""

    limit: Limit
    allowed: int
    retry_after_seconds: int | None


def admit(limits: Limits, used: Used, clips: int, micros: int, now: datetime) -> OverLimit | None:
    """None when `clips` costing `micros` in all fit under every limit; else the first one hit.

    Limits that waiting a moment cures come last, so that a tenant whose month is spent is told so.
    """
    asked: tuple[tuple[Limit, int | None, int, int | None], ...] = (
        (Limit.CLIPS_PER_MONTH, limits.clips_per_month, used.clips_month + clips, None),
        (Limit.USD_PER_MONTH, limits.micros_per_month, used.micros_month + micros, None),
        (
            Limit.REQUESTS_PER_MINUTE,
            limits.requests_per_minute,
            used.requests_minute + 1,
            60 - now.second,
        ),
        (
            Limit.CLIPS_IN_FLIGHT,
            limits.clips_in_flight,
            used.clips_in_flight + clips,
            IN_FLIGHT_RETRY_SECONDS,
        ),
        (
            Limit.VENDOR_CLIPS_IN_FLIGHT,
            limits.vendor_clips_in_flight,
            used.vendor_clips_in_flight + clips,
            IN_FLIGHT_RETRY_SECONDS,
        ),
    )
    for limit, allowed, wanted, retry_after_seconds in asked:
        if allowed is not None and wanted > allowed:
            return OverLimit(limit, allowed, retry_after_seconds)
    return None


def month_of(moment: datetime) -> str:
    """The UTC calendar month of `moment`, as "YYYY-MM"."""
    return f"{moment.year:04d}-{moment.month:02d}"


def minute_of(moment: datetime) -> datetime:
    """The start of the UTC minute that `requests_per_minute` counts in."""
    return moment - timedelta(seconds=moment.second, microseconds=moment.microsecond)
