"""A file on its way in is published or gone, and nobody writes where it was."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from proxy.store.kept import Kept, Kind
from proxy.store.part import Part
from tests.store.vaults import ID, SMALL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.part"


@pytest.fixture
def part(path: Path) -> Part:
    return Part(os.open(path, os.O_RDWR | os.O_CREAT), path)


def test_what_was_written_is_counted_and_hashed(part: Part, path: Path) -> None:
    for byte in SMALL:
        part.write(bytes([byte]))
    part.write(b"")
    assert (part.size_bytes, part.head) == (len(SMALL), SMALL[:12])
    sha = hashlib.sha256(SMALL).hexdigest()
    assert part.named(ID, Kind.CLIP) == Kept(ID, Kind.CLIP, sha, len(SMALL))
    assert path.read_bytes() == SMALL


def test_what_was_placed_stays_and_the_rest_goes(part: Part, path: Path, tmp_path: Path) -> None:
    part.write(SMALL)

    def move(source: Path) -> None:
        source.rename(tmp_path / "kept")

    part.place(move)
    path.write_bytes(b"somebody else's")
    part.drop()
    part.drop()
    assert (tmp_path / "kept").read_bytes() == SMALL
    assert path.read_bytes() == b"somebody else's"


def test_a_placing_that_fails_is_none(part: Part, path: Path) -> None:
    def fail(_: Path) -> None:
        raise PermissionError

    with pytest.raises(PermissionError):
        part.place(fail)
    assert path.exists()
    part.drop()
    assert not path.exists()


def test_what_was_dropped_is_neither_written_nor_placed(part: Part) -> None:
    moved: list[Path] = []
    part.drop()
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.write(SMALL)
    with pytest.raises(OSError, match="Bad file descriptor"):
        part.place(moved.append)
    assert moved == []


def test_a_drop_waits_for_the_placing_that_is_under_way(
    part: Part, path: Path, tmp_path: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def move(source: Path) -> None:
        begun.set()
        assert go_on.wait(10)
        source.rename(tmp_path / "kept")

    placing = threading.Thread(target=part.place, args=(move,))
    placing.start()
    assert begun.wait(10)
    dropping = threading.Thread(target=part.drop)
    dropping.start()
    go_on.set()
    placing.join()
    dropping.join()
    assert (tmp_path / "kept").exists()
    assert not path.exists()


def test_what_nobody_holds_any_more_is_removed(path: Path) -> None:
    part = Part(os.open(path, os.O_RDWR | os.O_CREAT), path)
    assert path.exists()
    del part
    assert not path.exists()
