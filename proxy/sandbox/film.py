"""What is in a clip's file, found by decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Film:
    """A file that plays: `seconds` long, `size` as WIDTHxHEIGHT pixels, its two codecs by name."""

    seconds: float
    size: str
    video: str
    audio: str
    pictures: int


def examine(path: Path) -> Film:
    """Decode the whole file at `path`.

    Raises `av.FFmpegError` for one that does not play, `IndexError` without picture or sound.
    """
    import av

    with av.open(str(path)) as opened:
        picture, sound = opened.streams.video[0], opened.streams.audio[0]
        codec = picture.codec_context
        pictures = sum(1 for _ in opened.decode(picture))
        return Film(
            seconds=(opened.duration or 0) / av.time_base,
            size=f"{codec.width}x{codec.height}",
            video=codec.name,
            audio=sound.codec_context.name,
            pictures=pictures,
        )
