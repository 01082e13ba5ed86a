"""Gateways that do as a test tells them, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.streams import chinese


@dataclass
class Request:
    """A request as a gateway read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Act = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Gateway:
    """One gateway: acts in order, the last one for ever after; it remembers what it was sent."""

    name: str
    acts: list[Act] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    open: set[asyncio.Task[None]] = field(default_factory=set)

    def does(self, *acts: Act) -> None:
        self.acts = list(acts)

    @property
    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.requests)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *rest = head.split("\r\n")
            method, path, _ = line.split(" ")
            pairs = (one.split(": ", 1) for one in rest if one)
            headers = {name.lower(): value for name, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = Request(method, path, headers, body)
            self.requests.append(request)
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
            await act(request, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(task)
            writer.close()


def head(status: int, *headers: tuple[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode()


STREAM_HEADERS = (
    ("Content-Type", "text/event-stream"),
    ("Transfer-Encoding", "chunked"),
    ("X-Shellapi-Request-Id", "shell-1"),
    ("X-Request-Id", "origin-1"),
)


async def write_chunk(writer: asyncio.StreamWriter, part: bytes) -> None:
    if part:
        writer.write(b"%x\r\n%s\r\n" % (len(part), part))
        await writer.drain()


def streams(
    *parts: bytes, gate: asyncio.Event | None = None, end: str = "whole", after: int = 0
) -> Act:
    """A chunked event stream of `parts`; after part `after` it waits for `gate`, if there is one.

    `end` is "whole", "cut" (the connection closes without the last chunk), "reset" or "stall".
    """

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(200, *STREAM_HEADERS))
        for number, part in enumerate(parts):
            await write_chunk(writer, part)
            if gate is not None and number == after:
                await gate.wait()
        await ends(writer, end)

    return act


async def ends(writer: asyncio.StreamWriter, end: str) -> None:
    if end == "whole":
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    elif end == "reset":
        reset(writer)
    elif end == "stall":
        await asyncio.sleep(3600)


def answers(status: int, body: bytes | object, *headers: tuple[str, str]) -> Act:
    """A unary answer; a body that is no bytes is sent as JSON."""

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "application/json" if raw[:1] in b"{[" else "text/html"
        mine = {name.lower() for name, _ in headers}
        more = () if "content-type" in mine else (("Content-Type", kind),)
        writer.write(head(status, *more, *headers, ("Content-Length", str(len(raw)))) + raw)
        await writer.drain()

    return act


def bytes_then(raw: bytes, end: str = "close") -> Act:
    """Exactly `raw`, head and all; then close, reset or stall."""

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        await ends(writer, end)

    return act


def resets() -> Act:
    """The request is read, and the connection reset."""

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    return act


def stalls() -> Act:
    """The request is read, and nothing is ever said."""
    return bytes_then(b"", "stall")


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


def refusal(status: int, message: str = "upstream broke", code: str = "bad_response") -> Act:
    """A refusal in the vendor's own envelope."""
    error = {"message": message, "type": "shell_api_error", "code": code, "param": ""}
    return answers(status, {"error": error}, ("X-Shellapi-Request-Id", f"shell-{status}"))


@asynccontextmanager
async def gateways(*names: str) -> AsyncIterator[list[Gateway]]:
    """Running gateways, each of which streams one clip unless told otherwise."""
    made = []
    servers = []
    for name in names:
        one = Gateway(name, [streams(chinese())])
        server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
        one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made.append(one)
        servers.append(server)
    try:
        yield made
    finally:
        for server in servers:
            server.close()
        for one in made:
            for task in list(one.open):
                task.cancel()


def closed_port() -> str:
    """The URL of a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
