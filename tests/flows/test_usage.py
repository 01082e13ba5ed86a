"""Usage: where clips stand, what they cost, and what a tenant may see and has left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.flows.operator import CommandError
from proxy.flows.stamp import stamp
from proxy.flows.tenants import add_key, add_tenant, set_tenant
from proxy.flows.usage import report, tenant_usage
from proxy.store.tenants import find_tenant
from tests.operators import DELIVERED, FAILED, LOST, NOON, Desk
from tests.operators import desk as open_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as opened:
        yield opened


async def two_teams(desk: Desk) -> None:
    await add_tenant(desk.operator, "ads", {"clips_per_month": 10, "usd_per_month": "1"})
    await add_tenant(desk.operator, "film")
    ads = await add_key(desk.operator, "ads")
    film = await add_key(desk.operator, "film")
    await desk.buy("ads", ads["id"], DELIVERED, DELIVERED, FAILED, LOST)
    await desk.buy("film", film["id"], DELIVERED, model="veo-3.1-landscape-fast")


def test_a_report_counts_every_clip_of_the_month_and_what_is_open(desk: Desk) -> None:
    async def story() -> None:
        await two_teams(desk)
        said = await report(desk.operator)
        assert said["month"] == "2026-11"
        assert [(row["tenant"], row["model"]) for row in said["rows"]] == [
            ("ads", "veo-3.1-fast"),
            ("film", "veo-3.1-landscape-fast"),
        ]
        ads = said["rows"][0]
        counted = [ads[name] for name in ("requested", "delivered", "failed", "unknown")]
        assert counted == [4, 2, 1, 1]
        assert (ads["amount_micros"], ads["amount_usd"]) == (300_000, "0.30")
        assert said["totals"]["amount_usd"] == "0.45"
        assert said["unsettled"] == {"clips": 1, "micros_max": 150_000, "exposure_micros": 0}
        assert "sandbox" not in said

    asyncio.run(story())


def test_another_month_is_empty_and_still_shows_what_is_open(desk: Desk) -> None:
    async def story() -> None:
        await two_teams(desk)
        said = await report(desk.operator, month="2026-10", by="day,key")
        assert said["rows"] == []
        assert said["totals"]["requested"] == 0
        assert said["unsettled"]["clips"] == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"month": "November"}, "is not a month"), ({"by": "tenant,team"}, "'team' is none of")],
)
def test_a_question_that_makes_no_sense_is_refused(
    desk: Desk, arguments: dict[str, str], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        asyncio.run(report(desk.operator, **arguments))


def test_a_stamped_installation_says_so_in_its_reports(desk: Desk) -> None:
    async def story() -> None:
        await stamp(desk.operator.database, sandbox=True)
        assert (await report(desk.operator))["sandbox"] is True

    asyncio.run(story())


def test_a_tenant_sees_its_own_and_what_is_left(desk: Desk) -> None:
    async def story() -> None:
        await two_teams(desk)
        tenants = await report(desk.operator, by="tenant")
        assert len(tenants["rows"]) == 2
        ads = await own(desk, "ads")
        assert [row["model"] for row in ads["rows"]] == ["veo-3.1-fast"]
        assert "tenant" not in ads["rows"][0]
        # The failed clip's hold was released, the lost one's still counts.
        assert ads["budget"] == {
            "clips_per_month": 10,
            "clips_used": 3,
            "clips_left": 7,
            "usd_per_month": "1.00",
            "usd_used": "0.45",
            "usd_left": "0.55",
        }
        assert ads["unsettled"]["clips"] == 1
        film = await own(desk, "film")
        assert film["unsettled"]["clips"] == 0
        assert (film["budget"]["clips_per_month"], film["budget"]["clips_left"]) == (None, None)

    asyncio.run(story())


def test_a_budget_that_was_lowered_has_nothing_left_and_not_less(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads", {"clips_per_month": 2})
        key = await add_key(desk.operator, "ads")
        await desk.buy("ads", key["id"], DELIVERED, DELIVERED)
        await set_tenant(desk.operator, "ads", {"clips_per_month": 1})
        assert (await own(desk, "ads"))["budget"]["clips_left"] == 0

    asyncio.run(story())


async def own(desk: Desk, tenant: str) -> dict[str, Any]:
    row = await desk.operator.database.read(lambda tx: find_tenant(tx, tenant))
    assert row is not None
    moment = NOON + timedelta(minutes=1)
    return await tenant_usage(desk.operator.database, row.id, tenant, "2026-11", moment)
