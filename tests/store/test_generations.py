"""Every attempt is a row, the first end stands, and a dead process's work is found."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from proxy.core import clip
from proxy.core.clip import State
from proxy.core.failure import Reason
from proxy.store.audit import verify
from proxy.store.clips import clips_of, settle
from proxy.store.database import Database
from proxy.store.generations import (
    AttemptEnd,
    GenerationEnd,
    GenerationRow,
    UpstreamIds,
    attempts_of,
    begin_attempt,
    end_attempt,
    end_generation,
    find_generation,
    orphans,
    record_opened,
)
from proxy.store.processes import beat
from tests.store.asks import MICROS, NOW, RIVAL, TEAM, let_in, read, write

LATER = NOW + timedelta(minutes=1)
IDS = UpstreamIds("shell-1", "origin-1", "job-1")


def generation(database: Database, number: int = 1, tenant_id: str = TEAM) -> GenerationRow | None:
    return read(database, lambda tx: find_generation(tx, tenant_id, f"gen_{number}"))


def test_each_attempt_leaves_a_row_with_how_it_ended(database: Database) -> None:
    let_in(database, 1)
    down = AttemptEnd("unreachable", LATER, reason="connect")
    late = AttemptEnd("answered", LATER, 504, "vendor_error", True, MICROS, IDS)
    write(database, lambda tx: end_attempt(tx, "gen_1", 1, down))
    write(database, lambda tx: begin_attempt(tx, "gen_1", 2, "vip", LATER))
    write(database, lambda tx: end_attempt(tx, "gen_1", 2, late))
    write(database, lambda tx: begin_attempt(tx, "gen_1", 3, "b", LATER))
    first, second, third = read(database, lambda tx: attempts_of(tx, "gen_1"))
    assert (first.gateway, first.outcome, first.reason) == ("api", "unreachable", "connect")
    assert (first.started_at, first.ended_at, first.maybe_sent) == (NOW, LATER, False)
    assert (second.status, second.maybe_accepted, second.exposure_micros) == (504, True, MICROS)
    assert (third.outcome, third.ended_at, third.maybe_sent) == ("dispatching", None, True)
    row = generation(database)
    assert row is not None
    assert row.attempts == 3
    assert read(database, verify) == []


@pytest.mark.parametrize(
    ("event", "state"),
    [(clip.Opened(), State.GENERATING), (clip.Queued(), State.QUEUED)],
    ids=["a chat is opened", "a job is queued"],
)
def test_an_answer_moves_the_accepted_clips_and_keeps_the_vendors_ids(
    database: Database, event: clip.Opened | clip.Queued, state: State
) -> None:
    let_in(database, 1, 2)
    write(database, lambda tx: settle(tx, "video_1_1", clip.Lost(Reason.LOST), LATER))
    write(database, lambda tx: record_opened(tx, "gen_1", "vip", 200, IDS, event))
    rows = read(database, lambda tx: clips_of(tx, "gen_1"))
    assert [row.state for row in rows] == [state, State.UNKNOWN]
    row = generation(database)
    assert row is not None
    assert (row.gateway, row.status) == ("vip", 200)
    kept = UpstreamIds(row.upstream_request_id, row.upstream_origin_request_id, row.upstream_id)
    assert kept == IDS


def test_the_first_end_of_a_generation_stands(database: Database) -> None:
    let_in(database, 1)
    told = GenerationEnd("told", LATER, 200, None, "finished")
    untold = GenerationEnd("untold", LATER + timedelta(hours=1), None, "lost")
    write(database, lambda tx: end_generation(tx, "gen_1", told))
    write(database, lambda tx: end_generation(tx, "gen_1", untold))
    row = generation(database)
    assert row is not None
    assert (row.ending, row.ended_at, row.status, row.reason) == ("told", LATER, 200, None)
    assert row.vendor_text == "finished"


def test_a_foreign_generation_looks_like_an_absent_one(database: Database) -> None:
    let_in(database, 1)
    assert generation(database) is not None
    assert generation(database, tenant_id=RIVAL) is None
    assert generation(database, 2) is None


def orphans_at(database: Database, dead_before: datetime, own: str = "process_new") -> list[str]:
    rows = read(database, lambda tx: orphans(tx, dead_before, own))
    return [row.id for row in rows]


def test_open_clips_of_a_process_that_went_silent_are_found(database: Database) -> None:
    write(database, lambda tx: beat(tx, "process_one", NOW))
    write(database, lambda tx: beat(tx, "process_two", LATER))
    let_in(database, 1)
    let_in(database, 2, process_id="process_two")
    let_in(database, 3, process_id="process_new")
    let_in(database, 4, process_id="process_never_seen", now=NOW - timedelta(hours=1))
    assert orphans_at(database, NOW) == ["gen_4"]
    assert orphans_at(database, LATER) == ["gen_4", "gen_1"]


def test_generations_without_an_open_clip_are_nobodys_orphans(database: Database) -> None:
    lost, refused = clip.Lost(Reason.LOST), clip.Refused(Reason.UNREACHABLE)
    let_in(database, 1, 2)
    let_in(database, 2, 2)
    write(database, lambda tx: settle(tx, "video_1_0", lost, LATER))
    write(database, lambda tx: settle(tx, "video_1_1", refused, LATER))
    write(database, lambda tx: settle(tx, "video_2_0", lost, LATER))
    assert orphans_at(database, LATER) == ["gen_2"]
