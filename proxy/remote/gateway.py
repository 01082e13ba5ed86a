"""The only dialler of the gateways: open, get, probe; trouble comes back as an outcome.

Whether a request was sent is told by the HTTP client's trace events (decision 2). The client fires
`on_request_headers_sent` before it serialises the head, so before the first byte reaches the
socket: without that event nothing was sent; with it the request counts as sent. Nothing here sends
a paid POST a second time: the client repeats idempotent methods only, and each POST has a
connection of its own, so that no stale one can swallow it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from proxy.core.headers import VIA, clean_value
from proxy.core.rotation import Silent, Unreachable
from proxy.remote.answer import Answer, RawResponse

HEADER_LINE_BYTES_MAX: Final = 16 * 2**10
"""The longest status line or header of an answer."""

HEADERS_MAX: Final = 128
"""The most headers of an answer."""

PROBE_PATH: Final = "/v1/models"
"""A GET that costs nothing and that every gateway answers."""

_PIECE_BYTES: Final = 64 * 2**10
_POOL_IDLE_SECONDS: Final = 15.0
_FREE: Final = frozenset({"GET", "HEAD"})

# Ours alone to say; whatever a caller of `open` puts there is left out.
_OWN_HEADERS: Final = frozenset(
    {
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "expect",
        "host",
        "proxy-authorization",
        "te",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)

_METHOD: Final = re.compile(r"[A-Z]+")
# No space or control character, and no step upwards: an id of the vendor's may stand in a path.
_PATH: Final = re.compile(
    r"(?!.*/(\.|%2e){1,2}([/?]|$))/[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*", re.IGNORECASE
)

# An idle line may be dead, or be forgotten by a box on the way: an unstreamed answer is silent for
# minutes. (option, seconds or count), where the platform has it.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


@dataclass(frozen=True, slots=True)
class Gateway:
    """One of the upstream domains: its name in metrics, its `scheme://host[:port]`."""

    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request: `path` with its query; `headers` as `core.headers.forward` gives them.

    `content_type`, when given, stands in place of that among `headers`.
    """

    method: str
    path: str
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each phase of one try may take, and all of it together from now, in seconds.

    Connecting is name, TCP and TLS; writing ends when nearly all of the request has left; the head
    is awaited from there; a stall is a silence within the body.
    """

    connect_seconds: float
    write_seconds: float
    head_seconds: float
    stall_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Opened:
    """A complete head came back; the caller must read `answer` to its end or close it."""

    answer: Answer


class Gateways:
    """The connections of this process to the gateways; made within a running event loop."""

    def __init__(self, api_key: str) -> None:
        """Use the vendor's `api_key` on every call; a `ValueError` if no header can carry it."""
        if not api_key or clean_value(api_key) != api_key:
            raise ValueError("the vendor's API key cannot be sent in a header")
        self._authorization = f"Bearer {api_key}"
        self._paid = _session(
            aiohttp.TCPConnector(limit=0, force_close=True, socket_factory=_socket)
        )
        self._free = _session(
            aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_POOL_IDLE_SECONDS, socket_factory=_socket
            )
        )

    async def open(
        self, gateway: Gateway, call: Call, *, deadlines: Deadlines
    ) -> Opened | Unreachable | Silent:
        """Send `call` to `gateway` and wait for the head of its answer.

        A cancelled call leaves no connection behind. Raises `ValueError` for a method or path that
        would not be one request line, before anything is dialled.
        """
        if not _METHOD.fullmatch(call.method) or not _PATH.fullmatch(call.path):
            raise ValueError("not a method and a path that can be sent")
        session = self._free if call.method in _FREE else self._paid
        progress = _Progress(deadlines, asyncio.get_running_loop().time, has_body=bool(call.body))
        try:
            async with progress.limit:
                response = await session.request(
                    call.method,
                    gateway.url.rstrip("/") + call.path,
                    headers=self._headers(call),
                    data=_Body(call.body, progress.written) if call.body else None,
                    allow_redirects=False,
                    trace_request_ctx=progress,
                )
        except (aiohttp.ClientError, OSError) as error:
            return _trouble(error, sent=progress.sent)
        finally:
            progress.over = True
        assert isinstance(response, RawResponse)
        if not 200 <= response.status <= 599:
            response.drop()
            return Silent("garbled")
        return Opened(Answer(response, deadlines.stall_seconds, progress.deadline))

    async def get(
        self, gateway: Gateway, path: str, *, deadlines: Deadlines
    ) -> Opened | Unreachable | Silent:
        """A free GET of `path`, over a kept connection if there is one."""
        return await self.open(gateway, Call("GET", path, _ASK_PLAIN), deadlines=deadlines)

    async def probe(self, gateway: Gateway, *, deadlines: Deadlines) -> bool:
        """Whether `gateway` answers a free GET with anything below 500."""
        outcome = await self.get(gateway, PROBE_PATH, deadlines=deadlines)
        if not isinstance(outcome, Opened):
            return False
        outcome.answer.close()
        return outcome.answer.status < 500

    async def close(self) -> None:
        """Close every connection; answers that are still being read end as CUT."""
        await self._paid.close()
        await self._free.close()

    def _headers(self, call: Call) -> list[tuple[str, str]]:
        """The headers of `call` that may be sent, and our own."""
        replaced = _OWN_HEADERS | ({"content-type"} if call.content_type is not None else set())
        headers = [
            (name, clean)
            for name, value in call.headers
            if name.lower() not in replaced and (clean := clean_value(value)) is not None
        ]
        if call.content_type is not None and (clean := clean_value(call.content_type)):
            headers.append(("content-type", clean))
        return [
            *headers,
            ("accept-encoding", "identity"),
            ("authorization", self._authorization),
            ("user-agent", "clipmeter"),
        ]


_ASK_PLAIN: Final = (("accept", "application/json"), ("via", VIA))


class _Progress:
    """How far one request got, and the time limit of the phase that it is in."""

    def __init__(self, deadlines: Deadlines, clock: Callable[[], float], *, has_body: bool) -> None:
        self.sent = False
        self.over = False
        self._has_body = has_body
        self.deadline = clock() + deadlines.total_seconds
        self._deadlines = deadlines
        self._clock = clock
        self.limit = asyncio.timeout_at(self._within(deadlines.connect_seconds))

    def leaving(self) -> None:
        """The first byte is about to leave."""
        self.sent = True
        limits = self._deadlines
        self._allow(limits.write_seconds if self._has_body else limits.head_seconds)

    def written(self) -> None:
        """The whole request has left, but for what the transport buffers."""
        self._allow(self._deadlines.head_seconds)

    def _allow(self, seconds: float) -> None:
        # The last of a body may leave after its early answer, or after time ran out.
        if not self.over and not self.limit.expired():
            self.limit.reschedule(self._within(seconds))

    def _within(self, seconds: float) -> float:
        return min(self._clock() + seconds, self.deadline)


class _Body(Payload):
    """A request's body, sent in pieces so that the loop and memory are not held up by a big one."""

    _autoclose = True

    def __init__(self, value: bytes, written: Callable[[], None]) -> None:
        super().__init__(value)
        self._size = len(value)
        self._written = written

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write it all, wait until nearly all of it has left, and say so."""
        view = memoryview(self._value)
        for start in range(0, len(view), _PIECE_BYTES):
            await writer.write(view[start : start + _PIECE_BYTES])
        await writer.drain()
        self._written()

    async def write_with_length(
        self,
        writer: AbstractStreamWriter,
        content_length: int | None,  # noqa: ARG002 - the client asks for the length we gave
    ) -> None:
        """The same."""
        await self.write(writer)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text, which the client asks for in its own messages only."""
        return bytes(self._value).decode(encoding, errors)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """A client that neither follows, remembers, decodes, nor asks the environment for anything."""
    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(_on_headers)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        auto_decompress=False,
        trust_env=False,
        trace_configs=[trace],
        response_class=RawResponse,
        max_line_size=HEADER_LINE_BYTES_MAX,
        max_field_size=HEADER_LINE_BYTES_MAX,
        max_headers=HEADERS_MAX,
    )


async def _on_headers(
    _: aiohttp.ClientSession,
    context: SimpleNamespace,
    __: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    progress: _Progress = context.trace_request_ctx
    progress.leaving()


def _socket(address: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
    """A socket that notices, within two minutes, that the other side is gone."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


def _trouble(error: Exception, *, sent: bool) -> Unreachable | Silent:
    """The outcome of a try without a head; the exception only gives the reason its word."""
    if sent:
        if isinstance(error, TimeoutError):
            return Silent("timeout")
        return Silent("garbled" if isinstance(error, aiohttp.ClientResponseError) else "reset")
    if isinstance(error, TimeoutError):
        return Unreachable("timeout")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable("dns")
    if isinstance(error, aiohttp.ClientSSLError):
        return Unreachable("tls")
    cause = getattr(error, "os_error", error)
    return Unreachable("refused" if isinstance(cause, ConnectionRefusedError) else "connect")
