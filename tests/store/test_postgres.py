"""On PostgreSQL conflicts are run again, lost connections come back, and settings are checked."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import Connection, text

from proxy.store.backend import LedgerUnavailable, driver_of
from proxy.store.database import Bounds, Database, DatabaseUnfit
from proxy.store.postgres import WRITER_LOCK
from proxy.store.processes import set_mark
from tests.store.asks import count_of, read, rows_of, write
from tests.store.stalling import Way, stalling

WAIT_SECONDS_MAX = 10.0

A_BLOCKED_WRITER = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'clipmeter' AND cardinality(pg_blocking_pids(pid)) > 0
"""


def setting(tx: Connection, name: str) -> object:
    return tx.execute(text(f"SHOW {name}")).scalar()


def test_a_deadlock_is_run_again_and_every_write_of_its_batch_stands_once(
    postgres_database: Database, postgres_copy: str
) -> None:
    for key in ("a", "b", "n"):
        write(postgres_database, lambda tx, key=key: set_mark(tx, key, "0"))  # type: ignore[misc]
    tries: list[int] = []

    def count_up(tx: Connection) -> None:
        tx.execute(text("UPDATE installation SET value = (value::int + 1)::text WHERE key = 'n'"))

    def lock_a_then_b(tx: Connection) -> None:
        tries.append(1)
        tx.execute(text("SET LOCAL deadlock_timeout = '200ms'"))  # ours is looked at first
        for key in ("a", "b"):
            tx.execute(text("UPDATE installation SET value = 'ours' WHERE key = :k"), {"k": key})

    async def batch() -> None:
        await asyncio.gather(
            *(postgres_database.write(fn) for fn in (count_up, lock_a_then_b, count_up))
        )

    with psycopg.connect(postgres_copy) as other:
        other.execute("UPDATE installation SET value = 'theirs' WHERE key = 'b'")
        theirs = threading.Thread(target=take_a_once_the_writer_waits, args=(other, postgres_copy))
        theirs.start()
        asyncio.run(batch())
        theirs.join(WAIT_SECONDS_MAX)
    assert len(tries) == 2
    assert rows_of(postgres_database, "SELECT key, value FROM installation ORDER BY key") == [
        ("a", "ours"),
        ("b", "ours"),
        ("n", "2"),
    ]


def take_a_once_the_writer_waits(other: psycopg.Connection, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as watching:
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while watching.execute(A_BLOCKED_WRITER).fetchone() == (0,):
            assert time.monotonic() < deadline
    other.execute("UPDATE installation SET value = 'theirs' WHERE key = 'a'")
    other.commit()


def test_a_conflict_that_never_ends_is_given_up(postgres_copy: str) -> None:
    database = Database.open(postgres_copy, bounds=Bounds(retries_max=3))
    tries: list[int] = []

    def conflict(_tx: Connection) -> None:
        tries.append(1)
        raise psycopg.errors.SerializationFailure

    try:
        with pytest.raises(LedgerUnavailable, match="in conflict after 3 tries"):
            write(database, conflict)
        assert len(tries) == 1 + 3
    finally:
        database.close()


def test_a_swallowed_error_does_not_pass_for_a_commit(postgres_database: Database) -> None:
    def swallow(tx: Connection) -> str:
        set_mark(tx, "key", "value")
        with pytest.raises(psycopg.errors.UndefinedTable):
            tx.connection.cursor().execute("SELECT 1 FROM nowhere")
        return "all is well"

    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        write(postgres_database, swallow)
    assert count_of(postgres_database, "installation") == 0


def test_a_commit_that_rolled_back_is_no_commit(postgres_database: Database) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK, and no error, after an error before it."""
    backend = postgres_database.backend
    with backend.connect_writer() as connection:
        driver = driver_of(connection)
        backend.begin(driver)
        with pytest.raises(psycopg.errors.UndefinedTable):
            driver.execute("SELECT 1 FROM nowhere")
        with pytest.raises(psycopg.OperationalError, match="answered ROLLBACK"):
            backend.commit(driver)


def test_a_connection_that_was_cut_comes_back(
    postgres_database: Database, postgres_copy: str
) -> None:
    write(postgres_database, lambda tx: set_mark(tx, "before", "x"))
    read(postgres_database, lambda tx: setting(tx, "server_version"))
    with psycopg.connect(postgres_copy, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'clipmeter' AND datname = current_database()"
        )
    with pytest.raises(LedgerUnavailable):
        write(postgres_database, lambda tx: set_mark(tx, "during", "x"))
    with pytest.raises(LedgerUnavailable):
        read(postgres_database, lambda tx: setting(tx, "server_version"))
    write(postgres_database, lambda tx: set_mark(tx, "after", "x"))
    assert rows_of(postgres_database, "SELECT key FROM installation ORDER BY key") == [
        ("after",),
        ("before",),
    ]


def test_the_writers_lock_is_waited_for_only_so_long(postgres_copy: str) -> None:
    database = Database.open(postgres_copy, bounds=Bounds(busy_seconds_max=0.05))
    try:
        with psycopg.connect(postgres_copy) as other:
            other.execute("SELECT pg_advisory_xact_lock(%s)", (WRITER_LOCK,))
            with pytest.raises(LedgerUnavailable, match="lock timeout"):
                write(database, lambda tx: set_mark(tx, "key", "value"))
        write(database, lambda tx: set_mark(tx, "key", "value"))
    finally:
        database.close()


def test_a_server_that_would_lose_commits_is_told_not_to(postgres_own: str) -> None:
    name = postgres_own.rpartition("/")[2]
    with psycopg.connect(postgres_own, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    database = Database.open(postgres_own)
    try:
        assert write(database, lambda tx: setting(tx, "synchronous_commit")) == "on"
    finally:
        database.close()


def test_a_server_that_only_reads_is_refused(postgres_own: str) -> None:
    name = postgres_own.rpartition("/")[2]
    with psycopg.connect(postgres_own, autocommit=True) as other:
        other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only TO on")
    with pytest.raises(DatabaseUnfit, match="only reads"):
        Database.open(postgres_own)


def test_every_wait_in_the_server_has_a_limit(postgres_copy: str) -> None:
    bounds = Bounds(statement_seconds_max=7, busy_seconds_max=3, read_seconds_max=9)
    database = Database.open(postgres_copy, bounds=bounds)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    try:
        writer = write(database, lambda tx: [setting(tx, name) for name in names])
        reader = read(database, lambda tx: [setting(tx, name) for name in names])
    finally:
        database.close()
    assert writer == ["7s", "3s", "7s"]
    assert reader == ["9s", "3s", "7s"]


IMPATIENT = Bounds(
    connect_seconds_max=2,
    statement_seconds_max=0.3,
    read_seconds_max=0.3,
    answer_slack_seconds=0.3,
    close_seconds_max=0.3,
    readers_max=1,
)


@pytest.fixture
def way(postgres_copy: str) -> Iterator[Way]:
    """A way to the furnished database that can be silenced."""
    with stalling(postgres_copy) as opened:
        yield opened


@contextmanager
def opened(way: Way) -> Iterator[Database]:
    database = Database.open(way.url, bounds=IMPATIENT)
    try:
        write(database, lambda tx: set_mark(tx, "before", "x"))
        yield database
    finally:
        database.close()


def in_time(seconds: float, fn: Callable[[], object]) -> list[BaseException]:
    """What `fn` raised, in a thread of its own, which must end in time."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            fn()
        except LedgerUnavailable as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it waits for ever"
    return raised


def test_a_server_that_falls_silent_is_given_up_and_nothing_is_kept(way: Way) -> None:
    with opened(way) as database:

        def fall_silent(tx: Connection) -> None:
            way.silent = True
            set_mark(tx, "during", "x")

        (error,) = in_time(5, lambda: write(database, fall_silent))
        assert isinstance(error, LedgerUnavailable)
        assert "said nothing for 0.6 s" in str(error)
        assert not error.maybe_committed
        way.recover()
        write(database, lambda tx: set_mark(tx, "after", "x"))
        assert rows_of(database, "SELECT key FROM installation ORDER BY key") == [
            ("after",),
            ("before",),
        ]


def test_a_commit_that_is_not_answered_may_have_been_made(way: Way) -> None:
    with opened(way) as database:
        way.silent_from = b"COMMIT"
        (error,) = in_time(5, lambda: write(database, lambda tx: set_mark(tx, "during", "x")))
        assert isinstance(error, LedgerUnavailable)
        assert error.maybe_committed
        way.recover()
        assert rows_of(database, "SELECT key FROM installation ORDER BY key") == [
            ("before",),
            ("during",),
        ]


def test_a_reader_that_hears_nothing_is_given_up_and_comes_back(way: Way) -> None:
    with opened(way) as database:
        assert read(database, lambda tx: setting(tx, "TimeZone")) == "UTC"
        way.silent = True
        for _ in range(2):
            assert len(in_time(5, lambda: read(database, lambda tx: setting(tx, "TimeZone")))) == 1
        way.recover()
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while in_time(5, lambda: read(database, lambda tx: setting(tx, "TimeZone"))):
            assert time.monotonic() < deadline


def test_a_statement_that_takes_its_time_is_waited_for(postgres_copy: str) -> None:
    bounds = Bounds(statement_seconds_max=5, answer_slack_seconds=0)
    database = Database.open(postgres_copy, bounds=bounds)
    try:
        write(database, lambda tx: tx.execute(text("SELECT pg_sleep(0.7)")))
        assert database.commits == 1
    finally:
        database.close()


def test_closing_waits_for_a_silent_server_only_so_long(way: Way) -> None:
    database = Database.open(way.url, bounds=Bounds(close_seconds_max=0.3, statement_seconds_max=2))
    entered = threading.Event()

    def fall_silent(tx: Connection) -> None:
        way.silent = True
        entered.set()
        set_mark(tx, "during", "x")

    thread = threading.Thread(target=in_time, args=(20, lambda: write(database, fall_silent)))
    thread.start()
    assert entered.wait(WAIT_SECONDS_MAX)
    began = time.monotonic()
    database.close()
    assert time.monotonic() - began < 1.5
    way.close()
    thread.join(WAIT_SECONDS_MAX)
    assert not thread.is_alive()


def test_the_kernel_looks_for_a_peer_that_vanished_unless_the_address_says_how(
    postgres_copy: str,
) -> None:
    for query, idle in (("", "10"), ("?keepalives_idle=77", "77")):
        database = Database.open(f"{postgres_copy}{query}")
        try:
            named = write(database, lambda tx: driver_of(tx).info.get_parameters())
        finally:
            database.close()
        assert named["keepalives_idle"] == idle
        assert named["tcp_user_timeout"] == "15000"
