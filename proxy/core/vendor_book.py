"""The vendor's lines by request: what each request cost there, after refunds.

A request is known by several ids (the gateway's request id, a task's id), and a list may tell of it
in several lines. Lines that share an id are one request. Kept are sums, not lines, so that a month
of a million fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from proxy.core.vendor_lines import Meaning, Origin, Unreadable, VendorLine


@dataclass(slots=True)
class Bill:
    """What the vendor's lists say of one request, in micro-dollars.

    Where its logs tell of it they have the sum; its task alone tells what it took when it is done.
    """

    keys: tuple[str, ...]
    log_micros: int = 0
    task_micros: int = 0
    pending_micros: int = 0
    logged: bool = False
    ended: bool = False
    lines: int = 0
    model: str | None = None
    at: datetime | None = None

    @property
    def micros(self) -> int:
        """What the request cost in the end, as far as the lists tell."""
        return self.log_micros if self.logged else self.task_micros

    @property
    def pending(self) -> bool:
        """Whether its task is on its way, so that what was taken may be paid back."""
        return self.pending_micros != 0 and not self.ended

    def add(self, line: VendorLine) -> None:
        """Count one line in."""
        self.lines += 1
        self.model = self.model or line.model
        self.at = self.at or line.at
        if line.origin is Origin.LOG:
            self.logged = True
            self.log_micros += line.micros
        elif line.meaning is Meaning.PENDING:
            self.pending_micros += line.micros
        else:
            self.ended = True
            self.task_micros += line.micros

    def join(self, other: Bill) -> None:
        """Take in what was thought another request."""
        self.keys = tuple(dict.fromkeys((*self.keys, *other.keys)))
        self.log_micros += other.log_micros
        self.task_micros += other.task_micros
        self.pending_micros += other.pending_micros
        self.logged |= other.logged
        self.ended |= other.ended
        self.lines += other.lines
        self.model = self.model or other.model
        self.at = self.at or other.at


class VendorBook:
    """Every bill, found by any of its ids; taken out once."""

    def __init__(self, lines: Iterable[VendorLine | Unreadable] = ()) -> None:
        self._bills: dict[str, Bill] = {}
        self._nameless: list[Bill] = []
        self._seen: set[tuple[Origin, str]] = set()
        self.unreadable: list[Unreadable] = []
        for line in lines:
            self.add(line)

    def add(self, line: VendorLine | Unreadable) -> None:
        """Count one line in; one that was seen before, by its own id, changes nothing."""
        if isinstance(line, Unreadable):
            self.unreadable.append(line)
            return
        if line.id is not None:
            if (line.origin, line.id) in self._seen:
                return
            self._seen.add((line.origin, line.id))
        if line.keys:
            self._of(line.keys).add(line)
        else:
            nameless = Bill(())
            nameless.add(line)
            self._nameless.append(nameless)

    def take(self, keys: Iterable[str]) -> Bill | None:
        """The bill of the request known by any of `keys`, out of the book; None without one."""
        known = tuple(key for key in keys if key in self._bills)
        if not known:
            return None
        bill = self._of(known)
        for key in bill.keys:
            del self._bills[key]
        return bill

    def left(self) -> Iterator[Bill]:
        """What was not taken, each bill once."""
        yield from {id(bill): bill for bill in self._bills.values()}.values()
        yield from self._nameless

    def _of(self, keys: tuple[str, ...]) -> Bill:
        """The one bill that all of `keys` name from now on."""
        found = list({id(bill): bill for key in keys if (bill := self._bills.get(key))}.values())
        bill = found[0] if found else Bill(())
        for other in found[1:]:
            bill.join(other)
        bill.keys = tuple(dict.fromkeys((*bill.keys, *keys)))
        for key in bill.keys:
            self._bills[key] = bill
        return bill
