"""What the tests of the dialler share: a server with a fault, a dialler facing it, patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvloop

from proxy.remote.answer import Ending
from proxy.remote.gateway import Call, Deadlines, Gateway, Gateways, Opened
from tests.remote.fault_server import Fault, FaultServer, Line
from tests.remote.faults import SMALL, Case

PATIENT = Deadlines(
    connect_seconds=10, write_seconds=10, head_seconds=10, stall_seconds=10, total_seconds=20
)
"""More than anything here takes, on a busy machine too."""

POST = Call("POST", "/v1/chat/completions", body=SMALL, content_type="application/json")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run(story: Coroutine[Any, Any, None], loop: str = "asyncio") -> None:
    """Run `story`; nothing may be left to the loop's own handler of forgotten errors."""
    forgotten: list[object] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: forgotten.append(context))
        runner.run(story)
    assert forgotten == []


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nobody could set an event for most of these
            await asyncio.sleep(0.005)


@asynccontextmanager
async def facing(fault: Fault) -> AsyncIterator[tuple[FaultServer, Gateways]]:
    """A server with `fault`, and a dialler that is closed whatever the test does."""
    async with FaultServer(fault) as server:
        gateways = Gateways("sk-test")
        try:
            yield server, gateways
        finally:
            await gateways.close()


def just_enough(case: Case) -> Deadlines:
    """Short for the one phase that `case` runs out of, patient for all others."""
    expected = str(case.expected)
    return replace(
        PATIENT,
        connect_seconds=0.3 if expected == "Unreachable timeout" else 10,
        write_seconds=0.3 if expected == "Silent timeout" else 10,
        head_seconds=0.3 if expected == "Silent timeout" else 10,
        stall_seconds=0.3 if "stalled" in expected else 10,
        total_seconds=1 if "timed_out" in expected else 20,
    )


async def told(gateways: Gateways, url: str, call: Call, deadlines: Deadlines) -> str:
    """The outcome of `call` in words."""
    outcome = await gateways.open(Gateway("a", url), call, deadlines=deadlines)
    if not isinstance(outcome, Opened):
        return f"{type(outcome).__name__} {outcome.reason}"
    answer = outcome.answer
    body = b"".join([chunk async for chunk in answer])
    framed = "framed" if answer.framed else "unframed"
    said = f"{answer.status} {framed} {answer.ending}"
    return said if answer.ending is Ending.TIMED_OUT else f"{said} {len(body)}"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def succeed(line: Line) -> None:
    """Answer every request of the connection."""
    while True:
        await line.request()
        await line.send(OK)
