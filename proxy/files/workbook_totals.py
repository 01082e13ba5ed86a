"""The first sheet of a workbook: what its rows add up to, in all and by group, as formulas.

Groups are array formulas with EXACT: the conditions of SUMIF take "1e2" for "100", "cc" for "CC",
and "a*" for whatever begins with an a. They come to the same in every spreadsheet program tried.
Sums are rounded to the micro: spreadsheets add in floats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.core.columns import Cell, Column, Kind

GROUPS_MAX: Final = 500
"""The most values of one column that are listed with their sums."""


def plain(text: str) -> str:
    """`text`, unless xlsxwriter would take it for the XML of formatted text: then quoted by '."""
    return f"'{text}" if text.startswith("<r>") and text.endswith("</r>") else text


@dataclass(slots=True)
class _Sum:
    """Rows of one group, and what each summed column comes to in them."""

    rows: int
    values: list[int]


@dataclass(slots=True)
class Sums:
    """What the formulas come to, gathered while the rows pass: `add` each of them."""

    columns: Sequence[Column]
    total: _Sum = field(init=False)
    groups: dict[int, dict[str, _Sum]] = field(init=False)
    summed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        numbered = list(enumerate(self.columns))
        self.summed = [number for number, column in numbered if column.summed]
        self.groups = {number: {} for number, column in numbered if column.grouped}
        self.total = _Sum(0, [0] * len(self.summed))

    def add(self, row: Sequence[Cell]) -> None:
        """Count one row in, for all and for each of its groups."""
        values = [_whole(row[number]) for number in self.summed]
        _grow(self.total, values)
        for number, groups in self.groups.items():
            name = str(row[number] or "")
            group = groups.get(name)
            if group is None:
                if len(groups) > GROUPS_MAX:
                    continue
                group = groups[name] = _Sum(0, [0] * len(values))
            _grow(group, values)


def write_totals(
    book: Any, sheet: Any, title: str, sums: Sums, pages: Sequence[tuple[str, int]]
) -> None:
    """Fill `sheet`; `pages` are the sheets with the rows: their names, and how many rows each."""
    bold = book.add_format({"bold": True})
    sheet.set_column(0, 0, 40)
    sheet.set_column(1, 1 + len(sums.summed), 16)
    sheet.write_string(0, 0, title, bold)
    sheet.write_string(1, 0, "Times are in UTC, amounts in US dollars.")
    shapes = [
        book.add_format({"num_format": "0.00####" if column.kind is Kind.DECIMAL else "0"})
        for column in (sums.columns[number] for number in sums.summed)
    ]
    filled = [page for page in pages if page[1]]
    formulas = _Formulas(sums, filled)
    at = 3
    for heading, lines in _blocks(sums):
        names = (heading, "rows", *(sums.columns[number].name for number in sums.summed))
        for number, name in enumerate(names):
            sheet.write_string(at, number, name, bold)
        for name, group, total in lines:
            at += 1
            sheet.write_string(at, 0, plain(name) or "(none)")
            alike = f"$A${at + 1}" if name else '""'
            _write(sheet, (at, 1), formulas.rows(group, alike), None, total.rows)
            for number, value in enumerate(total.values):
                kind = sums.columns[sums.summed[number]].kind
                cached = value / 1_000_000 if kind is Kind.DECIMAL else value
                formula = formulas.sum(sums.summed[number], group, alike)
                _write(sheet, (at, 2 + number), formula, shapes[number], cached)
        at += 2
    sheet.activate()


_Line = tuple[str, int | None, _Sum]


def _blocks(sums: Sums) -> Iterator[tuple[str, list[_Line]]]:
    """Headings with their lines: a name, the column it is found in, and its sums."""
    yield "", [("total", None, sums.total)]
    for number, groups in sums.groups.items():
        if len(groups) <= GROUPS_MAX:
            yield (
                sums.columns[number].name,
                [(name, number, groups[name]) for name in sorted(groups)],
            )


class _Formulas:
    """Formulas over the rows of all `pages`."""

    def __init__(self, sums: Sums, pages: Sequence[tuple[str, int]]) -> None:
        self._sums = sums
        self._pages = pages

    def rows(self, group: int | None, alike: str) -> str:
        """How many rows there are, or how many have in the column `group` what `alike` has."""
        return self._over_pages(
            f"ROWS({self._range(page, 0)})"
            if group is None
            else f"SUM(EXACT({self._range(page, group)},{alike})*1)"
            for page in self._pages
        )

    def sum(self, column: int, group: int | None, alike: str) -> str:
        """What a column comes to in those rows."""
        added = self._over_pages(
            f"SUM({self._range(page, column)})"
            if group is None
            else f"SUM(EXACT({self._range(page, group)},{alike})*{self._range(page, column)})"
            for page in self._pages
        )
        return f"ROUND({added},6)"

    @staticmethod
    def _over_pages(terms: Iterator[str]) -> str:
        return "+".join(terms) or "0"

    @staticmethod
    def _range(page: tuple[str, int], column: int) -> str:
        from xlsxwriter.utility import xl_range_abs

        name, rows = page
        return f"'{name}'!{xl_range_abs(1, column, rows, column)}"


def _write(sheet: Any, cell: tuple[int, int], formula: str, shape: Any, value: float) -> None:
    """Write a formula and the value it comes to; as an array's where it compares one."""
    if "EXACT(" in formula:
        sheet.write_array_formula(*cell, *cell, f"{{={formula}}}", shape, value)
    else:
        sheet.write_formula(*cell, f"={formula}", shape, value)


def _whole(cell: Cell) -> int:
    return cell if isinstance(cell, int) else 0


def _grow(total: _Sum, values: Sequence[int]) -> None:
    total.rows += 1
    for number, value in enumerate(values):
        total.values[number] += value
