"""A title card as a real MP4: H.264 and AAC, eight seconds, index first.

One encoder thread and no time stamps of the day, so that a card always gives the same bytes on one
machine. PyAV is loaded on first use.
"""

from __future__ import annotations

import hashlib
import io
import math
from array import array
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.sandbox.card import SECONDS, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av import AudioFrame, VideoFrame
    from av.video.stream import VideoStream

    from proxy.sandbox.card import Canvas, Card

FRAMES_PER_SECOND: Final = 24
_FRAMES: Final = SECONDS * FRAMES_PER_SECOND
_SAMPLES_PER_SECOND: Final = 48_000
_FADE_SAMPLES: Final = 12_000
_LOUDNESS: Final = 2200
# Room kept at the front of the file for the index (about 16 bytes a frame).
_INDEX_BYTES: Final = 24_576
# A pentatonic scale in whole Hertz: one second of any of them repeats without a seam.
_TONES_HZ: Final = (220, 262, 294, 330, 392, 440)
# FFmpeg's numbers for the colour space and range.
_BT709: Final = 1
_LIMITED: Final = 1


def render(card: Card) -> bytes:
    """The clip of `card` as the bytes of an MP4 file."""
    import av

    tone = _TONES_HZ[hashlib.sha256(card.clip_id.encode()).digest()[0] % len(_TONES_HZ)]
    out = io.BytesIO()
    options = {"moov_size": str(_INDEX_BYTES), "fflags": "+bitexact"}
    with av.open(out, "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        _configure(video, card)
        audio = container.add_stream("aac", rate=_SAMPLES_PER_SECOND, layout="mono")
        audio.bit_rate = 64_000
        for frame in _pictures(card):
            container.mux(video.encode(frame))
        container.mux(video.encode())
        container.mux(audio.encode(_sound(tone)))
        container.mux(audio.encode())
    return out.getvalue()


def stamped(card: Card) -> bytes:
    """A clip for load tests: one rendering for each size, told apart by a last box with the id.

    Every player skips a `free` box, so the file stays valid and costs nothing to make.
    """
    blank = replace(card, clip_id="", model="load test", prompt="", notes="")
    note = card.clip_id.encode()
    return _rendered_once(blank) + (len(note) + 8).to_bytes(4, "big") + b"free" + note


@lru_cache(maxsize=8)
def _rendered_once(card: Card) -> bytes:
    return render(card)


def _configure(video: VideoStream, card: Card) -> None:
    """The fastest settings that still look clean, on one thread, tagged BT.709."""
    video.width, video.height, video.pix_fmt = card.width, card.height, "yuv420p"
    context = video.codec_context
    context.options = {"preset": "ultrafast", "crf": "22"}
    context.thread_count = 1
    context.gop_size = 2 * FRAMES_PER_SECOND
    context.time_base = Fraction(1, FRAMES_PER_SECOND)
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED


def _pictures(card: Card) -> Iterator[VideoFrame]:
    """The frames in order; one frame object is drawn on again and again, only where it changes."""
    import av

    scene = Scene(card)
    frame = av.VideoFrame(card.width, card.height, "yuv420p")
    frame.color_range, frame.colorspace = _LIMITED, _BT709
    frame.time_base = Fraction(1, FRAMES_PER_SECOND)
    _copy(scene.canvas, frame, (0, card.height))
    for number in range(_FRAMES):
        for rows in scene.advance((number + 1) / _FRAMES):
            _copy(scene.canvas, frame, rows)
        frame.pts = number
        yield frame


def _copy(canvas: Canvas, frame: VideoFrame, rows: tuple[int, int]) -> None:
    """Rows `from, to` (even) of the canvas into the frame, whose rows may be padded."""
    sources = (canvas.luma, *canvas.chroma)
    for source, plane, shrink in zip(sources, frame.planes, (1, 2, 2), strict=True):
        target, width = memoryview(plane), canvas.width // shrink
        for y in range(rows[0] // shrink, rows[1] // shrink):
            at = y * plane.line_size
            target[at : at + width] = source[y * width : (y + 1) * width]


def _sound(tone_hz: int) -> AudioFrame:
    """Eight seconds of a soft tone, faded in and out."""
    import av

    samples = _second_of(tone_hz) * SECONDS
    last = len(samples) - 1
    for at in range(_FADE_SAMPLES):
        samples[at] = samples[at] * at // _FADE_SAMPLES
        samples[last - at] = samples[last - at] * at // _FADE_SAMPLES
    frame = av.AudioFrame("s16", "mono", len(samples))
    frame.planes[0].update(samples.tobytes())
    frame.sample_rate = _SAMPLES_PER_SECOND
    frame.time_base = Fraction(1, _SAMPLES_PER_SECOND)
    frame.pts = 0
    return frame


@lru_cache(maxsize=len(_TONES_HZ))
def _second_of(tone_hz: int) -> array[int]:
    """One second of the tone and its octave as 16-bit samples."""
    turn = 2 * math.pi * tone_hz / _SAMPLES_PER_SECOND
    return array(
        "h",
        (
            round(_LOUDNESS * (math.sin(turn * at) + 0.3 * math.sin(2 * turn * at)))
            for at in range(_SAMPLES_PER_SECOND)
        ),
    )
