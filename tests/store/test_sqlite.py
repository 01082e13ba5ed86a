"""On SQLite every connection that writes is fsynced, and a bad file fails whole."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import Connection, text

from proxy.store.backend import driver_of
from proxy.store.database import Bounds, Database, DatabaseUnfit, LedgerUnavailable
from proxy.store.processes import set_mark
from tests.store.asks import count_of, everything, read, rows_of, write


def pragma(tx: Connection, name: str) -> object:
    return tx.execute(text(f"PRAGMA {name}")).scalar()


def test_the_writer_waits_for_the_disk(sqlite_database: Database) -> None:
    assert write(sqlite_database, lambda tx: pragma(tx, "synchronous")) == 2
    assert write(sqlite_database, lambda tx: pragma(tx, "journal_mode")) == "wal"
    assert write(sqlite_database, lambda tx: pragma(tx, "foreign_keys")) == 1
    assert read(sqlite_database, lambda tx: pragma(tx, "foreign_keys")) == 1


def test_the_writer_makes_no_temporary_files(sqlite_database: Database) -> None:
    """They may lie on another disk, which is full or cannot be written."""
    in_memory = 2
    assert write(sqlite_database, lambda tx: pragma(tx, "temp_store")) == in_memory


def test_a_writer_that_had_to_connect_anew_waits_for_the_disk_too(
    sqlite_database: Database,
) -> None:
    def lose_the_transaction(tx: Connection) -> None:
        driver_of(tx).execute("ROLLBACK")

    first = write(sqlite_database, lambda tx: id(driver_of(tx)))
    with pytest.raises(LedgerUnavailable):
        write(sqlite_database, lose_the_transaction)
    assert write(sqlite_database, lambda tx: id(driver_of(tx))) != first
    assert write(sqlite_database, lambda tx: pragma(tx, "synchronous")) == 2


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_database_that_would_lose_commits_is_refused(sqlite_copy: str, synchronous: str) -> None:
    with pytest.raises(DatabaseUnfit, match=r"synchronous=[01]; a ledger needs wal and FULL"):
        Database.open(sqlite_copy, synchronous=synchronous)


def test_extra_care_is_welcome(sqlite_copy: str) -> None:
    database = Database.open(sqlite_copy, synchronous="EXTRA")
    assert write(database, lambda tx: pragma(tx, "synchronous")) == 3
    database.close()


def test_a_locked_file_is_unavailable_for_as_long_as_it_is_locked(sqlite_copy: str) -> None:
    other = sqlite3.connect(sqlite_copy.removeprefix("sqlite:///"))
    database = Database.open(sqlite_copy, bounds=Bounds(busy_seconds_max=0.05))
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            write(database, lambda tx: set_mark(tx, "key", "value"))
        other.rollback()
        write(database, lambda tx: set_mark(tx, "key", "value"))
        assert count_of(database, "installation") == 1
    finally:
        other.close()
        database.close()


def test_a_full_disk_is_unavailable_and_leaves_nothing_half_written(
    sqlite_database: Database,
) -> None:
    def fill(tx: Connection) -> None:
        pages = tx.execute(text("PRAGMA page_count")).scalar_one()
        tx.execute(text(f"PRAGMA max_page_count = {pages}"))
        set_mark(tx, "small", "x")
        set_mark(tx, "big", "x" * 1_000_000)

    before = everything(sqlite_database)
    with pytest.raises(LedgerUnavailable, match="full"):
        write(sqlite_database, fill)
    assert everything(sqlite_database) == before
    write(sqlite_database, lambda tx: set_mark(tx, "small", "x"))
    assert rows_of(sqlite_database, "PRAGMA integrity_check") == [("ok",)]
