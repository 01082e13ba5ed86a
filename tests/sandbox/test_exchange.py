"""What every answer of a gateway has in common."""

from __future__ import annotations

import asyncio

import pytest

from tests.sandbox.dialling import Answer, ask, chat, running


def test_every_answer_carries_the_vendors_request_ids() -> None:
    async def run() -> list[Answer]:
        async with running() as sandbox:
            return [
                await chat(sandbox, "x", "api"),
                await chat(sandbox, "[[status 500]]", "vip"),
                await chat(sandbox, "x", "b"),
            ]

    answers = asyncio.run(run())
    ids = {answer.headers["x-shellapi-request-id"] for answer in answers}
    assert len(ids | {answer.headers["x-request-id"] for answer in answers}) == 6
    assert ["x-oneapi-request-id" in answer.headers for answer in answers] == [False, False, True]


@pytest.mark.parametrize("gateway", ["api", "vip", "b"])
def test_words_after_a_gateway_bend_only_that_gateway(gateway: str) -> None:
    async def run() -> list[int]:
        async with running() as sandbox:
            prompt = f"[[gateway {gateway}]] [[status 503]]"
            return [(await chat(sandbox, prompt, name)).status for name in sandbox.urls]

    statuses = asyncio.run(run())
    assert statuses.count(503) == 1
    assert statuses[("api", "vip", "b").index(gateway)] == 503


def test_a_fault_comes_before_the_refusal_of_a_wrong_order_or_key() -> None:
    async def run() -> None:
        async with running() as sandbox:
            await sandbox.put(fault="status", status=502)
            assert (await chat(sandbox, "x", n=9)).status == 502
            url = f"{sandbox.urls['api']}/v1/chat/completions"
            assert (await ask(url, b"{}", headers={"Authorization": ""})).status == 502
            await sandbox.clear()
            assert (await chat(sandbox, "x", n=9)).status == 400

    asyncio.run(run())
