"""Who is asking: the tenant and the role behind a key, and which models it may use."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from proxy.core.keys import Role


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
