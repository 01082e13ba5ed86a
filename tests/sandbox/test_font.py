"""The letters fit their lines, and letters the font lacks stay recognisable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox import font


@given(st.text(max_size=60), st.integers(1, 9), st.integers(80, 700), st.integers(1, 6))
def test_wrapped_lines_fit(text: str, scale: int, width_max: int, lines_max: int) -> None:
    lines = font.wrap(text, scale, width_max, lines_max)
    assert 1 <= len(lines) <= lines_max
    assert all(font.width(line, scale) <= max(width_max, 11 * scale) for line in lines)


def test_what_does_not_fit_is_marked() -> None:
    lines = font.wrap("one two three four five six seven", 3, 100, 2)
    assert len(lines) == 2
    assert lines[-1].endswith(font.ELLIPSIS)


@given(st.characters(), st.integers(1, 9))
def test_every_letter_has_a_mask_of_one_height_and_width(letter: str, scale: int) -> None:
    mask = font.mask(letter, scale)
    assert len({len(row) for row in mask}) == 1
    assert len(mask) == font.ROWS * scale


def test_letters_are_reduced_to_their_base_where_there_is_one() -> None:
    assert font.reduced("Café naïve ﬁn 画") == "Cafe naive fin 画"


def test_letters_differ() -> None:
    printable = [chr(code) for code in range(0x21, 0x7F)]
    assert len({font.mask(letter, 3) for letter in printable}) == len(printable)
    assert font.mask("画", 4) != font.mask("小", 4)
