"""Archives a clip again and again, and is killed one step later each time.

    python -m tests.chaos.killed_archive TEMPLATE FOLDER [VAULT]

TEMPLATE is a data folder in which a clip waits to be fetched; each try works on a copy of it in
FOLDER, in a child that kills itself before its step. A step is whatever the archive does between
two waits: for the database, the vault's threads, or the clip's host. What is printed is how many
steps there were.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import shutil
import signal
import sys
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

from proxy.app import open_house
from tests.archiving import closed_config


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine whose steps are counted by `steps`."""

    def __init__(self, inner: Coroutine[Any, Any, Any], steps: Steps) -> None:
        self.inner = inner
        self.steps = steps

    def send(self, value: Any) -> Any:
        self.steps.take()
        return self.inner.send(value)

    def throw(self, *error: Any) -> Any:
        self.steps.take()
        return self.inner.throw(*error)

    def close(self) -> None:
        self.inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.inner.__await__()


class Steps:
    """Ends this process before step number `last` of any task of the archive's."""

    def __init__(self, last: int) -> None:
        self.left = last

    def take(self) -> None:
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def task(self, loop: asyncio.AbstractEventLoop, work: Any, **named: Any) -> asyncio.Task[Any]:
        """A task like any other, but for those of the archive, by the name they run under."""
        if str(inspect.getcoroutinelocals(work).get("name")).startswith("archive"):
            work = Stepped(work, self)
        return asyncio.Task(work, loop=loop, **named)


async def archive(data_dir: Path, vault_url: str | None, last: int) -> None:
    """Run a proxy on `data_dir` until the clip is kept."""
    asyncio.get_running_loop().set_task_factory(Steps(last).task)
    config = closed_config(data_dir, vault_url)
    async with open_house(config, "sk-test-vendor-key-0123456789") as (house, _):
        async with asyncio.timeout(20):
            waits = True
            while waits:
                await asyncio.sleep(0.01)
                waits = await house.database.read(
                    lambda tx: tx.exec_driver_sql("SELECT state FROM keepings").scalar() != "kept"
                )
        os._exit(0)


def main(template: Path, root: Path, vault_url: str | None) -> None:
    number, killed = 0, True
    while killed:
        here = root / str(number)
        shutil.copytree(template, here)
        process_id = os.fork()
        if not process_id:
            place = None if vault_url is None else f"{vault_url}/{number}"
            asyncio.run(archive(here, place, number))
        _, status = os.waitpid(process_id, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if not killed and os.waitstatus_to_exitcode(status):
            sys.exit(f"try {number} ended with {status}")
        number += 1
    sys.stdout.write(f"{number}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
