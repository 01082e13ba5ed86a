"""Clips as their own tenant sees them: one, a page of them, and one that it wants forgotten.

Every look-up takes the tenant (law 8); a deleted clip is as absent as a foreign or unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, and_, or_, select, update

from proxy.core import clip
from proxy.core.clip import State
from proxy.store.tables import CLIPS, GENERATIONS, JOBS, KEEPINGS


@dataclass(frozen=True, slots=True)
class VideoRow:
    """A clip, its generation, its job's progress, and what became of its bytes.

    `percent` is None for a clip that has no job, `keeping` for one that was not delivered.
    """

    id: str
    tenant_id: str
    generation_id: str
    model: str
    state: State
    price_micros: int
    accepted_at: datetime
    completed_at: datetime | None
    reason: str | None
    vendor_text: str | None
    url: str | None
    prompt: str | None
    gateway: str | None
    attempts: int
    upstream_id: str | None
    percent: int | None
    keeping: str | None
    link_dies_at: datetime | None
    next_try_at: datetime | None
    trouble: str | None
    sha256: str | None
    size_bytes: int | None
    kept_at: datetime | None


class Deletion(StrEnum):
    """What came of a wish to delete a clip."""

    DONE = "done"
    ABSENT = "absent"
    UNFINISHED = "unfinished"


_COLUMNS: Final = (
    CLIPS.c.id,
    CLIPS.c.tenant_id,
    CLIPS.c.generation_id,
    CLIPS.c.model,
    CLIPS.c.state,
    CLIPS.c.price_micros,
    CLIPS.c.accepted_at,
    CLIPS.c.completed_at,
    CLIPS.c.reason,
    CLIPS.c.vendor_text,
    CLIPS.c.url,
    GENERATIONS.c.prompt,
    GENERATIONS.c.gateway,
    GENERATIONS.c.attempts,
    GENERATIONS.c.upstream_id,
    JOBS.c.percent,
    KEEPINGS.c.state,
    KEEPINGS.c.link_dies_at,
    KEEPINGS.c.next_try_at,
    KEEPINGS.c.trouble,
    KEEPINGS.c.sha256,
    KEEPINGS.c.size_bytes,
    KEEPINGS.c.kept_at,
)
_SELECT: Final = (
    select(*_COLUMNS)
    .select_from(CLIPS)
    .join(GENERATIONS, GENERATIONS.c.id == CLIPS.c.generation_id)
    .outerjoin(JOBS, JOBS.c.clip_id == CLIPS.c.id)
    .outerjoin(KEEPINGS, KEEPINGS.c.clip_id == CLIPS.c.id)
)


def find_video(tx: Connection, tenant_id: str, clip_id: str) -> VideoRow | None:
    """The tenant's own clip, unless it was deleted."""
    row = tx.execute(
        _SELECT.where(
            CLIPS.c.id == clip_id, CLIPS.c.tenant_id == tenant_id, CLIPS.c.deleted_at.is_(None)
        )
    ).first()
    return None if row is None else _video(row)


def list_videos(
    tx: Connection, tenant_id: str, after: str | None, limit: int, *, newest_first: bool
) -> list[VideoRow] | None:
    """Up to `limit` of the tenant's clips after the one called `after`; None if it has no such.

    A clip that was deleted since the last page still says where that page ended.
    """
    query = _SELECT.where(CLIPS.c.tenant_id == tenant_id, CLIPS.c.deleted_at.is_(None))
    if after is not None:
        at = tx.execute(
            select(CLIPS.c.accepted_at).where(CLIPS.c.id == after, CLIPS.c.tenant_id == tenant_id)
        ).scalar()
        if at is None:
            return None
        if newest_first:
            beyond, tie = CLIPS.c.accepted_at < at, CLIPS.c.id < after
        else:
            beyond, tie = CLIPS.c.accepted_at > at, CLIPS.c.id > after
        query = query.where(or_(beyond, and_(CLIPS.c.accepted_at == at, tie)))
    order = (CLIPS.c.accepted_at, CLIPS.c.id)
    query = query.order_by(*(each.desc() if newest_first else each for each in order))
    return [_video(row) for row in tx.execute(query.limit(limit))]


def delete_video(tx: Connection, tenant_id: str, clip_id: str, now: datetime) -> Deletion:
    """Forget the tenant's own clip, its bytes and its prompt, once it has ended; never its charge.

    The bytes themselves are the vault's, and go after this is durable.
    """
    video = find_video(tx, tenant_id, clip_id)
    if video is None:
        return Deletion.ABSENT
    if video.state not in clip.FINAL:
        return Deletion.UNFINISHED
    tx.execute(update(CLIPS).where(CLIPS.c.id == clip_id).values(deleted_at=now))
    tx.execute(
        update(KEEPINGS).where(KEEPINGS.c.clip_id == clip_id).values(state="deleted", owner=None)
    )
    tx.execute(
        update(GENERATIONS).where(GENERATIONS.c.id == video.generation_id).values(prompt=None)
    )
    return Deletion.DONE


def _video(row: Sequence[Any]) -> VideoRow:
    values = dict(zip(VideoRow.__slots__, row, strict=True))
    return VideoRow(**{**values, "state": State(values["state"])})
