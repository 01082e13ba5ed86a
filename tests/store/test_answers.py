"""Answers are kept byte for byte, for a while, for their own tenant, and never too many."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from proxy.core.replay import RETRY_WINDOW
from proxy.store import answers
from proxy.store.answers import (
    ROWS_AT_ONCE,
    Forgotten,
    KeptAnswer,
    answers_size,
    find_answer,
    forget_expired,
    keep_answer,
)
from proxy.store.database import Database
from proxy.store.videos import delete_video
from tests.store.asks import (
    NOW,
    RIVAL,
    TEAM,
    count_of,
    deliver,
    everything,
    let_in,
    many_jobs,
    read,
    rows_of,
    write,
)
from tests.store.plans import plans_of

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
HEADERS = [(b"content-type", b"text/event-stream"), (b"x-odd", "caf\u00e9".encode("latin-1"))]
ANSWER = KeptAnswer(200, HEADERS, bytes(range(256)) * 4)


def kept(
    database: Database,
    number: int,
    answer: KeptAnswer = ANSWER,
    now: datetime = NOW,
    expires_at: datetime = NOW + HOUR,
    bytes_max: int = 2_000,
) -> bool:
    generation_id = f"gen_{number}"
    return write(
        database, lambda tx: keep_answer(tx, generation_id, answer, now, expires_at, bytes_max)
    )


def found(
    database: Database, number: int = 1, tenant_id: str = TEAM, now: datetime = NOW
) -> KeptAnswer | None:
    return read(database, lambda tx: find_answer(tx, tenant_id, f"gen_{number}", now))


def test_an_answer_comes_back_byte_for_byte(database: Database) -> None:
    let_in(database, 1)
    assert kept(database, 1)
    assert found(database) == ANSWER


def test_an_empty_answer_is_an_answer(database: Database) -> None:
    let_in(database, 1)
    assert kept(database, 1, KeptAnswer(503, [], b""), bytes_max=0)
    assert found(database) == KeptAnswer(503, [], b"")


def test_the_first_answer_stands(database: Database) -> None:
    let_in(database, 1)
    kept(database, 1)
    before = everything(database)
    assert kept(database, 1, KeptAnswer(500, [], b"another"), NOW + HOUR)
    assert everything(database) == before


def test_what_is_larger_than_is_allowed_is_not_kept(database: Database) -> None:
    let_in(database, 1)
    size = len(ANSWER.body) + sum(len(name) + len(value) for name, value in HEADERS)
    assert ANSWER.size_bytes == size
    assert not kept(database, 1, bytes_max=size - 1)
    assert found(database) is None
    assert kept(database, 1, bytes_max=size)
    assert read(database, answers_size) == size


def test_an_answer_is_its_own_tenants_alone(database: Database) -> None:
    let_in(database, 1)
    kept(database, 1)
    assert found(database, tenant_id=RIVAL) is None
    assert found(database, 2) is None


def test_an_answer_expires(database: Database) -> None:
    let_in(database, 1)
    kept(database, 1)
    assert found(database, now=NOW + HOUR - SECOND) == ANSWER
    assert found(database, now=NOW + HOUR) is None


def test_an_answer_that_tells_of_a_deleted_clip_is_forgotten(database: Database) -> None:
    deliver(database, 1, clips=2)
    deliver(database, 2)
    for number in (1, 2):
        kept(database, number)
    write(database, lambda tx: delete_video(tx, TEAM, "video_1_1", NOW))
    assert found(database) is None
    assert found(database, 2) == ANSWER


def forgotten(database: Database, now: datetime, over_bytes: int = 0) -> Forgotten:
    return write(database, lambda tx: forget_expired(tx, now, over_bytes))


def left(database: Database) -> list[str]:
    return [row[0] for row in rows_of(database, "SELECT generation_id FROM answers ORDER BY 1")]


def test_what_is_over_is_forgotten_and_nothing_else(database: Database) -> None:
    for number in (1, 2):
        until = NOW + number * HOUR
        let_in(database, number, idempotency_key=f"key {number}", key_expires_at=until)
        kept(database, number, expires_at=NOW + number * HOUR)
        let_in(database, 10 + number, retry_count=1, now=NOW + number * HOUR)
    assert forgotten(database, NOW + HOUR - SECOND) == Forgotten()
    assert forgotten(database, NOW + HOUR) == Forgotten(keys=1, answers=1)
    assert forgotten(database, NOW + HOUR + RETRY_WINDOW) == Forgotten(joins=1)
    assert rows_of(database, "SELECT key FROM idempotency_keys") == [("key 2",)]
    assert left(database) == ["gen_2"]
    assert rows_of(database, "SELECT generation_id FROM joins") == [("gen_12",)]
    assert forgotten(database, NOW + 3 * HOUR) == Forgotten(1, 1, 1)
    assert count_of(database, "generations") == 4


def test_the_oldest_answers_make_room(database: Database) -> None:
    for number in (1, 2, 3):
        let_in(database, number)
    # The order of their ids, and of their expiries, is another one.
    kept(database, 3, now=NOW, expires_at=NOW + 9 * HOUR)
    kept(database, 1, now=NOW + SECOND)
    kept(database, 2, now=NOW + 2 * SECOND)
    over = read(database, answers_size) - 2 * ANSWER.size_bytes
    assert forgotten(database, NOW, over) == Forgotten(answers=1)
    assert left(database) == ["gen_1", "gen_2"]
    assert forgotten(database, NOW, over + 1) == Forgotten(answers=2)
    assert left(database) == []


def test_what_expired_counts_as_room(database: Database) -> None:
    for number in (1, 2):
        let_in(database, number)
    kept(database, 1, expires_at=NOW + 2 * HOUR)
    kept(database, 2, now=NOW + SECOND)
    assert forgotten(database, NOW + HOUR, ANSWER.size_bytes) == Forgotten(answers=1)
    assert left(database) == ["gen_1"]


def test_room_that_nothing_can_make_is_no_reason_to_go_on(database: Database) -> None:
    assert forgotten(database, NOW, 1_000) == Forgotten()


@pytest.mark.parametrize("over_bytes", [0, 10**9], ids=["expired", "too many"])
def test_only_so_many_go_at_once(sqlite_database: Database, over_bytes: int) -> None:
    count = 2 * ROWS_AT_ONCE + 1

    def keep_many(tx: Connection) -> None:
        many_jobs(tx, count, "process_one")
        expires_at = NOW + (HOUR if over_bytes else timedelta())
        for number in range(count):
            keep_answer(tx, f"gen_{number:06}", ANSWER, NOW, expires_at, 2_000)

    write(sqlite_database, keep_many)
    told = [forgotten(sqlite_database, NOW, over_bytes) for _ in range(4)]
    assert [(each.answers, each.more) for each in told] == [
        (ROWS_AT_ONCE, True),
        (ROWS_AT_ONCE, True),
        (1, False),
        (0, False),
    ]


@pytest.mark.parametrize("over_bytes", [0, 10**9], ids=["expired", "too many"])
def test_large_answers_go_a_few_at_a_time(sqlite_database: Database, over_bytes: int) -> None:
    size = answers.BYTES_AT_ONCE // 2 - 1
    for number in range(5):
        let_in(sqlite_database, number)
        one = KeptAnswer(200, [], bytes(size if number else 2 * size + 3))
        expires_at = NOW + (HOUR if over_bytes else timedelta())
        at = NOW + number * SECOND
        kept(sqlite_database, number, one, at, expires_at + number * SECOND, 10**9)
    now = NOW + 5 * SECOND
    told = [forgotten(sqlite_database, now, over_bytes) for _ in range(4)]
    assert [each.answers for each in told] == [1, 2, 2, 0]
    assert [each.more for each in told] == [True, True, False, False]


def test_keys_and_joins_go_a_few_at_a_time_too(sqlite_database: Database) -> None:
    def admit_many(tx: Connection) -> None:
        many_jobs(tx, ROWS_AT_ONCE + 1, "process_one")
        for number in range(ROWS_AT_ONCE + 1):
            one = f"gen_{number:06}"
            key = {"tenant": TEAM, "key": one, "generation": one, "at": str(NOW)[:26]}
            tx.execute(_KEY, key)
            tx.execute(_JOIN, key)

    write(sqlite_database, admit_many)
    later = NOW + RETRY_WINDOW
    assert forgotten(sqlite_database, later) == Forgotten(ROWS_AT_ONCE, ROWS_AT_ONCE, more=True)
    assert forgotten(sqlite_database, later) == Forgotten(1, 1)


_KEY = text(
    "INSERT INTO idempotency_keys VALUES (:tenant, 'chat', :key, :generation, '', :at, :at)"
)
_JOIN = text("INSERT INTO joins VALUES (:generation, 1, :at)")


def test_forgetting_reads_no_answer_that_stays(database: Database) -> None:
    let_in(database, 1)
    kept(database, 1)
    plan = plans_of(database, lambda tx: forget_expired(tx, NOW, 10))
    assert "answers_expiry" in plan
    assert "answers_age" in plan
    assert "idempotency_keys_expiry" in plan
    assert "answers_age" in plans_of(database, answers_size)
