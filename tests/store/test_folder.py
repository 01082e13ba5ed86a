"""A folder's files are whole, checked, swept, and safe from those who delete beside them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from proxy.store.folder import Folder
from proxy.store.kept import Absence, Kept, Kind, VaultUnavailable
from tests.store.vaults import BIG, ID, SMALL, clip, flipped


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "vault", 0)


def keep(folder: Folder, data: bytes, clip_id: str = ID) -> Kept:
    part = folder.begin(len(data))
    part.write(data)
    kept = part.named(clip_id, Kind.CLIP)
    folder.publish(part, kept)
    part.drop()
    return kept


def path_of(tmp_path: Path, kept: Kept) -> Path:
    return tmp_path / "vault" / "clips" / kept.key


def read(folder: Folder, kept: Kept) -> bytes | Absence:
    found = folder.open(kept)
    if isinstance(found, Absence):
        return found
    descriptor, (size, _) = found
    data = os.pread(descriptor, size, 0)
    os.close(descriptor)
    return data


@pytest.mark.parametrize("data", [SMALL, BIG], ids=["small", "big"])
def test_a_change_is_seen_though_its_time_was_put_back(
    folder: Folder, tmp_path: Path, data: bytes
) -> None:
    kept = keep(folder, data)
    path = path_of(tmp_path, kept)
    assert read(folder, kept) == data
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(folder, kept) is Absence.CORRUPT


def test_what_was_checked_is_not_read_again_until_told(folder: Folder, tmp_path: Path) -> None:
    kept = keep(folder, BIG)
    assert read(folder, kept) == BIG
    path = path_of(tmp_path, kept)
    seen = folder._verified[kept.key]
    path.write_bytes(flipped(BIG, 9))  # a disk that lies, and says that nothing changed
    status = path.stat()
    folder._verified[kept.key] = (status.st_ino, *seen[1:2], status.st_mtime_ns, status.st_ctime_ns)
    assert read(folder, kept) == flipped(BIG, 9)
    folder.forget(kept)
    assert read(folder, kept) is Absence.CORRUPT


def test_what_is_set_aside_goes_with_its_clip(folder: Folder, tmp_path: Path) -> None:
    kept = keep(folder, SMALL)
    folder.set_aside(kept)
    folder.set_aside(kept)
    assert read(folder, kept) is Absence.MISSING
    assert len(list(path_of(tmp_path, kept).parent.iterdir())) == 1
    assert folder.find(ID) == []
    folder.delete(ID)
    assert not path_of(tmp_path, kept).parent.exists()


@pytest.mark.parametrize("what", ["a link", "a folder"])
def test_what_is_no_plain_file_is_never_read(folder: Folder, tmp_path: Path, what: str) -> None:
    kept = keep(folder, SMALL)
    path = path_of(tmp_path, kept)
    path.rename(tmp_path / "elsewhere")
    if what == "a link":
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OSError, match="symbolic link"):
            folder.open(kept)
    else:
        path.mkdir()
        assert folder.open(kept) is Absence.CORRUPT


def test_trimming_takes_what_was_stored_first(folder: Folder, tmp_path: Path) -> None:
    kept = [keep(folder, clip(1000, seed=str(number)), f"video_{number}") for number in range(5)]
    for number, each in enumerate(reversed(kept)):
        os.utime(path_of(tmp_path, each), (1000 + number, 1000 + number))
    folder.trim(2500)
    assert sorted(folder.clip_ids()) == ["video_0", "video_1"]
    folder.trim(0)
    assert folder.clip_ids() == ["video_0"]  # what came last stays, however large


def test_strangers_in_the_folder_are_left_alone(folder: Folder, tmp_path: Path) -> None:
    kept = keep(folder, SMALL)
    (tmp_path / "vault" / "clips" / "lost+found").mkdir()
    (tmp_path / "vault" / "clips" / "a_file").write_bytes(b"")
    (path_of(tmp_path, kept).parent / "notes.txt").write_bytes(b"")
    assert folder.clip_ids() == [ID]
    assert [each.kept for each in folder.find(ID)] == [kept]


def test_a_folder_says_how_much_must_go_before_more_can_come(folder: Folder) -> None:
    assert folder.short_bytes(0) == 0
    lacking = folder.short_bytes(2**60)
    assert 0 < lacking < 2**60
    assert abs(folder.short_bytes(2**60 + 10**15) - lacking - 10**15) < 2**30


def test_files_are_for_their_owner_alone(folder: Folder, tmp_path: Path) -> None:
    path = path_of(tmp_path, keep(folder, SMALL))
    assert path.stat().st_mode & 0o777 == 0o600
    assert {each.stat().st_mode & 0o777 for each in path.parents[:3]} == {0o700}


def test_a_sweep_spares_what_another_process_writes(folder: Folder, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from proxy.store.folder import Folder\n"
        "part = Folder(Path(sys.argv[1]), 0).begin(0); part.write(b'x')\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "vault")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parent.parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert folder.sweep() == 0
        process.kill()
        process.wait()
    assert folder.sweep() == 1
    assert list((tmp_path / "vault" / "incoming").iterdir()) == []


def test_publishing_wins_over_deletions_beside_it(folder: Folder) -> None:
    done = threading.Event()

    def delete() -> None:
        while not done.is_set():
            folder.delete(ID)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        for number in range(100):
            keep(folder, clip(100, seed=str(number)))
    finally:
        done.set()
        deleting.join()
    kept = keep(folder, SMALL)
    assert read(folder, kept) == SMALL


def test_a_place_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "vault").write_bytes(b"")
    with pytest.raises(VaultUnavailable, match="cannot use"):
        Folder(tmp_path / "vault", 0)
