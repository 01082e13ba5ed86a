"""What tests put into a vault, and where they look for it past the vault's back."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from proxy.store.kept import Kept, Kind
from proxy.store.vault import Vault, VaultBounds
from tests.s3 import S3

MAGIC = {
    Kind.CLIP: b"\x00\x00\x00\x18ftypisom",
    Kind.THUMBNAIL: b"RIFF\x00\x10\x00\x00WEBP",
    Kind.SPRITESHEET: b"\xff\xd8\xff\xe0\x00\x10JFIF\x00",
}
BOUNDS = VaultBounds(clip_bytes_max=8 * 2**20, free_bytes_min=0)


def clip(size: int, kind: Kind = Kind.CLIP, seed: str = "") -> bytes:
    """`size` bytes that begin as `kind` does; another `seed` gives others."""
    noise = hashlib.shake_128(seed.encode()).digest(max(0, size - len(MAGIC[kind])))
    return MAGIC[kind] + noise


ID = "video_abc"
SMALL = clip(3000)
BIG = clip(2 * 2**20 + 4321)
"""More than is checked at every opening."""


@dataclass
class Feed:
    """A source in the test's hand: gives `pieces`, each after `gate` was passed."""

    pieces: Iterable[bytes]
    declared: int | None = None
    complete: bool = True
    before_each: Callable[[int], asyncio.Event | None] = field(default=lambda _: None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, piece in enumerate(self.pieces):
            gate = self.before_each(number)
            if gate is not None:
                await gate.wait()
            yield piece


@dataclass
class Place:
    """One kind of vault, empty, as its operator has it."""

    url: str | None
    data_dir: Path
    s3: S3 | None = None

    def open(self, bounds: VaultBounds = BOUNDS) -> Vault:
        return Vault.open(self.url, self.data_dir, bounds)

    @property
    def root(self) -> Path:
        return self.data_dir / ("vault" if self.s3 is None else "near")

    @property
    def parts(self) -> list[Path]:
        """The files on their way in."""
        return list((self.root / "incoming").iterdir())

    def near(self, kept: Kept) -> Path:
        """The file that readers read."""
        return self.root / "clips" / kept.key

    def object(self, kept: Kept) -> str:
        """Its path on the S3 server, which begins with the bucket's name."""
        assert self.url is not None
        return f"{self.url.removeprefix('s3://')}/{kept.key}"

    def overwrite(self, kept: Kept, data: bytes) -> None:
        """Have other bytes where `kept` is kept."""
        if self.s3 is not None:
            self.s3.send("PUT", self.object(kept), data)
            self.near(kept).unlink(missing_ok=True)
        else:
            self.near(kept).write_bytes(data)


def flipped(data: bytes, at: int) -> bytes:
    """`data` with one bit of the byte at `at` turned over."""
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def pieces(data: bytes, *sizes: int) -> list[bytes]:
    """`data` in pieces of `sizes` bytes, over and over."""
    found: list[bytes] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return found
        found.append(data[at : at + size])
        at += size
    return found
