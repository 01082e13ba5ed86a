"""A workbook's totals: formulas over exactly the rows, and the values they come to."""

from __future__ import annotations

import io
import re
from collections import Counter
from typing import Any

import openpyxl
import pytest
from openpyxl.utils import range_boundaries

from proxy.core.columns import Column, Kind
from proxy.core.export import ExportRow, cells, columns
from proxy.files.workbook import xlsx_chunks
from proxy.files.workbook_totals import GROUPS_MAX
from tests.exports import clip_row, some_month

SUM = re.compile(r"SUM\('([^']+)'!([$A-Z0-9:]+)\)")
IN_GROUP = re.compile(r"SUM\(EXACT\('([^']+)'!([$A-Z0-9:]+),([^)]+)\)\*'\1'!([$A-Z0-9:]+)\)")

Book = dict[str, Any]


def opened(content: bytes) -> tuple[Book, Book]:
    """The workbook with its formulas, and with the values they carry."""
    return tuple(  # type: ignore[return-value]
        openpyxl.load_workbook(io.BytesIO(content), data_only=values) for values in (False, True)
    )


def written(rows: list[ExportRow], sheet_rows_max: int = 1_000) -> tuple[Book, Book]:
    return opened(b"".join(xlsx_chunks(columns(), cells(rows), "November", sheet_rows_max)))


def values(book: Book, sheet: str, area: str) -> list[Any]:
    left, top, right, bottom = range_boundaries(area.replace("$", ""))
    assert left == right
    return [book[sheet].cell(row, left).value for row in range(int(top or 0), int(bottom or 0) + 1)]


def worth(book: Book, formula: str) -> float:
    """What a formula of the totals comes to, worked out from the cells it names."""
    total = 0.0
    for sheet, area in SUM.findall(formula):
        total += sum(values(book, sheet, area))
    for sheet, area, alike, summed in IN_GROUP.findall(formula):
        cell = book["Totals"][alike.replace("$", "")].value if alike.startswith("$") else ""
        named, amounts = values(book, sheet, area), values(book, sheet, summed)
        total += sum(
            amount or 0 for name, amount in zip(named, amounts, strict=True) if (name or "") == cell
        )
    return round(total, 6)


def lines(book: Book) -> list[tuple[Any, ...]]:
    rows = book["Totals"].iter_rows(min_row=4, values_only=True)
    return [tuple(getattr(cell, "text", cell) for cell in row) for row in rows if row[1]]


def test_the_formulas_come_to_the_values_they_carry_and_to_the_rows_sums() -> None:
    rows = list(some_month(250))
    formulas, carried = written(rows, sheet_rows_max=100)
    amounts: Counter[str] = Counter()
    for row in rows:
        for name in ("total", row.tenant, row.model or "(none)", row.outcome):
            amounts[name] += row.amount_micros
    told = 0
    for (name, _, usd, clips), (_, count, value, quantity) in zip(
        lines(formulas), lines(carried), strict=True
    ):
        if usd == "amount_usd":
            continue
        assert worth(formulas, usd) == value
        assert worth(formulas, clips) == quantity
        assert count > 0
        if name in amounts and name != "(none)":
            told += 1
            assert round(value * 10**6) == amounts[name]
    assert told == 1 + 3 + 2 + 4


def test_every_sum_is_a_formula_over_all_rows() -> None:
    formulas, _ = written([clip_row(number) for number in range(5)], sheet_rows_max=3)
    total = lines(formulas)[1]
    assert total[0] == "total"
    assert total[1] == "=ROWS('Clips'!$A$2:$A$4)+ROWS('Clips 2'!$A$2:$A$3)"
    assert total[2] == "=ROUND(SUM('Clips'!$U$2:$U$4)+SUM('Clips 2'!$U$2:$U$3),6)"


def test_names_that_a_spreadsheet_takes_for_equal_are_kept_apart() -> None:
    teams = ["1e2", "100", "cc", "CC", "a*", "ab", ">0", "true"]
    formulas, carried = written([clip_row(n, tenant=team) for n, team in enumerate(teams)])
    found = {row[0]: row[3] for row in lines(carried) if row[0] in teams}
    assert found == dict.fromkeys(teams, 1)
    assert all("EXACT(" in row[3] for row in lines(formulas) if row[0] in teams)


def test_no_rows_come_to_nothing() -> None:
    formulas, _ = written([])
    assert formulas["Totals"]["B5"].value == "=0"
    assert formulas["Totals"]["C5"].value == "=ROUND(0,6)"


def test_the_title_stands_on_top_and_the_sheet_comes_first() -> None:
    formulas, _ = written([clip_row(1)])
    book: Any = formulas
    assert book.sheetnames == ["Totals", "Clips"]
    assert book["Totals"]["A1"].value == "November"


@pytest.mark.parametrize(("groups", "listed"), [(GROUPS_MAX, GROUPS_MAX), (GROUPS_MAX + 1, 0)])
def test_more_groups_than_anybody_reads_are_not_listed(groups: int, listed: int) -> None:
    named = [Column("team", grouped=True), Column("n", Kind.WHOLE, summed=True)]
    rows = [(f"team-{number}", 1) for number in range(groups)]
    _, carried = opened(b"".join(xlsx_chunks(named, rows, "title")))
    assert sum(str(row[0]).startswith("team-") for row in lines(carried)) == listed
    total = lines(carried)[1]
    assert total[1:] == (groups, groups)
