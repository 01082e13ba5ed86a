"""uvicorn's protocol, with bounds that it leaves to whoever stands in front of it.

A head may have `header_bytes_max` bytes and take `request_seconds_max`; so may the rest of a body
that was answered before it had come. A connection beyond `connections_max` is closed at once.
uvicorn bounds none of them (facts R50, R90).

Between two answers a connection is therefore always on somebody's clock: uvicorn's while nothing
comes, which a single byte ends for good, and from that byte on ours.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle


class DoorLimits(Protocol):
    """The limits that a door keeps."""

    @property
    def connections_max(self) -> int:
        """Open connections of this process."""

    @property
    def header_bytes_max(self) -> int:
        """The head of one request, request line and all."""

    @property
    def request_seconds_max(self) -> float:
        """From the first byte of a head, or from connecting, to the head's last byte.

        And from an answer's end to the last byte of its request, when that had not come.
        """


class Door(HttpToolsProtocol):
    """One caller's connection."""

    limits: ClassVar[DoorLimits]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._headers_bytes = 0
        self._in_head = True
        self._in_body = False
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections_max:
            transport.abort()
        else:
            self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is too long."""
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        self._watch()
        if self._in_head and self._head_bytes > self.limits.header_bytes_max:
            self._rest()
            if not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """A new request on a kept connection."""
        if not self._in_head:
            self._begin_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One more header; too many bytes of them are an invalid request."""
        self._headers_bytes += len(name) + len(value) + 4
        if self._headers_bytes > self.limits.header_bytes_max:
            raise ValueError("too many bytes of headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole; its body is bounded by whoever reads it."""
        self._in_head = False
        self._in_body = True
        self._head_bytes = 0
        self._rest()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_body = False
        self._rest()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is whole; its request perhaps not, and nobody reads what is left of it."""
        super().on_response_complete()
        if self._in_body:
            self._watch()

    def _watch(self) -> None:
        """Have a clock run for whatever is not an answer under way."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        answering = cycle is not None and not cycle.response_complete
        if answering or self._in_head or self._patience is not None or self.transport.is_closing():
            return
        if self._in_body:
            self._be_patient()
        else:
            self._begin_head()  # what comes after an answer is taken for the next head

    def _begin_head(self) -> None:
        self._in_head = True
        self._head_bytes = self._headers_bytes = 0
        self._rest()
        self._be_patient()

    def _be_patient(self) -> None:
        self._patience = self.loop.call_later(self.limits.request_seconds_max, self._give_up)

    def _rest(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.abort()


def door(keeps: DoorLimits) -> type[Door]:
    """The protocol class for a server with these limits."""

    class Limited(Door):
        limits = keeps

    return Limited
