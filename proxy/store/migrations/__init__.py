"""The schema and its history; brought up to date by whoever starts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import SQLAlchemyError

from proxy.store.backend import LedgerUnavailable, driver_of
from proxy.store.database import Database

HEAD: Final = "0004"
"""The newest revision in `versions/`."""

_HERE: Final = Path(__file__).parent


class SchemaUnknown(Exception):
    """The database was made by a newer version, and this one must not touch it."""


def migrate(database: Database) -> bool:
    """Bring the schema up to date; True when something was done.

    Holds the writer's lock from the first look to the commit, so any number of processes may
    start at once. All is done in one transaction, or nothing. Raises `SchemaUnknown` for a
    revision that is not ours, and `LedgerUnavailable`.
    """
    backend = database.backend
    try:
        connection = backend.connect_writer()
        try:
            if revision(connection) == HEAD:
                return False
            driver = driver_of(connection)
            backend.begin(driver)
            found = revision(connection)  # somebody may have been here while we waited
            if found == HEAD:
                return False
            _upgrade(connection, found)
            backend.commit(driver)
        finally:
            connection.close()
    except (SQLAlchemyError, backend.errors) as error:
        message = f"the schema could not be brought up to date: {error}"
        raise LedgerUnavailable(message) from error
    return True


def revision(tx: Connection) -> str | None:
    """The schema's revision, or None for an empty database."""
    if not inspect(tx).has_table("alembic_version"):
        return None
    found: str | None = tx.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _upgrade(connection: Connection, found: str | None) -> None:
    # Alembic takes a tenth of a second to load, which a process that finds all in order spares.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if found is not None and found not in known:
        message = (
            f"the database's schema is at revision {found}, which this version of Clipmeter does "
            f"not know (its newest is {HEAD}); start the version that wrote it, or a newer one"
        )
        raise SchemaUnknown(message)
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
