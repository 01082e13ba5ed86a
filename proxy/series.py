"""Prometheus series on a registry of our own: declared, added up over workers, and rendered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
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

GaugeMode = Literal["livesum", "livemax", "sum", "mostrecent"]


class Series:
    """A registry and what is declared on it; `shared_dir` is where workers add up their series."""

    def __init__(self, shared_dir: str | None) -> None:
        # A creation time beside every series would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._shared_dir = shared_dir

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


class Names:
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


def one_of(values: Iterable[str], value: str) -> str:
    """`value`, if it is one of `values`; else `other`."""
    return value if value in values else OTHER
