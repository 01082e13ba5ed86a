"""A delivered clip has one row for its bytes, born with its charge; one at a time fetches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select, text, update
from sqlalchemy.exc import IntegrityError

from proxy.core import clip
from proxy.core.clip import LINK_LIFE
from proxy.core.failure import Reason
from proxy.store.audit import verify
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.jobs import let_go
from proxy.store.keepings import (
    KeptRow,
    Waiting,
    claim_waiting,
    earliest_try,
    evict,
    expect,
    find_keeping,
    forsake,
    kept_rows,
    kept_totals,
    put_off,
    record_found,
    record_kept,
    record_lost,
    record_missing,
    strangers,
    touch_used,
    unarchived,
    unheard_of,
)
from proxy.store.processes import beat
from proxy.store.tables import KEEPINGS
from proxy.store.videos import delete_video
from tests.store.asks import (
    DELIVERED,
    LINK,
    NOW,
    TEAM,
    count_of,
    deliver,
    entries_of,
    every_row,
    everything,
    keep,
    let_in,
    news,
    read,
    rows_of,
    submit,
    write,
)
from tests.store.plans import plans_of, said_by

ONE, TWO = "process_one", "process_two"
CLIP = "video_1_0"
TICK = timedelta(microseconds=1)
SOON = NOW + timedelta(seconds=30)
DIES = NOW + LINK_LIFE
SHA = "5" * 64
LOST = clip.Lost(Reason.LOST)
BEYOND_ANY_STATEMENT = 70_000
"""More ids than PostgreSQL, or SQLite as it is built by itself, takes as one statement's values."""

Deed = Callable[[Connection], object]
Act = Callable[[Connection, int], object]


def row_of(database: Database, clip_id: str = CLIP) -> dict[str, Any]:
    """The clip's keeping, by column."""
    query = select(KEEPINGS).where(KEEPINGS.c.clip_id == clip_id)
    return dict(read(database, lambda tx: tx.execute(query).one()._mapping))


def claimed(
    database: Database,
    by: str = ONE,
    clips_max: int = 9,
    besides: tuple[str, ...] = (),
    at: timedelta = timedelta(),
) -> list[Waiting]:
    """What `by` claims so long after NOW, when who was not seen since then is dead."""
    now = NOW + at
    return write(database, lambda tx: claim_waiting(tx, by, now, now, clips_max, besides))


def ids(found: list[Waiting]) -> list[str]:
    return [one.clip_id for one in found]


NEVER_DELIVERED: dict[str, list[clip.Event]] = {
    "open": [clip.Opened()],
    "failed": [clip.Opened(), clip.Failed(Reason.POLICY_AUDIO)],
    "refused": [clip.Refused(Reason.VENDOR_CAPACITY)],
    "unknown": [LOST],
    "found failed": [LOST, clip.Found(clip.Failed(Reason.NO_CLIP))],
    "given up": [LOST, clip.GaveUp()],
    "given up, and found after all": [LOST, clip.GaveUp(), clip.Found(DELIVERED)],
}


@pytest.mark.parametrize("how", NEVER_DELIVERED)
def test_no_bytes_are_expected_of_a_clip_that_was_not_delivered(
    database: Database, how: str
) -> None:
    let_in(database, 1)
    for said in NEVER_DELIVERED[how]:
        news(database, CLIP, said)
    assert count_of(database, "keepings") == 0
    assert read(database, verify) == []


@pytest.mark.parametrize("how", ["chat", "found"])
def test_the_bytes_are_expected_from_the_moment_of_the_charge(database: Database, how: str) -> None:
    let_in(database, 1)
    ways: dict[str, list[clip.Event]] = {
        "chat": [clip.Opened(), DELIVERED, DELIVERED],
        "found": [LOST, clip.Found(DELIVERED), clip.Found(DELIVERED), DELIVERED],
    }
    for said in ways[how]:
        assert news(database, CLIP, said, SOON).impossible is None
    row = row_of(database)
    assert (row["state"], row["tries"], row["fence"], row["owner"]) == ("waiting", 0, 0, None)
    assert (row["next_try_at"], row["link_dies_at"]) == (SOON, SOON + LINK_LIFE)
    assert {name for name, value in row.items() if value is None} == {
        *("trouble", "owner", "sha256", "size_bytes", "kept_at", "used_at")
    }
    assert count_of(database, "keepings") == 1
    assert set(entries_of(database, CLIP)) == {"hold", "charge"}
    assert read(database, verify) == []


def test_each_delivered_clip_of_a_generation_is_expected_for_itself(database: Database) -> None:
    let_in(database, 1, 4)
    ends: list[clip.Event] = [DELIVERED, clip.Failed(Reason.NO_CLIP), DELIVERED, LOST]
    for position, said in enumerate(ends):
        news(database, f"video_1_{position}", clip.Opened())
        news(database, f"video_1_{position}", said)
    found = rows_of(database, "SELECT clip_id FROM keepings ORDER BY clip_id")
    assert found == [("video_1_0",), ("video_1_2",)]


def test_a_charge_that_is_undone_expects_nothing(database: Database) -> None:
    let_in(database, 1)
    news(database, CLIP, clip.Opened())
    before = everything(database)

    def break_off(tx: Connection) -> None:
        assert settle(tx, CLIP, DELIVERED, NOW).changed
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(database, break_off)
    assert everything(database) == before
    assert news(database, CLIP, DELIVERED).changed
    assert count_of(database, "keepings") == 1


def test_nothing_is_charged_that_could_not_be_expected(database: Database) -> None:
    let_in(database, 1)
    news(database, CLIP, clip.Opened())
    write(database, lambda tx: expect(tx, CLIP, NOW))  # as nothing does
    before = everything(database)
    with pytest.raises(database.backend.errors):
        news(database, CLIP, DELIVERED)
    assert everything(database) == before


def test_a_clip_is_claimed_with_all_that_is_needed_to_fetch_it(database: Database) -> None:
    submit(database, 1, gateway="vip")
    news(database, CLIP, clip.Progressed(50))
    news(database, CLIP, clip.Delivered(""))
    deliver(database, 2, SOON)
    assert claimed(database, at=timedelta(minutes=1)) == [
        Waiting(CLIP, None, "vip", "job_1", DIES, 0, 1),
        Waiting("video_2_0", LINK, None, None, SOON + LINK_LIFE, 0, 1),
    ]


def test_those_whose_links_die_first_are_claimed_first_as_many_as_there_is_room_for(
    database: Database,
) -> None:
    for number, seconds in enumerate((5, 1, 3, 1)):
        deliver(database, number, NOW + timedelta(seconds=seconds))
    later = timedelta(minutes=1)
    assert claimed(database, clips_max=0, at=later) == []
    assert claimed(database, clips_max=-1, at=later) == []
    beating = partial(beat, process_id=ONE, now=NOW + later)
    write(database, beating)
    assert ids(claimed(database, clips_max=2, at=later)) == ["video_1_0", "video_3_0"]
    assert ids(claimed(database, TWO, at=later)) == ["video_2_0", "video_0_0"]


def test_nothing_is_claimed_before_its_time(database: Database) -> None:
    deliver(database, 1, NOW + TICK)
    assert claimed(database) == []
    assert ids(claimed(database, at=TICK)) == [CLIP]


def test_a_clip_that_somebody_living_fetches_is_left_to_it(database: Database) -> None:
    write(database, lambda tx: beat(tx, ONE, NOW))
    deliver(database, 1)
    assert [one.fence for one in claimed(database)] == [1]
    assert claimed(database, TWO) == []
    (again,) = claimed(database, TWO, at=TICK)
    assert (again.clip_id, again.fence) == (CLIP, 2)


def test_a_process_claims_again_what_it_holds_but_does_not_fetch(database: Database) -> None:
    write(database, lambda tx: beat(tx, ONE, NOW))
    deliver(database, 1)
    deliver(database, 2)
    assert ids(claimed(database)) == [CLIP, "video_2_0"]
    assert claimed(database, besides=(CLIP, "video_2_0")) == []
    (again,) = claimed(database, besides=("video_2_0", "video_none"))
    assert (again.clip_id, again.fence) == (CLIP, 2)


def test_a_clip_that_was_let_go_is_claimed_at_once(database: Database) -> None:
    write(database, lambda tx: beat(tx, ONE, NOW))
    deliver(database, 1)
    assert ids(claimed(database)) == [CLIP]
    write(database, lambda tx: let_go(tx, ONE))
    (again,) = claimed(database, TWO)
    assert again.fence == 2


def test_a_clip_that_was_put_off_is_tried_again_when_its_time_comes(database: Database) -> None:
    deliver(database, 1)
    (first,) = claimed(database)
    assert write(database, lambda tx: put_off(tx, CLIP, first.fence, "unreachable", SOON))
    row = row_of(database)
    assert (row["state"], row["owner"], row["tries"]) == ("waiting", None, 1)
    assert (row["trouble"], row["next_try_at"]) == ("unreachable", SOON)
    assert read(database, lambda tx: earliest_try(tx, TWO, NOW)) == SOON
    assert claimed(database, TWO) == []
    (again,) = claimed(database, TWO, at=SOON - NOW)
    assert again == replace(first, tries=1, fence=2)


def test_a_clip_is_put_off_once_at_a_fence(database: Database) -> None:
    """Whoever did not hear that it was written down says it again."""
    deliver(database, 1)
    (waiting,) = claimed(database)
    assert write(database, lambda tx: put_off(tx, CLIP, waiting.fence, "a", SOON))
    before = everything(database)
    assert not write(database, lambda tx: put_off(tx, CLIP, waiting.fence, "b", DIES))
    assert everything(database) == before


def test_the_bytes_that_came_are_written_down(database: Database) -> None:
    deliver(database, 1)
    (waiting,) = claimed(database)
    assert write(database, lambda tx: record_kept(tx, CLIP, waiting.fence, SHA, 7, SOON))
    row = row_of(database)
    assert (row["state"], row["owner"], row["trouble"]) == ("kept", None, None)
    assert (row["sha256"], row["size_bytes"], row["kept_at"]) == (SHA, 7, SOON)
    assert read(database, kept_rows) == [KeptRow(CLIP, SHA, 7, SOON, None)]
    assert claimed(database, at=LINK_LIFE) == []


def test_who_says_again_that_it_kept_a_clip_is_believed_again(database: Database) -> None:
    """Or it would take the bytes away again, which are the only ones."""
    deliver(database, 1)
    (waiting,) = claimed(database)
    kept = partial(record_kept, clip_id=CLIP, fence=waiting.fence, size_bytes=7, now=SOON)
    assert write(database, partial(kept, sha256=SHA))
    before = everything(database)
    assert write(database, partial(kept, sha256=SHA))
    assert not write(database, partial(kept, sha256="6" * 64))
    assert not write(database, partial(kept, sha256=SHA, fence=waiting.fence + 1))
    assert everything(database) == before


STALE: dict[str, Callable[[int], Callable[[Connection], bool]]] = {
    "put off": lambda fence: lambda tx: put_off(tx, CLIP, fence, "late", SOON),
    "kept": lambda fence: lambda tx: record_kept(tx, CLIP, fence, SHA, 7, SOON),
    "lost": lambda fence: lambda tx: record_lost(tx, CLIP, fence, "late"),
}


@pytest.mark.parametrize("what", STALE)
def test_who_comes_late_changes_nothing_that_another_took_over(
    database: Database, what: str
) -> None:
    deliver(database, 1)
    (mine,) = claimed(database)
    (theirs,) = claimed(database, TWO)
    before = everything(database)
    assert not write(database, STALE[what](mine.fence))
    assert not write(database, STALE[what](theirs.fence + 1))
    assert everything(database) == before
    assert write(database, STALE[what](theirs.fence))


@pytest.mark.parametrize("what", STALE)
def test_who_comes_late_changes_nothing_that_was_deleted(database: Database, what: str) -> None:
    deliver(database, 1)
    (mine,) = claimed(database)
    write(database, lambda tx: delete_video(tx, TEAM, CLIP, NOW))
    before = everything(database)
    assert not write(database, STALE[what](mine.fence))
    assert everything(database) == before


def test_bytes_on_their_way_at_a_shutdown_may_still_be_written_down(database: Database) -> None:
    deliver(database, 1)
    (mine,) = claimed(database)
    write(database, lambda tx: let_go(tx, ONE))
    assert write(database, STALE["kept"](mine.fence))
    assert row_of(database)["state"] == "kept"


def test_a_lost_clip_keeps_its_charge_and_says_why_it_was_lost(database: Database) -> None:
    deliver(database, 1)
    (mine,) = claimed(database)
    assert write(database, lambda tx: record_lost(tx, CLIP, mine.fence, "expired"))
    assert not write(database, lambda tx: record_lost(tx, CLIP, mine.fence, "again"))
    row = row_of(database)
    assert (row["state"], row["owner"], row["trouble"]) == ("lost", None, "expired")
    assert set(entries_of(database, CLIP)) == {"hold", "charge"}
    assert read(database, unarchived) == (0, None)


def test_bytes_that_went_missing_are_fetched_again_while_the_link_lives(
    database: Database,
) -> None:
    deliver(database, 1)
    fence = keep(database, CLIP)
    missing = partial(record_missing, clip_id=CLIP, trouble="corrupt", now=DIES - TICK)
    assert write(database, partial(missing, sha256="6" * 64)) is None
    assert row_of(database)["state"] == "kept"
    assert write(database, partial(missing, sha256=SHA)) == "waiting"
    assert write(database, partial(missing, sha256=SHA)) is None
    row = row_of(database)
    assert (row["tries"], row["trouble"], row["next_try_at"]) == (0, "corrupt", DIES - TICK)
    (again,) = claimed(database, at=LINK_LIFE)
    assert (again.clip_id, again.fence) == (CLIP, fence + 2)
    assert read(database, verify) == []


def test_who_kept_bytes_that_went_missing_is_not_believed_again(database: Database) -> None:
    deliver(database, 1)
    fence = keep(database, CLIP)
    write(database, lambda tx: record_missing(tx, CLIP, SHA, "missing", SOON))
    before = everything(database)
    for say in STALE.values():
        assert not write(database, say(fence))
    assert everything(database) == before


def test_bytes_that_went_missing_after_their_link_are_lost_until_they_are_found(
    database: Database,
) -> None:
    deliver(database, 1)
    keep(database, CLIP)
    assert write(database, lambda tx: record_missing(tx, CLIP, SHA, "missing", DIES)) == "lost"
    assert claimed(database, at=LINK_LIFE) == []
    assert not write(database, lambda tx: record_found(tx, CLIP, "6" * 64))
    assert write(database, lambda tx: record_found(tx, CLIP, SHA))
    assert not write(database, lambda tx: record_found(tx, CLIP, SHA))
    assert read(database, kept_rows) == [KeptRow(CLIP, SHA, 1_000, NOW, None)]
    assert read(database, verify) == []


def test_a_clip_that_was_lost_before_it_was_ever_kept_is_not_found(database: Database) -> None:
    deliver(database, 1)
    (mine,) = claimed(database)
    write(database, lambda tx: record_lost(tx, CLIP, mine.fence, "expired"))
    assert not write(database, lambda tx: record_found(tx, CLIP, SHA))
    assert row_of(database)["state"] == "lost"


def lose(tx: Connection) -> None:
    (mine,) = claim_waiting(tx, ONE, NOW, NOW, 1)
    assert record_lost(tx, CLIP, mine.fence, "expired")


def keep_and_miss(database: Database) -> None:
    keep(database, CLIP)
    assert write(database, lambda tx: record_missing(tx, CLIP, SHA, "missing", DIES)) == "lost"


def keep_and_evict(database: Database) -> None:
    keep(database, CLIP)
    assert write(database, lambda tx: evict(tx, [CLIP])) == [CLIP]


STATES: dict[str, Callable[[Database], object]] = {
    "waiting": lambda _: None,
    "fetched": claimed,
    "kept": lambda database: keep(database, CLIP),
    "lost": lambda database: write(database, lose),
    "missed": keep_and_miss,
    "evicted": keep_and_evict,
    "deleted": lambda database: write(database, lambda tx: delete_video(tx, TEAM, CLIP, NOW)),
}
ACTS: dict[str, Act] = {
    "claim": lambda tx, _: claim_waiting(tx, TWO, SOON, SOON, 9),
    "put off": lambda tx, fence: put_off(tx, CLIP, fence, "unreachable", SOON),
    "keep": lambda tx, fence: record_kept(tx, CLIP, fence, SHA, 1_000, SOON),
    "lose": lambda tx, fence: record_lost(tx, CLIP, fence, "expired"),
    "miss": lambda tx, _: record_missing(tx, CLIP, SHA, "missing", SOON),
    "miss too late": lambda tx, _: record_missing(tx, CLIP, SHA, "missing", DIES),
    "find": lambda tx, _: record_found(tx, CLIP, SHA),
    "evict": lambda tx, _: evict(tx, [CLIP]),
    "forsake": lambda tx, _: forsake(tx, DIES + TICK, "expired", 9),
    "delete": lambda tx, _: delete_video(tx, TEAM, CLIP, SOON),
}
BECOMES: dict[tuple[str, str], str] = {
    ("waiting", "claim"): "waiting",
    ("waiting", "keep"): "kept",
    ("waiting", "lose"): "lost",
    ("waiting", "forsake"): "lost",
    ("fetched", "claim"): "waiting",
    ("fetched", "put off"): "waiting",
    ("fetched", "keep"): "kept",
    ("fetched", "lose"): "lost",
    ("lost", "keep"): "kept",
    ("missed", "find"): "kept",
    ("kept", "miss"): "waiting",
    ("kept", "miss too late"): "lost",
    ("kept", "evict"): "evicted",
    **{(state, "delete"): "deleted" for state in STATES if state != "deleted"},
}


@pytest.mark.parametrize("state", STATES)
def test_only_what_may_happen_to_a_clips_bytes_happens_and_never_to_its_charge(
    database: Database, state: str
) -> None:
    deliver(database, 1)
    STATES[state](database)
    before, row = everything(database), row_of(database)
    for act, deed in ACTS.items():

        def try_it(tx: Connection, act: str = act, deed: Act = deed) -> None:
            deed(tx, row["fence"])
            after = every_row(tx)
            assert (after != before) == ((state, act) in BECOMES), act
            now = tx.execute(select(KEEPINGS.c.state)).scalar_one()
            assert now == BECOMES.get((state, act), row["state"]), act
            assert (after["entries"], after["budgets"]) == (before["entries"], before["budgets"])
            assert verify(tx) == []
            raise ZeroDivisionError  # and undo it

        with pytest.raises(ZeroDivisionError):
            write(database, try_it)
    assert everything(database) == before


def test_evicted_are_those_that_were_kept_until_then(database: Database) -> None:
    for number in range(4):
        deliver(database, number)
    keep(database, "video_1_0")
    keep(database, "video_2_0")
    wanted = ["video_2_0", "video_1_0", "video_0_0", "video_none"]
    assert write(database, lambda tx: evict(tx, [])) == []
    assert sorted(write(database, lambda tx: evict(tx, wanted))) == ["video_1_0", "video_2_0"]
    assert write(database, lambda tx: evict(tx, wanted)) == []
    assert [row_of(database, f"video_{number}_0")["state"] for number in range(4)] == [
        *("waiting", "evicted", "evicted", "waiting")
    ]


def test_any_number_of_clips_may_be_asked_for_at_once(database: Database) -> None:
    deliver(database, 1)
    keep(database, CLIP)
    every = [CLIP, *(f"video_none_{number}" for number in range(BEYOND_ANY_STATEMENT))]
    assert read(database, lambda tx: strangers(tx, every)) == every[1:]
    assert read(database, lambda tx: unheard_of(tx, every)) == every[1:]
    assert write(database, lambda tx: evict(tx, every)) == [CLIP]


def test_kept_clips_are_listed_by_age_and_counted(database: Database) -> None:
    assert read(database, kept_totals) == (0, 0)
    for number, seconds in enumerate((2, 1, 2, 0)):
        deliver(database, number)
        if seconds:
            keep(database, f"video_{number}_0", NOW + timedelta(seconds=seconds))
    assert [row.clip_id for row in read(database, kept_rows)] == [
        *("video_1_0", "video_0_0", "video_2_0")
    ]
    assert read(database, kept_totals) == (3, 3_000)
    write(database, lambda tx: evict(tx, ["video_0_0"]))
    assert read(database, kept_totals) == (2, 2_000)


def test_what_waits_is_counted_with_the_first_link_to_die(database: Database) -> None:
    assert read(database, unarchived) == (0, None)
    deliver(database, 1, SOON)
    deliver(database, 2, NOW)
    claimed(database)
    assert read(database, unarchived) == (2, DIES)
    keep(database, "video_2_0")
    assert read(database, unarchived) == (1, SOON + LINK_LIFE)


def test_strangers_are_those_whose_bytes_nobody_is_to_have(database: Database) -> None:
    wanted = {"waiting": 1, "fetched": 2, "kept": 3}
    for state, number in {**wanted, "evicted": 4, "deleted": 5, "lost": 6}.items():
        (clip_id,) = deliver(database, number)
        if state in {"kept", "evicted"}:
            keep(database, clip_id)
        if state not in {"fetched", "kept"}:
            become = update(KEEPINGS).where(KEEPINGS.c.clip_id == clip_id).values(state=state)
            write(database, partial(Connection.execute, statement=become))
    let_in(database, 7)  # its bytes may be here before its charge
    let_in(database, 8)
    news(database, "video_8_0", clip.Refused(Reason.VENDOR_CAPACITY))
    news(database, submit(database, 9), LOST)
    every = [f"video_{number}_0" for number in range(10, 0, -1)]
    gone = [f"video_{number}_0" for number in (10, 8, 6, 5, 4)]
    assert read(database, lambda tx: strangers(tx, every)) == gone
    assert read(database, lambda tx: strangers(tx, [])) == []
    assert read(database, lambda tx: unheard_of(tx, every)) == ["video_10_0"]


def test_the_last_use_never_goes_back(database: Database) -> None:
    for number in (1, 2):
        deliver(database, number)
        keep(database, f"video_{number}_0")
    other = "video_2_0"
    write(database, lambda tx: touch_used(tx, {}))
    write(database, lambda tx: touch_used(tx, {CLIP: SOON, other: NOW, "video_none": NOW}))
    write(database, lambda tx: touch_used(tx, {CLIP: NOW, other: SOON + TICK}))
    assert [(row.clip_id, row.used_at) for row in read(database, kept_rows)] == [
        (CLIP, SOON),
        (other, SOON + TICK),
    ]


def test_the_next_try_is_of_what_one_may_claim(database: Database) -> None:
    write(database, lambda tx: beat(tx, TWO, NOW))
    look = partial(earliest_try, process_id=ONE, dead_before=NOW)
    assert read(database, look) is None
    deliver(database, 1)
    deliver(database, 2, SOON)
    assert ids(claimed(database, TWO)) == [CLIP]
    assert read(database, look) == SOON
    assert read(database, partial(look, dead_before=SOON)) == NOW
    assert read(database, partial(look, besides=["video_2_0"])) is None
    assert read(database, partial(look, process_id=TWO)) == NOW


def test_what_nobody_ever_tried_to_fetch_is_forsaken_when_its_link_is_long_dead(
    database: Database,
) -> None:
    for number in range(1, 5):
        deliver(database, number)
    assert ids(claimed(database, clips_max=1)) == [CLIP]
    forsaking = partial(forsake, trouble="expired", clips_max=2)
    assert write(database, partial(forsaking, died_before=DIES)) == []
    first = write(database, partial(forsaking, died_before=DIES + TICK))
    rest = write(database, partial(forsaking, died_before=DIES + TICK))
    assert (len(first), len(rest)) == (2, 1)
    assert sorted(first + rest) == ["video_2_0", "video_3_0", "video_4_0"]
    assert row_of(database)["state"] == "waiting"
    assert row_of(database, "video_2_0")["trouble"] == "expired"
    assert read(database, verify) == []


def test_what_became_of_one_clips_bytes_is_found(database: Database) -> None:
    deliver(database, 1)
    look = partial(find_keeping, clip_id=CLIP)
    assert read(database, look) == ("waiting", NOW)
    keep(database, CLIP, SOON)
    assert read(database, look) == ("kept", NOW)
    assert read(database, lambda tx: find_keeping(tx, "video_none")) is None


@pytest.fixture
def replicas(postgres_copy: str) -> Iterator[list[Database]]:
    """Four processes on one PostgreSQL server."""
    opened = [Database.open(postgres_copy) for _ in range(4)]
    yield opened
    for database in opened:
        database.close()


def test_replicas_that_claim_at_once_never_claim_the_same_clip(replicas: list[Database]) -> None:
    clips = 80
    for number in range(clips // 4):
        deliver(replicas[0], number, clips=4)
    for number, database in enumerate(replicas):
        write(database, partial(beat, process_id=f"process_{number}", now=NOW))

    def claim_all(number: int) -> list[str]:
        mine: list[str] = []
        by = f"process_{number}"
        while found := claimed(replicas[number], by, 3, tuple(mine)):
            mine += ids(found)
        return mine

    with ThreadPoolExecutor(len(replicas)) as threads:
        shares = list(threads.map(claim_all, range(len(replicas))))
    every = [clip_id for share in shares for clip_id in share]
    assert len(every) == len(set(every)) == clips
    fences = rows_of(replicas[0], "SELECT DISTINCT fence FROM keepings")
    assert fences == [(1,)]


LOOKS: dict[str, tuple[Deed, str]] = {
    "claiming": (lambda tx: claim_waiting(tx, ONE, NOW, NOW, 9), "keepings_waiting"),
    "the next try": (lambda tx: earliest_try(tx, ONE, NOW), "keepings_waiting"),
    "forsaking": (lambda tx: forsake(tx, NOW, "expired", 9), "keepings_waiting"),
    "what waits": (unarchived, "keepings_waiting"),
    "letting go": (lambda tx: let_go(tx, ONE), "keepings_waiting"),
    "what is kept": (kept_rows, "keepings_kept"),
    "the totals": (kept_totals, "keepings_kept"),
    "evicting": (lambda tx: evict(tx, [CLIP]), "keepings"),
}


@pytest.mark.parametrize("what", LOOKS)
def test_no_look_at_the_bytes_reads_all_that_ever_were(database: Database, what: str) -> None:
    look, index = LOOKS[what]
    deliver(database, 1)
    deliver(database, 2)
    plan = plans_of(database, look)
    assert index in plan
    whole = [line.strip() for line in plan.splitlines() if "Seq Scan" in line]
    assert [line for line in whole if "processes" not in line] == []
    assert "SCAN keepings\n" not in f"{plan}\n"


def test_a_claim_says_one_thing_when_there_is_nothing_to_fetch(database: Database) -> None:
    assert len(said_by(database, lambda tx: claim_waiting(tx, ONE, NOW, NOW, 9))) == 1


UNFIT = {
    "a state that is none": "UPDATE keepings SET state = 'gone'",
    "kept without a digest": "UPDATE keepings SET state = 'kept', size_bytes = 1, kept_at = "
    "next_try_at",
    "kept without a length": "UPDATE keepings SET state = 'kept', sha256 = 'a', kept_at = "
    "next_try_at",
    "kept and empty": "UPDATE keepings SET state = 'kept', sha256 = 'a', size_bytes = 0, "
    "kept_at = next_try_at",
    "kept at no time": "UPDATE keepings SET state = 'kept', sha256 = 'a', size_bytes = 1",
    "of no clip": "UPDATE keepings SET clip_id = 'video_none'",
}


@pytest.mark.parametrize("what", UNFIT)
def test_the_database_refuses_a_row_that_is(database: Database, what: str) -> None:
    deliver(database, 1)
    before = everything(database)
    with pytest.raises(IntegrityError):
        write(database, lambda tx: tx.execute(text(UNFIT[what])))
    assert everything(database) == before
