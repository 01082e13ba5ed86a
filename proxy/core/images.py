"""What an image is, judged by its first bytes and its header, without decoding it.

The vendor takes JPEG and PNG (vendor page, "FAQ"). Dimensions are read where the format states
them, so that an image of a few kilobytes that unfolds to gigapixels is refused unopened.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

_DATA_URL: Final = re.compile(
    r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE
)
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"
_TYPES: Final = {"image/jpeg": "jpeg", "image/jpg": "jpeg", "image/png": "png"}
# Start-of-frame markers carry the dimensions; C4, C8 and CC share their range but are no frames.
_JPEG_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
# Markers and fill bytes before the frame; real files have some dozens, five megabytes of nothing
# else would take half a second.
_JPEG_STEPS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image that is passed on: bytes, pixels on a side, pixels in all."""

    bytes_max: int
    side_max: int
    pixels_max: int


def image_problem(data: bytes, declared: str | None, limits: ImageLimits) -> str | None:
    """What is wrong with an image, in words for its sender, or None.

    `declared` is the content type that came with it, if one did.
    """
    found = "png" if data.startswith(_PNG) else "jpeg" if data.startswith(_JPEG) else None
    if found is None:
        return "is neither a JPEG nor a PNG image"
    if declared is not None and _TYPES.get(declared.lower()) != found:
        return f"is a {found.upper()} image but was sent as {declared}"
    if len(data) > limits.bytes_max:
        return f"has {len(data):,} bytes; at most {limits.bytes_max:,} are allowed"
    size = _png_size(data) if found == "png" else _jpeg_size(data)
    if size is None:
        return f"is not a complete {found.upper()} image"
    width, height = size
    if not (0 < width <= limits.side_max and 0 < height <= limits.side_max):
        return f"is {width}x{height}; at most {limits.side_max:,} pixels a side are allowed"
    if width * height > limits.pixels_max:
        return f"is {width}x{height}; at most {limits.pixels_max:,} pixels are allowed"
    return None


def data_url_problem(url: str, limits: ImageLimits) -> str | None:
    """What is wrong with an image in a `data:` URL, in words for its sender, or None."""
    head = _DATA_URL.match(url)
    if head is None:
        return "is not a base64 data URL"
    payload = url[head.end() :]
    if len(payload) > limits.bytes_max * 4 // 3 + 4:
        return f"is larger than {limits.bytes_max:,} bytes"
    try:
        data = base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        return "is not valid base64"
    return image_problem(data, head["type"], limits)


def _png_size(data: bytes) -> tuple[int, int] | None:
    header = data[8:33]
    if len(header) < 25 or header[4:8] != b"IHDR":
        return None
    return int.from_bytes(header[8:12], "big"), int.from_bytes(header[12:16], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    for _ in range(_JPEG_STEPS_MAX):
        if position + 4 > len(data) or data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # fill bytes before a marker
            position += 1
            continue
        if marker in _JPEG_BARE:
            position += 2
            continue
        if marker in _JPEG_FRAMES:
            frame = data[position + 4 : position + 9]
            if len(frame) < 5:
                return None
            return int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big")
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if length < 2:
            return None
        position += 2 + length
    return None
