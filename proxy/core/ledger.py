"""Append-only entries with derived ids; balances are folds.

For each resolved clip: hold = charge + release. Entries are never edited, and their ids are
derived from the fact they record (`charge:video_…`), so that booking a fact twice changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class Kind(StrEnum):
    """The ledger's three."""

    HOLD = "hold"
    CHARGE = "charge"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger; `amount_micros` is never negative, `booked_at` is UTC."""

    kind: Kind
    clip_id: str
    tenant_id: str
    amount_micros: int
    booked_at: datetime

    @property
    def id(self) -> str:
        """The fact's own name: one hold, one charge and one release for a clip, ever."""
        return entry_id(self.kind, self.clip_id)


def entry_id(kind: Kind, clip_id: str) -> str:
    """The derived id of an entry, `hold:video_…` for one."""
    return f"{kind}:{clip_id}"


@dataclass(frozen=True, slots=True)
class Balance:
    """Sums of entries in micro-dollars."""

    held: int = 0
    charged: int = 0
    released: int = 0

    @property
    def open(self) -> int:
        """What is still held for clips that are not resolved."""
        return self.held - self.charged - self.released

    @property
    def committed(self) -> int:
        """What a budget counts: charges, and holds that are still open."""
        return self.held - self.released


def balance(entries: Iterable[Entry]) -> Balance:
    """Fold `entries`, in any order, into their sums."""
    sums = dict.fromkeys(Kind, 0)
    for entry in entries:
        sums[entry.kind] += entry.amount_micros
    return Balance(sums[Kind.HOLD], sums[Kind.CHARGE], sums[Kind.RELEASE])


def broken(entries: Iterable[Entry]) -> str | None:
    """What is wrong with one clip's entries, in words, or None.

    A clip has one hold; at most one of charge and release, for the whole of it; nothing else.
    """
    kinds: dict[Kind, int] = {}
    for entry in entries:
        if entry.amount_micros < 0:
            return f"{entry.id} is negative"
        if entry.kind in kinds:
            return f"{entry.id} stands twice"
        kinds[entry.kind] = entry.amount_micros
    if Kind.HOLD not in kinds:
        return "there is no hold" if kinds else None
    settled = [kinds[kind] for kind in (Kind.CHARGE, Kind.RELEASE) if kind in kinds]
    if len(settled) > 1:
        return "it is both charged and released"
    if settled and settled[0] != kinds[Kind.HOLD]:
        return f"its hold of {kinds[Kind.HOLD]} was settled with {settled[0]}"
    return None
