"""Core statements of the paid path, compiled once for each database and run by its driver.

SQLAlchemy writes the SQL and converts the values; its work of every call is left out (a tenth of
the time for a small insert). What comes back is the driver's own cursor, and what goes wrong is
the driver's own error, which `Database` reads as it reads SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from sqlalchemy import BindParameter, Connection, Dialect, Insert, Select, bindparam
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

from proxy.store.backend import driver_of

Processor = Callable[[Any], Any] | None


class Prepared:
    """One statement; an insert takes every column of its table, anything else its bind names.

    Lists (`IN`) are not for it: their SQL depends on how many values there are.
    """

    __slots__ = ("_compiled", "_statement")

    def __init__(self, statement: UpdateBase | Select[Any]) -> None:
        """Take `statement`, to be compiled when a database first asks for it."""
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def run(self, tx: Connection, values: Mapping[str, Any]) -> DBAPICursor:
        """Run it with `values`, one for each name; a missing one is a `KeyError`."""
        compiled = self._for(tx)
        cursor: DBAPICursor = driver_of(tx).cursor()
        cursor.execute(compiled.sql, compiled.bind(values))
        return cursor

    def run_each(self, tx: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Run it once for each of `rows`."""
        compiled = self._for(tx)
        driver_of(tx).cursor().executemany(compiled.sql, [compiled.bind(row) for row in rows])

    def one(self, tx: Connection, values: Mapping[str, Any]) -> Sequence[Any] | None:
        """The first row it finds, converted, or None."""
        compiled = self._for(tx)
        row: Sequence[Any] | None = self.run(tx, values).fetchone()
        return None if row is None else compiled.read(row)

    def _for(self, tx: Connection) -> _Compiled:
        compiled = self._compiled.get(tx.dialect.name)
        if compiled is None:
            compiled = _Compiled(self._statement, tx.dialect)
            self._compiled[tx.dialect.name] = compiled
        return compiled


def together(tx: Connection) -> AbstractContextManager[object]:
    """Within it, prepared statements whose answers nobody reads share one round trip.

    PostgreSQL's driver then reports what went wrong with any of them at the end of the block.
    """
    pipeline = getattr(driver_of(tx), "pipeline", None)
    if pipeline is None:
        return nullcontext()
    block: AbstractContextManager[object] = pipeline()
    return block


def set_to(*columns: str) -> dict[str, BindParameter[Any]]:
    """What an update sets `columns` to: values called `new_…`, each after its column."""
    return {column: bindparam(f"new_{column}") for column in columns}


class _Compiled:
    """One statement in one database's SQL, with what converts values on their way in and out."""

    __slots__ = ("_binds", "_positional", "_results", "sql")

    def __init__(self, statement: UpdateBase | Select[Any], dialect: Dialect) -> None:
        keys = list(statement.table.columns.keys()) if isinstance(statement, Insert) else None
        compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=keys)
        self.sql = str(compiled)
        self._positional = compiled.positiontup is not None
        names = compiled.positiontup if compiled.positiontup is not None else list(compiled.params)
        self._binds = [_bind(compiled, name, dialect) for name in names]
        columns = statement.selected_columns if isinstance(statement, Select) else ()
        self._results = [
            column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns
        ]

    def bind(self, values: Mapping[str, Any]) -> Any:
        """`values` as the driver takes them."""
        if self._positional:
            return [
                fixed
                if name is None
                else values[name]
                if process is None
                else process(values[name])
                for name, fixed, process, _ in self._binds
            ]
        return {
            bound: fixed
            if name is None
            else values[name]
            if process is None
            else process(values[name])
            for name, fixed, process, bound in self._binds
        }

    def read(self, row: Sequence[Any]) -> Sequence[Any]:
        """A driver's row as Python values."""
        return [
            value if process is None else process(value)
            for value, process in zip(row, self._results, strict=True)
        ]


def _bind(
    compiled: SQLCompiler, bound: str, dialect: Dialect
) -> tuple[str | None, Any, Processor, str]:
    """How the parameter called `bound` is filled: by a value's name, or with a fixed value."""
    parameter = compiled.binds[bound]
    process = parameter.type.dialect_impl(dialect).bind_processor(dialect)
    if parameter.required:
        return bound, None, process, bound
    fixed = parameter.effective_value
    return None, fixed if process is None else process(fixed), None, bound
