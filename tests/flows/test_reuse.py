"""An identical request that asks for it is answered from what its own team has already."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.core.links import Asked
from proxy.core.meter import Meter
from tests.archiving import MP4
from tests.clip_host import kept
from tests.core.test_images import jpeg
from tests.gateways import Act, Gateway, answers, gateways, streams
from tests.repeating import (
    FAST,
    OPT_IN,
    QUEUED,
    QUICK,
    announced,
    asks,
    change,
    create,
    fetch,
    hosting,
    replayed,
    serving,
    until_state,
    usage,
)
from tests.running import Answer, Running, ask, configured, read, running, until
from tests.streams import chinese

LINK = re.compile(rb"\]\((http://127\.0\.0\.1:\d+/[^)]+)\)")
ON: dict[str, Any] = {"x_clipmeter_reuse": "on"}
OTHER = bytes([9]) * 32
NEXT = bytes([7]) * 32
FRAME = jpeg(720, 1280)


def status_of(answer: Answer) -> str:
    return answer.headers["cache-status"]


async def bought(proxy: Running, body: Any = None, **headers: str) -> Answer:
    """An answer whose clips are kept."""
    first = await proxy.chat(body or asks(), **headers)
    assert first.status == 200
    await proxy.settled()
    for clip_id in first.headers["x-clipmeter-clips"].split(","):
        await kept(proxy, clip_id)
    return first


def delivers(host: Gateway, *names: str) -> Act:
    return streams(announced(host, *names))


@pytest.mark.parametrize("stream", [True, False])
async def test_an_identical_request_gets_a_fresh_answer_whose_links_work_now(
    tmp_path: Path, stream: bool
) -> None:
    body = asks(n=2, stream=stream)
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one", "two"), replay=OPT_IN) as (proxy, api),
    ):
        first = await bought(proxy, body, **ON)
        assert status_of(first) == "clipmeter; fwd=miss"
        host.does(answers(404, b"dead"))
        again = await proxy.chat(body, **ON)
        assert (again.status, status_of(again)) == (200, "clipmeter; hit")
        assert "idempotency-replayed" not in again.headers
        clips = "x-clipmeter-clips"
        assert again.headers[clips] == first.headers[clips]
        links = [link.decode() for link in LINK.findall(again.body.replace(b"\\/", b"/"))]
        assert [await fetch(link) for link in links] == [(200, MP4)] * 2
        meter = Meter(2, Asked(()), streamed=stream, event_bytes_max=100_000)
        announced_now = len(meter.feed(again.body).links)
        assert announced_now + len(meter.finish(complete=True).links) == 2
        kind = "text/event-stream" if stream else "application/json"
        assert again.headers["content-type"] == kind
        assert (api.posts, await proxy.charged()) == (1, 2 * FAST)
        await until(lambda: len(proxy.house.background) == 0)
        assert await replayed(proxy) == [("reuse", FAST)] * 2
        totals = (await usage(proxy))["totals"]
        assert (totals["replayed"], totals["avoided_usd"]) == (2, "0.30")


async def test_a_streamed_answer_made_afresh_is_one_that_an_sdk_reads(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, _),
    ):
        await bought(proxy, **ON)
        again = await proxy.chat(asks(), **ON)
        lines = again.body.decode().removesuffix("\n\n").split("\n\n")
        assert lines[-1] == "data: [DONE]"
        chunks = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
        assert {one["model"] for one in chunks} == {"veo-3.1-fast"}
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_where_it_is_not_allowed_the_wish_is_told_and_not_followed(tmp_path: Path) -> None:
    async with serving(tmp_path) as (proxy, api):
        for _ in range(2):
            answer = await proxy.chat(asks(), **ON)
            assert status_of(answer) == "clipmeter; fwd=miss; detail=reuse-off"
        assert api.posts == 2


async def test_who_does_not_ask_for_it_buys(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, api),
    ):
        await bought(proxy, **ON)
        assert status_of(await proxy.chat(asks())) == "clipmeter; fwd=bypass"
        assert status_of(await proxy.chat(asks(), x_clipmeter_reuse="off")) == (
            "clipmeter; fwd=bypass"
        )
        assert api.posts == 3


def framed(image: bytes, prompt: str = "move") -> dict[str, Any]:
    """A chat about an image."""
    url = "data:image/jpeg;base64," + base64.b64encode(image).decode()
    content = [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return ask(model="veo-3.1-fast-fl", messages=[{"role": "user", "content": content}])


async def test_another_team_another_image_or_another_parameter_is_a_miss(tmp_path: Path) -> None:
    changed = FRAME[:-3] + bytes([FRAME[-3] ^ 1]) + FRAME[-2:]
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, api),
    ):
        rival = await proxy.add_key(seed=OTHER)
        await bought(proxy, framed(FRAME), **ON)
        assert status_of(await proxy.chat(framed(FRAME), **ON)) == "clipmeter; hit"
        missed = [
            await proxy.chat(framed(FRAME), key=rival, **ON),
            await proxy.chat(framed(changed), **ON),
            await proxy.chat(framed(FRAME, "Move"), **ON),
            await proxy.chat({**framed(FRAME), "stream": False}, **ON),
            await proxy.chat({**framed(FRAME), "model": "veo-3.1-fl"}, **ON),
        ]
        assert {status_of(one) for one in missed} == {"clipmeter; fwd=miss"}
        assert api.posts == 1 + len(missed)


async def test_a_clip_that_is_no_longer_kept_is_bought_anew(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, api),
    ):
        await bought(proxy, **ON)
        await change(proxy, "UPDATE keepings SET state = 'evicted'")
        assert status_of(await proxy.chat(asks(), **ON)) == "clipmeter; fwd=miss"
        assert api.posts == 2


async def test_misses_in_flight_are_one(tmp_path: Path) -> None:
    async with serving(tmp_path, replay=OPT_IN) as (proxy, api):
        given = await asyncio.gather(*(proxy.chat(asks(), **ON) for _ in range(10)))
        assert {(one.status, one.body) for one in given} == {(200, chinese())}
        statuses = [status_of(one) for one in given]
        assert statuses.count("clipmeter; fwd=miss") == 1
        assert api.posts == 1


async def test_a_key_that_was_answered_by_another_purchase_stays_with_it(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, api),
    ):
        first = await bought(proxy, **ON)
        await proxy.chat(asks(), idempotency_key="k", **ON)
        again = await proxy.chat(asks(), idempotency_key="k")
        assert again.body == first.body
        assert again.headers["x-clipmeter-clips"] == first.headers["x-clipmeter-clips"]
        assert again.headers["idempotency-replayed"] == "true"
        assert api.posts == 1


async def test_one_that_had_nothing_to_give_after_all_keeps_nobodys_key(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, delivers(host, "one"), replay=OPT_IN) as (proxy, api),
    ):
        await bought(proxy, **ON)
        # As a process leaves it that dies before the last settlement, and a vault that is full.
        await change(
            proxy,
            "UPDATE generations SET ended_at = NULL, process_id = 'process_dead'",
            "UPDATE keepings SET state = 'evicted'",
            "DELETE FROM answers",
        )
        given = [await proxy.chat(asks(), idempotency_key="k", **ON) for _ in range(2)]
        assert [status_of(one) for one in given] == ["clipmeter; fwd=miss", "clipmeter; hit"]
        assert given[0].body == given[1].body
        assert api.posts == 2


async def test_what_runs_in_another_process_is_waited_for(
    tmp_path: Path, postgres_url: str
) -> None:
    gate = asyncio.Event()
    groups: dict[str, Any] = {
        "database": {"url": postgres_url},
        "secrets": {"key": "0123456789abcdef" * 2},
        "limits": QUICK,
        "replay": OPT_IN,
    }
    async with hosting() as host, gateways("api") as (api,):
        body = announced(host, "one")
        api.does(streams(body[:100], body[100:], gate=gate))
        urls = [("api", api.url)]
        async with (
            running(configured(tmp_path / "one", urls, **groups)) as one,
            running(configured(tmp_path / "two", urls, **groups), seed=NEXT) as two,
        ):
            async with one.asking(asks(), **ON) as response:
                await response.content.readexactly(100)
                busy = await two.chat(asks(), key=one.key, **ON)
                busy.assert_error(409, "idempotency_in_progress", retry=True)
                gate.set()
                await read(response)
            await one.settled()
            again = await two.chat(asks(), key=one.key, **ON)
            assert (again.status, status_of(again)) == (200, "clipmeter; hit")
            assert api.posts == 1


async def test_a_video_is_the_earlier_video(tmp_path: Path) -> None:
    async with (
        hosting() as host,
        serving(tmp_path, replay=OPT_IN, follow={"poll_seconds": 0.05}) as (proxy, api),
    ):
        done = {**QUEUED, "status": "completed", "url": f"{host.url}/one.mp4"}
        api.does(answers(200, QUEUED), answers(200, done))
        first = await create(proxy, **ON)
        clip_id = json.loads(first.body)["id"]
        running_still = await create(proxy, **ON)
        assert json.loads(running_still.body)["id"] == clip_id
        await until(lambda: api.posts < len(api.requests))
        await proxy.settled()
        await until_state(proxy, "delivered")
        await kept(proxy, clip_id)
        again = await create(proxy, **ON)
        video = json.loads(again.body)
        assert (video["id"], video["status"], status_of(again)) == (
            clip_id,
            "completed",
            "clipmeter; hit",
        )
        assert await fetch(video["url"]) == (200, MP4)
        rival = await proxy.add_key(seed=OTHER)
        assert json.loads((await create(proxy, key=rival, **ON)).body)["id"] != clip_id
        assert api.posts == 2
