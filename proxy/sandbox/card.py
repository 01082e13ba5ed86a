"""The picture of a pretend clip: a title card drawn onto the planes of a YUV 4:2:0 frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from proxy.sandbox import font

SECONDS: Final = 8
"""Every clip of the vendor lasts this long (vendor page, "Technical Specs")."""

_MARGIN: Final = 56
_BAR_ROWS: Final = 12
_CLOCK_ROWS: Final = 36
_PROMPT_LETTERS_MAX: Final = 1000
_LIGHT: Final = (0xF4, 0xF6, 0xFF)
_MUTED: Final = (0x9F, 0xB0, 0xD9)
_ACCENT: Final = (0x2D, 0xD4, 0xBF)
_TRACK: Final = (0x3A, 0x44, 0x7E)
_GROUND_FROM: Final = (0x14, 0x18, 0x3F)
_GROUND_TO: Final = (0x3B, 0x2A, 0x78)

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Card:
    """What a clip shows: `width` by `height` in pixels, both even; `notes` is one line of facts."""

    clip_id: str
    model: str
    prompt: str
    notes: str
    width: int
    height: int


def yuv(colour: Colour) -> Colour:
    """Red, green, blue as limited range BT.709 luma and the two chroma values."""
    red, green, blue = colour
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (
        round(16 + luma * 219 / 255),
        round(128 + (blue - luma) / 1.8556 * 224 / 255),
        round(128 + (red - luma) / 1.5748 * 224 / 255),
    )


class Canvas:
    """Three planes without padding: luma whole, chroma at half width and height."""

    __slots__ = ("chroma", "height", "luma", "width")

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.luma = bytearray(width * height)
        self.chroma = (bytearray(width * height // 4), bytearray(width * height // 4))

    def gradient(self, start: Colour, end: Colour) -> None:
        """Fill everything with a diagonal from `start`, top left, to `end`, bottom right."""
        planes = zip((self.luma, *self.chroma), yuv(start), yuv(end), (1, 2, 2), strict=True)
        for plane, low, high, shrink in planes:
            width, height = self.width // shrink, self.height // shrink
            reach = width + height
            ramp = bytes(round(low + (high - low) * at / reach) for at in range(reach))
            for y in range(height):
                plane[y * width : (y + 1) * width] = ramp[y : y + width]

    def box(self, left: int, top: int, width: int, height: int, colour: Colour) -> None:
        """A filled rectangle; even edges keep its colour clean."""
        planes = zip((self.luma, *self.chroma), yuv(colour), (1, 2, 2), strict=True)
        for plane, value, shrink in planes:
            stride, run = self.width // shrink, bytes((value,)) * (width // shrink)
            for y in range(top // shrink, (top + height) // shrink):
                at = y * stride + left // shrink
                plane[at : at + len(run)] = run

    def text(self, left: int, top: int, text: str, scale: int, colour: Colour) -> None:
        """One line of text whose highest row is `top`; what leaves the canvas is an error."""
        for letter in text:
            mask = font.mask(letter, scale)
            self._ink(left, top, mask, colour)
            left += len(mask[0]) + scale

    def kept(self, top: int, height: int) -> list[bytes]:
        """A copy of some rows, one piece for each plane, to be put back by `restore`."""
        pieces = []
        for plane, shrink in ((self.luma, 1), (self.chroma[0], 2), (self.chroma[1], 2)):
            stride = self.width // shrink
            pieces.append(bytes(plane[top // shrink * stride : (top + height) // shrink * stride]))
        return pieces

    def restore(self, top: int, pieces: list[bytes]) -> None:
        """Put rows that `kept` copied back at `top`."""
        planes = zip((self.luma, *self.chroma), pieces, (1, 2, 2), strict=True)
        for plane, piece, shrink in planes:
            at = top // shrink * (self.width // shrink)
            plane[at : at + len(piece)] = piece

    def _ink(self, left: int, top: int, mask: font.Mask, colour: Colour) -> None:
        luma, blue, red = yuv(colour)
        plane, (blues, reds) = self.luma, self.chroma
        for y, row in enumerate(mask, top):
            if not any(row):
                continue
            for x, cover in enumerate(row, left):
                if not cover:
                    continue
                at = y * self.width + x
                plane[at] += (luma - plane[at]) * cover // 255
                if not (x | y) & 1:
                    half = (y // 2) * (self.width // 2) + x // 2
                    blues[half] += (blue - blues[half]) * cover // 255
                    reds[half] += (red - reds[half]) * cover // 255


class Scene:
    """A card in motion: the canvas, and which rows change from one moment to the next."""

    def __init__(self, card: Card) -> None:
        self.canvas = Canvas(card.width, card.height)
        self._bar_top = (card.height - _MARGIN - 56) & ~1
        self._clock_top = (self._bar_top - 48) & ~1
        self._second = -1
        _title(self.canvas, card, self._clock_top - 24)
        self.canvas.text(_MARGIN, self._bar_top + 34, card.clip_id, 2, _MUTED)
        self.canvas.box(_MARGIN, self._bar_top, self._bar_width, _BAR_ROWS, _TRACK)
        self._clock_ground = self.canvas.kept(self._clock_top, _CLOCK_ROWS)

    @property
    def _bar_width(self) -> int:
        return self.canvas.width - 2 * _MARGIN

    def advance(self, part: float) -> Iterator[tuple[int, int]]:
        """Draw the moment `part` (0 to 1) of the clip; yields the changed rows, from and to."""
        done = round(self._bar_width * part) & ~1
        self.canvas.box(_MARGIN, self._bar_top, done, _BAR_ROWS, _ACCENT)
        yield self._bar_top, self._bar_top + _BAR_ROWS
        second = int(part * SECONDS)
        if second != self._second:
            self._second = second
            self.canvas.restore(self._clock_top, self._clock_ground)
            clock = f"{second // 60}:{second % 60:02d} / 0:{SECONDS:02d}"
            left = self.canvas.width - _MARGIN - font.width(clock, 3)
            self.canvas.text(left & ~1, self._clock_top, clock, 3, _LIGHT)
            yield self._clock_top, self._clock_top + _CLOCK_ROWS


def _title(canvas: Canvas, card: Card, bottom: int) -> None:
    """Everything that stands still above the clock: brand, model, facts and the prompt."""
    room = canvas.width - 2 * _MARGIN
    canvas.gradient(_GROUND_FROM, _GROUND_TO)
    canvas.text(_MARGIN, _MARGIN, "clipmeter", 4, _LIGHT)
    canvas.text(_MARGIN + font.width("clipmeter ", 4) + 12, _MARGIN, "sandbox", 4, _ACCENT)
    tall = canvas.height > canvas.width
    top = _MARGIN + (canvas.height // 6 if tall else canvas.height // 8)
    sizes = (scale for scale in (8, 7, 6, 5, 4, 3) if font.width(card.model, scale) <= room)
    scale = next(sizes, 2)
    model = font.wrap(card.model, scale, room, 1)[0]
    canvas.text(_MARGIN, top, model, scale, _LIGHT)
    top += font.ROWS * scale + 12
    canvas.text(_MARGIN, top, card.notes, 3, _MUTED)
    top = (top + 60) & ~1
    canvas.box(_MARGIN, top, 96, 6, _ACCENT)
    top += 48
    prompt = font.reduced(card.prompt[:_PROMPT_LETTERS_MAX])
    for scale in (6, 5, 4, 3):
        step = (font.ROWS + 2) * scale
        lines = font.wrap(prompt, scale, room, (bottom - top) // step)
        if scale == 3 or not lines[-1].endswith(font.ELLIPSIS):
            for row, line in enumerate(lines):
                canvas.text(_MARGIN, top + row * step, line, scale, _LIGHT)
            return
