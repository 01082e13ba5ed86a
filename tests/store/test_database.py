"""Writes share commits, fail alone or together, and are never half done or half told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from proxy.store.backend import driver_of
from proxy.store.database import Bounds, Database, DatabaseUnfit, LedgerUnavailable
from proxy.store.processes import read_mark, set_mark
from tests.store.asks import count_of, read, write

WAIT_SECONDS_MAX = 10.0


class Gate:
    """A write that holds the writer until it is opened, so that others queue up behind it."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._opened = threading.Event()

    def write(self, _tx: Connection) -> str:
        self.entered.set()
        assert self._opened.wait(WAIT_SECONDS_MAX)
        return "through"

    def open(self) -> None:
        self._opened.set()

    async def wait_until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, WAIT_SECONDS_MAX)


def mark(key: str) -> Callable[[Connection], str]:
    def write_it(tx: Connection) -> str:
        set_mark(tx, key, "set")
        return key

    return write_it


def marked(database: Database, key: str) -> bool:
    return read(database, lambda tx: read_mark(tx, key)) is not None


async def behind_a_gate(database: Database, *fns: Callable[[Connection], Any]) -> list[Any]:
    """Run `fns` in one batch: all are queued before the writer comes to the first."""
    gate = Gate()
    first = asyncio.create_task(database.write(gate.write))
    await gate.wait_until_entered()
    others = [asyncio.create_task(database.write(fn)) for fn in fns]
    await asyncio.sleep(0)  # each task runs up to its place in the queue
    gate.open()
    assert await first == "through"
    return await asyncio.gather(*others, return_exceptions=True)


def test_writes_that_wait_together_share_one_commit(database: Database) -> None:
    before = database.commits
    keys = [f"key {n}" for n in range(200)]
    assert asyncio.run(behind_a_gate(database, *map(mark, keys))) == keys
    assert database.commits - before == 2  # the gate's own, and one for all the others
    assert count_of(database, "installation") == 200


def test_a_batch_has_a_limit(url: str) -> None:
    database = Database.open(url, bounds=Bounds(batch_writes_max=10))
    try:
        asyncio.run(behind_a_gate(database, *(mark(f"key {n}") for n in range(30))))
        assert database.commits == 1 + 3
    finally:
        database.close()


def raises(error: BaseException) -> Callable[[Connection], None]:
    def write_and_raise(tx: Connection) -> None:
        set_mark(tx, "left by the failed write", "set")
        raise error

    return write_and_raise


def breaks_a_constraint(tx: Connection) -> None:
    set_mark(tx, "left by the failed write", "set")
    tx.execute(text("INSERT INTO flights (scope, clips) VALUES ('vendor', 0)"))


def says_nonsense(tx: Connection) -> None:
    set_mark(tx, "left by the failed write", "set")
    tx.execute(text("SELECT no_such_column FROM flights"))


@pytest.mark.parametrize(
    ("fails", "error"),
    [
        (raises(LookupError("mine")), LookupError),
        (raises(StopIteration()), RuntimeError),
        (breaks_a_constraint, IntegrityError),
        (says_nonsense, DBAPIError),
    ],
    ids=["any error", "a stop", "a constraint", "a wrong statement"],
)
def test_a_failing_write_rolls_back_alone(
    database: Database, fails: Callable[[Connection], None], error: type[BaseException]
) -> None:
    outcomes = asyncio.run(behind_a_gate(database, mark("one"), fails, mark("other")))
    assert [outcomes[0], outcomes[2]] == ["one", "other"]
    assert isinstance(outcomes[1], error)
    assert marked(database, "one")
    assert marked(database, "other")
    assert not marked(database, "left by the failed write")


def writes(value: Any) -> Callable[[Connection], None]:
    def write_it(tx: Connection) -> None:
        set_mark(tx, "left by the failed write", "set")
        set_mark(tx, "key", value)

    return write_it


UNWRITABLE = {
    "half a surrogate pair": "a\ud800b",
    "no value at all": object(),
}


@pytest.mark.parametrize("value", UNWRITABLE.values(), ids=UNWRITABLE)
def test_a_value_that_cannot_be_written_fails_its_own_write_and_no_other(
    database: Database, value: Any
) -> None:
    expect_the_others_written(database, writes(value))


def test_a_zero_byte_in_a_text_fails_its_own_write_and_no_other(
    postgres_database: Database,
) -> None:
    """PostgreSQL takes none, and psycopg says so without an SQLSTATE."""
    expect_the_others_written(postgres_database, writes("a\0b"))


def expect_the_others_written(database: Database, fails: Callable[[Connection], None]) -> None:
    held: list[object] = []

    def remember(tx: Connection) -> None:
        held.append(driver_of(tx))

    batch = (remember, mark("one"), fails, mark("other"), remember)
    outcomes = asyncio.run(behind_a_gate(database, *batch))
    assert isinstance(outcomes[2], Exception)
    assert not isinstance(outcomes[2], LedgerUnavailable)
    assert [outcomes[1], outcomes[3]] == ["one", "other"]
    assert marked(database, "one")
    assert marked(database, "other")
    assert not marked(database, "left by the failed write")
    write(database, remember)
    assert len(set(map(id, held))) == 1, "the connection was thrown away"


def fails_at_the_commit(tx: Connection) -> None:
    """Break a constraint that is only looked at when the transaction ends."""
    if tx.dialect.name == "sqlite":
        tx.execute(text("PRAGMA defer_foreign_keys = ON"))
        tx.execute(text("INSERT INTO budgets VALUES ('nobody', '2026-11', 0, 0)"))
    else:
        tx.execute(text("CREATE TEMP TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        tx.execute(text("INSERT INTO late VALUES (1), (1)"))


def test_a_commit_that_fails_fails_every_write_in_it(database: Database) -> None:
    batch = (mark("one"), fails_at_the_commit, mark("other"))
    outcomes = asyncio.run(behind_a_gate(database, *batch))
    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 3
    assert not any(outcome.maybe_committed for outcome in outcomes)
    assert not marked(database, "one")
    assert write(database, mark("next")) == "next"


def test_a_database_that_fails_in_the_middle_fails_every_write_and_recovers(
    database: Database,
) -> None:
    def lose_the_connection(tx: Connection) -> None:
        if tx.dialect.name == "sqlite":
            driver_of(tx).execute("ROLLBACK")  # as SQLite does by itself when the disk is full
            raise LookupError
        tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    outcomes = asyncio.run(behind_a_gate(database, mark("one"), lose_the_connection))
    assert [type(outcome) for outcome in outcomes] == [LedgerUnavailable] * 2
    assert not marked(database, "one")
    assert write(database, mark("next")) == "next"


class Unwell(Exception):
    """What no database raises."""


def test_whatever_goes_wrong_in_the_writer_is_told_and_does_not_end_it(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = sqlite_database.backend

    def refuse(_driver: object) -> None:
        raise Unwell("the disk is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "commit", refuse)
        with pytest.raises(LedgerUnavailable, match="the disk is on fire"):
            asyncio.run(asyncio.wait_for(sqlite_database.write(mark("one")), WAIT_SECONDS_MAX))
    assert write(sqlite_database, mark("other")) == "other"
    assert not marked(sqlite_database, "one")


def test_a_caller_who_is_cancelled_takes_nothing_back(database: Database) -> None:
    async def leave() -> None:
        gate = Gate()
        holding = asyncio.create_task(database.write(gate.write))
        await gate.wait_until_entered()
        leaving = asyncio.create_task(database.write(mark("left behind")))
        await asyncio.sleep(0)
        leaving.cancel()
        holding.cancel()
        gate.open()
        await asyncio.gather(leaving, holding, return_exceptions=True)
        await database.write(mark("after"))

    asyncio.run(leave())
    assert marked(database, "left behind")


def test_a_write_that_gets_no_turn_in_time_never_runs(url: str) -> None:
    database = Database.open(url, bounds=Bounds(wait_seconds_max=0.05))

    async def wait_in_vain() -> None:
        gate = Gate()
        begun = asyncio.create_task(database.write(gate.write))
        await gate.wait_until_entered()
        with pytest.raises(LedgerUnavailable, match=r"no turn to write in 0\.05 s"):
            await database.write(mark("too late"))
        assert not begun.done()  # what has begun is awaited, however long it takes
        gate.open()
        assert await begun == "through"

    try:
        asyncio.run(wait_in_vain())
        write(database, mark("after"))
        assert not marked(database, "too late")
    finally:
        database.close()


def test_only_so_many_writes_may_wait(url: str) -> None:
    database = Database.open(url, bounds=Bounds(waiting_writes_max=2))

    async def crowd() -> None:
        gate = Gate()
        tasks = [asyncio.create_task(database.write(gate.write))]
        await gate.wait_until_entered()
        tasks += [asyncio.create_task(database.write(mark(f"key {n}"))) for n in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(LedgerUnavailable, match="2 writes are waiting already"):
            await database.write(mark("one too many"))
        gate.open()
        await asyncio.gather(*tasks)

    try:
        asyncio.run(crowd())
        assert count_of(database, "installation") == 2
    finally:
        database.close()


def test_closing_writes_what_waits_and_takes_no_more(url: str) -> None:
    database = Database.open(url)

    async def close_in_the_middle() -> list[str]:
        tasks = [asyncio.create_task(database.write(mark(f"key {n}"))) for n in range(50)]
        await asyncio.sleep(0)
        database.close()
        with pytest.raises(LedgerUnavailable, match="closed"):
            await database.write(mark("too late"))
        return await asyncio.gather(*tasks)

    assert len(asyncio.run(close_in_the_middle())) == 50
    again = Database.open(url)
    try:
        assert count_of(again, "installation") == 50
    finally:
        again.close()


def test_callers_in_many_loops_are_each_answered_in_their_own(database: Database) -> None:
    answers: list[str] = []

    def one(number: int) -> None:
        answers.append(write(database, mark(f"key {number}")))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS_MAX)
    assert sorted(answers) == [f"key {number}" for number in range(8)]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("mysql://root@localhost/ledger", "mysql is not a database"),
        ("ledger.db", "not a URL"),
    ],
)
def test_a_database_that_cannot_keep_a_ledger_is_refused(address: str, words: str) -> None:
    with pytest.raises(DatabaseUnfit, match=words):
        Database.open(address)


@pytest.mark.parametrize(
    "address",
    ["sqlite:////nowhere/at/all/ledger.db", "postgresql://nobody@127.0.0.1:1/nothing"],
)
def test_a_database_that_does_not_answer_is_unavailable(address: str) -> None:
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        Database.open(address)
