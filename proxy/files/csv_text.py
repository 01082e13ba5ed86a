"""Rows as CSV (RFC 4180): one profile for machines, one that a spreadsheet opens as it should.

Both: a header, commas, CRLF, quotes where they are needed, bare decimal numbers, an empty cell for
what is not there. For machines the text is as it is, in UTF-8 without a byte order mark. For Excel
it begins with the mark without which Excel misreads UTF-8, times look like dates to a spreadsheet,
and no text can become a formula (the rule of core/statement).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from proxy.core.columns import AS_TEXT, Cell, Column, Kind, sheet_time_text
from proxy.core.statement import disarmed

CHUNK_ROWS: Final = 1_000
"""Rows that are written before their bytes are handed on."""


class Profile(StrEnum):
    """Who reads the file."""

    MACHINE = "machine"
    EXCEL = "excel"


_SHEET_TEXT: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: disarmed,
    Kind.TIME: sheet_time_text,
    Kind.SECOND: sheet_time_text,
}


def csv_chunks(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Cell]],
    profile: Profile = Profile.MACHINE,
) -> Iterator[bytes]:
    """The file in pieces of `CHUNK_ROWS` rows; the same bytes for the same rows."""
    texts = [_text(column, profile) for column in columns]
    page = io.StringIO()
    write = csv.writer(page, lineterminator="\r\n").writerow
    if profile is Profile.EXCEL:
        page.write("\ufeff")
    write([column.name for column in columns])
    for number, row in enumerate(rows, 1):
        write([None if cell is None else text(cell) for text, cell in zip(texts, row, strict=True)])
        if number % CHUNK_ROWS == 0:
            yield _taken(page)
    yield _taken(page)


def _text(column: Column, profile: Profile) -> Callable[[Any], str]:
    plainly = AS_TEXT[column.kind]
    return plainly if profile is Profile.MACHINE else _SHEET_TEXT.get(column.kind, plainly)


def _taken(page: io.StringIO) -> bytes:
    """What was written since the last time."""
    written = page.getvalue()
    page.seek(0)
    page.truncate()
    return written.encode()
