"""The configuration: its defaults, its example, and what it gives the rest of the house."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from proxy.config import Config, ConfigError, Limits, load, parse
from proxy.core.catalog import Catalog, Model
from tests.configs import problems_of, written

EXAMPLE = Path(__file__).parent.parent / "config.example.yaml"
VENDOR_KEY = "sk-vendor0123456789"
UNITS = ("_seconds", "_bytes", "_ratio", "_seconds_max", "_seconds_min", "_bytes_max")
COUNTS = {
    "connections_max",
    "json_depth_max",
    "json_values_max",
    "image_pixels_max",
    "image_side_max",
    "form_parts_max",
    "videos_listed_max",
    "jobs_followed_max",
    "polls_in_flight_max",
    "downloads_in_flight_max",
    "pictures_waiting_max",
    "videos_remembered_max",
    "listeners_max",
    "breaker_faults",
    "vendor_clips_in_flight",
    "writes_waiting_max",
    "key_cache_keys_max",
    "tenant_labels_max",
}
FOUR_K: dict[str, object] = {
    "name": "veo-3.1-4k",
    "size": "2160x3840",
    "seconds": 8,
    "images": 0,
}


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        here = f"{path}{field.alias or name}"
        yield here
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from keys_of(kind, f"{here}.")


def keys_in(value: object, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}{key}"
            yield from keys_in(inner, f"{path}{key}.")
    if isinstance(value, list):
        for inner in value:
            yield from keys_in(inner, path)


class TestExample:
    def test_it_says_exactly_the_defaults(self) -> None:
        environ = {"APIYI_API_KEY": VENDOR_KEY}
        assert load(EXAMPLE, environ) == parse({}, environ)

    def test_it_names_every_key_there_is(self) -> None:
        in_file = set(keys_in(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))))
        in_code = set(keys_of(Config))
        extra_models = {name for name in in_code if name.startswith("models.")}
        assert in_code - extra_models == in_file
        words = EXAMPLE.read_text(encoding="utf-8")
        assert all(f"{name.removeprefix('models.')}:" in words for name in extra_models)

    def test_every_key_with_a_value_says_why(self) -> None:
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
        with_value = [line for line in lines if re.match(r"\s*-?\s*[a-z_]+: +[^#\s]", line)]
        bare = [line for line in with_value if " # " not in line and "models: [" not in line]
        assert len(with_value) > 70
        assert [line for line in bare if "name: vip" not in line and "name: b" not in line] == []

    def test_its_sample_of_an_extra_model_is_valid(self) -> None:
        sample = re.search(r"^# +- (\{name: .*\})$", EXAMPLE.read_text("utf-8"), re.MULTILINE)
        assert sample is not None
        model = yaml.safe_load(sample.group(1))
        assert parse({"models": [model]}, {}).catalog().find(model["name"]) is not None

    def test_it_needs_the_vendor_key_that_it_names(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load(EXAMPLE, {})
        assert caught.value.problems == [
            "upstream.api_key: the environment variable APIYI_API_KEY is not set"
        ]


class TestLookUp:
    def test_a_named_file_wins_over_the_environments(self, tmp_path: Path) -> None:
        named = written(tmp_path, "server: {port: 1001}")
        other = tmp_path / "other.yaml"
        other.write_text("server: {port: 1002}")
        assert load(named, {"CLIPMETER_CONFIG": str(other)}).server.port == 1001
        assert load(None, {"CLIPMETER_CONFIG": str(other)}).server.port == 1002

    def test_the_working_folder_comes_third_and_the_defaults_last(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert load(None, {}) == Config()
        written(tmp_path, "server: {port: 1003}")
        assert load(None, {}).server.port == 1003

    def test_a_named_file_that_is_missing_is_an_error(self, tmp_path: Path) -> None:
        missing = tmp_path / "nowhere.yaml"
        for path, environ in ((missing, {}), (None, {"CLIPMETER_CONFIG": str(missing)})):
            with pytest.raises(ConfigError, match="cannot be read"):
                load(path, environ)

    @pytest.mark.parametrize("text", ["", "# nothing\n", "server:\nlimits:\n", "---\n...\n"])
    def test_a_file_that_says_nothing_means_the_defaults(self, tmp_path: Path, text: str) -> None:
        assert load(written(tmp_path, text), {}) == Config()

    def test_the_vendor_key_comes_from_the_environment_unless_the_file_speaks(self) -> None:
        environ = {"APIYI_API_KEY": VENDOR_KEY}
        from_environ = parse({"upstream": {"rotate_on": [500]}}, environ).upstream.api_key
        assert from_environ is not None
        assert from_environ.get_secret_value() == VENDOR_KEY
        assert parse({}, {}).upstream.api_key is None
        assert parse({}, {"APIYI_API_KEY": ""}).upstream.api_key is None
        assert parse({"upstream": {"api_key": None}}, environ).upstream.api_key is None


class TestModelsAndPrices:
    def test_the_defaults_price_the_documented_eight(self) -> None:
        config = Config()
        micros = {line.model: line.micros for line in config.price_lines()}
        assert set(micros) == set(Catalog.documented().models)
        assert {name for name, price in micros.items() if price == 150_000} == {
            "veo-3.1-fast",
            "veo-3.1-fast-fl",
            "veo-3.1-landscape-fast",
            "veo-3.1-landscape-fast-fl",
        }
        assert set(micros.values()) == {150_000, 250_000}
        assert config.warnings() == []

    def test_a_new_model_joins_the_catalogue_with_its_price(self) -> None:
        frames = {"name": "veo-3.1-4k-fl", "size": "2160x3840", "seconds": 8, "images": 2}
        row = {"models": ["veo-3.1-4k"], "usd_per_clip": "0.6", "from": date(2026, 5, 1)}
        config = parse({"models": [FOUR_K, frames], "prices": [row]}, {})
        assert config.catalog().find("veo-3.1-4k") == Model("veo-3.1-4k", "2160x3840", 8, 0, 0)
        assert config.catalog().find("veo-3.1-4k-fl") == Model(
            "veo-3.1-4k-fl", "2160x3840", 8, 1, 2
        )
        (line,) = config.price_lines()
        assert (line.model, line.micros, line.valid_from, line.version) == (
            "veo-3.1-4k",
            600_000,
            date(2026, 5, 1),
            "veo-3.1-4k@2026-05-01",
        )

    def test_a_model_without_a_price_is_allowed_and_doubted(self) -> None:
        config = parse({"models": [FOUR_K]}, {})
        assert config.warnings() == [
            "prices: veo-3.1-4k has no price, so every request for it is refused"
        ]
        assert len(parse({"prices": []}, {}).warnings()) == 8

    @pytest.mark.parametrize(
        ("change", "key"),
        [
            ({"name": "a b"}, "name"),
            ({"name": ""}, "name"),
            ({"size": "4K"}, "size"),
            ({"size": "0x10"}, "size"),
            ({"seconds": 0}, "seconds"),
            ({"seconds": "eight"}, "seconds"),
            ({"images": 3}, "images"),
            ({"images": -1}, "images"),
            ({"price": "1"}, "price"),
        ],
    )
    def test_a_model_that_makes_no_sense_is_refused(
        self, change: dict[str, object], key: str
    ) -> None:
        (problem,) = problems_of({"models": [{**FOUR_K, **change}]})
        assert problem.startswith(f"models[0].{key}: ")

    def test_a_frame_model_without_images_and_a_second_entry_are_refused(self) -> None:
        frames = {**FOUR_K, "name": "veo-3.1-4k-fl"}
        assert problems_of({"models": [frames]}) == [
            "models[0].images: must be 1 or 2, because veo-3.1-4k-fl ends with -fl"
        ]
        assert problems_of({"models": [FOUR_K, FOUR_K]}) == [
            "models[1].name: veo-3.1-4k stands already at models[0]"
        ]

    def test_two_prices_for_one_model_and_day_are_refused(self) -> None:
        row = {"models": ["veo-3.1"], "usd_per_clip": "0.25", "from": "2025-01-01"}
        later = {**row, "from": "2025-01-02"}
        assert len(parse({"prices": [row, later]}, {}).price_lines()) == 2
        assert problems_of({"prices": [row, later, {**row, "usd_per_clip": "0.3"}]}) == [
            "prices[2].models: veo-3.1 has a price from 2025-01-01 in prices[0] already"
        ]
        within = {**row, "models": ["veo-3.1", "veo-3.1"]}
        assert "in prices[0] already" in problems_of({"prices": [within]})[0]

    def test_a_price_for_a_model_that_is_not_there_is_a_typing_error(self) -> None:
        row = {"models": ["veo3.1-fast"], "usd_per_clip": "0.25", "from": "2025-01-01"}
        assert problems_of({"prices": [row]}) == [
            "prices[0].models: there is no model veo3.1-fast; did you mean veo-3.1-fast?"
        ]

    @pytest.mark.parametrize("amount", [0.25, 1, "-1", "0.1234567", "1e3", "", None, "0,25", True])
    def test_an_amount_that_is_not_a_decimal_string_is_refused(self, amount: object) -> None:
        row = {"models": ["veo-3.1"], "usd_per_clip": amount, "from": "2025-01-01"}
        (problem,) = problems_of({"prices": [row]})
        assert problem.startswith("prices[0].usd_per_clip: must be dollars as a quoted string")

    def test_a_price_of_nothing_is_allowed_and_doubted(self) -> None:
        row = {"models": ["veo-3.1"], "usd_per_clip": "0.00", "from": "2025-01-01"}
        doubt = "prices[0].usd_per_clip: is 0, so these clips cost their tenants nothing"
        assert doubt in parse({"prices": [row]}, {}).warnings()

    @pytest.mark.parametrize("bonus", [0.1, "10%", "1.5", "-0.1", "2", True])
    def test_a_bonus_is_a_share_as_a_string(self, bonus: object) -> None:
        (problem,) = problems_of({"billing": {"topup_bonus": bonus}})
        assert problem.startswith("billing.topup_bonus: must be a quoted share")

    def test_an_alias_leads_to_a_model_and_hides_none(self) -> None:
        config = parse({"models": [FOUR_K], "aliases": {"sora-2": "veo-3.1-4k"}}, {})
        assert dict(config.aliases) == {"sora-2": "veo-3.1-4k"}
        problems = problems_of({"aliases": {"veo-3.1": "veo-3.1-fast", "sora-2": "sora-2-pro"}})
        assert problems[0].startswith("aliases.veo-3.1: is a model itself")
        assert problems[1].startswith("aliases.sora-2: there is no model sora-2-pro")


class TestLimits:
    def test_every_name_ends_with_its_unit_or_counts(self) -> None:
        names = set(Limits.model_fields)
        assert {name for name in names if not name.endswith(UNITS)} == COUNTS

    @pytest.mark.parametrize("name", sorted(Limits.model_fields))
    @pytest.mark.parametrize("value", [-1, True, "many", [], float("inf")])
    def test_no_limit_is_negative_endless_or_a_word(self, name: str, value: object) -> None:
        (problem,) = problems_of({"limits": {name: value}})
        assert problem.startswith(f"limits.{name}: must")

    def test_tests_may_run_in_fractions_of_a_second(self) -> None:
        limits = parse({"limits": {"stall_seconds_max": 0.2, "drain_listen_seconds": 0}}, {}).limits
        assert limits.stall_seconds_max == 0.2
        assert limits.drain_listen_seconds == 0


class TestDoubts:
    def test_what_is_seldom_meant_is_told(self) -> None:
        gateways = [{"name": "a", "url": "https://x"}, {"name": "b", "url": "https://X/"}]
        config = parse(
            {
                "server": {"host": "0.0.0.0", "metrics_public": True},
                "vault": {"download_private": True},
                "upstream": {"gateways": gateways},
            },
            {},
        )
        starts = [warning.partition(":")[0] for warning in config.warnings()]
        assert starts == ["server.metrics_public", "vault.download_private", "upstream.gateways"]

    @pytest.mark.parametrize(
        ("vault", "doubted"),
        [
            ({}, ["vault.url"]),
            ({"redirect": True}, ["vault.redirect", "vault.url"]),
            ({"redirect": True, "url": "file:///clips"}, ["vault.redirect"]),
            ({"redirect": True, "url": "s3://clips"}, []),
        ],
        ids=["a folder", "redirected to a folder", "redirected to a named folder", "a bucket"],
    )
    def test_a_folder_is_doubted_where_a_bucket_is_meant(
        self, vault: dict[str, object], doubted: list[str]
    ) -> None:
        several = {
            "database": {"url": "postgresql://db/clips"},
            "secrets": {"key": "0123456789abcdef" * 2},
        }
        config = parse({"vault": vault, **several}, {})
        assert [warning.partition(":")[0] for warning in config.warnings()] == doubted

    def test_nothing_can_be_changed_once_it_is_read(self) -> None:
        config = Config()
        with pytest.raises(ValidationError, match="frozen"):
            config.limits.stall_seconds_max = 1
        with pytest.raises(TypeError):
            config.aliases["a"] = "b"  # type: ignore[index]
