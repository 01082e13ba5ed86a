"""The chores of a running server: its sign of life, the dead's unfinished work, old unknowns.

The sign of life is a task of its own: others would take a process that is long at its chores, or
at its drain, for dead.

Each is an ordinary settlement of what the tables say, so that a restart is boring: a process that
dies leaves rows, and the next one, or a replica beside it, finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from proxy.core import clip
from proxy.core.budget import month_of
from proxy.core.failure import Reason
from proxy.flows.house import House
from proxy.flows.settle import Settlement
from proxy.logs import event
from proxy.store.answers import Forgotten, answers_size, forget_expired
from proxy.store.clips import Settled, clips_of, unknown_since
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.gauges import Loss, budgets_used, losses_of, unfinished_by_model
from proxy.store.generations import GenerationEnd, GenerationRow, end_generation, orphans
from proxy.store.jobs import end_job, oldest_unfinished
from proxy.store.keys import touch_keys
from proxy.store.processes import beat, forget_processes

FORGET_PROCESSES_AFTER = timedelta(days=7)
"""How long a dead process stays in the table, for the operator to see."""


PORTIONS_MAX = 100
"""So many portions of what is to be forgotten go at once; the rest waits for the next chores."""


class LastUsed(Protocol):
    """Collects when keys were used."""

    def take_last_used(self) -> Mapping[str, datetime]:
        """The times since the last call, by key id."""
        ...


async def begin(house: House, *, alone: bool) -> None:
    """The chores of a start: whatever a process that is gone left open becomes `unknown`.

    `alone` when no other process can be alive, as on SQLite, where the lock says so. Raises
    `LedgerUnavailable`.
    """
    await _beat(house)
    now = house.clock.now()
    dead_before = now + timedelta(days=1) if alone else _dead_before(house)
    await sweep_orphans(house, dead_before)
    await house.follower.take_over(dead_before)
    await _beat(house)  # both may have been long, and requests come next


def start(house: House, keys: LastUsed) -> None:
    """From now on say that the process lives, and do the chores, every `heartbeat_seconds`."""
    pause = house.config.limits.heartbeat_seconds

    async def chores() -> None:
        try:
            await tend(house, keys)
        except LedgerUnavailable:
            event("chores_put_off")

    async def heartbeat() -> None:
        try:
            await _beat(house)
        except LedgerUnavailable:
            event("heartbeat_missed", level="warning")

    house.background.forever("heartbeat", heartbeat, pause)
    house.background.forever("chores", chores, pause)


async def tend(house: House, keys: LastUsed) -> None:
    """Do the chores once. Raises `LedgerUnavailable`."""
    now = house.clock.now()
    used = keys.take_last_used()

    def write(tx: Connection) -> None:
        forget_processes(tx, now - FORGET_PROCESSES_AFTER)
        if used:
            touch_keys(tx, used)

    await house.database.write(write)
    await forget(house)
    await sweep_orphans(house, _dead_before(house))
    await house.follower.take_over(_dead_before(house))
    await write_off(house)
    await show(house, now)


async def show(house: House, now: datetime) -> None:
    """Bring the metrics that are states, not events, up to date."""
    unfinished = await house.database.read(unfinished_by_model)
    budgets = await house.database.read(lambda tx: budgets_used(tx, month_of(now)))
    oldest = await house.database.read(oldest_unfinished)
    age = now - (oldest or now)
    house.metrics.unfinished_are(unfinished, age.total_seconds())
    for tenant, ratio in budgets.items():
        house.metrics.budget_used_is(tenant, ratio)


async def forget(house: House) -> None:
    """Forget keys and answers that are no longer to be given again, and the oldest of too many.

    Raises `LedgerUnavailable`: the next chores find the same ones.
    """
    bytes_max = house.config.replay.answers_bytes_max
    for _ in range(PORTIONS_MAX):
        now = house.clock.now()
        over_bytes = max(0, await house.database.read(answers_size) - bytes_max)

        def write(tx: Connection, now: datetime = now, over_bytes: int = over_bytes) -> Forgotten:
            return forget_expired(tx, now, over_bytes)

        if not (await house.database.write(write)).more:
            return


async def sweep_orphans(house: House, dead_before: datetime) -> int:
    """Make `unknown` what processes not seen since `dead_before` left open; how many generations.

    Sent and unanswered is neither success nor failure (law 5).
    """
    count = 0
    while True:
        found = await house.database.read(lambda tx: orphans(tx, dead_before, house.process_id))
        for one in found:
            await _lose(house, one)
        count += len(found)
        if not found:
            return count


async def write_off(house: House) -> int:
    """Give up unknown clips that are older than `follow.give_up_hours`; how many.

    Their holds are released, their jobs asked for no more; what the vendor may have billed is
    listed for the operator. Raises `LedgerUnavailable`: the next chores find the same clips.
    """
    now = house.clock.now()
    before = now - timedelta(hours=house.config.follow.give_up_hours)
    ids = await house.database.read(lambda tx: unknown_since(tx, before))
    if not ids:
        return 0
    given_up: list[tuple[str, clip.Event]] = [(clip_id, clip.GaveUp()) for clip_id in ids]
    losses: dict[str, Loss] = {}

    def write(tx: Connection) -> list[Settled]:
        settled = Settlement(given_up, now).write(tx)
        gone = [one.clip_id for one in settled if one.changed]
        losses.clear()
        losses.update(losses_of(tx, gone))
        for clip_id, loss in losses.items():
            end_job(tx, clip_id, now)
            end = GenerationEnd("untold", now, None, Reason.LOST)
            end_generation(tx, loss.generation_id, end)
        return settled

    house.settler.count(await house.database.write(write))
    for clip_id, loss in losses.items():
        house.metrics.written_off(loss.list_micros)
        event(
            "clip_written_off",
            level="warning",
            clip=clip_id,
            generation=loss.generation_id,
            tenant=loss.tenant,
            model=loss.model,
            exposure_micros=loss.list_micros,
        )
    return len(losses)


async def _beat(house: House) -> None:
    now = house.clock.now()
    await house.database.write(lambda tx: beat(tx, house.process_id, now))
    house.follower.renewed(now)


def _dead_before(house: House) -> datetime:
    return house.clock.now() - timedelta(seconds=house.config.limits.orphan_seconds)


async def _lose(house: House, generation: GenerationRow) -> None:
    now = house.clock.now()
    rows = await house.database.read(lambda tx: clips_of(tx, generation.id))
    lost: list[tuple[str, clip.Event]] = [
        (row.id, clip.Lost(Reason.LOST)) for row in rows if row.state in clip.OPEN
    ]
    end = GenerationEnd("untold", now, generation.status, Reason.LOST)
    last = Settlement(lost, now, last=lambda tx: end_generation(tx, generation.id, end))
    # Straight to the ledger: while it is away the next sweep finds the same rows.
    settled = await house.database.write(last.write)
    house.settler.count(settled)
    event("orphan_found", generation=generation.id, count=len(lost))
