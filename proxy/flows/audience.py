"""All who listen to one answer: the caller who bought it, and whoever joins from its first byte.

What was said so far is kept, up to a limit, for those who join. Each has a buffer of its own, so
that one who leaves or does not read is let go and nobody else notices.
"""

from __future__ import annotations

import asyncio

from proxy.flows.listener import Listener


class Audience:
    """The listeners of one answer, and what it has said."""

    __slots__ = (
        "_between",
        "_bytes_max",
        "_ended",
        "_gone",
        "_joined",
        "_listeners_max",
        "_said",
        "_said_bytes",
        "_said_bytes_max",
        "first",
    )

    def __init__(self, bytes_max: int, said_bytes_max: int, listeners_max: int) -> None:
        """Begin before the first byte, with the caller who bought the answer.

        `bytes_max` may wait for each of at most `listeners_max`; as long as the answer has no more
        than `said_bytes_max` it can be joined.
        """
        self.first = Listener(bytes_max)
        self._bytes_max = bytes_max
        self._said_bytes_max = said_bytes_max
        self._listeners_max = listeners_max
        self._joined: list[Listener] = []
        self._gone = 0
        self._said: list[bytes] | None = []
        self._said_bytes = 0
        self._between = True
        self._ended = False

    @property
    def can_be_joined(self) -> bool:
        """Whether somebody who comes now can hear all of it."""
        return self._said is not None and len(self._joined) < self._listeners_max

    @property
    def dropped(self) -> int:
        """How many listeners were let go."""
        return self._gone + sum(one.dropped for one in (self.first, *self._joined))

    async def offer(self, chunk: bytes, *, between: bool) -> None:
        """Say `chunk` to everybody; `between` when it ends between two events."""
        if self._ended:
            return
        self._keep(chunk, between=between)
        self.first.add(chunk, between=between)
        for listener in self._joined:
            listener.add(chunk, between=between)
        # One turn for all of them, however many are behind: the pump waits for nobody.
        if self.first.is_behind or any(one.is_behind for one in self._joined):
            await asyncio.sleep(0)

    def whole(self, last: bytes) -> bytes | None:
        """All that was said, and `last`; None where that is too much, or broke off."""
        if self._said is None or self._said_bytes + len(last) > self._said_bytes_max:
            return None
        return b"".join((*self._said, last))

    def join(self) -> Listener | None:
        """A further listener, who hears all from the first byte; None where nobody can any more."""
        self._let_go()
        if self._said is None or not self.can_be_joined:
            return None
        listener = Listener(self._bytes_max + self._said_bytes)
        listener.catch_up(self._said, between=self._between)
        if self._ended:
            listener.end()
        else:
            self._joined.append(listener)
        return listener

    def end(self, *, broken: bool = False) -> None:
        """No more will be said; of an answer that is `broken` nobody hears who comes now."""
        if self._ended:
            return
        self._ended = True
        if broken:
            self._said = None
        for listener in (self.first, *self._joined):
            listener.end(broken=broken)

    def _keep(self, chunk: bytes, *, between: bool) -> None:
        if self._said is None or not chunk:
            return
        self._between = between
        self._said_bytes += len(chunk)
        if self._said_bytes > self._said_bytes_max:
            self._said = None
        else:
            self._said.append(chunk)

    def _let_go(self) -> None:
        staying = [one for one in self._joined if not one.dropped]
        self._gone += len(self._joined) - len(staying)
        self._joined = staying
