"""What an encoded answer says: the meter reads it decoded, the caller gets the bytes that came.

We ask for no encoding; a vendor who encodes all the same must not thereby hide its clips.
"""

from __future__ import annotations

import zlib
from typing import Final

_WINDOWS: Final = {"gzip": 31, "x-gzip": 31, "deflate": 47}
"""Decoders of zlib by Content-Encoding; 47 takes a deflate body with either of its headers."""


def decoded(body: bytes, encoding: str | None, bytes_max: int) -> bytes:
    """What a whole `body` of this Content-Encoding says, as far as that can be decoded.

    At most `bytes_max` bytes of it, if it is encoded.
    """
    return Decoder(encoding, bytes_max).feed(body)


class Decoder:
    """Decodes one answer as it comes; what cannot be decoded sets `broken` and gives nothing."""

    __slots__ = ("_inflate", "_left", "broken")

    def __init__(self, encoding: str | None, bytes_max: int) -> None:
        """For an answer of this Content-Encoding that may decode to `bytes_max` bytes."""
        name = (encoding or "identity").strip().lower()
        window = _WINDOWS.get(name)
        self._inflate = zlib.decompressobj(window) if window is not None else None
        self._left = bytes_max
        self.broken = window is None and name != "identity"

    @property
    def plain(self) -> bool:
        """Whether the answer is not encoded at all."""
        return self._inflate is None and not self.broken

    def feed(self, chunk: bytes) -> bytes:
        """What `chunk` adds to the decoded answer."""
        if self._inflate is None:
            return b"" if self.broken else chunk
        if self.broken or self._left <= 0:
            self.broken = True
            return b""
        try:
            decoded = self._inflate.decompress(chunk, self._left)
        except zlib.error:
            self.broken = True
            return b""
        self._left -= len(decoded)
        return decoded
