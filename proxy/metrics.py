"""Every Prometheus series, declared once, on our own registry.

Label sets are closed: a value that is not in its set becomes `other`, so nothing a caller or the
vendor sends can add a series. Series of a known set stand at 0 from the start, because a counter
that appears with its first event hides that event from `rate()`. Money here is indicative; the
ledger is the truth (decision 16).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector

from proxy.series import OTHER, Names, Series, one_of

ROUTES_MAX: Final = 100
"""The most routes by name; each is a template of a route table, never a path."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ORIGINS: Final = frozenset({"none", "client", "proxy", "upstream", "policy"})
OPERATIONS: Final = ("chat", "video", "poll", "content", "probe")
ANSWERS: Final = ("2xx", "3xx", "4xx", "5xx", "unreachable", "silent")
ROTATIONS: Final = ("refused", "unreachable")
GATEWAY_STATES: Final = ("closed", "half_open", "open")
CLIP_OUTCOMES: Final = ("delivered", "failed", "unknown", "written_off", "replayed")
CACHES: Final = ("video", "clip", "picture", "replay")
CACHE_RESULTS: Final = ("hit", "collapsed", "miss")
REPLAYS: Final = ("idempotency", "retry", "reuse")
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


class Metrics(Series):
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
        super().__init__(shared_dir)
        self._models = tuple(models)
        self._gateways = tuple(gateways)
        self._tenants = Names(tenant_labels_max)
        self._routes = Names(ROUTES_MAX)
        self._declare_requests()
        self._declare_gateways()
        self._declare_clips()
        self._declare_vault()
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
        self._avoided = self._counter(
            "avoided_usd",
            "Price of the clips that were given again for free, by why",
            "tenant",
            "model",
            "reason",
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
        self._oldest_job = self._gauge(
            "job_oldest_seconds", "Age of the oldest job that is followed", mode="mostrecent"
        )
        self._written_off = self._counter(
            "written_off_usd", "List price of clips that were given up: what they may have cost us"
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

    def _declare_vault(self) -> None:
        self._vault_clips = self._gauge("vault_clips", "Clips that are kept", mode="mostrecent")
        self._vault_bytes = self._gauge(
            "vault_bytes", "The bytes of the clips that are kept", mode="mostrecent"
        )
        self._unarchived = self._gauge(
            "clips_unarchived", "Delivered clips whose bytes are not kept yet", mode="mostrecent"
        )
        self._link_expiry = self._gauge(
            "clip_link_expiry_seconds_min",
            "Until the first link of a clip that is not kept yet dies; +Inf when all are kept",
            mode="mostrecent",
        )
        self._clips_lost = self._counter(
            "clips_lost", "Delivered clips whose link died before their bytes were kept"
        )
        self._clips_damaged = self._counter(
            "clips_damaged", "Kept clips whose bytes were found changed or gone"
        )

        self._cache = self._counter(
            "cache_requests",
            "What was asked for: there already, shared with another who asked, or had from afar",
            "cache",
            "result",
        )

    def _declare_process(self, version: str) -> None:
        build = self._gauge("build_info", "1 for the version that runs", "version", mode="livemax")
        build.labels(version or "unknown").set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _begin_at_zero(self) -> None:
        for cache in CACHES:
            for result in CACHE_RESULTS:
                self._cache.labels(cache, result)
        for gateway in self._gateways:
            self.gateway_is(gateway, "closed")
            for answer in ANSWERS:
                self._upstream_requests.labels(gateway, "chat", answer)
            for to in self._gateways:
                for reason in ROTATIONS if to != gateway else ():
                    self._rotations.labels(gateway, to, reason)
        self.waiting_are(0, math.inf)
        for model in self._models:
            self._unfinished.labels(model).set(0)
            for outcome in GENERATION_OUTCOMES:
                self._generation_seconds.labels(model, outcome)

    def answered(self, route: str, method: str, status: int, origin: str, seconds: float) -> None:
        """A request was answered after `seconds`; `route` is a template, `origin` says by whom."""
        route = self._routes.known(route)
        code = str(status) if 100 <= status <= 599 else OTHER
        self._http_requests.labels(
            route, one_of(METHODS, method), code, one_of(ORIGINS, origin)
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

    def listener_dropped(self, listeners: int = 1) -> None:
        """So many callers of one answer were let go because they read too slowly."""
        self._dropped.inc(listeners)

    def attempted(self, gateway: str, operation: str, outcome: object, seconds: float) -> None:
        """A try at `gateway` took `seconds`; `outcome` has a `status`, or is named by its type."""
        status = getattr(outcome, "status", None)
        answer = f"{status // 100}xx" if isinstance(status, int) else type(outcome).__name__.lower()
        gateway, operation = one_of(self._gateways, gateway), one_of(OPERATIONS, operation)
        self._upstream_requests.labels(gateway, operation, one_of(ANSWERS, answer)).inc()
        self._upstream_seconds.labels(gateway, operation).observe(seconds)

    def rotated(self, previous: str, following: str, reason: str) -> None:
        """A request was sent on from one gateway to the next."""
        self._rotations.labels(
            one_of(self._gateways, previous),
            one_of(self._gateways, following),
            one_of(ROTATIONS, reason),
        ).inc()

    def gateway_is(self, gateway: str, state: str) -> None:
        """`gateway` is in use (closed), paused (open) or being asked (half_open)."""
        for one in GATEWAY_STATES:
            self._gateway_state.labels(one_of(self._gateways, gateway), one).set(one == state)

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
        tenant, model = self._tenants.known(tenant), one_of(self._models, model)
        outcomes = {one: self._clips.labels(tenant, model, one) for one in CLIP_OUTCOMES}
        billed = self._billed.labels(tenant, model)
        for reason in REPLAYS:
            self._avoided.labels(tenant, model, reason)
        if state in outcomes:
            outcomes[state].inc()
            billed.inc(amount_micros / _MICROS)

    def replayed(
        self, tenant: str, model: str, reason: str, clips: int, amount_micros: int
    ) -> None:
        """So many clips, which would have cost so much, were given again, for `reason`."""
        tenant, model = self._tenants.known(tenant), one_of(self._models, model)
        self._clips.labels(tenant, model, "replayed").inc(clips)
        avoided = self._avoided.labels(tenant, model, one_of(REPLAYS, reason))
        avoided.inc(amount_micros / _MICROS)

    def generation_ended(self, model: str, outcome: str, seconds: float) -> None:
        """A paid request ended, `seconds` after it was accepted."""
        outcome = one_of(GENERATION_OUTCOMES, outcome)
        self._generation_seconds.labels(one_of(self._models, model), outcome).observe(seconds)

    def unfinished_are(self, clips: Mapping[str, int], oldest_seconds: float = 0.0) -> None:
        """How many clips of each model are not settled, and the age of the oldest job of them.

        A model left out has none.
        """
        self._oldest_job.set(max(0.0, oldest_seconds))
        counts = dict.fromkeys((*self._models, OTHER), 0)
        for model, count in clips.items():
            counts[one_of(self._models, model)] += count
        for model, count in counts.items():
            self._unfinished.labels(model).set(count)

    def written_off(self, list_micros: int) -> None:
        """A clip was given up for which the vendor may have billed so much."""
        self._written_off.inc(list_micros / _MICROS)

    def budget_used_is(self, tenant: str, ratio: float) -> None:
        """The most used up of a tenant's budgets of this month; 1 is all of it."""
        self._budget_used.labels(self._tenants.known(tenant)).set(ratio)

    def unpriced(self, clips: int) -> None:
        """So many clips were refused because their model has no price."""
        self._unpriced.inc(clips)

    def vault_is(self, clips: int, size_bytes: int) -> None:
        """So many clips are kept, with so many bytes."""
        self._vault_clips.set(clips)
        self._vault_bytes.set(size_bytes)

    def waiting_are(self, clips: int, link_seconds_min: float) -> None:
        """So many clips are not kept yet; the first of their links dies in so many seconds."""
        self._unarchived.set(clips)
        self._link_expiry.set(link_seconds_min)

    def clips_lost(self, clips: int) -> None:
        """The links of so many clips died before their bytes were kept."""
        self._clips_lost.inc(clips)

    def clip_damaged(self) -> None:
        """A kept clip's bytes were found changed or gone."""
        self._clips_damaged.inc()

    def cache_asked(self, cache: str, result: str) -> None:
        """Something of `cache` was asked for, and was there (hit) or not; the words are RFC 9211's.

        It is collapsed if somebody else had asked for it already, and it was on its way.
        """
        self._cache.labels(one_of(CACHES, cache), one_of(CACHE_RESULTS, result)).inc()
