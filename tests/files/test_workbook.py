"""XLSX exports, read with openpyxl: typed cells below a frozen header, text that stays text."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl.worksheet.worksheet import Worksheet

from proxy.core.columns import Column, Kind
from proxy.core.export import ExportRow, cells, columns
from proxy.files.workbook import SHEET_ROWS_MAX, xlsx_chunks
from tests.exports import any_rows, clip_row, some_month

NAMES = [column.name for column in columns()]


def written(rows: list[ExportRow], sheet_rows_max: int = SHEET_ROWS_MAX) -> bytes:
    return b"".join(xlsx_chunks(columns(), cells(rows), "Clipmeter 2026-11", sheet_rows_max))


def sheet(content: bytes, name: str = "Clips") -> Worksheet:
    found = openpyxl.load_workbook(io.BytesIO(content))[name]
    assert isinstance(found, Worksheet)
    return found


def column(page: Worksheet, name: str) -> list[object]:
    return [row[NAMES.index(name)] for row in page.iter_rows(min_row=2, values_only=True)]


def test_cells_have_their_types_below_a_frozen_header() -> None:
    page = sheet(written([clip_row(1, amount_micros=-150_001), clip_row(2)]))
    assert [cell.value for cell in page[1]] == NAMES
    assert page.freeze_panes == "A2"
    assert page.auto_filter.ref == "A1:AA3"
    assert column(page, "amount_usd") == [-0.150001, 0.15]
    assert column(page, "attempts") == [1, 1]
    assert str(column(page, "completed_at")[0]) == "2026-11-01 00:01:45.250000"
    assert column(page, "replay_of") == [None, None]
    amount = page.cell(2, NAMES.index("amount_usd") + 1)
    assert (amount.data_type, amount.number_format) == ("n", "0.00####")
    completed = page.cell(2, NAMES.index("completed_at") + 1)
    assert (completed.data_type, completed.number_format) == ("d", "yyyy-mm-dd hh:mm:ss.000")


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(A1)", "+1", "-1", "{=1}", "https://example.com", "1e5", "0123", "<b>&\"'</b>"],
)
def test_text_is_text_whatever_it_looks_like(text: str) -> None:
    page = sheet(written([clip_row(1, key_label=text)]))
    cell = page.cell(2, NAMES.index("key_label") + 1)
    assert cell.value == text
    assert cell.data_type == "s"
    assert cell.hyperlink is None


def test_text_that_looks_like_formatted_text_is_quoted() -> None:
    page = sheet(written([clip_row(1, key_label="<r><t>x</t></r>")]))
    assert column(page, "key_label") == ["'<r><t>x</t></r>"]


@settings(max_examples=25)
@given(any_rows())
def test_any_rows_make_a_file_that_opens(rows: list[ExportRow]) -> None:
    page = sheet(written(rows))
    assert column(page, "line_id") == [row.line_id for row in rows]
    assert [round(float(str(usd)) * 10**6) for usd in column(page, "amount_usd")] == [
        row.amount_micros for row in rows
    ]


@given(st.integers(-(10**15), 10**15))
def test_an_amount_is_exact_as_far_as_a_spreadsheet_can_tell(micros: int) -> None:
    assert round(float(f"{micros / 1_000_000:.15g}") * 1_000_000) == micros


def test_what_does_not_fit_on_a_sheet_goes_on_in_the_next() -> None:
    content = written([clip_row(number) for number in range(7)], sheet_rows_max=3)
    pages = [sheet(content, name) for name in ("Clips", "Clips 2", "Clips 3")]
    ids = [line for page in pages for line in column(page, "line_id")]
    assert ids == [f"video_{number:08d}" for number in range(7)]
    assert [page.max_row for page in pages] == [4, 4, 2]
    assert {page.freeze_panes for page in pages} == {"A2"}


def test_no_rows_are_a_file_with_a_header() -> None:
    page = sheet(written([]))
    assert [cell.value for cell in page[1]] == NAMES
    assert page.max_row == 1


def test_the_same_rows_make_the_same_bytes() -> None:
    rows = list(some_month(60))
    assert written(rows) == written(rows)


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    chunks = xlsx_chunks([Column("n", Kind.WHOLE)], [(1,)], "title")
    assert next(chunks).startswith(b"PK")
    chunks.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_rows_that_break_off_leave_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ZeroDivisionError):
        list(xlsx_chunks([Column("n", Kind.WHOLE)], ((1 // n,) for n in (1, 0)), "title"))
    assert list(tmp_path.iterdir()) == []
