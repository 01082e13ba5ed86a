"""A table's columns: what a cell of each kind holds, and how it is written as text.

Every file format writes the same cells. Amounts stay whole numbers up to the moment they are
written, and become decimal strings in one place (`format_usd`), so no two formats can differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from proxy.core.pricing import format_usd

Cell = str | int | datetime | None
"""What a cell holds; None is a value that is not there, and an empty cell in every format."""


class Kind(StrEnum):
    """What the cells of a column are."""

    TEXT = "text"  # str: a name, an id, somebody's words
    TIME = "time"  # aware datetime, written in UTC to the microsecond
    SECOND = "second"  # aware datetime, written in UTC without a fraction
    WHOLE = "whole"  # int
    DECIMAL = "decimal"  # int, in millionths: micro-dollars, or a quantity times a million


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `summed` and `grouped` say what a sheet of totals does with it."""

    name: str
    kind: Kind = Kind.TEXT
    summed: bool = False
    grouped: bool = False


def time_text(moment: datetime) -> str:
    """`moment` in UTC as RFC 3339 to the microsecond, 2026-11-03T10:00:00.000000Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def second_text(moment: datetime) -> str:
    """`moment` in UTC as RFC 3339 without its fraction, 2026-11-03T10:00:00Z."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")[:-6] + "Z"


def sheet_time_text(moment: datetime) -> str:
    """`moment` in UTC as spreadsheets read a date out of text, 2026-11-03 10:00:00."""
    return moment.astimezone(UTC).isoformat(" ", "seconds")[:-6]


AS_TEXT: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: str,
    Kind.TIME: time_text,
    Kind.SECOND: second_text,
    Kind.WHOLE: str,
    Kind.DECIMAL: format_usd,
}
"""How a cell that is there is written for machines."""
