"""What the vault keeps of a clip: kinds, names, and the first bytes by which each kind is known.

A name holds the SHA-256 of the bytes under it. So whatever stands under a name can be checked
against it, two processes that keep the same bytes write the same name, and other bytes never
replace it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

HEAD_BYTES: Final = 12
"""As many first bytes as `looks_right` wants to see."""

MARK: Final = "clipmeter-vault"
"""Where a vault has its mark, by which its installation knows it; no clip has such a name."""

_NAME: Final = re.compile(r"(?P<kind>[a-z]+)-(?P<sha>[0-9a-f]{64})\.(?P<suffix>[a-z0-9]+)")
_CLIP_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHA: Final = re.compile(r"[0-9a-f]{64}")


class Kind(StrEnum):
    """What of a clip: itself, or a picture made from it."""

    CLIP = "clip"
    THUMBNAIL = "thumbnail"
    SPRITESHEET = "spritesheet"

    @property
    def suffix(self) -> str:
        """How names of this kind end."""
        return _SUFFIXES[self]

    @property
    def content_type(self) -> str:
        """The media type of this kind, fixed by us whatever the vendor called it."""
        return _CONTENT_TYPES[self]


_SUFFIXES: Final = {Kind.CLIP: "mp4", Kind.THUMBNAIL: "webp", Kind.SPRITESHEET: "jpg"}
_CONTENT_TYPES: Final = {
    Kind.CLIP: "video/mp4",
    Kind.THUMBNAIL: "image/webp",
    Kind.SPRITESHEET: "image/jpeg",
}


class Rejected(StrEnum):
    """Why bytes were not kept."""

    SHORT = "short"
    WRONG_MAGIC = "wrong_magic"
    TOO_LARGE = "too_large"


class Absence(StrEnum):
    """Why kept bytes cannot be read: they are gone, or are no longer what was kept."""

    MISSING = "missing"
    CORRUPT = "corrupt"


class VaultUnavailable(Exception):
    """The disk is full or failing, or the bucket is away; the message is for the operator's log."""


class Source(Protocol):
    """Bytes on their way in, as a download gives them; iterating yields them in order."""

    @property
    def declared(self) -> int | None:
        """The length of the whole in bytes, where it was stated."""

    @property
    def complete(self) -> bool:
        """Once iteration has ended: whether every byte came."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces of any size."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that is kept; `sha256` is lower-case hexadecimal."""

    clip_id: str
    kind: Kind
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        """Refuse what could lead out of the clip's own place."""
        check_clip_id(self.clip_id)
        if not _SHA.fullmatch(self.sha256):
            raise ValueError("not a SHA-256 in lower-case hexadecimal")

    @property
    def name(self) -> str:
        """Its name among the things of its clip."""
        return f"{self.kind}-{self.sha256}.{self.kind.suffix}"

    @property
    def key(self) -> str:
        """Its path within the vault."""
        return f"{self.clip_id}/{self.name}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a listing says of one kept thing; `modified` is when it was stored, in UTC."""

    kept: Kept
    modified: datetime


def is_clip_id(text: str) -> bool:
    """Whether `text` can be a clip's id, and so may become a part of a path."""
    return _CLIP_ID.fullmatch(text) is not None


def check_clip_id(clip_id: str) -> None:
    """Raise `ValueError` for what cannot be a clip's id."""
    if not is_clip_id(clip_id):
        raise ValueError("not a clip's id")


def read_key(key: str, size_bytes: int) -> Kept | None:
    """What is kept under `key`; None for a name that is none of ours, or was set aside."""
    clip_id, _, name = key.partition("/")
    match = _NAME.fullmatch(name)
    if match is None or match["kind"] not in set(Kind) or not is_clip_id(clip_id):
        return None
    kind = Kind(match["kind"])
    return Kept(clip_id, kind, match["sha"], size_bytes) if match["suffix"] == kind.suffix else None


def looks_right(kind: Kind, head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` are those of an MP4 file (ISO 14496-12), WebP or JPEG."""
    match kind:
        case Kind.CLIP:
            return head[4:8] == b"ftyp"
        case Kind.THUMBNAIL:
            return head[:4] == b"RIFF" and head[8:12] == b"WEBP"
        case Kind.SPRITESHEET:
            return head[:3] == b"\xff\xd8\xff"
