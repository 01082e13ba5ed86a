"""A server from its lock to its last answer."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Connection, select

from proxy import serve
from proxy.app import open_database
from proxy.commands import do, hold_folder
from proxy.config import Config, parse
from proxy.flows.operator import CommandError
from proxy.serve import pointed_at, run, running, sandbox_products
from proxy.store.tables import INSTALLATION, PRICES, PROCESSES
from tests.running import ask, until
from tests.server_process import ROOT, free_port

QUICK = {"drain_listen_seconds": 0.2, "drain_seconds_max": 10}


def config_in(folder: Path, **groups: Any) -> Config:
    values = {"data_dir": str(folder), "server": {"port": 0}, "limits": QUICK, **groups}
    return parse(values, {})


def team(config: Config) -> str:
    """A tenant's key."""
    do(config, "tenant add", {"name": "ads"})
    key: str = do(config, "key add", {"tenant": "ads"})["key"]
    return key


async def chat(url: str, key: str, prompt: str) -> tuple[int, str]:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    path = f"{url}/v1/chat/completions"
    async with (
        aiohttp.ClientSession() as session,
        session.post(path, data=json.dumps(ask(prompt)), headers=headers) as response,
    ):
        return response.status, await response.text()


async def test_a_sandbox_server_sells_a_clip_and_says_that_it_was_pretended(
    tmp_path: Path,
) -> None:
    config = config_in(tmp_path)
    key = await asyncio.to_thread(team, config)
    async with running(config, sandbox=True) as server:
        status, text = await chat(server.url, key, "a cat [[seconds 0.1]]")
        assert (status, "✅" in text) == (200, True)
        assert server.sandbox is not None
        assert server.sandbox.bill().clips == 1
        said = await asyncio.to_thread(do, config, "usage", {})
    assert said["sandbox"] is True
    assert said["totals"]["delivered"] == 1
    with pytest.raises(CommandError, match="its clips are pretended"):
        async with running(
            config_in(tmp_path, upstream={"api_key": "sk-0123456789"}), sandbox=False
        ):
            pass


async def test_a_real_installation_takes_no_sandbox(tmp_path: Path) -> None:
    async with running(config_in(tmp_path, upstream={"api_key": "sk-0123456789"}), sandbox=False):
        pass
    with pytest.raises(CommandError, match="may not add pretended ones"):
        async with running(config_in(tmp_path), sandbox=True):
            pass


@pytest.mark.parametrize("first", [True, False], ids=["pretended", "real"])
@pytest.mark.parametrize("embedded", [True, False], ids=["sqlite", "postgres"])
async def test_a_server_of_the_other_kind_is_refused_before_it_writes_anything(
    tmp_path: Path, request: pytest.FixtureRequest, first: bool, embedded: bool
) -> None:
    groups: dict[str, Any] = {"upstream": {"api_key": "sk-0123456789"}}
    if not embedded:
        groups["database"] = {"url": request.getfixturevalue("postgres_url")}
        groups["secrets"] = {"key": "0123456789abcdef" * 2}
    async with running(config_in(tmp_path, **groups), sandbox=first):
        pass
    before = await written(config_in(tmp_path, **groups))
    wrong = {"models": ["veo-3.1-fast"], "usd_per_clip": "0.99", "from": "2027-01-01"}
    priced = config_in(tmp_path, prices=[wrong], **groups)
    with pytest.raises(CommandError, match="another data_dir"):
        async with running(priced, sandbox=not first):
            pass
    assert await written(priced) == before


async def written(config: Config) -> list[list[Any]]:
    """Whatever a start writes: the price book, the marks and the signs of life."""
    database = open_database(config)
    try:

        def look(tx: Connection) -> list[list[Any]]:
            tables = (PRICES, INSTALLATION, PROCESSES)
            return [sorted(map(tuple, tx.execute(select(table)))) for table in tables]

        return await database.read(look)
    finally:
        database.close()


async def test_commands_go_to_the_running_server_and_a_revoked_key_ends_at_once(
    tmp_path: Path,
) -> None:
    config = config_in(tmp_path)
    async with running(config, sandbox=True) as server:
        assert hold_folder(config) is None
        key = await asyncio.to_thread(team, config)
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(f"{server.url}/v1/models") as response:
                assert response.status == 200
            (row,) = await asyncio.to_thread(do, config, "key list", {})
            await asyncio.to_thread(do, config, "key revoke", {"key_id": row["id"]})
            async with session.get(f"{server.url}/v1/models") as response:
                assert response.status == 401


async def test_a_second_server_on_the_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "LOCK_TRIES", 2)
    async with running(config_in(tmp_path), sandbox=True):
        with pytest.raises(CommandError, match=r"another server holds .* need PostgreSQL"):
            async with running(config_in(tmp_path), sandbox=True):
                pass


async def test_a_server_that_stops_answers_503_and_finishes_what_runs(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    key = await asyncio.to_thread(team, config)
    async with running(config, sandbox=True) as server:
        clip = asyncio.create_task(chat(server.url, key, "a cat [[seconds 1]]"))
        assert server.sandbox is not None
        vendor = server.sandbox
        await until(lambda: vendor.bill().jobs == 1)
        server.stop()
        status, text = await chat(server.url, key, "a late cat")
        assert (status, json.loads(text)["error"]["code"]) == (503, "draining")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{server.url}/readyz") as response,
        ):
            assert response.status == 503
        await server.served
        status, text = await clip
        assert (status, "[DONE]" in text) == (200, True)
        assert vendor.bill().jobs == 1


async def test_stopping_again_and_again_hurries(tmp_path: Path) -> None:
    slow = {"drain_listen_seconds": 600, "drain_seconds_max": 600}
    config = config_in(tmp_path, limits=slow)
    key = await asyncio.to_thread(team, config)
    async with running(config, sandbox=True) as server:
        assert server.sandbox is not None
        vendor = server.sandbox
        clip = asyncio.create_task(chat(server.url, key, "a slow cat [[seconds 60]]"))
        await until(lambda: vendor.bill().jobs == 1)
        for _ in range(3):
            server.stop()
        await asyncio.wait_for(server.served, 10)
    with pytest.raises(aiohttp.ClientError):
        await clip
    said = await asyncio.to_thread(do, config, "usage", {})
    assert said["unsettled"]["clips"] == 1
    assert await asyncio.to_thread(do, config, "ledger verify", {}) == []


def test_without_a_vendor_key_nothing_is_served(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="APIYI_API_KEY"):
        run(config_in(tmp_path), workers=1, sandbox=False, arguments=[])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sandbox", [True, False])
def test_sqlite_takes_one_worker(tmp_path: Path, sandbox: bool) -> None:
    config = config_in(tmp_path, upstream={"api_key": "sk-0123456789"})
    with pytest.raises(CommandError, match="--workers needs PostgreSQL"):
        run(config, workers=2, sandbox=sandbox, arguments=[])


def test_the_sandbox_takes_one_worker(tmp_path: Path) -> None:
    config = config_in(
        tmp_path,
        database={"url": "postgresql://nobody@127.0.0.1:9/none"},
        secrets={"key": "0123456789abcdef" * 2},
    )
    with pytest.raises(CommandError, match="leave --workers out"):
        run(config, workers=2, sandbox=True, arguments=[])


async def test_a_taken_port_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = config_in(tmp_path, server={"port": port})
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with running(config, sandbox=True):
                pass


def test_the_sandbox_sells_what_the_configuration_adds(tmp_path: Path) -> None:
    config = config_in(
        tmp_path,
        models=[{"name": "veo-3.1-4k", "size": "2160x3840", "seconds": 8, "images": 1}],
        prices=[{"models": ["veo-3.1-4k"], "usd_per_clip": "1.5", "from": "2025-01-01"}],
    )
    product = sandbox_products(config)["veo-3.1-4k"]
    assert (product.micros, product.width, product.height) == (1_500_000, 2160, 3840)
    assert (product.images_min, product.images_max) == (0, 1)
    assert len(sandbox_products(config)) == 9


def test_pointing_at_the_sandbox_changes_the_gateways_and_nothing_else(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    pointed = pointed_at(config, {"api": "http://127.0.0.1:1", "b": "http://127.0.0.1:2"})
    assert [gateway.url for gateway in pointed.upstream.gateways] == [
        "http://127.0.0.1:1",
        "http://127.0.0.1:2",
    ]
    assert pointed.vault.download_private
    assert pointed.limits == config.limits
    assert not config.vault.download_private


def test_a_signal_ends_the_process_in_order(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data_dir: {tmp_path / 'data'}\nserver: {{port: {port}}}\n"
        "limits: {drain_listen_seconds: 0}\n"
    )
    command = [sys.executable, "-m", "proxy", "--config", str(config), "serve", "--sandbox"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert process.stderr.readline().startswith(f"Clipmeter listens on http://127.0.0.1:{port}")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        events = [json.loads(line)["event"] for line in process.stdout]
    assert events[0] == "serving"
    assert "draining" in events
    assert not (tmp_path / "data" / "control.sock").exists()
