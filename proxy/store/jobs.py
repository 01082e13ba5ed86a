"""Jobs that are followed: who asks about which, taken over from the dead, ended once.

An owner is a process, and its lease on all its jobs is its own sign of life (`store.processes`),
so that ten thousand leases cost one write to renew. Taking over counts the fence up; what an
earlier owner learned is held against it before it settles anything (R24). Writers take turns, on
PostgreSQL too, so two can never take the same job.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    exists,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from proxy.core.clip import State
from proxy.store.prepared import Prepared
from proxy.store.tables import CLIPS, JOBS, KEEPINGS, PROCESSES


@dataclass(frozen=True, slots=True)
class JobRow:
    """One unfinished job, as it is written down; `percent` is the furthest progress seen."""

    clip_id: str
    generation_id: str
    model: str
    state: State
    accepted_at: datetime
    gateway: str
    upstream_id: str
    percent: int
    fence: int


_COLUMNS: Final = (
    JOBS.c.clip_id,
    CLIPS.c.generation_id,
    CLIPS.c.model,
    CLIPS.c.state,
    CLIPS.c.accepted_at,
    JOBS.c.gateway,
    JOBS.c.upstream_id,
    JOBS.c.percent,
    JOBS.c.fence,
)
_SELECT: Final = select(*_COLUMNS).join(CLIPS, CLIPS.c.id == JOBS.c.clip_id)
IDS_AT_ONCE: Final = 500
"""How many ids one statement is given; databases bound how many values it may have."""

_PROGRESS: Final = Prepared(
    update(JOBS)
    .where(
        JOBS.c.clip_id == bindparam("of_clip"),
        JOBS.c.fence == bindparam("at_fence"),
        JOBS.c.percent < bindparam("new_percent"),
        JOBS.c.ended_at.is_(None),
    )
    .values(percent=bindparam("new_percent"))
)
_FENCE: Final = Prepared(
    select(JOBS.c.fence).where(JOBS.c.clip_id == bindparam("of_clip"), JOBS.c.ended_at.is_(None))
)
_END: Final = Prepared(
    update(JOBS)
    .where(JOBS.c.clip_id == bindparam("of_clip"), JOBS.c.ended_at.is_(None))
    .values(ended_at=bindparam("new_ended_at"))
)


def ownerless(owner: ColumnElement[str | None], dead_before: datetime) -> ColumnElement[bool]:
    """Whether nobody who was seen at `dead_before` or later has it."""
    alive = exists().where(PROCESSES.c.id == owner, PROCESSES.c.seen_at >= dead_before)
    return or_(owner.is_(None), ~alive)


def add_job(
    tx: Connection, clip_id: str, gateway: str, upstream_id: str, owner: str, now: datetime
) -> None:
    """Write down that `gateway` calls the clip's job `upstream_id`, and that `owner` follows it.

    Its first word stands: again changes nothing. The job of a clip that has ended already, as one
    that was given up while the database was away, has ended as well.
    """
    if tx.execute(select(JOBS.c.clip_id).where(JOBS.c.clip_id == clip_id)).first() is None:
        ended = tx.execute(select(CLIPS.c.completed_at).where(CLIPS.c.id == clip_id)).scalar()
        row = {
            "clip_id": clip_id,
            "gateway": gateway,
            "upstream_id": upstream_id,
            "percent": 0,
            "owner": owner,
            "fence": 0,
            "started_at": now,
            "ended_at": None if ended is None else now,
        }
        tx.execute(insert(JOBS).values(row))


def find_job(tx: Connection, clip_id: str, owner: str) -> JobRow | None:
    """The unfinished job of a clip that `owner` follows."""
    row = tx.execute(
        _SELECT.where(JOBS.c.clip_id == clip_id, JOBS.c.owner == owner, JOBS.c.ended_at.is_(None))
    ).first()
    return None if row is None else _job(row)


def take_over(
    tx: Connection, process_id: str, dead_before: datetime, jobs_max: int
) -> list[JobRow]:
    """Make unfinished jobs that no living process owns `process_id`'s; at most `jobs_max`.

    Where there are more, those that were started first are taken.
    """
    free = (
        select(JOBS.c.clip_id)
        .where(JOBS.c.ended_at.is_(None), ownerless(JOBS.c.owner, dead_before))
        .order_by(JOBS.c.started_at, JOBS.c.clip_id)
        .limit(max(jobs_max, 0))
    )
    # Two statements, however many jobs they are: everybody who writes waits for this.
    found = tx.execute(_SELECT.where(JOBS.c.clip_id.in_(free))).all()
    if not found:
        return []
    taken = tx.execute(
        update(JOBS)
        .where(JOBS.c.clip_id.in_(free))
        .values(owner=process_id, fence=JOBS.c.fence + 1)
        .returning(JOBS.c.clip_id, JOBS.c.fence)
    )
    fences = {row.clip_id: row.fence for row in taken}
    return [_job((*row[:-1], fences[row[0]])) for row in found]


def unfollowed(tx: Connection, process_id: str, followed: Collection[str]) -> list[JobRow]:
    """The unfinished jobs that are `process_id`'s, besides those that it follows.

    Such is a job that was written down late, after its submit was answered without it.
    """
    own = select(JOBS.c.clip_id).where(JOBS.c.owner == process_id, JOBS.c.ended_at.is_(None))
    left = [clip_id for clip_id in tx.execute(own).scalars() if clip_id not in followed]
    rows = (
        row
        for at in range(0, len(left), IDS_AT_ONCE)
        for row in tx.execute(_SELECT.where(JOBS.c.clip_id.in_(left[at : at + IDS_AT_ONCE])))
    )
    return [_job(row) for row in rows]


def held_by(tx: Connection, owner: str) -> dict[str, int]:
    """The fences of the unfinished jobs that are `owner`'s, by clip."""
    rows = tx.execute(
        select(JOBS.c.clip_id, JOBS.c.fence).where(JOBS.c.owner == owner, JOBS.c.ended_at.is_(None))
    )
    return {row[0]: row[1] for row in rows}


def is_any_free(tx: Connection, dead_before: datetime) -> bool:
    """Whether any unfinished job has no living owner; asked of each owner, not of each job."""
    owners = select(JOBS.c.owner).where(JOBS.c.ended_at.is_(None)).distinct().subquery()
    free = select(owners.c.owner).where(ownerless(owners.c.owner, dead_before)).limit(1)
    return tx.execute(free).first() is not None


def is_held(tx: Connection, clip_id: str, fence: int) -> bool:
    """Whether the job is unfinished and nobody took it over from the owner at `fence`."""
    row = _FENCE.one(tx, {"of_clip": clip_id})
    return row is not None and row[0] == fence


def note_progress(tx: Connection, seen: Sequence[tuple[str, int, int]]) -> None:
    """Write down progress (clip, fence, percent) that is further than what is written."""
    rows = [
        {"of_clip": clip_id, "at_fence": fence, "new_percent": percent}
        for clip_id, fence, percent in seen
    ]
    _PROGRESS.run_each(tx, rows)


def end_job(tx: Connection, clip_id: str, now: datetime) -> None:
    """Nobody asks about this job any more; nothing happens to a clip that has none."""
    _END.run(tx, {"of_clip": clip_id, "new_ended_at": now})


def let_go(tx: Connection, process_id: str) -> None:
    """Leave all that `process_id` owns, jobs and clips to fetch, to whoever comes."""
    tx.execute(
        update(JOBS).where(JOBS.c.owner == process_id, JOBS.c.ended_at.is_(None)).values(owner=None)
    )
    waiting = KEEPINGS.c.state == literal_column("'waiting'")  # or no index would do
    tx.execute(update(KEEPINGS).where(waiting, KEEPINGS.c.owner == process_id).values(owner=None))


def oldest_unfinished(tx: Connection) -> datetime | None:
    """When the oldest job that is still followed was started."""
    started: datetime | None = tx.execute(
        select(JOBS.c.started_at)
        .where(JOBS.c.ended_at.is_(None))
        .order_by(JOBS.c.started_at)
        .limit(1)
    ).scalar()
    return started


def _job(row: Sequence[Any]) -> JobRow:
    clip_id, generation_id, model, state, *others = row
    return JobRow(clip_id, generation_id, model, State(state), *others)
