"""Whether the vault is this installation's own: what it lacks is believed only then.

A disk that is not mounted, a prefix with a slip of the pen and a bucket that somebody emptied look
alike: as if every clip were gone. So the vault has a mark, and the database knows which. Where the
vault does not have that one, no clip is given up for lost and nothing is deleted.
"""

from __future__ import annotations

from typing import Final

from proxy.flows.house import House
from proxy.store import kept
from proxy.store.database import Connection
from proxy.store.kept import VaultUnavailable
from proxy.store.processes import read_mark, set_mark

GIVEN: Final = "vault"
"""The installation's fact that its vault has this mark."""

WANTED: Final = "vault_wanted"
"""The mark that it is to get; durable first, so that a crash in between changes nothing."""


async def claim(house: House) -> None:
    """Give the vault its mark, once in an installation's life.

    Raises `LedgerUnavailable`, and `VaultUnavailable` for a vault that is away, or another's.
    """
    if await house.database.read(lambda tx: read_mark(tx, GIVEN)) is not None:
        return
    minted = house.mint(GIVEN)

    def want(tx: Connection) -> str:
        wanted = read_mark(tx, WANTED)
        if wanted is None:
            set_mark(tx, WANTED, minted)
        return wanted or minted

    mark = await house.database.write(want)
    found = await house.vault.mark()
    if found is None:
        await house.vault.set_mark(mark)
    elif found != mark:
        raise _not_ours(mark)
    await house.database.write(lambda tx: set_mark(tx, GIVEN, mark))


async def prove(house: House) -> None:
    """Make sure that the vault is ours.

    Raises `VaultUnavailable` where it is another one, or away, and `LedgerUnavailable`.
    """
    mark = await house.database.read(lambda tx: read_mark(tx, GIVEN))
    if mark is None:
        raise VaultUnavailable("the vault has no mark yet")
    if await house.vault.mark() != mark:
        raise _not_ours(mark)


def _not_ours(mark: str) -> VaultUnavailable:
    # An operator who means it to be ours writes the mark there by hand.
    return VaultUnavailable(f"the vault is not ours, or empty: its {kept.MARK} does not say {mark}")
