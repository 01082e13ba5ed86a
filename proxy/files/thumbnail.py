"""A clip as a picture: one frame of it as WebP, or sixteen of them on one sheet as JPEG.

What is decoded came from outside: nothing but an MP4 with a common codec is opened, nothing that it
refers to is followed, and the size and the number of decoded pictures have limits. Decoding takes
up to seconds of one core, without Python's lock: call it in a thread. PyAV loads on first use.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext

THUMBNAIL_SIDE: Final = 640
"""The longer side of a thumbnail, in pixels; a smaller clip keeps its own size."""

SHEET_TILES: Final = 4
"""Frames across, and frames down, a sprite sheet."""

TILE_SIDE: Final = 320
"""The longer side of one frame of a sprite sheet, in pixels."""

PIXELS_MAX: Final = 4096 * 4096
"""The largest picture that is decoded; a 4K frame has half as many."""

FRAMES_MAX: Final = 3600
"""The most frames that are decoded for one picture: a minute at sixty a second."""

_OPTIONS: Final = {"codec_whitelist": "h264,hevc,vp9,av1,libdav1d", "enable_drefs": "0"}
# Still pictures know one matrix; a clip's is another.
_MATRIX: Final = "ITU601"
_WEBP: Final = {"quality": "80", "compression_level": "4"}
_JPEG: Final = {"q": "4"}


class Undecodable(Exception):
    """No picture can be made of these bytes; the message says why."""


def thumbnail(clip: bytes | Path) -> bytes:
    """The frame in the middle of `clip`, an MP4 file, as a WebP image. Raises `Undecodable`."""
    with _opened(clip) as container:
        middle = _seconds(container) / 2
        if middle:
            video = container.streams.video[0]
            container.seek(int(middle / (video.time_base or 1)), stream=video)
        frame = next(_nearest(container, [middle]))
        width, height = _fitted(frame, THUMBNAIL_SIDE)
        picture = frame.reformat(
            width, height, "yuv420p", dst_colorspace=_MATRIX, dst_color_range="MPEG"
        )
        return _encoded(picture, "libwebp", _WEBP)


def spritesheet(clip: bytes | Path) -> bytes:
    """Sixteen frames of `clip`, evenly spaced, in rows of four, as a JPEG image.

    A clip with fewer frames shows some of them again. Raises `Undecodable`.
    """
    from av.filter import Graph

    count = SHEET_TILES**2
    with _opened(clip) as container:
        duration = _seconds(container)
        times = [duration * Fraction(2 * number + 1, 2 * count) for number in range(count)]
        frames = list(_nearest(container, times))
    width, height = _fitted(frames[0], TILE_SIDE)
    graph = Graph()
    tiles = [
        frame.reformat(width, height, "yuvj420p", dst_colorspace=_MATRIX, dst_color_range="JPEG")
        for frame in frames
    ]
    graph.link_nodes(
        graph.add_buffer(
            width=width, height=height, format=tiles[0].format, time_base=Fraction(1, count)
        ),
        graph.add("tile", f"{SHEET_TILES}x{SHEET_TILES}"),
        graph.add("buffersink"),
    ).configure()
    for number, tile in enumerate(tiles):
        tile.pts = number
        tile.time_base = Fraction(1, count)
        graph.vpush(tile)
    return _encoded(graph.vpull(), "mjpeg", _JPEG)


@contextmanager
def _opened(clip: bytes | Path) -> Iterator[InputContainer]:
    """The clip, ready to be decoded; whatever goes wrong with it is `Undecodable`."""
    import av

    with ExitStack() as stack:
        file = stack.enter_context(io.BytesIO(clip) if isinstance(clip, bytes) else clip.open("rb"))
        try:
            container = stack.enter_context(
                av.open(file, "r", format="mp4", options=_OPTIONS, io_open=_follow_nothing)
            )
            _prepare(container)
            yield container
        except (av.FFmpegError, ArithmeticError, MemoryError, ValueError) as error:
            raise Undecodable(f"the clip cannot be decoded: {error}") from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # a damaged file has its reader seek before the start
                raise
            raise Undecodable("the clip ends too early") from error


def _prepare(container: InputContainer) -> None:
    if not container.streams.video:
        raise Undecodable("the clip has no picture")
    # PyAV promises a decoder, and gives none for a codec beyond the list.
    decoder: VideoCodecContext | None = container.streams.video[0].codec_context
    if decoder is None:
        raise Undecodable("the clip is coded in a way that is not decoded here")
    if not 0 < decoder.width * decoder.height <= PIXELS_MAX:
        raise Undecodable(f"the clip's pictures are {decoder.width}x{decoder.height}")
    decoder.thread_count = 1
    decoder.options = {"max_pixels": str(PIXELS_MAX)}


def _follow_nothing(*_: Any) -> NoReturn:
    raise ValueError("the clip refers to another file")


def _seconds(container: InputContainer) -> Fraction:
    video = container.streams.video[0]
    if video.duration is None or video.time_base is None:
        return Fraction(0)
    return max(video.duration * video.time_base, Fraction(0))


def _nearest(container: InputContainer, times: list[Fraction]) -> Iterator[VideoFrame]:
    """For each of `times`, in order, the first frame at or after it; past the end, the last."""
    left = list(times)
    last = None
    for number, frame in enumerate(container.decode(video=0)):
        last = frame
        at = Fraction(0) if frame.pts is None else frame.pts * (frame.time_base or Fraction(0))
        while left and at >= left[0]:
            left.pop(0)
            yield frame
        if not left or number >= FRAMES_MAX:
            break
    if last is None:
        raise Undecodable("no frame of the clip could be decoded")
    for _ in left:
        yield last


def _fitted(frame: VideoFrame, side: int) -> tuple[int, int]:
    """The size of `frame`, shrunk to `side` if it is larger, in even numbers of pixels."""
    longer = max(frame.width, frame.height)
    scale = Fraction(min(side, longer), longer)
    return (
        max(2, round(frame.width * scale / 2) * 2),
        max(2, round(frame.height * scale / 2) * 2),
    )


def _encoded(picture: VideoFrame, codec: str, options: dict[str, str]) -> bytes:
    from av.codec import CodecContext
    from av.video.codeccontext import VideoCodecContext

    encoder = CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = picture.width, picture.height
    encoder.pix_fmt = picture.format.name
    encoder.time_base = Fraction(1, 1)
    encoder.options = options
    picture.pts = 0
    return b"".join(bytes(packet) for packet in (*encoder.encode(picture), *encoder.encode(None)))
