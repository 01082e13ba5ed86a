"""What the caller of a paid request gets: bought just now, or given again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from proxy import errors
from proxy.core.replay import Why
from proxy.flows.generation import Generation
from proxy.flows.listener import Listener
from proxy.flows.videos import Shown

Headers = list[tuple[bytes, bytes]]


class CallerGone(Exception):
    """The caller left before anything was sent; nothing was bought."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """Which generation's answer is given again, why, and how many clips of it that saves."""

    generation_id: str
    why: Why
    clips: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller gets: a head, and a whole body or a listener to read it from.

    `code` is set on an error of ours about a request that was bought, or may have been. One that
    `repeats` another has that one's headers already; `generation` is always the caller's own.
    """

    status: int
    headers: Headers
    body: bytes | Listener
    generation: Generation
    code: str = ""
    repeats: Repeats | None = None


def told(error: errors.ProxyError, generation: Generation) -> Reply:
    """The reply that tells `error` of a request which was written down."""
    return Reply(error.status, raw(error.headers()), error.body(), generation, error.code)


def as_json(shown: Shown) -> tuple[Headers, bytes]:
    """What a caller is shown of a video, as the headers and the body of a reply."""
    value, more = shown
    named = {"content-type": "application/json", "cache-control": "no-store", **dict(more)}
    return raw(named.items()), json.dumps(value, separators=(",", ":")).encode("ascii")


def error_code(body: bytes) -> str:
    """Which of our own errors `body` tells; empty for any other words."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return code if isinstance(code, str) and code in errors.CODES else ""


def raw(headers: Iterable[tuple[str, str]]) -> Headers:
    """Header fields as they go over the wire."""
    return [(name.encode(), value.encode()) for name, value in headers]
