"""What is known of each video, from memory where fresh: pollers cost next to nothing."""

from __future__ import annotations

from proxy.flows.house import House
from proxy.store.videos import VideoRow, find_video


class Standings:
    """The videos that were asked for lately."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house

    async def find(self, tenant_id: str, clip_id: str) -> VideoRow | None:
        """The tenant's own clip, as it stands. Raises `LedgerUnavailable`."""
        return await self._house.database.read(lambda tx: find_video(tx, tenant_id, clip_id))

    def forget(self, clip_id: str) -> None:
        """The clip has changed: ask the database again."""
