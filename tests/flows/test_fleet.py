from __future__ import annotations

import pytest

from proxy.core.rotation import Answered, BreakerLimits, Silent
from proxy.flows.fleet import FleetKeeper
from proxy.metrics import Metrics

LIMITS = BreakerLimits(faults=2, pause_seconds=30, pause_seconds_max=300, jitter_ratio=0.2)


class Time:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


def keeper(time: Time, *names: str) -> tuple[FleetKeeper, Metrics]:
    metrics = Metrics(["veo-3.1"], names, tenant_labels_max=10)
    return FleetKeeper(names, LIMITS, metrics, time.monotonic, lambda: 0.0), metrics


def test_a_gateway_that_fails_again_and_again_goes_to_the_end_of_the_line() -> None:
    time = Time()
    fleet, metrics = keeper(time, "api", "vip", "b")
    fleet.observe("api", Silent("reset"))
    assert fleet.plan() == ("api", "vip", "b")
    fleet.observe("api", Answered(502))
    assert fleet.plan() == ("vip", "b", "api")
    assert fleet.states()["api"] == "open"
    shown = metrics.render("")[0].decode()
    assert 'clipmeter_gateway_state{gateway="api",state="open"} 1.0' in shown


async def test_a_paused_gateway_comes_back_by_a_probe() -> None:
    time = Time()
    fleet, _ = keeper(time, "api", "vip")
    for _number in range(2):
        fleet.observe("api", Silent("reset"))
    asked: list[str] = []
    alive = False

    async def probe(name: str) -> bool:
        asked.append(name)
        return alive

    await fleet.probe_doubtful(probe)
    assert (asked, fleet.states()["api"]) == ([], "open")
    time.seconds = 31
    await fleet.probe_doubtful(probe)
    assert (asked, fleet.states()["api"]) == (["api"], "open")
    alive, time.seconds = True, 200
    await fleet.probe_doubtful(probe)
    assert (asked, fleet.plan()) == (["api", "api"], ("api", "vip"))


async def test_a_probe_that_raises_is_no_answer() -> None:
    time = Time()
    fleet, _ = keeper(time, "api", "vip")
    for _number in range(2):
        fleet.observe("api", Silent("reset"))
    time.seconds = 31

    async def probe(_name: str) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fleet.probe_doubtful(probe)
    assert fleet.states()["api"] == "open"

    async def alive(_name: str) -> bool:
        return True

    time.seconds = 200
    await fleet.probe_doubtful(alive)
    assert fleet.states()["api"] == "closed"
