"""Several server processes behind one socket, which needs PostgreSQL (decision 17).

The parent binds the socket, starts the workers and passes signals on; it does nothing else, so
there is nothing in it to fail. A worker that dies is replaced; workers whose parent dies stop.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import FrameType
from typing import Final

from proxy.flows.operator import CommandError
from proxy.logs import event
from proxy.series import METRICS_FOLDER, forget_worker

INHERITED: Final = "CLIPMETER_WORKER"
"""In a worker's environment: the descriptors of the socket and of the parent's pipe."""

DEATHS_MAX: Final = 10
"""After so many workers died unasked, the fault is not theirs and the parent gives up."""

_LOOK_SECONDS: Final = 0.2
_PAUSE_SECONDS: Final = 1.0


def inherited() -> tuple[socket.socket, int] | None:
    """The listening socket and the parent's pipe, in a worker; None in any other process."""
    named = os.environ.get(INHERITED)
    if named is None:
        return None
    descriptor, pipe = map(int, named.split(","))
    return socket.socket(fileno=descriptor), pipe


def supervise(listening: socket.socket, count: int, arguments: Sequence[str]) -> None:
    """Run `count` workers of `clipmeter arguments…` on `listening` until a signal.

    Raises `CommandError` when workers die again and again.
    """
    with tempfile.TemporaryDirectory(prefix="clipmeter-metrics-") as metrics:
        _Supervisor(listening, count, arguments, metrics).run()


class _Supervisor:
    def __init__(
        self, listening: socket.socket, count: int, arguments: Sequence[str], metrics: str
    ) -> None:
        self._listening = listening
        self._count = count
        self._command = [sys.executable, "-m", "proxy", *arguments]
        self._metrics = metrics
        self._workers: list[subprocess.Popen[bytes]] = []
        self._deaths = 0
        self._stopping = False
        # Nobody writes: its end is how a worker learns that the parent is gone.
        self._watched, self._held = os.pipe()

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        for _ in range(self._count):
            self._start()
        while self._workers:
            time.sleep(_LOOK_SECONDS)
            for worker in [one for one in self._workers if one.poll() is not None]:
                self._bury(worker)
        os.close(self._held)
        if self._deaths >= DEATHS_MAX:
            raise CommandError("the workers die again and again; their log lines say why")

    def _start(self) -> None:
        descriptor = self._listening.fileno()
        environment = {
            **os.environ,
            INHERITED: f"{descriptor},{self._watched}",
            METRICS_FOLDER: self._metrics,
        }
        self._workers.append(
            subprocess.Popen(  # noqa: S603 - our own program and our own arguments
                self._command,
                env=environment,
                pass_fds=(descriptor, self._watched),
                process_group=0,  # a terminal's Ctrl-C comes through us, once
            )
        )

    def _bury(self, worker: subprocess.Popen[bytes]) -> None:
        self._workers.remove(worker)
        forget_worker(worker.pid, self._metrics)
        if self._stopping:
            return
        self._deaths += 1
        event("worker_died", level="error", count=self._deaths)
        if self._deaths >= DEATHS_MAX:
            self._pass_on(signal.SIGTERM, None)
        else:
            time.sleep(_PAUSE_SECONDS)
            self._start()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for worker in self._workers:
            worker.send_signal(number)
