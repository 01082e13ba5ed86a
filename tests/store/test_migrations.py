"""The schema is brought up to date once, by whoever comes first, and never by an old version."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, text

from proxy.core import clip
from proxy.core.budget import month_of
from proxy.core.clip import LINK_LIFE, State
from proxy.store import migrations
from proxy.store.admission import Admitted, admit
from proxy.store.audit import verify
from proxy.store.clips import settle
from proxy.store.database import Database, LedgerUnavailable
from proxy.store.jobs import oldest_unfinished
from proxy.store.keepings import claim_waiting
from proxy.store.migrations import HEAD, SchemaUnknown, migrate, revision
from proxy.store.tables import (
    ATTEMPTS,
    BUDGETS,
    CLIPS,
    ENTRIES,
    GENERATIONS,
    METADATA,
    VENDOR_SCOPE,
)
from proxy.store.videos import find_video, list_videos
from tests.store.asks import (
    DELIVERED,
    LINK,
    MICROS,
    MODEL,
    NOW,
    TEAM,
    VERSION,
    ask,
    everything,
    furnish,
    give_again,
    read,
    rows_of,
    write,
)


def schema(database: Database) -> str | None:
    return read(database, revision)


def test_an_empty_database_is_brought_up_to_date_once(empty_url: str) -> None:
    database = Database.open(empty_url)
    try:
        assert schema(database) is None
        assert migrate(database) is True
        assert schema(database) == HEAD
        assert migrate(database) is False
        write(database, furnish)
        assert isinstance(write(database, lambda tx: admit(tx, ask(1))), Admitted)
        assert read(database, verify) == []
    finally:
        database.close()


def scripts() -> Config:
    """Where Alembic finds the revisions."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def test_the_newest_revision_is_the_one_that_is_asked_for() -> None:
    assert ScriptDirectory.from_config(scripts()).get_heads() == [HEAD]


def differences(tx: Connection) -> list[object]:
    """How the tables differ from those that are declared."""
    context = MigrationContext.configure(tx, opts={"compare_type": True})
    return [
        difference
        for difference in compare_metadata(context, METADATA)
        if "saved" not in repr(difference)
    ]


def test_the_migrations_make_the_tables_that_are_declared(database: Database) -> None:
    assert read(database, differences) == []


def test_the_checks_of_the_tables_are_those_that_are_declared(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Alembic does not compare them."""

    def checks(tx: Connection) -> dict[str, dict[str, str]]:
        look = inspect(tx)
        return {
            table: {
                str(check["name"]): " ".join(check["sqltext"].split())
                for check in look.get_check_constraints(table)
            }
            for table in METADATA.tables
        }

    declared = Database.open(f"sqlite:///{tmp_path / 'declared.db'}")
    try:
        write(declared, METADATA.create_all)
        assert read(sqlite_database, checks) == read(declared, checks)
    finally:
        declared.close()


def test_servers_that_start_together_migrate_once(empty_url: str) -> None:
    servers = [Database.open(empty_url) for _ in range(4)]
    try:
        with ThreadPoolExecutor(len(servers)) as threads:
            done = list(threads.map(migrate, servers))
        assert sorted(done) == [False, False, False, True]
        assert schema(servers[0]) == HEAD
    finally:
        for server in servers:
            server.close()


def test_a_schema_of_a_newer_version_is_refused_and_left_alone(database: Database) -> None:
    newer = text("UPDATE alembic_version SET version_num = '9999'")
    write(database, lambda tx: tx.execute(newer))
    before = everything(database)
    with pytest.raises(SchemaUnknown, match=rf"9999, which .* \(its newest is {HEAD}\)"):
        migrate(database)
    assert everything(database) == before
    restore = text("UPDATE alembic_version SET version_num = :head")
    write(database, lambda tx: tx.execute(restore, {"head": HEAD}))


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    database = Database.open(empty_url)
    try:
        write(database, lambda tx: tx.execute(text("CREATE TABLE clips (id int)")))
        with pytest.raises(LedgerUnavailable, match="could not be brought up to date"):
            migrate(database)
        assert schema(database) is None
        write(database, lambda tx: tx.execute(text("DROP TABLE clips")))
        assert migrate(database) is True
    finally:
        database.close()


# When clips of an older version had ended, and in which state; None is not yet.
ENDS: dict[str, tuple[State, datetime | None]] = {
    "video_delivered": (State.DELIVERED, NOW - timedelta(hours=3)),
    "video_on_the_second": (State.DELIVERED, datetime(2026, 11, 22, 11, 0, tzinfo=UTC)),
    "video_before_midnight": (State.DELIVERED, datetime(2028, 2, 28, 23, 59, 59, 999_999, UTC)),
    "video_long_ago": (State.DELIVERED, datetime(2026, 10, 25, 0, 30, 0, 1, UTC)),
    "video_failed": (State.FAILED, NOW),
    "video_given_up": (State.WRITTEN_OFF, NOW),
    "video_unknown": (State.UNKNOWN, None),
    "video_generating": (State.GENERATING, None),
}
KINDS = {State.DELIVERED: "charge", State.FAILED: "release", State.WRITTEN_OFF: "release"}
ACCEPTED = datetime(2026, 10, 1, 12, 0, 0, 5, UTC)


def live_at_0002(tx: Connection) -> None:
    """What the version before jobs and keepings left: one generation with each of these clips."""
    common: dict[str, Any] = {
        "tenant_id": TEAM,
        "model": MODEL,
        "accepted_at": ACCEPTED,
        "month": month_of(ACCEPTED),
    }
    asked = {"key_id": "key_team", "mode": "chat", "asked_model": MODEL, "body_hash": "0" * 64}
    generation = {**common, **asked, "clips": len(ENDS), "stream": True, "process_id": "process"}
    tx.execute(
        insert(GENERATIONS).values({**generation, "id": "gen_1", "gateway": "api", "attempts": 1})
    )
    attempt: dict[str, Any] = {"generation_id": "gen_1", "number": 1, "gateway": "api"}
    attempt |= {"started_at": ACCEPTED, "outcome": "answered", "maybe_accepted": False}
    tx.execute(insert(ATTEMPTS).values({**attempt, "exposure_micros": 0}))
    price = {"price_micros": MICROS, "list_micros": MICROS, "price_version": VERSION}
    for position, (clip_id, (state, at)) in enumerate(ENDS.items()):
        of_clip = {**common, **price, "id": clip_id, "generation_id": "gen_1", "state": state.value}
        of_clip |= {"position": position, "url": LINK if state is State.DELIVERED else None}
        of_clip |= {"completed_at": at, "finance_month": None if at is None else month_of(at)}
        tx.execute(insert(CLIPS).values(of_clip))
        _book(tx, clip_id, "hold", ACCEPTED)
        if at is not None:
            _book(tx, clip_id, KINDS[state], at)
    held = sum(KINDS.get(state) != "release" for state, _ in ENDS.values())
    budget = {"tenant_id": TEAM, "month": month_of(ACCEPTED), "clips": held}
    tx.execute(insert(BUDGETS).values({**budget, "micros": held * MICROS}))
    scopes = {"team": TEAM, "vendor": VENDOR_SCOPE}
    tx.execute(text("UPDATE flights SET clips = 1 WHERE scope IN (:team, :vendor)"), scopes)


def _book(tx: Connection, clip_id: str, kind: str, at: datetime) -> None:
    entry: dict[str, Any] = {
        "id": f"{kind}:{clip_id}",
        "kind": kind,
        "clip_id": clip_id,
        "tenant_id": TEAM,
        "amount_micros": MICROS,
        "booked_at": at,
        "month": month_of(at),
        "settles": None if kind == "hold" else clip_id,
    }
    tx.execute(insert(ENTRIES).values(entry))


@pytest.fixture
def older(empty_url: str) -> Iterator[Database]:
    """A database at revision 0002, with clips that ended in every way."""
    database = Database.open(empty_url)

    def upgrade(tx: Connection) -> None:
        config = scripts()
        assert revision(tx) is None
        config.attributes["connection"] = tx
        command.upgrade(config, "0002")
        furnish(tx)
        live_at_0002(tx)

    write(database, upgrade)
    assert schema(database) == "0002"
    yield database
    database.close()


def test_clips_that_were_delivered_before_wait_to_be_fetched(older: Database) -> None:
    assert migrate(older) is True
    assert schema(older) == HEAD
    delivered = {clip_id: at for clip_id, (state, at) in ENDS.items() if state is State.DELIVERED}
    found = rows_of(older, "SELECT clip_id, state, tries, fence, owner FROM keepings ORDER BY 1")
    assert found == [(clip_id, "waiting", 0, 0, None) for clip_id in sorted(delivered)]
    for clip_id, at in delivered.items():
        assert at is not None
        row = read(older, partial(find_video, tenant_id=TEAM, clip_id=clip_id))
        assert row is not None
        assert (row.completed_at, row.next_try_at) == (at, at)
        assert row.link_dies_at == at + LINK_LIFE
    assert read(older, verify) == []


def test_clips_that_were_delivered_before_are_fetched_like_any_other(older: Database) -> None:
    migrate(older)
    late = datetime(2029, 1, 1, tzinfo=UTC)
    found = write(older, lambda tx: claim_waiting(tx, "process_one", late, late, 3))
    first = ["video_long_ago", "video_delivered", "video_on_the_second"]
    assert sorted(one.clip_id for one in found) == sorted(first)
    assert found[0].clip_id == "video_long_ago"
    assert {(one.url, one.gateway, one.upstream_id) for one in found} == {(LINK, "api", None)}


def test_what_was_unfinished_before_is_settled_and_what_stands_is_shown(older: Database) -> None:
    migrate(older)
    late = clip.Found(DELIVERED)
    assert write(older, lambda tx: settle(tx, "video_unknown", late, NOW)).changed
    assert write(older, lambda tx: settle(tx, "video_generating", DELIVERED, NOW)).changed
    rows = read(older, lambda tx: list_videos(tx, TEAM, None, 100, newest_first=True))
    assert rows is not None
    assert [row.id for row in rows] == sorted(ENDS, reverse=True)
    assert {row.keeping for row in rows if row.state is State.DELIVERED} == {"waiting"}
    assert read(older, oldest_unfinished) is None
    assert read(older, verify) == []


def test_who_comes_from_an_older_version_has_the_tables_that_are_declared(older: Database) -> None:
    migrate(older)
    assert read(older, differences) == []


def test_what_was_delivered_before_can_be_given_again(older: Database) -> None:
    migrate(older)
    delivered = sum(state is State.DELIVERED for state, _ in ENDS.values())
    assert give_again(older, 2, "gen_1").clips == delivered
    assert read(older, verify) == []


def test_a_migration_that_fails_half_way_leaves_the_version_before(older: Database) -> None:
    write(older, lambda tx: tx.execute(text("CREATE TABLE keepings (id int)")))
    with pytest.raises(LedgerUnavailable, match="could not be brought up to date"):
        migrate(older)
    assert schema(older) == "0002"
    assert not read(older, lambda tx: inspect(tx).has_table("jobs"))
    write(older, lambda tx: tx.execute(text("DROP TABLE keepings")))
    assert migrate(older) is True
    assert read(older, verify) == []
