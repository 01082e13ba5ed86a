from __future__ import annotations

import pytest

from proxy.core.caller import Caller, Role


@pytest.mark.parametrize(
    ("models", "model", "may"),
    [
        (None, "veo-3.1", True),
        (("veo-3.1",), "veo-3.1", True),
        (("veo-3.1",), "veo-3.1-fast", False),
        (("veo-3.1-landscape*",), "veo-3.1-landscape-fast", True),
        (("*-fast", "*-fl"), "veo-3.1-fl", True),
        (("VEO-3.1",), "veo-3.1", False),
        ((), "veo-3.1", False),
    ],
)
def test_a_tenants_list_of_models_says_what_it_may_use(
    models: tuple[str, ...] | None, model: str, may: bool
) -> None:
    caller = Caller("key_1", "tenant_1", "team", Role.TENANT, models=models)
    assert caller.may_use(model) is may
