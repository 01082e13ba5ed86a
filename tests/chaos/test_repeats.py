"""A server killed between any two steps of a purchase buys nothing twice for who comes back."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from proxy.config import SQLITE_FILE
from tests.gateways import STREAM_HEADERS as HEADERS
from tests.gateways import Act, Gateway, Request, answers, gateways, head, write_chunk
from tests.repeating import QUEUED, QUICK, asks, create, until_state
from tests.running import Answer, Running, configured, read, running
from tests.server_process import ServerProcess
from tests.streams import DONE, chunk, frame, success

NEXT = bytes([7]) * 32
LINK = "https://cdn.vendor.example/flow/clip-1.mp4"
WHOLE = {"choices": [{"message": {"content": success(1)}, "finish_reason": "stop"}]}
PARTS = [frame(chunk("x")), frame(chunk(success(1))), DONE]
MADE = answers(200, {**QUEUED, "status": "completed", "url": LINK})


def streams_clip() -> Act:
    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, *HEADERS))
        for part in PARTS:
            await write_chunk(writer, part)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    return act


@dataclass
class Kills:
    """Stands before the database, and keeps what a kill before and after each write would leave."""

    proxy: Running
    folder: Path
    made: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        house = self.proxy.house
        self.database = house.database
        house.database = house.settler._database = self  # type: ignore[assignment]
        self.read = self.database.read
        self.close = self.database.close

    async def write(self, fn: Callable[[Any], Any]) -> Any:
        await self._keep()
        written = await self.database.write(fn)
        await self._keep()
        return written

    async def _keep(self) -> None:
        """Copy the folder's files while nobody else writes."""
        folder = self.folder / str(len(self.made))
        folder.mkdir(parents=True)
        self.made.append(folder)
        source = self.proxy.config.data_dir

        def copy(_tx: object) -> None:
            for name in ("secret", SQLITE_FILE, f"{SQLITE_FILE}-wal"):
                shutil.copy(source / name, folder)

        await self.database.write(copy)


def was_written(folder: Path) -> bool:
    """Whether the killed process had written its purchase down."""
    with closing(sqlite3.connect(folder / SQLITE_FILE)) as ledger:
        return bool(ledger.execute("SELECT COUNT(*) FROM generations").fetchone()[0])


Post = Callable[[Running, str], Awaitable[Answer]]


async def streamed(proxy: Running, key: str) -> Answer:
    return await proxy.chat(asks(), key=key, idempotency_key="k")


async def whole(proxy: Running, key: str) -> Answer:
    return await proxy.chat(asks(stream=False), key=key, idempotency_key="k")


async def ordered(proxy: Running, key: str) -> Answer:
    return await create(proxy, key=key, idempotency_key="k")


WAYS: dict[str, tuple[Post, list[Act]]] = {
    "streamed": (streamed, [streams_clip()]),
    "whole": (whole, [answers(200, WHOLE)]),
    "video": (ordered, [answers(200, QUEUED), MADE]),
}


@pytest.mark.parametrize(("post", "acts"), WAYS.values(), ids=WAYS.keys())
async def test_killed_between_any_two_writes_it_is_resumed_or_told_and_never_bought_again(
    tmp_path: Path, post: Post, acts: list[Act]
) -> None:
    kept: dict[str, Any] = {"limits": QUICK, "follow": {"poll_seconds": 0.05}}
    async with gateways("api") as (api,):
        urls = [("api", api.url)]
        api.does(*acts)
        async with running(configured(tmp_path / "live", urls, **kept)) as proxy:
            kills = Kills(proxy, tmp_path / "killed")
            first = await post(proxy, proxy.key)
            await proxy.settled()
            await until_state(proxy, "delivered")
            key, made = proxy.key, list(kills.made)
            proxy.house.database = proxy.house.settler._database = kills.database
        assert first.status == 200
        written = [was_written(folder) for folder in made]
        assert sum(written) >= 3
        assert not written[0]
        for folder, bought in zip(made, written, strict=True):
            api.does(*acts)
            before = api.posts
            async with running(configured(folder, urls, **kept), seed=NEXT) as proxy:
                given = [await post(proxy, key) for _ in range(2)]
                assert_told(given, first, anew=not bought)
                assert api.posts - before == (0 if bought else 1)


def assert_told(given: list[Answer], first: Answer, *, anew: bool) -> None:
    """Each is the clip, or the error that names the first request."""
    generation = "x-clipmeter-generation"
    ids = {one.headers[generation] for one in given}
    assert len(ids) == 1
    assert anew or ids == {first.headers[generation]}
    for one in given:
        if one.status == 504:
            one.assert_error(504, "outcome_unknown")
            assert not anew
        else:
            assert (one.status, one.broken) == (200, False)
            assert b"/content?" in one.body or b"clip-1" in one.body or b'"video' in one.body


class KillingVendor:
    """Kills the server when it has come so far with an answer, and goes on as if nothing were."""

    def __init__(self, server: ServerProcess, step: int) -> None:
        self.server, self.step = server, step

    async def act(self, request: Request, writer: asyncio.StreamWriter) -> None:
        for number, part in enumerate([b"", head(200, *HEADERS), *PARTS]):
            if number > 1:
                await write_chunk(writer, part)
            else:
                writer.write(part)
                await writer.drain()
            if number == self.step:
                await asyncio.sleep(0.05)  # as far as it gets in that time
                self.server.kill()
                return
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@pytest.mark.timeout(300)
async def test_a_real_kill_at_each_step_of_the_vendors_leaves_one_purchase(tmp_path: Path) -> None:
    async with gateways("api") as (api,):
        server = ServerProcess(tmp_path, [("api", api.url)])
        try:
            server.command("tenant", "add", "crash")
            key = server.command("key", "add", "crash")
            await server.start()
            for step in (0, 2, 3, 4):  # read, begun, announced, done
                api.does(KillingVendor(server, step).act)
                await assert_one_purchase(server, api, key, f"scene-{step}")
            assert server.command("ledger", "verify")
        finally:
            server.close()


async def assert_one_purchase(server: ServerProcess, api: Gateway, key: str, name: str) -> None:
    before = api.posts
    first = await post(server, key, name)
    await server.start()
    given = [await post(server, key, name) for _ in range(2)]
    assert api.posts - before == 1
    assert len({(one.status, one.headers["x-clipmeter-generation"]) for one in given if one}) == 1
    for one in given:
        assert one is not None
        if one.status != 200:
            one.assert_error(504, "outcome_unknown")
            # Whoever has seen a link is never told that nobody knows.
            assert first is None or LINK.encode() not in first.body


async def post(server: ServerProcess, key: str, name: str) -> Answer | None:
    """What the caller got before the server died, if anything."""
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "idempotency-key": name,
    }
    url = f"{server.url}/v1/chat/completions"
    try:
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.post(url, data=json.dumps(asks())) as response,
        ):
            return await read(response)
    except aiohttp.ClientError:
        return None
