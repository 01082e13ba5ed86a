"""Clips as their own tenant sees them: one, a page of them, and one that it wants forgotten.

Every look-up takes the tenant (law 8); a deleted clip is as absent as a foreign or unknown one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, delete, exists, literal, select, tuple_, update

from proxy.core import clip
from proxy.core.clip import State
from proxy.store.tables import ANSWERS, CLIPS, GENERATIONS, JOBS, KEEPINGS


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
    .where(CLIPS.c.replay_of.is_(None))  # who is given a clip again knows it by its first name
)


_PLACE: Final = (CLIPS.c.accepted_at, CLIPS.c.id)
"""Where a clip stands in its tenant's list."""


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
            select(CLIPS.c.accepted_at).where(
                CLIPS.c.id == after, CLIPS.c.tenant_id == tenant_id, CLIPS.c.replay_of.is_(None)
            )
        ).scalar()
        if at is None:
            return None
        # One comparison of pairs: for two that are joined by OR no database would skip to the page.
        place, end = tuple_(*_PLACE), tuple_(literal(at, CLIPS.c.accepted_at.type), after)
        query = query.where(place < end if newest_first else place > end)
    query = query.order_by(*(each.desc() if newest_first else each for each in _PLACE))
    return [_video(row) for row in tx.execute(query.limit(limit))]


def delete_video(tx: Connection, tenant_id: str, clip_id: str, now: datetime) -> Deletion:
    """Forget the tenant's own clip, its bytes and its prompt, once it has ended; never its charge.

    A kept answer goes with the first clip that it told of, a prompt with the last that was made
    from it. The bytes themselves are the vault's, and go after this is durable.
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
    tx.execute(delete(ANSWERS).where(ANSWERS.c.generation_id == video.generation_id))
    others = exists().where(CLIPS.c.generation_id == GENERATIONS.c.id, CLIPS.c.deleted_at.is_(None))
    tx.execute(
        update(GENERATIONS)
        .where(GENERATIONS.c.id == video.generation_id, ~others)
        .values(prompt=None)
    )
    return Deletion.DONE


def _video(row: Sequence[Any]) -> VideoRow:
    values = dict(zip(VideoRow.__slots__, row, strict=True))
    return VideoRow(**{**values, "state": State(values["state"])})
