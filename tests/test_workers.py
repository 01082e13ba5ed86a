"""Several processes behind one socket: one number of clips, one budget, one set of series."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from proxy import workers
from proxy.commands import do
from proxy.config import Config, load
from proxy.flows.operator import CommandError
from tests.gateways import gateways
from tests.running import ask
from tests.server_process import ROOT, free_port


def config_file(folder: Path, url: str, database: str) -> Path:
    values = {
        "server": {"port": free_port(), "metrics_public": True},
        "data_dir": str(folder / "data"),
        "secrets": {"key": "0123456789abcdef" * 2},
        "database": {"url": database},
        "upstream": {"api_key": "sk-0123456789", "gateways": [{"name": "api", "url": url}]},
        "limits": {"drain_listen_seconds": 0},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@asynccontextmanager
async def served(path: Path, count: int) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The parent, with its workers ready; stopped, and well, at the end."""
    words = ["-m", "proxy", "--config", str(path), "serve", "--workers", str(count)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdout=pipe)
    assert process.stdout is not None
    url = f"http://127.0.0.1:{load(path, {}).server.port}"
    try:
        for _ in range(count):
            await event(process.stdout, "serving")
        yield url, process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        rest = asyncio.create_task(process.stdout.read())
        assert await asyncio.wait_for(process.wait(), 30) == 0
        await rest


async def event(lines: asyncio.StreamReader, name: str) -> dict[str, Any]:
    """The next log line of this name."""
    async with asyncio.timeout(40):
        while True:
            said: dict[str, Any] = json.loads(await lines.readline())
            if said["event"] == name:
                return said


def workers_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def chat(url: str, key: str) -> int:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(
            f"{url}/v1/chat/completions", data=json.dumps(ask()), headers=headers
        ) as response,
    ):
        await response.read()
        return response.status


async def delivered(url: str) -> float:
    """What the series say, whichever worker answers."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        text = await response.text()
    lines = [line for line in text.splitlines() if line.startswith("clipmeter_clips_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'outcome="delivered"' in line)


async def test_workers_share_the_budget_and_add_up_their_series(
    tmp_path: Path, postgres_url: str
) -> None:
    async with gateways("api") as (gateway,):
        path = config_file(tmp_path, gateway.url, postgres_url)
        config: Config = load(path, {})
        await asyncio.to_thread(
            do, config, "tenant add", {"name": "ads", "terms": {"clips_per_month": 5}}
        )
        made = await asyncio.to_thread(do, config, "key add", {"tenant": "ads"})
        async with served(path, 2) as (url, _):
            statuses = await asyncio.gather(*(chat(url, made["key"]) for _ in range(12)))
            assert sorted(statuses) == [200] * 5 + [429] * 7
            assert [await delivered(url) for _ in range(6)] == [5] * 6
        assert gateway.posts == 5
        said = await asyncio.to_thread(do, config, "usage", {})
        assert said["totals"]["delivered"] == 5


async def test_a_worker_that_dies_is_replaced(tmp_path: Path, postgres_url: str) -> None:
    async with gateways("api") as (gateway,):
        path = config_file(tmp_path, gateway.url, postgres_url)
        async with served(path, 2) as (url, process):
            assert process.stdout is not None
            children = await asyncio.to_thread(workers_of, process.pid)
            assert len(children) == 2
            os.kill(children[0], signal.SIGKILL)
            assert (await event(process.stdout, "worker_died"))["count"] == 1
            await event(process.stdout, "serving")
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{url}/readyz") as response,
            ):
                assert response.status == 200


async def test_workers_whose_parent_is_gone_stop(tmp_path: Path, postgres_url: str) -> None:
    path = config_file(tmp_path, "http://127.0.0.1:9", postgres_url)
    words = ["-m", "proxy", "--config", str(path), "serve", "--workers", "2"]
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT, stdout=pipe)
    assert parent.stdout is not None
    for _ in range(2):
        await event(parent.stdout, "serving")
    parent.kill()
    await parent.wait()
    # Their standard output ends once the last of them has closed it.
    async with asyncio.timeout(30):
        ends = [json.loads(line)["event"] for line in (await parent.stdout.read()).splitlines()]
    assert ends.count("draining") == 2


def test_workers_that_die_again_and_again_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(workers, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(workers, "DEATHS_MAX", 3)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            pytest.raises(CommandError, match="die again and again"),
        ):
            workers.supervise(listening, 2, ["--no-such-option"])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_process_that_is_no_worker_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(workers.INHERITED, raising=False)
    assert workers.inherited() is None
