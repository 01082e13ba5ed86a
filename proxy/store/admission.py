"""Admission: the intent, its clips' holds and every limit they count against, in one transaction.

Whoever runs this holds the writer's lock from before the first read, so no other admission comes
between what is read here and what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from proxy.core import budget
from proxy.core.budget import Limits, OverLimit, Used
from proxy.core.clip import State
from proxy.core.ledger import Kind, entry_id
from proxy.core.pricing import Price
from proxy.core.replay import Earlier
from proxy.store.earlier import find_earlier, remember
from proxy.store.prepared import Prepared, together
from proxy.store.tables import (
    ATTEMPTS,
    BUDGETS,
    CLIPS,
    ENTRIES,
    FLIGHTS,
    GENERATIONS,
    KEYS,
    MINUTES,
    TENANTS,
    VENDOR_SCOPE,
)

DISPATCHING: Final = "dispatching"
"""The outcome of an attempt that nobody has seen end."""


@dataclass(frozen=True, slots=True)
class Admission:
    """One paid request that asks to be let in: who, what, at which price, and through whom first.

    There are as many clips as `clip_ids`, each at `price`. `vendor_clips_in_flight` is the vendor
    account's limit; the tenant's own are read with the tenant. `mode` is "chat" or "video";
    `prompt` is kept for a video's own tenant, and may be missing.

    It repeats an earlier request if its `idempotency_key`, which is good until `key_expires_at`,
    names one; if it has no key, and is the `retry_count`th repeat that an SDK made by itself; or if
    `reuse` says that any identical one will do, of those that were `reusable`. Bodies are compared
    by `body_hash`.
    """

    generation_id: str
    clip_ids: tuple[str, ...]
    tenant_id: str
    key_id: str
    mode: str
    model: str
    asked_model: str
    stream: bool
    body_hash: str
    price: Price
    vendor_clips_in_flight: int | None
    process_id: str
    gateway: str
    now: datetime
    prompt: str | None = None
    idempotency_key: str | None = None
    key_expires_at: datetime | None = None
    retry_count: int = 0
    reuse: bool = False
    reusable: bool = False

    @property
    def may_repeat(self) -> bool:
        """Whether an earlier request has to be looked for."""
        return self.idempotency_key is not None or self.retry_count > 0 or self.reuse


@dataclass(frozen=True, slots=True)
class Admitted:
    """Let in; the limits that applied and what was used of them before."""

    limits: Limits
    used: Used


@dataclass(frozen=True, slots=True)
class KeyGone:
    """The key is revoked or expired, or its tenant disabled, whatever a cache still says."""


Outcome = Admitted | Earlier | OverLimit | KeyGone

_TENANT_FLIGHT: Final = FLIGHTS.alias("tenant_flight")
_VENDOR_FLIGHT: Final = FLIGHTS.alias("vendor_flight")

_LOOK: Final = Prepared(
    select(
        TENANTS.c.disabled_at,
        KEYS.c.revoked_at,
        KEYS.c.expires_at,
        TENANTS.c.clips_per_month,
        TENANTS.c.micros_per_month,
        TENANTS.c.clips_in_flight,
        TENANTS.c.requests_per_minute,
        BUDGETS.c.clips,
        BUDGETS.c.micros,
        _TENANT_FLIGHT.c.clips,
        _VENDOR_FLIGHT.c.clips,
        MINUTES.c.minute,
        MINUTES.c.requests,
    )
    .select_from(TENANTS)
    .join(KEYS, and_(KEYS.c.id == bindparam("key_id"), KEYS.c.tenant_id == TENANTS.c.id))
    .outerjoin(
        BUDGETS,
        and_(BUDGETS.c.tenant_id == TENANTS.c.id, BUDGETS.c.month == bindparam("month")),
    )
    .join(_TENANT_FLIGHT, _TENANT_FLIGHT.c.scope == TENANTS.c.id)
    .join(_VENDOR_FLIGHT, _VENDOR_FLIGHT.c.scope == VENDOR_SCOPE)
    .join(MINUTES, MINUTES.c.tenant_id == TENANTS.c.id)
    .where(TENANTS.c.id == bindparam("tenant_id"))
)
_INSERT_GENERATION: Final = Prepared(insert(GENERATIONS))
_INSERT_CLIP: Final = Prepared(insert(CLIPS))
_INSERT_ATTEMPT: Final = Prepared(insert(ATTEMPTS))
INSERT_ENTRY: Final = Prepared(insert(ENTRIES))
_INSERT_BUDGET: Final = Prepared(insert(BUDGETS))
ADD_TO_BUDGET: Final = Prepared(
    update(BUDGETS)
    .where(BUDGETS.c.tenant_id == bindparam("of_tenant"), BUDGETS.c.month == bindparam("of_month"))
    .values(
        clips=BUDGETS.c.clips + bindparam("more_clips"),
        micros=BUDGETS.c.micros + bindparam("more_micros"),
    )
)
ADD_TO_FLIGHTS: Final = Prepared(
    update(FLIGHTS)
    .where(or_(FLIGHTS.c.scope == VENDOR_SCOPE, FLIGHTS.c.scope == bindparam("of_tenant")))
    .values(clips=FLIGHTS.c.clips + bindparam("more_clips"))
)
_COUNT_MINUTE: Final = Prepared(
    update(MINUTES)
    .where(MINUTES.c.tenant_id == bindparam("of_tenant"))
    .values(minute=bindparam("of_minute"), requests=bindparam("requests_so_far"))
)

_UNENDED: Final = dict.fromkeys(
    (
        "upstream_request_id",
        "upstream_origin_request_id",
        "upstream_id",
        "status",
        "ended_at",
        "ending",
        "reason",
        "vendor_text",
        "url",
        "completed_at",
        "finance_month",
        "deleted_at",
        "replay_of",
        "settles",
    )
)


def admit(tx: Connection, ask: Admission) -> Outcome:
    """Write the intent and its holds, or refuse, or name the earlier request that this one repeats.

    A refusal changes nothing; a repeat holds nothing, and is asked for before any limit is.
    """
    month = budget.month_of(ask.now)
    minute = budget.minute_of(ask.now)
    keys = {"tenant_id": ask.tenant_id, "key_id": ask.key_id, "month": month}
    row = _LOOK.one(tx, keys)
    if row is None:
        return KeyGone()
    disabled_at, revoked_at, expires_at = row[:3]
    expired = expires_at is not None and expires_at <= ask.now
    if disabled_at is not None or revoked_at is not None or expired:
        return KeyGone()
    if ask.may_repeat and (earlier := find_earlier(tx, ask)) is not None:
        return earlier
    limits = Limits(row[3], row[4], row[5], row[6], ask.vendor_clips_in_flight)
    clips_month, micros_month, tenant_flight, vendor_flight, counted_minute, requests = row[7:]
    # A clock that another process has ahead of ours must not open a new minute twice.
    minute = max(minute, counted_minute)
    requests_minute = requests if counted_minute == minute else 0
    used = Used(clips_month or 0, micros_month or 0, tenant_flight, requests_minute, vendor_flight)
    clips = len(ask.clip_ids)
    micros = clips * ask.price.micros
    refusal = budget.admit(limits, used, clips, micros, ask.now)
    if refusal is not None:
        return refusal
    with together(tx):
        _insert(tx, ask, month)
        if ask.may_repeat:
            remember(tx, ask)
        _count(tx, ask, month, first_of_month=clips_month is None)
        if limits.requests_per_minute is not None:
            counted = {"of_minute": minute, "requests_so_far": requests_minute + 1}
            _COUNT_MINUTE.run(tx, {"of_tenant": ask.tenant_id, **counted})
    return Admitted(limits, used)


def _insert(tx: Connection, ask: Admission, month: str) -> None:
    accepted: dict[str, Any] = {
        **_UNENDED,
        "tenant_id": ask.tenant_id,
        "generation_id": ask.generation_id,
        "model": ask.model,
        "accepted_at": ask.now,
        "month": month,
    }
    generation = {
        **accepted,
        "id": ask.generation_id,
        "key_id": ask.key_id,
        "mode": ask.mode,
        "asked_model": ask.asked_model,
        "clips": len(ask.clip_ids),
        "stream": ask.stream,
        "body_hash": ask.body_hash,
        "like_hash": ask.body_hash if ask.reuse or ask.reusable else None,
        "prompt": ask.prompt,
        "process_id": ask.process_id,
        "gateway": None,
        "attempts": 1,
    }
    _INSERT_GENERATION.run(tx, generation)
    clip = {
        **accepted,
        "state": State.ACCEPTED.value,
        "price_micros": ask.price.micros,
        "list_micros": ask.price.list_micros,
        "price_version": ask.price.version,
    }
    clips = [{**clip, "id": one, "position": at} for at, one in enumerate(ask.clip_ids)]
    _INSERT_CLIP.run_each(tx, clips)
    hold = {
        **accepted,
        "kind": Kind.HOLD.value,
        "amount_micros": ask.price.micros,
        "booked_at": ask.now,
    }
    holds = [{**hold, "id": entry_id(Kind.HOLD, one), "clip_id": one} for one in ask.clip_ids]
    INSERT_ENTRY.run_each(tx, holds)
    insert_attempt(tx, ask.generation_id, 1, ask.gateway, ask.now)


def insert_attempt(
    tx: Connection, generation_id: str, number: int, gateway: str, now: datetime
) -> None:
    """Write down that attempt `number` is about to be sent."""
    attempt = {
        **_UNENDED,
        "generation_id": generation_id,
        "number": number,
        "gateway": gateway,
        "started_at": now,
        "outcome": DISPATCHING,
        "maybe_accepted": False,
        "exposure_micros": 0,
    }
    _INSERT_ATTEMPT.run(tx, attempt)


def _count(tx: Connection, ask: Admission, month: str, *, first_of_month: bool) -> None:
    clips = len(ask.clip_ids)
    micros = clips * ask.price.micros
    if first_of_month:
        budget_row = {"tenant_id": ask.tenant_id, "month": month, "clips": clips, "micros": micros}
        _INSERT_BUDGET.run(tx, budget_row)
    else:
        of = {"of_tenant": ask.tenant_id, "of_month": month}
        ADD_TO_BUDGET.run(tx, {**of, "more_clips": clips, "more_micros": micros})
    ADD_TO_FLIGHTS.run(tx, {"of_tenant": ask.tenant_id, "more_clips": clips})
