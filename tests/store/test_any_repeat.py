"""Whatever is repeated, in any order, is bought once; what is given again costs nothing.

All requests here are for the same thing, so that whatever could be taken for another one is.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
from hypothesis import strategies as st
from hypothesis.stateful import multiple, rule

from proxy.core import budget
from proxy.core.budget import OverLimit
from proxy.core.clip import State
from proxy.core.ledger import Entry, Kind
from proxy.core.replay import JOINABLE, Earlier, Why
from proxy.store.admission import Admission, Admitted, admit
from proxy.store.answers import forget_expired
from proxy.store.earlier import free_key
from tests.postgres import Postgres
from tests.store.asks import MICROS, NOW, RIVAL, TEAM, ask, give_again, write
from tests.store.conftest import RESTORE
from tests.store.test_any_order import AnyOrder, Expected, assert_whole_in_any_order

TENANTS = st.sampled_from([TEAM, TEAM, RIVAL])
HOURS = timedelta(hours=48)
WINDOW = timedelta(minutes=15)


@dataclass
class Bought:
    """A request that was let in, and the counts at which it was asked for or joined."""

    tenant_id: str
    at: datetime
    clip_ids: tuple[str, ...]
    counts: set[int] = field(default_factory=set)


class AnyRepeat(AnyOrder):
    """Two tenants who ask for one thing again and again, with keys and counts of tries."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.bought: dict[str, Bought] = {}
        self.named: dict[tuple[str, str], tuple[str, datetime]] = {}

    @rule(minutes=st.integers(0, 15))
    def minutes_pass(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @rule(
        target=AnyOrder.clips,
        tenant_id=TENANTS,
        count=st.integers(1, 3),
        key=st.sampled_from([None, None, "a", "b"]),
        tries=st.integers(0, 2),
    )
    def request_comes(  # in place of the plain one
        self, tenant_id: str, count: int, key: str | None, tries: int
    ) -> object:
        self.asked += 1
        names = {"idempotency_key": key, "key_expires_at": self.now + HOURS}
        wanted = ask(self.asked, count, tenant_id, self.now, retry_count=tries, **names)
        month = budget.month_of(self.now)
        refusal = budget.admit(
            self.limits[tenant_id], self.used(tenant_id, month), count, count * MICROS, self.now
        )
        earlier = self.earlier(wanted)
        outcome = write(self.database, lambda tx: admit(tx, wanted))
        if earlier is not None:
            assert outcome == earlier
            return multiple()
        if refusal is not None:
            assert isinstance(outcome, OverLimit)
            return multiple()
        assert isinstance(outcome, Admitted)
        one = Bought(tenant_id, self.now, wanted.clip_ids)
        self.bought[wanted.generation_id] = one
        if key is not None:
            self.named[tenant_id, key] = (wanted.generation_id, self.now + HOURS)
        elif tries:
            one.counts.add(tries)
        for clip_id in wanted.clip_ids:
            hold = Entry(Kind.HOLD, clip_id, tenant_id, MICROS, self.now)
            self.expected[clip_id] = Expected(tenant_id, month, entries=[hold])
        return multiple(*wanted.clip_ids)

    def earlier(self, wanted: Admission) -> Earlier | None:
        """What `wanted` repeats, in the issue's own words."""
        if wanted.idempotency_key is not None:
            place = (wanted.tenant_id, wanted.idempotency_key)
            found, until = self.named.get(place, ("", NOW))
            return Earlier(found, Why.IDEMPOTENCY) if until > wanted.now else None
        names = {generation_id for generation_id, _ in self.named.values()}
        fits = [
            (one.at, generation_id)
            for generation_id, one in self.bought.items()
            if one.tenant_id == wanted.tenant_id
            and one.at > wanted.now - WINDOW
            and generation_id not in names
            and wanted.retry_count not in one.counts
            and any(self.expected[clip_id].state in JOINABLE for clip_id in one.clip_ids)
        ]
        if not wanted.retry_count or not fits:
            return None
        _, latest = max(fits)
        self.bought[latest].counts.add(wanted.retry_count)
        return Earlier(latest, Why.RETRY)

    @rule(tenant_id=TENANTS, key=st.sampled_from(["a", "b"]))
    def key_is_let_go(self, tenant_id: str, key: str) -> None:
        generation_id, _ = self.named.pop((tenant_id, key), ("gen_none", NOW))
        write(self.database, lambda tx: free_key(tx, generation_id))

    @rule()
    def what_is_over_is_forgotten(self) -> None:
        write(self.database, lambda tx: forget_expired(tx, self.now))
        self.named = {key: one for key, one in self.named.items() if one[1] > self.now}

    @rule(target=AnyOrder.clips, of=AnyOrder.clips)
    def answer_is_given_again(self, of: str) -> object:
        self.asked += 1
        tenant_id = self.expected[of].tenant_id
        found = (gen for gen, one in self.bought.items() if of in one.clip_ids)
        first = next(found, "gen_that_was_not_bought")
        clip_ids = self.bought[first].clip_ids if first in self.bought else ()
        delivered = [one for one in clip_ids if self.expected[one].state is State.DELIVERED]
        avoided = give_again(self.database, self.asked, first, tenant_id, now=self.now)
        assert (avoided.clips, avoided.micros) == (len(delivered), len(delivered) * MICROS)
        again = [f"video_{self.asked}_{position}" for position in range(len(delivered))]
        month = budget.month_of(self.now)
        for clip_id in again:
            self.expected[clip_id] = Expected(tenant_id, month, State.REPLAYED)
        return multiple(*again)


def test_any_order_of_repeats_buys_each_thing_once(sqlite_template: Path, tmp_path: Path) -> None:
    def fresh() -> str:
        for left in tmp_path.iterdir():
            left.unlink()
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'ledger.db')}"

    assert_whole_in_any_order(AnyRepeat, fresh, examples=30, steps=40)


def test_any_order_of_repeats_buys_each_thing_once_on_postgres_too(
    postgres: Postgres, postgres_template: str
) -> None:
    url = postgres.url(postgres_template)

    def fresh() -> str:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(RESTORE)
        return url

    assert_whole_in_any_order(AnyRepeat, fresh, examples=8, steps=25)
