"""A vault has one mark, which is given once, and by which alone it is known to be ours."""

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
        with pytest.raises(VaultUnavailable, match="does not say vault_one"):
            await prove(again)
        # An operator who means it says so by hand.
        await other.set_mark("vault_one\n")
        await prove(again)
        vault.close()
        other.close()


async def test_a_crash_between_the_steps_of_a_claim_changes_nothing(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    with desk(tmp_path) as made:
        vault = Vault.open(None, tmp_path, BOUNDS)

        class Breaking:
            """A vault whose owner is killed before, or behind, its marking."""

            mark = vault.mark

            def __init__(self, *, behind: bool) -> None:
                self.behind = behind

            async def set_mark(self, mark: str) -> None:
                if self.behind:
                    await vault.set_mark(mark)
                raise Crash

        for number, behind in enumerate((False, True)):
            breaking = cast("Vault", Breaking(behind=behind))
            with pytest.raises(Crash):
                await claim(house_of(made.operator.database, breaking, counted(number)))
        house = house_of(made.operator.database, vault, counted(2))
        with pytest.raises(VaultUnavailable, match="no mark yet"):
            await prove(house)
        await claim(house)
        await prove(house)
        assert await vault.mark() == "vault_0"
        vault.close()


async def test_a_vault_of_another_installation_is_never_claimed(tmp_path: Path) -> None:
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    with desk(tmp_path / "theirs") as theirs, desk(tmp_path / "ours") as ours:
        vault = Vault.open(None, tmp_path, BOUNDS)
        first = house_of(theirs.operator.database, vault, counted(1))
        second = house_of(ours.operator.database, vault, counted(2))
        await claim(first)
        for deed in (claim, claim, prove):
            with pytest.raises(VaultUnavailable):
                await deed(second)
        await prove(first)
        vault.close()


def counted(number: int) -> Callable[[str], str]:
    return lambda prefix: f"{prefix}_{number}"
