"""PostgreSQL: for more than one process, through psycopg, with one writer at a time.

The vendor account's limit is shared by all tenants, so every admission of every process meets at
one row in any case. Writers therefore take one advisory lock when they begin: the counterpart of
SQLite's BEGIN IMMEDIATE, and writers that hold whole batches of tenants cannot deadlock each other.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.pool import NullPool

from proxy.store.backend import Bounds, DatabaseUnfit, Trouble, driver_of, original

WRITER_LOCK: Final = 0x636C_6970_6D65_7465
"""The advisory lock of whoever writes ("clipmete" in ASCII)."""

BEGIN: Final = f"BEGIN; SELECT pg_advisory_xact_lock({WRITER_LOCK})"
"""One round trip. Every later statement sees what the lock's holders before us committed."""

T = TypeVar("T")

TICK_SECONDS: Final = 0.1
"""How often a connection that waits looks for how long it has."""

# A peer that vanished without a word is found out by the kernel too, where there is nothing to say.
_KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}

_LOSSY: Final = frozenset({"off", "local"})

_AGAIN_STATES: Final = frozenset({"40001", "40P01"})

# SQLSTATE classes that are about one statement: no data, syntax, values, constraints, transaction
# state, and what functions and triggers raise.
_CALL_CLASSES: Final = frozenset({"02", "0A", "21", "22", "23", "24", "25", "26", "42", "44", "P0"})


class Attentive(psycopg.Connection[Any]):
    """A connection that gives up on a server which is silent for `silence_seconds_max`.

    The server's own timeouts are of no use when it has stopped, or when a firewall has forgotten
    the connection: the driver would wait for ever.
    """

    silence_seconds_max = Bounds().statement_seconds_max + Bounds().answer_slack_seconds

    def wait(
        self, gen: PQGen[T], interval: float = TICK_SECONDS, timeout: float | None = None
    ) -> T:
        """Wait for what the driver waits for; close the connection after too long a silence."""
        try:
            return super().wait(self._heard(gen, interval), interval, timeout)
        except _Silence:
            self.close()
            raise

    def _heard(self, gen: PQGen[T], interval: float) -> Generator[Any, Any, T]:
        """What `gen` does, for as long as the server is heard of; it wakes every `interval`."""
        silent_seconds = 0.0
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                silent_seconds = 0.0 if ready else silent_seconds + interval
                if silent_seconds >= self.silence_seconds_max:
                    message = f"the server said nothing for {self.silence_seconds_max:g} s"
                    raise _Silence(message)
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value


class _Silence(psycopg.OperationalError):
    """Nothing was heard for too long; what had been asked may have been done."""


class Postgres:
    """The server at `url`."""

    errors = psycopg.Error

    def __init__(self, url: URL, bounds: Bounds, begin: str) -> None:
        """Prepare to connect to `url`, with or without a driver in its scheme."""
        self._bounds = bounds
        self._begin = begin
        patience = bounds.statement_seconds_max + bounds.answer_slack_seconds
        transport = {**_KEEPALIVES, "tcp_user_timeout": round(patience * 1_000)}
        self._engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, round(bounds.connect_seconds_max)),
                "application_name": "clipmeter",
                **{name: value for name, value in transport.items() if name not in url.query},
            },
        )
        event.listen(self._engine, "do_connect", self._dial)

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
        try:
            answer = driver.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            if error.sqlstate is not None:
                raise
            message = f"nobody knows what became of the commit: {error}"
            raise psycopg.OperationalError(message) from error
        if answer != "COMMIT":
            message = f"the commit was answered {answer}"
            raise psycopg.OperationalError(message)

    def judge(self, error: BaseException) -> Trouble:
        """By SQLSTATE; an error without one is the driver's, about a value or a connection."""
        driver_error = original(error)
        state = getattr(driver_error, "sqlstate", None)
        if state is None:
            broken = isinstance(driver_error, psycopg.OperationalError)
            return Trouble.AWAY if broken else Trouble.CALL
        if state in _AGAIN_STATES:
            return Trouble.AGAIN
        return Trouble.CALL if state[:2] in _CALL_CLASSES else Trouble.AWAY

    def dispose(self) -> None:
        """Forget the engine."""
        self._engine.dispose()

    def _connect(self, statement_seconds_max: float) -> Connection:
        connection = self._engine.connect()
        try:
            self._furnish(driver_of(connection), statement_seconds_max)
        except BaseException:
            connection.close()
            raise
        return connection

    def _furnish(self, driver: Any, statement_seconds_max: float) -> None:
        settings = {
            "statement_timeout": statement_seconds_max,
            "lock_timeout": self._bounds.busy_seconds_max,
            # A process that stops in the middle of a batch must not hold everybody's lock.
            "idle_in_transaction_session_timeout": self._bounds.statement_seconds_max,
        }
        for name, seconds in settings.items():
            driver.execute(f"SET {name} TO {round(seconds * 1_000)}")
        driver.execute("SET TIME ZONE 'UTC'")
        driver.silence_seconds_max = statement_seconds_max + self._bounds.answer_slack_seconds

    def _dial(self, _dialect: object, _record: object, args: Any, named: Any) -> Attentive:
        """Make a connection for the engine, one that hears when nothing is said."""
        connection = Attentive.connect(*args, **named)
        bounds = self._bounds
        connection.silence_seconds_max = bounds.statement_seconds_max + bounds.answer_slack_seconds
        return connection


def _setting(driver: Any, name: str) -> str:
    value: str = driver.execute(f"SHOW {name}").fetchone()[0]
    return value
