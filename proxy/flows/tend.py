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
from proxy.store.clips import clips_of, unknown_since
from proxy.store.database import Connection, LedgerUnavailable
from proxy.store.gauges import budgets_used, unfinished_by_model
from proxy.store.generations import GenerationEnd, GenerationRow, end_generation, orphans
from proxy.store.keys import touch_keys
from proxy.store.processes import beat, forget_processes

FORGET_PROCESSES_AFTER = timedelta(days=7)
"""How long a dead process stays in the table, for the operator to see."""


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
    await _beat(house)  # the sweep may have been long, and requests come next


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
    await sweep_orphans(house, _dead_before(house))
    await write_off(house)
    await show(house, now)


async def show(house: House, now: datetime) -> None:
    """Bring the metrics that are states, not events, up to date."""
    unfinished = await house.database.read(unfinished_by_model)
    budgets = await house.database.read(lambda tx: budgets_used(tx, month_of(now)))
    house.metrics.unfinished_are(unfinished)
    for tenant, ratio in budgets.items():
        house.metrics.budget_used_is(tenant, ratio)


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

    Their holds are released; what the vendor may have billed stays listed.
    """
    now = house.clock.now()
    before = now - timedelta(hours=house.config.follow.give_up_hours)
    ids = await house.database.read(lambda tx: unknown_since(tx, before))
    if ids:
        given_up: list[tuple[str, clip.Event]] = [(clip_id, clip.GaveUp()) for clip_id in ids]
        await house.settler.settle(Settlement(given_up, now))
        event("clips_written_off", count=len(ids))
    return len(ids)


async def _beat(house: House) -> None:
    now = house.clock.now()
    await house.database.write(lambda tx: beat(tx, house.process_id, now))


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
