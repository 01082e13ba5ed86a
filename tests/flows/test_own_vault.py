"""A vault has one mark, which is given once, and by which alone it is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.flows.house import House
from proxy.flows.own_vault import claim, prove
from proxy.store.kept import VaultUnavailable
from proxy.store.vault import Ready, Vault
from tests.operators import desk
from tests.store.vaults import BOUNDS, ID, SMALL


def house_of(database: Any, vault: Vault, mint: Callable[[str], str]) -> House:
    return cast("House", SimpleNamespace(database=database, vault=vault, mint=mint))


async def test_a_vault_is_ours_from_its_mark_on_and_another_is_not(
    tmp_path: Path, vault_url: str | None
) -> None:
    with desk(tmp_path) as made:
        vault = Vault.open(vault_url, tmp_path / "one", BOUNDS)
        house = house_of(made.operator.database, vault, lambda prefix: f"{prefix}_one")
        with pytest.raises(VaultUnavailable, match="no mark yet"):
            await prove(house)
        await claim(house)
        await prove(house)
        assert await vault.mark() == "vault_one"
        await vault.put(ID, Ready(SMALL))
        assert [each.kept.clip_id async for each in vault.stored()] == [ID]
        # Again, after a restart, and whatever the next mark would be.
        again = house_of(made.operator.database, vault, lambda prefix: f"{prefix}_two")
        await claim(again)
        await prove(again)
        other_url = None if vault_url is None else f"{vault_url}/slip"
        other = Vault.open(other_url, tmp_path / "two", BOUNDS)
        again.vault = other
        await claim(again)
        with pytest.raises(VaultUnavailable, match="vault_one"):
            await prove(again)
        # An operator who means it says so by hand.
        await other.set_mark("vault_one\n")
        await prove(again)
        vault.close()
        other.close()


async def test_two_that_claim_at_once_go_by_one_mark(tmp_path: Path) -> None:
    with desk(tmp_path) as made:
        vault = Vault.open(None, tmp_path, BOUNDS)
        quicker = house_of(made.operator.database, vault, lambda prefix: f"{prefix}_quick")

        class Slow:
            """The vault as one sees it who is overtaken between its two steps."""

            async def set_mark(self, mark: str) -> None:
                await vault.set_mark(mark)
                if mark == "vault_slow":
                    await claim(quicker)

        slow = house_of(made.operator.database, cast("Vault", Slow()), lambda one: f"{one}_slow")
        await claim(slow)
        assert await vault.mark() == "vault_quick"
        await prove(quicker)
        vault.close()
