"""The letters of the pretend clips: a 5 by 9 bitmap font, drawn smooth at any size.

Each glyph is five columns wide; seven rows stand on the base line, two hang below it. A letter the
font lacks is reduced to its base letter where Unicode knows one (é to e); any other becomes a small
box with its code point in hexadecimal, so that a prompt in any script stays recognisable.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

ROWS: Final = 9
"""Rows of a glyph, in font pixels: seven above the base line, two below."""

ELLIPSIS: Final = "…"

_ALPHABET: Final = "".join(chr(code) for code in range(0x20, 0x7F)) + ELLIPSIS

_DRAWN: Final = """
..... ..#.. .#.#. .#.#. ..#.. ##..# .##.. ..#.. ...#. .#... ..... ..... ..... ..... ..... ....#
..... ..#.. .#.#. .#.#. .#### ##..# #..#. ..#.. ..#.. ..#.. ..#.. ..#.. ..... ..... ..... ....#
..... ..#.. ..... ##### #.#.. ...#. #.#.. ..... .#... ...#. #.#.# ..#.. ..... ..... ..... ...#.
..... ..#.. ..... .#.#. .###. ..#.. .#... ..... .#... ...#. .###. ##### ..... .###. ..... ..#..
..... ..#.. ..... ##### ..#.# .#... #.#.# ..... .#... ...#. #.#.# ..#.. ..... ..... ..... .#...
..... ..... ..... .#.#. ####. #..## #..#. ..... ..#.. ..#.. ..#.. ..#.. ..... ..... ..... #....
..... ..#.. ..... .#.#. ..#.. #..## .##.# ..... ...#. .#... ..... ..... ..#.. ..... ..#.. #....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..#.. ..... ..... .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... .....

.###. ..#.. .###. ##### ...#. ##### ..##. ##### .###. .###. ..... ..... ...#. ..... .#... .###.
#...# .##.. #...# ...#. ..##. #.... .#... ....# #...# #...# ..... ..... ..#.. ..... ..#.. #...#
#..## ..#.. ....# ..#.. .#.#. ####. #.... ...#. #...# #...# ..#.. ..#.. .#... ##### ...#. ....#
#.#.# ..#.. ...#. ...#. #..#. ....# ####. ..#.. .###. .#### ..... ..... #.... ..... ....# ...#.
##..# ..#.. ..#.. ....# ##### ....# #...# .#... #...# ....# ..... ..... .#... ##### ...#. ..#..
#...# ..#.. .#... #...# ...#. #...# #...# .#... #...# ...#. ..... ..... ..#.. ..... ..#.. .....
.###. .###. ##### .###. ...#. .###. .###. .#... .###. .##.. ..#.. ..#.. ...#. ..... .#... ..#..
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..#.. ..... ..... ..... .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .#... ..... ..... ..... .....

.###. .###. ####. .###. ####. ##### ##### .###. #...# .###. ..### #...# #.... #...# #...# .###.
#...# #...# #...# #...# #...# #.... #.... #...# #...# ..#.. ...#. #..#. #.... ##.## #...# #...#
#.### #...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #.... #.#.# ##..# #...#
#.#.# ##### ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #.... #.#.# #.#.# #...#
#.### #...# #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #.... #...# #..## #...#
#.... #...# #...# #...# #...# #.... #.... #...# #...# ..#.. #..#. #..#. #.... #...# #...# #...#
.#### #...# ####. .###. ####. ##### #.... .#### #...# .###. .##.. #...# ##### #...# #...# .###.
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

####. .###. ####. .#### ##### #...# #...# #...# #...# #...# ##### .###. #.... .###. ..#.. .....
#...# #...# #...# #.... ..#.. #...# #...# #...# #...# #...# ....# .#... #.... ...#. .#.#. .....
#...# #...# #...# #.... ..#.. #...# #...# #...# .#.#. .#.#. ...#. .#... .#... ...#. #...# .....
####. #...# ####. .###. ..#.. #...# #...# #.#.# ..#.. ..#.. ..#.. .#... ..#.. ...#. ..... .....
#.... #.#.# #.#.. ....# ..#.. #...# #...# #.#.# .#.#. ..#.. .#... .#... ...#. ...#. ..... .....
#.... #..#. #..#. ....# ..#.. #...# .#.#. ##.## #...# ..#.. #.... .#... ....# ...#. ..... .....
#.... .##.# #...# ####. ..#.. .###. ..#.. #...# #...# ..#.. ##### .###. ....# .###. ..... .....
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... #####
..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... ..... .....

.#... ..... #.... ..... ....# ..... ..##. ..... #.... ..#.. ...#. #.... .##.. ..... ..... .....
..#.. ..... #.... ..... ....# ..... .#..# ..... #.... ..... ..... #.... ..#.. ..... ..... .....
..... .###. #.##. .###. .##.# .###. .#... .#### #.##. .##.. ..##. #..#. ..#.. ##.#. #.##. .###.
..... ....# ##..# #...# #..## #...# ###.. #...# ##..# ..#.. ...#. #.#.. ..#.. #.#.# ##..# #...#
..... .#### #...# #.... #...# ##### .#... #...# #...# ..#.. ...#. ##... ..#.. #.#.# #...# #...#
..... #...# #...# #...# #...# #.... .#... #...# #...# ..#.. ...#. #.#.. ..#.. #.#.# #...# #...#
..... .#### ####. .###. .#### .###. .#... .#### #...# .###. ...#. #..#. .###. #.#.# #...# .###.
..... ..... ..... ..... ..... ..... ..... ....# ..... ..... #..#. ..... ..... ..... ..... .....
..... ..... ..... ..... ..... ..... ..... .###. ..... ..... .##.. ..... ..... ..... ..... .....

..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ...#. ..#.. .#... ..... .....
..... ..... ..... ..... .#... ..... ..... ..... ..... ..... ..... ..#.. ..#.. ..#.. ..... .....
####. .#### #.##. .#### ###.. #...# #...# #...# #...# #...# ##### ..#.. ..#.. ..#.. .#... .....
#...# #...# ##..# #.... .#... #...# #...# #...# .#.#. #...# ...#. .#... ..#.. ...#. #.#.# .....
#...# #...# #.... .###. .#... #...# #...# #.#.# ..#.. #...# ..#.. ..#.. ..#.. ..#.. ...#. .....
#...# #...# #.... ....# .#..# #..## .#.#. #.#.# .#.#. #...# .#... ..#.. ..#.. ..#.. ..... .....
####. .#### #.... ####. ..##. .##.# ..#.. .#.#. #...# .#### ##### ...#. ..#.. .#... ..... #.#.#
#.... ....# ..... ..... ..... ..... ..... ..... ..... ....# ..... ..... ..... ..... ..... .....
#.... ....# ..... ..... ..... ..... ..... ..... ..... .###. ..... ..... ..... ..... ..... .....
"""

_HEX_DRAWN: Final = """
### .#. ##. ##. #.# ### .## ### ### ### .#. ##. .## ##. ### ###
#.# ##. ..# ..# #.# #.. #.. ..# #.# #.# #.# #.# #.. #.# #.. #..
#.# .#. .#. .#. ### ##. ### .#. ### ### ### ##. #.. #.# ##. ##.
#.# .#. #.. ..# ..# ..# #.# .#. #.# ..# #.# #.# #.. #.# #.. #..
### ### ### ##. ..# ##. ### .#. ### ##. #.# ##. .## ##. ### #..
"""

_SPACE_COLUMNS: Final = 3
_BOX_ROWS: Final = 15

Mask = tuple[bytes, ...]
"""A glyph's cover, row by row, 0 (bare) to 255 (inked) a pixel; every row has one width."""

Bitmap = tuple[str, ...]


def _cut(drawing: str, names: str, width: int) -> dict[str, Bitmap]:
    """The named glyphs of `drawing`, blocks of glyphs side by side with a blank line between."""
    glyphs: dict[str, Bitmap] = {}
    remaining = iter(names)
    for block in drawing.strip("\n").split("\n\n"):
        rows = block.split("\n")
        for start in range(0, len(rows[0]), width + 1):
            glyphs[next(remaining)] = tuple(row[start : start + width] for row in rows)
    return glyphs


_GLYPHS: Final = _cut(_DRAWN, _ALPHABET, 5)
_DIGITS: Final = _cut(_HEX_DRAWN, "0123456789ABCDEF", 3)


def reduced(text: str) -> str:
    """`text` in letters of the font where Unicode knows a base letter; other letters stay."""
    kept = []
    for letter in text:
        base = unicodedata.normalize("NFKD", letter)
        base = "".join(part for part in base if not unicodedata.combining(part))
        kept.append(base if base and all(part in _GLYPHS for part in base) else letter)
    return "".join(kept)


@lru_cache(maxsize=2048)
def mask(letter: str, scale: int) -> Mask:
    """The cover of one letter, `ROWS * scale` pixels high, without the gap to the next one."""
    bitmap = _GLYPHS.get(letter)
    if bitmap is None:
        return _boxed(letter, scale)
    inked = [column for column in range(5) if any(row[column] == "#" for row in bitmap)]
    if not inked:
        return (bytes(_SPACE_COLUMNS * scale),) * (ROWS * scale)
    return _smooth(tuple(row[inked[0] : inked[-1] + 1] for row in bitmap), scale)


def width(text: str, scale: int) -> int:
    """Pixels that `text` takes on one line."""
    return sum(len(mask(letter, scale)[0]) + scale for letter in text) - scale if text else 0


def wrap(text: str, scale: int, width_max: int, lines_max: int) -> list[str]:
    """`text` broken into lines of at most `width_max` pixels; what does not fit becomes …"""
    lines: list[str] = []
    line = ""
    for word in text.split():
        for piece in _fitting(word, scale, width_max):
            longer = f"{line} {piece}" if line else piece
            if width(longer, scale) <= width_max:
                line = longer
            else:
                lines.append(line)
                line = piece
        if len(lines) > lines_max:
            break
    lines.append(line)
    if len(lines) <= lines_max:
        return lines
    last = lines[lines_max - 1]
    while last and width(last + ELLIPSIS, scale) > width_max:
        last = last[:-1]
    return [*lines[: lines_max - 1], last.rstrip() + ELLIPSIS]


def _fitting(word: str, scale: int, width_max: int) -> list[str]:
    """`word` in pieces that each fit on a line; most words are one piece."""
    pieces = [""]
    for letter in word:
        if width(pieces[-1] + letter, scale) > width_max:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _smooth(bitmap: Bitmap, scale: int) -> Mask:
    """`bitmap` enlarged with round corners: interpolated, then cut at half cover, edge softened."""
    columns = len(bitmap[0])
    rows = ["." * (columns + 2), *(f".{row}." for row in bitmap), "." * (columns + 2)]
    field = [[1.0 if cell == "#" else 0.0 for cell in row] for row in rows]
    softness = max(1.0, 0.75 * scale)
    drawn = []
    for y in range(len(bitmap) * scale):
        top, down = divmod((y + 0.5) / scale + 0.5, 1)
        above, below = field[int(top)], field[int(top) + 1]
        mixed = [a + (b - a) * down for a, b in zip(above, below, strict=True)]
        line = bytearray(columns * scale)
        for x in range(columns * scale):
            left, right = divmod((x + 0.5) / scale + 0.5, 1)
            value = mixed[int(left)] + (mixed[int(left) + 1] - mixed[int(left)]) * right
            line[x] = round(255 * min(1.0, max(0.0, (value - 0.4) * softness + 0.5)))
        drawn.append(bytes(line))
    return tuple(drawn)


def _boxed(letter: str, scale: int) -> Mask:
    """A frame around the letter's code point: two rows of hexadecimal digits."""
    digits = f"{ord(letter):04X}"
    digits = digits if len(digits) == 4 else f"{ord(letter):06X}"
    half = len(digits) // 2
    columns = 4 * half + 3
    cells = [["."] * columns for _ in range(_BOX_ROWS)]
    for y in range(_BOX_ROWS):
        for x in range(columns):
            if y in {0, _BOX_ROWS - 1} or x in {0, columns - 1}:
                cells[y][x] = "#"
    for place, digit in enumerate(digits):
        left, top = 2 + 4 * (place % half), 2 + 6 * (place // half)
        for y, row in enumerate(_DIGITS[digit]):
            cells[top + y][left : left + 3] = row
    dot = max(1, scale // 2)
    rows = [
        b"".join((b"\xff" if cell == "#" else b"\x00") * dot for cell in row)
        for row in cells
        for _ in range(dot)
    ]
    blank = bytes(columns * dot)
    return tuple((rows + [blank] * (ROWS * scale))[: ROWS * scale])
