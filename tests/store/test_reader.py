"""Reads see one unchanging state, cannot write, and wait only so long."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from proxy.store.database import Bounds, Database, LedgerUnavailable
from proxy.store.processes import read_mark, set_mark
from tests.store.asks import count_of, read

WAIT_SECONDS_MAX = 10.0


def test_a_read_cannot_write(database: Database) -> None:
    with pytest.raises((DBAPIError, LedgerUnavailable), match=r"read-?only"):
        read(database, lambda tx: set_mark(tx, "key", "value"))
    assert count_of(database, "installation") == 0


def test_a_read_sees_one_state_while_others_write(database: Database) -> None:
    looked, written = threading.Event(), threading.Event()

    def look_twice(tx: Connection) -> list[str | None]:
        first = read_mark(tx, "key")
        looked.set()
        assert written.wait(WAIT_SECONDS_MAX)
        return [first, read_mark(tx, "key")]

    async def both() -> list[str | None]:
        reading = asyncio.create_task(database.read(look_twice))
        assert await asyncio.to_thread(looked.wait, WAIT_SECONDS_MAX)
        await database.write(lambda tx: set_mark(tx, "key", "value"))
        written.set()
        return await reading

    assert asyncio.run(both()) == [None, None]
    assert read(database, lambda tx: read_mark(tx, "key")) == "value"


def test_what_a_read_raises_is_its_callers(database: Database) -> None:
    def fail(_tx: Connection) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        read(database, fail)
    with pytest.raises(DBAPIError):
        read(database, lambda tx: tx.execute(text("SELECT no_such_column FROM flights")))
    with pytest.raises((DBAPIError, UnicodeEncodeError)):
        read(database, lambda tx: read_mark(tx, "a\ud800b"))
    assert count_of(database, "flights") == 3


def test_a_zero_byte_in_what_is_looked_for_is_the_callers_own_trouble(
    postgres_database: Database,
) -> None:
    with pytest.raises(DBAPIError, match="NUL"):
        read(postgres_database, lambda tx: read_mark(tx, "a\0b"))


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(waiting_reads_max=1), "1 reads are waiting already"),
        (Bounds(readers_max=1, read_seconds_max=0.05), r"longer than 0\.05 s"),
    ],
    ids=["in number", "in time"],
)
def test_waiting_reads_have_a_limit(url: str, bounds: Bounds, words: str) -> None:
    database = Database.open(url, bounds=bounds)
    entered, free = threading.Event(), threading.Event()

    def hold(_tx: Connection) -> None:
        entered.set()
        assert free.wait(WAIT_SECONDS_MAX)

    async def crowd() -> None:
        holding = asyncio.create_task(database.read(hold))
        assert await asyncio.to_thread(entered.wait, WAIT_SECONDS_MAX)
        with pytest.raises(LedgerUnavailable, match=words):
            await database.read(lambda tx: read_mark(tx, "key"))
        free.set()
        await asyncio.gather(holding, return_exceptions=True)

    try:
        asyncio.run(crowd())
    finally:
        database.close()
