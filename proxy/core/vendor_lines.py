"""What the vendor says it took from our account: lines of its lists, read totally.

Shell API gateways keep One-API's books: amounts in units, 500,000 to the dollar. A request is
charged when it is submitted (the pre-deduction) and a failure is paid back in a line of its own,
log type 11, while the failed task still shows what was once taken. So what a request cost is the
sum of its lines, and a failed task's own amount says nothing. Anything unreadable is told, never
guessed at and never raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from proxy.core.vendor_values import moment, text, unit_micros, whole


class Meaning(StrEnum):
    """What a line does to our account."""

    CHARGE = "charge"
    REFUND = "refund"
    PENDING = "pending"  # taken in advance for a task whose end is open
    FAILED = "failed"  # a task without a charge


class Origin(StrEnum):
    """Which list a line stands in; where logs and tasks tell of one request, logs have the sum."""

    LOG = "log"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class VendorLine:
    """One line: the ids by which its request is known, and micro-dollars, negative for a refund.

    `place` is its row in the file or list, from 1; `id` the line's own, if it has one: the pages of
    a list may overlap.
    """

    keys: tuple[str, ...]
    micros: int
    meaning: Meaning
    origin: Origin
    place: int
    id: str | None = None
    model: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row that is no line, and why; its money is missing from every sum."""

    place: int
    why: str


_LOG_TYPES: Final[Mapping[int, Meaning | None]] = {
    1: None,  # a top-up
    2: Meaning.CHARGE,
    3: None,  # what an administrator did
    4: None,  # what the system did
    5: None,  # an error, which cost nothing
    6: Meaning.REFUND,  # new-api's number for it
    11: Meaning.REFUND,
}
_WORDS: Final = (
    (re.compile(r"refund|退款|退还|返还|退回", re.IGNORECASE), Meaning.REFUND),
    (re.compile(r"top.?up|recharge|充值|system|系统|manage|管理|error|错误", re.IGNORECASE), None),
    (re.compile(r"consum|消费|消耗|扣费|charge|usage|deduct", re.IGNORECASE), Meaning.CHARGE),
)
_DONE: Final = frozenset({"completed", "complete", "success", "succeeded", "finished"})
_FAILED: Final = frozenset({"failed", "failure", "fail", "error", "cancelled", "canceled"})

_LISTS: Final = ("items", "data", "logs", "list", "records", "rows")
_LISTS_DEEP_MAX: Final = 3
_NO_ROW: Final = "the row is no object"


def read_logs(page: object) -> Iterator[VendorLine | Unreadable]:
    """The charges and refunds of one page of `/api/log/self`, as JSON says it."""
    for place, row in _rows(page):
        if not isinstance(row, Mapping):
            yield Unreadable(place, _NO_ROW if place else "the page has no list")
            continue
        micros = unit_micros(row.get("quota"))
        meaning = meaning_of(row.get("type"), micros)
        if meaning is None:
            continue
        if micros is None:
            yield Unreadable(place, f"the quota is {row.get('quota')!r:.40}")
            continue
        yield VendorLine(
            keys=_keys(row, "request_id", "task_id"),
            micros=signed(micros, meaning),
            meaning=meaning,
            origin=Origin.LOG,
            place=place,
            id=text(row.get("id")),
            model=text(row.get("model_name")),
            at=moment(row.get("created_at")),
        )


def read_tasks(page: object) -> Iterator[VendorLine | Unreadable]:
    """The tasks of one page of `/api/task/self`: what each took from the account, by its end."""
    for place, row in _rows(page):
        if not isinstance(row, Mapping):
            yield Unreadable(place, _NO_ROW if place else "the page has no list")
            continue
        micros = unit_micros(row.get("quota"))
        status = str(row.get("status", "")).lower()
        meaning = Meaning.PENDING
        if status in _DONE:
            meaning = Meaning.CHARGE
        elif status in _FAILED:
            meaning, micros = Meaning.FAILED, 0
        if micros is None:
            yield Unreadable(place, f"the quota is {row.get('quota')!r:.40}")
            continue
        yield VendorLine(
            keys=_keys(row, "task_id", "request_id"),
            micros=micros,
            meaning=meaning,
            origin=Origin.TASK,
            place=place,
            id=text(row.get("task_id")),
            model=text(row.get("model_name")),
            at=moment(row.get("finish_time")) or moment(row.get("submit_time")),
        )


def meaning_of(kind: object, micros: int | None) -> Meaning | None:
    """What a log line of this type is; None where it has nothing to do with clips.

    A type may be a number or a word; without a known one the sign of the amount decides.
    """
    number = whole(kind)
    if number is not None and number in _LOG_TYPES:
        return _LOG_TYPES[number]
    for words, meaning in _WORDS:
        if isinstance(kind, str) and words.search(kind):
            return meaning
    return Meaning.REFUND if (micros or 0) < 0 else Meaning.CHARGE


def signed(micros: int, meaning: Meaning) -> int:
    """An amount with its sign: refunds are written with and without one."""
    return -abs(micros) if meaning is Meaning.REFUND else micros


def _rows(page: object) -> Iterator[tuple[int, Any]]:
    """The rows of a page with their places; an empty list may be null."""
    found = page
    for _ in range(_LISTS_DEEP_MAX):
        if isinstance(found, Mapping):
            found = next((found[name] or () for name in _LISTS if name in found), None)
    if isinstance(found, list | tuple):
        yield from enumerate(found, 1)
    else:
        yield 0, None


def _keys(row: Mapping[Any, Any], *names: str) -> tuple[str, ...]:
    return tuple(key for name in names if (key := text(row.get(name))))
