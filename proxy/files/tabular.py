"""Every format an export is taken away in: its name, its media type, and rows → its bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from proxy.core.columns import Cell, Column
from proxy.files.csv_text import Profile, csv_chunks
from proxy.files.json_lines import json_chunks
from proxy.files.parquet import parquet_chunks
from proxy.files.workbook import xlsx_chunks


class Format(StrEnum):
    """A format by the end of its files' names."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    XLSX = "xlsx"


MEDIA_TYPES: Final[Mapping[Format, str]] = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.JSONL: "application/jsonl",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.XLSX: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def file_chunks(
    form: Format,
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    title: str,
    profile: Profile = Profile.MACHINE,
) -> Iterator[bytes]:
    """The file's bytes in pieces; `rows` are read as the pieces are, a million in bounded memory.

    `title` stands above the totals of a workbook; `profile` says who opens a CSV. Reading blocks:
    call it in a thread.
    """
    match form:
        case Format.CSV:
            return csv_chunks(columns, rows, profile)
        case Format.JSONL:
            return json_chunks(columns, rows)
        case Format.PARQUET:
            return parquet_chunks(columns, rows)
        case Format.XLSX:
            return xlsx_chunks(columns, rows, title)
