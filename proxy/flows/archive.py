"""Finished clips are fetched into the vault before their link dies."""

from __future__ import annotations

from proxy.flows.house import House


class Archive:
    """Fetches the clips that wait for it, those whose links die first before the others."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house

    def start(self) -> None:
        """From now on fetch what is due."""

    def nudge(self) -> None:
        """There may be something to fetch."""
