"""A relay between a caller and the proxy that drops the first answers on the floor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Cutter:
    """Passes everything on, except the answers of its first `cuts` connections.

    Those connections are closed when `cut_at` bytes of an answer have come, none of which the
    caller sees; with `cut_at` 0, as soon as the whole request has been passed on.
    """

    port: int
    cuts: int = 1
    cut_at: int = 1
    url: str = ""
    connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        cut = self.connections <= self.cuts
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass_on(reader, back))
                both.create_task(self._answer(there, writer, cut=cut))
        except* (ConnectionError, _Cut):
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            self.tasks.discard(task)
            writer.transport.abort()
            back.transport.abort()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool
    ) -> None:
        if cut:
            await reader.readexactly(self.cut_at)
            raise _Cut
        await _pass_on(reader, writer)
        raise _Cut  # the server has ended it


class _Cut(Exception):
    """The connection ends here."""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def cutting(url: str, cuts: int = 1, cut_at: int = 1) -> AsyncIterator[Cutter]:
    """A relay in front of the server at `url`."""
    cutter = Cutter(int(url.rpartition(":")[2]), cuts, cut_at)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    cutter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cutter
    finally:
        server.close()
        for task in list(cutter.tasks):
            task.cancel()
        await asyncio.gather(*cutter.tasks, return_exceptions=True)
