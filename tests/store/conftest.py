"""A fresh, migrated, furnished database for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from proxy.store.database import Database
from proxy.store.migrations import migrate
from proxy.store.tables import METADATA
from tests.postgres import Postgres
from tests.store.asks import furnish, write

DATABASES = ("sqlite", "postgres")

_TABLES = [sql.Identifier(name) for name in METADATA.tables]
_SAVE = sql.SQL("CREATE SCHEMA saved;") + sql.SQL("").join(
    sql.SQL("CREATE TABLE saved.{0} AS TABLE public.{0};").format(table) for table in _TABLES
)
RESTORE = (
    sql.SQL("SET session_replication_role = replica; BEGIN;")
    + sql.SQL("").join(
        sql.SQL("DELETE FROM {0}; INSERT INTO {0} TABLE saved.{0};").format(table)
        for table in _TABLES
    )
    + sql.SQL("COMMIT")
)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated and furnished file, with its log written back, to be copied."""
    file = tmp_path_factory.mktemp("template") / "ledger.db"
    _furnish(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """The name of a migrated and furnished database, which keeps its rows to begin with."""
    url = postgres.create()
    _furnish(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SAVE)
    yield url.rpartition("/")[2]
    postgres.drop(url)


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    """The address of a furnished database."""
    address: str = request.getfixturevalue(f"{request.param}_copy")
    return address


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    address: str = request.getfixturevalue("postgres_url")
    return address


@pytest.fixture
def sqlite_copy(sqlite_template: Path, tmp_path: Path) -> str:
    """The address of a furnished SQLite file."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"


@pytest.fixture
def postgres_copy(postgres: Postgres, postgres_template: str) -> str:
    """The address of a furnished PostgreSQL database: the same one, with its first rows again.

    Copying a database takes the server fifty times as long as copying these few rows.
    """
    address = postgres.url(postgres_template)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(RESTORE)
    return address


@pytest.fixture
def postgres_own(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """The address of a PostgreSQL database whose very tables a test may take apart."""
    address = postgres.create(template=postgres_template)
    yield address
    postgres.drop(address)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """A furnished database, open."""
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(sqlite_copy: str) -> Iterator[Database]:
    """A furnished SQLite file, open."""
    opened = Database.open(sqlite_copy)
    yield opened
    opened.close()


@pytest.fixture
def postgres_database(postgres_copy: str) -> Iterator[Database]:
    """A furnished PostgreSQL database, open."""
    opened = Database.open(postgres_copy)
    yield opened
    opened.close()


def _furnish(url: str) -> None:
    database = Database.open(url)
    try:
        migrate(database)
        write(database, furnish)
    finally:
        database.close()
