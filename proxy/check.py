"""Looks for problems before callers meet them: configuration, folder, database, vault, gateways."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy import control
from proxy.app import SECRET_FILE, open_vault, own_secret
from proxy.commands import database_url, hold_folder
from proxy.config import Config
from proxy.core.rotation import Silent, Unreachable
from proxy.remote.gateway import PROBE_PATH, Deadlines, Gateway, Gateways, Opened
from proxy.store import migrations
from proxy.store.bucket import Bucket
from proxy.store.database import Database, DatabaseUnfit, LedgerUnavailable
from proxy.store.kept import VaultUnavailable
from proxy.store.vault import folder_of, is_folder

PROBE_SECONDS: Final = 10.0
"""How long a gateway has to answer."""

OK: Final = "ok"
DOUBT: Final = "warning"
PROBLEM: Final = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `verdict` is "ok", "warning" or "problem"."""

    verdict: str
    subject: str
    words: str

    @property
    def is_problem(self) -> bool:
        """Whether serve would refuse to start, or paid work would be refused."""
        return self.verdict == PROBLEM


async def look(config: Config) -> list[Finding]:
    """Everything found, in the order of a start. Raises `OSError` for a folder that is shut."""
    findings = [Finding(OK, "config", "every value is allowed")]
    findings += [Finding(DOUBT, "config", words) for words in config.warnings()]
    findings += _folder(config)
    findings += await asyncio.to_thread(lambda: list(_database(config)))
    findings.append(await _vault(config))
    findings += [finding async for finding in _gateways(config)]
    return findings


def _folder(config: Config) -> Iterator[Finding]:
    folder = config.data_dir
    found = _writable("data_dir", folder)
    yield found
    if found.is_problem:
        return
    if config.secrets.key is not None or (folder / SECRET_FILE).exists():
        try:
            own_secret(config)
        except ValueError as error:
            yield Finding(PROBLEM, "secret", str(error))


def _writable(subject: str, folder: Path) -> Finding:
    """Whether `folder` can be written, or made where it is not there yet; nothing is made here."""
    nearest = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding(PROBLEM, subject, f"{nearest} cannot be written")
    made = "" if nearest == folder else "; it is made at the first start"
    return Finding(OK, subject, f"{folder}{made}")


def _database(config: Config) -> Iterator[Finding]:
    if config.database.url is None:
        if not config.sqlite_path.exists():
            yield Finding(OK, "database", f"{config.sqlite_path} is made at the first start")
            return
        lock = hold_folder(config)
        if lock is None:
            tenants = control.call(config.data_dir, "tenant list", {})
            yield Finding(OK, "database", f"a server holds it, with {len(tenants)} tenants")
            return
        with lock:
            yield _schema(config)
    else:
        yield _schema(config)


def _schema(config: Config) -> Finding:
    try:
        database = Database.open(database_url(config))
    except (DatabaseUnfit, LedgerUnavailable) as trouble:
        return Finding(PROBLEM, "database", str(trouble).partition("\n")[0])
    try:
        connection = database.backend.connect_reader()
        try:
            found = migrations.revision(connection)
        finally:
            connection.close()
    finally:
        database.close()
    if found == migrations.HEAD:
        return Finding(OK, "database", f"answers, and its schema is up to date ({found})")
    words = f"its schema is at {found}; the next start, or migrate, brings it to {migrations.HEAD}"
    return Finding(DOUBT, "database", words)


async def _vault(config: Config) -> Finding:
    """Whether clips can be kept: a file is written and removed, a bucket is listed."""
    url = config.vault.url
    try:
        folder = folder_of(url, config.data_dir)
        if not is_folder(url):
            async with asyncio.timeout(PROBE_SECONDS):
                await Bucket(str(url)).probe()
            return Finding(OK, "vault", f"{url} answers")
        found = _writable("vault", folder)
        if folder.exists():
            vault = open_vault(config)
            try:
                await vault.probe()
            finally:
                vault.close()
    except TimeoutError:
        return Finding(PROBLEM, "vault", f"{url} does not answer in {PROBE_SECONDS:g} seconds")
    except (VaultUnavailable, ValueError) as trouble:
        return Finding(PROBLEM, "vault", str(trouble))
    return found


async def _gateways(config: Config) -> AsyncIterator[Finding]:
    if config.upstream.api_key is None:
        words = "there is no vendor key: set APIYI_API_KEY, or run serve --sandbox"
        yield Finding(PROBLEM, "upstream", words)
        return
    gateways = Gateways(config.upstream.api_key.get_secret_value())
    deadlines = Deadlines(*(PROBE_SECONDS,) * 5)
    try:
        for one in config.upstream.gateways:
            gateway = Gateway(one.name, one.url)
            outcome = await gateways.get(gateway, PROBE_PATH, deadlines=deadlines)
            yield _judge(f"{one.name} ({one.url})", outcome)
    finally:
        await gateways.close()


def _judge(name: str, outcome: Opened | Unreachable | Silent) -> Finding:
    if not isinstance(outcome, Opened):
        return Finding(PROBLEM, "gateway", f"{name} does not answer ({outcome.reason})")
    outcome.answer.close()
    status = outcome.answer.status
    if status == 401:
        return Finding(PROBLEM, "gateway", f"{name} does not accept the vendor key")
    if status >= 500:
        return Finding(PROBLEM, "gateway", f"{name} answers with status {status}")
    return Finding(OK, "gateway", f"{name} answers")
