"""The recorded error bodies, as they arrive."""

from __future__ import annotations

import asyncio

import pytest

from proxy.sandbox.errors import ERRORS, by_status
from tests.sandbox.dialling import Answer, ask, chat, running


def test_error_bodies_keep_their_recorded_shapes() -> None:
    async def story() -> dict[str, tuple[int, str]]:
        async with running() as sandbox:
            answers = {name: await chat(sandbox, f"[[error {name}]]") for name in ERRORS}
            assert sandbox.bill().jobs == 0
            return {name: (answer.status, answer.text) for name, answer in answers.items()}

    seen = asyncio.run(story())
    assert {name: status for name, (status, _) in seen.items()} == {
        name: row.status for name, row in ERRORS.items()
    }
    assert "{model}" not in str(seen)
    assert "{request_id}" not in str(seen)
    assert seen["key-model"][1].count("veo-3.1-fast") == 1
    assert '"message":"{\\"error\\":{' in seen["nested"][1]
    assert len({text for _, text in seen.values()}) == len(ERRORS)


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 408, 413, 418, 429, 500, 504, 529])
def test_any_status_comes_in_the_gateways_own_envelope(status: int) -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, f"[[status {status}]]")

    answer = asyncio.run(run())
    assert answer.status == status
    assert answer.body == by_status(status).body
    assert answer.data["error"]["type"] == "shell_api_error"
    assert answer.data["error"]["code"]


def test_a_strange_model_name_does_not_break_the_error_body() -> None:
    async def run() -> Answer:
        async with running() as sandbox:
            body = {"model": 'a"b\\c', "messages": []}
            return await ask(f"{sandbox.urls['api']}/v1/chat/completions", body)

    assert asyncio.run(run()).data["error"]["message"] == 'model a"b\\c not found'
