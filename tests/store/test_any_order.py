"""Whatever happens, in whatever order: hold = charge + release, and every count is its fold."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import psycopg
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select

from proxy.core import budget, clip
from proxy.core.budget import Limits, OverLimit, Used
from proxy.core.clip import Impossible, State
from proxy.core.failure import Reason
from proxy.core.ledger import Entry, Kind, balance, broken
from proxy.store.admission import Admitted, admit
from proxy.store.audit import verify
from proxy.store.clips import SETTLED_AS, settle
from proxy.store.database import Database
from proxy.store.tables import BUDGETS, CLIPS, ENTRIES, FLIGHTS, VENDOR_SCOPE
from proxy.store.tenants import set_tenant
from tests.postgres import Postgres
from tests.store.asks import MICROS, NOW, RIVAL, TEAM, ask, name_of, read, write
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
            resolved = one.state in SETTLED_AS
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


def assert_whole_in_any_order(fresh: Callable[[], str], examples: int, steps: int) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(fresh()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def test_any_order_of_events_keeps_the_ledger_whole(sqlite_template: Path, tmp_path: Path) -> None:
    def fresh() -> str:
        for left in tmp_path.iterdir():
            left.unlink()
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"

    assert_whole_in_any_order(fresh, examples=30, steps=30)


def test_any_order_of_events_keeps_the_ledger_whole_on_postgres_too(
    postgres: Postgres, postgres_template: str
) -> None:
    url = postgres.url(postgres_template)

    def fresh() -> str:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RESTORE)
        return url

    assert_whole_in_any_order(fresh, examples=8, steps=20)
