"""One value of the configuration: what it may be, and that no secret is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from proxy.config import Config, ConfigError, parse
from tests.configs import problems_of

VENDOR_KEY = "sk-vendor0123456789"
OWN_SECRET = "q9Vb2LxT7mZr4KdW8nHs"
UNCHOSEN = [
    "changeme",
    "change-me-change-me-1",
    "secret",
    "short",
    "YOUR_SECRET_HERE_1234",
    "password12345678",
    "zwölf-zwölf-zwölf",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababab",
    "fifteen-letters",
]
UNSAFE_URLS = [
    "https://x/v1",
    "https://u:p@x",
    "https://u@x",
    "https://x?a=1",
    "https://x/?",
    "x.com",
    "https://x#f",
    "https://",
    "//x",
    "https://x:0",
    "https://x:99999",
    "https://a_b.c",
    "https://[zz]",
    "https://-x",
    "https://ü.de",
    "file:///x",
    "http://10.0.0.1",
    "http://api.apiyi.com",
    "http://127.0.0.1.evil.com",
    "https://x:y",
    "https://[fe80::1%eth0]",
    "https://[::1]x",
    "https://x:",
]


class TestSecrets:
    def test_no_form_of_the_configuration_shows_one(self) -> None:
        config = parse(
            {
                "secrets": {"key": OWN_SECRET},
                "upstream": {"api_key": VENDOR_KEY, "account_token": "token-9fj3k2l1"},
                "database": {"url": "postgresql://u:hunter2hunter2@db/clips"},
            },
            {},
        )
        shown = f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"
        for secret in (OWN_SECRET, VENDOR_KEY, "token-9fj3k2l1", "hunter2hunter2"):
            assert secret not in shown

    def test_no_problem_repeats_a_value(self) -> None:
        canary = "c4n4ry-c4n4ry"
        values = {
            "secrets": {"key": canary[:6]},
            "upstream": {"api_key": f"{canary} {canary}", "gateways": [{"name": canary * 2}]},
            "database": {"url": f"mysql://{canary}"},
            "server": {"port": canary, "public_url": f"https://u:{canary}@x"},
            "prices": [{"models": ["m"], "usd_per_clip": canary, "from": canary}],
            "limits": {"stall_seconds_max": canary, "answer_bytes_max": canary},
        }
        with pytest.raises(ConfigError) as caught:
            parse(values, {})
        assert len(caught.value.problems) >= 10
        assert "c4n4ry" not in str(caught.value)
        with pytest.raises(ValidationError) as direct:
            Config.model_validate(values)
        assert "c4n4ry" not in str(direct.value)

    @pytest.mark.parametrize("value", UNCHOSEN)
    def test_a_secret_that_nobody_chose_is_refused(self, value: str) -> None:
        (problem,) = problems_of({"secrets": {"key": value}})
        assert problem.startswith("secrets.key: ")

    @pytest.mark.parametrize("value", ["", " ", "sk-...", "changeme", "sk-your-api-key", "a\nb"])
    @pytest.mark.parametrize("key", ["api_key", "account_token"])
    def test_a_vendor_key_that_is_a_sample_is_refused(self, key: str, value: str) -> None:
        (problem,) = problems_of({"upstream": {key: value}})
        assert problem.startswith(f"upstream.{key}: ")

    def test_the_vendors_own_keys_may_be_short(self) -> None:
        assert parse({"upstream": {"api_key": "sk-sandbox"}}, {}).upstream.api_key is not None

    def test_postgresql_needs_a_secret_that_every_process_knows(self) -> None:
        database = {"url": "postgresql://db/clips"}
        assert problems_of({"database": database}) == [
            "secrets.key: is required with PostgreSQL, so that every process has the same"
        ]
        config = parse({"database": database, "secrets": {"key": OWN_SECRET}}, {})
        assert config.secrets.key is not None

    @pytest.mark.parametrize("url", ["mysql://x", "sqlite:///x", "postgres", "", "clips.db"])
    def test_another_database_is_refused(self, url: str) -> None:
        (problem,) = problems_of({"database": {"url": url}})
        assert problem == "database.url: must be postgresql://…, or null for SQLite under data_dir"

    @pytest.mark.parametrize("value", ["", "   ", "two words of sixteen", "line\nline line line"])
    def test_a_secret_of_blanks_is_refused(self, value: str) -> None:
        (problem,) = problems_of({"secrets": {"key": value}})
        assert problem.startswith("secrets.key: must ")


class TestGateways:
    @pytest.mark.parametrize(
        ("url", "kept"),
        [
            ("https://api.apiyi.com", "https://api.apiyi.com"),
            ("https://API.apiyi.com/", "https://api.apiyi.com"),
            ("https://10.1.2.3:8443", "https://10.1.2.3:8443"),
            ("http://127.0.0.1:9001", "http://127.0.0.1:9001"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:80", "http://[::1]:80"),
        ],
    )
    def test_an_origin_is_kept_in_one_spelling(self, url: str, kept: str) -> None:
        config = parse({"upstream": {"gateways": [{"name": "a", "url": url}]}}, {})
        assert config.upstream.gateways[0].url == kept

    @pytest.mark.parametrize("url", UNSAFE_URLS)
    def test_anything_but_a_safe_origin_is_refused(self, url: str) -> None:
        (problem,) = problems_of({"upstream": {"gateways": [{"name": "a", "url": url}]}})
        assert problem.startswith("upstream.gateways[0].url: must ")

    def test_plain_http_elsewhere_needs_the_word_for_tests(self) -> None:
        values = {"upstream": {"gateways": [{"name": "a", "url": "http://10.0.0.1:8080"}]}}
        assert "vault.download_private" in problems_of(values)[0]
        config = parse({**values, "vault": {"download_private": True}}, {})
        assert config.upstream.gateways[0].url == "http://10.0.0.1:8080"

    def test_there_is_at_least_one_and_no_name_stands_twice(self) -> None:
        assert problems_of({"upstream": {"gateways": []}}) == [
            "upstream.gateways: must have one entry or more"
        ]
        twice = [{"name": "a", "url": "https://x"}, {"name": "a", "url": "https://y"}]
        assert problems_of({"upstream": {"gateways": twice}}) == [
            "upstream.gateways[1].name: a stands already at upstream.gateways[0]"
        ]

    @pytest.mark.parametrize("name", ["", "A", "a b", "a" * 17, "a.b", "é", "a\n", 7, False])
    def test_a_gateways_name_is_fit_for_a_label_and_a_header(self, name: object) -> None:
        gateway = {"name": name, "url": "https://x"}
        (problem,) = problems_of({"upstream": {"gateways": [gateway]}})
        assert problem.startswith("upstream.gateways[0].name: must be")

    @pytest.mark.parametrize(
        ("rotate_on", "kept"),
        [(["5xx"], ("5xx",)), ([500, "503"], (500, 503)), (["503", "5xx"], (503, "5xx")), ([], ())],
    )
    def test_rotation_is_on_server_errors_or_some_of_them(
        self, rotate_on: list[object], kept: tuple[object, ...]
    ) -> None:
        assert parse({"upstream": {"rotate_on": rotate_on}}, {}).upstream.rotate_on == kept

    @pytest.mark.parametrize("code", [429, 600, "4xx", True, 500.0, "any"])
    def test_nothing_else_rotates(self, code: object) -> None:
        assert problems_of({"upstream": {"rotate_on": [code]}}) == [
            "upstream.rotate_on[0]: must be 5xx, or status codes from 500 to 599"
        ]

    @pytest.mark.parametrize("host", ["*.example.com", "*", "proxy", "a.b-c.de"])
    def test_a_host_pattern_is_a_name_or_its_children(self, host: str) -> None:
        assert parse({"vault": {"download_hosts": [host]}}, {}).vault.download_hosts == (host,)

    @pytest.mark.parametrize("host", ["", "a*", "*.*.com", "https://x", "x:80", "x/y", "*."])
    def test_any_other_pattern_is_refused(self, host: str) -> None:
        (problem,) = problems_of({"server": {"trusted_hosts": [host]}})
        assert problem.startswith("server.trusted_hosts[0]: must be a host name")

    @pytest.mark.parametrize("url", ["https://x y", "https://x\n", "https://xn ", ""])
    def test_blanks_and_line_ends_are_no_part_of_an_address(self, url: str) -> None:
        (problem,) = problems_of({"server": {"public_url": url}})
        assert problem.startswith("server.public_url: must be an address")


class TestSizes:
    @given(st.integers(1, 10**6), st.sampled_from(["B", "KiB", "MiB", "GiB", "TiB"]))
    def test_a_size_is_a_number_of_binary_units(self, number: int, unit: str) -> None:
        factor = 2 ** (10 * ["B", "KiB", "MiB", "GiB", "TiB"].index(unit))
        for text in (f"{number}{unit}", f"{number} {unit}"):
            limits = parse({"limits": {"answer_bytes_max": text}}, {}).limits
            assert limits.answer_bytes_max == number * factor

    @pytest.mark.parametrize("text", ["16MB", "16M", "1.5MiB", "MiB", "", "16mib", "0B", "-1B"])
    def test_any_other_size_is_refused(self, text: str) -> None:
        (problem,) = problems_of({"limits": {"answer_bytes_max": text}})
        assert problem.startswith("limits.answer_bytes_max: must be")
