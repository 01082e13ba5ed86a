"""Clip bytes as files in a folder: published whole or not at all, checked before they are read.

Publishing (R55) writes under a name that nobody reads, on the same file system: write, fsync,
rename into place, fsync the folders. obstore's own local store renames without any fsync (traced),
so a power cut could leave a name without its bytes; hence plain files here. Nothing in this module
waits for anything but the disk; the vault calls it from its threads.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy.store.held import Mark, mark_of
from proxy.store.kept import (
    MARK,
    Absence,
    Kept,
    Stored,
    VaultUnavailable,
    check_clip_id,
    is_clip_id,
    read_key,
)
from proxy.store.part import Part

RECHECK_BYTES_MAX: Final = 2**20
"""A file up to this size is checked whenever it is opened: that takes less than a millisecond."""

VERIFIED_MAX: Final = 65_536
"""Of so many files it is remembered that they were checked, until they change."""

_PIECE_BYTES: Final = 2**20
_SET_ASIDE: Final = ".corrupt"
_PART: Final = ".part"
_TRIES: Final = 3
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_Seen = tuple[int, int, int, int]


class Folder:
    """Clips under `root/clips/<clip id>/`, and those on their way in under `root/incoming/`."""

    def __init__(self, root: Path, free_bytes_min: int) -> None:
        """Use `root`, and take nothing in that would leave less room than `free_bytes_min`.

        Of a small disk a tenth is enough. Makes the folders; raises `VaultUnavailable`.
        """
        self._clips = root / "clips"
        self._incoming = root / "incoming"
        self._free_bytes_min = free_bytes_min
        self._verified: dict[str, _Seen] = {}
        self._lock = threading.Lock()
        self._moving = threading.Lock()
        try:
            root.parent.mkdir(parents=True, exist_ok=True)
            for folder in (root, self._clips, self._incoming):
                folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise VaultUnavailable(f"cannot use {root}: {error.strerror}") from error

    def short_bytes(self, size_bytes: int) -> int:
        """How many bytes would have to go before `size_bytes` can come. Raises `OSError`."""
        usage = shutil.disk_usage(self._incoming)
        free_min = min(self._free_bytes_min, usage.total // 10)
        return max(0, free_min + size_bytes - usage.free)

    def begin(self, size_bytes: int) -> Part:
        """A new file for some `size_bytes`. Raises `OSError`, ENOSPC if too little is free."""
        if self.short_bytes(size_bytes):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for _ in range(_TRIES):
            descriptor, path = tempfile.mkstemp(_PART, dir=self._incoming)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink:
                    return Part(descriptor, Path(path))
            os.close(descriptor)  # a sweep came between the two and took it for a dead one
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def publish(self, part: Part, kept: Kept) -> None:
        """Put `part` in its place, all of it or nothing. Raises `OSError`."""
        part.place(lambda path: self._move(path, self._clips / kept.key))

    def open(self, kept: Kept) -> tuple[int, Mark] | Absence:
        """A descriptor of the kept bytes, which have been checked. Raises `OSError`.

        Bytes that are not what was kept are set aside, and never seen again under their name.
        """
        try:
            descriptor = os.open(self._clips / kept.key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return Absence.MISSING
        try:
            status = os.fstat(descriptor)
            if self._is_verified(kept, status) or self._verify(descriptor, kept, status):
                return descriptor, mark_of(status)
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        self.set_aside(kept)
        return Absence.CORRUPT

    def forget(self, kept: Kept) -> None:
        """Have it checked anew when it is opened next."""
        with self._lock:
            self._verified.pop(kept.key, None)

    def set_aside(self, kept: Kept) -> None:
        """Take it out of use; it goes for good with the rest of its clip. Raises `OSError`."""
        self.forget(kept)
        path = self._clips / kept.key
        with contextlib.suppress(FileNotFoundError):
            path.replace(path.with_name(path.name + _SET_ASIDE))

    def clip_ids(self) -> list[str]:
        """The clips of which anything is kept. Raises `OSError`."""
        with os.scandir(self._clips) as entries:
            return [entry.name for entry in entries if is_clip_id(entry.name) and entry.is_dir()]

    def find(self, clip_id: str) -> list[Stored]:
        """All that is kept of a clip. Raises `OSError`."""
        check_clip_id(clip_id)
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._clips / clip_id) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                kept = read_key(f"{clip_id}/{entry.name}", status.st_size)
                if kept is not None:
                    found.append(Stored(kept, datetime.fromtimestamp(status.st_mtime, UTC)))
        return found

    def delete(self, clip_id: str) -> None:
        """Remove all that is kept of a clip; whoever holds it open reads on. Raises `OSError`."""
        check_clip_id(clip_id)
        folder = self._clips / clip_id
        with contextlib.suppress(FileNotFoundError):
            for path in folder.iterdir():
                path.unlink(missing_ok=True)
            self._remove_if_empty(folder)

    def trim(self, bytes_max: int) -> None:
        """Delete what was stored first until the rest has `bytes_max` or less. Raises `OSError`.

        What was stored last stays in any case.
        """
        stored = [each for clip_id in self.clip_ids() for each in self.find(clip_id)]
        left = sum(each.kept.size_bytes for each in stored)
        for each in sorted(stored, key=lambda each: each.modified)[:-1]:
            if left <= bytes_max:
                break
            (self._clips / each.kept.key).unlink(missing_ok=True)
            left -= each.kept.size_bytes
            self._remove_if_empty(self._clips / each.kept.clip_id)

    def mark(self) -> str | None:
        """The mark that stands among the clips, if any does. Raises `OSError`."""
        try:
            return (self._clips / MARK).read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            return None

    def set_mark(self, mark: str) -> None:
        """Put `mark` there. Raises `OSError`."""
        part = self.begin(len(mark))
        try:
            part.write(mark.encode())
            part.place(lambda path: self._move(path, self._clips / MARK))
        finally:
            part.drop()

    def sweep(self) -> int:
        """Remove what processes that died left on its way in; how many. Raises `OSError`."""
        return sum(_remove_if_dead(path) for path in self._incoming.glob(f"*{_PART}"))

    def _move(self, source: Path, target: Path) -> None:
        """Give the file at `source` its name; afterwards a power cut does not take it away."""
        folder = self._renamed(source, target)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        _sync_folder(self._clips)

    def _renamed(self, source: Path, target: Path) -> int:
        """Rename, and a descriptor of the folder that now has the file."""
        for _ in range(_TRIES):
            # Another process may find the folder empty, and remove it.
            with self._moving, contextlib.suppress(FileNotFoundError):
                with contextlib.suppress(FileExistsError):
                    target.parent.mkdir(mode=0o700)
                folder = os.open(target.parent, _FOLDER)
                try:
                    source.replace(target)
                except OSError:
                    os.close(folder)
                    raise
                return folder
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    def _remove_if_empty(self, folder: Path) -> None:
        with self._moving, contextlib.suppress(OSError):  # something new may be in it
            folder.rmdir()

    def _is_verified(self, kept: Kept, status: os.stat_result) -> bool:
        small = status.st_size <= RECHECK_BYTES_MAX
        return not small and self._verified.get(kept.key) == _seen(status)

    def _verify(self, descriptor: int, kept: Kept, status: os.stat_result) -> bool:
        """Whether the file is a plain one with the very bytes that were kept."""
        if not stat.S_ISREG(status.st_mode) or status.st_size != kept.size_bytes:
            return False
        digest, at = hashlib.sha256(), 0
        while piece := os.pread(descriptor, _PIECE_BYTES, at):
            digest.update(piece)
            at += len(piece)
        if digest.hexdigest() != kept.sha256:
            return False
        with self._lock:
            while len(self._verified) >= VERIFIED_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[kept.key] = _seen(status)
        return True


def _seen(status: os.stat_result) -> _Seen:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, _FOLDER)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_if_dead(path: Path) -> bool:
    """Remove the file unless a process that lives writes it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(descriptor)
    return True
