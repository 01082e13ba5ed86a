"""Routes, keys and ids of a gateway, and how strictly it reads HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from proxy.sandbox import Sandbox, documented_products
from tests.sandbox.dialling import Answer, ask, chat, finished_video, running

BODY = json.dumps(
    {"model": "veo-3.1-fast", "stream": True, "messages": [{"role": "user", "content": "a"}]}
).encode()


def fetch(path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    async def run() -> Answer:
        async with running() as sandbox:
            return await ask(f"{sandbox.urls['b']}{path}", method=method, headers=headers)

    return asyncio.run(run())


@pytest.mark.parametrize("key", ["", "Bearer ", "Bearer sk-other", "sk-cm-mine", "Basic c2s="])
def test_a_wrong_key_is_refused_and_free(key: str) -> None:
    async def run() -> None:
        async with running() as sandbox:
            url = f"{sandbox.urls['api']}/v1/chat/completions"
            answer = await ask(url, BODY, headers={"Authorization": key})
            assert (answer.status, answer.data["error"]["code"]) == (401, "invalid_api_key")
            assert sandbox.bill().jobs == 0

    asyncio.run(run())


@pytest.mark.parametrize("key", ["Bearer sk-sandbox", "sk-sandbox", "Bearer sk-sandbox-team-7"])
def test_a_key_is_taken_with_or_without_bearer(key: str) -> None:
    assert fetch("/v1/models", headers={"Authorization": key}).status == 200


def test_the_models_on_sale_are_listed() -> None:
    listed = fetch("/v1/models").data
    assert listed["object"] == "list"
    assert {model["id"] for model in listed["data"]} == set(documented_products())
    assert len(listed["data"]) == 8


def test_an_unknown_path_is_a_web_page() -> None:
    answer = fetch("/v1/nothing")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    twice = fetch("/v1/v1/chat/completions", "POST")
    assert twice.status == 404
    assert twice.data["error"]["message"] == "Invalid URL (POST /v1/v1/chat/completions)"


def test_ids_of_jobs_are_shared_and_chats_are_no_jobs() -> None:
    async def run(sandbox: Sandbox) -> None:
        job = await finished_video(sandbox, "x", "vip")
        assert job.startswith("video_")
        polls = [await ask(f"{url}/v1/videos/{job}") for url in sandbox.urls.values()]
        assert {poll.data["status"] for poll in polls} == {"completed"}
        chat_id = (await chat(sandbox, "x")).chunks[0]["id"]
        absent = await ask(f"{sandbox.urls['api']}/v1/videos/{chat_id}")
        assert (absent.status, absent.data["error"]["code"]) == (404, "video_not_found")

    async def story() -> None:
        async with running() as sandbox:
            await run(sandbox)

    asyncio.run(story())
