"""Opens a finished clip's bytes: behind its link, or at a gateway's `/content` with our key.

The link of a clip is followed without a key and under the guard. What `/content` answers differs
from gateway to gateway (wire facts, 4.5 and 10.18): the clip, JSON with a link, a redirect, "not
yet", or a page that is none of these. Only bytes that begin as an MP4 file does count as the clip,
whatever they are called, so that a charge can rest on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote, urljoin, urlsplit

from proxy.core.headers import VIA, value_of
from proxy.core.job import Absent, Job, read_job
from proxy.core.rotation import Silent
from proxy.flows.house import House
from proxy.flows.poll import read_said
from proxy.remote.answer import Answer
from proxy.remote.download import Download, Limits, NotFetched, Trouble, begin
from proxy.remote.gateway import Call, Deadlines, Gateway, Opened
from proxy.store.keepings import Waiting
from proxy.store.kept import HEAD_BYTES, Kind, looks_right

_HEADERS: Final = (
    ("accept", "video/mp4, application/json;q=0.9, */*;q=0.5"),
    ("via", VIA),
)
_NOT_YET: Final = frozenset({202, 204, 400, 409, 423, 425})
_CONTENT: Final = re.compile(r"/v1/videos/([^/]+)/content/*")
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Link:
    """The clip is behind `url`, which needs no key and has not been judged by the guard."""

    url: str


@dataclass(frozen=True, slots=True)
class NotReady:
    """The gateway has no bytes to give yet, or says nothing that can be read as a clip."""

    words: str


async def open_clip(house: House, waiting: Waiting) -> Download | NotFetched:
    """The bytes of a delivered clip; the caller reads them to their end or closes them.

    They are asked for behind its link, and where there is none, or it gives nothing, at the
    gateway that made the clip and then at the others. What is told is the first trouble met.
    """
    job = (waiting.gateway, waiting.upstream_id) if waiting.upstream_id else None
    first = None
    if waiting.url:
        own = _job_behind(house, waiting.url)
        if own is None:
            met = await _follow(house, waiting.url)
            if isinstance(met, Download) or job is None:
                return met
            first = met
        job = own or job
    if job is None:
        return NotFetched(Trouble.GARBLED, "neither a link nor a job")
    gateway, upstream_id = job
    for name in sorted(house.addresses, key=lambda name: name != gateway):
        met = await _from_gateway(house, name, str(upstream_id))
        if isinstance(met, Download):
            return met
        first = first or met
    return first or NotFetched(Trouble.UNREACHABLE, "no gateway")


async def open_content(
    house: House, gateway: str, upstream_id: str
) -> Download | Link | NotReady | NotFetched:
    """What `gateway` has for the job that it calls `upstream_id`.

    A `Download` begins with the first bytes of an MP4 file; the caller reads it to its end or
    closes it. `NotFetched` with GONE: this gateway does not know the job, or no longer.
    """
    address = house.addresses.get(gateway)
    if address is None:
        return NotFetched(Trouble.UNREACHABLE, "no such gateway")
    if upstream_id in {".", ".."}:
        return NotFetched(Trouble.GARBLED, "no id that can stand in a path")
    path = f"/v1/videos/{quote(upstream_id, safe='')}/content"
    deadline = house.clock.monotonic() + house.config.limits.download_seconds_max

    async def ask(headers: Mapping[str, str]) -> Answer | NotFetched:
        return await _ask(house, address, path, headers, deadline)

    answer = await ask({})
    if isinstance(answer, NotFetched):
        return answer
    if answer.status in {200, 206} and looks_right(Kind.CLIP, await answer.peek(HEAD_BYTES)):
        return begin(answer, _limits(house), ask)
    location = value_of(answer.headers, b"location")
    if 300 <= answer.status < 400 and location:
        answer.close()
        return _moved(address.url + path, location)
    body = await read_said(answer, house.config.limits.job_bytes_max)
    return _read(body, answer.status)


def _read(body: bytes, status: int) -> Link | NotReady | NotFetched:
    """What an answer without bytes says."""
    told = read_job(body, status)
    if isinstance(told, Job) and told.url:
        return _link(told.url)
    if isinstance(told, Absent):
        return NotFetched(Trouble.GONE, "no such job", status)
    if 200 <= status < 300 or status in _NOT_YET:
        return NotReady(told.words)
    return NotFetched(Trouble.STATUS, f"status {status}", status)


def _moved(url: str, location: str) -> Link | NotReady:
    """Where a redirect from `url` leads, if that is anywhere."""
    nowhere = NotReady("a redirect to nowhere")
    try:
        target = urljoin(url, location)
        return _link(target) if urlsplit(target).scheme in _PORTS else nowhere
    except ValueError:  # half an IPv6 address, say
        return nowhere


def _link(url: str) -> Link | NotReady:
    """`url`, unless it leads back to a `/content`."""
    return Link(url) if _job_id(url) is None else NotReady("a link back to /content")


async def _from_gateway(house: House, gateway: str, upstream_id: str) -> Download | NotFetched:
    met = await open_content(house, gateway, upstream_id)
    if isinstance(met, Link):
        return await _follow(house, met.url)
    if isinstance(met, NotReady):
        return NotFetched(Trouble.NOT_READY, "no bytes yet")
    return met


async def _follow(house: House, link: str) -> Download | NotFetched:
    return await house.downloads.fetch(link, _limits(house))


async def _ask(
    house: House, gateway: Gateway, path: str, headers: Mapping[str, str], deadline: float
) -> Answer | NotFetched:
    """The gateway's answer to one free GET."""
    began = house.clock.monotonic()
    limits = house.config.limits
    deadlines = Deadlines(
        connect_seconds=limits.connect_seconds_max,
        write_seconds=limits.send_seconds_max,
        head_seconds=limits.download_open_seconds_max,
        stall_seconds=limits.download_stall_seconds_max,
        total_seconds=deadline - began,
    )
    sent: Sequence[tuple[str, str]] = (*_HEADERS, *headers.items())
    met = await house.gateways.open(gateway, Call("GET", path, sent), deadlines=deadlines)
    answered = met.answer if isinstance(met, Opened) else met
    house.metrics.attempted(gateway.name, "content", answered, house.clock.monotonic() - began)
    if isinstance(answered, Answer):
        return answered
    silent = isinstance(answered, Silent)
    return NotFetched(Trouble.SILENT if silent else Trouble.UNREACHABLE, answered.reason)


def _limits(house: House) -> Limits:
    limits = house.config.limits
    return Limits(
        open_seconds=limits.download_open_seconds_max,
        stall_seconds=limits.download_stall_seconds_max,
        total_seconds=limits.download_seconds_max,
        bytes_max=house.config.vault.clip_bytes_max,
    )


def _job_behind(house: House, url: str) -> tuple[str, str] | None:
    """The gateway and the job whose `/content` `url` is, if it is one of ours."""
    job_id, host = _job_id(url), _host(url)
    if job_id is None or host is None:
        return None
    for name, gateway in house.addresses.items():
        if _host(gateway.url) == host:
            return name, job_id
    return None


def _job_id(url: str) -> str | None:
    try:
        found = _CONTENT.fullmatch(urlsplit(url).path)
    except ValueError:
        return None
    return None if found is None else unquote(found[1])


def _host(url: str) -> tuple[str, int] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return (parts.hostname or "", port)
