"""A tenant sees its own clips, each on one page of any order, until it has one forgotten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import Connection

from proxy.core import clip
from proxy.core.clip import LINK_LIFE, State
from proxy.core.failure import Reason
from proxy.store.audit import verify
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.generations import UpstreamIds, begin_attempt, record_opened
from proxy.store.jobs import note_progress
from proxy.store.keepings import (
    claim_waiting,
    evict,
    put_off,
    record_kept,
    record_missing,
    strangers,
)
from proxy.store.videos import Deletion, VideoRow, delete_video, find_video, list_videos
from tests.store.asks import (
    DELIVERED,
    LINK,
    MICROS,
    MODEL,
    NOW,
    RIVAL,
    TEAM,
    budget_of,
    deliver,
    entries_of,
    everything,
    in_flight,
    keep,
    let_in,
    news,
    read,
    rows_of,
    submit,
    write,
)
from tests.store.plans import plans_of

CLIP = "video_1_0"
SOON = NOW + timedelta(seconds=30)
TICK = timedelta(microseconds=1)
LOST = clip.Lost(Reason.LOST)
PROMPT = "A heron, at dawn"


def found(database: Database, clip_id: str = CLIP, tenant_id: str = TEAM) -> VideoRow | None:
    return read(database, lambda tx: find_video(tx, tenant_id, clip_id))


def page(
    database: Database,
    after: str | None = None,
    limit: int = 100,
    *,
    newest_first: bool = True,
    tenant_id: str = TEAM,
) -> list[str] | None:
    """The ids on one page."""
    rows = read(
        database, lambda tx: list_videos(tx, tenant_id, after, limit, newest_first=newest_first)
    )
    return None if rows is None else [row.id for row in rows]


def pages(database: Database, limit: int, *, newest_first: bool) -> list[str]:
    """The ids on all pages, one page after the other."""
    every: list[str] = []
    while more := page(database, every[-1] if every else None, limit, newest_first=newest_first):
        every += more
    return every


def deletion(
    database: Database, clip_id: str = CLIP, tenant_id: str = TEAM, now: datetime = SOON
) -> Deletion:
    return write(database, lambda tx: delete_video(tx, tenant_id, clip_id, now))


def test_a_running_job_is_shown_with_how_far_it_is(database: Database) -> None:
    submit(database, 1, prompt=PROMPT)
    write(database, lambda tx: begin_attempt(tx, "gen_1", 2, "vip", NOW))
    ids = UpstreamIds(id="job_1")
    write(database, lambda tx: record_opened(tx, "gen_1", "vip", 200, ids, clip.Queued()))
    news(database, CLIP, clip.Progressed(45))
    write(database, lambda tx: note_progress(tx, [(CLIP, 0, 45)]))
    nothing_kept = (None,) * 7
    assert found(database) == VideoRow(
        *(CLIP, TEAM, "gen_1", MODEL, State.IN_PROGRESS, MICROS, NOW, None, None, None, None),
        *(PROMPT, "vip", 2, "job_1", 45),
        *nothing_kept,
    )


def test_a_kept_clip_is_shown_with_what_is_kept_of_it(database: Database) -> None:
    deliver(database, 1, SOON)
    waiting = found(database)
    assert waiting is not None
    assert (waiting.keeping, waiting.link_dies_at) == ("waiting", SOON + LINK_LIFE)
    assert (waiting.next_try_at, waiting.percent, waiting.prompt) == (SOON, None, None)
    keep(database, CLIP, SOON + TICK, "7" * 64)
    kept = found(database)
    assert kept is not None
    assert (kept.state, kept.completed_at, kept.url) == (State.DELIVERED, SOON, LINK)
    assert (kept.keeping, kept.sha256, kept.size_bytes) == ("kept", "7" * 64, 1_000)
    assert (kept.kept_at, kept.trouble) == (SOON + TICK, None)


def test_a_clip_that_cannot_be_fetched_is_shown_with_why_and_when_it_is_tried_next(
    database: Database,
) -> None:
    deliver(database, 1)

    def fail(tx: Connection) -> None:
        (mine,) = claim_waiting(tx, "process_one", NOW, NOW, 1)
        put_off(tx, CLIP, mine.fence, "unreachable", SOON)

    write(database, fail)
    row = found(database)
    assert row is not None
    assert (row.keeping, row.trouble, row.next_try_at) == ("waiting", "unreachable", SOON)


def test_a_failed_clip_is_shown_with_the_vendors_words_and_no_bytes(database: Database) -> None:
    submit(database, 1)
    failed = clip.Failed(Reason.POLICY_PEOPLE)
    write(database, lambda tx: settle(tx, CLIP, failed, SOON, "a famous face"))
    row = found(database)
    assert row is not None
    assert (row.state, row.reason, row.vendor_text) == (
        *(State.FAILED, "policy_people", "a famous face"),
    )
    assert (row.keeping, row.link_dies_at, row.url, row.percent) == (None, None, None, 0)


def test_a_foreign_clip_is_as_absent_as_one_that_never_was(database: Database) -> None:
    deliver(database, 1)
    assert found(database) is not None
    assert found(database, tenant_id=RIVAL) is None
    assert found(database, "video_none") is None
    before = everything(database)
    assert deletion(database, tenant_id=RIVAL) is Deletion.ABSENT
    assert deletion(database, "video_none") is Deletion.ABSENT
    assert everything(database) == before


def test_a_list_shows_a_tenants_own_clips_in_the_order_that_was_asked_for(
    database: Database,
) -> None:
    let_in(database, 1, now=NOW + TICK)
    let_in(database, 2, now=NOW)
    let_in(database, 3, tenant_id=RIVAL)
    submit(database, 4, now=NOW + 2 * TICK)
    assert page(database) == ["video_4_0", "video_1_0", "video_2_0"]
    assert page(database, newest_first=False) == ["video_2_0", "video_1_0", "video_4_0"]
    assert page(database, tenant_id=RIVAL) == ["video_3_0"]
    assert page(database, limit=2) == ["video_4_0", "video_1_0"]
    assert page(database, limit=0) == []


@pytest.fixture
def crowded(database: Database) -> Database:
    """Clips that were accepted together, to the microsecond, and some a microsecond apart."""
    for number, ticks in enumerate((0, 0, 1, 1, 1, 2, 0)):
        let_in(database, number, 1 + number % 4, now=NOW + ticks * TICK)
        let_in(database, 100 + number, 2, tenant_id=RIVAL, now=NOW + ticks * TICK)
    return database


def in_order(database: Database, tenant_id: str = TEAM) -> list[str]:
    """The tenant's clips, the oldest first, those of one moment by their ids."""
    query = "SELECT id, accepted_at FROM clips WHERE tenant_id = :tenant"
    rows = rows_of(database, query, tenant=tenant_id)
    return [clip_id for clip_id, _ in sorted(rows, key=lambda row: (row[1], row[0]))]


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest first", "oldest first"])
def test_every_clip_stands_on_one_page_however_long_the_pages_are(
    crowded: Database, newest_first: bool
) -> None:
    every = in_order(crowded)
    assert len(every) == 16
    if newest_first:
        every.reverse()
    for limit in (1, 2, 3, 5, 16, 17):
        assert pages(crowded, limit, newest_first=newest_first) == every


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest first", "oldest first"])
def test_a_page_ends_where_it_ended_though_its_last_clip_was_deleted(
    crowded: Database, newest_first: bool
) -> None:
    every = in_order(crowded)
    if newest_first:
        every.reverse()
    for clip_id in every:
        news(crowded, clip_id, LOST)
        news(crowded, clip_id, clip.GaveUp())
    for clip_id in (every[4], every[5], every[-1]):
        assert deletion(crowded, clip_id) is Deletion.DONE
    after = partial(page, crowded, newest_first=newest_first)
    assert after(every[4]) == every[6:-1]
    assert after(every[3], limit=2) == every[6:8]
    assert after(every[-2]) == after(every[-1]) == []


def test_a_page_after_a_clip_that_is_not_ones_own_is_no_page(crowded: Database) -> None:
    foreign = in_order(crowded, RIVAL)[0]
    assert page(crowded, foreign) is None
    assert page(crowded, "video_none") is None
    assert page(crowded, foreign, tenant_id=RIVAL) == []


def test_clips_that_come_between_two_pages_shift_nothing(crowded: Database) -> None:
    every = in_order(crowded)[::-1]
    first = page(crowded, limit=5)
    assert first == every[:5]
    let_in(crowded, 50, 4, now=SOON)
    assert page(crowded, first[-1]) == every[5:]


def test_a_list_shows_as_much_of_a_clip_as_a_look_at_it(database: Database) -> None:
    deliver(database, 1, clips=2)
    keep(database, CLIP)
    submit(database, 2, prompt=PROMPT, now=SOON)
    rows = read(database, lambda tx: list_videos(tx, TEAM, None, 9, newest_first=True))
    assert rows is not None
    assert rows == [found(database, row.id) for row in rows]
    assert len(rows) == 3


UNFINISHED: dict[str, list[clip.Event]] = {
    "accepted": [],
    "generating": [clip.Opened()],
    "queued": [clip.Queued()],
    "in progress": [clip.Queued(), clip.Progressed(50)],
    "unknown": [LOST],
}


@pytest.mark.parametrize("how", UNFINISHED)
def test_a_clip_that_has_not_ended_is_not_deleted(database: Database, how: str) -> None:
    let_in(database, 1, prompt=PROMPT)
    for said in UNFINISHED[how]:
        news(database, CLIP, said)
    before = everything(database)
    assert deletion(database) is Deletion.UNFINISHED
    assert everything(database) == before


ENDED: dict[str, list[clip.Event]] = {
    "delivered": [clip.Queued(), DELIVERED],
    "found": [LOST, clip.Found(DELIVERED)],
    "failed": [clip.Queued(), clip.Failed(Reason.NO_CLIP)],
    "refused": [clip.Refused(Reason.VENDOR_CAPACITY)],
    "given up": [LOST, clip.GaveUp()],
}


@pytest.mark.parametrize("how", ENDED)
def test_a_deleted_clip_is_forgotten_and_its_charge_is_not(database: Database, how: str) -> None:
    let_in(database, 1, prompt=PROMPT)
    for said in ENDED[how]:
        news(database, CLIP, said)
    booked = entries_of(database, CLIP), budget_of(database), in_flight(database)
    assert deletion(database) is Deletion.DONE
    assert found(database) is None
    assert page(database) == []
    assert rows_of(database, "SELECT prompt FROM generations") == [(None,)]
    assert rows_of(database, "SELECT state FROM keepings WHERE state <> 'deleted'") == []
    assert (entries_of(database, CLIP), budget_of(database), in_flight(database)) == booked
    assert read(database, lambda tx: strangers(tx, [CLIP])) == [CLIP]
    assert read(database, verify) == []


def test_what_was_deleted_once_is_absent_and_stays_deleted(database: Database) -> None:
    deliver(database, 1)
    keep(database, CLIP)
    assert deletion(database) is Deletion.DONE
    before = everything(database)
    assert deletion(database, now=SOON + TICK) is Deletion.ABSENT
    later = SOON + LINK_LIFE
    deeds: list[Callable[[Connection], object]] = [
        lambda tx: claim_waiting(tx, "process_one", later, later, 9),
        lambda tx: record_kept(tx, CLIP, 1, "5" * 64, 1_000, SOON),
        lambda tx: record_missing(tx, CLIP, "5" * 64, "missing", SOON),
        lambda tx: evict(tx, [CLIP]),
        lambda tx: settle(tx, CLIP, DELIVERED, SOON),
    ]
    for deed in deeds:
        write(database, deed)
    assert everything(database) == before
    assert rows_of(database, "SELECT COUNT(*) FROM clips WHERE deleted_at IS NULL") == [(0,)]


def test_bytes_that_were_on_their_way_when_their_clip_was_deleted_are_nobodys(
    database: Database,
) -> None:
    deliver(database, 1)
    (mine,) = write(database, lambda tx: claim_waiting(tx, "process_one", NOW, NOW, 1))
    assert deletion(database) is Deletion.DONE
    assert not write(database, lambda tx: record_kept(tx, CLIP, mine.fence, "5" * 64, 1, SOON))
    assert read(database, lambda tx: strangers(tx, [CLIP])) == [CLIP]
    assert rows_of(database, "SELECT state, owner FROM keepings") == [("deleted", None)]


def test_a_prompt_stays_until_the_last_clip_made_from_it_is_deleted(database: Database) -> None:
    deliver(database, 1, clips=2, prompt=PROMPT)
    deliver(database, 2, prompt="another")
    assert deletion(database, CLIP) is Deletion.DONE
    sibling = found(database, "video_1_1")
    assert sibling is not None
    assert (sibling.prompt, sibling.keeping) == (PROMPT, "waiting")
    assert read(database, verify) == []
    assert deletion(database, "video_1_1") is Deletion.DONE
    prompts = rows_of(database, "SELECT id, prompt FROM generations ORDER BY id")
    assert prompts == [("gen_1", None), ("gen_2", "another")]
    assert read(database, verify) == []


@pytest.mark.parametrize("newest_first", [True, False], ids=["newest first", "oldest first"])
def test_a_page_is_found_without_reading_those_before_it(
    database: Database, newest_first: bool
) -> None:
    deliver(database, 1)
    look = partial(list_videos, tenant_id=TEAM, after=CLIP, limit=9, newest_first=newest_first)
    plan = plans_of(database, look)
    sign = "<" if newest_first else ">"
    if database.backend.errors.__module__ == "sqlite3":
        assert f"clips_listing (tenant_id=? AND (accepted_at,id){sign}(?,?))" in plan
    else:
        assert f"(ROW(accepted_at, (id)::text) {sign} ROW(" in plan
        assert "Index Scan" in plan
        assert "clips_listing on clips" in plan
    assert "Seq Scan" not in plan
    assert "Sort" not in plan
    assert "TEMP B-TREE" not in plan


def test_one_clip_is_found_by_the_keys_of_its_rows(database: Database) -> None:
    deliver(database, 1)
    plan = plans_of(database, partial(find_video, tenant_id=TEAM, clip_id=CLIP))
    assert "Seq Scan" not in plan
    assert "SCAN" not in plan.replace("SEARCH", "")
