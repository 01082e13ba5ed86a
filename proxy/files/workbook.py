"""Rows as XLSX: typed cells below a frozen header, and a first sheet of totals that are formulas.

Amounts and counts are numbers and times are dates, so that they can be added and sorted; text is
text, whatever it looks like, and never a formula. The formulas carry the values they come to, for
programs that do not calculate. Rows pass through a file, not through memory; the dates inside are
fixed, so the same rows give the same bytes. xlsxwriter loads on first use.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from proxy.core.columns import Cell, Column, Kind
from proxy.files.workbook_totals import Sums, plain, write_totals

SHEET_ROWS_MAX: Final = 1_048_575
"""Rows of one sheet below its header, by the format's own limit; more go on in a second sheet."""

CHUNK_BYTES: Final = 2**18

_CREATED: Final = datetime(2000, 1, 1)  # noqa: DTZ001  the format knows no zones
_DAY_ZERO: Final = datetime(1899, 12, 30, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_NUMBERS: Final = {
    Kind.TIME: "yyyy-mm-dd hh:mm:ss.000",
    Kind.SECOND: "yyyy-mm-dd hh:mm:ss",
    Kind.DECIMAL: "0.00####",
    Kind.WHOLE: "0",
}
_WIDTHS: Final = {Kind.TIME: 23, Kind.SECOND: 19, Kind.TEXT: 18}
_WIDTH: Final = 12


def xlsx_chunks(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    title: str,
    sheet_rows_max: int = SHEET_ROWS_MAX,
) -> Iterator[bytes]:
    """The file in pieces, once all of `rows` are in it; the same bytes for the same rows.

    `title` stands above the totals. The rows are kept in a temporary folder until they are read.
    """
    with tempfile.TemporaryDirectory(prefix="clipmeter-") as folder:
        path = Path(folder) / "export.xlsx"
        _write(path, columns, rows, title, sheet_rows_max)
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _write(
    path: Path,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    title: str,
    sheet_rows_max: int,
) -> None:
    from xlsxwriter import Workbook

    options = {"constant_memory": True, "tmpdir": str(path.parent)}
    with Workbook(str(path), options) as book:
        book.use_zip64()
        book.set_properties({"title": title, "created": _CREATED})
        totals = book.add_worksheet("Totals")
        sums = Sums(columns)
        pages: list[tuple[str, int]] = []
        page = _Page(book, "Clips", columns)
        for row in rows:
            if page.rows == sheet_rows_max:
                pages.append(page.closed())
                page = _Page(book, f"Clips {len(pages) + 1}", columns)
            page.write(row)
            sums.add(row)
        pages.append(page.closed())
        write_totals(book, totals, title, sums, pages)


class _Page:
    """One sheet of rows."""

    def __init__(self, book: Any, name: str, columns: Sequence[Column]) -> None:
        self.rows = 0
        self._name = name
        self._kinds = [column.kind for column in columns]
        self._sheet = book.add_worksheet(name)
        self._sheet.freeze_panes(1, 0)
        self._sheet.autofilter(0, 0, 0, len(columns) - 1)
        header = book.add_format({"bold": True})
        for number, column in enumerate(columns):
            shape = book.add_format({"num_format": _NUMBERS.get(column.kind, "@")})
            self._sheet.set_column(number, number, _WIDTHS.get(column.kind, _WIDTH), shape)
            self._sheet.write_string(0, number, column.name, header)

    def write(self, row: Sequence[Cell]) -> None:
        """Write the next row; what is not there stays an empty cell."""
        self.rows += 1
        sheet, at = self._sheet, self.rows
        for number, (kind, cell) in enumerate(zip(self._kinds, row, strict=True)):
            if cell is None:
                continue
            if kind is Kind.TEXT:
                sheet.write_string(at, number, plain(str(cell)))
            else:
                sheet.write_number(at, number, _number(kind, cell))

    def closed(self) -> tuple[str, int]:
        """The sheet's name, and the number of its rows, once all are written."""
        self._sheet.autofilter(0, 0, self.rows, len(self._kinds) - 1)
        return self._name, self.rows


def _number(kind: Kind, cell: Any) -> float:
    """A cell as spreadsheets count: days since 1899-12-30 for a time, dollars for micros."""
    if kind is Kind.DECIMAL:
        return float(cell / 1_000_000)
    if kind is Kind.WHOLE:
        return int(cell)
    return float((cell - _DAY_ZERO) / _DAY)
