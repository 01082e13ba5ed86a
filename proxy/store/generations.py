"""Paid requests after their admission: attempts, answers, ends, and those whose process died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Integer, bindparam, exists, func, select, update

from proxy.core import clip
from proxy.core.clip import State
from proxy.store.admission import insert_attempt
from proxy.store.prepared import Prepared, set_to
from proxy.store.tables import ATTEMPTS, CLIPS, GENERATIONS, JOBS, PROCESSES, VENDOR_TEXT_LENGTH_MAX

ORPHANS_MAX: Final = 1_000
"""How many orphans one look brings."""


@dataclass(frozen=True, slots=True)
class UpstreamIds:
    """What the vendor calls a request: its own id, its origin's, and a job's or clip's."""

    request_id: str | None = None
    origin_request_id: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended: `outcome` is "answered", "unreachable" or "silent".

    `exposure_micros` is what the vendor may bill for it without a clip to show.
    """

    outcome: str
    now: datetime
    status: int | None = None
    reason: str | None = None
    maybe_accepted: bool = False
    exposure_micros: int = 0
    ids: UpstreamIds = UpstreamIds()


@dataclass(frozen=True, slots=True)
class GenerationEnd:
    """How a generation ended: `ending` is "told", "untold" or "refused"; `words` the vendor's."""

    ending: str
    now: datetime
    status: int | None = None
    reason: str | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt, as it is written down."""

    number: int
    gateway: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str
    status: int | None
    reason: str | None
    maybe_accepted: bool
    exposure_micros: int

    @property
    def maybe_sent(self) -> bool:
        """Whether the vendor may have it: anything but "unreachable"; a crash says nothing."""
        return self.outcome != "unreachable"


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One paid request, as it is written down."""

    id: str
    tenant_id: str
    key_id: str
    mode: str
    model: str
    asked_model: str
    clips: int
    stream: bool
    accepted_at: datetime
    process_id: str
    gateway: str | None
    attempts: int
    upstream_request_id: str | None
    upstream_origin_request_id: str | None
    upstream_id: str | None
    status: int | None
    ended_at: datetime | None
    ending: str | None
    reason: str | None
    vendor_text: str | None


_COLUMNS: Final = tuple(GENERATIONS.c[name] for name in GenerationRow.__slots__)
_ATTEMPT_COLUMNS: Final = tuple(ATTEMPTS.c[name] for name in AttemptRow.__slots__)

_END_ATTEMPT: Final = Prepared(
    update(ATTEMPTS)
    .where(
        ATTEMPTS.c.generation_id == bindparam("of_generation"),
        ATTEMPTS.c.number == bindparam("of_number"),
    )
    .values(
        set_to(
            "ended_at",
            "outcome",
            "status",
            "reason",
            "maybe_accepted",
            "exposure_micros",
            "upstream_request_id",
            "upstream_origin_request_id",
        )
    )
)
_COUNT_ATTEMPT: Final = Prepared(
    update(GENERATIONS)
    .where(GENERATIONS.c.id == bindparam("of_generation"))
    .values(attempts=bindparam("new_attempts"))
)
_OPEN_GENERATION: Final = Prepared(
    update(GENERATIONS)
    .where(GENERATIONS.c.id == bindparam("of_generation"))
    .values(
        set_to(
            "gateway", "status", "upstream_request_id", "upstream_origin_request_id", "upstream_id"
        )
    )
)
_OPEN_CLIPS: Final = Prepared(
    update(CLIPS)
    .where(
        CLIPS.c.generation_id == bindparam("of_generation"), CLIPS.c.state == State.ACCEPTED.value
    )
    .values(state=bindparam("new_state"))
)
_END_GENERATION: Final = Prepared(
    update(GENERATIONS)
    .where(GENERATIONS.c.id == bindparam("of_generation"), GENERATIONS.c.ended_at.is_(None))
    .values(
        set_to("ended_at", "ending", "reason", "vendor_text")
        | {"status": func.coalesce(bindparam("new_status", type_=Integer), GENERATIONS.c.status)}
    )
)


def begin_attempt(
    tx: Connection, generation_id: str, number: int, gateway: str, now: datetime
) -> None:
    """Write down that attempt `number` (from 2) is about to be sent to `gateway`."""
    insert_attempt(tx, generation_id, number, gateway, now)
    _COUNT_ATTEMPT.run(tx, {"of_generation": generation_id, "new_attempts": number})


def end_attempt(tx: Connection, generation_id: str, number: int, end: AttemptEnd) -> None:
    """Write down how attempt `number` ended."""
    values = {
        "of_generation": generation_id,
        "of_number": number,
        "new_ended_at": end.now,
        "new_outcome": end.outcome,
        "new_status": end.status,
        "new_reason": end.reason,
        "new_maybe_accepted": end.maybe_accepted,
        "new_exposure_micros": end.exposure_micros,
        "new_upstream_request_id": end.ids.request_id,
        "new_upstream_origin_request_id": end.ids.origin_request_id,
    }
    _END_ATTEMPT.run(tx, values)


def record_opened(
    tx: Connection,
    generation_id: str,
    gateway: str,
    status: int,
    ids: UpstreamIds,
    event: clip.Opened | clip.Queued,
) -> None:
    """Write down that `gateway` began to answer; accepted clips go where `event` takes them."""
    opened = {
        "of_generation": generation_id,
        "new_gateway": gateway,
        "new_status": status,
        "new_upstream_request_id": ids.request_id,
        "new_upstream_origin_request_id": ids.origin_request_id,
        "new_upstream_id": ids.id,
    }
    _OPEN_GENERATION.run(tx, opened)
    state = clip.TRANSITIONS[State.ACCEPTED][type(event)]
    _OPEN_CLIPS.run(tx, {"of_generation": generation_id, "new_state": state.value})


def end_generation(tx: Connection, generation_id: str, end: GenerationEnd) -> None:
    """Write down how the generation ended; the first end stands, and so does an opening's status.

    The status of an end without one is that of the answer that opened it, if any did.
    """
    values = {
        "of_generation": generation_id,
        "new_ended_at": end.now,
        "new_ending": end.ending,
        "new_status": end.status,
        "new_reason": end.reason,
        "new_vendor_text": end.words[:VENDOR_TEXT_LENGTH_MAX] or None,
    }
    _END_GENERATION.run(tx, values)


def find_generation(tx: Connection, tenant_id: str, generation_id: str) -> GenerationRow | None:
    """The tenant's own generation; a foreign one is as absent as an unknown one."""
    row = tx.execute(
        select(*_COLUMNS).where(
            GENERATIONS.c.id == generation_id, GENERATIONS.c.tenant_id == tenant_id
        )
    ).first()
    return None if row is None else GenerationRow(*row)


def attempts_of(tx: Connection, generation_id: str) -> list[AttemptRow]:
    """The generation's attempts, in the order they were made."""
    rows = tx.execute(
        select(*_ATTEMPT_COLUMNS)
        .where(ATTEMPTS.c.generation_id == generation_id)
        .order_by(ATTEMPTS.c.number)
    )
    return [AttemptRow(*row) for row in rows]


def orphans(tx: Connection, dead_before: datetime, own_process_id: str) -> list[GenerationRow]:
    """Generations with open clips whose process was last seen before `dead_before`, or never.

    `own_process_id`'s are its own business. At most `ORPHANS_MAX`, the oldest first.
    """
    # A job that is followed is nobody's orphan: whoever lives takes it over.
    followed = exists().where(JOBS.c.clip_id == CLIPS.c.id, JOBS.c.ended_at.is_(None))
    alive = exists().where(
        PROCESSES.c.id == GENERATIONS.c.process_id, PROCESSES.c.seen_at >= dead_before
    )
    left_open = select(CLIPS.c.generation_id).where(
        CLIPS.c.completed_at.is_(None), CLIPS.c.state.in_(sorted(clip.OPEN)), ~followed
    )
    rows = tx.execute(
        select(*_COLUMNS)
        .where(GENERATIONS.c.id.in_(left_open), GENERATIONS.c.process_id != own_process_id, ~alive)
        .order_by(GENERATIONS.c.accepted_at, GENERATIONS.c.id)
        .limit(ORPHANS_MAX)
    )
    return [GenerationRow(*row) for row in rows]
