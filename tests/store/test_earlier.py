"""Of any number of requests that are the same one, one is bought, and all others are told so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from proxy.core import clip
from proxy.core.clip import State
from proxy.core.failure import Reason
from proxy.core.replay import JOINABLE, RETRY_WINDOW, Earlier, Why
from proxy.store import earlier
from proxy.store.admission import Admission, Admitted, KeyGone, Outcome, admit
from proxy.store.answers import KeptAnswer, keep_answer
from proxy.store.audit import verify
from proxy.store.database import Database
from proxy.store.earlier import ALIKE_MAX, free_key, unname
from proxy.store.generations import GenerationEnd, end_generation
from proxy.store.keys import revoke_key
from proxy.store.tenants import set_tenant
from proxy.store.videos import delete_video
from tests.store.asks import (
    MICROS,
    NOW,
    RIVAL,
    TEAM,
    ask,
    budget_of,
    count_of,
    deliver,
    everything,
    give_again,
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

FIFTY = 50
LATER = NOW + timedelta(hours=48)
SECOND = timedelta(seconds=1)
OTHER_BODY = "1" * 64
LOST = clip.Lost(Reason.LOST)
REFUSED = clip.Refused(Reason.VENDOR_CAPACITY)
FAILED = clip.Failed(Reason.POLICY_AUDIO)
DELIVERED = clip.Delivered("https://cdn.example/clip.mp4")


def named(number: int, key: str = "the key", clips: int = 1, **changed: Any) -> Admission:
    """Request `number`, under an idempotency key."""
    return ask(number, clips, **{"idempotency_key": key, "key_expires_at": LATER, **changed})


def said_to(database: Database, wanted: Admission) -> Outcome:
    return write(database, lambda tx: admit(tx, wanted))


def at_once(servers: list[Database], asks: list[Admission]) -> list[Outcome]:
    """Every request at the same moment, dealt out among `servers`."""

    def of_one(number: int) -> list[Outcome]:
        async def all_of_them() -> list[Outcome]:
            mine = asks[number :: len(servers)]
            return await asyncio.gather(*(one(servers[number], wanted) for wanted in mine))

        return asyncio.run(all_of_them())

    async def one(server: Database, wanted: Admission) -> Outcome:
        return await server.write(lambda tx: admit(tx, wanted))

    with ThreadPoolExecutor(len(servers)) as threads:
        return [said for many in threads.map(of_one, range(len(servers))) for said in many]


@pytest.fixture
def servers(url: str) -> Iterator[list[Database]]:
    """Two servers of one database."""
    opened = [Database.open(url) for _ in range(2)]
    yield opened
    for server in opened:
        server.close()


def repeats(outcomes: list[Outcome]) -> list[Earlier]:
    return [said for said in outcomes if isinstance(said, Earlier)]


class TestKeys:
    def test_of_fifty_at_once_one_is_bought(self, servers: list[Database]) -> None:
        outcomes = at_once(servers, [named(number, clips=2) for number in range(FIFTY)])
        told = repeats(outcomes)
        assert sum(isinstance(said, Admitted) for said in outcomes) == 1
        assert len(told) == FIFTY - 1
        ((bought,),) = rows_of(servers[0], "SELECT id FROM generations")
        assert set(told) == {Earlier(bought, Why.IDEMPOTENCY)}
        assert count_of(servers[0], "entries") == 2
        assert count_of(servers[0], "attempts") == 1
        assert budget_of(servers[0]) == (2, 2 * MICROS)
        assert in_flight(servers[0]) == 2
        assert read(servers[0], verify) == []

    def test_fifty_keys_are_fifty_requests(self, servers: list[Database]) -> None:
        outcomes = at_once(servers, [named(number, str(number)) for number in range(FIFTY)])
        assert all(isinstance(said, Admitted) for said in outcomes)
        assert count_of(servers[0], "idempotency_keys") == FIFTY

    def test_a_repeat_writes_nothing(self, database: Database) -> None:
        said_to(database, named(1))
        before = everything(database)
        assert said_to(database, named(2)) == Earlier("gen_1", Why.IDEMPOTENCY)
        assert everything(database) == before

    def test_the_key_of_another_body_says_so(self, database: Database) -> None:
        said_to(database, named(1))
        other = said_to(database, named(2, body_hash=OTHER_BODY))
        assert other == Earlier("gen_1", Why.IDEMPOTENCY, same_body=False)
        assert count_of(database, "generations") == 1

    def test_another_tenants_key_is_another_key(self, database: Database) -> None:
        said_to(database, named(1))
        assert isinstance(said_to(database, named(2, tenant_id=RIVAL)), Admitted)
        assert said_to(database, named(3)) == Earlier("gen_1", Why.IDEMPOTENCY)
        assert said_to(database, named(4, tenant_id=RIVAL)) == Earlier("gen_2", Why.IDEMPOTENCY)

    def test_a_key_is_good_for_one_route(self, database: Database) -> None:
        said_to(database, named(1))
        assert isinstance(said_to(database, named(2, mode="video")), Admitted)
        assert said_to(database, named(3, mode="video")) == Earlier("gen_2", Why.IDEMPOTENCY)

    def test_a_key_means_the_same_until_it_expires_and_something_new_after(
        self, database: Database
    ) -> None:
        said_to(database, named(1))
        just_before = LATER - timedelta(microseconds=1)
        assert said_to(database, named(2, now=just_before)) == Earlier("gen_1", Why.IDEMPOTENCY)
        again = named(3, now=LATER, key_expires_at=LATER + SECOND, body_hash=OTHER_BODY)
        assert isinstance(said_to(database, again), Admitted)
        write(database, lambda tx: free_key(tx, "gen_1"))  # which is not its key any more
        same = named(4, now=LATER, body_hash=OTHER_BODY)
        assert said_to(database, same) == Earlier("gen_3", Why.IDEMPOTENCY)

    def test_a_key_that_is_let_go_buys_anew_and_no_other_is_let_go(
        self, database: Database
    ) -> None:
        said_to(database, named(1))
        said_to(database, named(2, "another"))
        write(database, lambda tx: free_key(tx, "gen_1"))
        assert isinstance(said_to(database, named(3)), Admitted)
        assert said_to(database, named(4, "another")) == Earlier("gen_2", Why.IDEMPOTENCY)

    def test_a_repeat_is_told_even_where_nothing_more_may_be_bought(
        self, database: Database
    ) -> None:
        write(database, lambda tx: set_tenant(tx, "team", clips_per_month=1, requests_per_minute=1))
        said_to(database, named(1))
        assert said_to(database, named(2)) == Earlier("gen_1", Why.IDEMPOTENCY)

    def test_a_refused_request_takes_no_key(self, database: Database) -> None:
        write(database, lambda tx: set_tenant(tx, "team", clips_per_month=0))
        before = everything(database)
        said_to(database, named(1))
        assert everything(database) == before

    def test_a_revoked_key_is_told_of_nothing(self, database: Database) -> None:
        said_to(database, named(1))
        write(database, lambda tx: revoke_key(tx, "key_team", NOW))
        assert said_to(database, named(2)) == KeyGone()

    def test_a_crash_leaves_neither_the_key_nor_the_generation(self, database: Database) -> None:
        def crash(tx: Connection) -> None:
            assert isinstance(admit(tx, named(1)), Admitted)
            assert tx.execute(text("SELECT count(*) FROM idempotency_keys")).scalar() == 1
            raise InterruptedError

        before = everything(database)
        with pytest.raises(InterruptedError):
            write(database, crash)
        assert everything(database) == before
        assert isinstance(said_to(database, named(1)), Admitted)

    def test_the_database_takes_no_key_for_a_generation_that_is_not_there(
        self, database: Database
    ) -> None:
        row = "('tenant_team', 'chat', 'k', 'gen_none', '', '2026-11-22', '2026-11-22')"
        with pytest.raises(IntegrityError):
            write(database, lambda tx: tx.execute(_insert_key(row)))
        let_in(database, 1)
        own = row.replace("gen_none", "gen_1")
        write(database, lambda tx: tx.execute(_insert_key(own)))
        assert count_of(database, "idempotency_keys") == 1

    def test_a_key_with_a_count_is_still_a_key(self, database: Database) -> None:
        """An SDK's repeat of a named request joins what has its name, and nothing else."""
        let_in(database, 1)
        assert isinstance(said_to(database, named(2, retry_count=1)), Admitted)
        assert said_to(database, named(3, retry_count=2)) == Earlier("gen_2", Why.IDEMPOTENCY)
        assert count_of(database, "joins") == 0


def _insert_key(row: str) -> Any:
    return text(f"INSERT INTO idempotency_keys VALUES {row}")


def repeat(number: int, count: int = 1, **changed: Any) -> Admission:
    """Request `number`, an SDK's own repeat."""
    return ask(number, retry_count=count, **{"now": NOW + SECOND, **changed})


EVENTS: dict[State, list[clip.Event]] = {
    State.ACCEPTED: [],
    State.GENERATING: [clip.Opened()],
    State.QUEUED: [clip.Queued()],
    State.IN_PROGRESS: [clip.Queued(), clip.Progressed(50)],
    State.UNKNOWN: [LOST],
    State.DELIVERED: [clip.Opened(), DELIVERED],
    State.FAILED: [REFUSED],
    State.WRITTEN_OFF: [LOST, clip.GaveUp()],
}


def bring(database: Database, clip_id: str, state: State) -> None:
    """Let happen to an accepted clip what leads to `state`."""
    for event in EVENTS[state]:
        news(database, clip_id, event)


class TestRepeats:
    @pytest.mark.parametrize("state", EVENTS)
    def test_a_repeat_joins_what_was_or_may_have_been_accepted(
        self, database: Database, state: State
    ) -> None:
        let_in(database, 1)
        bring(database, "video_1_0", state)
        said = said_to(database, repeat(2))
        if state in JOINABLE:
            assert said == Earlier("gen_1", Why.RETRY)
            assert count_of(database, "generations") == 1
        else:
            assert isinstance(said, Admitted)
        assert read(database, verify) == []

    def test_one_clip_that_was_delivered_is_enough(self, database: Database) -> None:
        let_in(database, 1, 2)
        bring(database, "video_1_0", State.FAILED)
        bring(database, "video_1_1", State.DELIVERED)
        assert said_to(database, repeat(2)) == Earlier("gen_1", Why.RETRY)

    def test_deliberate_twins_stay_two_clips(self, database: Database) -> None:
        let_in(database, 1)
        let_in(database, 2, now=NOW + SECOND)
        assert count_of(database, "clips") == 2
        assert budget_of(database) == (2, 2 * MICROS)

    def test_the_repeats_of_twins_join_one_each(self, database: Database) -> None:
        let_in(database, 1)
        let_in(database, 2, now=NOW + SECOND)
        for count in (1, 2):
            first = said_to(database, repeat(10 * count, count))
            second = said_to(database, repeat(10 * count + 1, count))
            assert [first, second] == [Earlier("gen_2", Why.RETRY), Earlier("gen_1", Why.RETRY)]
        assert count_of(database, "clips") == 2

    def test_repeats_of_one_count_at_once_join_as_many_as_there_are(
        self, servers: list[Database]
    ) -> None:
        for number in range(3):
            let_in(servers[0], number, now=NOW + number * SECOND)
        outcomes = at_once(servers, [repeat(100 + number) for number in range(10)])
        joined = sorted(said.generation_id for said in repeats(outcomes))
        assert joined == ["gen_0", "gen_1", "gen_2"]
        assert sum(isinstance(said, Admitted) for said in outcomes) == 7

    def test_a_repeat_that_had_to_buy_is_joined_by_its_own_next_repeat_alone(
        self, database: Database
    ) -> None:
        """Two callers whose first tries never came through buy one each, whoever comes first."""
        assert isinstance(said_to(database, repeat(1, 1)), Admitted)
        assert isinstance(said_to(database, repeat(2, 1)), Admitted)
        told = [said_to(database, repeat(number, 2)) for number in (3, 4)]
        assert told == [Earlier("gen_2", Why.RETRY), Earlier("gen_1", Why.RETRY)]

    @pytest.mark.parametrize(
        "changed",
        [
            {"tenant_id": RIVAL},
            {"body_hash": OTHER_BODY},
            {"mode": "video"},
            {"retry_count": 0},
            {"now": NOW + RETRY_WINDOW},
        ],
        ids=["another tenant", "another body", "another route", "no repeat", "too late"],
    )
    def test_what_differs_is_another_request(
        self, database: Database, changed: dict[str, Any]
    ) -> None:
        let_in(database, 1)
        assert isinstance(said_to(database, ask(2, **{"retry_count": 1, **changed})), Admitted)

    def test_the_window_is_open_to_its_last_moment(self, database: Database) -> None:
        let_in(database, 1)
        last = NOW + RETRY_WINDOW - timedelta(microseconds=1)
        assert said_to(database, repeat(2, now=last)) == Earlier("gen_1", Why.RETRY)

    def test_a_named_purchase_is_joined_under_its_name_alone(self, database: Database) -> None:
        said_to(database, named(1))
        assert isinstance(said_to(database, repeat(2)), Admitted)

    def test_what_was_given_again_is_not_joined_but_what_was_bought(
        self, database: Database
    ) -> None:
        deliver(database, 1)
        assert give_again(database, 2, "gen_1", now=NOW + SECOND).clips == 1
        assert said_to(database, repeat(3)) == Earlier("gen_1", Why.RETRY)

    def test_a_join_holds_nothing_and_comes_before_every_limit(self, database: Database) -> None:
        write(database, lambda tx: set_tenant(tx, "team", clips_per_month=1, clips_in_flight=1))
        let_in(database, 1)
        before = everything(database)
        assert said_to(database, repeat(2)) == Earlier("gen_1", Why.RETRY)
        after = everything(database)
        assert [row[:2] for row in after.pop("joins")] == [("gen_1", 1)]
        assert after == {name: rows for name, rows in before.items() if name != "joins"}

    def test_a_refused_repeat_leaves_no_join(self, database: Database) -> None:
        write(database, lambda tx: set_tenant(tx, "team", clips_per_month=0))
        before = everything(database)
        said_to(database, repeat(1))
        assert everything(database) == before


def like(number: int, **changed: Any) -> Admission:
    """Request `number`, to which an identical earlier answer will do."""
    return ask(number, **{"reuse": True, "now": NOW + SECOND, **changed})


def answered(database: Database, number: int, clips: int = 1, **changed: Any) -> list[str]:
    """Request `number`, delivered, ended and its answer kept; its clips."""
    clip_ids = deliver(database, number, **{"clips": clips, "reusable": True, **changed})
    end(database, number)
    return clip_ids


def end(database: Database, number: int, expires_at: datetime = LATER) -> None:
    def last(tx: Connection) -> None:
        end_generation(tx, f"gen_{number}", GenerationEnd("told", NOW, 200))
        keep_answer(tx, f"gen_{number}", KeptAnswer(200, [], b"a clip"), NOW, expires_at, 100)

    write(database, last)


class TestLikes:
    def test_an_identical_answer_that_is_whole_is_given_again(self, database: Database) -> None:
        for clip_id in answered(database, 1, 2):
            keep(database, clip_id)
        assert said_to(database, like(2, clips=2)) == Earlier("gen_1", Why.REUSE)
        assert count_of(database, "generations") == 1

    def test_bytes_that_are_still_awaited_will_do(self, database: Database) -> None:
        answered(database, 1)
        assert said_to(database, like(2)) == Earlier("gen_1", Why.REUSE)

    def test_the_latest_of_several_is_given(self, database: Database) -> None:
        for number in (1, 2):
            answered(database, number)
        let_in(database, 3, now=NOW + SECOND, reusable=True)
        bring(database, "video_3_0", State.FAILED)
        assert said_to(database, like(4)) == Earlier("gen_2", Why.REUSE)

    def test_what_was_bought_while_nothing_was_to_be_given_again_is_not(
        self, database: Database
    ) -> None:
        answered(database, 1, reusable=False)
        assert isinstance(said_to(database, like(2)), Admitted)

    def test_nothing_is_given_again_unasked(self, database: Database) -> None:
        answered(database, 1)
        assert isinstance(said_to(database, like(2, reuse=False)), Admitted)

    @pytest.mark.parametrize(
        "changed",
        [{"tenant_id": RIVAL}, {"body_hash": OTHER_BODY}, {"mode": "video"}],
        ids=["another tenant", "another body", "another route"],
    )
    def test_what_differs_is_a_miss(self, database: Database, changed: dict[str, Any]) -> None:
        answered(database, 1)
        assert isinstance(said_to(database, like(2, **changed)), Admitted)

    @pytest.mark.parametrize("state", ["lost", "evicted", "deleted"])
    def test_a_clip_whose_bytes_are_gone_is_a_miss(self, database: Database, state: str) -> None:
        answered(database, 1, 2)
        gone = text("UPDATE keepings SET state = :state WHERE clip_id = 'video_1_1'")
        write(database, lambda tx: tx.execute(gone, {"state": state}))
        assert isinstance(said_to(database, like(2)), Admitted)

    def test_a_clip_that_its_tenant_deleted_is_a_miss(self, database: Database) -> None:
        answered(database, 1, 2)
        write(database, lambda tx: delete_video(tx, TEAM, "video_1_1", NOW))
        assert isinstance(said_to(database, like(2)), Admitted)

    def test_an_answer_that_expired_or_was_never_kept_is_a_miss(self, database: Database) -> None:
        deliver(database, 1, reusable=True)
        write(
            database,
            lambda tx: end_generation(tx, "gen_1", GenerationEnd("told", NOW, 200)),
        )
        assert isinstance(said_to(database, like(2)), Admitted)
        bring(database, "video_2_0", State.FAILED)
        deliver(database, 3, reusable=True)
        end(database, 3, NOW + SECOND)
        assert isinstance(said_to(database, like(4)), Admitted)

    @pytest.mark.parametrize("state", [State.UNKNOWN, State.FAILED, State.WRITTEN_OFF])
    def test_half_an_answer_is_a_miss(self, database: Database, state: State) -> None:
        let_in(database, 1, 2, reusable=True)
        bring(database, "video_1_0", State.DELIVERED)
        bring(database, "video_1_1", state)
        end(database, 1)
        assert isinstance(said_to(database, like(2)), Admitted)

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.GENERATING, State.DELIVERED])
    def test_one_that_is_running_is_waited_for(self, database: Database, state: State) -> None:
        let_in(database, 1, reusable=True)
        bring(database, "video_1_0", state)
        assert said_to(database, like(2)) == Earlier("gen_1", Why.REUSE)

    def test_likes_that_come_together_are_bought_once(self, servers: list[Database]) -> None:
        outcomes = at_once(servers, [like(number) for number in range(FIFTY)])
        assert len(repeats(outcomes)) == FIFTY - 1
        assert count_of(servers[0], "generations") == 1

    def test_a_video_needs_no_answer_but_its_own_bytes(self, database: Database) -> None:
        news(database, submit(database, 1, reusable=True), DELIVERED)
        write(database, lambda tx: end_generation(tx, "gen_1", GenerationEnd("told", NOW, 200)))
        assert said_to(database, like(2, mode="video")) == Earlier("gen_1", Why.REUSE)

    def test_a_replay_hides_nothing_that_was_bought(self, database: Database) -> None:
        answered(database, 1)
        for number in range(10, 13):
            give_again(database, number, "gen_1", now=NOW + SECOND)
        assert said_to(database, like(2)) == Earlier("gen_1", Why.REUSE)

    def test_a_new_key_names_what_it_was_given(self, database: Database) -> None:
        answered(database, 1)
        again = like(2, idempotency_key="the key", key_expires_at=LATER)
        assert said_to(database, again) == Earlier("gen_1", Why.REUSE)
        assert said_to(database, named(3)) == Earlier("gen_1", Why.IDEMPOTENCY)
        assert read(database, verify) == []

    def test_a_key_is_taken_back_from_what_it_was_given_and_from_nothing_else(
        self, database: Database
    ) -> None:
        answered(database, 1)
        said_to(database, like(2, idempotency_key="the key", key_expires_at=LATER))
        said_to(database, named(3, "its own", tenant_id=RIVAL))
        for tenant_id, key, of in (
            (TEAM, "the key", "gen_3"),
            (RIVAL, "the key", "gen_1"),
            (TEAM, "its own", "gen_1"),
        ):
            write(
                database,
                partial(unname, tenant_id=tenant_id, mode="chat", key=key, generation_id=of),
            )
        assert count_of(database, "idempotency_keys") == 2
        write(database, lambda tx: unname(tx, TEAM, "chat", "the key", "gen_1"))
        assert rows_of(database, "SELECT key FROM idempotency_keys") == [("its own",)]

    def test_only_so_many_that_are_alike_are_looked_at(self, sqlite_database: Database) -> None:
        """A team that bought one thing a thousand times must not keep all others waiting."""
        answered(sqlite_database, 0)

        def fail(tx: Connection) -> None:
            for number in range(1, ALIKE_MAX + 1):
                admit(tx, ask(number, reusable=True))
            tx.execute(text("UPDATE generations SET ended_at = accepted_at"))

        write(sqlite_database, fail)
        assert isinstance(said_to(sqlite_database, like(9_999)), Admitted)


def test_a_plain_request_looks_for_nothing(database: Database) -> None:
    assert not ask(1).may_repeat
    assert all(one.may_repeat for one in (named(1), repeat(1), like(1)))


@pytest.mark.parametrize(
    ("look", "index"), [("_TRIED_BEFORE", "generations_recent"), ("_LIKE", "generations_alike")]
)
def test_a_look_reads_no_table_from_end_to_end(database: Database, look: str, index: str) -> None:
    deliver(database, 1)
    values = {
        "tenant_id": TEAM,
        "body_hash": "0" * 64,
        "mode": "chat",
        "now": NOW,
        "not_before": NOW,
        "retry_count": 1,
    }
    statement = getattr(earlier, look)._statement
    names = statement.compile().params
    mine = {name: value for name, value in values.items() if name in names}
    plan = plans_of(database, lambda tx: tx.execute(statement, mine))
    assert index in plan
    assert "Seq Scan" not in plan
    scans = [line for line in plan.splitlines() if line.startswith("SCAN ")]
    assert scans in ([], ["SCAN recent"])
