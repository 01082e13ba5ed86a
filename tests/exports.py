"""Finance rows for tests: one by one, any that hypothesis thinks of, and a month as it comes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from proxy.core.clip import State
from proxy.core.corrections import corrections
from proxy.core.export import CREDIT, ExportRow, LineKind
from proxy.core.failure import Reason

START = datetime(2026, 11, 1, tzinfo=UTC)
MODELS = {"veo-3.1": 250_000, "veo-3.1-fast": 150_000}


def clip_row(number: int = 0, **changes: Any) -> ExportRow:
    """A delivered clip of November 2026; `number` makes its ids and its time."""
    plain: dict[str, Any] = {
        "month": "2026-11",
        "completed_at": START + timedelta(minutes=number, seconds=45, microseconds=250_000),
        "accepted_at": START + timedelta(minutes=number),
        "tenant": "ads",
        "cost_center": "CC-1001",
        "key_id": "key_1",
        "key_label": "render farm",
        "generation_id": f"gen_{number:08d}",
        "clip_id": f"video_{number:08d}",
        "clip_index": 0,
        "mode": "chat",
        "model": "veo-3.1-fast",
        "outcome": State.DELIVERED.value,
        "gateway": "api",
        "attempts": 1,
        "upstream_request_id": f"req-{number}",
        "price_version": "price_1",
        "unit_price_micros": 150_000,
        "amount_micros": 150_000,
        "list_price_micros": 150_000,
        "line_id": f"video_{number:08d}",
    }
    return ExportRow(**{**plain, **changes})


def failed_row(number: int, **changes: Any) -> ExportRow:
    reason = Reason.POLICY_OTHER.value
    return clip_row(number, outcome=State.FAILED.value, reason=reason, amount_micros=0, **changes)


def replayed_row(number: int, of: str, **changes: Any) -> ExportRow:
    outcome = State.REPLAYED.value
    return clip_row(number, outcome=outcome, replay_of=of, amount_micros=0, **changes)


def credit_row(number: int, micros: int, **changes: Any) -> ExportRow:
    at = START + timedelta(minutes=number)
    return ExportRow(
        month="2026-11",
        completed_at=at,
        accepted_at=at,
        tenant="ads",
        outcome=CREDIT,
        amount_micros=-micros,
        line_id=f"credit_{number:08d}",
        line_kind=LineKind.CREDIT,
        **changes,
    )


def some_month(rows: int, seed: int = 1) -> Iterator[ExportRow]:
    """A month of several teams, in order: failures, replays, own prices, credits, corrections."""
    chance = random.Random(seed)
    late = clip_row(9, month="2026-10", completed_at=datetime(2026, 10, 30, 8, 0, 1, tzinfo=UTC))
    right = replace(late, unit_price_micros=140_000, amount_micros=140_000)
    yield from corrections(late, right, "2026-11")
    for number in range(10, 8 + rows):
        model = chance.choice([*MODELS])
        price = MODELS[model]
        team = chance.choice(["ads", "film", "games"])
        own = price * 9 // 10 if team == "games" else price
        common = {"tenant": team, "model": model, "list_price_micros": price}
        match chance.randrange(20):
            case 0:
                yield failed_row(number, **common, unit_price_micros=own)
            case 1:
                yield replayed_row(number, "video_00000010", **common, unit_price_micros=own)
            case 2:
                yield credit_row(number, chance.randrange(1, 10**6))
            case _:
                yield clip_row(number, **common, unit_price_micros=own, amount_micros=own)


# Lone surrogates are no text that a database could hold.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MICROS = st.integers(0, 10**12)
TIMES = st.integers(0, 29 * 86_400 * 10**6).map(lambda since: START + timedelta(microseconds=since))


@st.composite
def any_rows(draw: st.DrawFn) -> list[ExportRow]:
    """Lines of one month, in order, with any text anywhere and any amounts."""
    rows = []
    for number in range(draw(st.integers(0, 8))):
        price, billed = draw(MICROS), draw(st.booleans())
        plain = clip_row(
            number,
            completed_at=draw(TIMES),
            tenant=draw(TEXTS),
            cost_center=draw(st.none() | TEXTS),
            key_label=draw(st.none() | TEXTS),
            model=draw(st.none() | TEXTS),
            upstream_id=draw(st.none() | TEXTS),
            outcome=(State.DELIVERED if billed else State.FAILED).value,
            unit_price_micros=price,
            amount_micros=price if billed else 0,
            list_price_micros=draw(st.none() | MICROS),
        )
        rows.append(plain)
        if draw(st.booleans()):
            rows.extend(corrections(plain, None, "2026-11"))
    return sorted(rows, key=lambda row: (row.completed_at, row.clip_id, row.line_id))
