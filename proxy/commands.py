"""Does one operator's command: here, or through the running server that holds the data folder."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy import control
from proxy.app import SystemClock, mint, open_database, own_secret
from proxy.config import Config
from proxy.core.keys import derive
from proxy.flows.operator import CommandError, Operator
from proxy.store import migrations
from proxy.store.database import Database, DatabaseUnfit, LedgerUnavailable
from proxy.store.kept import VaultUnavailable
from proxy.store.lock import Lock, hold_lock
from proxy.store.migrations import SchemaUnknown
from proxy.store.prices import PriceChanged, PriceTooLate

KEY_PURPOSE: Final = "key digests"
"""The purpose under which the secret becomes the pepper of key digests."""

_TRIES: Final = 50
_PAUSE_SECONDS: Final = 0.1
"""Another command holds the folder for a moment, and a server that starts has no socket yet."""


def do(config: Config, command: str, arguments: Mapping[str, Any]) -> Any:
    """The answer to `command`, in the same words whoever gives it. Raises `CommandError`."""
    with in_words():
        if config.database.url is not None:
            return asyncio.run(_here(config, command, arguments))
        for _ in range(_TRIES):
            with contextlib.ExitStack() as stack:
                lock = hold_folder(config)
                if lock is not None:
                    stack.enter_context(lock)
                    return asyncio.run(_here(config, command, arguments))
            if (config.data_dir / control.SOCKET_NAME).exists():
                return control.call(config.data_dir, command, arguments)
            time.sleep(_PAUSE_SECONDS)
    raise CommandError(f"another process holds {config.data_dir} and takes no commands")


def migrate(config: Config) -> str:
    """Bring the schema up to date, and say what was done. Raises `CommandError`."""
    with in_words(), contextlib.ExitStack() as stack:
        if config.database.url is None:
            lock = hold_folder(config)
            if lock is None:
                return "a server is running here; it brought the schema up to date when it started"
            stack.enter_context(lock)
        database = Database.open(database_url(config))
        try:
            changed = migrations.migrate(database)
        finally:
            database.close()
    done = "was brought up to date" if changed else "is up to date already"
    return f"the schema {done} (revision {migrations.HEAD})"


def database_url(config: Config) -> str:
    """The address of the database of `config`."""
    url = config.database.url
    return f"sqlite:///{config.sqlite_path}" if url is None else url.get_secret_value()


def hold_folder(config: Config) -> Lock | None:
    """The data folder's lock, the folder made if need be; None while another process holds it."""
    config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return hold_lock(config.data_dir)


def operator_of(config: Config, database: Database, forget_keys: Any = bool) -> Operator:
    """The operator of `database`; `forget_keys` when a server remembers keys."""
    try:
        secret = own_secret(config)
    except ValueError as error:
        raise CommandError(str(error)) from error
    return Operator(
        database=database,
        catalog=config.catalog(),
        now=SystemClock().now,
        mint=mint,
        random=secrets.token_bytes,
        pepper=derive(secret, KEY_PURPOSE),
        forget_keys=forget_keys,
    )


@contextlib.contextmanager
def in_words() -> Iterator[None]:
    """Turn what may be wrong with a machine into a `CommandError` of one line."""
    try:
        yield
    except (
        DatabaseUnfit,
        LedgerUnavailable,
        PriceChanged,
        PriceTooLate,
        SchemaUnknown,
        VaultUnavailable,
    ) as trouble:
        raise CommandError(str(trouble).partition("\n")[0]) from trouble
    except OSError as trouble:
        where = f"{trouble.filename}: " if trouble.filename else ""
        raise CommandError(f"{where}{trouble.strerror or trouble}") from trouble


async def _here(config: Config, command: str, arguments: Mapping[str, Any]) -> Any:
    database = open_database(config)
    try:
        return await control.run(operator_of(config, database), command, arguments)
    finally:
        database.close()
