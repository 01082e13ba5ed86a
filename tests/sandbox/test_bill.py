"""The bill: what was delivered, in micro-dollars and in the vendor's units."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from proxy.sandbox import Sandbox
from proxy.sandbox.bill import usd
from tests.sandbox.dialling import ask, chat, running

Story = Callable[[Sandbox], Awaitable[None]]


def play(story: Story) -> None:
    async def run() -> None:
        async with running() as sandbox:
            await story(sandbox)

    asyncio.run(run())


def test_the_bill_equals_what_was_delivered() -> None:
    async def story(sandbox: Sandbox) -> None:
        answers = [
            await chat(sandbox, "one"),
            await chat(sandbox, "four", "vip", n=4, model="veo-3.1"),
            await chat(sandbox, "[[deliver 1]] two", "b", n=2),
            await chat(sandbox, "[[fail]]", n=4),
            await chat(sandbox, "[[choices]]", n=2),
        ]
        bill = sandbox.bill()
        assert [answer.links() for answer in answers] == [
            [clip.url for clip in line.clips] for line in bill.lines
        ]
        assert [line.delivered for line in bill.lines] == [1, 4, 1, 0, 2]
        assert [line.micros for line in bill.lines] == [150_000, 1_000_000, 150_000, 0, 300_000]
        assert [line.gateway for line in bill.lines] == ["api", "vip", "b", "api", "api"]
        assert [line.state for line in bill.lines] == 3 * ["completed"] + ["failed", "completed"]
        assert (bill.clips, bill.micros) == (8, 1_600_000)

    play(story)


def test_the_bill_over_http_counts_in_the_vendors_units() -> None:
    async def story(sandbox: Sandbox) -> None:
        await chat(sandbox, "x", n=2)
        shown = (await ask(f"{sandbox.control_url}/bill")).data
        assert shown["totals"] == {
            "jobs": 1,
            "running": 0,
            "clips": 2,
            "micros": 300_000,
            "units": 150_000,
            "usd": "0.300000",
        }
        assert (shown["lines"][0]["units"], len(shown["lines"][0]["clips"])) == (150_000, 2)
        assert "x" not in [value for value in shown["lines"][0].values() if isinstance(value, str)]

    play(story)


def test_dollars_are_exact() -> None:
    amounts = (0, 1, 150_000, 1_234_567)
    assert [usd(micros) for micros in amounts] == ["0.000000", "0.000001", "0.150000", "1.234567"]
