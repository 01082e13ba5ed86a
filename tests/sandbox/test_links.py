"""Clips by link: whole, in ranges, and dead when their time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.sandbox import Sandbox
from tests.sandbox.dialling import Answer, ask, chat, finished_video, running, until

Story = Callable[[Sandbox, str], Awaitable[None]]


def play(story: Story, prompt: str = "a clip", link_seconds: float = 3600.0) -> None:
    async def run() -> None:
        async with running(link_seconds=link_seconds) as sandbox:
            await story(sandbox, (await chat(sandbox, prompt)).links()[0])

    asyncio.run(run())


def test_a_link_needs_no_key_and_gives_the_clip() -> None:
    async def story(_: Sandbox, url: str) -> None:
        answer = await ask(url, headers={"Authorization": ""})
        assert (answer.status, answer.headers["content-type"]) == (200, "video/mp4")
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.body[4:8] == b"ftyp"
        assert (await ask(url)).body == answer.body

    play(story)


def test_a_head_request_gets_the_length_and_no_body() -> None:
    async def story(_: Sandbox, url: str) -> None:
        whole, head = await ask(url), await ask(url, method="HEAD")
        assert head.body == b""
        assert int(head.headers["content-length"]) == len(whole.body)
        assert head.headers["etag"] == whole.headers["etag"]

    play(story)


@pytest.mark.parametrize(
    ("asked", "status", "first", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, None),
        ("bytes=-50", 206, -50, None),
        ("bytes=10-99999999", 206, 10, None),
        ("bytes=99999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("lines=1-2", 200, 0, None),
    ],
)
def test_one_range_is_served(asked: str, status: int, first: int, end: int | None) -> None:
    async def story(_: Sandbox, url: str) -> None:
        whole = (await ask(url)).body
        answer = await ask(url, headers={"Range": asked})
        assert (answer.status, answer.body) == (status, whole[first:end])
        if status == 206:
            begin = first % len(whole)
            last = begin + len(answer.body) - 1
            assert answer.headers["content-range"] == f"bytes {begin}-{last}/{len(whole)}"

    play(story)


def test_a_known_tag_is_answered_without_a_body() -> None:
    async def story(_: Sandbox, url: str) -> None:
        tag = (await ask(url)).headers["etag"]
        answer = await ask(url, headers={"If-None-Match": tag})
        assert (answer.status, answer.body) == (304, b"")
        stale = await ask(url, headers={"If-Range": '"other"', "Range": "bytes=0-1"})
        assert stale.status == 200

    play(story)


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [("plain", 404, b"NoSuchKey"), ("[[link signed]]", 403, b"ExpiredToken")],
)
def test_links_die_by_order(prompt: str, status: int, code: bytes) -> None:
    async def story(sandbox: Sandbox, url: str) -> None:
        assert (await ask(url)).status == 200
        assert (await ask(f"{sandbox.control_url}/links/expire", b"")).data == {"expired": 1}
        answer = await ask(url)
        assert (answer.status, answer.headers["content-type"]) == (status, "application/xml")
        assert code in answer.body
        fresh = (await chat(sandbox, prompt)).links()[0]
        assert (await ask(fresh)).status == 200

    play(story, prompt)


def test_links_die_of_age_and_so_do_jobs() -> None:
    async def story(sandbox: Sandbox, url: str) -> None:
        job = await finished_video(sandbox, "x")
        status = f"{sandbox.urls['vip']}/v1/videos/{job}"
        await until(lambda: dead(url))
        await until(lambda: dead(status))
        gone: Answer = await ask(status)
        assert (gone.status, gone.data["error"]["code"]) == (404, "video_not_found")

    play(story, link_seconds=0.3)


async def dead(url: str) -> bool:
    return (await ask(url)).status != 200


def test_a_forged_link_is_refused() -> None:
    async def story(_: Sandbox, url: str) -> None:
        forged = await ask(url.replace("Signature=", "Signature=0"))
        assert (forged.status, b"SignatureDoesNotMatch" in forged.body) == (403, True)

    play(story, "[[link signed]]")


def test_an_unknown_clip_is_absent() -> None:
    async def story(_: Sandbox, url: str) -> None:
        other = url[:-40] + "00000000-0000-4000-8000-000000000000.mp4"
        assert (await ask(other)).status == 404

    play(story)


def test_a_rule_can_cut_a_download() -> None:
    async def story(sandbox: Sandbox, url: str) -> None:
        await sandbox.put(fault="cut", bytes=1000, on="link", times=1)
        answer = await ask(url)
        assert (answer.end, len(answer.body)) == ("cut", 1000)
        assert int(answer.headers["content-length"]) > 1000
        assert (await ask(url)).end == "whole"

    play(story)
