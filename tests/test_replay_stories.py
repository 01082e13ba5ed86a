"""When an answer is lost on its way a team's SDK asks again, and nothing is bought twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from proxy.sandbox import Sandbox
from proxy.sandbox.render import stamped
from tests.cutting import Cutter, cutting
from tests.gateways import Act, answers, gateways, resets, streams
from tests.repeating import QUICK, replayed, usage
from tests.running import Running, configured, running, until
from tests.streams import chinese
from tests.test_stories import LINK, a_team, bytes_of, messages, node

# OpenAI's own service is closed; its SDK says so, and works with whoever speaks its protocol.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")

FILM = "[[seconds 0.3]]"


@asynccontextmanager
async def a_team_on_a_bad_line(
    tmp_path: Path, cuts: int = 1, **groups: Any
) -> AsyncIterator[tuple[Running, Sandbox, openai.AsyncOpenAI, Cutter]]:
    """A team whose first answers never arrive."""
    groups = {"follow": {"poll_seconds": 0.2}, "vault": {"download_private": True}, **groups}
    async with (
        a_team(tmp_path, renderer=stamped, **groups) as (proxy, sandbox, client),
        cutting(proxy.url, cuts) as cutter,
    ):
        yield proxy, sandbox, client.with_options(base_url=f"{cutter.url}/v1"), cutter


async def text_of(client: openai.AsyncOpenAI, *, stream: bool, **options: Any) -> str:
    """What the SDK's caller is told."""
    asked: Any = {"model": "veo-3.1-fast", "messages": messages("a cat"), **options}
    if not stream:
        answer = await client.chat.completions.create(**asked)
        return answer.choices[0].message.content or ""
    text = ""
    async for chunk in await client.chat.completions.create(**asked, stream=True):
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return text


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_lost_answer_is_had_by_the_sdks_own_repeat_for_one_purchase(
    tmp_path: Path, stream: bool, cuts: int
) -> None:
    async with a_team_on_a_bad_line(tmp_path, cuts) as (proxy, sandbox, client, cutter):
        (link,) = LINK.findall(await text_of(client, stream=stream))
        assert (await bytes_of(link))[4:8] == b"ftyp"
        assert cutter.connections == cuts + 1
        await proxy.settled()
        await until(lambda: proxy.running == 0)
        assert (sandbox.bill().jobs, await proxy.charged()) == (1, 150_000)
        await told_as_replayed(proxy, cuts)


async def told_as_replayed(proxy: Running, clips: int) -> None:
    """The team's usage shows so many clips that were given again."""
    async with asyncio.timeout(20):
        while len(await replayed(proxy)) < clips:  # noqa: ASYNC110 - the row tells nobody
            await asyncio.sleep(0.02)
    totals = (await usage(proxy))["totals"]
    assert (totals["delivered"], totals["replayed"]) == (1, clips)
    assert totals["avoided_usd"] == ("0.15" if clips == 1 else "0.30")


async def test_a_lost_video_is_had_by_the_sdks_own_repeat_for_one_purchase(tmp_path: Path) -> None:
    async with a_team_on_a_bad_line(tmp_path) as (proxy, sandbox, client, cutter):
        video = await client.videos.create_and_poll(model="veo-3.1-fast", prompt=f"a cat {FILM}")
        assert (video.status, cutter.connections > 1) == ("completed", True)
        assert [one.id async for one in client.videos.list()] == [video.id]
        assert (await client.videos.download_content(video.id)).content[4:8] == b"ftyp"
        assert (sandbox.bill().jobs, await proxy.charged()) == (1, 150_000)
        await told_as_replayed(proxy, 1)


@pytest.mark.parametrize("mode", ["stream", "whole"])
async def test_the_npm_sdk_too_has_its_lost_answer_for_one_purchase(
    tmp_path: Path, mode: str
) -> None:
    async with a_team_on_a_bad_line(tmp_path) as (proxy, sandbox, _, cutter):
        said = await node(f"{cutter.url}/v1", proxy.key, mode, "veo-3.1-fast", f"a cat {FILM}", "1")
        assert len(LINK.findall(said["text"])) == 1
        await proxy.settled()
        assert (sandbox.bill().jobs, await proxy.charged()) == (1, 150_000)


async def test_a_program_that_was_killed_has_its_clip_by_its_key(tmp_path: Path) -> None:
    async with a_team(tmp_path, renderer=stamped) as (proxy, sandbox, client):
        named: Any = {"extra_headers": {"Idempotency-Key": "scene-12"}}
        asking = asyncio.create_task(text_of(client, stream=False, **named))
        await until(lambda: sandbox.bill().jobs == 1)
        asking.cancel()
        await asyncio.wait([asking])
        texts = [await text_of(client, stream=False, **named) for _ in range(2)]
        assert texts[0] == texts[1]
        assert len(LINK.findall(texts[0])) == 1
        assert (sandbox.bill().jobs, await proxy.charged()) == (1, 150_000)


async def test_the_same_request_twice_is_two_clips(tmp_path: Path) -> None:
    async with a_team(tmp_path, renderer=stamped) as (proxy, sandbox, client):
        await asyncio.gather(*(text_of(client, stream=True) for _ in range(2)))
        assert await proxy.settled() == ["delivered", "delivered"]
        assert (sandbox.bill().jobs, await proxy.charged()) == (2, 300_000)


BUSY = answers(429, {"error": {"message": "saturated", "type": "x"}}, ("Retry-After", "0"))


@pytest.mark.parametrize(
    ("acts", "sent", "told"),
    [
        ((resets(),), 1, openai.InternalServerError),
        ((BUSY,), 3, openai.RateLimitError),
        ((BUSY, BUSY, streams(chinese())), 3, None),
    ],
    ids=["maybe bought", "surely not bought", "not bought, then bought"],
)
async def test_the_sdk_repeats_what_was_surely_not_bought_and_nothing_else(
    tmp_path: Path, acts: tuple[Act, ...], sent: int, told: type[Exception] | None
) -> None:
    async with gateways("api") as (api,):
        api.does(*acts)
        config = configured(tmp_path, [("api", api.url)], limits=QUICK)
        async with running(config) as proxy:
            client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key)
            async with client:
                if told is None:
                    assert "clip-1" in await text_of(client, stream=True)
                else:
                    with pytest.raises(told):
                        await text_of(client, stream=False)
        assert api.posts == sent
