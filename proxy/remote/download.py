"""A finished clip's bytes, through the guard: unencoded, limited, resumed only where it is safe.

No key, cookie or referrer goes to a clip host. A redirect is followed a few times, and each target
is examined like the first link (R87). What ends early is taken up again by a range request, under
a strong entity tag alone (R57); a clip that changed in between ends as `CHANGED`, so that two
versions are never spliced.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver

from proxy.remote.answer import Answer, Ending, RawResponse
from proxy.remote.gateway import HEADER_LINE_BYTES_MAX, HEADERS_MAX
from proxy.remote.guard import AddressRefused, Refused, Rules, connector, examine

REDIRECTS_MAX: Final = 3
"""The most redirects that one request follows."""

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_HEADERS: Final = (
    ("accept", "video/mp4, */*;q=0.5"),
    ("accept-encoding", "identity"),
    ("user-agent", "clipmeter"),
)
_STRONG_TAG: Final = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


class Trouble(StrEnum):
    """Why there is no body to read; the word stands in logs and metrics."""

    BLOCKED = "blocked"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    GARBLED = "garbled"
    REDIRECTED = "redirected"
    STATUS = "status"
    GONE = "gone"
    NOT_READY = "not_ready"
    ENCODED = "encoded"
    UNFRAMED = "unframed"
    TOO_LARGE = "too_large"


class Ended(StrEnum):
    """How the reading of a body ended."""

    COMPLETE = "complete"
    CUT = "cut"
    STALLED = "stalled"
    TIMED_OUT = "timed_out"
    TOO_LARGE = "too_large"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one download may take: seconds to a head, of silence, in all; bytes; and resumptions.

    The first resumption follows at once, each later one `resume_seconds` longer after its break.
    """

    open_seconds: float
    stall_seconds: float
    total_seconds: float
    bytes_max: int
    resumes_max: int = 3
    resume_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class NotFetched:
    """There is no body. `status` is the host's, if it gave one; `why` never quotes the link."""

    trouble: Trouble
    why: str
    status: int | None = None


Reopen = Callable[[Mapping[str, str]], Awaitable[Answer | NotFetched]]
"""Asks once more for the same thing, with these headers (`range`, `if-range`) besides."""


class Download:
    """A body on its way; iterating gives its bytes, and with the last of them `ended` says how.

    `declared` is the length of the whole, where the host states it; `received` counts what came.
    """

    __slots__ = (
        "_answer",
        "_limits",
        "_reopen",
        "_tag",
        "declared",
        "ended",
        "received",
        "resumes",
    )

    def __init__(self, answer: Answer, limits: Limits, reopen: Reopen | None) -> None:
        """Read `answer`; `begin` makes one of an answer that is worth reading."""
        self.declared = _length(answer)
        self.received = 0
        self.resumes = 0
        self.ended: Ended | None = None
        self._answer = answer
        self._limits = limits
        self._reopen = reopen
        self._tag = _strong_tag(answer)

    @property
    def complete(self) -> bool:
        """Whether every byte of one version of the clip came."""
        return self.ended is Ended.COMPLETE

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while self.ended is None:
            chunk = await anext(self._answer, b"")
            self.received += len(chunk)
            if self.received > min(self._limits.bytes_max, self.declared or self.received):
                self._end(Ended.TOO_LARGE)
                break
            if self._answer.ending is not None:
                await self._go_on(self._answer.ending)
            if chunk:
                return chunk
        raise StopAsyncIteration

    def close(self) -> None:
        """Let go of the connection; what was not read to its end is CUT. May be repeated."""
        if self.ended is None:
            self._end(Ended.CUT)

    def _end(self, ended: Ended) -> None:
        self.ended = ended
        self._answer.close()

    async def _go_on(self, ending: Ending) -> None:
        """The connection is over: the end, unless the rest can be had."""
        if ending is Ending.COMPLETE:
            whole = self.declared is None or self.received == self.declared
            self._end(Ended.COMPLETE if whole else Ended.CUT)
        elif ending is Ending.TIMED_OUT or not await self._resume():
            self._end(self.ended or Ended(ending.value))

    async def _resume(self) -> bool:
        """Whether another connection goes on where this one broke off."""
        if self._reopen is None or self._tag is None or not self.received:
            return False
        headers = {"range": f"bytes={self.received}-", "if-range": self._tag}
        while self.resumes < self._limits.resumes_max:
            await asyncio.sleep(self.resumes * self._limits.resume_seconds)
            self.resumes += 1
            answer = await self._reopen(headers)
            if isinstance(answer, NotFetched):
                if answer.trouble not in {Trouble.UNREACHABLE, Trouble.SILENT}:
                    return False
            elif answer.status < 500:
                return self._adopt(answer)
            else:
                answer.close()
        return False

    def _adopt(self, answer: Answer) -> bool:
        """Whether `answer` is the rest of the very same version; else it is closed."""
        span = _RANGE.fullmatch(_header(answer, b"content-range") or "")
        if answer.status == 206 and span and _is_plain(answer) and answer.framed:
            first, last, total = map(int, span.groups())
            fits = first == self.received and last == total - 1 and total <= self._limits.bytes_max
            if fits and total == (self.declared or total) and _strong_tag(answer) == self._tag:
                self.declared = total
                self._answer = answer
                return True
        answer.close()
        if answer.status in {200, 206, 412, 416}:
            self.ended = Ended.CHANGED
        return False


class Downloads:
    """The clip hosts, as far as `rules` let them be dialled; made within a running event loop."""

    def __init__(self, rules: Rules, resolver: AbstractResolver | None = None) -> None:
        """Dial where `rules` allow; `resolver` stands in for the system's."""
        self._rules = rules
        self._session = aiohttp.ClientSession(
            connector=connector(rules, resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
            response_class=RawResponse,
            max_line_size=HEADER_LINE_BYTES_MAX,
            max_field_size=HEADER_LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )

    async def fetch(self, link: str, limits: Limits) -> Download | NotFetched:
        """Ask for the bytes behind `link`; the caller reads them to their end or closes them.

        A cancelled call leaves no connection behind.
        """
        deadline = asyncio.get_running_loop().time() + limits.total_seconds

        async def reopen(headers: Mapping[str, str]) -> Answer | NotFetched:
            return await self._ask(link, headers, limits, deadline)

        answer = await reopen({})
        return answer if isinstance(answer, NotFetched) else begin(answer, limits, reopen)

    async def close(self) -> None:
        """Close every connection; what is still being read ends as CUT."""
        await self._session.close()

    async def _ask(
        self, link: str, headers: Mapping[str, str], limits: Limits, deadline: float
    ) -> Answer | NotFetched:
        """The answer to one GET, after its redirects."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(loop.time() + limits.open_seconds, deadline)):
                response = await self._follow(link, [*_HEADERS, *headers.items()])
        except (aiohttp.ClientError, OSError) as error:
            return _trouble(error)
        if isinstance(response, NotFetched):
            return response
        return Answer(response, limits.stall_seconds, deadline)

    async def _follow(self, link: str, headers: list[tuple[str, str]]) -> RawResponse | NotFetched:
        for _ in range(REDIRECTS_MAX + 1):
            target = examine(link, self._rules)
            if isinstance(target, Refused):
                return NotFetched(Trouble.BLOCKED, target.value)
            response = await self._session.get(target, headers=headers, allow_redirects=False)
            assert isinstance(response, RawResponse)
            location = response.headers.get("location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.drop()
            try:
                link = urljoin(str(target), location)
            except ValueError:  # half an IPv6 address, say
                return NotFetched(Trouble.BLOCKED, Refused.MALFORMED.value)
        return NotFetched(Trouble.REDIRECTED, f"more than {REDIRECTS_MAX} redirects")


def begin(answer: Answer, limits: Limits, reopen: Reopen | None = None) -> Download | NotFetched:
    """The body of `answer`, or what speaks against reading it; then `answer` is closed.

    It must be a plain 200, or a 206 that nobody asked for and that has all of it, which says where
    it ends, and no longer than `limits` allow. A gateway's own `/content` is read by this as well;
    `reopen` takes up what broke off.
    """
    length = _length(answer)
    if not _is_whole(answer, length):
        trouble = NotFetched(Trouble.STATUS, f"status {answer.status}", answer.status)
    elif not _is_plain(answer):
        trouble = NotFetched(Trouble.ENCODED, "an encoded body, which was not asked for", 200)
    elif not answer.framed:
        trouble = NotFetched(Trouble.UNFRAMED, "a body that does not say where it ends", 200)
    elif length is not None and length > limits.bytes_max:
        trouble = NotFetched(Trouble.TOO_LARGE, f"{length:,} bytes", 200)
    else:
        return Download(answer, limits, reopen)
    answer.close()
    return trouble


def _is_whole(answer: Answer, length: int | None) -> bool:
    """Whether the body is that of the clip from its first byte to its last."""
    span = _RANGE.fullmatch(_header(answer, b"content-range") or "")
    if answer.status != 206 or span is None:
        return answer.status == 200
    first, last, total = map(int, span.groups())
    return (first, last + 1) == (0, total) and length in {None, total}


def _header(answer: Answer, name: bytes) -> str | None:
    """The value of a header that stands there once."""
    values = [value for key, value in answer.headers if key.lower() == name]
    return values[0].decode("latin-1").strip() if len(values) == 1 else None


def _length(answer: Answer) -> int | None:
    value = _header(answer, b"content-length") or ""
    return int(value) if re.fullmatch("[0-9]{1,15}", value) else None


def _strong_tag(answer: Answer) -> str | None:
    value = _header(answer, b"etag") or ""
    return value if _STRONG_TAG.fullmatch(value) else None


def _is_plain(answer: Answer) -> bool:
    """Whether the body is the clip itself: neither compressed nor coded, but for chunks."""
    for name, value in answer.headers:
        key, coding = name.lower(), value.strip().lower()
        if key == b"content-encoding" and coding not in {b"", b"identity"}:
            return False
        if key == b"transfer-encoding" and coding != b"chunked":
            return False
    return True


def _trouble(error: Exception) -> NotFetched:
    """What became of a request without a head."""
    cause = getattr(error, "os_error", error)
    if isinstance(cause, AddressRefused):
        return NotFetched(Trouble.BLOCKED, Refused.ADDRESS.value)
    if isinstance(error, TimeoutError):
        return NotFetched(Trouble.SILENT, "no answer in time")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NotFetched(Trouble.UNREACHABLE, "dns")
    if isinstance(error, aiohttp.ClientSSLError):
        return NotFetched(Trouble.UNREACHABLE, "tls")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL):
        return NotFetched(Trouble.GARBLED, "no HTTP answer")
    connect = isinstance(error, aiohttp.ClientConnectorError)
    return NotFetched(Trouble.UNREACHABLE, "connect" if connect else "reset")
