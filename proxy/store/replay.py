"""Answers that are given again: how the first request stands, and what giving it again avoids.

A replay is booked as a generation without attempts, whose clips are born `replayed`: they name the
clips they give again and their price, and no entry of the ledger is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, exists, insert, select

from proxy.core.budget import month_of
from proxy.core.clip import State
from proxy.core.replay import Standing, Why
from proxy.store.prepared import Prepared, together
from proxy.store.tables import ANSWERS, CLIPS, GENERATIONS, KEEPINGS, PROCESSES

REPLAYED: Final = "replayed"
"""The ending of a generation that gave an earlier answer again."""


@dataclass(frozen=True, slots=True)
class Again:
    """An answer that was given again: of which generation, to whom, and why.

    `generation_id` and `clip_ids` are new; there are as many clips as the first one has, or more.
    """

    of: str
    tenant_id: str
    key_id: str
    why: Why
    generation_id: str
    clip_ids: Sequence[str]
    process_id: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Avoided:
    """What giving an answer again saved: so many clips of `model`, at the price they had."""

    model: str = ""
    clips: int = 0
    micros: int = 0


_INSERT_GENERATION: Final = Prepared(insert(GENERATIONS))
_INSERT_CLIP: Final = Prepared(insert(CLIPS))


def find_standing(
    tx: Connection, tenant_id: str, generation_id: str, now: datetime, dead_before: datetime
) -> Standing | None:
    """How the tenant's own generation stands; whether its run is `here`, its process must say."""
    answered = exists().where(
        ANSWERS.c.generation_id == GENERATIONS.c.id, ANSWERS.c.expires_at > now
    )
    alive = exists().where(
        PROCESSES.c.id == GENERATIONS.c.process_id, PROCESSES.c.seen_at >= dead_before
    )
    row = tx.execute(
        select(GENERATIONS.c.mode, GENERATIONS.c.ended_at, alive, answered).where(
            GENERATIONS.c.id == generation_id, GENERATIONS.c.tenant_id == tenant_id
        )
    ).first()
    if row is None:
        return None
    mode, ended_at, lives, kept = row
    clips = tx.execute(
        select(CLIPS.c.state, CLIPS.c.deleted_at, KEEPINGS.c.state)
        .select_from(CLIPS.outerjoin(KEEPINGS, KEEPINGS.c.clip_id == CLIPS.c.id))
        .where(CLIPS.c.generation_id == generation_id)
        .order_by(CLIPS.c.position)
    ).all()
    bytes_are = [keeping for state, _, keeping in clips if state == State.DELIVERED.value]
    return Standing(
        mode=mode,
        states=tuple(State(state) for state, _, _ in clips),
        running=ended_at is None and bool(lives),
        answered=bool(kept),
        playable=bool(bytes_are) and all(each in {"waiting", "kept"} for each in bytes_are),
        deleted=any(deleted_at is not None for _, deleted_at, _ in clips),
    )


def record_replay(tx: Connection, again: Again) -> Avoided:
    """Book what was given again: a clip for each delivered one, at its price, without an entry.

    The same ids again change nothing. A foreign generation is as absent as an unknown one.
    """
    first = tx.execute(
        select(GENERATIONS).where(
            GENERATIONS.c.id == again.of, GENERATIONS.c.tenant_id == again.tenant_id
        )
    ).first()
    delivered = tx.execute(
        select(CLIPS)
        .where(
            CLIPS.c.generation_id == again.of,
            CLIPS.c.state == State.DELIVERED.value,
            CLIPS.c.deleted_at.is_(None),
        )
        .order_by(CLIPS.c.position)
    ).all()
    if first is None or not delivered:
        return Avoided()
    own = select(GENERATIONS.c.id).where(GENERATIONS.c.id == again.generation_id)
    if tx.execute(own).first() is None:
        ids = again.clip_ids[: len(delivered)]
        clips = [
            _clip(one, again, clip_id, at)
            for at, (one, clip_id) in enumerate(zip(delivered, ids, strict=True))
        ]
        with together(tx):
            _INSERT_GENERATION.run(tx, _generation(first, again, len(clips)))
            _INSERT_CLIP.run_each(tx, clips)
    return Avoided(first.model, len(delivered), sum(one.price_micros for one in delivered))


def _generation(first: Row[Any], again: Again, clips: int) -> dict[str, Any]:
    """The first one's question, asked by another caller at another time, and answered at once."""
    alike = ("tenant_id", "mode", "model", "asked_model", "stream", "body_hash", "status")
    return {
        **dict.fromkeys(GENERATIONS.columns.keys()),
        **{name: getattr(first, name) for name in alike},
        "id": again.generation_id,
        "key_id": again.key_id,
        "clips": clips,
        "accepted_at": again.now,
        "month": month_of(again.now),
        "process_id": again.process_id,
        "attempts": 0,
        "ended_at": again.now,
        "ending": REPLAYED,
        "reason": again.why.value,
    }


def _clip(one: Row[Any], again: Again, clip_id: str, position: int) -> dict[str, Any]:
    """A clip that gives `one` again: born so, ended at once."""
    alike = ("tenant_id", "model", "price_micros", "list_micros", "price_version")
    return {
        **dict.fromkeys(CLIPS.columns.keys()),
        **{name: getattr(one, name) for name in alike},
        "id": clip_id,
        "generation_id": again.generation_id,
        "position": position,
        "state": State.REPLAYED.value,
        "accepted_at": again.now,
        "month": month_of(again.now),
        "completed_at": again.now,
        "finance_month": month_of(again.now),
        "reason": again.why.value,
        "replay_of": one.id,
    }
