"""CSV exports: RFC 4180, numbers that add up, nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.columns import Cell, Column, Kind
from proxy.core.export import ExportRow, cells, columns
from proxy.core.pricing import format_usd
from proxy.files.csv_text import CHUNK_ROWS, Profile, csv_chunks
from tests.exports import TEXTS, any_rows, clip_row

RUNS = st.text(" \t\r\n\0=+-@＝＋－＠a1", min_size=1)  # noqa: RUF001


def written(rows: list[ExportRow], profile: Profile = Profile.MACHINE) -> bytes:
    return b"".join(csv_chunks(columns(), cells(rows), profile))


def read(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def column_of(
    column: Column, values: Sequence[Cell], profile: Profile = Profile.MACHINE
) -> list[str]:
    rows = [(value, "x") for value in values]
    content = b"".join(csv_chunks([column, Column("x")], rows, profile))
    return [row[column.name] for row in read(content)]


def test_a_machines_file_is_plain_utf_8_with_crlf_and_bare_numbers() -> None:
    content = written([clip_row(1, tenant="größe", amount_micros=-250_000)])
    header, line, nothing = content.split(b"\r\n")
    assert header.startswith(b"month,completed_at,")
    assert line.startswith(b"2026-11,2026-11-01T00:01:45.250000Z,")
    assert "größe".encode() in line
    assert b",-0.25," in line
    assert nothing == b""
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_an_excel_file_has_its_mark_and_times_that_excel_takes_for_dates() -> None:
    content = written([clip_row(1)], Profile.EXCEL)
    assert content.startswith(b"\xef\xbb\xbfmonth,")
    assert content.count(b"\xef\xbb\xbf") == 1
    assert read(content)[0]["completed_at"] == "2026-11-01 00:01:45"


@given(any_rows(), st.sampled_from(Profile))
def test_what_was_written_is_read_back(rows: list[ExportRow], profile: Profile) -> None:
    said = read(written(rows, profile))
    assert [row["line_id"] for row in said] == [row.line_id for row in rows]
    assert [row["amount_usd"] for row in said] == [format_usd(row.amount_micros) for row in rows]
    if profile is Profile.MACHINE:
        assert [row["tenant"] for row in said] == [row.tenant for row in rows]


@given(st.lists(TEXTS))
def test_a_machine_gets_text_unaltered(texts: list[str]) -> None:
    assert column_of(Column("text"), texts) == texts


@given(RUNS)
def test_no_text_in_an_excel_file_can_become_a_formula(text: str) -> None:
    (cell,) = column_of(Column("text"), [text], Profile.EXCEL)
    if cell.lstrip("-").isdigit():
        return
    assert cell.strip(" \t\r\n\0")[:1] not in set("=+-@＝＋－＠")  # noqa: RUF001
    assert cell[:1] not in set("\t\r\n\0")


def test_negative_amounts_are_numbers_in_both_profiles() -> None:
    for profile in Profile:
        column = Column("amount_usd", Kind.DECIMAL)
        assert column_of(column, [-250_000, -1], profile) == ["-0.25", "-0.000001"]


def test_what_is_not_there_is_an_empty_cell() -> None:
    for kind in Kind:
        assert column_of(Column("cell", kind), [None]) == [""]


@pytest.mark.parametrize("rows", [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_a_file_comes_in_pieces_of_a_bounded_size(rows: int) -> None:
    chunks = list(csv_chunks([Column("n", Kind.WHOLE)], ((number,) for number in range(rows))))
    assert len(chunks) == rows // CHUNK_ROWS + 1
    assert [int(row["n"]) for row in read(b"".join(chunks))] == [*range(rows)]


def test_the_same_rows_make_the_same_bytes() -> None:
    rows = [clip_row(number) for number in range(50)]
    assert written(rows) == written(rows)


def test_a_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="argument"):
        list(csv_chunks([Column("one")], [("1", "2")]))
