"""A job has one owner at a fence, passes from the dead to the living, and ends once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from random import Random
from time import monotonic
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import IntegrityError

from proxy.core import clip
from proxy.core.clip import State
from proxy.core.failure import Reason
from proxy.store.audit import verify
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.generations import UpstreamIds, orphans, record_opened
from proxy.store.jobs import (
    JobRow,
    add_job,
    end_job,
    find_job,
    held_by,
    is_any_free,
    is_held,
    let_go,
    note_progress,
    oldest_unfinished,
    take_over,
    unfollowed,
)
from proxy.store.keepings import claim_waiting
from proxy.store.processes import beat, forget_processes
from proxy.store.tables import JOBS, KEEPINGS
from tests.store.asks import (
    DELIVERED,
    MODEL,
    NOW,
    deliver,
    entries_of,
    everything,
    let_in,
    many_jobs,
    news,
    read,
    rows_of,
    submit,
    write,
)
from tests.store.plans import plans_of, said_by

ONE, TWO, NEW = "process_one", "process_two", "process_new"
TICK = timedelta(microseconds=1)
LATER = NOW + timedelta(minutes=1)
FAILED = clip.Failed(Reason.POLICY_AUDIO)
LOST = clip.Lost(Reason.LOST)
T = TypeVar("T")
QUICK_SECONDS = 5.0
MANY = 10_000


def beats(database: Database, **seen: timedelta) -> None:
    """Have processes say that they live, each so long after NOW."""
    for name, after in seen.items():
        write(database, partial(beat, process_id=f"process_{name}", now=NOW + after))


def taken(
    database: Database, by: str = NEW, jobs_max: int = 100, dead_before: timedelta = -TICK
) -> list[str]:
    """The clips whose jobs `by` takes over, when who was not seen since then is dead."""
    jobs = write(database, lambda tx: take_over(tx, by, NOW + dead_before, jobs_max))
    return sorted(job.clip_id for job in jobs)


def job_of(database: Database, clip_id: str) -> tuple[str | None, int, int, bool]:
    """Its owner, its fence, its progress, and whether it has ended."""
    columns = (JOBS.c.owner, JOBS.c.fence, JOBS.c.percent, JOBS.c.ended_at)
    row = read(
        database, lambda tx: tx.execute(select(*columns).where(JOBS.c.clip_id == clip_id)).one()
    )
    return row[0], row[1], row[2], row[3] is not None


def held(database: Database, clip_id: str, fence: int) -> bool:
    return read(database, lambda tx: is_held(tx, clip_id, fence))


def test_a_job_is_written_down_once_whatever_is_said_of_it_again(database: Database) -> None:
    clip_id = submit(database, 1)
    before = everything(database)
    write(database, lambda tx: add_job(tx, clip_id, "api", "job_1", ONE, NOW))
    write(database, lambda tx: add_job(tx, clip_id, "vip", "job_2", TWO, LATER))
    assert everything(database) == before
    assert job_of(database, clip_id) == (ONE, 0, 0, False)


def test_a_job_of_a_clip_that_was_never_admitted_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        write(database, lambda tx: add_job(tx, "video_none", "api", "job_1", ONE, NOW))
    assert rows_of(database, "SELECT clip_id FROM jobs") == []


def test_a_job_that_is_written_down_after_its_clip_was_given_up_has_ended(
    database: Database,
) -> None:
    let_in(database, 1, mode="video")
    for said in (LOST, clip.GaveUp()):
        news(database, "video_1_0", said)
    write(database, lambda tx: add_job(tx, "video_1_0", "api", "job_1", ONE, LATER))
    assert job_of(database, "video_1_0") == (ONE, 0, 0, True)
    assert read(database, lambda tx: find_job(tx, "video_1_0", ONE)) is None
    assert read(database, verify) == []


def test_an_unfinished_job_is_found_by_its_owner_alone(database: Database) -> None:
    clip_id = submit(database, 1)
    write(database, lambda tx: note_progress(tx, [(clip_id, 0, 45)]))
    assert read(database, lambda tx: find_job(tx, clip_id, ONE)) == JobRow(
        clip_id, "gen_1", MODEL, State.QUEUED, NOW, "api", "job_1", 45, 0
    )
    assert read(database, lambda tx: find_job(tx, clip_id, TWO)) is None
    assert read(database, lambda tx: find_job(tx, "video_none", ONE)) is None
    write(database, lambda tx: end_job(tx, clip_id, LATER))
    assert read(database, lambda tx: find_job(tx, clip_id, ONE)) is None


def test_jobs_of_the_dead_and_of_nobody_are_taken_over_and_no_others(database: Database) -> None:
    beats(database, alive=timedelta(), dying=-TICK, forgotten=timedelta(-9), new=timedelta())
    write(database, lambda tx: forget_processes(tx, NOW - timedelta(7)))
    owners = ("alive", "dying", "forgotten", "never_seen", "new")
    for number, owner in enumerate(owners):
        submit(database, number, f"process_{owner}")
    submit(database, 8, "process_leaver")
    write(database, lambda tx: let_go(tx, "process_leaver"))
    submit(database, 9, "process_dying")
    write(database, lambda tx: end_job(tx, "video_9_0", NOW))
    free = ["video_1_0", "video_2_0", "video_3_0", "video_8_0"]
    assert read(database, lambda tx: is_any_free(tx, NOW))
    assert taken(database, dead_before=timedelta()) == free
    assert not read(database, lambda tx: is_any_free(tx, NOW))
    assert taken(database, dead_before=timedelta()) == []
    assert {clip_id: job_of(database, clip_id)[:2] for clip_id in free} == dict.fromkeys(
        free, (NEW, 1)
    )
    assert job_of(database, "video_0_0")[:2] == ("process_alive", 0)
    assert job_of(database, "video_4_0")[:2] == (NEW, 0)
    assert job_of(database, "video_9_0")[:2] == ("process_dying", 0)


def test_whoever_takes_a_job_over_is_told_all_that_is_known_of_it(database: Database) -> None:
    beats(database, one=timedelta(), new=timedelta(hours=1))
    clip_id = submit(database, 1, gateway="vip")
    news(database, clip_id, LOST)
    write(database, lambda tx: note_progress(tx, [(clip_id, 0, 61)]))
    (job,) = write(database, lambda tx: take_over(tx, NEW, LATER, 9))
    assert job == JobRow(clip_id, "gen_1", MODEL, State.UNKNOWN, NOW, "vip", "job_1", 61, 1)
    assert read(database, lambda tx: find_job(tx, clip_id, NEW)) == job


def test_a_process_that_was_silent_for_too_long_may_take_its_own_jobs_again(
    database: Database,
) -> None:
    beats(database, one=timedelta())
    clip_id = submit(database, 1)
    (job,) = write(database, lambda tx: take_over(tx, ONE, LATER, 9))
    assert (job.clip_id, job.fence) == (clip_id, 1)
    assert not held(database, clip_id, 0)
    assert held(database, clip_id, 1)


def test_no_more_jobs_are_taken_than_there_is_room_for_and_the_oldest_first(
    database: Database,
) -> None:
    for number, seconds in enumerate((2, 1, 1, 0)):
        submit(database, number, now=NOW + timedelta(seconds=seconds))
    assert taken(database, jobs_max=-1) == taken(database, jobs_max=0) == []
    assert taken(database, jobs_max=2) == ["video_1_0", "video_3_0"]
    beats(database, new=timedelta())
    assert taken(database, jobs_max=1) == ["video_2_0"]
    assert taken(database, jobs_max=9) == ["video_0_0"]
    assert {job_of(database, f"video_{number}_0")[1] for number in range(4)} == {1}


def test_ten_thousand_jobs_are_taken_over_and_let_go_at_once(database: Database) -> None:
    write(database, lambda tx: many_jobs(tx, MANY, "process_dead"))
    beats(database, new=timedelta())
    began = monotonic()
    jobs = write(database, lambda tx: take_over(tx, NEW, NOW, 2 * MANY))
    assert monotonic() - began < QUICK_SECONDS
    assert len({job.clip_id for job in jobs}) == MANY
    assert {(job.fence, job.state) for job in jobs} == {(1, State.IN_PROGRESS)}
    followed = {job.clip_id for job in jobs[10:]}
    left = read(database, lambda tx: unfollowed(tx, NEW, followed))
    assert sorted(left, key=repr) == sorted(jobs[:10], key=repr)
    assert len(read(database, lambda tx: unfollowed(tx, NEW, ()))) == MANY
    assert read(database, lambda tx: held_by(tx, NEW)) == dict.fromkeys(
        [job.clip_id for job in jobs], 1
    )
    began = monotonic()
    write(database, lambda tx: let_go(tx, NEW))
    assert monotonic() - began < QUICK_SECONDS
    assert read(database, lambda tx: unfollowed(tx, NEW, ())) == []
    assert read(database, lambda tx: is_any_free(tx, NOW))


def test_a_take_over_says_two_things_however_many_jobs_there_are(database: Database) -> None:
    for number in range(12):
        submit(database, number)
    some = len(said_by(database, lambda tx: take_over(tx, NEW, LATER, 3)))
    assert some == len(said_by(database, lambda tx: take_over(tx, NEW, LATER, 12))) == 2
    beats(database, new=timedelta())
    assert len(said_by(database, lambda tx: take_over(tx, NEW, NOW, 12))) == 1


def test_a_stale_fence_holds_nothing_and_writes_nothing(database: Database) -> None:
    clip_id = submit(database, 1)
    assert held(database, clip_id, 0)
    assert taken(database) == [clip_id]
    assert not held(database, clip_id, 0)
    assert held(database, clip_id, 1)
    write(database, lambda tx: note_progress(tx, [(clip_id, 0, 90)]))
    assert job_of(database, clip_id) == (NEW, 1, 0, False)
    assert not held(database, "video_none", 0)


def test_an_ended_job_is_held_by_nobody(database: Database) -> None:
    clip_id = submit(database, 1)
    write(database, lambda tx: end_job(tx, clip_id, NOW))
    assert not held(database, clip_id, 0)


def test_a_job_that_was_let_go_is_held_until_somebody_takes_it(database: Database) -> None:
    """An answer that was on its way at a shutdown may still be written down."""
    clip_id = submit(database, 1)
    write(database, lambda tx: let_go(tx, ONE))
    assert held(database, clip_id, 0)
    assert taken(database) == [clip_id]
    assert not held(database, clip_id, 0)


def test_progress_goes_forward_for_its_owner_while_the_job_runs(database: Database) -> None:
    first, second = submit(database, 1), submit(database, 2)
    write(database, lambda tx: note_progress(tx, [(first, 0, 40), (second, 0, 7)]))
    write(database, lambda tx: note_progress(tx, [(first, 0, 30), (second, 0, 8)]))
    assert [job_of(database, one)[2] for one in (first, second)] == [40, 8]
    write(database, lambda tx: note_progress(tx, []))
    write(database, lambda tx: end_job(tx, first, NOW))
    write(database, lambda tx: note_progress(tx, [(first, 0, 99), (second, 1, 99)]))
    assert [job_of(database, one)[2] for one in (first, second)] == [40, 8]


def test_a_jobs_first_end_stands(database: Database) -> None:
    clip_id = submit(database, 1)
    write(database, lambda tx: end_job(tx, clip_id, LATER))
    write(database, lambda tx: end_job(tx, clip_id, LATER + TICK))
    ended = read(database, lambda tx: tx.execute(select(JOBS.c.ended_at)).scalar_one())
    assert ended == LATER


def test_ending_the_job_of_a_clip_that_has_none_changes_nothing(database: Database) -> None:
    deliver(database, 1)
    before = everything(database)
    write(database, lambda tx: end_job(tx, "video_1_0", LATER))
    assert everything(database) == before


ENDS: dict[str, list[clip.Event]] = {
    "delivered": [DELIVERED],
    "failed": [FAILED],
    "found": [LOST, clip.Found(DELIVERED)],
    "given up": [LOST, clip.GaveUp()],
}


@pytest.mark.parametrize("how", ENDS)
def test_a_job_ends_with_its_clip(database: Database, how: str) -> None:
    clip_id = submit(database, 1)
    other = submit(database, 2)
    for said in ENDS[how]:
        assert not job_of(database, clip_id)[3]
        news(database, clip_id, said, LATER)
    assert job_of(database, clip_id)[3]
    assert not job_of(database, other)[3]
    assert taken(database) == [other]
    assert read(database, verify) == []


def test_the_job_of_a_clip_that_nobody_knows_of_is_followed_on(database: Database) -> None:
    clip_id = submit(database, 1)
    news(database, clip_id, LOST)
    assert not job_of(database, clip_id)[3]
    assert taken(database) == [clip_id]


def test_who_lets_go_leaves_its_jobs_and_its_clips_and_nobody_elses(database: Database) -> None:
    beats(database, one=timedelta(), two=timedelta(), new=timedelta())
    mine, others = submit(database, 1, ONE), submit(database, 2, TWO)
    ended = submit(database, 3, ONE)
    write(database, lambda tx: end_job(tx, ended, NOW))
    deliver(database, 4)
    deliver(database, 5)
    for owner in (ONE, TWO):
        claim = partial(claim_waiting, now=NOW, dead_before=NOW - TICK, clips_max=1)
        write(database, partial(claim, process_id=owner))
    write(database, lambda tx: let_go(tx, ONE))
    assert [job_of(database, one)[0] for one in (mine, others, ended)] == [None, TWO, ONE]
    owners = select(KEEPINGS.c.owner).order_by(KEEPINGS.c.clip_id)
    assert read(database, lambda tx: tx.execute(owners).scalars().all()) == [None, TWO]
    assert taken(database) == [mine]


def test_the_oldest_unfinished_job_is_told_by_when_it_was_started(database: Database) -> None:
    assert read(database, oldest_unfinished) is None
    first = submit(database, 1, now=NOW - timedelta(hours=1))
    submit(database, 2, now=NOW - timedelta(minutes=1))
    assert read(database, oldest_unfinished) == NOW - timedelta(hours=1)
    write(database, lambda tx: end_job(tx, first, NOW))
    assert read(database, oldest_unfinished) == NOW - timedelta(minutes=1)


def test_jobs_that_their_owner_does_not_know_of_are_found(database: Database) -> None:
    known, unknown = submit(database, 1), submit(database, 2)
    submit(database, 3, TWO)
    ended = submit(database, 4)
    write(database, lambda tx: end_job(tx, ended, NOW))
    assert read(database, lambda tx: held_by(tx, ONE)) == {known: 0, unknown: 0}
    assert read(database, lambda tx: unfollowed(tx, ONE, {known})) == [
        read(database, lambda tx: find_job(tx, unknown, ONE))
    ]


def orphans_at(database: Database) -> list[str]:
    return [row.id for row in read(database, lambda tx: orphans(tx, LATER, NEW))]


def test_a_followed_job_is_no_orphan_but_an_unanswered_submit_is(database: Database) -> None:
    beats(database, one=timedelta())
    submit(database, 1)
    let_in(database, 2, mode="video")
    let_in(database, 3, 2)
    assert orphans_at(database) == ["gen_2", "gen_3"]
    news(database, "video_1_0", clip.Progressed(20))
    assert orphans_at(database) == ["gen_2", "gen_3"]


def test_an_open_clip_whose_job_nobody_follows_any_more_is_an_orphan(database: Database) -> None:
    clip_id = submit(database, 1)
    assert orphans_at(database) == []
    write(database, lambda tx: end_job(tx, clip_id, NOW))
    assert orphans_at(database) == ["gen_1"]
    assert [finding.check for finding in read(database, verify)] == [
        "job_is_followed_while_it_runs"
    ]


def test_a_submit_that_is_answered_after_the_sweep_is_followed_and_charged_once(
    database: Database,
) -> None:
    """Its process was taken for dead while the database was away from it."""
    let_in(database, 1, mode="video")
    news(database, "video_1_0", LOST)

    def answered(tx: Connection) -> None:
        ids = UpstreamIds(id="job_1")
        record_opened(tx, "gen_1", "api", 200, ids, clip.Queued())
        add_job(tx, "video_1_0", "api", "job_1", ONE, LATER)

    for _ in range(2):  # and its commit, of which nobody heard, is tried again
        write(database, answered)
    job = read(database, lambda tx: find_job(tx, "video_1_0", ONE))
    assert job is not None
    assert (job.state, job.fence) == (State.UNKNOWN, 0)
    assert orphans_at(database) == []
    settled = [news(database, "video_1_0", clip.Found(DELIVERED), LATER) for _ in range(2)]
    assert [one.changed for one in settled] == [True, False]
    assert set(entries_of(database, "video_1_0")) == {"hold", "charge"}
    assert rows_of(database, "SELECT clip_id, state FROM keepings") == [("video_1_0", "waiting")]
    assert read(database, verify) == []


@pytest.fixture(params=["sqlite", "postgres"])
def replicas(request: pytest.FixtureRequest) -> Iterator[list[Database]]:
    """Four processes' ledgers; on SQLite, which has one writer, they share it."""
    url: str = request.getfixturevalue(f"{request.param}_copy")
    opened = [Database.open(url) for _ in range(4 if request.param == "postgres" else 1)]
    yield opened * (4 // len(opened))
    for database in opened:
        database.close()


class Poller:
    """One process that takes over, is sometimes taken for dead, and settles what it believes in."""

    def __init__(self, number: int, database: Database, seed: int) -> None:
        self.name = f"process_{number}"
        self.database = database
        self.chance = Random(seed + number)
        self.believed: dict[str, int] = {}
        self.granted: list[tuple[str, int]] = []
        self.charged: list[str] = []

    async def run(self) -> None:
        """Poll until nothing is left to be done."""
        await self.write(lambda tx: beat(tx, self.name, NOW))
        while await self.write(oldest_unfinished) is not None:
            # Now and then the others' silence lasts longer than their lease.
            jobs = await self.write(
                partial(
                    take_over,
                    process_id=self.name,
                    dead_before=NOW + timedelta(seconds=self.chance.choice((-1, -1, 1))),
                    jobs_max=self.chance.randrange(1, 40),
                )
            )
            self.granted += [(job.clip_id, job.fence) for job in jobs]
            self.believed |= {job.clip_id: job.fence for job in jobs}
            for clip_id in self.chance.sample(sorted(self.believed), len(self.believed) // 2):
                await self.end(clip_id, self.believed.pop(clip_id))
            for clip_id in list(self.believed)[:3]:
                await self.end(clip_id, self.believed.pop(clip_id))

    async def end(self, clip_id: str, fence: int) -> None:
        def deliver_if_held(tx: Connection) -> bool:
            return is_held(tx, clip_id, fence) and settle(tx, clip_id, DELIVERED, NOW).changed

        if await self.write(deliver_if_held):
            self.charged.append(clip_id)

    async def write(self, fn: Callable[[Connection], T]) -> T:
        return await self.database.write(fn)


def test_many_pollers_settle_every_job_once_though_they_take_each_other_for_dead(
    replicas: list[Database], seed: int
) -> None:
    count = 120
    for number in range(count):
        submit(replicas[0], number, "process_dead")
    pollers = [Poller(number, one, seed) for number, one in enumerate(replicas)]
    with ThreadPoolExecutor(len(pollers)) as threads:
        list(threads.map(lambda poller: asyncio.run(poller.run()), pollers))
    charged = Counter(clip_id for poller in pollers for clip_id in poller.charged)
    assert sorted(charged.values()) == [1] * count
    granted = Counter(grant for poller in pollers for grant in poller.granted)
    assert set(granted.values()) == {1}, "two owners at one fence"
    kinds = rows_of(replicas[0], "SELECT kind, COUNT(*) FROM entries GROUP BY kind ORDER BY kind")
    assert kinds == [("charge", count), ("hold", count)]
    assert rows_of(replicas[0], "SELECT COUNT(*) FROM keepings") == [(count,)]
    assert read(replicas[0], verify) == []


def test_replicas_that_start_together_share_the_dead_ones_jobs_out(
    replicas: list[Database],
) -> None:
    write(replicas[0], lambda tx: many_jobs(tx, 400, "process_dead"))
    for number, database in enumerate(replicas):
        write(database, partial(beat, process_id=f"process_{number}", now=NOW))

    def take(number: int) -> list[JobRow]:
        return write(replicas[number], lambda tx: take_over(tx, f"process_{number}", NOW, 150))

    with ThreadPoolExecutor(len(replicas)) as threads:
        shares = list(threads.map(take, range(len(replicas))))
    every = [job.clip_id for jobs in shares for job in jobs]
    assert len(every) == len(set(every)) == 400
    assert sorted(map(len, shares)) == [0, 100, 150, 150]


DEEDS: dict[str, tuple[Callable[[Connection], object], str]] = {
    "taking over": (lambda tx: take_over(tx, NEW, NOW, 9), "jobs_unfinished"),
    "letting go": (lambda tx: let_go(tx, ONE), "jobs_unfinished"),
    "the oldest": (oldest_unfinished, "jobs_unfinished"),
    "what is unfollowed": (lambda tx: unfollowed(tx, ONE, ()), "jobs_unfinished"),
    "what is held": (lambda tx: held_by(tx, ONE), "jobs_unfinished"),
    "whether any is free": (lambda tx: is_any_free(tx, NOW), "jobs_unfinished"),
    "orphans": (lambda tx: orphans(tx, NOW, NEW), "clips_unsettled"),
}


@pytest.mark.parametrize("what", DEEDS)
def test_no_look_for_unfinished_jobs_reads_the_finished_ones(database: Database, what: str) -> None:
    deed, index = DEEDS[what]
    submit(database, 1)
    deliver(database, 2)
    plan = plans_of(database, deed)
    assert index in plan
    whole = [
        line
        for line in plan.splitlines()
        if line.strip(" ->").startswith("Seq Scan on") or line in {"SCAN jobs", "SCAN keepings"}
    ]
    assert [line for line in whole if "processes" not in line] == []


def test_the_database_keeps_progress_within_a_hundred(database: Database) -> None:
    clip_id = submit(database, 1)
    beyond = text("UPDATE jobs SET percent = 101 WHERE clip_id = :clip_id")
    with pytest.raises(IntegrityError):
        write(database, lambda tx: tx.execute(beyond, {"clip_id": clip_id}))
    assert job_of(database, clip_id)[2] == 0
