"""A server that is killed loses nothing that anybody saw, and charges nothing twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import sqlite3
from pathlib import Path

import aiohttp
import pytest

from tests.gateways import STREAM_HEADERS as HEADERS
from tests.gateways import Gateway, Request, gateways, head, write_chunk
from tests.running import ask
from tests.server_process import ServerProcess
from tests.streams import DONE, chunk, frame

CYCLES = 50
CALLERS = 12
LINK = re.compile(rb"https://cdn\.vendor\.example/flow/[0-9]+\.mp4")


class Vendor:
    """Streams clips whose links are all different, at a pace, with progress in between."""

    def __init__(self, chance: random.Random) -> None:
        self.numbers = itertools.count()
        self.chance = chance

    async def act(self, request: Request, writer: asyncio.StreamWriter) -> None:
        n = json.loads(request.body)["n"]
        writer.write(head(200, *HEADERS))
        for _ in range(n):
            await write_chunk(writer, frame(chunk("> 🏃 进度：45.9%\n\n")))
            await asyncio.sleep(self.chance.random() * 0.05)
            link = f"https://cdn.vendor.example/flow/{next(self.numbers)}.mp4"
            await write_chunk(writer, frame(chunk(f"> ✅ [点击这里]({link}) 查看\n\n")))
        await write_chunk(writer, DONE)
        writer.write(b"0\r\n\r\n")
        await writer.drain()


class Callers:
    """Callers who ask again and again, and remember every byte they were shown."""

    def __init__(self, server: ServerProcess, key: str) -> None:
        self.server, self.key = server, key
        self.seen: set[bytes] = set()
        self.answers = 0

    async def ask_forever(self, n: int) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        url = f"{self.server.url}/v1/chat/completions"
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                shown = b""
                try:
                    async with session.post(url, json=ask(n=n)) as response:
                        async for part in response.content.iter_any():
                            shown += part
                            self.seen.update(LINK.findall(shown))
                    self.answers += 1
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)


@pytest.mark.timeout(900)
async def test_fifty_kills_under_load_lose_nothing_and_charge_nothing_twice(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    vendor = Vendor(chance)
    async with gateways("api", "vip", "b") as made:
        for gateway in made:
            gateway.does(vendor.act)
        server = ServerProcess(tmp_path, [(one.name, one.url) for one in made])
        try:
            await assert_kills_are_survived(server, chance, made)
        finally:
            server.close()


async def assert_kills_are_survived(
    server: ServerProcess, chance: random.Random, made: list[Gateway]
) -> None:
    server.command("tenant", "add", "crash")
    callers = Callers(server, server.command("key", "add", "crash"))
    for _ in range(CYCLES):
        await server.start()
        asking = [asyncio.create_task(callers.ask_forever(1 + i % 4)) for i in range(CALLERS)]
        await asyncio.sleep(0.1 + chance.random() * 0.4)
        server.kill()
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    await server.start()
    assert_nothing_is_lost(server, callers, made)
    assert server.command("ledger", "verify")
    server.terminate()


def assert_nothing_is_lost(server: ServerProcess, callers: Callers, made: list[Gateway]) -> None:
    """What was seen is charged; what was charged is charged once; nothing is left open."""
    path = next(server.data_dir.glob("*.db*"))
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as ledger:
        charged = ledger.execute(
            "SELECT url FROM clips JOIN entries ON entries.id = 'charge:' || clips.id"
        ).fetchall()
        states = dict(ledger.execute("SELECT state, COUNT(*) FROM clips GROUP BY state"))
        generations = ledger.execute("SELECT COUNT(*) FROM generations").fetchone()[0]
    urls = [url.encode() for (url,) in charged]
    assert callers.seen <= set(urls)
    assert len(urls) == len(set(urls))
    assert set(states) <= {"delivered", "unknown", "failed"}, states
    assert sum(gateway.posts for gateway in made) <= generations
    assert callers.answers > CYCLES, "the callers were hardly served"
    assert states["unknown"] > 0, "no kill met a running clip"
