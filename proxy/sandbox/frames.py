"""Payloads as server-sent events, with the noise that is legal, or at least seen, around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from proxy.sandbox.faults import Faults
from proxy.sandbox.jobs import Event
from proxy.sandbox.script import Script


@dataclass(slots=True)
class Framing:
    """Payloads as the bytes of server-sent events, with the noise a request asked for."""

    crlf: bool = False
    bom: bool = False
    ids: bool = False
    ping: bool = False
    no_space: bool = False
    count: int = 0

    @classmethod
    def of(cls, faults: Faults) -> Framing:
        """The noise that a request's faults ask for."""
        return cls(
            crlf="crlf" in faults,
            bom="bom" in faults,
            ids="ids" in faults,
            ping="ping" in faults,
            no_space="no-space" in faults,
        )

    def frame(self, payload: str) -> bytes:
        """One event."""
        self.count += 1
        lines = [": PING", ""] if self.ping and self.count % 2 else []
        lines += [f"id: {self.count}"] if self.ids else []
        lines += [f"data:{'' if self.no_space else ' '}{payload}", "", ""]
        text = ("\r\n" if self.crlf else "\n").join(lines)
        mark = "\ufeff" if self.bom and self.count == 1 else ""
        return (mark + text).encode()


def transcript(script: Script, events: Iterable[Event], framing: Framing) -> Iterator[bytes]:
    """A whole stream at once, frame by frame: for recorded streams in tests."""
    for payload in script.opening():
        yield framing.frame(payload)
    for event in events:
        for payload in script.on(event):
            yield framing.frame(payload)
    for payload in script.closing():
        yield framing.frame(payload)
