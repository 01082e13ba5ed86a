"""What is said about a file is what is in it."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from proxy.sandbox import stamped
from proxy.sandbox.card import SECONDS, Card
from proxy.sandbox.film import examine


def test_a_clip_is_examined(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(stamped(Card("id", "veo-3.1", "", "", 1280, 720)))
    film = examine(path)
    assert (film.size, film.video, film.audio) == ("1280x720", "h264", "aac")
    assert film.seconds == pytest.approx(SECONDS, abs=0.1)
    assert film.pictures == 24 * SECONDS


def test_a_file_that_does_not_play_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"<html>")
    with pytest.raises(av.FFmpegError):
        examine(path)
