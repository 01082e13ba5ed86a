"""Entries → rows finance can use, totals that add up.

A clip stands in the month of its end, an unsettled one in that of its acceptance (decision 15).
Amounts are whole micro-dollars; their decimal strings are made here, once, and never added up.
The tables of `as_csv` follow RFC 4180, and no text in them can become a formula (facts R96).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from proxy.core.pricing import format_usd

_MONTH: Final = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])")

# Spreadsheets look behind leading blanks, and East Asian ones know the full-width signs too.
_FORMULA: Final = re.compile(r"[\s\x00]*[=+\-@＝＋－＠]|[\t\r\n\x00]")  # noqa: RUF001
_QUOTED: Final = re.compile(r'[",\r\n]')

SANDBOX: Final = "SANDBOX"
"""Stands in whatever leaves an installation whose clips were pretended (decision 20)."""


class Dimension(StrEnum):
    """What a statement can be broken down by."""

    TENANT = "tenant"
    MODEL = "model"
    DAY = "day"
    KEY = "key"
    COST_CENTER = "cost_center"


@dataclass(frozen=True, slots=True)
class Tally:
    """Clips by how they ended, and what the delivered ones cost in micro-dollars.

    `requested` counts them all: those whose outcome is unknown, or still to come, too.
    `avoided_micros` is what the replayed ones would have cost, at the price of the first.
    """

    requested: int = 0
    delivered: int = 0
    failed: int = 0
    unknown: int = 0
    written_off: int = 0
    replayed: int = 0
    amount_micros: int = 0
    avoided_micros: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in MEASURES))

    def as_json(self) -> dict[str, int | str]:
        """Every measure by its name, and the amounts once more as decimal strings."""
        measures: dict[str, int | str] = {name: getattr(self, name) for name in MEASURES}
        amounts = {f"{name}_usd": format_usd(getattr(self, f"{name}_micros")) for name in _AMOUNTS}
        return {**measures, **amounts}


MEASURES: Final = tuple(field.name for field in fields(Tally))

_AMOUNTS: Final = ("amount", "avoided")
_COUNTS: Final = MEASURES[: -len(_AMOUNTS)]
_ALWAYS: Final = frozenset({"requested", "delivered", "failed"})


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its `place`, a value for each dimension (None where there is none), and its sums."""

    place: tuple[str | None, ...]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Statement:
    """One month by the dimensions `by`; the unsettled clips stand in `lines` and apart.

    `unsettled_micros_max` is what they will cost at most; `exposure_micros` what the vendor may
    bill for attempts without a clip to show. `sandbox` marks pretended clips.
    """

    month: str
    by: tuple[Dimension, ...]
    lines: tuple[Line, ...]
    unsettled_clips: int
    unsettled_micros_max: int
    exposure_micros: int = 0
    sandbox: bool = False

    @property
    def totals(self) -> Tally:
        """The sum of the lines."""
        return sum((line.tally for line in self.lines), Tally())

    def as_json(self) -> dict[str, object]:
        """The contract's `usage --format json`."""
        mark = {"sandbox": True} if self.sandbox else {}
        return {
            "month": self.month,
            **mark,
            "rows": [
                {**dict(zip(self.by, line.place, strict=True)), **line.tally.as_json()}
                for line in self.lines
            ],
            "totals": self.totals.as_json(),
            "unsettled": {
                "clips": self.unsettled_clips,
                "micros_max": self.unsettled_micros_max,
                "exposure_micros": self.exposure_micros,
            },
        }

    def as_csv(self) -> Iterator[str]:
        """The lines of a CSV file, a header first, each with its line end; no row of totals."""
        mark, marked = (("sandbox",), (SANDBOX,)) if self.sandbox else ((), ())
        yield csv_line((*mark, "month", *self.by, *_COUNTS, *(f"{name}_usd" for name in _AMOUNTS)))
        for line in self.lines:
            numbers = _numbers(line.tally, _COUNTS, _AMOUNTS)
            yield csv_line((*marked, self.month, *line.place, *numbers))

    def as_table(self) -> Iterator[tuple[str, ...]]:
        """Rows of text for people: names, lines, and totals at the bottom.

        Columns that few months need are left out where they would hold nothing but zeros.
        """
        totals = self.totals
        shown = [name for name in _COUNTS if name in _ALWAYS or getattr(totals, name)]
        amounts = _AMOUNTS if totals.avoided_micros else _AMOUNTS[:1]
        dollars = ("USD", "avoided USD")[: len(amounts)]
        yield (*(name.replace("_", " ") for name in (*self.by, *shown)), *dollars)
        for line in self.lines:
            yield (*(value or "-" for value in line.place), *_numbers(line.tally, shown, amounts))
        blank = ("total", *("",) * (len(self.by) - 1)) if self.by else ()
        yield (*blank, *_numbers(totals, shown, amounts))


def read_statement(said: Mapping[str, Any], by: tuple[Dimension, ...]) -> Statement:
    """The statement whose `as_json` is `said`; `by` because an empty one does not show it."""
    return Statement(
        month=said["month"],
        by=by,
        lines=tuple(
            Line(tuple(row[name] for name in by), Tally(*(row[name] for name in MEASURES)))
            for row in said["rows"]
        ),
        unsettled_clips=said["unsettled"]["clips"],
        unsettled_micros_max=said["unsettled"]["micros_max"],
        exposure_micros=said["unsettled"]["exposure_micros"],
        sandbox=said.get("sandbox", False),
    )


def parse_month(text: str) -> str:
    """`text` itself when it is a month such as 2026-11; else `ValueError`."""
    if _MONTH.fullmatch(text) is None:
        message = f"{text!r} is not a month such as 2026-11"
        raise ValueError(message)
    return text


def parse_by(text: str) -> tuple[Dimension, ...]:
    """The dimensions in a comma-separated list, in its order; `ValueError` names what is wrong."""
    known = ", ".join(Dimension)
    by: list[Dimension] = []
    for name in filter(None, (name.strip() for name in text.split(","))):
        try:
            dimension = Dimension(name)
        except ValueError:
            message = f"{name!r} is none of {known}"
            raise ValueError(message) from None
        if dimension in by:
            message = f"{name!r} stands twice"
            raise ValueError(message)
        by.append(dimension)
    return tuple(by)


def csv_line(cells: Iterable[str | None]) -> str:
    """One RFC 4180 line; None is empty, and text that a spreadsheet would run gets an apostrophe.

    Decimal numbers are left bare, negative ones too: a spreadsheet has to add them up.
    """
    return ",".join("" if cell is None else _quoted(disarmed(cell)) for cell in cells) + "\r\n"


def disarmed(cell: str) -> str:
    """`cell` with an apostrophe in front if a spreadsheet would run it; numbers stay bare."""
    if not _FORMULA.match(cell) or re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", cell):
        return cell
    return f"'{cell}"


def _numbers(tally: Tally, counts: Iterable[str], amounts: Iterable[str]) -> Iterator[str]:
    yield from (str(getattr(tally, name)) for name in counts)
    yield from (format_usd(getattr(tally, f"{name}_micros")) for name in amounts)


def _quoted(cell: str) -> str:
    if _QUOTED.search(cell) is None:
        return cell
    doubled = cell.replace('"', '""')
    return f'"{doubled}"'
