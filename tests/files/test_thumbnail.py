"""A clip's pictures show the clip, and what is no clip makes no picture and no trouble."""

from __future__ import annotations

import io
import itertools
import random
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import av
import pytest

from proxy.files.thumbnail import (
    SHEET_TILES,
    THUMBNAIL_SIDE,
    TILE_SIDE,
    Undecodable,
    spritesheet,
    thumbnail,
)

RATE = 24
_BT709, _LIMITED = 1, 1


@cache
def film(
    width: int, height: int, frames: int, codec: Literal["libx264", "mpeg4"] = "libx264"
) -> bytes:
    """An MP4 that brightens evenly from black to white, grey all over."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        video = container.add_stream(codec, rate=RATE)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.gop_size = 10
        video.codec_context.thread_count = 1
        for number in range(frames):
            frame = av.VideoFrame(width, height, "yuv420p")
            for plane, value in zip(frame.planes, (grey(number, frames), 128, 128), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return out.getvalue()


@cache
def one_colour(red: int, green: int, blue: int) -> bytes:
    """An MP4 of one colour, tagged BT.709 as high-definition clips are."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        video.codec_context.colorspace = _BT709
        video.codec_context.color_range = _LIMITED
        rgb = av.VideoFrame(64, 64, "rgb24")
        rgb.planes[0].update(bytes((red, green, blue)) * 64 * 64)
        for number in range(4):
            frame = rgb.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return out.getvalue()


def sound_alone() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame("s16", "mono", 4800)
        frame.planes[0].update(bytes(9600))
        frame.sample_rate = 48_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    return out.getvalue()


def grey(number: int, frames: int) -> int:
    return 16 + 219 * number // max(1, frames - 1)


def picture(data: bytes) -> av.VideoFrame:
    with av.open(io.BytesIO(data), "r") as container:
        return next(container.decode(video=0))


def light(frame: av.VideoFrame, x: int, y: int) -> int:
    """How bright it is there, from 0 to 255."""
    level = frame.reformat(format="gray", dst_color_range="JPEG").planes[0]
    return bytes(level)[y * level.line_size + x]


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (720, 1280, (360, 640)),
        (1280, 720, (640, 360)),
        (320, 180, (320, 180)),
        (1000, 62, (640, 40)),
        (1280, 2, (640, 2)),
    ],
)
def test_pictures_fit_their_sides(width: int, height: int, expected: tuple[int, int]) -> None:
    clip = film(width, height, 3)
    small = picture(thumbnail(clip))
    assert (small.width, small.height) == expected
    assert max(expected) <= THUMBNAIL_SIDE
    sheet = picture(spritesheet(clip))
    longer = max(sheet.width, sheet.height)
    assert longer == min(TILE_SIDE, max(width, height)) * SHEET_TILES


def test_formats_are_the_ones_that_the_sdk_is_told_of() -> None:
    clip = film(64, 64, 3)
    assert (thumbnail(clip)[:4], thumbnail(clip)[8:12]) == (b"RIFF", b"WEBP")
    assert spritesheet(clip)[:3] == b"\xff\xd8\xff"


def test_a_thumbnail_shows_the_middle() -> None:
    assert abs(light(picture(thumbnail(film(64, 64, 48))), 32, 32) - 128) < 8


def test_a_sheet_shows_the_clip_from_left_to_right_and_down() -> None:
    sheet = picture(spritesheet(film(64, 64, 96)))
    assert (sheet.width, sheet.height) == (64 * SHEET_TILES, 64 * SHEET_TILES)
    lights = [
        light(sheet, 64 * column + 32, 64 * row + 32)
        for row in range(SHEET_TILES)
        for column in range(SHEET_TILES)
    ]
    steps = [later - earlier for earlier, later in itertools.pairwise(lights)]
    assert all(10 <= step <= 22 for step in steps), lights
    assert 4 <= lights[0] <= 14  # each frame stands for the time around it
    assert 246 <= lights[-1] <= 253


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_clip_of_few_frames_makes_full_pictures(frames: int) -> None:
    clip = film(64, 64, frames)
    assert picture(thumbnail(clip)).width == 64
    sheet = picture(spritesheet(clip))
    assert sheet.width == 64 * SHEET_TILES
    last = 64 * SHEET_TILES - 32
    assert light(sheet, last, last) == pytest.approx(0 if frames == 1 else 255, abs=6)


@pytest.mark.parametrize("colour", [(200, 30, 60), (20, 180, 40), (30, 60, 220)])
def test_colours_are_those_of_the_clip(colour: tuple[int, int, int]) -> None:
    clip = one_colour(*colour)
    for image in (thumbnail(clip), spritesheet(clip)):
        shown = picture(image).reformat(format="rgb24", src_colorspace="ITU601")
        assert tuple(bytes(shown.planes[0])[:3]) == pytest.approx(colour, abs=8)


def test_a_file_and_its_bytes_make_the_same_pictures(tmp_path: Path) -> None:
    clip = film(64, 64, 48)
    file = tmp_path / "clip.mp4"
    file.write_bytes(clip)
    assert thumbnail(file) == thumbnail(clip) == thumbnail(clip)
    assert spritesheet(file) == spritesheet(clip) == spritesheet(clip)


def matroska() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as container:
        video = container.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        container.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(video.encode())
    return out.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"\x00\x00\x00\x18ftypisom" + bytes(1000),
        lambda: b"<!doctype html><html></html>",
        lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
        lambda: b"#EXTM3U\n#EXTINF:8,\nhttp://127.0.0.1:9/a.mp4\n",
        lambda: film(64, 64, 48)[:200],
        lambda: film(64, 64, 48)[:-1000],
        sound_alone,
        matroska,
        lambda: film(64, 64, 3, "mpeg4"),
        lambda: film(4112, 4112, 1),
    ],
    ids=[
        "nothing",
        "a bare beginning",
        "a page",
        "a script",
        "a playlist",
        "a head",
        "no index",
        "sound alone",
        "another container",
        "an uncommon codec",
        "a huge picture",
    ],
)
def test_what_is_no_clip_of_ours_makes_no_picture(make: object, tmp_path: Path) -> None:
    assert callable(make)
    data = make()
    file = tmp_path / "clip.mp4"
    file.write_bytes(data)
    for draw in (thumbnail, spritesheet):
        for clip in (data, file):
            with pytest.raises(Undecodable):
                draw(clip)


def test_a_damaged_clip_makes_a_picture_or_none_but_never_harm(seed: int) -> None:
    clip, chance = film(64, 64, 48), random.Random(seed)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(clip)
        for _ in range(chance.choice((1, 5, 50))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            outcomes.add(spritesheet(bytes(damaged))[:3] + thumbnail(bytes(damaged))[:4])
        except Undecodable:
            outcomes.add(b"")
    assert outcomes <= {b"", b"\xff\xd8\xffRIFF"}
    assert outcomes
