"""JSON Lines exports: one object a row, decimals that no reader turns into floats."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from proxy.core.columns import Column, Kind
from proxy.core.export import ExportRow, cells, columns
from proxy.core.pricing import parse_usd
from proxy.files.json_lines import CHUNK_ROWS, json_chunks
from tests.exports import any_rows, clip_row


def read(rows: list[ExportRow]) -> list[dict[str, object]]:
    content = b"".join(json_chunks(columns(), cells(rows)))
    return [json.loads(line) for line in content.splitlines()]


def test_a_row_is_an_object_with_every_column_in_its_order() -> None:
    (said,) = read([clip_row(3)])
    assert list(said) == [column.name for column in columns()]
    assert said["amount_usd"] == "0.15"
    assert said["completed_at"] == "2026-11-01T00:03:45.250000Z"
    assert (said["attempts"], said["quantity"]) == (1, 1)
    assert said["replay_of"] is None


@given(any_rows())
def test_what_was_written_is_read_back(rows: list[ExportRow]) -> None:
    said = read(rows)
    assert [row["tenant"] for row in said] == [row.tenant for row in rows]
    assert [micros(row["amount_usd"]) for row in said] == [row.amount_micros for row in rows]


def micros(usd: object) -> int:
    assert isinstance(usd, str)
    return -parse_usd(usd[1:]) if usd.startswith("-") else parse_usd(usd)


@pytest.mark.parametrize("rows", [0, 1, CHUNK_ROWS, CHUNK_ROWS + 1])
def test_a_file_comes_in_pieces_of_a_bounded_size(rows: int) -> None:
    chunks = list(json_chunks([Column("n", Kind.WHOLE)], ((number,) for number in range(rows))))
    assert len(chunks) == rows // CHUNK_ROWS + 1
    assert [json.loads(line)["n"] for line in b"".join(chunks).splitlines()] == [*range(rows)]


def test_the_same_rows_make_the_same_bytes() -> None:
    rows = [clip_row(number) for number in range(50)]
    assert list(json_chunks(columns(), cells(rows))) == list(json_chunks(columns(), cells(rows)))
