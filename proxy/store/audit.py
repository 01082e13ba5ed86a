"""Every invariant of the ledger, over the whole of it, each as one query for what breaks it.

The queries bring bad rows alone, so memory stays small however long the ledger is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Select, TextClause, and_, or_, select, text

from proxy.core.clip import OPEN, UNSETTLED, State
from proxy.core.ledger import Entry, Kind, broken
from proxy.store.clips import SETTLED_AS
from proxy.store.moments import utc_month
from proxy.store.tables import CLIPS, ENTRIES, VENDOR_SCOPE

FINDINGS_MAX: Final = 100
"""How many bad rows of one kind are named."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One bad row: the check that found it, the row's id, and what is wrong, in words."""

    check: str
    row: str
    words: str


def verify(tx: Connection) -> list[Finding]:
    """Every bad row, up to `FINDINGS_MAX` for each check, the most telling checks first."""
    clips = tx.execute(_ENTRIES_THAT_DO_NOT_ADD_UP, {"most": FINDINGS_MAX}).scalars().all()
    findings = [
        Finding("entries_add_up", clip_id, broken(_entries_of(tx, clip_id)) or "they do not")
        for clip_id in clips
    ]
    for check, words, query in _CHECKS:
        rows = tx.execute(query, {"most": FINDINGS_MAX}).scalars()
        findings.extend(Finding(check, row, words) for row in rows)
    return findings


def _entries_of(tx: Connection, clip_id: str) -> list[Entry]:
    rows = tx.execute(
        select(
            ENTRIES.c.kind,
            ENTRIES.c.clip_id,
            ENTRIES.c.tenant_id,
            ENTRIES.c.amount_micros,
            ENTRIES.c.booked_at,
        ).where(ENTRIES.c.clip_id == clip_id, ENTRIES.c.kind.in_(list(Kind)))
    )
    return [_entry(*row) for row in rows]


def _entry(kind: str, clip_id: str, tenant_id: str, micros: int, booked_at: datetime) -> Entry:
    return Entry(Kind(kind), clip_id, tenant_id, micros, booked_at)


def _states(states: frozenset[State]) -> str:
    return ", ".join(f"'{state}'" for state in sorted(states))


_KIND_FOR_STATE: Final = " ".join(
    [
        *(f"WHEN '{state}' THEN '{kind}'" for state, kind in SETTLED_AS.items()),
        *(f"WHEN '{state}' THEN 'none'" for state in sorted(UNSETTLED | {State.REPLAYED})),
    ]
)

_ENTRIES_THAT_DO_NOT_ADD_UP: Final = text("""
    SELECT clip_id FROM entries GROUP BY clip_id
    HAVING SUM(CASE WHEN kind = 'hold' THEN 1 ELSE 0 END) <> 1
        OR SUM(CASE WHEN kind <> 'hold' THEN 1 ELSE 0 END) > 1
        OR MIN(amount_micros) < 0 OR MIN(amount_micros) <> MAX(amount_micros)
    ORDER BY clip_id LIMIT :most
""")

_ENDS: Final = (
    select(CLIPS.c.id)
    .where(
        or_(
            and_(CLIPS.c.completed_at.is_(None), CLIPS.c.state.not_in(sorted(UNSETTLED))),
            and_(CLIPS.c.completed_at.is_not(None), CLIPS.c.state.in_(sorted(UNSETTLED))),
            CLIPS.c.finance_month.is_distinct_from(utc_month(CLIPS.c.completed_at)),
            CLIPS.c.month != utc_month(CLIPS.c.accepted_at),
        )
    )
    .order_by(CLIPS.c.id)
    .limit(FINDINGS_MAX)
)

_BOOKINGS: Final = (
    select(ENTRIES.c.id)
    .join(CLIPS, CLIPS.c.id == ENTRIES.c.clip_id)
    .where(
        or_(
            ENTRIES.c.month != utc_month(ENTRIES.c.booked_at),
            and_(ENTRIES.c.settles.is_(None), ENTRIES.c.booked_at != CLIPS.c.accepted_at),
            and_(
                ENTRIES.c.settles.is_not(None),
                ENTRIES.c.booked_at.is_distinct_from(CLIPS.c.completed_at),
            ),
        )
    )
    .order_by(ENTRIES.c.id)
    .limit(FINDINGS_MAX)
)

# The texts below are put together from this module's own words and the names of states.
_CHECKS: Final[tuple[tuple[str, str, TextClause | Select[tuple[str]]], ...]] = (
    (
        "entry_has_its_clip",
        "the entry is for no clip of its tenant",
        text("""
            SELECT e.id FROM entries e
            LEFT JOIN clips c ON c.id = e.clip_id AND c.tenant_id = e.tenant_id
            WHERE c.id IS NULL ORDER BY e.id LIMIT :most
        """),
    ),
    (
        "entry_is_named_for_its_fact",
        "the entry's id, kind, clip and what it settles do not agree",
        text("""
            SELECT id FROM entries
            WHERE id <> kind || ':' || clip_id OR kind NOT IN ('hold', 'charge', 'release')
               OR (kind = 'hold' AND settles IS NOT NULL)
               OR (kind <> 'hold' AND COALESCE(settles, '') <> clip_id)
            ORDER BY id LIMIT :most
        """),
    ),
    (
        "clip_is_held_at_its_price",
        "the clip's hold is missing or is not its price",
        text("""
            SELECT c.id FROM clips c LEFT JOIN entries e ON e.id = 'hold:' || c.id
            WHERE c.state <> 'replayed'
              AND (e.id IS NULL OR e.amount_micros <> c.price_micros)
            ORDER BY c.id LIMIT :most
        """),
    ),
    (
        "clip_is_settled_as_it_ended",
        "the clip's state and its charge or release do not agree",
        text(f"""
            SELECT c.id FROM clips c LEFT JOIN entries e ON e.settles = c.id
            WHERE COALESCE(e.kind, 'none') <> CASE c.state {_KIND_FOR_STATE} ELSE 'no state' END
            ORDER BY c.id LIMIT :most
        """),  # noqa: S608
    ),
    (
        "replayed_clip_costs_nothing",
        "the clip was given again, and has an entry of its own",
        text("""
            SELECT DISTINCT c.id FROM clips c JOIN entries e ON e.clip_id = c.id
            WHERE c.state = 'replayed' ORDER BY c.id LIMIT :most
        """),
    ),
    (
        "replayed_clip_gives_another_again",
        "the clip names no delivered clip of its tenant, model and price, or was not born so",
        text("""
            SELECT c.id FROM clips c
            LEFT JOIN clips f ON f.id = c.replay_of AND f.tenant_id = c.tenant_id
                  AND f.model = c.model AND f.price_micros = c.price_micros
                  AND f.state = 'delivered'
            WHERE (c.state = 'replayed' AND (f.id IS NULL OR c.completed_at <> c.accepted_at))
               OR (c.state <> 'replayed' AND c.replay_of IS NOT NULL)
            ORDER BY c.id LIMIT :most
        """),
    ),
    ("clip_stands_in_its_months", "the clip's state, times and months do not agree", _ENDS),
    ("entry_stands_in_its_month", "the entry's time and month are not its clip's", _BOOKINGS),
    (
        "clip_has_a_price_of_the_book",
        "the clip's price version is not in the book, or not at this list price",
        text("""
            SELECT c.id FROM clips c LEFT JOIN prices p ON p.version = c.price_version
            WHERE p.version IS NULL OR p.model <> c.model OR p.micros <> c.list_micros
            ORDER BY c.id LIMIT :most
        """),
    ),
    (
        "clip_has_its_generation",
        "the clip belongs to no generation of its tenant",
        text("""
            SELECT c.id FROM clips c
            LEFT JOIN generations g ON g.id = c.generation_id AND g.tenant_id = c.tenant_id
            WHERE g.id IS NULL ORDER BY c.id LIMIT :most
        """),
    ),
    (
        "generation_has_its_clips",
        "the generation's clips are not at positions 0 to n - 1",
        text("""
            SELECT g.id FROM generations g LEFT JOIN clips c ON c.generation_id = g.id
            GROUP BY g.id, g.clips
            HAVING COUNT(c.id) <> g.clips OR MIN(c.position) <> 0
                OR MAX(c.position) <> g.clips - 1
            ORDER BY g.id LIMIT :most
        """),
    ),
    (
        "generation_has_its_attempts",
        "the generation's attempts are not numbered 1 to n",
        text("""
            SELECT g.id FROM generations g LEFT JOIN attempts a ON a.generation_id = g.id
            GROUP BY g.id, g.attempts
            HAVING COUNT(a.number) <> g.attempts OR MIN(a.number) <> 1
                OR MAX(a.number) <> g.attempts
            ORDER BY g.id LIMIT :most
        """),
    ),
    (
        "replay_is_of_replayed_clips",
        "the generation was bought and given again at once, or neither",
        text("""
            SELECT DISTINCT g.id FROM generations g JOIN clips c ON c.generation_id = g.id
            WHERE (g.attempts = 0) <> (c.state = 'replayed')
               OR (g.attempts = 0) <> (COALESCE(g.ending, '') = 'replayed')
            ORDER BY g.id LIMIT :most
        """),
    ),
    (
        "key_names_its_generation",
        "an idempotency key names no generation of its tenant, or one with another body",
        text("""
            SELECT k.generation_id FROM idempotency_keys k
            LEFT JOIN generations g ON g.id = k.generation_id AND g.tenant_id = k.tenant_id
                  AND g.mode = k.mode AND g.body_hash = k.body_hash
            WHERE g.id IS NULL ORDER BY k.generation_id LIMIT :most
        """),
    ),
    (
        "attempt_has_its_generation",
        "the attempt belongs to no generation",
        text("""
            SELECT a.generation_id FROM attempts a
            LEFT JOIN generations g ON g.id = a.generation_id
            WHERE g.id IS NULL ORDER BY a.generation_id LIMIT :most
        """),
    ),
    (
        "budget_is_what_is_held_and_charged",
        "the tenant's month counts other clips or amounts than its entries",
        text("""
            WITH fold AS (
              SELECT c.tenant_id, c.month,
                     SUM(CASE e.kind WHEN 'hold' THEN 1 WHEN 'release' THEN -1 ELSE 0 END) AS clips,
                     SUM(CASE e.kind WHEN 'hold' THEN e.amount_micros
                                     WHEN 'release' THEN -e.amount_micros ELSE 0 END) AS micros
              FROM entries e JOIN clips c ON c.id = e.clip_id GROUP BY c.tenant_id, c.month)
            SELECT b.tenant_id || ' ' || b.month AS bad FROM budgets b
            LEFT JOIN fold f ON f.tenant_id = b.tenant_id AND f.month = b.month
            WHERE b.clips <> COALESCE(f.clips, 0) OR b.micros <> COALESCE(f.micros, 0)
            UNION ALL
            SELECT f.tenant_id || ' ' || f.month AS bad FROM fold f
            LEFT JOIN budgets b ON f.tenant_id = b.tenant_id AND f.month = b.month
            WHERE b.month IS NULL
            ORDER BY bad LIMIT :most
        """),
    ),
    (
        "flights_are_the_open_clips",
        "the clips in flight are not as many as the open ones",
        text(f"""
            WITH in_flight AS (SELECT tenant_id FROM clips WHERE state IN ({_states(OPEN)})),
            counted AS (
              SELECT tenant_id AS scope, COUNT(*) AS clips FROM in_flight GROUP BY tenant_id
              UNION ALL SELECT '{VENDOR_SCOPE}', COUNT(*) FROM in_flight
              UNION ALL SELECT id, 0 FROM tenants
              WHERE id NOT IN (SELECT tenant_id FROM in_flight))
            SELECT n.scope AS bad FROM counted n LEFT JOIN flights f ON f.scope = n.scope
            WHERE f.scope IS NULL OR f.clips <> n.clips
            UNION ALL
            SELECT f.scope AS bad FROM flights f LEFT JOIN counted n ON f.scope = n.scope
            WHERE n.scope IS NULL
            ORDER BY bad LIMIT :most
        """),  # noqa: S608
    ),
    (
        "tenant_has_its_minute",
        "the tenant's requests a minute cannot be counted",
        text("""
            SELECT t.id FROM tenants t LEFT JOIN minutes m ON m.tenant_id = t.id
            WHERE m.tenant_id IS NULL ORDER BY t.id LIMIT :most
        """),
    ),
    (
        "job_ends_with_its_clip",
        "the job is of no clip, or is followed though its clip has ended",
        text("""
            SELECT j.clip_id FROM jobs j LEFT JOIN clips c ON c.id = j.clip_id
            WHERE c.id IS NULL OR (j.ended_at IS NULL AND c.completed_at IS NOT NULL)
            ORDER BY j.clip_id LIMIT :most
        """),
    ),
    (
        "job_is_followed_while_it_runs",
        "the vendor may be rendering the clip, and nobody asks about it any more",
        text(f"""
            SELECT j.clip_id FROM jobs j JOIN clips c ON c.id = j.clip_id
            WHERE j.ended_at IS NOT NULL AND c.state IN ({_states(OPEN)})
            ORDER BY j.clip_id LIMIT :most
        """),  # noqa: S608
    ),
    (
        "delivered_clip_has_its_keeping",
        "the clip was delivered, and nothing says what becomes of its bytes",
        text("""
            SELECT c.id FROM clips c LEFT JOIN keepings k ON k.clip_id = c.id
            WHERE c.state = 'delivered' AND k.clip_id IS NULL ORDER BY c.id LIMIT :most
        """),
    ),
    (
        "keeping_is_of_a_delivered_clip",
        "bytes are awaited or kept of a clip that was not delivered",
        text("""
            SELECT k.clip_id FROM keepings k LEFT JOIN clips c ON c.id = k.clip_id
            WHERE c.id IS NULL OR c.state <> 'delivered' ORDER BY k.clip_id LIMIT :most
        """),
    ),
    (
        "kept_bytes_are_known",
        "the bytes are in no state, or kept without digest, size or time, or fetched without need",
        text("""
            SELECT clip_id FROM keepings
            WHERE state NOT IN ('waiting', 'kept', 'lost', 'evicted', 'deleted')
               OR (state = 'kept' AND (COALESCE(sha256, '') = '' OR COALESCE(size_bytes, 0) <= 0
                                       OR kept_at IS NULL))
               OR (state <> 'waiting' AND owner IS NOT NULL)
            ORDER BY clip_id LIMIT :most
        """),
    ),
    (
        "deleted_clip_is_forgotten",
        "the clip's deletion, its end, its bytes and its prompt do not agree",
        text("""
            SELECT c.id FROM clips c
            JOIN generations g ON g.id = c.generation_id
            LEFT JOIN keepings k ON k.clip_id = c.id
            WHERE (c.deleted_at IS NULL AND k.state = 'deleted')
               OR (c.deleted_at IS NOT NULL
                   AND (c.completed_at IS NULL OR k.state <> 'deleted'
                        OR (g.prompt IS NOT NULL AND NOT EXISTS (
                            SELECT 1 FROM clips o
                            WHERE o.generation_id = g.id AND o.deleted_at IS NULL))))
            ORDER BY c.id LIMIT :most
        """),
    ),
)
