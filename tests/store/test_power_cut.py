"""What was acknowledged is there after a power cut; with `NORMAL` it would not be."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from random import Random

import apsw
import pytest
from sqlalchemy import event

from proxy.core import clip
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.sqlite import SYNCHRONOUS
from tests.store.asks import NOW, let_in, write
from tests.store.forgetful import Deed, Disk, rebuild

CUTS = 60
REQUESTS = 40


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """After so many deeds of the disk, the caller knew that this entry was booked."""

    deeds: int
    entry_id: str


@pytest.fixture(scope="module")
def spoken(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every statement the store said to SQLite while it let clips in and charged them."""
    file = tmp_path_factory.mktemp("spoken") / "ledger.db"
    shutil.copy(sqlite_template, file)
    database = Database.open(f"sqlite:///{file}")
    statements: list[str] = []

    @event.listens_for(database.backend._engine, "connect")  # type: ignore[attr-defined]
    def listen(driver: sqlite3.Connection, _record: object) -> None:
        driver.set_trace_callback(statements.append)

    for number in range(REQUESTS):
        let_in(database, number)
        clip_id = f"video_{number}_0"
        write(database, partial(settle, clip_id=clip_id, event=clip.Opened(), now=NOW))
        link = clip.Delivered("https://cdn.example/clip.mp4")
        write(database, partial(settle, clip_id=clip_id, event=link, now=NOW))
    database.close()
    return [statement for statement, _ in groupby(statements)]  # told once more for each trigger


def replay(
    statements: list[str], synchronous: str, file: Path
) -> tuple[list[Deed], list[Acknowledged]]:
    """Say `statements` again to a forgetful disk; what it did, and what was acknowledged when."""
    disk = Disk()
    connection = apsw.Connection(str(file), vfs="forgetful")
    connection.execute("PRAGMA wal_autocheckpoint = 40")
    acknowledged: list[Acknowledged] = []
    booked: list[str] = []
    seen: set[str] = set()
    for statement in statements:
        said = statement.replace(f"synchronous = {SYNCHRONOUS}", f"synchronous = {synchronous}")
        connection.execute(said).fetchall()
        if statement.startswith("INSERT INTO entries"):
            booked = [row[0] for row in connection.execute("SELECT id FROM entries")]
        if statement == "COMMIT":
            acknowledged += [
                Acknowledged(len(disk.deeds), one) for one in booked if one not in seen
            ]
            seen.update(booked)
    deeds = list(disk.deeds)
    connection.close()
    disk.unregister()
    return deeds, acknowledged


def lost_in_cuts(spoken: list[str], synchronous: str, tmp_path: Path, seed: int) -> int:
    """How many acknowledged entries are missing after `CUTS` power cuts, all taken together."""
    start = tmp_path / "start" / "ledger.db"
    played = tmp_path / "played" / "ledger.db"
    played.parent.mkdir()
    shutil.copy(start, played)
    deeds, acknowledged = replay(spoken, synchronous, played)
    assert len(acknowledged) == 2 * REQUESTS
    chance = Random(seed)
    lost = 0
    for number in range(CUTS):
        cut = chance.randrange(len(deeds) + 1)
        folder = tmp_path / f"cut {number}"
        folder.mkdir()
        left = sqlite3.connect(rebuild(start, deeds[:cut], chance, folder))
        assert left.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        there = {row[0] for row in left.execute("SELECT id FROM entries")}
        left.close()
        lost += sum(one.deeds <= cut and one.entry_id not in there for one in acknowledged)
    return lost


@pytest.fixture
def started(sqlite_template: Path, tmp_path: Path) -> Path:
    (tmp_path / "start").mkdir()
    shutil.copy(sqlite_template, tmp_path / "start")
    return tmp_path


def test_nothing_acknowledged_is_lost_in_a_power_cut(
    spoken: list[str], started: Path, seed: int
) -> None:
    assert lost_in_cuts(spoken, SYNCHRONOUS, started, seed) == 0


def test_with_normal_much_that_was_acknowledged_would_be_lost(
    spoken: list[str], started: Path, seed: int
) -> None:
    """The test above can fail: this is what it looks like."""
    assert lost_in_cuts(spoken, "NORMAL", started, seed) > REQUESTS
