"""Tenants are added once, changed only where asked, and disabled for good."""

from __future__ import annotations

from datetime import timedelta

import pytest

from proxy.core.budget import Limits
from proxy.store.audit import verify
from proxy.store.database import Database
from proxy.store.tenants import (
    TenantExists,
    TenantUnknown,
    add_tenant,
    disable_tenant,
    find_tenant,
    is_let_in,
    list_tenants,
    set_tenant,
)
from tests.store.asks import NOW, RIVAL, TEAM, everything, read, write


def test_a_tenant_is_found_as_it_was_added(database: Database) -> None:
    added = write(
        database,
        lambda tx: add_tenant(
            tx, "tenant_new", "new", NOW, clips_per_month=9, models=["veo-3.1*"], cost_center="c"
        ),
    )
    assert read(database, lambda tx: find_tenant(tx, "new")) == added
    assert (added.id, added.created_at, added.disabled_at) == ("tenant_new", NOW, None)
    assert (added.limits, added.models) == (Limits(clips_per_month=9), ("veo-3.1*",))
    assert read(database, verify) == []


def test_a_name_can_be_taken_once(database: Database) -> None:
    before = everything(database)
    with pytest.raises(TenantExists, match="team"):
        write(database, lambda tx: add_tenant(tx, "tenant_other", "team", NOW))
    assert everything(database) == before


def test_only_the_terms_that_are_given_change(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", micros_per_month=5, clips_in_flight=2))
    write(database, lambda tx: set_tenant(tx, "team", clips_in_flight=None, models=["a", "b"]))
    team = write(database, lambda tx: set_tenant(tx, "team"))
    assert team.limits == Limits(micros_per_month=5)
    assert (team.models, team.cost_center) == (("a", "b"), "cc-team")
    cleared = write(database, lambda tx: set_tenant(tx, "team", models=None, cost_center=None))
    assert (cleared.models, cleared.cost_center) == (None, None)


def test_a_disabled_tenant_stays_disabled_since_the_first_time(database: Database) -> None:
    write(database, lambda tx: disable_tenant(tx, "team", NOW))
    team = write(database, lambda tx: disable_tenant(tx, "team", NOW + timedelta(days=1)))
    assert team.disabled_at == NOW


def test_a_tenant_is_let_in_until_it_is_disabled(database: Database) -> None:
    assert read(database, lambda tx: is_let_in(tx, TEAM))
    assert not read(database, lambda tx: is_let_in(tx, "team") or is_let_in(tx, ""))
    write(database, lambda tx: disable_tenant(tx, "team", NOW))
    assert not read(database, lambda tx: is_let_in(tx, TEAM))
    assert read(database, lambda tx: is_let_in(tx, RIVAL))


def test_tenants_are_listed_by_name(database: Database) -> None:
    names = [tenant.name for tenant in read(database, list_tenants)]
    assert names == ["rival", "team"]


def test_an_unknown_tenant_can_be_neither_changed_nor_disabled(database: Database) -> None:
    assert read(database, lambda tx: find_tenant(tx, "nobody")) is None
    with pytest.raises(TenantUnknown, match="nobody"):
        write(database, lambda tx: set_tenant(tx, "nobody", clips_per_month=1))
    with pytest.raises(TenantUnknown, match="nobody"):
        write(database, lambda tx: disable_tenant(tx, "nobody", NOW))
