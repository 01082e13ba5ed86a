"""Chat answers over a socket, streamed and whole."""

from __future__ import annotations

import asyncio
import re

from tests.sandbox.dialling import Answer, chat, running


def test_progress_over_the_socket_has_one_decimal_and_stays_below_a_hundred() -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "[[seconds 0.1]]")

    answer = asyncio.run(story())
    percents = [float(p) for p in re.findall(r"进度：(\d+\.\d)%", answer.said())]
    assert len(percents) >= 3
    assert percents == sorted(percents)
    assert percents[0] > 0
    assert percents[-1] < 100
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"


def test_the_unary_answer_is_the_same_text_without_progress() -> None:
    async def story() -> Answer:
        async with running() as sandbox:
            return await chat(sandbox, "画小猫", stream=False, n=2)

    answer = asyncio.run(story())
    choice = answer.data["choices"][0]
    assert answer.data["object"] == "chat.completion"
    assert answer.data["id"].startswith("foaicmpl-")
    assert (choice["finish_reason"], choice["message"]["role"]) == ("stop", "assistant")
    assert '"prompt": "画小猫"' in choice["message"]["content"]
    assert choice["message"]["content"].count("✅") == 2
    assert "进度" not in choice["message"]["content"]
    assert answer.data["usage"]["total_tokens"] > 0
