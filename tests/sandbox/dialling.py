"""A caller who reads the socket itself: what arrived, byte for byte, and how it ended."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from proxy.sandbox import Sandbox, stamped

PORTRAIT_FAST = "veo-3.1-fast"
LINK = re.compile(r"https?://[^\s)'\"<>]+")


@dataclass(frozen=True)
class Answer:
    """`end` is "whole", "cut" (closed too early) or "reset"; `status` 0 means that no head came."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    end: str
    head: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def payloads(self) -> list[str]:
        """The data of each event, line ends and byte order mark taken away."""
        text = self.body.decode("utf-8-sig").replace("\r\n", "\n")
        return [
            line.removeprefix("data:").removeprefix(" ")
            for line in text.split("\n")
            if line.startswith("data:")
        ]

    @property
    def chunks(self) -> list[Any]:
        """The events that are JSON, decoded."""
        decoded = []
        for payload in self.payloads:
            try:
                decoded.append(json.loads(payload))
            except ValueError:
                continue
        return decoded

    def said(self, channel: str = "content", index: int | None = None) -> str:
        """All text of one channel, of one choice or of all."""
        return "".join(
            choice["delta"].get(channel, "")
            for chunk in self.chunks
            for choice in chunk.get("choices", ())
            if "delta" in choice and index in {None, choice.get("index")}
        )

    def links(self) -> list[str]:
        """Links in what was said outside the echoed prompt, in order."""
        return LINK.findall(re.sub(r"```json.*?```", "", self.said(), flags=re.DOTALL))


async def ask(
    url: str,
    body: bytes | Mapping[str, Any] | None = None,
    *,
    method: str = "",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a fresh connection; ConnectionRefusedError when nobody listens."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode() if body else b""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = {
        "Host": parts.netloc,
        "Authorization": "Bearer sk-sandbox",
        "Content-Type": "application/json",
        "Content-Length": str(len(sent)),
        "Connection": "close",
        **(headers or {}),
    }
    verb = method or ("POST" if body is not None else "GET")
    head = f"{verb} {target} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in lines.items())
    received, reset = await exchange(parts.hostname, parts.port, head.encode() + b"\r\n" + sent)
    return read(received, reset=reset, bodiless=verb == "HEAD")


async def exchange(host: str | None, port: int | None, sent: bytes) -> tuple[bytes, bool]:
    """Everything that arrives until the connection ends, and whether a reset ended it."""
    reader, writer = await asyncio.open_connection(host, port)
    received = bytearray()
    try:
        writer.write(sent)
        while piece := await reader.read(65536):
            received += piece
    except ConnectionResetError:
        return bytes(received), True
    finally:
        writer.transport.abort()
    return bytes(received), False


def read(received: bytes, *, reset: bool, bodiless: bool = False) -> Answer:
    """The answer in `received`, its framing taken away."""
    head, separator, rest = received.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1.1 "):
        return Answer(0, {}, received, "reset" if reset else "cut")
    lines = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines[1:])
    headers = {name.lower(): value for name, value in pairs}
    body, whole = rest, True
    if "content-length" in headers:
        whole = bodiless or len(rest) == int(headers["content-length"])
    elif headers.get("transfer-encoding") == "chunked":
        body, whole = _dechunked(rest)
    end = "reset" if reset else "whole" if whole else "cut"
    return Answer(int(lines[0].split(" ")[1]), headers, body, end, head)


def _dechunked(rest: bytes) -> tuple[bytes, bool]:
    body = bytearray()
    while True:
        size, separator, rest = rest.partition(b"\r\n")
        if not separator:
            return bytes(body), False
        length = int(size, 16)
        if not length:
            return bytes(body), rest == b"\r\n"
        body += rest[:length]
        rest = rest[length + 2 :]


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 5.0) -> None:
    """Return when `condition` holds; TimeoutError when it does not in so many seconds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - the condition is often on another socket
            await asyncio.sleep(0.005)


async def chat(sandbox: Sandbox, prompt: str, gateway: str = "api", **fields: Any) -> Answer:
    """A chat request; streamed unless `stream=False`."""
    body = {
        "model": PORTRAIT_FAST,
        "stream": True,
        "messages": [{"role": "user", "content": prompt}],
        **fields,
    }
    return await ask(f"{sandbox.urls[gateway]}/v1/chat/completions", body)


async def accepted(sandbox: Sandbox) -> bool:
    """Has the vendor taken a job?"""
    return sandbox.bill().jobs > 0


async def make_video(sandbox: Sandbox, prompt: str, gateway: str = "api", **fields: Any) -> Answer:
    """A request for a job."""
    body = {"model": PORTRAIT_FAST, "prompt": prompt, **fields}
    return await ask(f"{sandbox.urls[gateway]}/v1/videos", body)


async def finished_video(sandbox: Sandbox, prompt: str, gateway: str = "api") -> str:
    """The id of a job that has ended."""
    job = (await make_video(sandbox, prompt, gateway)).data["id"]
    await sandbox.idle()
    return str(job)


@asynccontextmanager
async def running(
    *, speed: float = 100_000, link_seconds: float = 3600.0
) -> AsyncIterator[Sandbox]:
    """A sandbox that makes clips in no time, and films all of them alike."""
    start = Sandbox.start(speed=speed, link_seconds=link_seconds, renderer=stamped)
    async with start as sandbox:
        yield sandbox
