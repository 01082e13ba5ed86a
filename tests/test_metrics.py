"""Series: the contract's names, closed label sets, and zero before the first event."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy import metrics as series
from proxy.metrics import Metrics

MODELS = ["veo-3.1", "veo-3.1-fast"]
GATEWAYS = ["api", "vip", "b"]

# The contract's, as far as they exist.
CONTRACT = {
    "http_requests": {"route", "method", "code", "origin"},
    "http_request_seconds": {"route"},
    "overhead_seconds": {"route"},
    "upstream_requests": {"gateway", "operation", "outcome"},
    "upstream_seconds": {"gateway", "operation"},
    "rotations": {"from", "to", "reason"},
    "gateway_state": {"gateway", "state"},
    "clips": {"tenant", "model", "outcome"},
    "billed_usd": {"tenant", "model"},
    "avoided_usd": {"tenant", "model", "reason"},
    "generation_seconds": {"model", "outcome"},
    "cache_requests": {"cache", "result"},
    "streams_open": set(),
    "jobs_unfinished": {"model"},
    "job_oldest_seconds": set(),
    "clips_unarchived": set(),
    "clip_link_expiry_seconds_min": set(),
    "vault_bytes": set(),
    "vault_clips": set(),
    "exposure_usd": set(),
    "clips_maybe_bought_twice": set(),
    "tenant_budget_used_ratio": {"tenant"},
    "unpriced_clips": set(),
    "listeners_dropped": set(),
    "build_info": {"version"},
}
BEYOND = {
    "clips_damaged": set[str](),
    "clips_lost": set[str](),
    "surplus_links": set[str](),
    "written_off_usd": set[str](),
}
OUTCOMES = {*series.ANSWERS, *series.CLIP_OUTCOMES, *series.GENERATION_OUTCOMES}
KNOWN = {
    "route": {"/v1/models"},
    "method": {*series.METHODS, "other"},
    "code": {"other"},
    "origin": {*series.ORIGINS, "other"},
    "gateway": {*GATEWAYS, "other"},
    "from": {*GATEWAYS, "other"},
    "to": {*GATEWAYS, "other"},
    "operation": {*series.OPERATIONS, "other"},
    "outcome": {*OUTCOMES, "other"},
    "reason": {*series.ROTATIONS, *series.REPLAYS, "other"},
    "state": set(series.GATEWAY_STATES),
    "cache": {*series.CACHES, "other"},
    "result": {*series.CACHE_RESULTS, "other"},
    "model": {*MODELS, "other"},
    "tenant": {"acme"},
}


@dataclass
class Answered:
    status: int


class Silent:
    pass


def made(tenant_labels_max: int = 200) -> Metrics:
    return Metrics(MODELS, GATEWAYS, tenant_labels_max=tenant_labels_max, version="0.1.0")


def families(metrics: Metrics) -> dict[str, Metric]:
    text, media_type = metrics.render("")
    assert media_type.startswith("text/plain")
    found = {family.name: family for family in text_string_to_metric_families(text.decode())}
    return {name.removeprefix("clipmeter_"): family for name, family in found.items()}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"clipmeter_{name}", labels)


def exercised() -> Metrics:
    metrics = made()
    metrics.answered("/v1/models", "GET", 200, "proxy", 0.01)
    metrics.overhead("/v1/models", 0.0004)
    metrics.attempted("api", "chat", Answered(200), 40)
    metrics.clip_is("acme", "veo-3.1", "generating")
    metrics.budget_used_is("acme", 0.5)
    return metrics


class TestNames:
    def test_every_series_of_the_contract_has_its_labels_and_there_is_no_other(self) -> None:
        found = {}
        for name, family in families(exercised()).items():
            if not family.name.startswith(("process_", "python_")):
                labels = {label for sample in family.samples for label in sample.labels}
                found[name] = labels - {"le"}
        assert found == {**CONTRACT, **BEYOND}

    def test_names_follow_the_conventions_and_everything_says_what_it_is(self) -> None:
        for family in families(exercised()).values():
            if not family.name.startswith("clipmeter_"):
                continue
            assert len(family.documentation.split()) >= 3
            for sample in family.samples:
                assert sample.name.endswith("_total") is (family.type == "counter")
            if family.type == "histogram":
                assert family.name.endswith("_seconds")

    def test_the_process_is_watched_too(self) -> None:
        found = families(made())
        assert "process_resident_memory_bytes" in found
        assert "python_info" in found

    def test_two_applications_in_one_process_share_nothing(self) -> None:
        before = prometheus_client.generate_latest()
        one, other = made(), made()
        one.unpriced(2)
        assert value(one, "unpriced_clips_total") == 2
        assert value(other, "unpriced_clips_total") == 0
        assert b"clipmeter" not in before
        assert b"clipmeter" not in prometheus_client.generate_latest()


class TestZero:
    @pytest.mark.parametrize(
        ("name", "labels"),
        [
            ("rotations_total", {"from": "api", "to": "vip", "reason": "refused"}),
            ("upstream_requests_total", {"gateway": "b", "operation": "chat", "outcome": "5xx"}),
            ("generation_seconds_count", {"model": "veo-3.1", "outcome": "unknown"}),
            ("jobs_unfinished", {"model": "veo-3.1-fast"}),
            ("gateway_state", {"gateway": "vip", "state": "open"}),
            ("clips_maybe_bought_twice_total", {}),
            ("unpriced_clips_total", {}),
            ("cache_requests_total", {"cache": "clip", "result": "collapsed"}),
            ("listeners_dropped_total", {}),
            ("clips_damaged_total", {}),
            ("clips_lost_total", {}),
            ("job_oldest_seconds", {}),
            ("written_off_usd_total", {}),
            ("clips_unarchived", {}),
            ("streams_open", {}),
            ("exposure_usd", {}),
        ],
    )
    def test_a_series_of_a_known_set_stands_at_zero_from_the_start(
        self, name: str, labels: dict[str, str]
    ) -> None:
        assert value(made(), name, **labels) == 0

    def test_a_clip_on_its_way_makes_the_series_of_its_outcomes(self) -> None:
        metrics = made()
        labels = {"tenant": "acme", "model": "veo-3.1"}
        assert value(metrics, "clips_total", **labels, outcome="delivered") is None
        metrics.clip_is("acme", "veo-3.1", "generating")
        for outcome in series.CLIP_OUTCOMES:
            assert value(metrics, "clips_total", **labels, outcome=outcome) == 0
        assert value(metrics, "billed_usd_total", **labels) == 0

    def test_no_gateway_rotates_to_itself(self) -> None:
        labels = {"from": "api", "to": "api", "reason": "refused"}
        assert value(made(), "rotations_total", **labels) is None


class TestVerbs:
    def test_a_delivered_clip_is_counted_and_billed(self) -> None:
        metrics = made()
        metrics.clip_is("acme", "veo-3.1", "delivered", 250_000)
        metrics.clip_is("acme", "veo-3.1", "delivered", 250_000)
        metrics.clip_is("acme", "veo-3.1", "failed")
        labels = {"tenant": "acme", "model": "veo-3.1"}
        assert value(metrics, "clips_total", **labels, outcome="delivered") == 2
        assert value(metrics, "clips_total", **labels, outcome="failed") == 1
        assert value(metrics, "billed_usd_total", **labels) == 0.5

    @pytest.mark.parametrize(
        ("outcome", "label"),
        [(Answered(200), "2xx"), (Answered(503), "5xx"), (Silent(), "silent"), (object(), "other")],
    )
    def test_an_attempt_is_named_by_its_answer(self, outcome: object, label: str) -> None:
        metrics = made()
        metrics.attempted("api", "chat", outcome, 1.5)
        labels = {"gateway": "api", "operation": "chat"}
        assert value(metrics, "upstream_requests_total", **labels, outcome=label) == 1
        assert value(metrics, "upstream_seconds_sum", **labels) == 1.5

    def test_a_gateway_is_in_one_state_at_a_time(self) -> None:
        metrics = made()
        for state in ("open", "half_open", "closed", "open"):
            metrics.gateway_is("vip", state)
            states = {
                one: value(metrics, "gateway_state", gateway="vip", state=one)
                for one in series.GATEWAY_STATES
            }
            assert states == {**dict.fromkeys(series.GATEWAY_STATES, 0), state: 1}

    def test_a_stream_is_open_until_its_end_whatever_ends_it(self) -> None:
        metrics = made()
        with metrics.stream_open(), metrics.stream_open():
            assert value(metrics, "streams_open") == 2
        with pytest.raises(OSError, match="cut"), metrics.stream_open():
            raise OSError("cut")
        assert value(metrics, "streams_open") == 0

    def test_unfinished_clips_are_counted_anew_each_time(self) -> None:
        metrics = made()
        metrics.unfinished_are({"veo-3.1": 3, "veo-4": 1, "veo-5": 1})
        assert value(metrics, "jobs_unfinished", model="veo-3.1") == 3
        assert value(metrics, "jobs_unfinished", model="other") == 2
        metrics.unfinished_are({}, 61.5)
        assert value(metrics, "job_oldest_seconds") == 61.5
        assert value(metrics, "jobs_unfinished", model="veo-3.1") == 0
        assert value(metrics, "jobs_unfinished", model="other") == 0

    def test_a_clip_that_was_given_up_is_shown_with_what_it_may_have_cost(self) -> None:
        metrics = made()
        metrics.written_off(150_000)
        metrics.written_off(250_000)
        assert value(metrics, "written_off_usd_total") == pytest.approx(0.4)

    def test_clips_that_were_given_again_are_counted_with_what_they_would_have_cost(self) -> None:
        metrics = made()
        metrics.clip_is("acme", "veo-3.1", "generating")
        asked = {"tenant": "acme", "model": "veo-3.1"}
        assert value(metrics, "avoided_usd_total", **asked, reason="retry") == 0
        metrics.replayed("acme", "veo-3.1", "retry", 2, 500_000)
        metrics.replayed("acme", "veo-3.1", "reuse", 1, 250_000)
        assert value(metrics, "avoided_usd_total", **asked, reason="retry") == 0.5
        assert value(metrics, "avoided_usd_total", **asked, reason="reuse") == 0.25
        assert value(metrics, "clips_total", **asked, outcome="replayed") == 3
        assert value(metrics, "billed_usd_total", **asked) == 0

    def test_a_vault_is_as_it_was_last_seen(self) -> None:
        metrics = made()
        assert value(metrics, "clip_link_expiry_seconds_min") == math.inf
        metrics.vault_is(2, 10_000)
        metrics.waiting_are(3, 4.5)
        metrics.clips_lost(2)
        metrics.clip_damaged()
        assert value(metrics, "vault_clips") == 2
        assert value(metrics, "vault_bytes") == 10_000
        assert value(metrics, "clips_unarchived") == 3
        assert value(metrics, "clip_link_expiry_seconds_min") == 4.5
        assert value(metrics, "clips_lost_total") == 2
        assert value(metrics, "clips_damaged_total") == 1
        metrics.waiting_are(0, math.inf)
        assert b"clipmeter_clip_link_expiry_seconds_min +Inf" in metrics.render("")[0]

    def test_the_rest_is_written_down_as_it_is_said(self) -> None:
        metrics = exercised()
        metrics.rotated("api", "vip", "unreachable")
        metrics.exposed(150_000)
        metrics.exposed(250_000)
        metrics.maybe_bought_twice(4)
        metrics.surplus_links(1)
        metrics.listener_dropped()
        metrics.generation_ended("veo-3.1", "delivered", 61)
        labels = {"from": "api", "to": "vip", "reason": "unreachable"}
        assert value(metrics, "rotations_total", **labels) == 1
        assert value(metrics, "exposure_usd") == 0.4
        assert value(metrics, "clips_maybe_bought_twice_total") == 4
        assert value(metrics, "surplus_links_total") == 1
        assert value(metrics, "listeners_dropped_total") == 1
        made_in = {"model": "veo-3.1", "outcome": "delivered"}
        assert value(metrics, "generation_seconds_bucket", **made_in, le="60.0") == 0
        assert value(metrics, "generation_seconds_bucket", **made_in, le="90.0") == 1
        assert value(metrics, "tenant_budget_used_ratio", tenant="acme") == 0.5
        assert value(metrics, "build_info", version="0.1.0") == 1
        asked = {"route": "/v1/models", "method": "GET", "code": "200", "origin": "proxy"}
        assert value(metrics, "http_requests_total", **asked) == 1
        assert value(metrics, "overhead_seconds_bucket", route="/v1/models", le="0.0005") == 1

    def test_buckets_cover_what_they_measure(self) -> None:
        assert (series.OVERHEAD_BUCKETS[0], series.OVERHEAD_BUCKETS[-1]) == (0.0001, 1.0)
        assert (series.GENERATION_BUCKETS[0], series.GENERATION_BUCKETS[-1]) == (1.0, 900.0)
        assert {60.0, 120.0, 180.0, 600.0} <= set(series.GENERATION_BUCKETS)
        for buckets in (series.OVERHEAD_BUCKETS, series.GENERATION_BUCKETS, series.REQUEST_BUCKETS):
            assert list(buckets) == sorted(set(buckets))


class TestClosedSets:
    @settings(max_examples=30)
    @given(st.lists(st.text(), min_size=1, max_size=8))
    def test_nothing_that_anybody_sends_adds_a_value_to_a_label(self, words: list[str]) -> None:
        metrics = made(tenant_labels_max=3)
        for word in words:
            metrics.answered("/v1/models", word, len(word), word, 1)
            metrics.attempted(word, word, word, 1)
            metrics.rotated(word, word, word)
            metrics.gateway_is(word, word)
            metrics.clip_is("acme", word, word)
            metrics.generation_ended(word, word, 1)
            metrics.unfinished_are({word: 1})
        for family in metrics.registry.collect():
            for sample in family.samples if family.name.startswith("clipmeter_") else ():
                for label, said in sample.labels.items():
                    assert said in KNOWN.get(label, ()) or label in {"le", "version"}

    def test_tenants_beyond_the_limit_share_one_name(self) -> None:
        metrics = made(tenant_labels_max=2)
        for tenant in ("a", "b", "c", "d", "a"):
            metrics.clip_is(tenant, "veo-3.1", "delivered", 1)
        counts = {
            tenant: value(
                metrics, "clips_total", tenant=tenant, model="veo-3.1", outcome="delivered"
            )
            for tenant in ("a", "b", "c", "other")
        }
        assert counts == {"a": 2, "b": 1, "c": None, "other": 2}

    def test_routes_have_an_end_too(self) -> None:
        metrics = made()
        for number in range(3 * series.ROUTES_MAX):
            metrics.answered(f"/{number}", "GET", 200, "proxy", 0.1)
            metrics.overhead(f"/{number}", 0.1)
        routes = {
            sample.labels["route"] for sample in families(metrics)["http_request_seconds"].samples
        }
        assert len(routes) == series.ROUTES_MAX + 1
        assert "other" in routes

    @pytest.mark.parametrize(("status", "code"), [(599, "599"), (0, "other"), (1000, "other")])
    def test_a_code_is_one_of_http(self, status: int, code: str) -> None:
        metrics = made()
        metrics.answered("/", "BREW", status, "nobody", 0.1)
        labels = {"route": "/", "method": "other", "code": code, "origin": "other"}
        assert value(metrics, "http_requests_total", **labels) == 1


class TestRender:
    def test_openmetrics_is_served_to_those_who_ask_for_it(self) -> None:
        text, media_type = exercised().render("application/openmetrics-text; version=1.0.0")
        assert media_type.startswith("application/openmetrics-text")
        assert text.endswith(b"# EOF\n")
        assert b"# TYPE clipmeter_clips counter" in text

    def test_no_creation_times_double_the_number_of_series(self) -> None:
        text, _ = exercised().render("")
        assert b"_created" not in text

    @pytest.mark.parametrize(
        "accept", ["", "*/*", "text/html", "text/plain; version=x", "\xff", ",;=", "a" * 5000]
    )
    def test_any_accept_header_gets_an_answer(self, accept: str) -> None:
        text, media_type = exercised().render(accept)
        assert media_type.startswith("text/plain")
        assert b"clipmeter_clips_total" in text

    def test_workers_add_up(self, tmp_path: Path) -> None:
        program = (
            "import sys\n"
            "from proxy.metrics import Metrics\n"
            "metrics = Metrics(['m'], ['g'], tenant_labels_max=9, shared_dir=sys.argv[1])\n"
            "metrics.clip_is('acme', 'm', 'delivered', 150_000)\n"
            "metrics.exposed(1_000_000)\n"
            "metrics.unfinished_are({'m': 7})\n"
            "print(metrics.render('')[0].decode())\n"
        )
        environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        text = ""
        for _ in range(2):
            ran = subprocess.run(
                [sys.executable, "-c", program, str(tmp_path)],
                env=environ,
                cwd=Path(series.__file__).parent.parent,
                capture_output=True,
                text=True,
                check=True,
            )
            text = ran.stdout
        assert 'clipmeter_clips_total{model="m",outcome="delivered",tenant="acme"} 2.0' in text
        assert 'clipmeter_billed_usd_total{model="m",tenant="acme"} 0.3' in text
        assert "clipmeter_exposure_usd 2.0" in text
        assert 'clipmeter_jobs_unfinished{model="m"} 7.0' in text
        assert "pid=" not in text
