"""Every Prometheus series, declared once, on our own registry.

Label sets are closed: a value that is not in its set becomes `other`, so nothing a caller or the
vendor sends can add a series. Series of a known set stand at 0 from the start, because a counter
that appears with its first event hides that event from `rate()`. Money here is indicative; the
ledger is the truth (decision 16).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics import exposition as openmetrics

PREFIX: Final = "clipmeter"

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable, the Prometheus client's own, that names where workers add up their series."""

OTHER: Final = "other"

ROUTES_MAX: Final = 100
"""The most routes by name; each is a template of a route table, never a path."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ORIGINS: Final = frozenset({"none", "client", "proxy", "upstream", "policy"})
OPERATIONS: Final = ("chat", "video", "poll", "content", "probe")
ANSWERS: Final = ("2xx", "3xx", "4xx", "5xx", "unreachable", "silent")
ROTATIONS: Final = ("refused", "unreachable")
GATEWAY_STATES: Final = ("closed", "half_open", "open")
CLIP_OUTCOMES: Final = ("delivered", "failed", "unknown", "written_off", "replayed")
GENERATION_OUTCOMES: Final = ("delivered", "partial", "failed", "refused", "unknown")

OVERHEAD_BUCKETS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
"""What we add ourselves, in seconds: 0.1 ms to 1 s."""

GENERATION_BUCKETS: Final = (
    *(1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0),
    *(180.0, 240.0, 300.0, 420.0, 600.0, 900.0),
)
"""A clip's making, in seconds; 60, 120, 180 and 600 are what the vendor and the SLOs speak of."""

REQUEST_BUCKETS: Final = (
    *(0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0),
)
"""Whole requests, in seconds: a look-up or a clip."""

_MICROS: Final = 1_000_000

GaugeMode = Literal["livesum", "livemax", "sum", "mostrecent"]


class Metrics:
    """The series of one process, and the verbs by which the program writes them down.

    `shared_dir` is the folder through which the workers of `--workers` add up their series; it
    must also be in PROMETHEUS_MULTIPROC_DIR before the process starts.
    """

    def __init__(
        self,
        models: Iterable[str],
        gateways: Iterable[str],
        *,
        tenant_labels_max: int,
        version: str = "",
        shared_dir: str | None = None,
    ) -> None:
        # A creation time beside every series would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._shared_dir = shared_dir
        self._models = tuple(models)
        self._gateways = tuple(gateways)
        self._tenants = _Names(tenant_labels_max)
        self._routes = _Names(ROUTES_MAX)
        self._declare_requests()
        self._declare_gateways()
        self._declare_clips()
        self._declare_process(version)
        self._begin_at_zero()

    def _declare_requests(self) -> None:
        self._http_requests = self._counter(
            "http_requests",
            "Requests answered, by route template, status and whose answer it was",
            "route",
            "method",
            "code",
            "origin",
        )
        self._http_seconds = self._histogram(
            "http_request_seconds",
            "A request from its head to its last byte",
            REQUEST_BUCKETS,
            "route",
        )
        self._overhead = self._histogram(
            "overhead_seconds", "What the proxy itself adds to a request", OVERHEAD_BUCKETS, "route"
        )
        self._streams = self._gauge("streams_open", "Paid requests under way", mode="livesum")
        self._dropped = self._counter(
            "listeners_dropped", "Callers let go because they read too slowly"
        )

    def _declare_gateways(self) -> None:
        self._upstream_requests = self._counter(
            "upstream_requests",
            "Attempts at a gateway, by the class of its answer",
            "gateway",
            "operation",
            "outcome",
        )
        self._upstream_seconds = self._histogram(
            "upstream_seconds",
            "An attempt until its head, or its failure",
            REQUEST_BUCKETS,
            "gateway",
            "operation",
        )
        self._rotations = self._counter(
            "rotations", "Requests sent on to another gateway", "from", "to", "reason"
        )
        self._gateway_state = self._gauge(
            "gateway_state", "1 for the state of each gateway's breaker", "gateway", "state"
        )
        self._exposure = self._gauge(
            "exposure_usd",
            "List price of what the vendor may have billed without a clip, since the start",
            mode="sum",
        )
        self._bought_twice = self._counter(
            "clips_maybe_bought_twice", "Clips sent on after an attempt that may have bought them"
        )
        self._surplus = self._counter("surplus_links", "Links beyond the clips that were asked for")

    def _declare_clips(self) -> None:
        self._clips = self._counter(
            "clips", "Clips by what became of them", "tenant", "model", "outcome"
        )
        self._billed = self._counter(
            "billed_usd", "Charged to tenants; indicative, the ledger is exact", "tenant", "model"
        )
        self._generation_seconds = self._histogram(
            "generation_seconds",
            "A paid request from its acceptance to its end",
            GENERATION_BUCKETS,
            "model",
            "outcome",
        )
        self._unfinished = self._gauge(
            "jobs_unfinished", "Clips that are not settled", "model", mode="mostrecent"
        )
        self._budget_used = self._gauge(
            "tenant_budget_used_ratio",
            "The most used up of a tenant's budgets of this month",
            "tenant",
            mode="mostrecent",
        )
        self._unpriced = self._counter(
            "unpriced_clips", "Clips refused because their model has no price"
        )

    def _declare_process(self, version: str) -> None:
        build = self._gauge("build_info", "1 for the version that runs", "version", mode="livemax")
        build.labels(version or "unknown").set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _begin_at_zero(self) -> None:
        for gateway in self._gateways:
            self.gateway_is(gateway, "closed")
            for answer in ANSWERS:
                self._upstream_requests.labels(gateway, "chat", answer)
            for to in self._gateways:
                for reason in ROTATIONS if to != gateway else ():
                    self._rotations.labels(gateway, to, reason)
        for model in self._models:
            self._unfinished.labels(model).set(0)
            for outcome in GENERATION_OUTCOMES:
                self._generation_seconds.labels(model, outcome)

    def answered(self, route: str, method: str, status: int, origin: str, seconds: float) -> None:
        """A request was answered after `seconds`; `route` is a template, `origin` says by whom."""
        route = self._routes.known(route)
        code = str(status) if 100 <= status <= 599 else OTHER
        self._http_requests.labels(
            route, _one_of(METHODS, method), code, _one_of(ORIGINS, origin)
        ).inc()
        self._http_seconds.labels(route).observe(seconds)

    def overhead(self, route: str, seconds: float) -> None:
        """Of a request's time, `seconds` were ours."""
        self._overhead.labels(self._routes.known(route)).observe(seconds)

    @contextmanager
    def stream_open(self) -> Iterator[None]:
        """A paid request is under way for as long as the block runs."""
        self._streams.inc()
        try:
            yield
        finally:
            self._streams.dec()

    def listener_dropped(self) -> None:
        """A caller was let go because it read too slowly."""
        self._dropped.inc()

    def attempted(self, gateway: str, operation: str, outcome: object, seconds: float) -> None:
        """A try at `gateway` took `seconds`; `outcome` has a `status`, or is named by its type."""
        status = getattr(outcome, "status", None)
        answer = f"{status // 100}xx" if isinstance(status, int) else type(outcome).__name__.lower()
        gateway, operation = _one_of(self._gateways, gateway), _one_of(OPERATIONS, operation)
        self._upstream_requests.labels(gateway, operation, _one_of(ANSWERS, answer)).inc()
        self._upstream_seconds.labels(gateway, operation).observe(seconds)

    def rotated(self, previous: str, following: str, reason: str) -> None:
        """A request was sent on from one gateway to the next."""
        self._rotations.labels(
            _one_of(self._gateways, previous),
            _one_of(self._gateways, following),
            _one_of(ROTATIONS, reason),
        ).inc()

    def gateway_is(self, gateway: str, state: str) -> None:
        """`gateway` is in use (closed), paused (open) or being asked (half_open)."""
        for one in GATEWAY_STATES:
            self._gateway_state.labels(_one_of(self._gateways, gateway), one).set(one == state)

    def exposed(self, amount_micros: int) -> None:
        """The vendor may have billed so much without a clip to show for it."""
        self._exposure.inc(amount_micros / _MICROS)

    def maybe_bought_twice(self, clips: int) -> None:
        """So many clips were sent on after an attempt that may have bought them."""
        self._bought_twice.inc(clips)

    def surplus_links(self, links: int) -> None:
        """An answer had so many links more than clips were asked for."""
        self._surplus.inc(links)

    def clip_is(self, tenant: str, model: str, state: str, amount_micros: int = 0) -> None:
        """A clip reached `state`, which charged `amount_micros`; only outcomes are counted.

        A state on the way makes the series of its tenant and model, so that they stand at 0 before
        the outcome comes.
        """
        tenant, model = self._tenants.known(tenant), _one_of(self._models, model)
        outcomes = {one: self._clips.labels(tenant, model, one) for one in CLIP_OUTCOMES}
        billed = self._billed.labels(tenant, model)
        if state in outcomes:
            outcomes[state].inc()
            billed.inc(amount_micros / _MICROS)

    def generation_ended(self, model: str, outcome: str, seconds: float) -> None:
        """A paid request ended, `seconds` after it was accepted."""
        outcome = _one_of(GENERATION_OUTCOMES, outcome)
        self._generation_seconds.labels(_one_of(self._models, model), outcome).observe(seconds)

    def unfinished_are(self, clips: Mapping[str, int]) -> None:
        """How many clips of each model are not settled; a model left out has none."""
        counts = dict.fromkeys((*self._models, OTHER), 0)
        for model, count in clips.items():
            counts[_one_of(self._models, model)] += count
        for model, count in counts.items():
            self._unfinished.labels(model).set(count)

    def budget_used_is(self, tenant: str, ratio: float) -> None:
        """The most used up of a tenant's budgets of this month; 1 is all of it."""
        self._budget_used.labels(self._tenants.known(tenant)).set(ratio)

    def unpriced(self, clips: int) -> None:
        """So many clips were refused because their model has no price."""
        self._unpriced.inc(clips)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Every series for a scrape, and its media type: OpenMetrics for those who accept it."""
        registry = self.registry
        if self._shared_dir is not None:
            registry = CollectorRegistry()
            MultiProcessCollector(registry, self._shared_dir)  # type: ignore[no-untyped-call]
        # The library's own choice reads versions out of the header, and trips over odd ones.
        if "application/openmetrics-text" in accept.lower():
            text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            return text, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, namespace=PREFIX, registry=self.registry)

    def _gauge(self, name: str, help_text: str, *labels: str, mode: GaugeMode = "livesum") -> Gauge:
        return Gauge(
            name,
            help_text,
            labels,
            namespace=PREFIX,
            registry=self.registry,
            multiprocess_mode=mode,
        )

    def _histogram(
        self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            name, help_text, labels, namespace=PREFIX, registry=self.registry, buckets=buckets
        )


def forget_worker(process_id: int, shared_dir: str) -> None:
    """Take a dead worker's share out of the gauges; what it counted stays counted."""
    mark_process_dead(process_id, shared_dir)  # type: ignore[no-untyped-call]


class _Names:
    """The first so many names that come; the rest are `other`."""

    def __init__(self, names_max: int) -> None:
        self._names_max = names_max
        self._names: set[str] = {OTHER}

    def known(self, name: str) -> str:
        """`name`, if it is among them or there is room for it."""
        if name not in self._names:
            if len(self._names) > self._names_max:
                return OTHER
            self._names.add(name)
        return name


def _one_of(values: Iterable[str], value: str) -> str:
    return value if value in values else OTHER
