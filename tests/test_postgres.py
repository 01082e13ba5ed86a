"""The PostgreSQL the tests use is real, fresh for each test, and reachable by its address."""

from __future__ import annotations

import psycopg

from tests.postgres import Postgres


def test_the_server_is_postgresql_18(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    assert str(row[0]).startswith("18")


def test_a_database_can_be_copied_from_a_template(postgres: Postgres) -> None:
    template = postgres.create()
    with psycopg.connect(template) as connection:
        connection.execute("CREATE TABLE seen (id int)")
    copy = postgres.create(template=template.rpartition("/")[2])
    with psycopg.connect(copy) as connection:
        assert connection.execute("SELECT count(*) FROM seen").fetchone() == (0,)
    postgres.drop(copy)
    postgres.drop(template)
