"""The picture of a clip, before it is encoded."""

from __future__ import annotations

import pytest

from proxy.sandbox.card import Canvas, Card, Scene, yuv

CARD = Card("b33c3ae1", "veo-3.1-fast", "A cat flying in the sky", "8 s   720x1280", 720, 1280)


@pytest.mark.parametrize(
    "prompt",
    ["画小猫 🐱", "x" * 100_000, "\x00\x07", "שלום", " ", "é" * 300, "word " * 5000],
    ids=["han", "endless", "control", "hebrew", "blank", "accents", "long"],
)
def test_any_prompt_can_be_drawn(prompt: str) -> None:
    small = Card("id", "veo-3.1", prompt, "8 s", 1280, 720)
    scene = Scene(small)
    ground = bytes(scene.canvas.luma)
    assert list(scene.advance(0.5))
    assert scene.canvas.luma != ground


def test_colours_are_limited_range() -> None:
    assert yuv((0, 0, 0)) == (16, 128, 128)
    assert yuv((255, 255, 255)) == (235, 128, 128)
    luma, blue, red = yuv((255, 0, 0))
    assert (luma, blue < 128, red) == (63, True, 240)


def test_a_moment_changes_only_the_rows_it_names() -> None:
    scene = Scene(CARD)
    list(scene.advance(0.1))
    before = bytes(scene.canvas.luma)
    named = {row for first, end in scene.advance(0.5) for row in range(first, end)}
    width = CARD.width
    changed = {
        row
        for row in range(CARD.height)
        if scene.canvas.luma[row * width : (row + 1) * width]
        != before[row * width : (row + 1) * width]
    }
    assert changed
    assert changed <= named


def test_rows_that_were_kept_can_be_put_back() -> None:
    canvas = Canvas(64, 32)
    canvas.gradient((0, 0, 0), (255, 255, 255))
    before = bytes(canvas.luma), *map(bytes, canvas.chroma)
    kept = canvas.kept(8, 16)
    canvas.box(0, 8, 64, 16, (255, 0, 0))
    assert bytes(canvas.luma) != before[0]
    canvas.restore(8, kept)
    assert (bytes(canvas.luma), *map(bytes, canvas.chroma)) == before
