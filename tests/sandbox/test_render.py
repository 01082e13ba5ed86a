"""The clips are real: they decode, they last eight seconds, and the card can be seen in them."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from functools import cache

import av
import pytest

from proxy.sandbox.card import SECONDS, Card
from proxy.sandbox.render import render, stamped

PORTRAIT = Card("b33c3ae1", "veo-3.1-fast", "A cat flying in the sky", "8 s   720x1280", 720, 1280)
LANDSCAPE = replace(PORTRAIT, model="veo-3.1-landscape-fast-fl", width=1280, height=720)


@cache
def shot(card: Card) -> bytes:
    return render(card)


@pytest.fixture
def film() -> bytes:
    return shot(PORTRAIT)


def brightness(film: bytes, second: float, rows: slice) -> list[int]:
    """How many light pixels each of the named rows has at a moment."""
    with av.open(io.BytesIO(film), "r") as container:
        frames = container.decode(video=0)
        frame = next(f for number, f in enumerate(frames) if number == int(second * 24))
        plane = frame.planes[0]
        data, stride = bytes(plane), plane.line_size
    return [
        sum(value > 120 for value in data[y * stride : y * stride + frame.width])
        for y in range(*rows.indices(frame.height))
    ]


@pytest.mark.parametrize("card", [PORTRAIT, LANDSCAPE], ids=["portrait", "landscape"])
def test_a_clip_is_h264_and_aac_and_lasts_eight_seconds(card: Card) -> None:
    film = shot(card)
    with av.open(io.BytesIO(film), "r") as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == (card.width, card.height)
        assert video.codec_context.pix_fmt == "yuv420p"
        assert video.average_rate == Fraction(24)
        for stream in (video, audio):
            assert stream.duration is not None
            assert stream.time_base is not None
            assert float(stream.duration * stream.time_base) == pytest.approx(SECONDS, abs=0.1)
        assert len(list(container.decode(video))) == 24 * SECONDS
    assert len(film) < 1_500_000


def test_the_index_stands_before_the_data(film: bytes) -> None:
    assert film[4:8] == b"ftyp"
    assert 0 < film.index(b"moov") < film.index(b"mdat")


def test_the_sound_is_not_silence(film: bytes) -> None:
    with av.open(io.BytesIO(film), "r") as container:
        loudest = max(
            max(abs(value) for value in memoryview(bytes(frame.planes[0])).cast("f"))
            for frame in container.decode(audio=0)
        )
    assert 0.02 < loudest < 0.5


def test_a_card_always_gives_the_same_bytes_and_another_clip_others(film: bytes) -> None:
    assert render(PORTRAIT) == film
    assert render(replace(PORTRAIT, clip_id="another")) != film


def test_the_bar_grows_while_the_clip_plays(film: bytes) -> None:
    bar = slice(1280 - 56 - 56 + 4, 1280 - 56 - 56 + 6)
    lengths = [max(brightness(film, second, bar)) for second in (1, 4, 7)]
    assert lengths == sorted(lengths)
    assert lengths[2] - lengths[0] > 300


def test_model_and_prompt_are_drawn(film: bytes) -> None:
    blank = render(replace(PORTRAIT, model=" ", prompt="", notes=""))
    title = slice(260, 330)
    prompt = slice(450, 520)
    for rows in (title, prompt):
        assert sum(brightness(film, 1, rows)) > 1500
        assert sum(brightness(blank, 1, rows)) == 0


def test_a_stamped_clip_costs_nothing_and_still_plays() -> None:
    films = [stamped(replace(PORTRAIT, clip_id=f"clip-{number}")) for number in range(2)]
    assert films[0] != films[1]
    for number, film in enumerate(films):
        assert film.endswith(b"free" + f"clip-{number}".encode())
        with av.open(io.BytesIO(film), "r") as container:
            assert len(list(container.decode(video=0))) == 24 * SECONDS
