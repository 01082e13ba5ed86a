"""A disk that forgets, in a power cut, whatever it was not told to keep.

SQLite writes through it to real files, and everything it does is put down. `rebuild` then makes the
files as a cut at any moment could have left them: what was synced is there, and of the rest
whatever chance has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import apsw


@dataclass(frozen=True, slots=True)
class Wrote:
    """`data` at `offset`, or the end of the file at `offset` when there is none."""

    file: str
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class Synced:
    """All that was written to the file is to be kept."""

    file: str


Deed = Wrote | Synced


class Disk(apsw.VFS):
    """SQLite's way to the files, by the name `forgetful`; `deeds` is all it did."""

    def __init__(self) -> None:
        self.deeds: list[Deed] = []
        super().__init__("forgetful", "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self.deeds, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, deeds: list[Deed], name: Any, flags: list[int]) -> None:
        self._deeds = deeds
        self._name = Path(name.filename() if isinstance(name, apsw.URIFilename) else name).name
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._deeds.append(Wrote(self._name, offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._deeds.append(Wrote(self._name, newsize, None))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._deeds.append(Synced(self._name))
        super().xSync(flags)


def rebuild(start: Path, deeds: Sequence[Deed], chance: Random, folder: Path) -> Path:
    """The database in `folder` as a power cut after `deeds` may leave it; `start` was before."""
    synced = {deed.file: at for at, deed in enumerate(deeds) if isinstance(deed, Synced)}
    files = {start.name: bytearray(start.read_bytes())}
    for at, deed in enumerate(deeds):
        if isinstance(deed, Synced):
            continue
        if at < synced.get(deed.file, -1) or chance.random() < 0.5:
            _apply(files.setdefault(deed.file, bytearray()), deed)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder / start.name


def _apply(content: bytearray, deed: Wrote) -> None:
    if deed.data is None:
        del content[deed.offset :]
        return
    content.extend(bytes(max(0, deed.offset - len(content))))
    content[deed.offset : deed.offset + len(deed.data)] = deed.data
