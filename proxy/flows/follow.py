"""Unfinished jobs are polled until they end, whoever is watching."""

from __future__ import annotations

from proxy.flows.house import House
from proxy.store.jobs import JobRow


class Follower:
    """Asks the gateways about every job that this process owns, each at its own pace."""

    def __init__(self, house: House) -> None:
        """One for each process."""
        self._house = house

    def start(self) -> None:
        """From now on poll what is due."""

    def follow(self, job: JobRow) -> None:
        """Poll this job, which is this process's, to its end."""

    async def take_over(self) -> None:
        """Make the jobs of dead processes, and those that were let go, ours."""

    async def let_go(self) -> None:
        """Poll nothing more, and leave our jobs to other processes."""
