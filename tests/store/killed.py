"""Puts a clip into a vault again and again, and is killed one step later each time.

    python -m tests.store.killed URL FOLDER

A step is a call that changes what a disk holds. Each try works in a folder of its own, in a child
that kills itself before its step; what is printed are the steps' names, then `done`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.store.vaults import BIG, ID, Feed, Place, pieces

CALLS = {
    "open": "create",
    "write": "write",
    "fsync": "fsync",
    "mkdir": "mkdir",
    "replace": "rename",
    "unlink": "unlink",
}


class Steps:
    """Counts the steps of this process, and ends it before the one with the number `last`."""

    def __init__(self, folder: Path, last: int, report: int) -> None:
        self.folder = str(folder)
        self.left = last
        self.report = report
        self.really_write = os.write

    def watch(self) -> None:
        for call, name in CALLS.items():
            setattr(os, call, self.before(getattr(os, call), name))

    def before(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            word = self.word(name, arguments)
            if word is not None:
                if not self.left:
                    self.really_write(self.report, f"{word}\n".encode())
                    os.kill(os.getpid(), signal.SIGKILL)
                self.left -= 1
            return call(*arguments, **options)

        return counted

    def word(self, name: str, arguments: tuple[Any, ...]) -> str | None:
        """What the step is called, or None if it changes nothing."""
        if name == "create":
            made = str(arguments[0]).startswith(self.folder) and arguments[1] & os.O_CREAT
            return name if made else None
        if name in {"write", "fsync"} and not isinstance(arguments[0], int):
            return None
        if name == "write" and not stat.S_ISREG(os.fstat(arguments[0]).st_mode):
            return None
        if name == "fsync":
            folder = stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            return f"fsync {'folder' if folder else 'file'}"
        return name


def child(place: Place, last: int, report: int) -> None:
    vault = place.open()
    Steps(place.data_dir, last, report).watch()
    asyncio.run(vault.put(ID, Feed(pieces(BIG, 500_000))))
    os._exit(0)


def main(url: str, root: Path) -> None:
    number = 0
    while True:
        here = root / str(number)
        here.mkdir()
        place = Place(None if url == "-" else f"{url}/{number}", here)
        sys.stdout.flush()
        process_id = os.fork()
        if not process_id:
            child(place, number, sys.stdout.fileno())
        _, status = os.waitpid(process_id, 0)
        if os.WIFEXITED(status):
            sys.stdout.write("done\n")
            sys.exit(os.WEXITSTATUS(status))
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
