from __future__ import annotations

import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.images import ImageLimits, image_problem

LIMITS = ImageLimits(bytes_max=10_000, side_max=8192, pixels_max=40_000_000)


def png(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )


def jpeg(width: int, height: int, frame: int = 0xC0) -> bytes:
    app = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    sof = b"\xff" + bytes([frame]) + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\x00" * 9
    return b"\xff\xd8" + app + sof + b"\xff\xd9"


@pytest.mark.parametrize(
    ("data", "declared"),
    [
        (png(720, 1280), "image/png"),
        (png(720, 1280), None),
        (jpeg(1280, 720), "image/jpeg"),
        (jpeg(1280, 720), "image/jpg"),
        (jpeg(1280, 720, 0xC2), "IMAGE/JPEG"),
        (b"\xff\xd8\xff\xff\xff" + jpeg(9, 9)[3:], "image/jpeg"),
    ],
)
def test_a_png_or_jpeg_passes(data: bytes, declared: str | None) -> None:
    assert image_problem(data, declared, LIMITS) is None


@pytest.mark.parametrize(
    ("data", "declared", "words"),
    [
        (b"", None, "neither"),
        (b"GIF89a", "image/gif", "neither"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp", "neither"),
        (png(1, 1), "image/jpeg", "was sent as"),
        (png(1, 1), "text/html", "was sent as"),
        (png(9000, 1), None, "pixels a side"),
        (png(0, 1), None, "pixels a side"),
        (png(8000, 8000), None, "pixels are allowed"),
        (jpeg(9000, 1), None, "pixels a side"),
        (png(1, 1)[:20], None, "complete"),
        (jpeg(1, 1)[:22], None, "complete"),
        (b"\xff\xd8\xff\xe0\x00\x00", None, "complete"),
        (b"\xff\xd8\xff\xc4\x00\x02\xff\xd9", None, "complete"),
        (png(1, 1) + b"x" * 10_000, None, "at most 10,000"),
    ],
)
def test_anything_else_is_told_what_is_wrong(data: bytes, declared: str | None, words: str) -> None:
    assert words in (image_problem(data, declared, LIMITS) or "")


@given(st.binary(max_size=64), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_no_bytes_are_too_odd(tail: bytes, start: bytes) -> None:
    problem = image_problem(start + tail, None, LIMITS)
    assert problem is None or isinstance(problem, str)


@pytest.mark.parametrize(
    "filler", [b"\xff", b"\xff\xe0\x00\x02"], ids=["fill bytes", "empty segments"]
)
def test_an_image_of_nothing_but_markers_is_given_up_soon(filler: bytes) -> None:
    large = ImageLimits(bytes_max=5 * 2**20, side_max=8192, pixels_max=40_000_000)
    data = b"\xff\xd8" + filler * (5_000_000 // len(filler)) + jpeg(9, 9)[2:]
    began = time.process_time()
    assert "complete" in (image_problem(data, None, large) or "")
    assert time.process_time() - began < 0.1
