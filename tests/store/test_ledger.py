"""Usage stands where decision 15 puts it, adds up to the charges, and shows what is open."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.core.statement import Dimension, Line, Tally
from proxy.store.clips import settle
from proxy.store.database import Database
from proxy.store.generations import AttemptEnd, end_attempt
from proxy.store.ledger import Spent, Unsettled, spent, unsettled, usage
from tests.store.asks import MICROS, MONTH, NOW, RIVAL, TEAM, let_in, read, write

DECEMBER = NOW + timedelta(days=20)
DELIVERED = clip.Delivered("https://cdn.example/clip.mp4")
FAILED = clip.Failed(Reason.POLICY_AUDIO)
LOST = clip.Lost(Reason.LOST)


def end(database: Database, clip_id: str, event: clip.Event, now: datetime = NOW) -> None:
    write(database, lambda tx: settle(tx, clip_id, clip.Opened(), now))
    write(database, lambda tx: settle(tx, clip_id, event, now))


@pytest.fixture
def used(database: Database) -> Database:
    """Team: delivered, failed, unknown, open, and one delivered in December; rival: one."""
    let_in(database, 1, 4)
    let_in(database, 2)
    let_in(database, 3, tenant_id=RIVAL)
    end(database, "video_1_0", DELIVERED)
    end(database, "video_1_1", FAILED)
    end(database, "video_1_2", LOST)
    end(database, "video_2_0", DELIVERED, DECEMBER)
    end(database, "video_3_0", DELIVERED)
    return database


def lines(
    database: Database, month: str, *by: Dimension, tenant_id: str | None = None
) -> list[Line]:
    return read(database, lambda tx: usage(tx, month, by, tenant_id))


TEAMS = Tally(requested=4, delivered=1, failed=1, unknown=1, amount_micros=MICROS)
ONE = Tally(requested=1, delivered=1, amount_micros=MICROS)


def test_a_clip_stands_in_the_month_of_its_end_and_an_open_one_in_its_acceptances(
    used: Database,
) -> None:
    assert lines(used, MONTH, Dimension.TENANT) == [Line(("rival",), ONE), Line(("team",), TEAMS)]
    assert lines(used, "2026-12", Dimension.TENANT) == [Line(("team",), ONE)]
    assert lines(used, "2026-10", Dimension.TENANT) == []


def test_usage_can_be_broken_down_by_everything(used: Database) -> None:
    assert lines(used, "2026-12", *Dimension) == [
        Line(("team", "veo-3.1", "2026-12-12", "key_team", "cc-team"), ONE)
    ]
    assert lines(used, MONTH, Dimension.DAY) == [Line(("2026-11-22",), TEAMS + ONE)]
    assert lines(used, MONTH) == [Line((), TEAMS + ONE)]
    assert lines(used, "2026-10") == []


def test_a_tenant_sees_its_own_alone(used: Database) -> None:
    assert lines(used, MONTH, tenant_id=RIVAL) == [Line((), ONE)]
    assert read(used, lambda tx: unsettled(tx, RIVAL)) == Unsettled(0, 0, 0)


def test_what_is_written_off_is_counted_and_costs_nothing(used: Database) -> None:
    write(used, lambda tx: settle(tx, "video_1_2", clip.GaveUp(), NOW))
    (line,) = lines(used, MONTH, tenant_id=TEAM)
    assert (line.tally.written_off, line.tally.unknown) == (1, 0)
    assert line.tally.amount_micros == MICROS


def test_what_is_open_stands_apart_with_what_it_may_cost(used: Database) -> None:
    maybe = AttemptEnd("answered", NOW, 504, None, maybe_accepted=True, exposure_micros=7)
    write(used, lambda tx: end_attempt(tx, "gen_1", 1, maybe))
    write(used, lambda tx: end_attempt(tx, "gen_3", 1, maybe))
    assert read(used, unsettled) == Unsettled(2, 2 * MICROS, 14)
    assert read(used, lambda tx: unsettled(tx, TEAM)) == Unsettled(2, 2 * MICROS, 7)


def test_a_budgets_month_is_that_of_acceptance_whenever_the_clip_ends(used: Database) -> None:
    assert read(used, lambda tx: spent(tx, TEAM, MONTH)) == Spent(4, 4 * MICROS)
    assert read(used, lambda tx: spent(tx, TEAM, "2026-12")) == Spent()
