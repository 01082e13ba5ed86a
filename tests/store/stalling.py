"""A way to the PostgreSQL server that falls silent when told to, and closes nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url


class Way:
    """Passes bytes between its callers and the server; connections made while silent stay so."""

    def __init__(self, server: tuple[str, int], url: str) -> None:
        self.url = url
        self.silent = False
        self.silent_from: bytes | None = None
        self._server = server
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def recover(self) -> None:
        """Serve new connections again; the silent ones stay silent."""
        self.silent, self.silent_from = False, None

    def close(self) -> None:
        for one in (self._listening, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                self._sockets += [caller, server]
                silenced = threading.Event()
                for way in ((caller, server, True), (server, caller, False)):
                    threading.Thread(target=self._pass, args=(*way, silenced), daemon=True).start()

    def _pass(
        self, come: socket.socket, go: socket.socket, asked: bool, silenced: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while part := come.recv(65536):
                if self.silent or (asked and self.silent_from and self.silent_from in part):
                    silenced.set()
                if asked and not self.silent:
                    go.sendall(part)  # the server does what it is asked; its answer is lost
                elif not silenced.is_set():
                    go.sendall(part)
            if not silenced.is_set():
                go.shutdown(socket.SHUT_RDWR)


@contextmanager
def stalling(url: str) -> Iterator[Way]:
    """A way to the server at `url` that a test can silence."""
    server = make_url(url)
    assert server.host is not None
    assert server.port is not None
    way = Way((server.host, server.port), url)
    way.url = server.set(host="127.0.0.1", port=way.port).render_as_string(hide_password=False)
    try:
        yield way
    finally:
        way.close()
