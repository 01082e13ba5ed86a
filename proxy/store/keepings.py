"""What becomes of delivered clips' bytes: waiting to be fetched, kept, lost, evicted, deleted.

A row is born in the transaction that charges its clip, so no crash can forget to fetch it (R25);
nothing that happens to it changes the charge (law 3). Owners and fences are as in `store.jobs`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, and_, bindparam, case, func, insert, or_, select, update

from proxy.core.clip import LINK_LIFE
from proxy.store.jobs import ownerless
from proxy.store.prepared import Prepared
from proxy.store.tables import CLIPS, GENERATIONS, KEEPINGS


@dataclass(frozen=True, slots=True)
class Waiting:
    """A clip to be fetched: from `url`, or where that is None from its gateway's `/content`."""

    clip_id: str
    url: str | None
    gateway: str | None
    upstream_id: str | None
    link_dies_at: datetime
    tries: int
    fence: int


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A clip that is kept, as it is written down."""

    clip_id: str
    sha256: str
    size_bytes: int
    kept_at: datetime
    used_at: datetime | None


_COLUMNS: Final = (
    KEEPINGS.c.clip_id,
    CLIPS.c.url,
    GENERATIONS.c.gateway,
    GENERATIONS.c.upstream_id,
    KEEPINGS.c.link_dies_at,
    KEEPINGS.c.tries,
    KEEPINGS.c.fence,
)
_EXPECT: Final = Prepared(insert(KEEPINGS))


def expect(tx: Connection, clip_id: str, now: datetime) -> None:
    """A clip was delivered at `now`: its bytes are to be fetched, at once."""
    row = dict.fromkeys((column.name for column in KEEPINGS.columns), None) | {
        "clip_id": clip_id,
        "state": "waiting",
        "link_dies_at": now + LINK_LIFE,
        "tries": 0,
        "next_try_at": now,
        "fence": 0,
    }
    _EXPECT.run(tx, row)


def claim_waiting(
    tx: Connection,
    process_id: str,
    now: datetime,
    dead_before: datetime,
    clips_max: int,
    besides: Collection[str] = (),
) -> list[Waiting]:
    """Make clips whose time to be fetched has come `process_id`'s; those that die first come first.

    `besides` are the clips that it is fetching already.
    """
    free = or_(KEEPINGS.c.owner == process_id, ownerless(KEEPINGS.c.owner, dead_before))
    due = (
        select(KEEPINGS.c.clip_id)
        .where(
            KEEPINGS.c.state == "waiting",
            KEEPINGS.c.next_try_at <= now,
            KEEPINGS.c.clip_id.not_in(sorted(besides)),
            free,
        )
        .order_by(KEEPINGS.c.link_dies_at, KEEPINGS.c.clip_id)
        .limit(clips_max)
    )
    taken = tx.execute(
        update(KEEPINGS)
        .where(KEEPINGS.c.clip_id.in_(due))
        .values(owner=process_id, fence=KEEPINGS.c.fence + 1)
        .returning(KEEPINGS.c.clip_id)
    ).scalars()
    rows = tx.execute(
        select(*_COLUMNS)
        .join(CLIPS, CLIPS.c.id == KEEPINGS.c.clip_id)
        .join(GENERATIONS, GENERATIONS.c.id == CLIPS.c.generation_id)
        .where(KEEPINGS.c.clip_id.in_(list(taken)))
        .order_by(KEEPINGS.c.link_dies_at, KEEPINGS.c.clip_id)
    )
    return [Waiting(*row) for row in rows]


def put_off(tx: Connection, clip_id: str, fence: int, trouble: str, next_try_at: datetime) -> bool:
    """The clip could not be fetched; whoever comes at `next_try_at` tries again."""
    values = {
        "owner": None,
        "tries": KEEPINGS.c.tries + 1,
        "trouble": trouble,
        "next_try_at": next_try_at,
    }
    return _change(tx, clip_id, fence, values)


def record_kept(
    tx: Connection, clip_id: str, fence: int, sha256: str, size_bytes: int, now: datetime
) -> bool:
    """The clip's bytes are in the vault; False if it was deleted, or is another's by now."""
    values = {
        "state": "kept",
        "owner": None,
        "trouble": None,
        "sha256": sha256,
        "size_bytes": size_bytes,
        "kept_at": now,
    }
    return _change(tx, clip_id, fence, values)


def record_lost(tx: Connection, clip_id: str, fence: int, trouble: str) -> bool:
    """The clip's link died before its bytes were fetched; listed for a goodwill credit (law 3)."""
    return _change(tx, clip_id, fence, {"state": "lost", "owner": None, "trouble": trouble})


def record_missing(tx: Connection, clip_id: str, sha256: str, trouble: str, now: datetime) -> None:
    """Kept bytes are gone or damaged: to be fetched again while the link lives, else lost."""
    alive = KEEPINGS.c.link_dies_at > now
    tx.execute(
        update(KEEPINGS)
        .where(
            KEEPINGS.c.clip_id == clip_id,
            KEEPINGS.c.state == "kept",
            KEEPINGS.c.sha256 == sha256,
        )
        .values(
            state=case((alive, "waiting"), else_="lost"),
            trouble=trouble,
            next_try_at=now,
            owner=None,
        )
    )


def evict(tx: Connection, clip_ids: Collection[str]) -> list[str]:
    """These kept clips are to leave the vault; which of them were kept until now."""
    changed = tx.execute(
        update(KEEPINGS)
        .where(KEEPINGS.c.clip_id.in_(sorted(clip_ids)), KEEPINGS.c.state == "kept")
        .values(state="evicted")
        .returning(KEEPINGS.c.clip_id)
    )
    return list(changed.scalars())


def kept_rows(tx: Connection) -> list[KeptRow]:
    """Every kept clip, the oldest first."""
    rows = tx.execute(
        select(*(KEEPINGS.c[name] for name in KeptRow.__slots__))
        .where(KEEPINGS.c.state == "kept")
        .order_by(KEEPINGS.c.kept_at, KEEPINGS.c.clip_id)
    )
    return [KeptRow(*row) for row in rows]


def strangers(tx: Connection, clip_ids: Collection[str]) -> list[str]:
    """Those of `clip_ids` whose bytes nobody is to have: evicted, deleted, lost or never ours."""
    wanted = set(
        tx.execute(
            select(KEEPINGS.c.clip_id).where(
                KEEPINGS.c.clip_id.in_(sorted(clip_ids)), KEEPINGS.c.state.in_(("waiting", "kept"))
            )
        ).scalars()
    )
    # A clip's bytes may come before its charge, from `/content`: it is unsettled then.
    wanted |= set(
        tx.execute(
            select(CLIPS.c.id).where(
                CLIPS.c.id.in_(sorted(clip_ids)), CLIPS.c.completed_at.is_(None)
            )
        ).scalars()
    )
    return [clip_id for clip_id in clip_ids if clip_id not in wanted]


def touch_used(tx: Connection, used: Mapping[str, datetime]) -> None:
    """Write down when kept clips were last asked for; never back to an earlier time."""
    if used:
        tx.execute(_TOUCH, [{"of_clip": clip, "new_used": at} for clip, at in used.items()])


_TOUCH: Final = (
    update(KEEPINGS)
    .where(
        KEEPINGS.c.clip_id == bindparam("of_clip"),
        or_(KEEPINGS.c.used_at.is_(None), KEEPINGS.c.used_at < bindparam("new_used")),
    )
    .values(used_at=bindparam("new_used"))
)


def kept_totals(tx: Connection) -> tuple[int, int]:
    """How many clips are kept, and their bytes."""
    clips, size = tx.execute(
        select(func.count(), func.coalesce(func.sum(KEEPINGS.c.size_bytes), 0)).where(
            KEEPINGS.c.state == "kept"
        )
    ).one()
    return int(clips), int(size)


def unarchived(tx: Connection) -> tuple[int, datetime | None]:
    """How many clips wait to be fetched, and when the first of their links dies."""
    count, dies = tx.execute(
        select(func.count(), func.min(KEEPINGS.c.link_dies_at)).where(KEEPINGS.c.state == "waiting")
    ).one()
    return int(count), dies


def _change(tx: Connection, clip_id: str, fence: int, values: Mapping[str, object]) -> bool:
    held = and_(
        KEEPINGS.c.clip_id == clip_id, KEEPINGS.c.fence == fence, KEEPINGS.c.state == "waiting"
    )
    return bool(tx.execute(update(KEEPINGS).where(held).values(**values)).rowcount)
