"""Jobs that are followed: who asks about which, taken over from the dead, ended once.

An owner is a process, and its lease on all its jobs is its own sign of life (`store.processes`),
so that ten thousand leases cost one write to renew. Taking over counts the fence up; what an
earlier owner learned is held against it before it settles anything (R24). Writers take turns, on
PostgreSQL too, so two can never take the same job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, bindparam, exists, insert, or_, select, update

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
_PROGRESS: Final = Prepared(
    update(JOBS)
    .where(
        JOBS.c.clip_id == bindparam("of_clip"),
        JOBS.c.fence == bindparam("at_fence"),
        JOBS.c.percent < bindparam("new_percent"),
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

    Its first word stands: again changes nothing.
    """
    if tx.execute(select(JOBS.c.clip_id).where(JOBS.c.clip_id == clip_id)).first() is None:
        row = {
            "clip_id": clip_id,
            "gateway": gateway,
            "upstream_id": upstream_id,
            "percent": 0,
            "owner": owner,
            "fence": 0,
            "started_at": now,
        }
        tx.execute(insert(JOBS).values(row))


def find_job(tx: Connection, clip_id: str, owner: str) -> JobRow | None:
    """The unfinished job of a clip that `owner` follows."""
    row = tx.execute(
        select(*_COLUMNS)
        .join(CLIPS, CLIPS.c.id == JOBS.c.clip_id)
        .where(JOBS.c.clip_id == clip_id, JOBS.c.owner == owner, JOBS.c.ended_at.is_(None))
    ).first()
    return None if row is None else _job(row)


def take_over(
    tx: Connection, process_id: str, dead_before: datetime, jobs_max: int
) -> list[JobRow]:
    """Make unfinished jobs that no living process owns `process_id`'s; at most `jobs_max`."""
    free = (
        select(JOBS.c.clip_id)
        .where(JOBS.c.ended_at.is_(None), ownerless(JOBS.c.owner, dead_before))
        .order_by(JOBS.c.started_at, JOBS.c.clip_id)
        .limit(jobs_max)
    )
    taken = list(
        tx.execute(
            update(JOBS)
            .where(JOBS.c.clip_id.in_(free))
            .values(owner=process_id, fence=JOBS.c.fence + 1)
            .returning(JOBS.c.clip_id)
        ).scalars()
    )
    found: list[JobRow] = []
    for at in range(0, len(taken), 500):
        rows = tx.execute(
            select(*_COLUMNS)
            .join(CLIPS, CLIPS.c.id == JOBS.c.clip_id)
            .where(JOBS.c.clip_id.in_(taken[at : at + 500]))
        )
        found += [_job(row) for row in rows]
    return found


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
    tx.execute(update(KEEPINGS).where(KEEPINGS.c.owner == process_id).values(owner=None))


def oldest_unfinished(tx: Connection) -> datetime | None:
    """When the oldest job that is still followed was started."""
    started: datetime | None = tx.execute(
        select(JOBS.c.started_at)
        .where(JOBS.c.ended_at.is_(None))
        .order_by(JOBS.c.started_at)
        .limit(1)
    ).scalar()
    return started


def _job(row: Sequence[object]) -> JobRow:
    values = dict(zip(JobRow.__slots__, row, strict=True))
    return JobRow(**{**values, "state": State(str(values["state"]))})  # type: ignore[arg-type]
