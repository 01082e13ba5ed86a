"""The schema is brought up to date once, by whoever comes first, and never by an old version."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from proxy.store import migrations
from proxy.store.admission import Admitted, admit
from proxy.store.audit import verify
from proxy.store.database import Database, LedgerUnavailable
from proxy.store.migrations import HEAD, SchemaUnknown, migrate, revision
from proxy.store.tables import METADATA
from tests.store.asks import ask, everything, furnish, read, write


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


def test_the_newest_revision_is_the_one_that_is_asked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_migrations_make_the_tables_that_are_declared(database: Database) -> None:
    def differences(tx: Connection) -> list[object]:
        context = MigrationContext.configure(tx, opts={"compare_type": True})
        return [
            difference
            for difference in compare_metadata(context, METADATA)
            if "saved" not in repr(difference)
        ]

    assert read(database, differences) == []


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
