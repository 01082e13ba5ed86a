"""Times keep their microseconds, sort as they passed, and are never without a zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import StatementError

from proxy.store.database import Database
from proxy.store.moments import utc_day, utc_month
from proxy.store.tables import PROCESSES
from tests.store.asks import NOW, rows_of, write

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR_EAST = timezone(timedelta(hours=9))

moments = st.builds(
    lambda micros, zone: (EPOCH + timedelta(microseconds=micros)).astimezone(zone),
    st.integers(0, 230 * 365 * 86_400 * 1_000_000),
    st.sampled_from([UTC, FAR_EAST]),
)


def put_and_take(tx: Connection, times: list[datetime]) -> list[tuple[datetime, str, str]]:
    tx.execute(delete(PROCESSES))
    rows = [{"id": f"{n}", "started_at": at, "seen_at": at} for n, at in enumerate(times)]
    tx.execute(insert(PROCESSES), rows)
    seen = PROCESSES.c.seen_at
    rows_back = tx.execute(select(seen, utc_day(seen), utc_month(seen)).order_by(seen))
    return [(row[0], row[1], row[2]) for row in rows_back]


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(times=st.lists(moments, min_size=1, max_size=20))
def test_times_come_back_as_they_were_in_order_and_in_utc(
    database: Database, times: list[datetime]
) -> None:
    back = write(database, lambda tx: put_and_take(tx, times))
    in_utc = [at.astimezone(UTC) for at in sorted(times)]
    assert back == [(at, f"{at:%Y-%m-%d}", f"{at:%Y-%m}") for at in in_utc]
    assert all(at.tzinfo is UTC for at, _, _ in back)


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        write(database, lambda tx: put_and_take(tx, [NOW.replace(tzinfo=None)]))


def test_sqlite_keeps_a_time_as_text_a_person_can_read(sqlite_database: Database) -> None:
    write(sqlite_database, lambda tx: put_and_take(tx, [NOW])[0][1])
    assert rows_of(sqlite_database, "SELECT seen_at FROM processes") == [
        ("2026-11-22 12:00:30.123456",)
    ]
