"""Which earlier request a new one repeats: by its key, its SDK's count of tries, or its content.

Asked while the new one is being admitted, under the writer's lock: of any number that come at the
same moment one is new, and all the others are told of it. A name or a join is written in the
transaction that writes the generation it belongs to, so there is never one without the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
)

from proxy.core.clip import OPEN, State
from proxy.core.replay import JOINABLE, RETRY_WINDOW, Earlier, Why
from proxy.store.prepared import Prepared
from proxy.store.tables import ANSWERS, CLIPS, GENERATIONS, IDEMPOTENCY_KEYS, JOINS, KEEPINGS

if TYPE_CHECKING:
    from proxy.store.admission import Admission


ALIKE_MAX: Final = 100
"""How many identical requests, the latest ones, are looked at for one that can be given again."""


def _in(states: frozenset[State]) -> ColumnElement[bool]:
    """That a clip is in one of `states`."""
    return or_(*(CLIPS.c.state == state.value for state in sorted(states)))


def _has(generation: FromClause, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """That `generation` has a clip of which all `conditions` are so."""
    return exists().where(CLIPS.c.generation_id == generation.c.id, *conditions)


def _latest(generation: FromClause, *conditions: ColumnElement[bool]) -> Prepared:
    order = (generation.c.accepted_at.desc(), generation.c.id.desc())
    return Prepared(select(generation.c.id).where(*conditions).order_by(*order).limit(1))


_OWN: Final = and_(
    GENERATIONS.c.tenant_id == bindparam("tenant_id"), GENERATIONS.c.mode == bindparam("mode")
)

_NAMED: Final = Prepared(
    select(IDEMPOTENCY_KEYS.c.generation_id, IDEMPOTENCY_KEYS.c.body_hash).where(
        IDEMPOTENCY_KEYS.c.tenant_id == bindparam("tenant_id"),
        IDEMPOTENCY_KEYS.c.mode == bindparam("mode"),
        IDEMPOTENCY_KEYS.c.key == bindparam("key"),
        IDEMPOTENCY_KEYS.c.expires_at > bindparam("now"),
    )
)
_TRIED_BEFORE: Final = _latest(
    GENERATIONS,
    _OWN,
    GENERATIONS.c.accepted_at > bindparam("not_before"),
    GENERATIONS.c.body_hash == bindparam("body_hash"),
    # In the very words of the index, which leaves out answers that were given again.
    GENERATIONS.c.attempts > literal_column("0"),
    _has(GENERATIONS, _in(JOINABLE)),
    ~exists().where(
        JOINS.c.generation_id == GENERATIONS.c.id, JOINS.c.retry_count == bindparam("retry_count")
    ),
    # Whoever named a purchase names it in every repeat as well.
    ~exists().where(IDEMPOTENCY_KEYS.c.generation_id == GENERATIONS.c.id),
)

_RECENT: Final = (
    select(*(GENERATIONS.c[name] for name in ("id", "mode", "accepted_at", "ended_at")))
    .where(_OWN, GENERATIONS.c.like_hash == bindparam("body_hash"))
    .order_by(GENERATIONS.c.accepted_at.desc(), GENERATIONS.c.id.desc())
    .limit(ALIKE_MAX)
    .subquery("recent")
)
# Counts and single values, because PostgreSQL may answer an EXISTS here by reading a whole table.
_CLIPS: Final = (
    select(func.count())
    .select_from(CLIPS.outerjoin(KEEPINGS, KEEPINGS.c.clip_id == CLIPS.c.id))
    .where(CLIPS.c.generation_id == _RECENT.c.id)
)
_BYTES_STAY: Final = or_(KEEPINGS.c.state == "waiting", KEEPINGS.c.state == "kept")
_TO_GIVE: Final = and_(
    CLIPS.c.state == State.DELIVERED.value, CLIPS.c.deleted_at.is_(None), _BYTES_STAY
)
_ANSWER: Final = select(ANSWERS.c.expires_at).where(ANSWERS.c.generation_id == _RECENT.c.id)
_WHOLE: Final = and_(
    _CLIPS.where(func.coalesce(~_TO_GIVE, true())).scalar_subquery() == 0,
    or_(_RECENT.c.mode == "video", _ANSWER.scalar_subquery() > bindparam("now")),
)
_RUNNING: Final = and_(
    _RECENT.c.ended_at.is_(None),
    _CLIPS.where(~_in(OPEN | {State.DELIVERED})).scalar_subquery() == 0,
)
_LIKE: Final = _latest(_RECENT, or_(_WHOLE, _RUNNING))

_FORGET_NAME: Final = Prepared(
    delete(IDEMPOTENCY_KEYS).where(
        IDEMPOTENCY_KEYS.c.tenant_id == bindparam("tenant_id"),
        IDEMPOTENCY_KEYS.c.mode == bindparam("mode"),
        IDEMPOTENCY_KEYS.c.key == bindparam("key"),
    )
)
_FREE: Final = Prepared(
    delete(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.generation_id == bindparam("generation_id"))
)
_UNNAME: Final = Prepared(
    delete(IDEMPOTENCY_KEYS).where(
        IDEMPOTENCY_KEYS.c.tenant_id == bindparam("tenant_id"),
        IDEMPOTENCY_KEYS.c.mode == bindparam("mode"),
        IDEMPOTENCY_KEYS.c.key == bindparam("key"),
        IDEMPOTENCY_KEYS.c.generation_id == bindparam("generation_id"),
    )
)
_INSERT_NAME: Final = Prepared(insert(IDEMPOTENCY_KEYS))
_INSERT_JOIN: Final = Prepared(insert(JOINS))


def find_earlier(tx: Connection, ask: Admission) -> Earlier | None:
    """The earlier generation that `ask` repeats, if it has a key, a count or a wish that says so.

    What it joins or names is written down with it; nothing is held.
    """
    said = {
        "tenant_id": ask.tenant_id,
        "mode": ask.mode,
        "body_hash": ask.body_hash,
        "now": ask.now,
    }
    if ask.idempotency_key is not None:
        named = _NAMED.one(tx, {**said, "key": ask.idempotency_key})
        if named is not None:
            return Earlier(named[0], Why.IDEMPOTENCY, same_body=named[1] == ask.body_hash)
    elif ask.retry_count:
        window = {"not_before": ask.now - RETRY_WINDOW, "retry_count": ask.retry_count}
        tried = _TRIED_BEFORE.one(tx, {**said, **window})
        if tried is not None:
            _join(tx, tried[0], ask)
            return Earlier(tried[0], Why.RETRY)
    like = _LIKE.one(tx, said) if ask.reuse else None
    if like is None:
        return None
    if ask.idempotency_key is not None:
        _name(tx, like[0], ask)
    return Earlier(like[0], Why.REUSE)


def remember(tx: Connection, ask: Admission) -> None:
    """Write down what a new generation's repeats will be known by.

    A repeat that found nothing to join is a request of its own: its count is taken, so that
    another's repeat does not join it.
    """
    if ask.idempotency_key is not None:
        _name(tx, ask.generation_id, ask)
    elif ask.retry_count:
        _join(tx, ask.generation_id, ask)


def free_key(tx: Connection, generation_id: str) -> None:
    """Let go of every key that names this generation, which bought nothing; of no other's."""
    _FREE.run(tx, {"generation_id": generation_id})


def unname(tx: Connection, tenant_id: str, mode: str, key: str, generation_id: str) -> None:
    """Let go of one key, if it names this generation: that one had nothing to give after all."""
    names = {"tenant_id": tenant_id, "mode": mode, "key": key, "generation_id": generation_id}
    _UNNAME.run(tx, names)


def _name(tx: Connection, generation_id: str, ask: Admission) -> None:
    row: dict[str, Any] = {
        "tenant_id": ask.tenant_id,
        "mode": ask.mode,
        "key": ask.idempotency_key,
        "generation_id": generation_id,
        "body_hash": ask.body_hash,
        "created_at": ask.now,
        "expires_at": ask.key_expires_at,
    }
    _FORGET_NAME.run(tx, row)  # it may have meant another one, a long time ago
    _INSERT_NAME.run(tx, row)


def _join(tx: Connection, generation_id: str, ask: Admission) -> None:
    row = {
        "generation_id": generation_id,
        "retry_count": ask.retry_count,
        "joined_at": ask.now,
    }
    _INSERT_JOIN.run(tx, row)
