"""When two requests are the same request: by a key, by an SDK's count of tries, or by content.

A caller may name a purchase with an `Idempotency-Key`; the OpenAI SDK repeats a failed POST by
itself and only counts its tries; and a team may want an identical earlier answer again. What is
bought is compared by a fingerprint of its content, so neither the order of keys nor the boundaries
of a form matter, and every value does (reliability facts, R19 to R21 and R71).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal

from proxy.core.clip import OPEN, State
from proxy.core.headers import clean_value
from proxy.core.request import Malformed

RETRY_WINDOW: Final = timedelta(minutes=15)
"""How long after its acceptance a request can be joined by the SDK's own repeats."""

KEY_CHARS_MAX: Final = 255
"""The longest `Idempotency-Key` (contract)."""

JOINABLE: Final = OPEN | {State.UNKNOWN, State.DELIVERED}
"""A request with such a clip was, or may have been, accepted: an SDK's repeat of it joins it."""

_Raw = Iterable[tuple[bytes, bytes]]

_COUNT: Final = re.compile(r"[0-9]{1,4}")


class Why(StrEnum):
    """Why an answer is given again; the values are what metrics and exports say."""

    IDEMPOTENCY = "idempotency"
    RETRY = "retry"
    REUSE = "reuse"


@dataclass(frozen=True, slots=True)
class Earlier:
    """The earlier generation that a request repeats; with a key, its body may be another one."""

    generation_id: str
    why: Why
    same_body: bool = True


@dataclass(frozen=True, slots=True)
class Standing:
    """An earlier generation as it stands now.

    `running`: it has not ended, and its process lives. `here`: its run is in this process, and
    whoever joins it misses nothing. `answered`: its answer is kept, byte for byte. `playable`: the
    bytes of every delivered clip are kept, or still awaited. `deleted`: its tenant wants a clip of
    it forgotten.
    """

    mode: Literal["chat", "video"]
    states: tuple[State, ...]
    running: bool = False
    here: bool = False
    answered: bool = False
    playable: bool = False
    deleted: bool = False


class Meaning(StrEnum):
    """What becomes of a request that repeats an earlier one."""

    NEW = "buy it: the earlier one has nothing to give"
    JOIN = "listen to the earlier run, from its first byte"
    REPLAY = "give the kept answer again, byte for byte"
    REMAKE = "make a fresh answer, with links that work now, of the kept clips"
    SHOW = "show the video as it stands now"
    IN_PROGRESS = "409: it runs where it cannot be joined; ask again"
    REUSED = "422: the key belongs to another body"
    UNKNOWN = "504: nobody knows how the earlier one ended, or that it will"
    GONE = "what it was answered is no longer kept, and the key is still taken"


def meaning(earlier: Earlier, standing: Standing) -> Meaning:
    """What `earlier`, which stands like this, means for the request that repeats it."""
    if not earlier.same_body:
        return Meaning.REUSED
    if _taken(standing) and standing.mode == "video":
        return _of_job(earlier.why, standing)
    if standing.here:
        return Meaning.JOIN
    if standing.running or OPEN & {*standing.states}:
        return Meaning.IN_PROGRESS  # a dead process's open clips become unknown in a moment
    if earlier.why is Why.REUSE:
        return _of_like(standing)
    return _of_ended(earlier.why, standing)


def _taken(standing: Standing) -> bool:
    """Whether somebody at the vendor's took the request, or may have."""
    return not {*standing.states} <= {State.ACCEPTED, State.FAILED}


def _of_job(why: Why, standing: Standing) -> Meaning:
    """Of a video, whose own object says all there is to say while its end is known."""
    states = {*standing.states}
    lost = {State.UNKNOWN, State.WRITTEN_OFF} & states
    if why is Why.REUSE:
        there = standing.playable or State.DELIVERED not in states
        return Meaning.SHOW if there and not standing.deleted and not lost else Meaning.NEW
    if lost:
        return Meaning.UNKNOWN
    return Meaning.GONE if standing.deleted else Meaning.SHOW


def _of_like(standing: Standing) -> Meaning:
    """Of an identical request that has ended: all of it can be had again, or nothing."""
    whole = {*standing.states} == {State.DELIVERED} and not standing.deleted
    return Meaning.REMAKE if whole and standing.playable else Meaning.NEW


def _of_ended(why: Why, standing: Standing) -> Meaning:
    """Of the very request that is repeated, once it has ended."""
    states = {*standing.states}
    if State.UNKNOWN in states:
        return Meaning.UNKNOWN
    if standing.answered:
        return Meaning.REPLAY
    if State.DELIVERED in states:
        whole = standing.playable and not standing.deleted
        return Meaning.REMAKE if whole else Meaning.GONE
    if State.WRITTEN_OFF in states:
        return Meaning.UNKNOWN
    if why is Why.RETRY:
        return Meaning.NEW
    shown = standing.mode == "video" and not standing.deleted
    return Meaning.SHOW if shown else Meaning.GONE


def keep_until(now: datetime, longest: timedelta, *, keyed: bool, reusable: bool) -> datetime:
    """Until when an answer that ended at `now` is kept.

    That is `longest` where a key names it, or any later request may have its like; else as long as
    an SDK may repeat it.
    """
    return now + (longest if keyed or reusable else min(longest, RETRY_WINDOW))


def fingerprint_chat(body: bytes) -> str:
    """The SHA-256, in hex, of what a chat request that `read_chat` took says.

    That is its canonical JSON: sorted keys, no blanks, characters in one spelling.
    """
    canonical = json.dumps(json.loads(body.decode()), sort_keys=True, separators=(",", ":"))
    return _digest(b"chat", canonical.encode())


def fingerprint_video(body: bytes) -> str:
    """The SHA-256, in hex, of a video's body as `core.submission` writes it.

    That body is made of the content alone: the same model, prompt and images make the same bytes,
    whatever form they came in.
    """
    return _digest(b"video", body)


def _digest(mode: bytes, content: bytes) -> str:
    digest = hashlib.sha256(mode + b"\n")
    digest.update(content)
    return digest.hexdigest()


def read_key(headers: _Raw) -> str | Malformed | None:
    """The `Idempotency-Key`, None where there is none, or why it is refused."""
    found = _values(headers, b"idempotency-key")
    if not found:
        return None
    key = clean_value(found[0]) if len(found) == 1 else None
    if not key or len(key) > KEY_CHARS_MAX:
        words = f"Send one Idempotency-Key of 1 to {KEY_CHARS_MAX} printable ASCII characters."
        return Malformed("invalid_request", words, "idempotency-key")
    return key


def retry_count(headers: _Raw) -> int:
    """How often the OpenAI SDK has sent this before; 0 where it does not say so clearly."""
    found = _values(headers, b"x-stainless-retry-count")
    count = clean_value(found[0]) if len(found) == 1 else None
    return int(count) if count and _COUNT.fullmatch(count) else 0


def wants_reuse(headers: _Raw) -> bool | Malformed:
    """Whether an identical earlier answer will do (`x-clipmeter-reuse: on`), or why that is odd."""
    found = {value.strip(b" \t").lower() for value in _values(headers, b"x-clipmeter-reuse")}
    if len(found) > 1 or not found <= {b"on", b"off"}:
        return Malformed("invalid_request", "x-clipmeter-reuse is on or off.", "x-clipmeter-reuse")
    return found == {b"on"}


def _values(headers: _Raw, name: bytes) -> list[bytes]:
    return [value for other, value in headers if other.lower() == name]
