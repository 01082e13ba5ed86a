"""Where clips are fetched: plain links, signed links, ranges, and the XML of a dead one."""

from __future__ import annotations

import hashlib
import re
from email.utils import formatdate
from typing import Final

from proxy.sandbox.exchange import Exchange
from proxy.sandbox.http import Header, Reply
from proxy.sandbox.jobs import Clip, Job
from proxy.sandbox.vendor import signature

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def fetch(exchange: Exchange, clip_id: str) -> None:
    """Serve a clip, or say that its link is dead; no key is needed."""
    found = exchange.premises.vendor.clips.get(clip_id)
    if "/video/" in exchange.request.path and exchange.request.query.get("Signature") != signature(
        clip_id
    ):
        await exchange.reply(_dead(403, "SignatureDoesNotMatch"))
    elif found is None:
        await exchange.reply(_dead(404, "NoSuchKey"))
    elif not exchange.premises.vendor.link_alive(found[1]):
        gone = (403, "ExpiredToken") if "/video/" in exchange.request.path else (404, "NoSuchKey")
        await exchange.reply(_dead(*gone))
    else:
        await film(exchange, *found)


async def film(exchange: Exchange, job: Job, clip: Clip) -> None:
    """Serve the bytes of a clip, or the range of them that was asked for."""
    data = await exchange.premises.studio.film(job, clip)
    tag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest().upper()}"'
    headers: list[Header] = [
        ("Content-Type", "video/mp4"),
        ("Accept-Ranges", "bytes"),
        ("ETag", tag),
        ("Last-Modified", formatdate(clip.made_at, usegmt=True)),
    ]
    asked = exchange.request.headers
    if asked.get("if-none-match") == tag:
        await exchange.reply(Reply(304, tuple(headers), b""))
        return
    span = _span(asked.get("range", ""), len(data)) if asked.get("if-range", tag) == tag else None
    if span is None:
        await exchange.reply(Reply(200, tuple(headers), data))
    elif span[0] >= span[1]:
        headers.append(("Content-Range", f"bytes */{len(data)}"))
        await exchange.reply(Reply(416, tuple(headers), b""))
    else:
        first, end = span
        headers.append(("Content-Range", f"bytes {first}-{end - 1}/{len(data)}"))
        await exchange.reply(Reply(206, tuple(headers), data[first:end]))


def _span(asked: str, size: int) -> tuple[int, int] | None:
    """First byte and end of the one range asked for; None for the whole, empty when outside."""
    match = _RANGE.fullmatch(asked)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) else (size, size)
    return int(first), min(size, int(last) + 1 if last else size)


def _dead(status: int, code: str) -> Reply:
    """An object store's answer about something it will not give."""
    words = {
        "NoSuchKey": "The specified key does not exist.",
        "ExpiredToken": "The provided token has expired.",
        "SignatureDoesNotMatch": "The request signature we calculated does not match.",
    }
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error>\n  <Code>{code}</Code>\n  <Message>{words[code]}</Message>\n</Error>\n"
    )
    return Reply(status, (("Content-Type", "application/xml"),), body.encode())
