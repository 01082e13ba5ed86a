"""`verify` is silent on a sound ledger and names the first bad row of every kind of damage."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial

import psycopg
import pytest

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.store.audit import FINDINGS_MAX, Finding, verify
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.generations import begin_attempt
from proxy.store.videos import Deletion, delete_video
from tests.postgres import Postgres
from tests.store.asks import (
    DELIVERED,
    NOW,
    TEAM,
    deliver,
    give_again,
    keep,
    let_in,
    read,
    submit,
    write,
)
from tests.store.conftest import RESTORE

Damage = Callable[[str], None]

_UNGUARD_SQLITE = """
    SELECT 'DROP ' || type || ' ' || name FROM sqlite_schema
    WHERE type = 'trigger' OR (type = 'index' AND sql LIKE 'CREATE UNIQUE%')
"""
_UNGUARD_POSTGRES = """
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
    FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    UNION ALL SELECT 'DROP INDEX ' || indexname FROM pg_indexes
    WHERE indexname IN ('entries_settles', 'clips_position', 'prices_model_day')
"""


@pytest.fixture(scope="session")
def postgres_unguarded(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """A database without its guards, in which anything can be written."""
    url = postgres.create(template=postgres_template)
    with psycopg.connect(url, autocommit=True) as connection:
        for (statement,) in connection.execute(_UNGUARD_POSTGRES).fetchall():
            connection.execute(statement)
    yield url
    postgres.drop(url)


@pytest.fixture
def sqlite_unguarded(sqlite_copy: str) -> str:
    with sqlite3.connect(sqlite_copy.removeprefix("sqlite:///")) as connection:
        for (statement,) in connection.execute(_UNGUARD_SQLITE).fetchall():
            connection.execute(statement)
    connection.close()
    return sqlite_copy


@pytest.fixture(params=["sqlite", "postgres"])
def damaged(request: pytest.FixtureRequest) -> Iterator[tuple[Database, Damage]]:
    """A ledger with a clip of every kind, and a way to change it behind everybody's back."""
    url: str = request.getfixturevalue(f"{request.param}_unguarded")
    if request.param == "postgres":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RESTORE)
    database = Database.open(url)
    live(database)
    yield database, (damage_sqlite if request.param == "sqlite" else damage_postgres)(url)
    database.close()


def damage_sqlite(url: str) -> Damage:
    def damage(statement: str) -> None:
        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)
        connection.commit()
        connection.close()

    return damage


def damage_postgres(url: str) -> Damage:
    def damage(statement: str) -> None:
        with psycopg.connect(url) as connection:
            connection.execute("SET session_replication_role = replica")
            connection.execute(statement.encode())

    return damage


def live(database: Database) -> None:
    """1: delivered, failed. 2: generating. 3: unknown. 4: written off, after two attempts.

    5: a job that is followed. 6: a job that was delivered. 7: kept. 8: kept, and then deleted.
    9: accepted under a key. 99: clip 1 given again.
    """
    let_in(database, 1, 2)
    for number in (2, 3, 4):
        let_in(database, number)
    write(database, lambda tx: begin_attempt(tx, "gen_4", 2, "vip", NOW))
    lost = clip.Lost(Reason.LOST)
    news: list[tuple[str, list[clip.Event]]] = [
        ("video_1_0", [clip.Opened(), clip.Delivered("https://cdn.example/clip.mp4")]),
        ("video_1_1", [clip.Opened(), clip.Failed(Reason.POLICY_AUDIO)]),
        ("video_2_0", [clip.Opened()]),
        ("video_3_0", [lost]),
        ("video_4_0", [lost, clip.GaveUp()]),
    ]
    for clip_id, events in news:
        for event in events:
            write(database, partial(settle, clip_id=clip_id, event=event, now=NOW))
    submit(database, 5)
    write(database, partial(settle, clip_id=submit(database, 6), event=DELIVERED, now=NOW))
    for number in (7, 8):
        (clip_id,) = deliver(database, number, prompt="a heron")
        keep(database, clip_id)
    gone = write(database, lambda tx: delete_video(tx, TEAM, "video_8_0", NOW))
    assert gone is Deletion.DONE
    let_in(database, 9, idempotency_key="nine", key_expires_at=NOW)
    assert give_again(database, 99, "gen_1").clips == 1


HOLD = (
    "INSERT INTO entries (id, kind, clip_id, tenant_id, amount_micros, booked_at, month, settles)"
    " SELECT '{id}', '{kind}', '{clip}', '{tenant}', {micros}, accepted_at, month, {settles}"
    " FROM clips WHERE id = 'video_1_0'"
)


def forged(
    kind: str, clip_id: str, micros: int = 250_000, tenant: str = "tenant_team", name: str = ""
) -> str:
    settles = "NULL" if kind == "hold" else f"'{clip_id}'"
    name = name or f"{kind}:{clip_id}"
    return HOLD.format(
        id=name, kind=kind, clip=clip_id, tenant=tenant, micros=micros, settles=settles
    )


def expected_bytes(clip_id: str) -> str:
    return (
        "INSERT INTO keepings (clip_id, state, link_dies_at, tries, next_try_at, fence)"
        f" SELECT '{clip_id}', 'waiting', link_dies_at, 0, next_try_at, 0"
        " FROM keepings WHERE clip_id = 'video_1_0'"
    )


DAMAGES: dict[str, tuple[str, str, str]] = {
    "a hold for what was given again": (
        forged("hold", "video_99_0"),
        "replayed_clip_costs_nothing video_99_0",
        "an entry of its own",
    ),
    "a replay of another team's clip": (
        "UPDATE clips SET tenant_id = 'tenant_rival' WHERE id = 'video_99_0'",
        "replayed_clip_gives_another_again video_99_0",
        "no delivered clip of its tenant",
    ),
    "a replay of a clip that failed": (
        "UPDATE clips SET replay_of = 'video_1_1' WHERE id = 'video_99_0'",
        "replayed_clip_gives_another_again video_99_0",
        "no delivered clip of its tenant",
    ),
    "a replay of nothing": (
        "UPDATE clips SET replay_of = NULL WHERE id = 'video_99_0'",
        "replayed_clip_gives_another_again video_99_0",
        "no delivered clip of its tenant",
    ),
    "a replay at another price": (
        "UPDATE clips SET price_micros = 1 WHERE id = 'video_99_0'",
        "replayed_clip_gives_another_again video_99_0",
        "tenant, model and price",
    ),
    "a clip that was bought and gives another again": (
        "UPDATE clips SET replay_of = 'video_7_0' WHERE id = 'video_2_0'",
        "replayed_clip_gives_another_again video_2_0",
        "was not born so",
    ),
    "a replay that was sent": (
        "UPDATE generations SET attempts = 1 WHERE id = 'gen_99'",
        "generation_has_its_attempts gen_99",
        "numbered 1 to n",
    ),
    "a replay that ended as if it was bought": (
        "UPDATE generations SET ending = 'told' WHERE id = 'gen_99'",
        "replay_is_of_replayed_clips gen_99",
        "bought and given again at once",
    ),
    "a key for another body": (
        "UPDATE idempotency_keys SET body_hash = 'other'",
        "key_names_its_generation gen_9",
        "another body",
    ),
    "another team's key": (
        "UPDATE idempotency_keys SET tenant_id = 'tenant_rival'",
        "key_names_its_generation gen_9",
        "no generation of its tenant",
    ),
    "a lost hold": (
        "DELETE FROM entries WHERE id = 'hold:video_1_0'",
        "entries_add_up video_1_0",
        "there is no hold",
    ),
    "a lost hold of an open clip": (
        "DELETE FROM entries WHERE id = 'hold:video_2_0'",
        "clip_is_held_at_its_price video_2_0",
        "hold is missing",
    ),
    "a clip both charged and released": (
        forged("release", "video_1_0"),
        "entries_add_up video_1_0",
        "both charged and released",
    ),
    "a charge below its hold": (
        "UPDATE entries SET amount_micros = 1 WHERE id = 'charge:video_1_0'",
        "entries_add_up video_1_0",
        "hold of 250000 was settled with 1",
    ),
    "a negative hold": (
        "UPDATE entries SET amount_micros = -1 WHERE id = 'hold:video_2_0'",
        "entries_add_up video_2_0",
        "hold:video_2_0 is negative",
    ),
    "a charge without any clip": (
        forged("hold", "video_none"),
        "entry_has_its_clip hold:video_none",
        "no clip of its tenant",
    ),
    "an entry for another tenant": (
        "UPDATE entries SET tenant_id = 'tenant_rival' WHERE id = 'hold:video_2_0'",
        "entry_has_its_clip hold:video_2_0",
        "no clip of its tenant",
    ),
    "an entry under another name": (
        "UPDATE entries SET id = 'hold:other' WHERE id = 'hold:video_2_0'",
        "entry_is_named_for_its_fact hold:other",
        "do not agree",
    ),
    "a charge that settles another clip": (
        "UPDATE entries SET settles = 'video_2_0' WHERE id = 'charge:video_1_0'",
        "entry_is_named_for_its_fact charge:video_1_0",
        "do not agree",
    ),
    "a hold and a charge at another price": (
        "UPDATE entries SET amount_micros = 7 WHERE clip_id = 'video_1_0'",
        "clip_is_held_at_its_price video_1_0",
        "not its price",
    ),
    "a delivered clip without its charge": (
        "DELETE FROM entries WHERE id = 'charge:video_1_0'",
        "clip_is_settled_as_it_ended video_1_0",
        "charge or release do not agree",
    ),
    "a charge for a clip that failed": (
        "UPDATE entries SET kind = 'charge', id = 'charge:video_1_1'"
        " WHERE id = 'release:video_1_1'",
        "clip_is_settled_as_it_ended video_1_1",
        "charge or release do not agree",
    ),
    "a charge for a clip that is unknown": (
        forged("charge", "video_3_0"),
        "clip_is_settled_as_it_ended video_3_0",
        "charge or release do not agree",
    ),
    "a state that is none": (
        "UPDATE clips SET state = 'lost' WHERE id = 'video_3_0'",
        "clip_is_settled_as_it_ended video_3_0",
        "charge or release do not agree",
    ),
    "an end without its time": (
        "UPDATE clips SET completed_at = NULL WHERE id = 'video_1_0'",
        "clip_stands_in_its_months video_1_0",
        "months do not agree",
    ),
    "an end in another month": (
        "UPDATE clips SET finance_month = '2026-10' WHERE id = 'video_1_0'",
        "clip_stands_in_its_months video_1_0",
        "months do not agree",
    ),
    "a charge in another month": (
        "UPDATE entries SET month = '2026-10' WHERE id = 'charge:video_1_0'",
        "entry_stands_in_its_month charge:video_1_0",
        "not its clip's",
    ),
    "a price that is not in the book": (
        "UPDATE clips SET price_version = 'invented' WHERE id = 'video_1_0'",
        "clip_has_a_price_of_the_book video_1_0",
        "not in the book",
    ),
    "a price that the book changed": (
        "UPDATE prices SET micros = 1",
        "clip_has_a_price_of_the_book video_1_0",
        "not at this list price",
    ),
    "a clip that lost its generation": (
        "DELETE FROM generations WHERE id = 'gen_2'",
        "clip_has_its_generation video_2_0",
        "no generation",
    ),
    "two clips at one position": (
        "UPDATE clips SET position = 0 WHERE id = 'video_1_1'",
        "generation_has_its_clips gen_1",
        "positions 0 to n - 1",
    ),
    "a generation that asked for more clips": (
        "UPDATE generations SET clips = 2 WHERE id = 'gen_2'",
        "generation_has_its_clips gen_2",
        "positions 0 to n - 1",
    ),
    "an attempt left out": (
        "DELETE FROM attempts WHERE generation_id = 'gen_4' AND number = 1",
        "generation_has_its_attempts gen_4",
        "numbered 1 to n",
    ),
    "an attempt of no generation": (
        "UPDATE attempts SET generation_id = 'gen_none' WHERE generation_id = 'gen_2'",
        "generation_has_its_attempts gen_2",
        "numbered 1 to n",
    ),
    "a budget that counts too little": (
        "UPDATE budgets SET micros = micros - 1",
        "budget_is_what_is_held_and_charged tenant_team 2026-11",
        "other clips or amounts",
    ),
    "a budget that is gone": (
        "DELETE FROM budgets",
        "budget_is_what_is_held_and_charged tenant_team 2026-11",
        "other clips or amounts",
    ),
    "flights that count too many": (
        "UPDATE flights SET clips = clips + 1 WHERE scope = 'vendor'",
        "flights_are_the_open_clips vendor",
        "not as many as the open ones",
    ),
    "flights of a tenant that are gone": (
        "DELETE FROM flights WHERE scope = 'tenant_rival'",
        "flights_are_the_open_clips tenant_rival",
        "not as many as the open ones",
    ),
    "a minute that is gone": (
        "DELETE FROM minutes WHERE tenant_id = 'tenant_rival'",
        "tenant_has_its_minute tenant_rival",
        "cannot be counted",
    ),
    "a job that goes on after its clip": (
        "UPDATE jobs SET ended_at = NULL",
        "job_ends_with_its_clip video_6_0",
        "followed though its clip has ended",
    ),
    "a job of no clip": (
        "UPDATE jobs SET clip_id = 'video_none' WHERE clip_id = 'video_6_0'",
        "job_ends_with_its_clip video_none",
        "of no clip",
    ),
    "a job that nobody follows": (
        "UPDATE jobs SET ended_at = started_at",
        "job_is_followed_while_it_runs video_5_0",
        "nobody asks about it",
    ),
    "a delivered clip that nobody fetches": (
        "DELETE FROM keepings WHERE clip_id = 'video_1_0'",
        "delivered_clip_has_its_keeping video_1_0",
        "nothing says what becomes of its bytes",
    ),
    "bytes of a clip that failed": (
        expected_bytes("video_1_1"),
        "keeping_is_of_a_delivered_clip video_1_1",
        "not delivered",
    ),
    "bytes of no clip": (
        expected_bytes("video_none"),
        "keeping_is_of_a_delivered_clip video_none",
        "not delivered",
    ),
    "bytes in a state that is none": (
        "UPDATE keepings SET state = 'gone' WHERE clip_id = 'video_1_0'",
        "kept_bytes_are_known video_1_0",
        "in no state",
    ),
    "kept bytes without a digest": (
        "UPDATE keepings SET sha256 = NULL",
        "kept_bytes_are_known video_7_0",
        "without digest",
    ),
    "kept bytes without a length": (
        "UPDATE keepings SET size_bytes = NULL",
        "kept_bytes_are_known video_7_0",
        "size",
    ),
    "kept bytes that are none": (
        "UPDATE keepings SET size_bytes = 0",
        "kept_bytes_are_known video_7_0",
        "size",
    ),
    "bytes kept at no time": (
        "UPDATE keepings SET kept_at = NULL",
        "kept_bytes_are_known video_7_0",
        "time",
    ),
    "kept bytes that are fetched": (
        "UPDATE keepings SET owner = 'process_one'",
        "kept_bytes_are_known video_7_0",
        "fetched without need",
    ),
    "kept bytes of a deleted clip": (
        "UPDATE keepings SET state = 'kept' WHERE clip_id = 'video_8_0'",
        "deleted_clip_is_forgotten video_8_0",
        "do not agree",
    ),
    "deleted bytes of a clip that was not deleted": (
        "UPDATE keepings SET state = 'deleted' WHERE clip_id = 'video_7_0'",
        "deleted_clip_is_forgotten video_7_0",
        "do not agree",
    ),
    "a deleted clip that has not ended": (
        "UPDATE clips SET deleted_at = accepted_at WHERE id = 'video_2_0'",
        "deleted_clip_is_forgotten video_2_0",
        "do not agree",
    ),
    "a deleted clip's prompt": (
        "UPDATE generations SET prompt = 'a heron'",
        "deleted_clip_is_forgotten video_8_0",
        "its prompt",
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_the_first_bad_row_is_named(damaged: tuple[Database, Damage], what: str) -> None:
    database, damage = damaged
    statement, found, words = DAMAGES[what]
    assert read(database, verify) == []
    damage(statement)
    first = read(database, verify)[0]
    assert f"{first.check} {first.row}" == found
    assert words in first.words


def test_only_so_many_rows_of_a_kind_are_named(sqlite_unguarded: str) -> None:
    database = Database.open(sqlite_unguarded)
    for number in range(FINDINGS_MAX + 1):
        let_in(database, number)
    damage_sqlite(sqlite_unguarded)("UPDATE clips SET price_version = 'invented'")
    findings = read(database, verify)
    database.close()
    assert len(findings) == FINDINGS_MAX
    assert {type(finding) for finding in findings} == {Finding}
