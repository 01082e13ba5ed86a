"""Prepared statements do what SQLAlchemy would do, on the driver itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, bindparam, insert, or_, select, update

from proxy.store.database import Database
from proxy.store.prepared import Prepared, set_to, together
from proxy.store.tables import FLIGHTS, PROCESSES
from tests.store.asks import NOW, RIVAL, TEAM, read, write

LATER = NOW + timedelta(minutes=1)

ADD = Prepared(insert(PROCESSES))
FIND = Prepared(
    select(PROCESSES.c.id, PROCESSES.c.seen_at).where(PROCESSES.c.id == bindparam("wanted"))
)
SEE = Prepared(
    update(PROCESSES).where(PROCESSES.c.id == bindparam("wanted")).values(set_to("seen_at"))
)
COUNT = Prepared(
    update(FLIGHTS)
    .where(or_(FLIGHTS.c.scope == TEAM, FLIGHTS.c.scope == RIVAL), FLIGHTS.c.clips == 0)
    .values(clips=FLIGHTS.c.clips + bindparam("more"))
)


def process(name: str) -> dict[str, Any]:
    return {"id": name, "started_at": NOW, "seen_at": NOW}


def test_what_is_inserted_is_found_with_its_types(database: Database) -> None:
    write(database, lambda tx: ADD.run(tx, process("one")))
    write(database, lambda tx: ADD.run_each(tx, [process("two"), process("three")]))
    write(database, lambda tx: SEE.run(tx, {"wanted": "two", "new_seen_at": LATER}))
    assert read(database, lambda tx: FIND.one(tx, {"wanted": "one"})) == ["one", NOW]
    assert read(database, lambda tx: FIND.one(tx, {"wanted": "two"})) == ["two", LATER]
    assert read(database, lambda tx: FIND.one(tx, {"wanted": "four"})) is None


def test_values_that_stand_in_the_statement_need_not_be_given(database: Database) -> None:
    write(database, lambda tx: COUNT.run(tx, {"more": 2}))
    write(database, lambda tx: COUNT.run(tx, {"more": 5}))
    rows = read(database, lambda tx: tx.execute(select(FLIGHTS).order_by(FLIGHTS.c.scope)).all())
    assert [tuple(row) for row in rows] == [(RIVAL, 2), (TEAM, 2), ("vendor", 0)]


def test_a_missing_value_is_an_error_and_not_a_null(database: Database) -> None:
    with pytest.raises(KeyError, match="seen_at"):
        write(database, lambda tx: ADD.run(tx, {"id": "one", "started_at": NOW}))


def test_statements_together_all_happen(database: Database) -> None:
    def both(tx: Connection) -> None:
        with together(tx):
            ADD.run(tx, process("one"))
            ADD.run_each(tx, [process("two"), process("three")])
            SEE.run(tx, {"wanted": "three", "new_seen_at": LATER})

    write(database, both)
    assert read(database, lambda tx: FIND.one(tx, {"wanted": "one"})) == ["one", NOW]
    assert read(database, lambda tx: FIND.one(tx, {"wanted": "three"})) == ["three", LATER]


def test_what_goes_wrong_with_statements_together_is_told(postgres_database: Database) -> None:
    def twice(tx: Connection) -> None:
        with together(tx):
            ADD.run(tx, process("one"))
            ADD.run(tx, process("one"))
            ADD.run(tx, process("two"))

    with pytest.raises(psycopg.errors.UniqueViolation):
        write(postgres_database, twice)
    assert read(postgres_database, lambda tx: FIND.one(tx, {"wanted": "one"})) is None
