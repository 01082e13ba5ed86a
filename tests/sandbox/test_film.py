"""What is in a clip's file, found by decoding it."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from proxy.sandbox.card import Card
from proxy.sandbox.film import examine
from proxy.sandbox.render import render


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("film") / "clip.mp4"
    path.write_bytes(render(Card("clip-1", "veo-3.1-landscape", "a boat", "", 1280, 720)))
    return path


def test_a_clip_is_seen_as_what_it_was_rendered_as(clip: Path) -> None:
    film = examine(clip)
    assert (film.size, film.video, film.audio) == ("1280x720", "h264", "aac")
    assert film.seconds == pytest.approx(8, abs=0.1)
    assert film.pictures == 8 * 24


@pytest.mark.parametrize("length", [0, 64])
def test_a_file_that_does_not_play_is_noticed(clip: Path, tmp_path: Path, length: int) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:length])
    with pytest.raises((av.FFmpegError, IndexError)):
        examine(broken)
