"""One event moves the clip, its entry, the budget and the flights together, and only once."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from proxy.core import clip
from proxy.core.clip import Impossible, State
from proxy.core.failure import Reason
from proxy.store.audit import verify
from proxy.store.clips import ClipRow, Settled, clips_of, find_clip, settle, unknown_since
from proxy.store.database import Database
from proxy.store.tables import VENDOR_TEXT_LENGTH_MAX
from tests.store.asks import (
    MICROS,
    NOW,
    RIVAL,
    TEAM,
    VERSION,
    budget_of,
    entries_of,
    everything,
    in_flight,
    let_in,
    read,
    write,
)

CLIP = "video_1_0"
URL = "https://cdn.example/clip.mp4"
LATER = NOW + timedelta(minutes=4)
DELIVERED = clip.Delivered(URL)
FAILED = clip.Failed(Reason.POLICY_AUDIO)
LOST = clip.Lost(Reason.LOST)
REFUSED = clip.Refused(Reason.VENDOR_CAPACITY)
PROGRESSED = clip.Progressed(50.0)

HELD = {"hold": MICROS}
CHARGED = {"hold": MICROS, "charge": MICROS}
RELEASED = {"hold": MICROS, "release": MICROS}

# Events that lead a clip somewhere: where, its entries, clips in the budget, clips in flight.
WAYS: dict[str, tuple[list[clip.Event], State, dict[str, int], int, int]] = {
    "opened": ([clip.Opened()], State.GENERATING, HELD, 1, 1),
    "queued": ([clip.Queued()], State.QUEUED, HELD, 1, 1),
    "running": ([clip.Opened(), PROGRESSED], State.IN_PROGRESS, HELD, 1, 1),
    "refused": ([REFUSED], State.FAILED, RELEASED, 0, 0),
    "delivered": ([clip.Opened(), DELIVERED], State.DELIVERED, CHARGED, 1, 0),
    "failed": ([clip.Opened(), FAILED], State.FAILED, RELEASED, 0, 0),
    "lost": ([clip.Opened(), LOST], State.UNKNOWN, HELD, 1, 0),
    "lost before it was opened": ([LOST], State.UNKNOWN, HELD, 1, 0),
    "found running": ([LOST, clip.Found(PROGRESSED)], State.IN_PROGRESS, HELD, 1, 1),
    "found delivered": ([LOST, clip.Found(DELIVERED)], State.DELIVERED, CHARGED, 1, 0),
    "found failed": ([LOST, clip.Found(FAILED)], State.FAILED, RELEASED, 0, 0),
    "given up": ([LOST, clip.GaveUp()], State.WRITTEN_OFF, RELEASED, 0, 0),
}


def happen(database: Database, *events: clip.Event, clip_id: str = CLIP) -> list[Settled]:
    return [
        write(database, partial(settle, clip_id=clip_id, event=event, now=LATER))
        for event in events
    ]


def found(database: Database, clip_id: str = CLIP, tenant_id: str = TEAM) -> ClipRow | None:
    return read(database, lambda tx: find_clip(tx, tenant_id, clip_id))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_keeps_entries_budget_and_flights_in_step(database: Database, way: str) -> None:
    events, state, entries, counted, flying = WAYS[way]
    let_in(database, 1)
    settled = happen(database, *events)
    assert all(one.changed and one.impossible is None for one in settled)
    assert settled[-1].state is state
    assert entries_of(database, CLIP) == entries
    assert budget_of(database) == (counted, counted * MICROS)
    assert in_flight(database) == in_flight(database, TEAM) == flying
    assert read(database, verify) == []


@pytest.mark.parametrize("way", WAYS)
def test_the_last_event_said_twice_changes_nothing_more(database: Database, way: str) -> None:
    events, state, *_ = WAYS[way]
    let_in(database, 1)
    happen(database, *events)
    before = everything(database)
    again = events[-1].outcome if isinstance(events[-1], clip.Found) else events[-1]
    (settled,) = happen(database, again)
    assert settled == Settled(CLIP, TEAM, "team", "veo-3.1", state, changed=False)
    assert everything(database) == before


def test_a_charge_tells_its_amount_and_whom_it_is_for(database: Database) -> None:
    let_in(database, 1)
    _, settled = happen(database, clip.Opened(), DELIVERED)
    assert settled == Settled(
        CLIP, TEAM, "team", "veo-3.1", State.DELIVERED, changed=True, amount_micros=MICROS
    )


def test_news_that_contradicts_an_end_is_reported_and_not_obeyed(database: Database) -> None:
    let_in(database, 1)
    happen(database, clip.Opened(), LOST, clip.GaveUp())
    before = everything(database)
    late = clip.Found(DELIVERED)
    (settled,) = happen(database, late)
    assert settled.impossible == Impossible(State.WRITTEN_OFF, late)
    assert (settled.changed, settled.amount_micros, settled.news) == (False, 0, "found")
    assert everything(database) == before


def test_an_ended_clip_keeps_when_how_and_in_the_vendors_own_words(database: Database) -> None:
    let_in(database, 1)
    happen(database, clip.Opened())
    words = "x" * (VENDOR_TEXT_LENGTH_MAX + 1)
    write(database, lambda tx: settle(tx, CLIP, FAILED, LATER, words))
    row = found(database)
    assert row is not None
    assert (row.state, row.completed_at, row.reason) == (State.FAILED, LATER, "policy_audio")
    assert row.vendor_text == words[:VENDOR_TEXT_LENGTH_MAX]
    assert (row.url, row.price_micros, row.price_version) == (None, MICROS, VERSION)


def test_a_delivered_clip_keeps_its_link(database: Database) -> None:
    let_in(database, 1)
    happen(database, clip.Opened(), DELIVERED)
    row = found(database)
    assert row is not None
    assert (row.url, row.completed_at, row.accepted_at) == (URL, LATER, NOW)


def test_words_about_a_lost_clip_stay_when_it_is_found(database: Database) -> None:
    let_in(database, 1)
    write(database, lambda tx: settle(tx, CLIP, LOST, LATER, "connection reset"))
    happen(database, clip.Found(DELIVERED))
    row = found(database)
    assert row is not None
    assert (row.vendor_text, row.reason) == ("connection reset", None)


def test_a_budget_gives_back_in_the_month_it_took_from(database: Database) -> None:
    let_in(database, 1)
    december = NOW + timedelta(days=20)
    write(database, lambda tx: settle(tx, CLIP, REFUSED, december))
    assert budget_of(database, month="2026-11") == (0, 0)
    assert budget_of(database, month="2026-12") == (0, 0)
    assert read(database, verify) == []


def test_each_clip_of_a_generation_ends_for_itself(database: Database) -> None:
    let_in(database, 1, 3)
    happen(database, clip.Opened(), DELIVERED, clip_id="video_1_0")
    happen(database, clip.Opened(), FAILED, clip_id="video_1_1")
    happen(database, clip.Opened(), LOST, clip_id="video_1_2")
    rows = read(database, lambda tx: clips_of(tx, "gen_1"))
    assert [row.state for row in rows] == [State.DELIVERED, State.FAILED, State.UNKNOWN]
    assert budget_of(database) == (2, 2 * MICROS)


def test_a_clip_that_was_never_admitted_cannot_be_settled(database: Database) -> None:
    with pytest.raises(KeyError, match="video_none"):
        write(database, lambda tx: settle(tx, "video_none", DELIVERED, NOW))


def test_a_foreign_clip_looks_like_an_absent_one(database: Database) -> None:
    let_in(database, 1)
    assert found(database, tenant_id=TEAM) is not None
    assert found(database, tenant_id=RIVAL) is None
    assert found(database, "video_that_never_was") is None


def test_unknown_clips_are_found_once_they_are_old_enough(database: Database) -> None:
    let_in(database, 1, 2)
    let_in(database, 2, now=NOW + timedelta(hours=1))
    let_in(database, 3, now=NOW - timedelta(hours=1))
    happen(database, LOST, clip_id="video_1_1")
    happen(database, LOST, clip_id="video_2_0")
    happen(database, LOST, clip_id="video_3_0")
    soon = NOW + timedelta(seconds=1)
    assert read(database, lambda tx: unknown_since(tx, soon)) == ["video_3_0", "video_1_1"]
