"""Who is asking: the tenant and the role behind a key, and which models it may use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Role(StrEnum):
    """What a key may do; a route names the roles it lets in, and lets in no other."""

    TENANT = "tenant"
    FINANCE = "finance"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid key; only a tenant key has a tenant."""

    key_id: str
    tenant_id: str
    tenant_name: str
    role: Role
    label: str = ""
    cost_center: str | None = None
    models: tuple[str, ...] | None = None

    def may_use(self, model: str) -> bool:
        """Whether the tenant's list of models, if it has one, matches `model`."""
        return self.models is None or any(fnmatchcase(model, glob) for glob in self.models)
