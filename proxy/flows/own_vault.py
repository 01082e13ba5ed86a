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

MARK: Final = "vault"


async def claim(house: House) -> None:
    """Give the vault a mark, once in an installation's life.

    Raises `LedgerUnavailable` and `VaultUnavailable`; then it has none yet.
    """
    if await house.database.read(lambda tx: read_mark(tx, MARK)) is not None:
        return
    mark = house.mint(MARK)
    # The vault has it before anybody goes by it; one who was quicker is followed.
    await house.vault.set_mark(mark)

    def write(tx: Connection) -> str:
        found = read_mark(tx, MARK)
        if found is None:
            set_mark(tx, MARK, mark)
        return found or mark

    known = await house.database.write(write)
    if known != mark:
        await house.vault.set_mark(known)


async def prove(house: House) -> None:
    """Make sure that the vault is ours.

    Raises `VaultUnavailable` where it is another one, or away, and `LedgerUnavailable`.
    """
    known = await house.database.read(lambda tx: read_mark(tx, MARK))
    if known is None:
        raise VaultUnavailable("the vault has no mark yet")
    if await house.vault.mark() != known:
        # An operator who means it to be ours writes the mark there by hand.
        message = f"the vault is another one, or empty: {kept.MARK} in it does not say {known}"
        raise VaultUnavailable(message)
