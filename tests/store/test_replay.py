"""How an earlier request stands, and what is booked when its answer is given again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from proxy.core import clip
from proxy.core.clip import Impossible, State
from proxy.core.failure import Reason
from proxy.core.replay import Standing, Why
from proxy.core.statement import Dimension, Line, Tally
from proxy.store.answers import KeptAnswer, keep_answer
from proxy.store.audit import verify
from proxy.store.database import Database
from proxy.store.generations import GenerationEnd, end_generation, find_generation, orphans
from proxy.store.ledger import Spent, Unsettled, spent, unsettled, usage
from proxy.store.processes import beat
from proxy.store.replay import REPLAYED, Avoided, find_standing
from proxy.store.videos import Deletion, delete_video, find_video, list_videos
from tests.store.asks import (
    MICROS,
    MODEL,
    MONTH,
    NOW,
    RIVAL,
    TEAM,
    VERSION,
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

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
A, G, Q, P = State.ACCEPTED, State.GENERATING, State.QUEUED, State.IN_PROGRESS
D, F, U = State.DELIVERED, State.FAILED, State.UNKNOWN
FAILED = clip.Failed(Reason.POLICY_AUDIO)


def standing(
    database: Database, tenant_id: str = TEAM, now: datetime = NOW, number: int = 1
) -> Standing | None:
    return read(
        database,
        lambda tx: find_standing(tx, tenant_id, f"gen_{number}", now, NOW - 30 * SECOND),
    )


def end(database: Database, number: int = 1, *, answered: bool = False) -> None:
    last = GenerationEnd("told", NOW, 200)
    write(database, lambda tx: end_generation(tx, f"gen_{number}", last))
    if answered:
        answer = KeptAnswer(200, [], b"a clip")
        write(
            database,
            lambda tx: keep_answer(tx, f"gen_{number}", answer, NOW, NOW + HOUR, 100),
        )


class TestStanding:
    def test_a_request_runs_while_its_process_lives(self, database: Database) -> None:
        let_in(database, 1, 2)
        news(database, "video_1_0", clip.Opened())
        assert standing(database) == Standing("chat", (G, A))
        write(database, lambda tx: beat(tx, "process_one", NOW - 30 * SECOND))
        assert standing(database) == Standing("chat", (G, A), running=True)
        write(database, lambda tx: beat(tx, "process_one", NOW - 31 * SECOND))
        assert standing(database) == Standing("chat", (G, A))

    def test_what_has_ended_does_not_run(self, database: Database) -> None:
        write(database, lambda tx: beat(tx, "process_one", NOW))
        deliver(database, 1)
        assert standing(database) == Standing("chat", (D,), running=True, playable=True)
        end(database)
        assert standing(database) == Standing("chat", (D,), playable=True)

    def test_an_answer_is_kept_until_it_expires(self, database: Database) -> None:
        deliver(database, 1)
        end(database, answered=True)
        assert standing(database) == Standing("chat", (D,), answered=True, playable=True)
        assert standing(database, now=NOW + HOUR) == Standing("chat", (D,), playable=True)

    def test_bytes_can_be_played_while_they_are_kept_or_awaited(self, database: Database) -> None:
        first, second = deliver(database, 1, clips=2)
        keep(database, first)
        assert standing(database) == Standing("chat", (D, D), playable=True)
        gone = text("UPDATE keepings SET state = 'evicted' WHERE clip_id = :clip")
        write(database, lambda tx: tx.execute(gone, {"clip": second}))
        assert standing(database) == Standing("chat", (D, D))

    def test_what_failed_beside_it_takes_nothing_from_a_delivered_clip(
        self, database: Database
    ) -> None:
        let_in(database, 1, 2)
        for clip_id, event in (("video_1_0", FAILED), ("video_1_1", clip.Delivered("x"))):
            news(database, clip_id, clip.Opened())
            news(database, clip_id, event)
        assert standing(database) == Standing("chat", (F, D), playable=True)

    def test_nothing_is_no_clip_that_could_be_played(self, database: Database) -> None:
        let_in(database, 1)
        news(database, "video_1_0", clip.Lost(Reason.LOST))
        assert standing(database) == Standing("chat", (U,))

    def test_a_deletion_is_told(self, database: Database) -> None:
        deliver(database, 1, clips=2)
        write(database, lambda tx: delete_video(tx, TEAM, "video_1_0", NOW))
        assert standing(database) == Standing("chat", (D, D), deleted=True)

    def test_a_video_is_told_from_a_chat(self, database: Database) -> None:
        submit(database, 1)
        assert standing(database) == Standing("video", (Q,))

    def test_a_foreign_generation_looks_like_an_absent_one(self, database: Database) -> None:
        let_in(database, 1)
        assert standing(database, RIVAL) is None
        assert standing(database, number=2) is None


DECEMBER = NOW + timedelta(days=20)


class TestReplays:
    def test_each_delivered_clip_is_booked_at_its_price_and_costs_nothing(
        self, database: Database
    ) -> None:
        let_in(database, 1, 3)
        for clip_id, event in (("video_1_0", FAILED), ("video_1_2", clip.Delivered("x"))):
            news(database, clip_id, clip.Opened())
            news(database, clip_id, event)
        spent_before = (budget_of(database), in_flight(database), count_of(database, "entries"))
        avoided = give_again(database, 2, "gen_1", now=DECEMBER, why=Why.RETRY)
        assert avoided == Avoided(MODEL, 1, MICROS)
        columns = "id, position, state, replay_of, price_micros, list_micros, price_version"
        assert rows_of(database, f"SELECT {columns} FROM clips WHERE generation_id = 'gen_2'") == [
            ("video_2_0", 0, "replayed", "video_1_2", MICROS, MICROS, VERSION)
        ]
        assert spent_before == (
            budget_of(database),
            in_flight(database),
            count_of(database, "entries"),
        )
        assert budget_of(database, month="2026-12") == (0, 0)
        assert read(database, verify) == []

    def test_it_is_a_generation_that_was_never_sent(self, database: Database) -> None:
        deliver(database, 1, mode="video", asked_model="sora-2", stream=False)
        end(database)
        give_again(database, 2, "gen_1", now=DECEMBER, process_id="process_two")
        row = read(database, lambda tx: find_generation(tx, TEAM, "gen_2"))
        first = read(database, lambda tx: find_generation(tx, TEAM, "gen_1"))
        assert row is not None
        assert first is not None
        assert (row.mode, row.model, row.asked_model, row.stream) == (
            first.mode,
            first.model,
            first.asked_model,
            first.stream,
        )
        assert (row.attempts, row.gateway, row.clips) == (0, None, 1)
        assert (row.accepted_at, row.ended_at, row.ending) == (DECEMBER, DECEMBER, REPLAYED)
        assert (row.status, row.reason, row.process_id) == (200, "idempotency", "process_two")
        assert count_of(database, "attempts") == 1
        assert read(database, lambda tx: orphans(tx, DECEMBER + HOUR, "process_new")) == []

    def test_the_same_replay_again_changes_nothing_and_says_the_same(
        self, database: Database
    ) -> None:
        deliver(database, 1, clips=2)
        avoided = give_again(database, 2, "gen_1")
        before = everything(database)
        assert give_again(database, 2, "gen_1") == avoided == Avoided(MODEL, 2, 2 * MICROS)
        assert everything(database) == before

    @pytest.mark.parametrize("of", ["gen_1", "gen_none", "gen_3"])
    def test_nothing_is_booked_where_nothing_was_delivered(
        self, database: Database, of: str
    ) -> None:
        let_in(database, 1)
        deliver(database, 3, tenant_id=RIVAL)
        before = everything(database)
        assert give_again(database, 2, of) == Avoided()
        assert everything(database) == before

    def test_a_clip_that_was_deleted_is_not_given_again(self, database: Database) -> None:
        deliver(database, 1, clips=2)
        write(database, lambda tx: delete_video(tx, TEAM, "video_1_0", NOW))
        assert give_again(database, 2, "gen_1") == Avoided(MODEL, 1, MICROS)
        assert rows_of(database, "SELECT replay_of FROM clips WHERE id = 'video_2_0'") == [
            ("video_1_1",)
        ]

    def test_too_few_ids_book_nothing(self, database: Database) -> None:
        deliver(database, 1, clips=2)
        before = everything(database)
        with pytest.raises(ValueError, match="shorter"):
            give_again(database, 2, "gen_1", clip_ids=["video_2_0"])
        assert everything(database) == before

    @pytest.mark.parametrize(
        "event",
        [clip.Opened(), clip.Delivered("x"), FAILED, clip.Found(FAILED), clip.GaveUp()],
        ids=["opened", "delivered", "failed", "found", "given up"],
    )
    def test_no_news_changes_what_was_given_again(
        self, database: Database, event: clip.Event
    ) -> None:
        deliver(database, 1)
        give_again(database, 2, "gen_1")
        before = everything(database)
        settled = news(database, "video_2_0", event)
        assert settled.impossible == Impossible(State.REPLAYED, event)
        assert everything(database) == before

    def test_usage_shows_replays_and_what_they_avoided_where_they_were_asked_for(
        self, database: Database
    ) -> None:
        deliver(database, 1, clips=2)
        for number in (2, 3):
            give_again(database, number, "gen_1", now=DECEMBER, why=Why.REUSE)
        bought = Tally(2, 2, amount_micros=2 * MICROS)
        spared = Tally(4, replayed=4, avoided_micros=4 * MICROS)
        by = (Dimension.TENANT, Dimension.KEY)
        place = ("team", "key_team")
        assert read(database, lambda tx: usage(tx, MONTH, by)) == [Line(place, bought)]
        assert read(database, lambda tx: usage(tx, "2026-12", by)) == [Line(place, spared)]
        assert read(database, lambda tx: usage(tx, "2026-12", by, RIVAL)) == []
        assert read(database, unsettled) == Unsettled(0, 0, 0)
        assert read(database, lambda tx: spent(tx, TEAM, "2026-12")) == Spent()

    def test_no_list_and_no_look_up_shows_them_as_videos(self, database: Database) -> None:
        first = deliver(database, 1)
        give_again(database, 2, "gen_1", now=NOW + SECOND)
        last = deliver(database, 3, now=NOW + 2 * SECOND)
        rows = read(database, lambda tx: list_videos(tx, TEAM, None, 10, newest_first=True))
        assert rows is not None
        assert sorted(row.id for row in rows) == sorted([*first, *last])
        assert read(database, lambda tx: find_video(tx, TEAM, "video_2_0")) is None
        after = read(
            database, lambda tx: list_videos(tx, TEAM, "video_2_0", 10, newest_first=False)
        )
        assert after is None
        deleted = write(database, lambda tx: delete_video(tx, TEAM, "video_2_0", NOW))
        assert deleted is Deletion.ABSENT


FORGED: dict[str, str] = {
    "a replay of a clip that is not": "'tenant_team', 'gen_1', 'video_none', 'replayed', 250000",
    "a replay of nothing": "'tenant_team', 'gen_1', NULL, 'replayed', 250000",
    "a bought clip that gives another again": (
        "'tenant_team', 'gen_1', 'video_1_0', 'accepted', 250000"
    ),
}
_FORGE = (
    "INSERT INTO clips (id, position, model, list_micros, price_version, accepted_at, month,"
    " tenant_id, generation_id, replay_of, state, price_micros) SELECT"
    " 'video_new', 9, model, list_micros, price_version, accepted_at, month, {} FROM clips"
    " WHERE id = 'video_1_0'"
)
CHANGED: dict[str, str] = {
    **{what: _FORGE.format(values) for what, values in FORGED.items()},
    "a hold for a replay": (
        "INSERT INTO entries (id, kind, clip_id, tenant_id, amount_micros, booked_at, month)"
        " SELECT 'hold:video_9_0', 'hold', id, tenant_id, price_micros, accepted_at, month"
        " FROM clips WHERE id = 'video_9_0'"
    ),
    "a replay that becomes a delivery": (
        "UPDATE clips SET state = 'delivered' WHERE id = 'video_9_0'"
    ),
    "a delivery that becomes a replay": (
        "UPDATE clips SET state = 'replayed' WHERE id = 'video_1_0'"
    ),
    "a replay of another clip than it was": (
        "UPDATE clips SET replay_of = 'video_1_1' WHERE id = 'video_9_0'"
    ),
}


@pytest.mark.parametrize("what", CHANGED)
def test_the_database_itself_refuses(database: Database, what: str) -> None:
    deliver(database, 1, clips=2)
    let_in(database, 2)
    give_again(database, 9, "gen_1")
    before = everything(database)
    statement: Any = text(CHANGED[what].replace("hold:", r"hold\:"))
    with pytest.raises(IntegrityError):
        write(database, lambda tx: tx.execute(statement))
    assert everything(database) == before


def test_a_sound_forgery_would_be_taken(database: Database) -> None:
    """The statements above are refused for what they say, not for how they say it."""
    deliver(database, 1)
    let_in(database, 2)
    sound = _FORGE.format("'tenant_team', 'gen_2', 'video_1_0', 'replayed', 250000")
    write(database, lambda tx: tx.execute(text(sound)))
    assert count_of(database, "clips") == 3
