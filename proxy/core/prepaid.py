"""Top-ups of the prepaid vendor account, and what a dollar of its balance really cost.

The vendor adds a bonus to a top-up, so a clip of $0.25 by list may have cost $0.23 in cash. A clip
costs what the latest top-up before its acceptance made a vendor dollar cost; it is rounded
half-even to a micro, once, for the clip (decision 14). The rate hangs on the clip alone and on no
order, so that what takes a line back later has exactly its amount.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.core.pricing import MICROS_PER_USD


@dataclass(frozen=True, slots=True)
class TopUp:
    """Cash of `paid_micros` that put `credited_micros`, bonus included, on the vendor account.

    `month` is the one it stands in: that of `at`, or a later one for a top-up learned of late.
    """

    id: str
    month: str
    at: datetime
    paid_micros: int
    credited_micros: int


class PrepaidBook:
    """Rates by date: the top-ups', and the configured bonus for clips before the first."""

    def __init__(self, top_ups: Iterable[TopUp] = (), bonus_micros: int = 0) -> None:
        """Take `top_ups` in any order; `bonus_micros` is what comes on top of one paid dollar."""
        ordered = sorted(top_ups, key=lambda top_up: (top_up.at, top_up.id))
        for top_up in ordered:
            if top_up.paid_micros < 0 or top_up.credited_micros <= 0:
                raise ValueError(f"{top_up.id} puts nothing on the account")
        self._times: Final = [top_up.at for top_up in ordered]
        self._rates: Final = [
            (MICROS_PER_USD, MICROS_PER_USD + bonus_micros),
            *((top_up.paid_micros, top_up.credited_micros) for top_up in ordered),
        ]

    def effective_micros(self, micros: int, accepted_at: datetime) -> int:
        """What `micros` by the vendor's list cost in cash, for a clip accepted at that time."""
        paid, credited = self._rates[bisect_right(self._times, accepted_at)]
        return divided(micros * paid, credited)


def credited(paid_micros: int, bonus_micros: int) -> int:
    """What a payment puts on the account; `bonus_micros` is what comes on top of one dollar."""
    return paid_micros + divided(paid_micros * bonus_micros, MICROS_PER_USD)


def divided(amount: int, by: int) -> int:
    """`amount / by`, rounded half-even to a whole number; `by` is positive."""
    whole, rest = divmod(amount, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2 == 1))
