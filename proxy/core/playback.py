"""Signed links to a kept clip: for a while, anybody who has one may play it, without a key.

A `<video>` tag sends no `Authorization`, so the right to play stands in the link, under an
HMAC-SHA-256 of everything that it grants. The tenant is part of the link, so that the clip is
reached through its tenant like every other object. Links are signed with the newest key and are
good under two, so that keys can be changed without a break (reliability facts, R73).
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qsl, urlencode

KEYS_MAX: Final = 2
"""Live keys: the newest, and the one before it."""

KEY_BYTES_MIN: Final = 32

_FIELDS: Final = ("exp", "kid", "for", "as", "sig")
_QUERY_CHARS_MAX: Final = 2_000


class Disposition(StrEnum):
    """What a browser does with the clip: plays it, or saves it."""

    INLINE = "inline"
    ATTACHMENT = "attachment"


@dataclass(frozen=True, slots=True)
class Playback:
    """What a link grants: one tenant's clip, until `expires_at` (aware, whole seconds).

    `tenant` is what the clip is looked up with, and may hold more than an id: whatever changes in
    it ends every link that was signed before.
    """

    clip_id: str
    tenant: str
    expires_at: datetime
    disposition: Disposition = Disposition.INLINE


class Refused(StrEnum):
    """Why a link grants nothing; a closed list. Its bearer is told no more than that."""

    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    FORGED = "forged"
    EXPIRED = "expired"
    TOO_LONG = "too_long"


def sign(playback: Playback, keys: Sequence[bytes]) -> str:
    """The query of a link that grants `playback`, signed with the first of `keys`.

    Raises `ValueError` for no key, for more than two and for short ones.
    """
    key = _live(keys)[0]
    signed = {
        "exp": str(int(playback.expires_at.timestamp())),
        "kid": key_id(key),
        "for": playback.tenant,
        "as": playback.disposition.value,
    }
    return urlencode({**signed, "sig": _signature(key, playback.clip_id, signed)})


def verify(
    clip_id: str, query: str, keys: Sequence[bytes], now: datetime, ttl_seconds_max: int
) -> Playback | Refused:
    """What the link to `clip_id` with this `query` grants at `now` (aware), or why it does not.

    The link is dead at its expiry and after it, and dead if it claims to live longer than
    `ttl_seconds_max` from now. Parameters that are not part of it change nothing; its own may
    stand there once. Raises `ValueError` as `sign` does.
    """
    live = {key_id(key): key for key in _live(keys)}
    link = _read(query)
    if link is None:
        return Refused.MALFORMED
    key = live.get(link["kid"])
    if key is None:
        return Refused.UNKNOWN_KEY
    expected = _signature(key, clip_id, link)
    if not hmac.compare_digest(_bytes(expected), _bytes(link["sig"])):
        return Refused.FORGED
    # Only what we have signed gets here, so it reads as we wrote it.
    left = int(link["exp"]) - now.timestamp()
    if left <= 0:
        return Refused.EXPIRED
    if left > ttl_seconds_max:
        return Refused.TOO_LONG
    expires_at = datetime.fromtimestamp(int(link["exp"]), UTC)
    return Playback(clip_id, link["for"], expires_at, Disposition(link["as"]))


def key_id(key: bytes) -> str:
    """The public name of a key, which tells nothing about it."""
    return hmac.digest(key, b"clipmeter playback key id", "sha256").hex()[:8]


def content_disposition(disposition: Disposition, clip_id: str, suffix: str = "mp4") -> str:
    """The header's value: one fixed form, and a file name made of our own id alone."""
    name = "".join(each for each in clip_id if each.isascii() and (each.isalnum() or each in "_-"))
    return f'{disposition.value}; filename="{name or "clip"}.{suffix}"'


def _live(keys: Sequence[bytes]) -> Sequence[bytes]:
    if not 1 <= len(keys) <= KEYS_MAX or any(len(key) < KEY_BYTES_MIN for key in keys):
        message = f"links need one or {KEYS_MAX} keys of at least {KEY_BYTES_MIN} bytes"
        raise ValueError(message)
    return keys


def _read(query: str) -> dict[str, str] | None:
    """The link's own parameters; None if one is missing or stands twice."""
    if len(query) > _QUERY_CHARS_MAX:
        return None
    ours = [
        (name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name in _FIELDS
    ]
    link = dict(ours)
    return link if len(ours) == len(link) == len(_FIELDS) else None


def _signature(key: bytes, clip_id: str, signed: dict[str, str]) -> str:
    """43 characters of base64url over every field as it is written, each with its length."""
    texts = (clip_id, *(signed[name] for name in _FIELDS if name != "sig"))
    parts = [b"clipmeter playback 1"]
    parts += [len(raw).to_bytes(4, "big") + raw for raw in map(_bytes, texts)]
    digest = hmac.digest(key, b"".join(parts), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
