"""Owns every task that outlives its request; drained at shutdown.

Nothing durable depends on the drain (law 10): it is a courtesy to the callers whose answers are
still running.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

CANCEL_SECONDS_MAX = 5.0
"""How long a task that was cancelled may take to end."""


class Background:
    """The registry of the application's own tasks: work, which ends, and what runs for ever."""

    def __init__(self, on_crash: Callable[[str, BaseException], None]) -> None:
        """`on_crash` is told the name and the exception of a task that raised: always a bug."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[None]] = set()
        self._on_crash = on_crash

    def __len__(self) -> int:
        """How many tasks are running that will end."""
        return len(self._tasks)

    def names(self) -> list[str]:
        """The names of the tasks that are running and will end."""
        return [task.get_name() for task in self._tasks]

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` to its end, whoever started it and whatever becomes of them."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def forever(self, name: str, step: Callable[[], Awaitable[object]], pause: float) -> None:
        """Do `step` again and again, `pause` seconds apart, until the drain is over.

        A step that raises is told like any crash, and the next one comes all the same.
        """
        work = self._repeat(name, step, pause)
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._endless.add(task)
        task.add_done_callback(self._endless.discard)

    async def _repeat(self, name: str, step: Callable[[], Awaitable[object]], pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            try:
                await step()
            except Exception as crash:
                self._on_crash(name, crash)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            self._on_crash(task.get_name(), crash)

    async def drain(self, seconds: float) -> int:
        """Wait up to `seconds` for the work to end by itself; cancel and count the rest.

        What is started meanwhile is waited for as well. What runs for ever runs to the end of it:
        a process that drains is alive, and has to say so.
        """
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while self._tasks:
                        await asyncio.wait(self._tasks)
        left: set[asyncio.Task[Any]] = set()
        for task in self._endless:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS_MAX):
                while running := self._tasks | self._endless:
                    for task in self._tasks - left:
                        task.cancel()
                    left |= self._tasks
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        return len(left)
