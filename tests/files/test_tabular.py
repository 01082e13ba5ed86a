"""One month in every format: the same rows, the same sums to the micro-dollar, streamed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import openpyxl
import pytest

from proxy.core.columns import Column, Kind
from proxy.core.export import Totals, cells, columns, counted, in_order
from proxy.files.csv_text import Profile
from proxy.files.tabular import MEDIA_TYPES, Format, file_chunks
from tests.exports import some_month

ROWS = 2_000
AMOUNT, LINE = (
    [column.name for column in columns()].index(name) for name in ("amount_usd", "line_id")
)


def file_of(form: Format, folder: Path, profile: Profile = Profile.MACHINE) -> tuple[Path, Totals]:
    path, totals = folder / f"export.{form}", Totals()
    rows = counted(in_order(some_month(ROWS)), totals)
    path.write_bytes(b"".join(file_chunks(form, columns(), cells(rows), "November", profile)))
    return path, totals


def lines_in(form: Format, path: Path) -> Iterator[tuple[str, int]]:
    """Each line's id and its amount in micros, as the format's own reader gives them."""
    match form:
        case Format.CSV:
            with path.open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file):
                    yield row["line_id"], micros(row["amount_usd"])
        case Format.JSONL:
            for line in path.read_text().splitlines():
                said = json.loads(line)
                yield said["line_id"], micros(said["amount_usd"])
        case Format.PARQUET:
            with duckdb.connect() as connection:
                question = "SELECT line_id, amount_usd::VARCHAR FROM read_parquet(?)"
                for name, usd in connection.execute(question, [str(path)]).fetchall():
                    yield name, micros(usd)
        case Format.XLSX:
            book = openpyxl.load_workbook(path, read_only=True)
            for cells_ in book["Clips"].iter_rows(min_row=2, values_only=True):
                yield str(cells_[LINE]), round(float(str(cells_[AMOUNT])) * 10**6)
            book.close()


def micros(usd: str) -> int:
    whole, _, decimals = usd.partition(".")
    return int(whole + decimals.ljust(6, "0"))


def test_every_format_has_a_media_type() -> None:
    assert MEDIA_TYPES.keys() == set(Format)


@pytest.mark.parametrize("form", Format)
def test_every_format_has_the_same_lines_and_sums(form: Format, tmp_path: Path) -> None:
    expected = [(row.line_id, row.amount_micros) for row in some_month(ROWS)]
    path, totals = file_of(form, tmp_path)
    found = list(lines_in(form, path))
    assert found == expected
    assert sum(amount for _, amount in found) == totals.amount_micros
    assert totals.rows == ROWS


def test_the_profile_for_excel_has_the_same_sums(tmp_path: Path) -> None:
    path, totals = file_of(Format.CSV, tmp_path, Profile.EXCEL)
    found = list(lines_in(Format.CSV, path))
    assert sum(amount for _, amount in found) == totals.amount_micros


@pytest.mark.parametrize("form", [Format.CSV, Format.JSONL, Format.PARQUET])
def test_rows_are_read_as_the_file_is(form: Format) -> None:
    read = 0

    def rows() -> Iterator[tuple[int]]:
        nonlocal read
        while read < 200_000:
            read += 1
            yield (read,)

    chunks = file_chunks(form, [Column("n", Kind.WHOLE)], rows(), "November")
    assert read == 0
    assert next(chunks) != b""
    assert 0 < read < 200_000
