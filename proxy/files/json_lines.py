"""Rows as JSON Lines: one object a row, every column in it, decimals as strings.

A JSON number is a float to most readers, and a float cannot hold a micro-dollar for long. Whole
numbers are numbers, times RFC 3339 in UTC, what is not there is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from json import JSONEncoder
from typing import Final

from proxy.core.columns import AS_TEXT, Cell, Column, Kind

CHUNK_ROWS: Final = 1_000
"""Rows that are written before their bytes are handed on."""

_AS_THEY_ARE: Final = {Kind.TEXT, Kind.WHOLE}
_WRITTEN: Final = JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def json_chunks(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Iterator[bytes]:
    """The file in pieces of `CHUNK_ROWS` rows; the same bytes for the same rows."""
    names = [column.name for column in columns]
    written = [
        (number, AS_TEXT[column.kind])
        for number, column in enumerate(columns)
        if column.kind not in _AS_THEY_ARE
    ]
    lines: list[str] = []
    for row in rows:
        cells: list[object] = list(row)
        for number, text in written:
            if cells[number] is not None:
                cells[number] = text(cells[number])
        lines.append(_WRITTEN.encode(dict(zip(names, cells, strict=True))))
        if len(lines) == CHUNK_ROWS:
            yield _taken(lines)
    yield _taken(lines)


def _taken(lines: list[str]) -> bytes:
    """The lines, each with its end; nothing of them is left."""
    written = "".join(f"{line}\n" for line in lines)
    lines.clear()
    return written.encode()
