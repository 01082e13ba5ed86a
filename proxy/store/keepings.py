"""What becomes of delivered clips' bytes: waiting to be fetched, kept, lost, evicted, deleted.

A row is born in the transaction that charges its clip, so no crash can forget to fetch it (R25);
nothing that happens to it changes the charge (law 3). Owners and fences are as in `store.jobs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from proxy.core.clip import LINK_LIFE
from proxy.store.jobs import IDS_AT_ONCE, ownerless
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
# In the very words of the two indexes: PostgreSQL uses neither for a state that is a parameter.
_WAITING: Final = KEEPINGS.c.state == literal_column("'waiting'")
_KEPT: Final = KEEPINGS.c.state == literal_column("'kept'")

_EXPECT: Final = Prepared(insert(KEEPINGS))
_EXPECTED: Final[dict[str, Any]] = {
    **dict.fromkeys(column.name for column in KEEPINGS.columns),
    "state": "waiting",
    "tries": 0,
    "fence": 0,
}


def expect(tx: Connection, clip_id: str, now: datetime) -> None:
    """A clip was delivered at `now`: its bytes are to be fetched, at once."""
    of_clip = {"clip_id": clip_id, "link_dies_at": now + LINK_LIFE, "next_try_at": now}
    _EXPECT.run(tx, {**_EXPECTED, **of_clip})


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
    due = (
        select(KEEPINGS.c.clip_id)
        .where(_free(process_id, dead_before, besides), KEEPINGS.c.next_try_at <= now)
        .order_by(KEEPINGS.c.link_dies_at, KEEPINGS.c.clip_id)
        .limit(max(clips_max, 0))
    )
    changed = tx.execute(
        update(KEEPINGS)
        .where(KEEPINGS.c.clip_id.in_(due))
        .values(owner=process_id, fence=KEEPINGS.c.fence + 1)
        .returning(KEEPINGS.c.clip_id)
    )
    taken = changed.scalars().all()
    if not taken:
        return []
    rows = tx.execute(
        select(*_COLUMNS)
        .join(CLIPS, CLIPS.c.id == KEEPINGS.c.clip_id)
        .join(GENERATIONS, GENERATIONS.c.id == CLIPS.c.generation_id)
        .where(KEEPINGS.c.clip_id.in_(taken))
        .order_by(KEEPINGS.c.link_dies_at, KEEPINGS.c.clip_id)
    )
    return [Waiting(*row) for row in rows]


def earliest_try(
    tx: Connection, process_id: str, dead_before: datetime, besides: Collection[str] = ()
) -> datetime | None:
    """When the first of the clips that `process_id` can claim is to be tried."""
    at: datetime | None = tx.execute(
        select(KEEPINGS.c.next_try_at)
        .where(_free(process_id, dead_before, besides))
        .order_by(KEEPINGS.c.next_try_at)
        .limit(1)
    ).scalar()
    return at


def forsake(tx: Connection, died_before: datetime, trouble: str, clips_max: int) -> list[str]:
    """Clips that nobody ever began to fetch, and whose links died before then, are lost; which.

    At most `clips_max`. There are many where an older installation never fetched any.
    """
    dead = (
        select(KEEPINGS.c.clip_id)
        .where(_WAITING, KEEPINGS.c.fence == 0, KEEPINGS.c.link_dies_at < died_before)
        .limit(clips_max)
    )
    lost = tx.execute(
        update(KEEPINGS)
        .where(KEEPINGS.c.clip_id.in_(dead))
        .values(state="lost", trouble=trouble)
        .returning(KEEPINGS.c.clip_id)
    )
    return list(lost.scalars())


def find_keeping(tx: Connection, clip_id: str) -> tuple[str, datetime] | None:
    """What became of a delivered clip's bytes, and when they are tried next while they wait."""
    row = tx.execute(
        select(KEEPINGS.c.state, KEEPINGS.c.next_try_at).where(KEEPINGS.c.clip_id == clip_id)
    ).first()
    return None if row is None else (row[0], row[1])


def put_off(tx: Connection, clip_id: str, fence: int, trouble: str, next_try_at: datetime) -> bool:
    """The clip could not be fetched; whoever comes at `next_try_at` tries again.

    False if it is no longer being fetched at `fence`, or was put off already.
    """
    values = {
        "owner": None,
        "tries": KEEPINGS.c.tries + 1,
        "trouble": trouble,
        "next_try_at": next_try_at,
    }
    put = and_(_held(clip_id, fence), KEEPINGS.c.owner.is_not(None))
    return bool(tx.execute(update(KEEPINGS).where(put).values(**values)).rowcount)


def record_kept(
    tx: Connection, clip_id: str, fence: int, sha256: str, size_bytes: int, now: datetime
) -> bool:
    """The clip's bytes are in the vault; False if it was deleted, or is another's by now.

    True again when it is said again, by one who could not know that the first was heard. Whoever
    has the bytes of a clip that was never kept, and that another gave up for lost, is right.
    """
    values = {
        "state": "kept",
        "owner": None,
        "trouble": None,
        "sha256": sha256,
        "size_bytes": size_bytes,
        "kept_at": now,
    }
    given_up = and_(
        KEEPINGS.c.clip_id == clip_id, KEEPINGS.c.state == "lost", KEEPINGS.c.sha256.is_(None)
    )
    either = or_(_held(clip_id, fence), given_up)
    if tx.execute(update(KEEPINGS).where(either).values(**values)).rowcount:
        return True
    so_already = and_(
        KEEPINGS.c.clip_id == clip_id,
        KEEPINGS.c.fence == fence,
        KEEPINGS.c.sha256 == sha256,
        _KEPT,
    )
    return tx.execute(select(KEEPINGS.c.clip_id).where(so_already)).first() is not None


def record_lost(tx: Connection, clip_id: str, fence: int, trouble: str) -> bool:
    """The clip's link died before its bytes were fetched; listed for a goodwill credit (law 3).

    False if that is no longer this one's to say.
    """
    values = {"state": "lost", "owner": None, "trouble": trouble}
    held = _held(clip_id, fence)
    return bool(tx.execute(update(KEEPINGS).where(held).values(**values)).rowcount)


def record_missing(
    tx: Connection, clip_id: str, sha256: str, trouble: str, now: datetime
) -> str | None:
    """Kept bytes are gone or damaged: to be fetched again while the link lives, else lost.

    The new state, "waiting" or "lost"; None if the clip was not kept, or not with these bytes.
    """
    alive = KEEPINGS.c.link_dies_at > now
    state: str | None = tx.execute(
        update(KEEPINGS)
        .where(KEEPINGS.c.clip_id == clip_id, _KEPT, KEEPINGS.c.sha256 == sha256)
        .values(
            state=case((alive, "waiting"), else_="lost"),
            trouble=trouble,
            tries=0,
            next_try_at=now,
            owner=None,
            # Whoever kept them, and says so once more, is not believed.
            fence=KEEPINGS.c.fence + 1,
        )
        .returning(KEEPINGS.c.state)
    ).scalar()
    return state


def record_found(tx: Connection, clip_id: str, sha256: str) -> bool:
    """Bytes that were kept and then missed are there again, as of a disk that was not mounted."""
    lost = and_(
        KEEPINGS.c.clip_id == clip_id, KEEPINGS.c.state == "lost", KEEPINGS.c.sha256 == sha256
    )
    changed = tx.execute(update(KEEPINGS).where(lost).values(state="kept", trouble=None))
    return bool(changed.rowcount)


def evict(tx: Connection, clip_ids: Collection[str]) -> list[str]:
    """These kept clips are to leave the vault; which of them were kept until now."""
    evicted: list[str] = []
    for some in _in_parts(clip_ids):
        changed = tx.execute(
            update(KEEPINGS)
            .where(KEEPINGS.c.clip_id.in_(some), KEEPINGS.c.state == "kept")
            .values(state="evicted")
            .returning(KEEPINGS.c.clip_id)
        )
        evicted += changed.scalars()
    return evicted


def kept_rows(tx: Connection) -> list[KeptRow]:
    """Every kept clip, the oldest first."""
    rows = tx.execute(
        select(*(KEEPINGS.c[name] for name in KeptRow.__slots__))
        .where(_KEPT)
        .order_by(KEEPINGS.c.kept_at, KEEPINGS.c.clip_id)
    )
    return [KeptRow(*row) for row in rows]


def strangers(tx: Connection, clip_ids: Collection[str]) -> list[str]:
    """Those of `clip_ids` whose bytes nobody is to have: evicted, deleted, lost or never ours."""
    wanted: set[str] = set()
    for some in _in_parts(clip_ids):
        ours = select(KEEPINGS.c.clip_id).where(
            KEEPINGS.c.clip_id.in_(some), KEEPINGS.c.state.in_(("waiting", "kept"))
        )
        # A clip's bytes may come before its charge, from `/content`: it is unsettled then.
        early = select(CLIPS.c.id).where(CLIPS.c.id.in_(some), CLIPS.c.completed_at.is_(None))
        wanted.update(tx.execute(ours).scalars(), tx.execute(early).scalars())
    return [clip_id for clip_id in clip_ids if clip_id not in wanted]


def unheard_of(tx: Connection, clip_ids: Collection[str]) -> list[str]:
    """Those of `clip_ids` that no row of ours names: another's, or of a database that was lost."""
    known: set[str] = set()
    for some in _in_parts(clip_ids):
        known.update(tx.execute(select(CLIPS.c.id).where(CLIPS.c.id.in_(some))).scalars())
    return [clip_id for clip_id in clip_ids if clip_id not in known]


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
        select(func.count(), func.coalesce(func.sum(KEEPINGS.c.size_bytes), 0)).where(_KEPT)
    ).one()
    return int(clips), int(size)


def unarchived(tx: Connection) -> tuple[int, datetime | None]:
    """How many clips wait to be fetched, and when the first of their links dies."""
    count, dies = tx.execute(
        select(func.count(), func.min(KEEPINGS.c.link_dies_at)).where(_WAITING)
    ).one()
    return int(count), dies


def _free(process_id: str, dead_before: datetime, besides: Collection[str]) -> ColumnElement[bool]:
    """Whether the clip waits, is not among `besides`, and no other living process fetches it."""
    return and_(
        _WAITING,
        KEEPINGS.c.clip_id.not_in(sorted(besides)),
        or_(KEEPINGS.c.owner == process_id, ownerless(KEEPINGS.c.owner, dead_before)),
    )


def _held(clip_id: str, fence: int) -> ColumnElement[bool]:
    """Whether the clip still waits, and nobody took it over from the owner at `fence`."""
    return and_(
        KEEPINGS.c.clip_id == clip_id, KEEPINGS.c.fence == fence, KEEPINGS.c.state == "waiting"
    )


def _in_parts(clip_ids: Collection[str]) -> Iterator[list[str]]:
    """All of `clip_ids`, as many at once as one statement is given."""
    every = sorted(clip_ids)
    for at in range(0, len(every), IDS_AT_ONCE):
        yield every[at : at + IDS_AT_ONCE]
