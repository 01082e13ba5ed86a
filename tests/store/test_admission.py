"""Admission writes the intent and its holds within every limit, or changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from proxy.core.budget import Limit, OverLimit
from proxy.core.keys import Role
from proxy.store.admission import Admission, Admitted, KeyGone, Outcome, admit
from proxy.store.audit import verify
from proxy.store.database import Database, LedgerUnavailable
from proxy.store.keys import NewKey, add_key, revoke_key
from proxy.store.tenants import Terms, disable_tenant, set_tenant
from tests.store.asks import (
    MICROS,
    MONTH,
    NOW,
    RIVAL,
    TEAM,
    VERSION,
    ask,
    budget_of,
    count_of,
    entries_of,
    everything,
    in_flight,
    let_in,
    read,
    rows_of,
    write,
)

REQUESTS = 200
ALLOWED = 37

TERMS: dict[Limit, Terms] = {
    Limit.CLIPS_PER_MONTH: {"clips_per_month": ALLOWED},
    # Half a clip more than is allowed in all: the edge is not a multiple of the price.
    Limit.USD_PER_MONTH: {"micros_per_month": ALLOWED * MICROS + MICROS // 2},
    Limit.CLIPS_IN_FLIGHT: {"clips_in_flight": ALLOWED},
    Limit.REQUESTS_PER_MINUTE: {"requests_per_minute": ALLOWED},
    Limit.VENDOR_CLIPS_IN_FLIGHT: {},
}

NOTHING: dict[Limit, Terms] = {
    Limit.CLIPS_PER_MONTH: {"clips_per_month": 0},
    Limit.USD_PER_MONTH: {"micros_per_month": 0},
    Limit.CLIPS_IN_FLIGHT: {"clips_in_flight": 0},
    Limit.REQUESTS_PER_MINUTE: {"requests_per_minute": 0},
    Limit.VENDOR_CLIPS_IN_FLIGHT: {},
}


def vendor_limit(limit: Limit) -> int | None:
    return ALLOWED if limit is Limit.VENDOR_CLIPS_IN_FLIGHT else None


@pytest.mark.parametrize("limit", Limit)
def test_a_limit_is_exact_under_200_concurrent_requests(database: Database, limit: Limit) -> None:
    write(database, lambda tx: set_tenant(tx, "team", **TERMS[limit]))
    asks = [ask(n, vendor_clips_in_flight=vendor_limit(limit)) for n in range(REQUESTS)]
    outcomes = admit_at_once(database, asks)
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Admitted)]
    refused = [outcome for outcome in outcomes if isinstance(outcome, OverLimit)]
    assert len(admitted) == ALLOWED
    assert {refusal.limit for refusal in refused} == {limit}
    assert len(refused) == REQUESTS - ALLOWED
    assert budget_of(database) == (ALLOWED, ALLOWED * MICROS)
    assert in_flight(database) == in_flight(database, TEAM) == ALLOWED
    assert read(database, verify) == []


@pytest.mark.parametrize("limit", [Limit.CLIPS_PER_MONTH, Limit.VENDOR_CLIPS_IN_FLIGHT])
def test_requests_for_several_clips_are_let_in_whole_or_not_at_all(
    database: Database, limit: Limit
) -> None:
    write(database, lambda tx: set_tenant(tx, "team", **TERMS[limit]))
    asks = [ask(n, 4, vendor_clips_in_flight=vendor_limit(limit)) for n in range(REQUESTS)]
    outcomes = admit_at_once(database, asks)
    assert sum(isinstance(outcome, Admitted) for outcome in outcomes) == ALLOWED // 4
    assert count_of(database, "clips") == ALLOWED // 4 * 4


def test_sixteen_servers_let_five_clips_through_a_budget_of_five(url: str) -> None:
    servers = [Database.open(url) for _ in range(16)]
    try:
        write(servers[0], lambda tx: set_tenant(tx, "team", clips_per_month=5))
        for month in range(1, 4):  # each month's budget is a race of its own
            assert race(servers, month) == {"admitted": 5, Limit.CLIPS_PER_MONTH: 11}
    finally:
        for server in servers:
            server.close()


def race(servers: list[Database], month: int) -> Counter[str]:
    """Sixteen threads, a server each, ask at the same moment; what each was told."""
    together = threading.Barrier(len(servers))
    now = NOW.replace(month=month)

    def one(number: int) -> str:
        wanted = ask(100 * month + number, now=now)
        together.wait()
        try:
            outcome = write(servers[number], lambda tx: admit(tx, wanted))
        except LedgerUnavailable as error:
            return f"unavailable: {error}"
        return outcome.limit if isinstance(outcome, OverLimit) else "admitted"

    with ThreadPoolExecutor(len(servers)) as threads:
        return Counter(threads.map(one, range(len(servers))))


def test_a_write_holds_the_write_lock_before_its_first_read(sqlite_copy: str) -> None:
    """What a limit's check is about to read must not change under it."""

    def try_to_write(_tx: Connection) -> str:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        return "nobody else can write"

    other = sqlite3.connect(
        sqlite_copy.removeprefix("sqlite:///"), timeout=0, check_same_thread=False
    )
    database = Database.open(sqlite_copy)
    try:
        assert write(database, try_to_write) == "nobody else can write"
    finally:
        database.close()
        other.close()


def test_a_deferred_begin_is_caught_by_the_same_question(sqlite_copy: str) -> None:
    """The test above can fail: with a plain BEGIN, somebody else may write."""

    def try_to_write(_tx: Connection) -> None:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")

    other = sqlite3.connect(
        sqlite_copy.removeprefix("sqlite:///"), timeout=0, check_same_thread=False
    )
    database = Database.open(sqlite_copy, begin="BEGIN")
    try:
        write(database, try_to_write)
        assert not other.in_transaction
    finally:
        database.close()
        other.close()


def test_an_admission_writes_the_intent_its_clips_holds_and_first_attempt(
    database: Database,
) -> None:
    let_in(database, 1, 3)
    assert rows_of(database, "SELECT id, clips, attempts, month, gateway FROM generations") == [
        ("gen_1", 3, 1, MONTH, None)
    ]
    assert rows_of(
        database, "SELECT id, position, state, price_micros, price_version FROM clips ORDER BY id"
    ) == [(f"video_1_{n}", n, "accepted", MICROS, VERSION) for n in range(3)]
    assert rows_of(database, "SELECT number, gateway, outcome FROM attempts") == [
        (1, "api", "dispatching")
    ]
    assert entries_of(database, "video_1_2") == {"hold": MICROS}


def test_an_admission_tells_what_was_used_before_it(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", clips_per_month=9))
    let_in(database, 1, 2)
    outcome = write(database, lambda tx: admit(tx, ask(2)))
    assert isinstance(outcome, Admitted)
    assert outcome.limits.clips_per_month == 9
    assert (outcome.used.clips_month, outcome.used.micros_month) == (2, 2 * MICROS)


def revoked(tx: Connection) -> object:
    return revoke_key(tx, "key_team", NOW)


def expired(tx: Connection) -> object:
    key = NewKey("key_short", "digest-short", "…", Role.TENANT, "team", expires_at=NOW)
    return add_key(tx, key, NOW - timedelta(days=1))


def disabled(tx: Connection) -> object:
    return disable_tenant(tx, "team", NOW)


@pytest.mark.parametrize(
    ("change", "key_id"),
    [
        (revoked, "key_team"),
        (expired, "key_short"),
        (disabled, "key_team"),
        (lambda _tx: None, "key_rival"),
        (lambda _tx: None, "key_that_never_was"),
    ],
    ids=["revoked", "expired", "disabled", "another tenant's", "unknown"],
)
def test_a_key_that_is_gone_is_refused_in_the_admission_itself(
    database: Database, change: Any, key_id: str
) -> None:
    write(database, change)
    before = everything(database)
    assert write(database, lambda tx: admit(tx, ask(1, key_id=key_id))) == KeyGone()
    assert everything(database) == before


@pytest.mark.parametrize("limit", Limit)
def test_a_refusal_changes_nothing(database: Database, limit: Limit) -> None:
    write(database, lambda tx: set_tenant(tx, "team", **NOTHING[limit]))
    vendor = 0 if limit is Limit.VENDOR_CLIPS_IN_FLIGHT else None
    before = everything(database)
    outcome = write(database, lambda tx: admit(tx, ask(1, vendor_clips_in_flight=vendor)))
    assert isinstance(outcome, OverLimit)
    assert outcome.limit is limit
    assert everything(database) == before


def test_a_hold_counts_in_the_month_of_its_acceptance(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", clips_per_month=1))
    november = NOW.replace(day=30, hour=23, minute=59, second=59, microsecond=999_999)
    let_in(database, 1, now=november)
    refused = write(database, lambda tx: admit(tx, ask(2, now=november)))
    let_in(database, 3, now=november + timedelta(microseconds=1))
    assert isinstance(refused, OverLimit)
    assert budget_of(database, month="2026-11") == (1, MICROS)
    assert budget_of(database, month="2026-12") == (1, MICROS)


def test_requests_a_minute_begin_anew_with_the_minute(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", requests_per_minute=1))
    let_in(database, 1)
    outcome = write(database, lambda tx: admit(tx, ask(2)))
    assert isinstance(outcome, OverLimit)
    assert outcome.retry_after_seconds == 30
    let_in(database, 3, now=NOW + timedelta(seconds=30))


def test_a_clock_that_lags_opens_no_second_minute(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", requests_per_minute=1))
    let_in(database, 1, now=NOW + timedelta(minutes=1))
    outcome = write(database, lambda tx: admit(tx, ask(2, now=NOW)))
    assert isinstance(outcome, OverLimit)


def test_the_vendor_limit_is_shared_by_all_tenants(database: Database) -> None:
    let_in(database, 1, vendor_clips_in_flight=2)
    let_in(database, 2, tenant_id=RIVAL, vendor_clips_in_flight=2)
    outcome = write(database, lambda tx: admit(tx, ask(3, vendor_clips_in_flight=2)))
    assert isinstance(outcome, OverLimit)
    assert outcome.limit is Limit.VENDOR_CLIPS_IN_FLIGHT


def test_one_tenants_budget_is_not_anothers(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", clips_per_month=1))
    let_in(database, 1)
    let_in(database, 2, 4, tenant_id=RIVAL)
    assert budget_of(database) == (1, MICROS)
    assert budget_of(database, RIVAL) == (4, 4 * MICROS)


def admit_at_once(database: Database, asks: list[Admission]) -> list[Outcome]:
    async def one(wanted: Admission) -> Outcome:
        return await database.write(lambda tx: admit(tx, wanted))

    async def all_of_them() -> list[Outcome]:
        return await asyncio.gather(*(one(wanted) for wanted in asks))

    return asyncio.run(all_of_them())
