"""What store functions say to the database, and how it goes about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event, text

from proxy.store.database import Database
from tests.store.asks import write

Deed = Callable[[Connection], object]


def said_by(database: Database, deed: Deed) -> list[tuple[str, Any]]:
    """Every statement that `deed` has SQLAlchemy say, with its values, in the order of saying."""
    said: list[tuple[str, Any]] = []

    def hear(
        _tx: object, _cursor: object, sql: str, values: Any, _context: object, _many: object
    ) -> None:
        said.append((sql, values))

    def listen(tx: Connection) -> None:
        event.listen(tx, "before_cursor_execute", hear)
        try:
            deed(tx)
        finally:
            event.remove(tx, "before_cursor_execute", hear)

    write(database, listen)
    return said


def plans_of(database: Database, deed: Deed) -> str:
    """How the database goes about each statement of `deed`, on PostgreSQL whatever its values.

    PostgreSQL is told to avoid reading a whole table, which it prefers for small ones: where a plan
    still does, there is no index that would do.
    """
    said = said_by(database, deed)

    def explain(tx: Connection) -> list[str]:
        if tx.dialect.name == "sqlite":
            asked = [(f"EXPLAIN QUERY PLAN {sql}", values) for sql, values in said]
            return [row[-1] for sql, values in asked for row in tx.exec_driver_sql(sql, values)]
        tx.execute(text("SET LOCAL enable_seqscan = off"))
        asked = [(f"EXPLAIN (GENERIC_PLAN) {_numbered(sql)}", None) for sql, _ in said]
        return [line for sql, _ in asked for line in tx.exec_driver_sql(sql).scalars()]

    return "\n".join(write(database, explain))


def _numbered(sql: str) -> str:
    """`sql` with numbers for its values' names, as PostgreSQL itself writes them."""
    names = dict.fromkeys(re.findall(r"%\((\w+)\)s", sql))
    numbers = {name: f"${number}" for number, name in enumerate(names, 1)}
    return re.sub(r"%\((\w+)\)s", lambda found: numbers[found[1]], sql)
