"""PostgreSQL: for more than one process, through psycopg, with one writer at a time.

The vendor account's limit is shared by all tenants, so every admission of every process meets at
one row in any case. Writers therefore take one advisory lock when they begin: the counterpart of
SQLite's BEGIN IMMEDIATE, and writers that hold whole batches of tenants cannot deadlock each other.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, create_engine
from sqlalchemy.pool import NullPool

from proxy.store.backend import Bounds, DatabaseUnfit, Trouble, driver_of, original

WRITER_LOCK: Final = 0x636C_6970_6D65_7465
"""The advisory lock of whoever writes ("clipmete" in ASCII)."""

BEGIN: Final = f"BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})"
"""One round trip. Every later statement sees what the lock's holders before us committed."""

_LOSSY: Final = frozenset({"off", "local"})

_AGAIN_STATES: Final = frozenset({"40001", "40P01"})

# SQLSTATE classes that are about one statement: no data, syntax, values, constraints, transaction
# state, and what functions and triggers raise.
_CALL_CLASSES: Final = frozenset({"02", "0A", "21", "22", "23", "24", "25", "26", "42", "44", "P0"})


class Postgres:
    """The server at `url`."""

    errors = psycopg.Error

    def __init__(self, url: URL, bounds: Bounds, begin: str) -> None:
        """Prepare to connect to `url`, with or without a driver in its scheme."""
        self._bounds = bounds
        self._begin = begin
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, round(bounds.connect_seconds_max)),
                "application_name": "clipmeter",
            },
        )

    def connect_writer(self) -> Connection:
        """A connection that answers a commit only when it is durable: read back."""
        connection = self._connect(self._bounds.statement_seconds_max)
        driver = driver_of(connection)
        if _setting(driver, "synchronous_commit") in _LOSSY:
            driver.execute("SET synchronous_commit TO on")
        if _setting(driver, "synchronous_commit") in _LOSSY:
            connection.close()
            message = "PostgreSQL's synchronous_commit is off, and it would lose acknowledged money"
            raise DatabaseUnfit(message)
        if _setting(driver, "transaction_read_only") == "on":
            connection.close()
            message = "this PostgreSQL server only reads; point database.url at the primary"
            raise DatabaseUnfit(message)
        return connection

    def connect_reader(self) -> Connection:
        """A connection that PostgreSQL keeps from writing."""
        return self._connect(self._bounds.read_seconds_max)

    def begin(self, driver: Any) -> None:
        """Begin with the writer's lock in hand, after at most `busy_seconds_max`."""
        driver.execute(self._begin)

    def begin_read(self, driver: Any) -> None:
        """Begin to read one state of the database."""
        driver.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def commit(self, driver: Any) -> None:
        """Commit; a transaction that an error has already ended would roll back in silence."""
        answer = driver.execute("COMMIT").statusmessage
        if answer != "COMMIT":
            message = f"the commit was answered {answer}"
            raise psycopg.OperationalError(message)

    def judge(self, error: BaseException) -> Trouble:
        """By SQLSTATE; an error without one is a broken connection."""
        state = getattr(original(error), "sqlstate", None)
        if state in _AGAIN_STATES:
            return Trouble.AGAIN
        if state is not None and state[:2] in _CALL_CLASSES:
            return Trouble.CALL
        return Trouble.AWAY

    def dispose(self) -> None:
        """Forget the engine."""
        self._engine.dispose()

    def _connect(self, statement_seconds_max: float) -> Connection:
        connection = self._engine.connect()
        settings = {
            "statement_timeout": statement_seconds_max,
            "lock_timeout": self._bounds.busy_seconds_max,
            # A process that stops in the middle of a batch must not hold everybody's lock.
            "idle_in_transaction_session_timeout": self._bounds.statement_seconds_max,
        }
        driver = driver_of(connection)
        for name, seconds in settings.items():
            driver.execute(f"SET {name} TO {round(seconds * 1_000)}")
        driver.execute("SET TIME ZONE 'UTC'")
        return connection


def _setting(driver: Any, name: str) -> str:
    value: str = driver.execute(f"SHOW {name}").fetchone()[0]
    return value
