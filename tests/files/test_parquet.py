"""Parquet exports, read with DuckDB: exact decimals, UTC times, bounded row groups."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from proxy.core.columns import Column, Kind
from proxy.core.export import ExportRow, cells, columns
from proxy.core.pricing import format_usd
from proxy.files.parquet import BATCH_ROWS, GROUP_ROWS, parquet_chunks
from tests.exports import any_rows, clip_row


def written(folder: Path, rows: list[ExportRow], *, sandbox: bool = False) -> Path:
    path = folder / "export.parquet"
    chunks = parquet_chunks(columns(sandbox=sandbox), cells(rows, sandbox=sandbox))
    path.write_bytes(b"".join(chunks))
    return path


def ask(path: Path, question: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(question, [str(path)]).fetchall()


def test_the_columns_have_their_types(tmp_path: Path) -> None:
    path = written(tmp_path, [clip_row(1)])
    types = {row[0]: row[1] for row in ask(path, "DESCRIBE SELECT * FROM read_parquet(?)")}
    assert list(types) == [column.name for column in columns()]
    assert types["amount_usd"] == "DECIMAL(19,6)"
    assert types["completed_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["attempts"] == "BIGINT"
    assert types["tenant"] == "VARCHAR"


def test_a_time_is_exact_and_in_utc(tmp_path: Path) -> None:
    path = written(tmp_path, [clip_row(1)])
    ((at,),) = ask(path, "SELECT completed_at::VARCHAR FROM read_parquet(?)")
    assert at == "2026-11-01 00:01:45.25+00"


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(any_rows())
def test_what_was_written_is_read_back(tmp_path: Path, rows: list[ExportRow]) -> None:
    path = written(tmp_path, rows)
    question = (
        "SELECT line_id, tenant, cost_center, amount_usd, list_price_usd FROM read_parquet(?)"
    )
    assert ask(path, question) == [
        (
            row.line_id,
            row.tenant,
            row.cost_center,
            usd(row.amount_micros),
            usd(row.list_price_micros),
        )
        for row in rows
    ]


def usd(micros: int | None) -> Decimal | None:
    return None if micros is None else Decimal(format_usd(micros))


@pytest.mark.parametrize("micros", [2**63 - 1, -(2**63), 1, -1, 0])
def test_any_amount_that_the_ledger_can_hold_is_exact(tmp_path: Path, micros: int) -> None:
    path = tmp_path / "one.parquet"
    path.write_bytes(b"".join(parquet_chunks([Column("usd", Kind.DECIMAL)], [(micros,), (None,)])))
    assert ask(path, "SELECT usd FROM read_parquet(?)") == [(usd(micros),), (None,)]


def test_rows_come_in_groups_that_are_handed_on_one_by_one(tmp_path: Path) -> None:
    path, count = tmp_path / "many.parquet", GROUP_ROWS + BATCH_ROWS + 1
    sizes = []
    with path.open("wb") as file:
        numbers = ((number,) for number in range(count))
        for chunk in parquet_chunks([Column("n", Kind.WHOLE)], numbers):
            sizes.append(len(chunk))
            file.write(chunk)
    assert len(sizes) == 3
    groups = ask(path, "SELECT DISTINCT row_group_num_rows FROM parquet_metadata(?) ORDER BY 1")
    assert groups == [(BATCH_ROWS + 1,), (GROUP_ROWS,)]
    assert ask(path, "SELECT count(*), sum(n) FROM read_parquet(?)") == [
        (count, count * (count - 1) // 2)
    ]


def test_no_rows_are_a_file_with_columns(tmp_path: Path) -> None:
    assert ask(written(tmp_path, []), "SELECT count(*) FROM read_parquet(?)") == [(0,)]


def test_a_file_of_a_sandbox_says_so(tmp_path: Path) -> None:
    path = written(tmp_path, [clip_row(1)], sandbox=True)
    assert ask(path, "SELECT sandbox FROM read_parquet(?)") == [("SANDBOX",)]


def test_the_same_rows_make_the_same_bytes() -> None:
    rows = [clip_row(number) for number in range(BATCH_ROWS + 9)]
    once, again = (b"".join(parquet_chunks(columns(), cells(rows))) for _ in range(2))
    assert once == again
