"""Processes give signs of life, and the installation keeps its marks."""

from __future__ import annotations

from datetime import timedelta

from proxy.store.database import Database
from proxy.store.processes import beat, forget_processes, read_mark, set_mark
from proxy.store.tables import PROCESSES
from tests.store.asks import NOW, read, write

LATER = NOW + timedelta(minutes=1)


def seen(database: Database) -> dict[str, tuple[object, object]]:
    rows = read(database, lambda tx: tx.execute(PROCESSES.select()).all())
    return {row[0]: (row[1], row[2]) for row in rows}


def test_the_first_sign_is_the_start_and_each_one_is_the_latest(database: Database) -> None:
    write(database, lambda tx: beat(tx, "process_one", NOW))
    write(database, lambda tx: beat(tx, "process_one", LATER))
    assert seen(database) == {"process_one": (NOW, LATER)}


def test_processes_long_dead_are_forgotten(database: Database) -> None:
    write(database, lambda tx: beat(tx, "process_one", NOW))
    write(database, lambda tx: beat(tx, "process_two", LATER))
    assert write(database, lambda tx: forget_processes(tx, LATER)) == 1
    assert set(seen(database)) == {"process_two"}


def test_a_mark_is_what_it_was_last_set_to(database: Database) -> None:
    assert read(database, lambda tx: read_mark(tx, "sandbox")) is None
    write(database, lambda tx: set_mark(tx, "sandbox", "no"))
    write(database, lambda tx: set_mark(tx, "sandbox", "yes"))
    assert read(database, lambda tx: read_mark(tx, "sandbox")) == "yes"
