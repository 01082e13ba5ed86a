"""Owns every task that outlives its request; drained at shutdown.

Nothing durable depends on the drain (law 10): it is a courtesy to the callers whose answers are
still running.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Background:
    """The registry of the application's own tasks."""

    def __init__(self, on_crash: Callable[[str, BaseException], None]) -> None:
        """`on_crash` is told the name and the exception of a task that raised: always a bug."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_crash = on_crash

    def __len__(self) -> int:
        """How many tasks are running."""
        return len(self._tasks)

    def names(self) -> list[str]:
        """The names of the tasks that are running."""
        return [task.get_name() for task in self._tasks]

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` to its end, whoever started it and whatever becomes of them."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (crash := task.exception()) is not None:
            self._on_crash(task.get_name(), crash)

    async def drain(self, seconds: float) -> int:
        """Wait up to `seconds` for the tasks to end by themselves; cancel and count the rest."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds)
        left = set(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=5)
        return len(left)
