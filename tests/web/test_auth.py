"""Who is asking: keys are known by their digests, revoked at once, and refused all alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config import Limits
from proxy.core import keys
from proxy.core.caller import Caller, Role
from proxy.errors import ProxyError
from proxy.store.database import LedgerUnavailable
from proxy.store.keys import KeyRow
from proxy.web.auth import Keyring, presented, require

PEPPER = b"a pepper for the tests"
KEY = keys.make(bytes(range(32)))
OTHER_KEY = keys.make(bytes(range(32, 64)))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class Clock:
    seconds: float = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Table:
    """The keys of a database, and how often it was asked."""

    rows: dict[str, KeyRow] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    away: bool = False
    gate: asyncio.Event | None = None

    async def find(self, digest: str) -> KeyRow | None:
        self.asked.append(digest)
        if self.away:
            raise LedgerUnavailable("gone")
        row = self.rows.get(digest)
        if self.gate is not None:
            await self.gate.wait()
        return row


def row(key: str = KEY, /, **changes: object) -> tuple[str, KeyRow]:
    one = KeyRow(
        id="key_1",
        role=Role.TENANT,
        label="ci",
        prefix=keys.shown(key),
        created_at=NOON,
        expires_at=None,
        last_used_at=None,
        revoked_at=None,
        tenant_id="tenant_1",
        tenant="acme",
        cost_center="R&D",
        models=("veo-3.1-fast*",),
        tenant_disabled_at=None,
    )
    return keys.digest(PEPPER, key), replace(one, **changes)  # type: ignore[arg-type]


def opened(table: Table, clock: Clock | None = None, **limits: float) -> Keyring:
    return Keyring(table.find, PEPPER, clock or Clock(), Limits.model_validate(limits))


def shown(key: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"proxy"), (b"authorization", f"Bearer {key}".encode("latin-1"))]


def ask(keyring: Keyring, key: str = KEY) -> Caller:
    return asyncio.run(keyring.caller(shown(key)))


def refused(keyring: Keyring, key: str = KEY) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        ask(keyring, key)
    return caught.value


class TestWhoIsAsking:
    def test_a_key_leads_to_its_tenant_role_and_models(self) -> None:
        caller = ask(opened(Table(dict([row()]))))
        assert caller == Caller(
            "key_1", "tenant_1", "acme", Role.TENANT, "ci", "R&D", ("veo-3.1-fast*",)
        )

    def test_a_key_without_a_tenant_has_none(self) -> None:
        nobody = row(role=Role.FINANCE, tenant_id=None, tenant=None, cost_center=None, models=None)
        caller = ask(opened(Table(dict([nobody]))))
        assert (caller.tenant_id, caller.tenant_name, caller.role) == ("", "", Role.FINANCE)

    @pytest.mark.parametrize(
        "value",
        [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER   {KEY}", KEY, f" {KEY} ", f"Bearer {KEY}\t"],
    )
    def test_a_key_may_be_bare_or_a_bearers(self, value: str) -> None:
        assert presented([(b"authorization", value.encode())]) == KEY

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b"x-api-key", KEY.encode())],
            [(b"authorization", KEY.encode()), (b"authorization", KEY.encode())],
            [(b"proxy-authorization", KEY.encode())],
        ],
    )
    def test_one_authorization_header_counts_and_nothing_else(
        self, headers: list[tuple[bytes, bytes]]
    ) -> None:
        table = Table(dict([row()]))
        with pytest.raises(ProxyError, match="valid key"):
            asyncio.run(opened(table).caller(headers))
        assert table.asked == []

    @given(st.binary(max_size=200))
    def test_whatever_stands_in_the_header_is_refused_without_a_look_up(self, value: bytes) -> None:
        table = Table(dict([row()]))
        with pytest.raises(ProxyError) as caught:
            asyncio.run(opened(table).caller([(b"authorization", value)]))
        assert caught.value.code == "invalid_api_key"
        assert table.asked == []

    def test_keys_are_looked_up_by_their_whole_digest(self) -> None:
        one = keys.make(b"\x00" * 31 + b"\x01")
        other = keys.make(b"\x00" * 31 + b"\x02")
        assert one[:40] == other[:40]
        table = Table(dict([row(one), row(other, id="key_2", tenant="globex")]))
        keyring = opened(table)
        assert [ask(keyring, key).tenant_name for key in (one, other, one)] == [
            "acme",
            "globex",
            "acme",
        ]
        assert one not in repr(table.asked)
        assert {len(digest) for digest in table.asked} == {64}


class TestRefusals:
    @pytest.mark.parametrize(
        "change",
        [
            {"revoked_at": NOON},
            {"expires_at": NOON},
            {"expires_at": NOON - timedelta(days=1)},
            {"tenant_disabled_at": NOON},
        ],
    )
    def test_every_key_that_opens_nothing_is_refused_alike(self, change: dict[str, object]) -> None:
        dead, unknown = Table(dict([row(**change)])), Table()
        garbled = refused(opened(Table()), f"{KEY[:-1]}!")
        for table in (dead, unknown):
            keyring = opened(table)
            refusals = [refused(keyring), refused(keyring)]
            for refusal in refusals:
                assert (refusal.status, refusal.body()) == (401, garbled.body())
                assert refusal.headers() == garbled.headers()
            assert len(table.asked) == 2
        assert dict(garbled.headers())["www-authenticate"].startswith("Bearer")

    def test_a_remembered_key_expires_on_time(self) -> None:
        clock = Clock()
        table = Table(dict([row(expires_at=NOON + timedelta(seconds=1))]))
        keyring = opened(table, clock, key_cache_seconds=60)
        assert ask(keyring).key_id == "key_1"
        clock.seconds = 1
        assert refused(keyring).status == 401
        assert len(table.asked) == 1

    def test_when_the_ledger_is_away_nobody_is_called_a_stranger(self) -> None:
        refusal = refused(opened(Table(dict([row()]), away=True)))
        assert (refusal.status, refusal.code) == (503, "ledger_unavailable")

    def test_without_a_pepper_there_is_no_keyring(self) -> None:
        with pytest.raises(ValueError, match="pepper"):
            Keyring(Table().find, b"", Clock(), Limits())


class TestMemory:
    def test_a_key_is_looked_up_once_in_its_time(self) -> None:
        clock, table = Clock(), Table(dict([row()]))
        keyring = opened(table, clock, key_cache_seconds=2)
        for clock.seconds in (0, 1, 1.99, 2, 3.99):
            ask(keyring)
        assert len(table.asked) == 2

    def test_a_revoked_key_is_refused_when_its_time_is_over(self) -> None:
        clock, table = Clock(), Table(dict([row()]))
        keyring = opened(table, clock, key_cache_seconds=2)
        ask(keyring)
        table.rows = dict([row(revoked_at=NOON)])
        clock.seconds = 2
        assert refused(keyring).status == 401

    @pytest.mark.parametrize("key_id", ["key_1", None])
    def test_a_key_that_is_forgotten_is_refused_at_once(self, key_id: str | None) -> None:
        table = Table(dict([row()]))
        keyring = opened(table, key_cache_seconds=3600)
        ask(keyring)
        table.rows = dict([row(revoked_at=NOON)])
        keyring.forget(key_id)
        assert refused(keyring).status == 401

    def test_forgetting_one_key_leaves_the_others(self) -> None:
        table = Table(dict([row(), row(OTHER_KEY, id="key_2")]))
        keyring = opened(table)
        ask(keyring)
        ask(keyring, OTHER_KEY)
        keyring.forget("key_1")
        ask(keyring, OTHER_KEY)
        assert len(table.asked) == 2
        ask(keyring)
        assert len(table.asked) == 3

    def test_what_was_read_before_a_revocation_is_not_remembered_after_it(self) -> None:
        async def scene() -> None:
            table = Table(dict([row()]), gate=asyncio.Event())
            keyring = opened(table, key_cache_seconds=3600)
            early = asyncio.ensure_future(keyring.caller(shown(KEY)))
            await asyncio.sleep(0)
            assert len(table.asked) == 1
            table.rows = dict([row(revoked_at=NOON)])
            keyring.forget("key_1")
            assert table.gate is not None
            table.gate.set()
            assert (await early).key_id == "key_1"
            with pytest.raises(ProxyError, match="valid key"):
                await keyring.caller(shown(KEY))

        asyncio.run(scene())

    def test_no_more_keys_are_remembered_than_allowed(self) -> None:
        many = [keys.make(bytes([number]) * 32) for number in range(5)]
        table = Table(dict(row(key, id=f"key_{number}") for number, key in enumerate(many)))
        keyring = opened(table, key_cache_keys_max=2)
        for key in many:
            ask(keyring, key)
        ask(keyring, many[4])
        ask(keyring, many[3])
        assert len(table.asked) == 5
        ask(keyring, many[0])
        assert len(table.asked) == 6

    def test_uses_are_handed_out_once_with_the_latest_time(self) -> None:
        clock, table = Clock(), Table(dict([row(), row(OTHER_KEY, id="key_2", revoked_at=NOON)]))
        keyring = opened(table, clock)
        ask(keyring)
        clock.seconds = 1
        ask(keyring)
        refused(keyring, OTHER_KEY)
        assert keyring.take_last_used() == {"key_1": NOON + timedelta(seconds=1)}
        assert keyring.take_last_used() == {}


def opens(role: Role, *named: Role) -> bool:
    try:
        require(Caller("key_1", "", "", role), *named)
    except ProxyError:
        return False
    return True


class TestRoles:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("named", Role)
    def test_a_role_opens_its_own_door_and_no_other(self, role: Role, named: Role) -> None:
        assert opens(role, named) is (role is named)

    @pytest.mark.parametrize("role", Role)
    def test_a_door_may_be_open_to_several(self, role: Role) -> None:
        assert opens(role, Role.FINANCE, Role.ADMIN) is (role in {Role.FINANCE, Role.ADMIN})

    @pytest.mark.parametrize("role", Role)
    def test_a_door_that_names_no_role_is_closed_to_all(self, role: Role) -> None:
        assert not opens(role)

    def test_who_is_not_let_in_is_told_which_role_it_takes(self) -> None:
        with pytest.raises(ProxyError, match="role finance or admin; yours has the role tenant"):
            require(Caller("key_1", "", "", Role.TENANT), Role.FINANCE, Role.ADMIN)
