"""The vendor's bill: what was delivered, whoever was there to see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from proxy.sandbox import Sandbox
from tests.sandbox.dialling import accepted, ask, chat, exchange, make_video, running, until

Story = Callable[[Sandbox], Awaitable[None]]


def play(story: Story, *, speed: float = 100_000) -> None:
    async def run() -> None:
        async with running(speed=speed) as sandbox:
            await story(sandbox)

    asyncio.run(run())


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_hangs_up_is_billed_all_the_same(stream: bool) -> None:
    async def story(sandbox: Sandbox) -> None:
        caller = asyncio.create_task(chat(sandbox, "[[seconds 0.5]]", stream=stream))
        await until(lambda: accepted(sandbox))
        caller.cancel()
        await asyncio.wait([caller])
        assert sandbox.bill().clips == 0
        assert sandbox.bill().lines[0].state == "running"
        await sandbox.idle()
        assert sandbox.bill().micros == 150_000

    play(story)


def test_a_request_that_was_never_whole_is_no_job() -> None:
    async def story(sandbox: Sandbox) -> None:
        host, port = sandbox.urls["api"].removeprefix("http://").split(":")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await chat(sandbox, "after")
        assert sandbox.bill().jobs == 1

    play(story)


def test_requests_are_counted_by_their_prompt() -> None:
    async def story(sandbox: Sandbox) -> None:
        both = "[[gateway api]] [[status 500]]"
        await chat(sandbox, both, "api")
        await chat(sandbox, both, "vip")
        await make_video(sandbox, both, "b")
        await asyncio.gather(*(chat(sandbox, "[[seconds 0.4]]") for _ in range(3)))
        await ask(f"{sandbox.urls['api']}/v1/chat/completions", b"not json")
        tally = sandbox.tally(both)
        assert (tally.received, tally.accepted, tally.in_flight_max) == (3, 2, 1)
        tally = sandbox.tally("[[seconds 0.4]]")
        assert (tally.received, tally.accepted, tally.in_flight_max) == (3, 3, 3)
        assert tally.in_flight == 0
        assert sandbox.tally("never sent").received == 0
        shown = (await ask(f"{sandbox.control_url}/requests")).data
        assert {"received": 3, "accepted": 2, "in_flight": 0, "in_flight_max": 1} in shown.values()
        assert len(sandbox.bill().of(both)) == 2

    play(story)


def test_clips_of_one_job_come_one_after_the_other() -> None:
    async def story(sandbox: Sandbox) -> None:
        host, port = sandbox.urls["api"].removeprefix("http://").split(":")
        prompt = {"role": "user", "content": "[[seconds 1.2]]"}
        body = json.dumps({"model": "veo-3.1-fast", "stream": True, "n": 2, "messages": [prompt]})
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: sk-sandbox-raw\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write((head + body).encode())
        await reader.readuntil("视频 1 生成成功".encode())
        assert sandbox.bill().clips == 1
        await reader.read()
        while await reader.read(65536):
            pass
        assert sandbox.bill().clips == 2
        writer.close()
        await writer.wait_closed()

    play(story)


def test_speed_divides_the_time_and_standard_takes_longer_than_fast() -> None:
    async def seconds(sandbox: Sandbox, model: str) -> float:
        begun = asyncio.get_running_loop().time()
        await chat(sandbox, "x", model=model)
        return asyncio.get_running_loop().time() - begun

    async def story(sandbox: Sandbox) -> None:
        assert 0.2 <= await seconds(sandbox, "veo-3.1-fast") < 5
        assert 0.3 <= await seconds(sandbox, "veo-3.1") < 8

    play(story, speed=30)


def test_many_streams_at_once_all_end() -> None:
    async def story(sandbox: Sandbox) -> None:
        answers = await asyncio.gather(*(chat(sandbox, f"[[seconds 0.2]] {i}") for i in range(100)))
        links = {link for answer in answers for link in answer.links()}
        assert len(links) == 100 == sandbox.bill().clips

    play(story)


def test_a_sandbox_that_stops_leaves_nothing_behind() -> None:
    async def run() -> None:
        async with running() as sandbox:
            prompt = {"role": "user", "content": "[[seconds 60]]"}
            body = json.dumps({"model": "veo-3.1", "stream": True, "messages": [prompt]}).encode()
            head = b"POST /v1/chat/completions HTTP/1.1\r\nAuthorization: sk-sandbox\r\n"
            head += b"Content-Length: %d\r\n\r\n" % len(body)
            host, port = sandbox.urls["api"].removeprefix("http://").split(":")
            hanging = asyncio.create_task(exchange(host, int(port), head + body))
            await until(lambda: accepted(sandbox))
            address = (host, int(port))
        received, _ = await hanging
        assert b"200 OK" in received
        with pytest.raises(ConnectionRefusedError):
            await exchange(*address, b"")
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(run())
