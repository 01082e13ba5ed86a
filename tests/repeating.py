"""A proxy whose callers say the same again, and what they compare of the answers."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import Connection, text

from tests.archiving import clips
from tests.gateways import Act, Gateway, answers, gateways
from tests.running import Answer, Running, ask, configured, read, running
from tests.streams import DONE, chunk, frame

FAST = 150_000
QUICK = {"stall_seconds_max": 5, "head_seconds_max": 5, "connect_seconds_max": 1}
QUEUED = {"id": "video_abc123", "object": "video", "status": "queued"}
OPT_IN = {"reuse": "opt-in"}
ORDER: dict[str, Any] = {"model": "veo-3.1-fast", "prompt": "a cat"}

FIRST_TIME = {
    *("x-request-id", "date", "cache-status", "idempotency-replayed"),
    *("transfer-encoding", "content-length"),
}
"""Headers in which an answer that is given again may differ from the first."""


@asynccontextmanager
async def serving(
    tmp_path: Path, *acts: Act, names: tuple[str, ...] = ("api", "vip", "b"), **groups: Any
) -> AsyncIterator[tuple[Running, Gateway]]:
    """A proxy before gateways, the first of which acts as told."""
    async with gateways(*names) as made:
        if acts:
            made[0].does(*acts)
        limits = {**QUICK, **groups.pop("limits", {})}
        urls = [(one.name, one.url) for one in made]
        config = configured(tmp_path, urls, limits=limits, **groups)
        async with running(config) as proxy:
            yield proxy, made[0]


@asynccontextmanager
async def hosting() -> AsyncIterator[Gateway]:
    """A host that gives a clip under every path."""
    async with gateways("host") as (host,):
        host.does(clips())
        yield host


def announced(host: Gateway, *names: str) -> bytes:
    """A stream that announces clips of the host's."""
    lines = [
        f"> ✅ Video {number} complete, [click here]({host.url}/{name}.mp4) to view~~~\n\n"
        for number, name in enumerate(names, 1)
    ]
    frames = [frame(chunk(line)) for line in lines]
    return b"".join([*frames, frame(chunk(finish="stop")), DONE])


def rate_limited() -> Act:
    """The vendor's own refusal that waiting cures."""
    return answers(429, {"error": {"message": "当前分组上游负载已饱和,请稍后再试", "type": "x"}})


def waits(gate: asyncio.Event, act: Act) -> Act:
    """Nothing at all before the gate."""

    async def late(request: Any, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await act(request, writer)

    return late


def lasting(answer: Answer) -> dict[str, str]:
    """The headers that are the same however often the answer is given."""
    return {name: value for name, value in answer.headers.items() if name not in FIRST_TIME}


def assert_given_again(again: Answer, first: Answer) -> None:
    """It is the first answer, byte for byte, and says that it is not the first."""
    assert (again.status, again.body) == (first.status, first.body)
    assert not again.broken
    assert lasting(again) == lasting(first)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


async def create(
    proxy: Running, order: bytes | None = None, key: str = "", **headers: str
) -> Answer:
    """POST an order of a video; `order` is the body of a form whose parts `xYz` bounds."""
    kind = "application/json" if order is None else "multipart/form-data; boundary=xYz"
    named = {"authorization": f"Bearer {key or proxy.key}", "content-type": kind}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    raw = json.dumps(ORDER).encode() if order is None else order
    async with (
        aiohttp.ClientSession(headers=named) as session,
        session.post(f"{proxy.url}/v1/videos", data=io.BytesIO(raw)) as response,
    ):
        return await read(response)


async def fetch(link: str) -> tuple[int, bytes]:
    """What a link without a key gives."""
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        return response.status, await response.read()


async def until_state(proxy: Running, state: str) -> None:
    """Wait until one of the clips is in `state`."""
    async with asyncio.timeout(20):
        while state not in await proxy.states():  # noqa: ASYNC110 - the row tells nobody
            await asyncio.sleep(0.01)


async def replayed(proxy: Running) -> list[tuple[Any, ...]]:
    """What was booked as given again: why, and the price of each clip."""
    return await proxy.rows(
        "SELECT generations.reason, clips.price_micros FROM clips "
        "JOIN generations ON generations.id = clips.generation_id "
        "WHERE clips.state = 'replayed' ORDER BY generations.accepted_at, clips.position"
    )


async def change(proxy: Running, *statements: str) -> None:
    """Change the database behind the program's back."""

    def write(tx: Connection) -> None:
        for statement in statements:
            tx.execute(text(statement))

    await proxy.house.database.write(write)


async def usage(proxy: Running) -> dict[str, Any]:
    """The team's own numbers."""
    found: dict[str, Any] = json.loads((await proxy.get("/v1/usage")).body)
    return found


def asks(**fields: Any) -> dict[str, Any]:
    """The same request, unless `fields` make it another."""
    return ask("the same again", **fields)
