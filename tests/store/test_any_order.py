"""Whatever happens, in whatever order: hold = charge + release, and every count is its fold.

And whoever does it: jobs and bytes have one owner at a fence, and what was ended stays ended.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from proxy.core import budget, clip
from proxy.core.budget import Limits, OverLimit, Used
from proxy.core.clip import Impossible, State
from proxy.core.failure import Reason
from proxy.core.ledger import Entry, Kind, balance, broken
from proxy.flows.settle import Settlement
from proxy.store.admission import Admitted, admit
from proxy.store.audit import verify
from proxy.store.clips import SETTLED_AS, settle
from proxy.store.database import Database
from proxy.store.jobs import is_held, let_go, take_over
from proxy.store.keepings import (
    claim_waiting,
    evict,
    put_off,
    record_kept,
    record_lost,
    record_missing,
)
from proxy.store.processes import beat
from proxy.store.tables import BUDGETS, CLIPS, ENTRIES, FLIGHTS, JOBS, KEEPINGS, VENDOR_SCOPE
from proxy.store.tenants import set_tenant
from proxy.store.videos import Deletion, delete_video
from tests.postgres import Postgres
from tests.store.asks import (
    MICROS,
    NOW,
    RIVAL,
    TEAM,
    ask,
    let_in,
    name_of,
    news,
    read,
    submit,
    write,
)
from tests.store.conftest import RESTORE

EVENTS: tuple[clip.Event, ...] = (
    clip.Opened(),
    clip.Queued(),
    clip.Refused(Reason.VENDOR_CAPACITY),
    clip.Progressed(50.0),
    clip.Delivered("https://cdn.example/clip.mp4"),
    clip.Failed(Reason.POLICY_AUDIO),
    clip.Lost(Reason.LOST),
    clip.Found(clip.Progressed(60.0)),
    clip.Found(clip.Delivered("https://cdn.example/found.mp4")),
    clip.Found(clip.Failed(Reason.NO_CLIP)),
    clip.GaveUp(),
)


@dataclass
class Expected:
    """What the rules of `core` alone say about one clip."""

    tenant_id: str
    month: str
    state: State = State.ACCEPTED
    entries: list[Entry] = field(default_factory=list)


class AnyOrder(RuleBasedStateMachine):
    """Two tenants, any requests, any news, as time passes."""

    clips = Bundle("clips")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.database = Database.open(url)
        self.now = NOW
        self.asked = 0
        self.expected: dict[str, Expected] = {}
        self.limits = {TEAM: Limits(), RIVAL: Limits()}

    def teardown(self) -> None:
        findings = read(self.database, verify)
        self.database.close()
        assert findings == []

    @rule(days=st.integers(0, 20), seconds=st.integers(0, 90))
    def time_passes(self, days: int, seconds: int) -> None:
        self.now += timedelta(days=days, seconds=seconds)

    @rule(
        tenant_id=st.sampled_from([TEAM, RIVAL]),
        clips=st.none() | st.integers(0, 8),
        micros=st.none() | st.integers(0, 8 * MICROS),
        flying=st.none() | st.integers(0, 6),
    )
    def limits_change(
        self, tenant_id: str, clips: int | None, micros: int | None, flying: int | None
    ) -> None:
        self.limits[tenant_id] = Limits(clips, micros, flying)
        write(
            self.database,
            lambda tx: set_tenant(
                tx,
                name_of(tenant_id),
                clips_per_month=clips,
                micros_per_month=micros,
                clips_in_flight=flying,
            ),
        )

    @rule(target=clips, tenant_id=st.sampled_from([TEAM, TEAM, RIVAL]), count=st.integers(1, 4))
    def request_comes(self, tenant_id: str, count: int) -> object:
        self.asked += 1
        wanted = ask(self.asked, count, tenant_id, self.now)
        month = budget.month_of(self.now)
        refusal = budget.admit(
            self.limits[tenant_id], self.used(tenant_id, month), count, count * MICROS, self.now
        )
        outcome = write(self.database, lambda tx: admit(tx, wanted))
        if refusal is not None:
            assert isinstance(outcome, OverLimit)
            assert outcome.limit == refusal.limit
            return multiple()
        assert isinstance(outcome, Admitted)
        for clip_id in wanted.clip_ids:
            one = Expected(tenant_id, month)
            one.entries.append(Entry(Kind.HOLD, clip_id, tenant_id, MICROS, self.now))
            self.expected[clip_id] = one
        return multiple(*wanted.clip_ids)

    @rule(clip_id=clips, event=st.sampled_from(EVENTS))
    def news_comes(self, clip_id: str, event: clip.Event) -> None:
        one = self.expected[clip_id]
        settled = write(self.database, lambda tx: settle(tx, clip_id, event, self.now))
        after = clip.advance(one.state, event)
        if isinstance(after, Impossible):
            assert not settled.changed
            return
        kind = SETTLED_AS.get(after)
        if kind is not None:
            one.entries.append(Entry(kind, clip_id, one.tenant_id, MICROS, self.now))
        assert settled.changed == (after is not one.state)
        one.state = after

    @invariant()
    def every_count_is_its_fold(self) -> None:
        states, entries, budgets, flights = read(self.database, look)
        assert states == {clip_id: one.state for clip_id, one in self.expected.items()}
        assert entries == sorted(
            (entry.id, entry.amount_micros)
            for one in self.expected.values()
            for entry in one.entries
        )
        assert {key: used for key, used in budgets.items() if used != (0, 0)} == self.budgets()
        assert flights == self.flights()
        for one in self.expected.values():
            assert broken(one.entries) is None
            sums = balance(one.entries)
            resolved = one.state in SETTLED_AS or one.state is State.REPLAYED
            assert (sums.held == sums.charged + sums.released) == resolved

    def budgets(self) -> dict[tuple[str, str], tuple[int, int]]:
        folds: dict[tuple[str, str], list[Entry]] = defaultdict(list)
        for one in self.expected.values():
            folds[one.tenant_id, one.month] += one.entries
        committed = {key: balance(entries).committed for key, entries in folds.items()}
        return {key: (micros // MICROS, micros) for key, micros in committed.items() if micros}

    def flights(self) -> dict[str, int]:
        flying = {VENDOR_SCOPE: 0, TEAM: 0, RIVAL: 0}
        for one in self.expected.values():
            if one.state in clip.OPEN:
                flying[one.tenant_id] += 1
                flying[VENDOR_SCOPE] += 1
        return flying

    def used(self, tenant_id: str, month: str) -> Used:
        clips, micros = self.budgets().get((tenant_id, month), (0, 0))
        return Used(clips, micros, self.flights()[tenant_id])


Look = tuple[
    dict[str, State], list[tuple[str, int]], dict[tuple[str, str], tuple[int, int]], dict[str, int]
]


def look(tx: Connection) -> Look:
    states = {row[0]: State(row[1]) for row in tx.execute(select(CLIPS.c.id, CLIPS.c.state))}
    entries = sorted(
        (row[0], row[1]) for row in tx.execute(select(ENTRIES.c.id, ENTRIES.c.amount_micros))
    )
    budgets = {(row[0], row[1]): (row[2], row[3]) for row in tx.execute(select(BUDGETS))}
    flights = {row[0]: row[1] for row in tx.execute(select(FLIGHTS))}
    return states, entries, budgets, flights


@dataclass
class Owned:
    """A job, or a clip's bytes, as the rules alone would have it."""

    place: datetime
    state: str = "waiting"
    owner: str | None = None
    fence: int = 0
    next_try_at: datetime = NOW
    was_kept: bool = False


@dataclass
class Made:
    """A clip, with its job if it has one, and its bytes if it was delivered."""

    state: State
    job: Owned | None = None
    bytes: Owned | None = None
    deleted: bool = False


PROCESSES = ("process_one", "process_two")
LEASE = timedelta(seconds=30)
CLIPS_MAX = 4  # few, so that much happens to each
SHA = "5" * 64
HEARD: tuple[clip.Event, ...] = (
    clip.Progressed(50.0),
    clip.Delivered("https://cdn.example/clip.mp4"),
    clip.Delivered(""),
    clip.Failed(Reason.POLICY_AUDIO),
    clip.Lost(Reason.LOST),
)
processes = st.sampled_from(PROCESSES)


class AnyHands(RuleBasedStateMachine):
    """Two processes that follow, fetch and fall silent, each acting on what it once was granted."""

    clips = Bundle("clips")

    def __init__(self, url: str) -> None:
        super().__init__()
        self.database = Database.open(url)
        self.now = NOW
        self.asked = 0
        self.made: dict[str, Made] = {}
        self.seen = dict.fromkeys(PROCESSES, NOW - 2 * LEASE)
        self.granted: list[tuple[str, str, int]] = []

    def teardown(self) -> None:
        findings = read(self.database, verify)
        self.database.close()
        assert findings == []

    def grant(self, what: str, clip_id: str, fence: int) -> None:
        """Nobody, not even the same process, is granted a fence twice."""
        assert (what, clip_id, fence) not in self.granted
        self.granted.append((what, clip_id, fence))

    def believed(self, what: str, clip_id: str, late: int) -> int | None:
        """A fence that some process was granted: the last, or one that is so many older."""
        fences = [fence for kind, one, fence in self.granted if (kind, one) == (what, clip_id)]
        return None if late >= len(fences) else fences[-1 - late]

    def is_free(self, owned: Owned) -> bool:
        return owned.owner is None or self.seen[owned.owner] < self.now - LEASE

    @rule(seconds=st.sampled_from([0, 1, 20, 31]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(process=processes)
    def somebody_lives(self, process: str) -> None:
        write(self.database, partial(beat, process_id=process, now=self.now))
        self.seen[process] = self.now

    @rule(process=processes)
    def somebody_lets_go(self, process: str) -> None:
        write(self.database, partial(let_go, process_id=process))
        for made in self.made.values():
            for owned in (made.job, made.bytes):
                if owned is not None and owned.owner == process and owned.state == "waiting":
                    owned.owner = None

    @initialize(target=clips, process=processes)
    def job_was_submitted(self, process: str) -> str:
        return self.job_is_submitted(process)

    @precondition(lambda self: len(self.made) < CLIPS_MAX)
    @rule(target=clips, process=processes)
    def another_is_submitted(self, process: str) -> str:
        return self.job_is_submitted(process)

    def job_is_submitted(self, process: str) -> str:
        self.asked += 1
        clip_id = submit(self.database, self.asked, process, now=self.now)
        self.made[clip_id] = Made(State.QUEUED, Owned(self.now, owner=process))
        self.grant("job", clip_id, 0)
        return clip_id

    @initialize(target=clips)
    def clips_were_delivered(self) -> object:
        """So that there are bytes to be fetched from the beginning."""
        self.asked += 1
        clip_ids = let_in(self.database, self.asked, 2, now=self.now, prompt="a heron").clip_ids
        for clip_id in clip_ids:
            self.made[clip_id] = Made(State.GENERATING)
            for event in (clip.Opened(), HEARD[1]):
                news(self.database, clip_id, event, self.now)
            self.happen(clip_id, HEARD[1])
        return multiple(*clip_ids)

    @rule(process=processes, jobs_max=st.integers(1, 3))
    def jobs_are_taken_over(self, process: str, jobs_max: int) -> None:
        wanted = {
            clip_id: made.job
            for clip_id, made in self.made.items()
            if made.job is not None and made.job.state == "waiting" and self.is_free(made.job)
        }
        first = sorted(wanted, key=lambda clip_id: (wanted[clip_id].place, clip_id))[:jobs_max]
        taking = partial(take_over, dead_before=self.now - LEASE, jobs_max=jobs_max)
        jobs = write(self.database, partial(taking, process_id=process))
        assert sorted(job.clip_id for job in jobs) == sorted(first)
        for job in jobs:
            owned = wanted[job.clip_id]
            owned.owner, owned.fence = process, owned.fence + 1
            assert (job.fence, job.state) == (owned.fence, self.made[job.clip_id].state)
            self.grant("job", job.clip_id, job.fence)

    @rule(clip_id=clips, late=st.integers(0, 1), event=st.sampled_from(HEARD))
    def follower_hears(self, clip_id: str, late: int, event: clip.Event) -> None:
        """It settles under the fence that it has, or under one that it or another had."""
        fence = self.believed("job", clip_id, late)
        if fence is None:
            return
        held = partial(is_held, clip_id=clip_id, fence=fence)
        settlement = Settlement([(clip_id, event)], self.now, held=held)
        settled = write(self.database, settlement.write)
        job = self.made[clip_id].job
        assert job is not None
        assert bool(settled) == (job.state == "waiting" and job.fence == fence)
        if settled:
            self.happen(clip_id, event)

    @rule(clip_id=clips, event=st.sampled_from([*HEARD, clip.GaveUp()]))
    def others_hear(self, clip_id: str, event: clip.Event) -> None:
        """The pump of a chat, a sweep, or whoever writes an unknown off."""
        write(self.database, Settlement([(clip_id, event)], self.now).write)
        self.happen(clip_id, event)

    def happen(self, clip_id: str, event: clip.Event) -> None:
        made = self.made[clip_id]
        after = clip.advance(made.state, event)
        if made.state is State.UNKNOWN and isinstance(
            event, clip.Progressed | clip.Delivered | clip.Failed
        ):
            after = clip.advance(made.state, clip.Found(event))
        if isinstance(after, Impossible):
            return
        made.state = after
        if after in clip.FINAL and made.job is not None:
            made.job.state = "ended"
        if after is State.DELIVERED:
            made.bytes = Owned(self.now + clip.LINK_LIFE, next_try_at=self.now)

    @rule(process=processes, clips_max=st.integers(1, 3), knows=st.booleans())
    def clips_are_claimed(self, process: str, clips_max: int, knows: bool) -> None:
        waiting = {
            clip_id: made.bytes
            for clip_id, made in self.made.items()
            if made.bytes is not None and made.bytes.state == "waiting"
        }
        mine = [clip_id for clip_id, owned in waiting.items() if owned.owner == process]
        besides = mine if knows else []
        due = [
            clip_id
            for clip_id, owned in waiting.items()
            if owned.next_try_at <= self.now
            and clip_id not in besides
            and (clip_id in mine or self.is_free(owned))
        ]
        first = sorted(due, key=lambda clip_id: (waiting[clip_id].place, clip_id))[:clips_max]
        claiming = partial(claim_waiting, now=self.now, dead_before=self.now - LEASE)
        found = write(
            self.database,
            partial(claiming, process_id=process, clips_max=clips_max, besides=besides),
        )
        assert [one.clip_id for one in found] == first
        for one in found:
            owned = waiting[one.clip_id]
            owned.owner, owned.fence = process, owned.fence + 1
            assert one.fence == owned.fence
            self.grant("bytes", one.clip_id, one.fence)

    @rule(
        clip_id=clips,
        late=st.integers(0, 1),
        how=st.sampled_from(["put off", "kept", "kept", "lost"]),
    )
    def fetching_ends(self, clip_id: str, late: int, how: str) -> None:
        """Whoever had it says so under its fence, and sometimes says it twice."""
        fence, owned = self.believed("bytes", clip_id, late), self.made[clip_id].bytes
        if fence is None or owned is None:
            return
        later = self.now + timedelta(seconds=20)
        says: dict[str, Callable[[Connection], bool]] = {
            "put off": lambda tx: put_off(tx, clip_id, fence, "unreachable", later),
            "kept": lambda tx: record_kept(tx, clip_id, fence, SHA, 7, self.now),
            "lost": lambda tx: record_lost(tx, clip_id, fence, "expired"),
        }
        believed = write(self.database, says[how])
        held = owned.state == "waiting" and owned.fence == fence
        if how == "put off":
            held = held and owned.owner is not None
        # Bytes in hand outdo one who gave the clip up; not one who missed them.
        held = held or (how == "kept" and owned.state == "lost" and not owned.was_kept)
        again = how == "kept" and owned.state == "kept" and owned.fence == fence
        assert believed == (held or again)
        if held and how == "put off":
            owned.owner, owned.next_try_at = None, later
        elif held:
            owned.owner, owned.state = None, how
            owned.was_kept = owned.was_kept or how == "kept"

    @rule(clip_id=clips, late=st.booleans())
    def bytes_go_missing(self, clip_id: str, late: bool) -> None:
        owned = self.made[clip_id].bytes
        now = self.now if owned is None or not late else owned.place
        missing = partial(record_missing, clip_id=clip_id, sha256=SHA, trouble="missing", now=now)
        state = write(self.database, missing)
        if owned is None or owned.state != "kept":
            assert state is None
            return
        alive = now < owned.place
        assert state == ("waiting" if alive else "lost")
        owned.state, owned.fence, owned.next_try_at = state, owned.fence + 1, now

    @rule(clip_ids=st.lists(clips, max_size=3))
    def clips_are_evicted(self, clip_ids: list[str]) -> None:
        kept = set()
        for clip_id in clip_ids:
            owned = self.made[clip_id].bytes
            if owned is not None and owned.state == "kept":
                owned.state = "evicted"
                kept.add(clip_id)
        assert set(write(self.database, partial(evict, clip_ids=set(clip_ids)))) == kept

    @rule(clip_id=clips, tenant_id=st.sampled_from([TEAM, TEAM, RIVAL]))
    def clip_is_deleted(self, clip_id: str, tenant_id: str) -> None:
        made = self.made[clip_id]
        deleting = partial(delete_video, tenant_id=tenant_id, clip_id=clip_id, now=self.now)
        deletion = write(self.database, deleting)
        if made.deleted or tenant_id == RIVAL:
            assert deletion is Deletion.ABSENT
        elif made.state not in clip.FINAL:
            assert deletion is Deletion.UNFINISHED
        else:
            assert deletion is Deletion.DONE
            made.deleted = True
            if made.bytes is not None:
                made.bytes.state, made.bytes.owner = "deleted", None

    @invariant()
    def rows_are_what_the_rules_say(self) -> None:
        clips, jobs, bytes_, charged = read(self.database, look_at_hands)
        made = self.made
        assert clips == {clip_id: (one.state, one.deleted) for clip_id, one in made.items()}
        assert jobs == {
            clip_id: (one.job.owner, one.job.fence, one.job.state == "ended")
            for clip_id, one in made.items()
            if one.job is not None
        }
        assert bytes_ == {
            clip_id: (one.bytes.state, one.bytes.owner, one.bytes.fence, one.bytes.next_try_at)
            for clip_id, one in made.items()
            if one.bytes is not None
        }
        delivered = {clip_id for clip_id, one in made.items() if one.state is State.DELIVERED}
        assert sorted(charged) == sorted(delivered) == sorted(bytes_)


Hands = tuple[
    dict[str, tuple[State, bool]],
    dict[str, tuple[str | None, int, bool]],
    dict[str, tuple[str, str | None, int, datetime]],
    list[str],
]


def look_at_hands(tx: Connection) -> Hands:
    clips = tx.execute(select(CLIPS.c.id, CLIPS.c.state, CLIPS.c.deleted_at))
    jobs = tx.execute(select(JOBS.c.clip_id, JOBS.c.owner, JOBS.c.fence, JOBS.c.ended_at))
    columns = ("clip_id", "state", "owner", "fence", "next_try_at")
    keepings = tx.execute(select(*(KEEPINGS.c[name] for name in columns)))
    charged = tx.execute(select(ENTRIES.c.clip_id).where(ENTRIES.c.kind == Kind.CHARGE.value))
    return (
        {row[0]: (State(row[1]), row[2] is not None) for row in clips},
        {row[0]: (row[1], row[2], row[3] is not None) for row in jobs},
        {row[0]: (row[1], row[2], row[3], row[4]) for row in keepings},
        list(charged.scalars()),
    )


Machine = Callable[[str], RuleBasedStateMachine]


def assert_whole_in_any_order(
    machine: Machine, fresh: Callable[[], str], examples: int, steps: int
) -> None:
    run_state_machine_as_test(
        lambda: machine(fresh()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.parametrize("machine", [AnyOrder, AnyHands])
def test_any_order_of_events_keeps_the_ledger_whole(
    sqlite_template: Path, tmp_path: Path, machine: Machine
) -> None:
    def fresh() -> str:
        for left in tmp_path.iterdir():
            left.unlink()
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"

    assert_whole_in_any_order(machine, fresh, examples=30, steps=40)


@pytest.mark.parametrize("machine", [AnyOrder, AnyHands])
def test_any_order_of_events_keeps_the_ledger_whole_on_postgres_too(
    postgres: Postgres, postgres_template: str, machine: Machine
) -> None:
    url = postgres.url(postgres_template)

    def fresh() -> str:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RESTORE)
        return url

    assert_whole_in_any_order(machine, fresh, examples=8, steps=20)
