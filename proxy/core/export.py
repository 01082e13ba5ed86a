"""One finance row for each clip, correction and credit: columns, order and totals.

The columns are the contract's, and behind them what makes lines add up: `line_id` (unique, never
changed), `line_kind`, and `quantity`, the billed clips of a line, which is negative on a reversal.
Sums over whole files are then right without picking lines out. A row is finished in core, so each
format writes the same numbers, and every one of them says SANDBOX where clips were pretended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Final

from proxy.core.clip import State
from proxy.core.columns import Cell, Column, Kind
from proxy.core.pricing import format_usd
from proxy.core.statement import SANDBOX

CREDIT: Final = "credit"
"""The outcome of a line that gives money back without a clip of its own."""


class LineKind(StrEnum):
    """What a line does to the books."""

    CLIP = "clip"
    REVERSAL = "reversal"  # takes an earlier line back, with the opposite signs
    REPLACEMENT = "replacement"  # says what is right instead
    CREDIT = "credit"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRow:
    """One line; times are aware UTC, amounts micro-dollars, `month` the finance month it stands in.

    `completed_at` is when the cost was incurred, on a correction too, and None while unsettled.
    Prices are never negative; a reversal's `amount_micros` and `quantity` are its line's, negated.
    """

    month: str
    completed_at: datetime | None
    accepted_at: datetime
    tenant: str
    cost_center: str | None = None
    key_id: str | None = None
    key_label: str | None = None
    generation_id: str | None = None
    clip_id: str | None = None
    clip_index: int | None = None
    mode: str | None = None
    model: str | None = None
    outcome: str
    reason: str | None = None
    gateway: str | None = None
    attempts: int | None = None
    upstream_id: str | None = None
    upstream_request_id: str | None = None
    price_version: str | None = None
    unit_price_micros: int | None = None
    amount_micros: int = 0
    list_price_micros: int | None = None
    replay_of: str | None = None
    correction_of: str | None = None
    line_id: str
    line_kind: LineKind = LineKind.CLIP

    @property
    def sign(self) -> int:
        """-1 for a reversal, else 1."""
        return -1 if self.line_kind is LineKind.REVERSAL else 1

    @property
    def quantity(self) -> int:
        """Billed clips: 1 for a delivered one, -1 where that is taken back, else 0."""
        return self.sign if self.outcome == State.DELIVERED else 0

    @property
    def incurred_at(self) -> datetime:
        """When the cost arose; the acceptance while the end is open."""
        return self.completed_at or self.accepted_at


_KINDS: Final = {
    "completed_at": Kind.TIME,
    "accepted_at": Kind.TIME,
    "clip_index": Kind.WHOLE,
    "attempts": Kind.WHOLE,
}
_FIELDS: Final = (*(each.name for each in fields(ExportRow)), "quantity")


def _column(name: str) -> Column:
    if name.endswith("_micros"):
        usd = f"{name.removesuffix('_micros')}_usd"
        return Column(usd, Kind.DECIMAL, summed=name == "amount_micros")
    if name == "quantity":
        return Column(name, Kind.WHOLE, summed=True)
    grouped = name in {"tenant", "cost_center", "model", "outcome"}
    return Column(name, _KINDS.get(name, Kind.TEXT), grouped=grouped)


COLUMNS: Final = tuple(map(_column, _FIELDS))
"""In the contract's order, and what was added to it at the end."""

_MARK: Final = Column("sandbox")
_CELLS: Final = attrgetter(*_FIELDS)


def columns(*, sandbox: bool = False) -> tuple[Column, ...]:
    """The columns of a file; one from a sandbox has its mark in front."""
    return (_MARK, *COLUMNS) if sandbox else COLUMNS


def cells(rows: Iterable[ExportRow], *, sandbox: bool = False) -> Iterator[tuple[Cell, ...]]:
    """The rows' cells in the order of `columns`."""
    if sandbox:
        return ((SANDBOX, *_CELLS(row)) for row in rows)
    return map(_CELLS, rows)


def ordering(row: ExportRow) -> tuple[bool, datetime, str, str]:
    """What rows are sorted by: the contract's `completed_at, clip_id`, made total.

    Unsettled rows come last; ids compare by their code points.
    """
    return row.completed_at is None, row.incurred_at, row.clip_id or "", row.line_id


class OutOfOrderError(ValueError):
    """A row stands before its place, or twice: the file would not be the same the next time."""


def in_order(rows: Iterable[ExportRow]) -> Iterator[ExportRow]:
    """Pass `rows` on; raise `OutOfOrderError` at the first that is not after the one before."""
    last: tuple[bool, datetime, str, str] | None = None
    for row in rows:
        place = ordering(row)
        if last is not None and place <= last:
            raise OutOfOrderError(f"{row.line_id} does not come after {last[-1]}")
        last = place
        yield row


@dataclass(slots=True)
class Totals:
    """Sums over rows, filled by `add` in any order; amounts are micro-dollars.

    `list_micros` is what the billed clips cost by list, `avoided_micros` what the replayed ones
    would have cost, `outcomes` counts lines, reversals against their lines.
    """

    rows: int = 0
    quantity: int = 0
    amount_micros: int = 0
    list_micros: int = 0
    avoided_micros: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    def add(self, row: ExportRow) -> None:
        """Count one row in."""
        quantity = row.quantity
        self.rows += 1
        self.amount_micros += row.amount_micros
        if quantity:
            self.quantity += quantity
            self.list_micros += quantity * (row.list_price_micros or 0)
        elif row.outcome == State.REPLAYED:
            self.avoided_micros += row.sign * (row.unit_price_micros or 0)
        self.outcomes[row.outcome] = self.outcomes.get(row.outcome, 0) + row.sign

    def as_json(self) -> dict[str, object]:
        """Every sum by its name, outcomes sorted, amounts once more as decimal strings."""
        return {
            "rows": self.rows,
            "quantity": self.quantity,
            "amount_micros": self.amount_micros,
            "amount_usd": format_usd(self.amount_micros),
            "list_micros": self.list_micros,
            "list_usd": format_usd(self.list_micros),
            "avoided_micros": self.avoided_micros,
            "avoided_usd": format_usd(self.avoided_micros),
            "outcomes": {name: count for name, count in sorted(self.outcomes.items()) if count},
        }


def counted(rows: Iterable[ExportRow], totals: Totals) -> Iterator[ExportRow]:
    """Pass `rows` on, each counted into `totals` on its way."""
    for row in rows:
        totals.add(row)
        yield row
