"""Rows as Parquet: exact decimals, UTC timestamps, row groups of a bounded size.

Amounts are decimal128 with six decimals, made of the whole micros without a float or a string in
between. Nothing in the file hangs on the clock, so the same rows give the same bytes, for one
version of pyarrow (it writes its version into the file). pyarrow loads on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from proxy.core.columns import Cell, Column, Kind

BATCH_ROWS: Final = 4_096
"""Rows that are Python objects at one time."""

GROUP_ROWS: Final = 16 * BATCH_ROWS
"""Rows of one row group, which wait in columns until they are written together."""

_DIGITS: Final = 19  # of a signed 64-bit number
_DECIMALS: Final = 6


def parquet_chunks(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> Iterator[bytes]:
    """The file in pieces, a row group at a time; the same bytes for the same rows."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    schema = pa.schema([(column.name, _type(column.kind)) for column in columns])
    sink = _Sink()
    arriving = iter(rows)
    with pq.ParquetWriter(
        sink, schema, compression="zstd", version="2.6", write_statistics=True
    ) as writer:
        while group := list(islice(_batches(schema, columns, arriving), GROUP_ROWS // BATCH_ROWS)):
            table = pa.Table.from_batches(group, schema)
            writer.write_table(table, row_group_size=GROUP_ROWS)
            yield sink.taken()
    yield sink.taken()


def _batches(
    schema: Any, columns: Sequence[Column], rows: Iterator[Sequence[Cell]]
) -> Iterator[Any]:
    import pyarrow as pa

    while batch := list(islice(rows, BATCH_ROWS)):
        arrays = [
            _array(column.kind, list(cells))
            for column, cells in zip(columns, zip(*batch, strict=True), strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type(kind: Kind) -> Any:
    import pyarrow as pa

    match kind:
        case Kind.TEXT:
            return pa.string()
        case Kind.WHOLE:
            return pa.int64()
        case Kind.DECIMAL:
            return pa.decimal128(_DIGITS, _DECIMALS)
        case Kind.TIME | Kind.SECOND:
            return pa.timestamp("us", tz="UTC")


def _array(kind: Kind, cells: list[Cell]) -> Any:
    import pyarrow as pa

    if kind is not Kind.DECIMAL:
        return pa.array(cells, _type(kind))
    # A decimal of six places is stored as its whole micros: the same bytes, told to be decimals.
    micros = pa.array(cells, pa.int64()).cast(pa.decimal128(_DIGITS, 0))
    return pa.Array.from_buffers(_type(kind), len(micros), micros.buffers())


class _Sink:
    """A file that hands on what was written into it."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._position = 0

    def write(self, piece: Any) -> int:
        """Keep a copy: what comes is a view of memory that is used again."""
        copied = bytes(piece)
        self._pieces.append(copied)
        self._position += len(copied)
        return len(copied)

    def tell(self) -> int:
        """How much was written."""
        return self._position

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Nothing is held here."""

    def readable(self) -> bool:
        """Whether it can be read: no."""
        return False

    def writable(self) -> bool:
        """Whether it can be written: yes."""
        return True

    def seekable(self) -> bool:
        """Whether one can go back in it: no."""
        return False

    def taken(self) -> bytes:
        """What was written since the last time."""
        written = b"".join(self._pieces)
        self._pieces.clear()
        return written
