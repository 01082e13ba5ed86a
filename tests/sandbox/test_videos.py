"""A job's way through the states a caller polls."""

from __future__ import annotations

import asyncio
from typing import Any

from proxy.sandbox import Sandbox
from tests.sandbox.dialling import ask, make_video, running


async def states(sandbox: Sandbox, prompt: str) -> list[dict[str, Any]]:
    """Every different status a poller sees, first and last included."""
    job = (await make_video(sandbox, prompt, model="veo-3.1-landscape")).data["id"]
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(10):
        while not seen or seen[-1]["status"] not in {"completed", "failed"}:
            body = (await ask(f"{sandbox.urls['api']}/v1/videos/{job}")).data
            if not seen or body["status"] != seen[-1]["status"]:
                seen.append(body)
            await asyncio.sleep(0.005)
    return seen


def test_a_job_is_queued_then_processed_then_completed() -> None:
    async def run() -> None:
        async with running() as sandbox:
            seen = await states(sandbox, "[[seconds 0.8]]")
            assert [body["status"] for body in seen] == ["queued", "processing", "completed"]
            assert [body["progress"] for body in seen][::2] == [0, 100]
            assert 0 < seen[1]["progress"] < 100
            done = seen[-1]
            assert done["model"] == "sora2_video_generation"  # the gateway's word, as captured
            assert (done["seconds"], done["size"]) == ("4", "1280x720")
            assert done["completed_at"] >= done["created_at"]
            assert sandbox.bill().micros == 250_000
            assert sandbox.bill().lines[0].kind == "video"
            assert done["url"] == sandbox.bill().lines[0].clips[0].url

    asyncio.run(run())


def test_a_job_that_fails_says_why_in_a_task_envelope_and_is_free() -> None:
    async def run() -> None:
        async with running() as sandbox:
            seen = await states(sandbox, "[[seconds 0.2]] [[fail PUBLIC_ERROR_AUDIO_FILTERED]]")
            failed = seen[-1]
            assert not {"id", "created_at", "model"} & set(failed)
            assert failed["error"] == {
                "message": "PUBLIC_ERROR_AUDIO_FILTERED",
                "type": "task_failed",
            }
            assert failed["data"]["error"]["code"] == ""
            assert failed["data"]["id"] == failed["task_id"]
            assert sandbox.bill().micros == 0

    asyncio.run(run())


def test_the_content_of_an_unfinished_job_is_not_ready() -> None:
    async def run() -> None:
        async with running() as sandbox:
            job = (await make_video(sandbox, "[[seconds 0.3]]")).data["id"]
            url = f"{sandbox.urls['api']}/v1/videos/{job}/content"
            early = await ask(url)
            assert early.status == 400
            assert "IN_PROGRESS" in early.data["error"]["message"]
            await sandbox.idle()
            late = await ask(url)
            assert (late.status, late.data["duration"]) == (200, 8)
            assert late.data["resolution"] == "720x1280"
            assert (await ask(late.data["url"])).body[4:8] == b"ftyp"

    asyncio.run(run())


def test_a_job_makes_one_clip_whatever_n_says() -> None:
    async def run() -> None:
        async with running() as sandbox:
            await make_video(sandbox, "x", n=4)
            await sandbox.idle()
            assert sandbox.bill().clips == 1

    asyncio.run(run())
