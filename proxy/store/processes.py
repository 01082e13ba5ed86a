"""Running servers' signs of life, and facts about the installation."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from proxy.store.tables import INSTALLATION, PROCESSES


def beat(tx: Connection, process_id: str, now: datetime) -> None:
    """Write down that the process lives; the first beat is its start."""
    seen = tx.execute(update(PROCESSES).where(PROCESSES.c.id == process_id).values(seen_at=now))
    if seen.rowcount == 0:
        row = {"id": process_id, "started_at": now, "seen_at": now}
        tx.execute(insert(PROCESSES).values(row))


def forget_processes(tx: Connection, dead_before: datetime) -> int:
    """Drop processes that were last seen before; their generations are orphans all the same."""
    gone = tx.execute(delete(PROCESSES).where(PROCESSES.c.seen_at < dead_before))
    return gone.rowcount


def read_mark(tx: Connection, key: str) -> str | None:
    """The installation's fact called `key`, such as the sandbox's stamp, or None."""
    value: str | None = tx.execute(
        select(INSTALLATION.c.value).where(INSTALLATION.c.key == key)
    ).scalar()
    return value


def set_mark(tx: Connection, key: str, value: str) -> None:
    """Set the installation's fact called `key`."""
    changed = tx.execute(update(INSTALLATION).where(INSTALLATION.c.key == key).values(value=value))
    if changed.rowcount == 0:
        tx.execute(insert(INSTALLATION).values(key=key, value=value))
