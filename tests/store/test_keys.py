"""Keys are found by their digest with their tenant, and are revoked once and for all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from proxy.core.keys import Role
from proxy.store.database import Database
from proxy.store.keys import (
    KeyUnknown,
    NewKey,
    add_key,
    find_key,
    list_keys,
    revoke_key,
    touch_keys,
)
from proxy.store.tenants import TenantUnknown, disable_tenant, set_tenant
from tests.store.asks import NOW, TEAM, read, write

LATER = NOW + timedelta(hours=1)


def test_a_key_is_found_by_its_digest_with_its_tenant(database: Database) -> None:
    write(database, lambda tx: set_tenant(tx, "team", models=["veo-3.1-fast*"]))
    key = read(database, lambda tx: find_key(tx, "digest-team"))
    assert key is not None
    assert (key.id, key.role, key.prefix) == ("key_team", Role.TENANT, "sk-cm-abcd…")
    assert (key.tenant_id, key.tenant, key.cost_center) == (TEAM, "team", "cc-team")
    assert key.models == ("veo-3.1-fast*",)
    assert key.valid(NOW)


def test_a_digest_nobody_has_finds_nothing(database: Database) -> None:
    assert read(database, lambda tx: find_key(tx, "digest-tea")) is None


@pytest.mark.parametrize("role", [Role.FINANCE, Role.ADMIN, Role.METRICS])
def test_a_key_of_another_role_has_no_tenant(database: Database, role: Role) -> None:
    key = write(database, lambda tx: add_key(tx, NewKey("key_x", "d", "p", role, None, "CI"), NOW))
    assert (key.role, key.tenant_id, key.label, key.valid(NOW)) == (role, None, "CI", True)


@pytest.mark.parametrize(("role", "tenant"), [(Role.TENANT, None), (Role.ADMIN, "team")])
def test_role_and_tenant_must_agree(database: Database, role: Role, tenant: str | None) -> None:
    with pytest.raises(ValueError, match="tenant role"):
        write(database, lambda tx: add_key(tx, NewKey("key_x", "d", "p", role, tenant), NOW))


def test_a_key_needs_a_tenant_that_exists(database: Database) -> None:
    key = NewKey("key_x", "d", "p", Role.TENANT, "nobody")
    with pytest.raises(TenantUnknown, match="nobody"):
        write(database, lambda tx: add_key(tx, key, NOW))


def test_one_digest_is_one_key(database: Database) -> None:
    key = NewKey("key_x", "digest-team", "p", Role.TENANT, "rival")
    with pytest.raises(IntegrityError):
        write(database, lambda tx: add_key(tx, key, NOW))


def test_a_revoked_key_is_invalid_since_the_first_time(database: Database) -> None:
    write(database, lambda tx: revoke_key(tx, "key_team", NOW))
    key = write(database, lambda tx: revoke_key(tx, "key_team", LATER))
    assert key.revoked_at == NOW
    assert not key.valid(NOW)


def test_a_key_ends_at_the_moment_it_expires(database: Database) -> None:
    new = NewKey("key_x", "d", "p", Role.TENANT, "team", expires_at=LATER)
    key = write(database, lambda tx: add_key(tx, new, NOW))
    assert key.valid(LATER - timedelta(microseconds=1))
    assert not key.valid(LATER)


def test_a_disabled_tenants_keys_are_invalid(database: Database) -> None:
    write(database, lambda tx: disable_tenant(tx, "team", NOW))
    key = read(database, lambda tx: find_key(tx, "digest-team"))
    assert key is not None
    assert not key.valid(NOW)


def test_an_unknown_key_cannot_be_revoked(database: Database) -> None:
    with pytest.raises(KeyUnknown, match="key_none"):
        write(database, lambda tx: revoke_key(tx, "key_none", NOW))


def test_the_last_use_moves_forward_only(database: Database) -> None:
    write(database, lambda tx: touch_keys(tx, {"key_team": LATER, "key_gone": LATER}))
    write(database, lambda tx: touch_keys(tx, {"key_team": NOW, "key_rival": NOW}))
    write(database, lambda tx: touch_keys(tx, {}))
    used = {key.id: key.last_used_at for key in read(database, list_keys)}
    assert used == {"key_team": LATER, "key_rival": NOW}
