"""A process that is killed at any step of an archive leaves a clip that the next one keeps, once.

Here a folder and a bucket are killed at; what the vault itself does is killed in its own tests.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest

from proxy.app import open_house
from tests.archiving import Keeping, Shifted, clips, closed_config, keeping
from tests.gateways import Gateway, gateways
from tests.running import Running
from tests.s3 import running_s3
from tests.server_process import ROOT
from tests.store.vaults import clip as film

DATA = film(600_000)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["folder", "bucket"])
async def test_a_kill_at_any_step_of_an_archive_costs_nothing_and_keeps_nothing_twice(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "folder":
        await assert_kills_are_survived(tmp_path, None)
        return
    with running_s3(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        await assert_kills_are_survived(tmp_path, s3.create())


async def assert_kills_are_survived(folder: Path, vault_url: str | None) -> None:
    async with gateways("cdn") as (host,):
        host.does(clips(DATA))
        async with keeping(folder / "template") as kept:
            kept.hold()
            clip_id = await kept.deliver(host=host)
        steps = await die_at_every_step(folder, vault_url)
        met = []
        for number in range(steps):
            here = folder / "tries" / str(number)
            place = None if vault_url is None else f"{vault_url}/{number}"
            met.append(await assert_kept_after_all(here, place, clip_id, host))
        assert set(met) == {"waiting", "claimed", "coming in", "published", "kept"}


async def die_at_every_step(folder: Path, vault_url: str | None) -> int:
    """Let `killed_archive.py` die one step later each time, until it is through; how often."""
    (folder / "tries").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.killed_archive"),
        *(folder / "template", folder / "tries"),
        *([] if vault_url is None else [vault_url]),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return int(said)


async def assert_kept_after_all(
    here: Path, vault_url: str | None, clip_id: str, host: Gateway
) -> str:
    """After a restart the clip is kept: one, whole, charged once; how it stood after the kill."""
    config = closed_config(here, vault_url)
    with sqlite3.connect(config.sqlite_path) as ledger:
        ((state, owner),) = ledger.execute("SELECT state, owner FROM keepings").fetchall()
    ledger.close()
    asked = len(host.requests)
    async with open_house(config, "sk-test-vendor-key-0123456789") as (house, _):
        published = bool(await house.vault.find(clip_id)) if state == "waiting" else False
        parts = here / ("vault" if vault_url is None else "near") / "incoming"
        left = list(parts.iterdir())
        proxy = Running("", "", house, config)
        kept = Keeping(proxy, host, [], Shifted(house.clock))
        await kept.assert_kept(clip_id, DATA)
        await house.vault.sweep()
        assert list(parts.iterdir()) == []
        if published or state == "kept":
            assert len(host.requests) == asked
    if state == "kept" or published:
        return "kept" if state == "kept" else "published"
    if owner is None:
        return "waiting"
    return "coming in" if left else "claimed"
