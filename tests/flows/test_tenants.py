"""Tenants and keys: what may stand in a name, a limit and a label; what is shown, and how often."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy.core import keys
from proxy.flows.operator import CommandError
from proxy.flows.tenants import (
    add_key,
    add_tenant,
    disable_tenant,
    list_keys,
    list_tenants,
    revoke_key,
    set_tenant,
)
from proxy.store.keys import find_key
from tests.operators import Desk
from tests.operators import desk as open_desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tmp_path) as opened:
        yield opened


def test_a_tenant_has_the_terms_it_was_given(desk: Desk) -> None:
    terms = {
        "clips_per_month": 100,
        "usd_per_month": "99.5",
        "clips_in_flight": 4,
        "requests_per_minute": 0,
        "models": ["veo-3.1-fast*"],
        "cost_center": "CC-1001, film",
    }

    async def story() -> None:
        added = await add_tenant(desk.operator, "film", terms)
        assert added == {
            "id": added["id"],
            "name": "film",
            **terms,
            "usd_per_month": "99.50",
            "created_at": "2026-11-22T12:00:00Z",
            "disabled_at": None,
        }
        assert await list_tenants(desk.operator) == [added]

    asyncio.run(story())


def test_a_tenant_without_terms_has_no_limits(desk: Desk) -> None:
    added = asyncio.run(add_tenant(desk.operator, "ads"))
    limits = ("clips_per_month", "usd_per_month", "clips_in_flight", "requests_per_minute")
    assert [added[name] for name in (*limits, "models", "cost_center")] == [None] * 6


def test_set_changes_what_it_is_given_and_nothing_else(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads", {"clips_per_month": 5, "usd_per_month": "1"})
        changed = await set_tenant(desk.operator, "ads", {"usd_per_month": "2.25"})
        assert (changed["clips_per_month"], changed["usd_per_month"]) == (5, "2.25")
        changed = await set_tenant(desk.operator, "ads", {"clips_per_month": None})
        assert (changed["clips_per_month"], changed["usd_per_month"]) == (None, "2.25")

    asyncio.run(story())


@pytest.mark.parametrize("name", ["", "Ads", "-ads", "ads-", "a" * 41, "a_b", "ads\n", "=ads", "ä"])
def test_a_name_that_would_not_do_as_a_label_is_refused(desk: Desk, name: str) -> None:
    with pytest.raises(CommandError, match="1 to 40 of a-z, 0-9 and -"):
        asyncio.run(add_tenant(desk.operator, name))
    assert asyncio.run(list_tenants(desk.operator)) == []


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"clips_per_month": -1}, "clips_per_month is a whole number"),
        ({"clips_per_month": True}, "clips_per_month is a whole number"),
        ({"clips_in_flight": 2**63}, "clips_in_flight is a whole number"),
        ({"requests_per_minute": "6"}, "requests_per_minute is a whole number"),
        ({"usd_per_month": "1.1234567"}, "usd_per_month is an amount"),
        ({"usd_per_month": "-1"}, "usd_per_month is an amount"),
        ({"usd_per_month": 12}, "usd_per_month is an amount"),
        ({"models": ["sora*"]}, "no model matches 'sora\\*'; there are veo-3.1,"),
        ({"models": ["veo,*"]}, "is not a model's name"),
        ({"models": []}, "name at least one model"),
        ({"cost_center": "=1+1"}, "a cost center is"),
        ({"cost_center": "a\tb"}, "a cost center is"),
        ({"colour": "red"}, "there is no term 'colour'"),
    ],
)
def test_a_term_that_is_not_allowed_is_refused_with_what_is(
    desk: Desk, terms: dict[str, Any], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        asyncio.run(add_tenant(desk.operator, "ads", terms))


def test_a_name_is_given_once(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads")
        with pytest.raises(CommandError, match="there is a tenant ads already"):
            await add_tenant(desk.operator, "ads")

    asyncio.run(story())


def test_unknown_names_are_told_apart_from_known_ones(desk: Desk) -> None:
    async def story() -> None:
        for command in (
            set_tenant(desk.operator, "nobody", {"clips_per_month": 1}),
            disable_tenant(desk.operator, "nobody"),
            add_key(desk.operator, "nobody"),
        ):
            with pytest.raises(CommandError, match="there is no tenant nobody"):
                await command
        with pytest.raises(CommandError, match="there is no key key_0"):
            await revoke_key(desk.operator, "key_0")

    asyncio.run(story())


def test_a_key_is_shown_once_and_kept_as_a_digest(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads")
        made = await add_key(desk.operator, "ads", label="laptop")
        key = made.pop("key")
        assert keys.well_formed(key)
        assert await list_keys(desk.operator) == [made]
        assert key[11:] not in repr(made)
        digest = keys.digest(desk.operator.pepper, key)
        found = await desk.operator.database.read(lambda tx: find_key(tx, digest))
        assert found is not None
        assert (found.id, found.tenant, found.label) == (made["id"], "ads", "laptop")

    asyncio.run(story())


def test_an_expiry_is_the_last_day_on_which_the_key_works(desk: Desk) -> None:
    async def story() -> None:
        made = await add_key(desk.operator, role="finance", expires="2026-11-22")
        assert made["expires_at"] == "2026-11-23T00:00:00Z"
        digest = keys.digest(desk.operator.pepper, made["key"])
        row = await desk.operator.database.read(lambda tx: find_key(tx, digest))
        assert row is not None
        assert row.valid(desk.now + timedelta(hours=11, minutes=59))
        assert not row.valid(desk.now + timedelta(hours=12))

    asyncio.run(story())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "name the tenant"),
        ({"tenant": "ads", "role": "finance"}, "a finance key belongs to no tenant"),
        ({"role": "root"}, "a role is one of tenant, finance, admin, metrics"),
        ({"role": "admin", "label": "+1"}, "a label is"),
        ({"role": "admin", "label": "x" * 65}, "a label is"),
        ({"role": "admin", "expires": "2026-11-21"}, "2026-11-21 is over already"),
        ({"role": "admin", "expires": "tomorrow"}, "'tomorrow' is not a day"),
        ({"role": "admin", "expires": "9999-12-31"}, "'9999-12-31' is not a day"),
    ],
)
def test_a_key_that_could_not_work_is_not_made(
    desk: Desk, arguments: dict[str, str], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        asyncio.run(add_key(desk.operator, **arguments))
    assert asyncio.run(list_keys(desk.operator)) == []


def test_a_disabled_tenant_gets_no_key(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads")
        disabled = await disable_tenant(desk.operator, "ads")
        assert disabled["disabled_at"] == "2026-11-22T12:00:00Z"
        with pytest.raises(CommandError, match="ads is disabled"):
            await add_key(desk.operator, "ads")
        assert await list_keys(desk.operator) == []

    asyncio.run(story())


def test_revoking_twice_keeps_the_first_time_and_tells_the_server_each_time(desk: Desk) -> None:
    async def story() -> None:
        made = await add_key(desk.operator, role="metrics")
        first = await revoke_key(desk.operator, made["id"])
        desk.now += timedelta(hours=1)
        assert await revoke_key(desk.operator, made["id"]) == first
        assert first["revoked_at"] == "2026-11-22T12:00:00Z"

    asyncio.run(story())
    assert desk.forgotten == 2


def test_the_server_forgets_what_it_knows_of_keys_when_terms_change(desk: Desk) -> None:
    async def story() -> None:
        await add_tenant(desk.operator, "ads")
        assert desk.forgotten == 0
        await set_tenant(desk.operator, "ads", {"models": ["veo-3.1"]})
        assert desk.forgotten == 1
        await disable_tenant(desk.operator, "ads")

    asyncio.run(story())
    assert desk.forgotten == 2
