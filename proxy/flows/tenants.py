"""Tenants and keys as operators make them: names and limits are checked, secrets shown once.

Each command takes the operator and plain values, and answers what `--json` prints. A value that is
not allowed, an unknown name and a taken one are a `CommandError` whose message says what would do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

from proxy.core import keys
from proxy.core.caller import Role
from proxy.core.pricing import format_usd, parse_usd
from proxy.flows.operator import CommandError, Operator
from proxy.store import keys as key_rows
from proxy.store import tenants as tenant_rows
from proxy.store.database import Connection
from proxy.store.keys import KeyRow, KeyUnknown, NewKey
from proxy.store.tenants import TenantExists, TenantRow, TenantUnknown, Terms

LIMIT_MAX: Final = 1_000_000_000
"""The largest number any limit can be; it leaves the sums in the database room to grow."""

_LIMITS: Final = ("clips_per_month", "clips_in_flight", "requests_per_minute")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_GLOB: Final = re.compile(r"[A-Za-z0-9._*?-]{1,64}")
# These texts end up in spreadsheets, where a sign at the start would make a formula.
_LABEL: Final = re.compile(r"(?![=+\-@])[^\x00-\x1f\x7f-\x9f]{1,64}")


async def add_tenant(
    operator: Operator, name: str, terms: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Add a tenant.

    `terms` may hold `clips_per_month`, `usd_per_month` (a decimal string), `clips_in_flight`,
    `requests_per_minute`, `models` (a list of globs) and `cost_center`; None is no limit.
    """
    if _NAME.fullmatch(name) is None:
        raise CommandError(
            "a tenant's name is 1 to 40 of a-z, 0-9 and -, with a letter or digit at both ends"
        )
    agreed = _read_terms(operator, terms or {})
    tenant_id, now = operator.mint("tenant"), operator.now()
    try:
        row = await operator.database.write(
            lambda tx: tenant_rows.add_tenant(tx, tenant_id, name, now, **agreed)
        )
    except TenantExists:
        raise CommandError(f"there is a tenant {name} already; tenant set changes it") from None
    return _tenant(row)


async def set_tenant(operator: Operator, name: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """Change the tenant's `terms` that are given, and no others; None removes a limit."""
    agreed = _read_terms(operator, terms)
    if not agreed:
        raise CommandError("say what to change: tenant set --help lists the limits")
    try:
        row = await operator.database.write(lambda tx: tenant_rows.set_tenant(tx, name, **agreed))
    except TenantUnknown:
        raise _no_tenant(name) from None
    operator.forget_keys()
    return _tenant(row)


async def list_tenants(operator: Operator) -> list[dict[str, Any]]:
    """Every tenant, disabled ones too, by name."""
    return [_tenant(row) for row in await operator.database.read(tenant_rows.list_tenants)]


async def disable_tenant(operator: Operator, name: str) -> dict[str, Any]:
    """Refuse all the tenant's keys from now on; what it bought stays in every report."""
    now = operator.now()
    try:
        row = await operator.database.write(lambda tx: tenant_rows.disable_tenant(tx, name, now))
    except TenantUnknown:
        raise _no_tenant(name) from None
    operator.forget_keys()
    return _tenant(row)


async def add_key(
    operator: Operator,
    tenant: str | None = None,
    role: str = Role.TENANT,
    label: str = "",
    expires: str | None = None,
) -> dict[str, Any]:
    """Make a key; the answer's `key` is the only place where it will ever stand.

    `expires` is the last UTC day on which it works, as YYYY-MM-DD.
    """
    key_role = _read_role(role, tenant)
    if label and _LABEL.fullmatch(label) is None:
        raise CommandError("a label is 1 to 64 printable characters and starts with none of =+-@")
    now = operator.now()
    key = keys.make(operator.random(keys.RANDOM_BYTES))
    new = NewKey(
        id=operator.mint("key"),
        digest=keys.digest(operator.pepper, key),
        prefix=keys.shown(key),
        role=key_role,
        tenant=tenant,
        label=label,
        expires_at=None if expires is None else _read_expiry(expires, now),
    )

    def write(tx: Connection) -> KeyRow:
        row = key_rows.add_key(tx, new, now)
        if row.tenant_disabled_at is not None:
            raise CommandError(f"the tenant {tenant} is disabled, so its keys open nothing")
        return row

    try:
        row = await operator.database.write(write)
    except TenantUnknown:
        raise _no_tenant(str(tenant)) from None
    return {"key": key, **_key(row)}


async def list_keys(operator: Operator) -> list[dict[str, Any]]:
    """Every key, revoked ones too, by tenant and age; never the keys themselves."""
    return [_key(row) for row in await operator.database.read(key_rows.list_keys)]


async def revoke_key(operator: Operator, key_id: str) -> dict[str, Any]:
    """Refuse the key from now on; doing it again changes nothing."""
    now = operator.now()
    try:
        row = await operator.database.write(lambda tx: key_rows.revoke_key(tx, key_id, now))
    except KeyUnknown:
        raise CommandError(f"there is no key {key_id}; key list shows their ids") from None
    operator.forget_keys()
    return _key(row)


def _read_terms(operator: Operator, terms: Mapping[str, Any]) -> Terms:
    agreed: Terms = {}
    for name, value in terms.items():
        if name in _LIMITS:
            agreed[name] = _read_limit(name, value)  # type: ignore[literal-required]
        elif name == "usd_per_month":
            agreed["micros_per_month"] = None if value is None else _read_usd(value)
        elif name == "models":
            agreed["models"] = None if value is None else _read_globs(operator, value)
        elif name == "cost_center":
            agreed["cost_center"] = None if value is None else _read_cost_center(value)
        else:
            raise CommandError(f"there is no term {name!r}")
    return agreed


def _read_limit(name: str, value: Any) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= LIMIT_MAX:
        raise CommandError(f"{name} is a whole number from 0 to {LIMIT_MAX:,}")
    return value


def _read_usd(value: Any) -> int:
    try:
        return parse_usd(value)
    except (ValueError, TypeError):
        raise CommandError("usd_per_month is an amount in dollars such as 250 or 99.50") from None


def _read_globs(operator: Operator, globs: Any) -> list[str]:
    known = sorted(operator.catalog.models)
    for glob in globs:
        if not isinstance(glob, str) or _GLOB.fullmatch(glob) is None:
            raise CommandError(f"{glob!r} is not a model's name or a pattern such as veo-3.1-fast*")
        if not any(fnmatchcase(name, glob) for name in known):
            raise CommandError(f"no model matches {glob!r}; there are {', '.join(known)}")
    if not globs:
        raise CommandError("name at least one model, or none to allow all")
    return list(globs)


def _read_cost_center(value: Any) -> str:
    if not isinstance(value, str) or _LABEL.fullmatch(value) is None:
        raise CommandError(
            "a cost center is 1 to 64 printable characters and starts with none of =+-@"
        )
    return value


def _read_role(role: str, tenant: str | None) -> Role:
    try:
        read = Role(role)
    except ValueError:
        raise CommandError(f"a role is one of {', '.join(Role)}") from None
    if read is Role.TENANT and tenant is None:
        raise CommandError("name the tenant that the key is for, or give another --role")
    if read is not Role.TENANT and tenant is not None:
        raise CommandError(f"a {read} key belongs to no tenant; leave {tenant} out")
    return read


def _read_expiry(text: str, now: datetime) -> datetime:
    try:
        last_day = date.fromisoformat(text)
        end = datetime.combine(last_day + timedelta(days=1), time(), UTC)
    except (ValueError, OverflowError):
        raise CommandError(f"{text!r} is not a day such as 2026-12-31") from None
    if end <= now:
        raise CommandError(f"{text} is over already")
    return end


def _no_tenant(name: str) -> CommandError:
    return CommandError(f"there is no tenant {name}; tenant list shows their names")


def _tenant(row: TenantRow) -> dict[str, Any]:
    usd = row.limits.micros_per_month
    return {
        "id": row.id,
        "name": row.name,
        "cost_center": row.cost_center,
        "clips_per_month": row.limits.clips_per_month,
        "usd_per_month": None if usd is None else format_usd(usd),
        "clips_in_flight": row.limits.clips_in_flight,
        "requests_per_minute": row.limits.requests_per_minute,
        "models": None if row.models is None else list(row.models),
        "created_at": _moment(row.created_at),
        "disabled_at": _moment(row.disabled_at),
    }


def _key(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "tenant": row.tenant,
        "role": row.role.value,
        "label": row.label,
        "prefix": row.prefix,
        "created_at": _moment(row.created_at),
        "expires_at": _moment(row.expires_at),
        "last_used_at": _moment(row.last_used_at),
        "revoked_at": _moment(row.revoked_at),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds").replace("+00:00", "Z")
