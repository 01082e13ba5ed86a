"""A closed month's manifest: what was closed, sealed by hashes that chain month to month.

The manifest names every file of the month with its size and SHA-256, the sums of its rows, and the
SHA-256 of the manifest before it. So one hash, written down anywhere, vouches for all months up to
it: nobody can change a closed month, or leave one out, without every later manifest saying so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from proxy.core.columns import second_text
from proxy.core.months import bounds, following
from proxy.core.statement import SANDBOX

SCHEMA: Final = "clipmeter.month.1"


@dataclass(frozen=True, slots=True)
class Seal:
    """One file as it was closed: its name, its size and the SHA-256 of its bytes."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A closed month. `totals` is `Totals.as_json`, `previous` the SHA-256 of the manifest before.

    `previous` is None for the first month alone. `settings` are the choices that shaped the files,
    the vendor's bonus for one, so that a file can be explained years later.
    """

    month: str
    closed_at: datetime
    closed_by: str
    program: str
    totals: Mapping[str, Any]
    files: tuple[Seal, ...]
    settings: Mapping[str, str]
    previous: str | None = None
    sandbox: bool = False

    def as_bytes(self) -> bytes:
        """The manifest's one spelling: JSON with sorted keys, indented, ending with a line end."""
        start, end = bounds(self.month)
        mark = {"sandbox": SANDBOX} if self.sandbox else {}
        said = {
            **mark,
            "schema": SCHEMA,
            "month": self.month,
            "start": second_text(start),
            "end": second_text(end),
            "status": "closed",
            "closed_at": second_text(self.closed_at),
            "closed_by": self.closed_by,
            "program": self.program,
            "totals": self.totals,
            "files": [
                {"name": seal.name, "bytes": seal.size_bytes, "sha256": seal.sha256}
                for seal in sorted(self.files, key=lambda seal: seal.name)
            ],
            "settings": self.settings,
            "previous": self.previous,
        }
        options = orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        return orjson.dumps(said, option=options)


def digest(content: bytes) -> str:
    """The SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sealed(name: str, chunks: Iterable[bytes]) -> Seal:
    """The seal of a file that is read in `chunks`."""
    hashed, size = hashlib.sha256(), 0
    for chunk in chunks:
        hashed.update(chunk)
        size += len(chunk)
    return Seal(name, size, hashed.hexdigest())


def read_manifest(content: bytes) -> Manifest:
    """The manifest whose `as_bytes` is `content`, to the byte; anything else is a `ValueError`."""
    try:
        said = orjson.loads(content)
        manifest = Manifest(
            month=said["month"],
            closed_at=datetime.fromisoformat(said["closed_at"]),
            closed_by=said["closed_by"],
            program=said["program"],
            totals=said["totals"],
            files=tuple(
                Seal(file["name"], file["bytes"], file["sha256"]) for file in said["files"]
            ),
            settings=said["settings"],
            previous=said["previous"],
            sandbox="sandbox" in said,
        )
        again = manifest.as_bytes()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"this is no manifest of a month: {error!r}") from error
    if again != content:
        raise ValueError("this manifest is not as it was written")
    return manifest


def problems(manifest: Manifest, files: Iterable[Seal], totals: Mapping[str, Any]) -> Iterator[str]:
    """What differs between a month as it was closed and as it is found, in words.

    `files` are the seals of the files as they are now, `totals` the sums of the ledger's rows.
    """
    found = {seal.name: seal for seal in files}
    for seal in manifest.files:
        now = found.pop(seal.name, None)
        if now is None:
            yield f"{manifest.month}: {seal.name} is missing"
        elif now != seal:
            yield (
                f"{manifest.month}: {seal.name} has changed: {now.size_bytes} bytes with SHA-256 "
                f"{now.sha256}, closed with {seal.size_bytes} and {seal.sha256}"
            )
    for name in sorted(found):
        yield f"{manifest.month}: {name} is not in the manifest"
    for name in sorted(manifest.totals.keys() | totals.keys()):
        closed, now = manifest.totals.get(name), totals.get(name)
        if closed != now:
            yield f"{manifest.month}: {name} is {now} in the ledger, and was closed with {closed}"


def chain_problems(manifests: Iterable[bytes]) -> Iterator[str]:
    """What is wrong with the chain of all manifests, in their order, in words."""
    before: tuple[Manifest, bytes] | None = None
    for content in manifests:
        try:
            manifest = read_manifest(content)
        except ValueError as error:
            yield f"after {before[0].month if before else 'nothing'}: {error}"
            return
        if before is None:
            if manifest.previous is not None:
                yield f"{manifest.month}: the month before it is missing"
        else:
            last, spelt = before
            if manifest.month != following(last.month):
                yield f"{manifest.month} does not follow {last.month}"
            if manifest.previous != digest(spelt):
                yield f"{manifest.month} vouches for another manifest of {last.month} than this one"
        before = manifest, content
