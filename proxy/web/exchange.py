"""One HTTP exchange: what was asked, by whom, and what the log line and the metrics say of it."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy import errors
from proxy.config import Server
from proxy.core.caller import Caller
from proxy.core.headers import valid_request_id, value_of
from proxy.flows.generation import Generation
from proxy.flows.reply import Repeats, Reply

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?P<port>:[0-9]{1,5})?"
)


@dataclass(slots=True)
class Exchange:
    """A request and its reply, as far as they are known; `started` is monotonic seconds.

    `query` is what stood behind the path, as it was written, `path_id` the id in it, if its route
    has one; `socket` is the address and port on which the request came in.
    """

    method: str
    path: str
    headers: list[tuple[bytes, bytes]]
    request_id: str
    started: float
    query: bytes = b""
    path_id: str = ""
    socket: tuple[str, int | None] = ("", None)
    route: str = "other"
    status: int = 0
    caller: Caller | None = None
    generation: Generation | None = None
    repeats: Repeats | None = None
    ended_well: bool = True
    noted: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Any, mint: Any, started: float) -> Exchange:
        """The exchange of an ASGI scope; a caller's own request id is taken if it is fit."""
        headers = list(scope["headers"])
        asked = value_of(headers, b"x-request-id")
        request_id = asked if asked is not None and valid_request_id(asked) else mint("req")
        made = cls(scope["method"], scope["path"], headers, request_id, started)
        made.query = scope.get("query_string", b"")
        made.socket = scope.get("server") or made.socket
        return made

    @property
    def known_caller(self) -> Caller:
        """The caller, once its key was accepted."""
        assert self.caller is not None
        return self.caller

    def note(self, **fields: Any) -> None:
        """Have the log line say so; empty values say nothing."""
        self.noted.update({name: value for name, value in fields.items() if value})

    def own_headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """`headers`, and ours: the generation's, if there is one. The request id comes last.

        A reply that repeats another has the headers of the first.
        """
        if self.generation is None or self.repeats is not None:
            return headers
        ours = [(name.encode(), value.encode()) for name, value in self.generation.headers()]
        return headers + ours


def link_base(exchange: Exchange, server: Server) -> str:
    """Where the caller reaches us, without a path: the start of every link that it is given.

    `server.public_url` if there is one, else the host that the request was sent to, as long as it
    looks like one and `server.trusted_hosts`, if any, have it; else the socket it came in on.
    """
    if server.public_url is not None:
        return server.public_url
    sent = _HOST.fullmatch(value_of(exchange.headers, b"host") or "")
    if sent is not None and _trusted(sent["name"].lower(), server.trusted_hosts):
        return f"http://{sent[0]}"
    host, port = exchange.socket
    if port is None:  # a socket file, or nothing known
        host, port = server.host, server.port
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _trusted(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of `patterns` (a name, `*.domain` or `*`) has `host`; none of them have any."""
    if not patterns:
        return True
    return any(
        pattern == "*"
        or host == pattern.lower()
        or (pattern.startswith("*.") and host.endswith(pattern[1:].lower()))
        for pattern in patterns
    )


async def send_json(
    exchange: Exchange, answer: Mapping[str, object], headers: Iterable[tuple[str, str]], send: Send
) -> None:
    """Answer 200 with `answer` as JSON, in plain ASCII."""
    body = json.dumps(answer, separators=(",", ":")).encode("ascii")
    named = _raw([("content-type", "application/json"), *headers])
    await _send_whole(200, exchange.own_headers(named), body, send)


async def send_error(exchange: Exchange, refusal: errors.ProxyError, send: Send) -> None:
    """Answer with `refusal`."""
    exchange.note(code=refusal.code)
    named = exchange.own_headers(_raw(refusal.headers()))
    await _send_whole(refusal.status, named, refusal.body(), send)


async def send_reply(exchange: Exchange, reply: Reply, send: Send) -> None:
    """Answer with what a paid request was replied: all of it, or the head before a listener's.

    The length of a body is ours to say.
    """
    exchange.generation, exchange.repeats = reply.generation, reply.repeats
    exchange.note(code=reply.code)
    headers = exchange.own_headers(reply.headers)
    if isinstance(reply.body, bytes):
        headers = [one for one in headers if one[0] != b"content-length"]
        await _send_whole(reply.status, headers, reply.body, send)
    else:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _send_whole(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, send: Send
) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]
