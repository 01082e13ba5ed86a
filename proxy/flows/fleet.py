"""Keeps what is known of the gateways' health, and asks the doubtful ones how they are.

The health itself is a value (`core.rotation.Fleet`); this is its one holder in a process. A
gateway that was given a pause is asked with a free GET, never with a paid POST.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from proxy.core.rotation import (
    BreakerLimits,
    Fleet,
    Outcome,
    begin_probe,
    end_probe,
    observe,
    plan,
    probe_due,
    state,
)
from proxy.metrics import Metrics

PROBE_PAUSE_SECONDS = 1.0
"""How often a server looks whether a gateway's pause is over."""


class FleetKeeper:
    """The health of the gateways as this process has seen it."""

    def __init__(
        self,
        names: Sequence[str],
        limits: BreakerLimits,
        metrics: Metrics,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        """Begin with every gateway in good health; `jitter` gives numbers from -1 to 1."""
        self._fleet = Fleet.of(names)
        self._limits = limits
        self._metrics = metrics
        self._monotonic = monotonic
        self._jitter = jitter
        self._show()

    def plan(self) -> tuple[str, ...]:
        """The order in which to try the gateways now."""
        return plan(self._fleet, self._monotonic())

    def states(self) -> dict[str, str]:
        """Each gateway's state: closed (in use), open (paused) or half_open (being asked)."""
        now = self._monotonic()
        return {health.name: state(health, now) for health in self._fleet.gateways}

    def observe(self, name: str, outcome: Outcome) -> None:
        """Take what an attempt at gateway `name` met into account."""
        now = self._monotonic()
        self._fleet = observe(self._fleet, name, outcome, now, self._jitter(), self._limits)
        self._show()

    async def probe_doubtful(self, probe: Callable[[str], Awaitable[bool]]) -> None:
        """Ask each gateway whose pause is over, one at a time; a probe that raises is no answer."""
        for name in probe_due(self._fleet, self._monotonic()):
            self._fleet = begin_probe(self._fleet, name)
            alive = False
            try:
                alive = await probe(name)
            finally:
                now = self._monotonic()
                self._fleet = end_probe(self._fleet, name, alive, now, self._jitter(), self._limits)
        self._show()

    def _show(self) -> None:
        for name, health in self.states().items():
            self._metrics.gateway_is(name, health)
