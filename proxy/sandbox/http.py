"""A small HTTP/1.1 server connection, exact about what goes onto the socket and when.

Frameworks hide the socket, and the sandbox must be able to cut, stall and reset it at a byte. What
is read is strict: one length or chunks, never both, and every part has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import socket
import struct
import termios
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

HEAD_BYTES_MAX: Final = 65_536
BODY_BYTES_MAX: Final = 64 << 20
IDLE_SECONDS_MAX: Final = 75.0
BODY_SECONDS_MAX: Final = 60.0
_UNSENT_SECONDS_MAX: Final = 2.0

_CHUNK_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,8}[ \t]*(;.*)?")

Header = tuple[str, str]


class Malformed(Exception):
    """The request cannot be read; `status` and the message go back, and the connection ends."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Severed(Exception):
    """The connection was cut or reset on purpose; nothing more can be written to it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read to its end. `headers` has lower-case names."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool
    chunks_allowed: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, to be sent with a `Content-Length`."""

    status: int
    headers: tuple[Header, ...]
    body: bytes

    def with_headers(self, headers: Iterable[Header]) -> Reply:
        """The same answer with more headers."""
        return Reply(self.status, (*self.headers, *headers), self.body)


class Connection:
    """One accepted connection: requests in, bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> Request | None:
        """The next request, or None when the caller is done with the connection.

        Raises Malformed when the bytes are not a request this server reads.
        """
        try:
            async with asyncio.timeout(IDLE_SECONDS_MAX):
                head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            return None
        except asyncio.LimitOverrunError:
            raise Malformed(431, "request head too large") from None
        method, target, version, headers = _parse_head(head)
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                body = await self._read_body(headers)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except TimeoutError:
            raise Malformed(408, "request body did not arrive") from None
        path, _, query = target.partition("?")
        options = headers.get("connection", "").lower()
        modern = version == "HTTP/1.1"
        return Request(
            method=method,
            path=unquote(path),
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=body,
            keep_alive="close" not in options and (modern or "keep-alive" in options),
            chunks_allowed=modern,
        )

    async def _read_body(self, headers: Mapping[str, str]) -> bytes:
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        if length is not None and encoding is not None:
            raise Malformed(400, "both Content-Length and Transfer-Encoding")
        if headers.get("expect", "").lower() == "100-continue":
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if encoding is not None:
            if encoding.lower() != "chunked":
                raise Malformed(501, "transfer encoding not supported")
            return await self._read_chunks()
        if length is None:
            return b""
        if not (length.isascii() and length.isdigit()):
            raise Malformed(400, "bad Content-Length")
        if int(length) > BODY_BYTES_MAX:
            raise Malformed(413, "request body too large")
        return await self._reader.readexactly(int(length))

    async def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            line = await self._line()
            if not _CHUNK_SIZE.fullmatch(line):
                raise Malformed(400, "bad chunk size")
            size = int(line.split(b";")[0], 16)
            if len(body) + size > BODY_BYTES_MAX:
                raise Malformed(413, "request body too large")
            if size == 0:
                while await self._line():
                    pass
                return bytes(body)
            body += await self._reader.readexactly(size)
            if await self._line():
                raise Malformed(400, "chunk longer than its size")

    async def _line(self) -> bytes:
        try:
            return (await self._reader.readuntil(b"\r\n"))[:-2]
        except asyncio.LimitOverrunError:
            raise Malformed(400, "chunk line too long") from None

    async def write(self, data: bytes) -> None:
        """Send `data`; raises ConnectionError when the caller has gone."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """End the connection in the ordinary way, after everything written has been sent."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def drop(self) -> None:
        """End the connection at once, without waiting for anything; harmless when it has ended."""
        self._writer.transport.abort()

    async def reset(self, *, after_sending: bool = False) -> None:
        """Reset the connection (RST); `after_sending` waits until the other side has all bytes."""
        if after_sending:
            await self._sent()
        handle = self._writer.get_extra_info("socket").fileno()
        if handle >= 0:
            # A second handle, because not every event loop lets us reach its own socket's options.
            with socket.fromfd(handle, socket.AF_INET, socket.SOCK_STREAM) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def _sent(self) -> None:
        """Wait until the kernel holds no byte that the other side has not acknowledged."""
        handle = self._writer.get_extra_info("socket").fileno()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_UNSENT_SECONDS_MAX):
                while handle >= 0:
                    left = fcntl.ioctl(handle, termios.TIOCOUTQ, struct.pack("i", 0))
                    if self._writer.transport.get_write_buffer_size() == 0 and not any(left):
                        return
                    await asyncio.sleep(0.001)


def _parse_head(head: bytes) -> tuple[str, str, str, dict[str, str]]:
    lines = head[:-4].decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    bare = any("\r" in line or "\n" in line for line in lines)
    if bare or len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"}:
        raise Malformed(400, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name != name.strip():
            raise Malformed(400, "bad header line")
        value = value.strip(" \t")
        if name in {"content-length", "transfer-encoding"} and name in headers:
            raise Malformed(400, f"repeated {name}")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return parts[0], parts[1], parts[2], headers


def head_bytes(status: int, headers: Iterable[Header]) -> bytes:
    """The status line and headers of an answer, as they go onto the socket."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
