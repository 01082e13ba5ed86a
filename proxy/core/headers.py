"""Which headers may cross, each way, and what the vendor's headers tell.

Towards the vendor only what a request's meaning needs crosses: `Content-Type` and `Accept`. All
else would tell a third party about the teams (addresses, keys, cookies, SDK and machine, their
`x-stainless-…`), or let a caller steer us. Towards the caller everything crosses but what belongs
to the hop, to our own server, or would act in our name (reliability facts, R36 to R38, R42, R94).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

RETRY_AFTER_SECONDS_MAX: Final = 120
"""The OpenAI SDK obeys no longer wait (reliability facts, finding 7)."""

VIA: Final = "1.1 clipmeter"

STREAMING: Final = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)
"""What keeps the proxies in front of us from buffering or compressing a stream."""

_Raw = Iterable[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_TO_VENDOR: Final = frozenset({b"content-type", b"accept"})

_NOT_TO_CALLER: Final = _HOP_BY_HOP | {
    # Ours to write: uvicorn's own, the id of our own, the verdicts of our own.
    b"server",
    b"date",
    b"via",
    b"x-request-id",
    b"x-should-retry",
    b"retry-after",
    b"retry-after-ms",
    b"cache-status",
    b"idempotency-replayed",
    b"openai-poll-after-ms",
    # They would speak for our origin: sessions, logins, transport policy, other places.
    b"set-cookie",
    b"set-cookie2",
    b"www-authenticate",
    b"location",
    b"content-location",
    b"refresh",
    b"alt-svc",
    b"strict-transport-security",
    b"clear-site-data",
    b"nel",
    b"report-to",
    b"link",
    # Orders to the proxy in front of us: to serve a file of its own, for one.
    b"x-sendfile",
    b"x-lighttpd-send-file",
    b"x-reproxy-url",
}

_NOT_TO_CALLER_PREFIXES: Final = (b"access-control-", b"x-accel-", b"x-clipmeter-", b"x-upstream-")

_NOT_ON_STREAMS: Final = frozenset({b"content-length", b"cache-control", b"expires", b"pragma"})

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_ID_CHARS_MAX: Final = 200


def clean_value(value: bytes | str) -> str | None:
    """A header value without the spaces around it; None if it is not visible ASCII.

    So no CR, LF or NUL can begin a header of somebody else's.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip(" \t")
    return text if _VALUE.fullmatch(text) else None


def forward(headers: _Raw) -> list[tuple[str, str]]:
    """The headers of a caller's request that go to the vendor, and the ones we add.

    `Accept-Encoding: identity` because bytes cross unchanged and the meter must read them;
    `Via` so that a gateway that is a proxy of our own can see the loop.
    """
    raw = list(headers)
    named = _named_by_connection(raw)
    crossing: dict[str, str] = {}
    for name, value in raw:
        lower = name.lower()
        if lower in _TO_VENDOR and lower not in named and (clean := clean_value(value)):
            # Of repeated ones the first counts, as it does for our own reading.
            crossing.setdefault(lower.decode(), clean)
    return [*crossing.items(), ("accept-encoding", "identity"), ("via", VIA)]


def looped(headers: _Raw) -> bool:
    """Whether a request has come through a proxy of this name before."""
    pseudonym = VIA.split()[1]
    for name, value in headers:
        if name.lower() == b"via":
            hops = re.sub(r"\([^()]*\)", "", value.decode("latin-1")).split(",")
            if any(hop.split()[1:2] == [pseudonym] for hop in hops):
                return True
    return False


def backward(headers: _Raw, *, streamed: bool = False) -> list[tuple[bytes, bytes]]:
    """The headers of the vendor's answer that go to the caller, names in lower case.

    `Content-Length` goes unless the answer had a `Transfer-Encoding` (RFC 9112, 6.3) or is passed
    on `streamed`; a streamed one gets `STREAMING` instead. `Content-Encoding` goes as it came: we
    asked for none, and pass the encoded bytes on if there is one.
    """
    raw = list(headers)
    dropped = _named_by_connection(raw)
    if streamed:
        dropped |= _NOT_ON_STREAMS
    if any(name.lower() == b"transfer-encoding" for name, _ in raw):
        dropped.add(b"content-length")
    crossing = []
    for name, value in raw:
        lower = name.lower()
        if lower in _NOT_TO_CALLER or lower in dropped or not _NAME.fullmatch(lower):
            continue
        clean = clean_value(value)
        if clean is not None and not lower.startswith(_NOT_TO_CALLER_PREFIXES):
            crossing.append((lower, clean.encode()))
    return [*crossing, *(STREAMING if streamed else ())]


def _named_by_connection(headers: _Raw) -> set[bytes]:
    return {
        option.strip().lower()
        for name, value in headers
        if name.lower() in {b"connection", b"proxy-connection"}
        for option in value.split(b",")
    }


def value_of(headers: _Raw, name: bytes) -> str | None:
    """The first clean value of header `name` (in lower case)."""
    for other, value in headers:
        if other.lower() == name and (clean := clean_value(value)) is not None:
            return clean
    return None


@dataclass(frozen=True, slots=True)
class UpstreamIds:
    """The ids the vendor gave a request: its own, its origin's, its software family's.

    Only `request_id` can be searched for in the vendor's log (wire facts, 2.3).
    """

    request_id: str | None = None
    origin_request_id: str | None = None
    oneapi_request_id: str | None = None


def upstream_ids(headers: _Raw) -> UpstreamIds:
    """The vendor's request ids in the headers of its answer."""
    raw = list(headers)
    names = (b"x-shellapi-request-id", b"x-request-id", b"x-oneapi-request-id")
    found = (value_of(raw, name) for name in names)
    return UpstreamIds(*(value[:_ID_CHARS_MAX] if value else None for value in found))


def valid_request_id(value: str | None) -> bool:
    """Whether a caller's `X-Request-Id` may be used as ours."""
    return value is not None and _REQUEST_ID.fullmatch(value) is not None


def parse_retry_after(value: bytes | str | None, now: datetime) -> int | None:
    """The seconds that a `Retry-After` asks to wait, from 0 to `RETRY_AFTER_SECONDS_MAX`.

    Takes whole seconds or an HTTP-date (RFC 9110, 10.2.3); None for anything else. `now` is aware.
    """
    text = clean_value(value) if value is not None else None
    if not text:
        return None
    if re.fullmatch(r"[0-9]+", text):
        seconds = int(text) if len(text) <= 9 else RETRY_AFTER_SECONDS_MAX
        return min(seconds, RETRY_AFTER_SECONDS_MAX)
    moment = parse_http_date(text, now)
    if moment is None:
        return None
    whole = -((now - moment) // timedelta(seconds=1))  # rounded up: never back too early
    return max(0, min(whole, RETRY_AFTER_SECONDS_MAX))


_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        start=1,
    )
}

_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_HTTP_DATES: Final = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_TIME} GMT"),
    re.compile(rf"[A-Z][a-z]{{2}} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})"),
)


def parse_http_date(text: str, now: datetime) -> datetime | None:
    """The UTC moment of an HTTP-date in any of its three forms (RFC 9110, 5.6.7), or None.

    A two-digit year is the one that is not more than fifty years after `now`.
    """
    if not text.isascii():
        return None
    match = next((found for form in _HTTP_DATES if (found := form.fullmatch(text))), None)
    if match is None or (month := _MONTHS.get(match["month"])) is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += now.year - now.year % 100
        if year > now.year + 50:
            year -= 100
    second = min(int(match["second"]), 59)  # a leap second
    try:
        return datetime(
            year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), second, 0, UTC
        )
    except ValueError:
        return None
