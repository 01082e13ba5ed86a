"""What callers were answered, byte for byte, kept for whoever asks the same again.

It is bounded in time by each answer's own expiry, and in size by the configuration. What is
forgotten goes in small portions, because everybody who writes waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, bindparam, delete, func, insert, select, tuple_

from proxy.core.replay import RETRY_WINDOW
from proxy.store.prepared import Prepared
from proxy.store.tables import ANSWERS, GENERATIONS, IDEMPOTENCY_KEYS, JOINS

ROWS_AT_ONCE: Final = 200
"""How many rows of a kind are forgotten at once."""

BYTES_AT_ONCE: Final = 16 * 2**20
"""How many bytes of answers go at once, unless the first one alone has more."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a caller was answered: status, headers and body."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    @property
    def size_bytes(self) -> int:
        """What keeping it takes."""
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many rows were forgotten, and whether there are `more` to be."""

    keys: int = 0
    joins: int = 0
    answers: int = 0
    more: bool = False


_IS_KEPT: Final = Prepared(
    select(ANSWERS.c.generation_id).where(ANSWERS.c.generation_id == bindparam("generation_id"))
)
_INSERT: Final = Prepared(insert(ANSWERS))


def keep_answer(
    tx: Connection,
    generation_id: str,
    answer: KeptAnswer,
    now: datetime,
    expires_at: datetime,
    bytes_max: int,
) -> bool:
    """Keep what the generation's caller is answered, if it has no more than `bytes_max`.

    The first answer stands. Whether one is kept.
    """
    if answer.size_bytes > bytes_max:
        return False
    if _IS_KEPT.one(tx, {"generation_id": generation_id}) is None:
        row = {
            "generation_id": generation_id,
            "status": answer.status,
            "size_bytes": answer.size_bytes,
            "stored_at": now,
            "expires_at": expires_at,
            "headers": [[part.decode("latin-1") for part in pair] for pair in answer.headers],
            "body": answer.body,
        }
        _INSERT.run(tx, row)
    return True


def find_answer(
    tx: Connection, tenant_id: str, generation_id: str, now: datetime
) -> KeptAnswer | None:
    """The answer of the tenant's own generation, while it is kept."""
    row = tx.execute(
        select(ANSWERS.c.status, ANSWERS.c.headers, ANSWERS.c.body)
        .join(GENERATIONS, GENERATIONS.c.id == ANSWERS.c.generation_id)
        .where(
            ANSWERS.c.generation_id == generation_id,
            ANSWERS.c.expires_at > now,
            GENERATIONS.c.tenant_id == tenant_id,
        )
    ).first()
    if row is None:
        return None
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in row[1]]
    return KeptAnswer(row[0], headers, row[2])


def answers_size(tx: Connection) -> int:
    """The bytes of all answers that are kept."""
    return int(tx.execute(select(func.coalesce(func.sum(ANSWERS.c.size_bytes), 0))).scalar_one())


def forget_expired(tx: Connection, now: datetime, over_bytes: int = 0) -> Forgotten:
    """Forget keys, joins and answers whose time is over, some of them; none that is still good.

    Where answers have `over_bytes` too many, the oldest of them go before their time.
    """
    keys = _forget(tx, IDEMPOTENCY_KEYS, "expires_at", now)
    joins = _forget(tx, JOINS, "joined_at", now - RETRY_WINDOW)
    answers, more = _forget_answers(tx, now, over_bytes)
    return Forgotten(keys, joins, answers, more or ROWS_AT_ONCE in {keys, joins})


def _forget(tx: Connection, table: Table, column: str, until: datetime) -> int:
    name = tuple_(*table.primary_key.columns)
    over = (
        select(*table.primary_key.columns)
        .where(table.c[column] <= until)
        .order_by(table.c[column])
        .limit(ROWS_AT_ONCE)
    )
    return tx.execute(delete(table).where(name.in_(over))).rowcount


def _forget_answers(tx: Connection, now: datetime, over_bytes: int) -> tuple[int, bool]:
    """How many went, and whether there are more to go."""
    rows = select(ANSWERS.c.generation_id, ANSWERS.c.size_bytes).limit(ROWS_AT_ONCE)
    due = tx.execute(rows.where(ANSWERS.c.expires_at <= now).order_by(ANSWERS.c.expires_at)).all()
    early: Sequence[Row[Any, Any]] = ()
    if sum(size_bytes for _, size_bytes in due) < over_bytes:
        early = tx.execute(
            rows.where(ANSWERS.c.expires_at > now).order_by(ANSWERS.c.stored_at)
        ).all()
    leaving: list[str] = []
    freed = 0
    for generation_id, size_bytes in (*due, *early):
        enough = len(leaving) >= len(due) and freed >= over_bytes
        if enough or (leaving and freed + size_bytes > BYTES_AT_ONCE):
            break
        leaving.append(generation_id)
        freed += size_bytes
    if leaving:
        tx.execute(delete(ANSWERS).where(ANSWERS.c.generation_id.in_(leaving)))
    short = len(leaving) < len(due) or freed < over_bytes
    cut = len(leaving) < len(due) + len(early) or len(early) == ROWS_AT_ONCE
    return len(leaving), len(due) == ROWS_AT_ONCE or (short and cut)
