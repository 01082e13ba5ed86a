"""A file of YAML: read, filled in from the environment, or refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config import ConfigError, load, parse
from tests.configs import problems_of, written

OWN_SECRET = "q9Vb2LxT7mZr4KdW8nHs"


class TestFile:
    def test_a_key_that_stands_twice_is_refused_with_both_lines(self, tmp_path: Path) -> None:
        path = written(tmp_path, "server:\n  port: 1\n  host: h\n  port: 2\nserver: {}\n")
        with pytest.raises(ConfigError) as caught:
            load(path, {})
        assert caught.value.problems == [
            f"{path}, line 4: server.port stands already in line 2",
            f"{path}, line 5: server stands already in line 1",
        ]

    def test_a_duplicate_within_a_list_is_found_too(self, tmp_path: Path) -> None:
        path = written(tmp_path, "prices:\n  - {from: 2025-01-01, from: 2026-01-01}\n")
        with pytest.raises(ConfigError, match=r"line 2: prices\[0\]\.from stands already"):
            load(path, {})

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("server: {port: 1\n", "line 2: is not valid YAML"),
            ("server:\n\tport: 1\n", "line 2: is not valid YAML"),
            ("- server\n", "must be a mapping"),
            ("just words\n", "must be a mapping"),
            ("server: !!python/object:os.system {}\n", "line 1: is not valid YAML"),
            ("server: \x01\n", "is not valid YAML"),
            ("limits: &a\n  x: *a\n", "limits.x: contains itself"),
        ],
    )
    def test_what_is_not_a_configuration_is_refused(
        self, tmp_path: Path, text: str, word: str
    ) -> None:
        with pytest.raises(ConfigError, match=re.escape(word)):
            load(written(tmp_path, text), {})

    def test_bytes_that_are_not_text_and_endless_files_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"server: \xff\xfe\n")
        with pytest.raises(ConfigError, match="is not UTF-8"):
            load(path, {})
        path.write_bytes(b"#" * (2**20 + 1))
        with pytest.raises(ConfigError, match="is larger than"):
            load(path, {})
        with pytest.raises(ConfigError, match="cannot be read"):
            load(tmp_path, {})

    def test_a_byte_order_mark_is_no_obstacle(self, tmp_path: Path) -> None:
        path = tmp_path / "config.yaml"
        path.write_bytes(b"\xef\xbb\xbfserver: {port: 1}\n")
        assert load(path, {}).server.port == 1


class TestSubstitution:
    def test_values_come_from_the_environment_and_from_files(self, tmp_path: Path) -> None:
        secret = tmp_path / "secret"
        secret.write_text(f"{OWN_SECRET}\n")
        values = {
            "server": {"port": "${PORT}", "metrics_public": "${PUBLIC}"},
            "secrets": {"key": f"${{file:{secret}}}"},
            "database": {"url": "postgresql://u:${PASSWORD}@db/${NAME}"},
        }
        environ = {"PORT": "9090", "PUBLIC": "true", "PASSWORD": "p${NAME}", "NAME": "clips"}
        config = parse(values, environ)
        assert config.server.port == 9090
        assert config.server.metrics_public is True
        assert config.secrets.key is not None
        assert config.secrets.key.get_secret_value() == OWN_SECRET
        assert config.database.url is not None
        assert config.database.url.get_secret_value() == "postgresql://u:p${NAME}@db/clips"

    def test_each_unset_variable_is_named_with_its_key(self, tmp_path: Path) -> None:
        values = {
            "server": {"host": "${HOST_NAME}", "port": 70000},
            "upstream": {"gateways": [{"name": "a", "url": "${GATEWAY}"}]},
            "secrets": {"key": f"${{file:{tmp_path}/absent}}"},
            "aliases": {"sora-2": "${MODEL}"},
        }
        assert problems_of(values) == [
            "server.host: the environment variable HOST_NAME is not set",
            "upstream.gateways[0].url: the environment variable GATEWAY is not set",
            f"secrets.key: the file {tmp_path}/absent cannot be read (No such file or directory)",
            "aliases.sora-2: the environment variable MODEL is not set",
            "server.port: must be less than or equal to 65535",
        ]

    @pytest.mark.parametrize("text", ["${", "${}", "${A", "${A B}", "${1A}", "${A:-b}", "x${é}"])
    def test_a_malformed_reference_is_refused(self, text: str) -> None:
        assert problems_of({"server": {"host": text}}, {"A": "a"}) == [
            "server.host: a reference is written ${NAME} or ${file:/path}"
        ]

    @pytest.mark.parametrize("text", ["$HOME", "a$", "{A}", "$$"])
    def test_a_dollar_alone_is_itself(self, text: str) -> None:
        assert parse({"billing": {"issuer": text}}, {}).billing.issuer == text
