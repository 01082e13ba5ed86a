"""What a key looks like, how it is stored, and how one secret becomes one key for each purpose.

A virtual key is `sk-cm-`, 43 base62 characters made of 32 random bytes, and 6 more that are a
checksum of all before them, so that a scanner, and we, can tell a mistyped or invented key without
a database (facts R75). Only a keyed digest of it is ever stored.
"""

from __future__ import annotations

import hashlib
import hmac
import string
import zlib
from typing import Final

from proxy.core.caller import Role

__all__ = ["PREFIX", "RANDOM_BYTES", "Role", "derive", "digest", "make", "shown", "well_formed"]

PREFIX: Final = "sk-cm-"
RANDOM_BYTES: Final = 32
"""How many random bytes a key is made of."""

_BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BODY_CHARS: Final = 43  # 62**43 is just above 2**256
_CHECKSUM_CHARS: Final = 6  # 62**6 is above 2**32
_KEY_CHARS: Final = len(PREFIX) + _BODY_CHARS + _CHECKSUM_CHARS
_SHOWN_CHARS: Final = len(PREFIX) + 4


def make(random: bytes) -> str:
    """The key made of 32 `random` bytes; `ValueError` for any other number of them."""
    if len(random) != RANDOM_BYTES:
        message = f"a key is made of {RANDOM_BYTES} random bytes, not {len(random)}"
        raise ValueError(message)
    start = PREFIX + _base62(int.from_bytes(random, "big"), _BODY_CHARS)
    return start + _checksum(start)


def well_formed(key: str) -> bool:
    """Whether `key` can be one of ours: prefix, length, alphabet and checksum."""
    if len(key) != _KEY_CHARS or not key.startswith(PREFIX) or not key.isascii():
        return False
    if not key[len(PREFIX) :].isalnum():
        return False
    return _checksum(key[:-_CHECKSUM_CHARS]) == key[-_CHECKSUM_CHARS:]


def digest(pepper: bytes, key: str) -> str:
    """What is stored in place of `key`: HMAC-SHA-256 under `pepper`, as 64 hex digits.

    A key has 256 random bits, so a fast digest is enough; the pepper makes a stolen database
    useless for testing guesses. Raises `ValueError` when there is no pepper (facts R84).
    """
    if not pepper:
        raise ValueError("a key cannot be digested without a pepper")
    return hmac.digest(pepper, key.encode("utf-8", "surrogatepass"), "sha256").hex()


def shown(key: str) -> str:
    """How `key` is named in lists and logs: `sk-cm-` and four characters of its 43."""
    return f"{key[:_SHOWN_CHARS]}…" if well_formed(key) else "…"


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes for one `purpose`, by HKDF-SHA-256 (RFC 5869) without salt.

    Each use of the installation's secret has its own purpose, so that nothing made for one is
    valid for another (facts R85). Raises `ValueError` when the secret or the purpose is empty.
    """
    if not secret or not purpose:
        raise ValueError("a key is derived from a secret and for a purpose; one is empty")
    return _expand(_extract(secret), purpose.encode())


def _extract(secret: bytes) -> bytes:
    return hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")


def _expand(extracted: bytes, info: bytes) -> bytes:
    # One block of the RFC's loop is the whole of what is asked for.
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _checksum(start: str) -> str:
    return _base62(zlib.crc32(start.encode()), _CHECKSUM_CHARS)


def _base62(number: int, chars: int) -> str:
    digits = []
    for _ in range(chars):
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))
