"""What is wrong with a configuration: all of it at once, in words."""

from __future__ import annotations

import pytest

from proxy.config import ConfigError, parse
from tests.configs import problems_of


class TestProblems:
    def test_all_are_reported_at_once_with_path_and_what_is_allowed(self) -> None:
        values = {
            "sever": {},
            "server": {"port": 70000, "prot": 1},
            "limits": {"stall_seconds_max": 0, "answer_bytes_max": "5MB", "colour": 1},
            "upstream": {"gateways": [{"name": "Big Name", "url": "ftp://x"}, {"name": "b"}]},
            "replay": {"reuse": "always"},
            "prices": [{"models": [], "usd_per_clip": 0.25, "from": "2025-02-30"}],
            "database": {"url": "postgresql://db/clips"},
            "aliases": {"veo-3.1": "veo-3.1-fast"},
            "follow": [],
        }
        problems = problems_of(values)
        for expected in (
            "sever: there is no key sever; did you mean server?",
            "server.port: must be less than or equal to 65535",
            "server.prot: there is no key prot; did you mean port?",
            "limits.stall_seconds_max: must be greater than 0",
            "limits.answer_bytes_max: must be a size such as 16MiB (B, KiB, MiB, GiB or TiB)",
            "upstream.gateways[0].name: must be 1 to 16 of a-z, 0-9, _ and -",
            "upstream.gateways[0].url: must be an address with https:// or http:// "
            "and a valid host and port",
            "upstream.gateways[1].url: is missing",
            "replay.reuse: must be 'never' or 'opt-in'",
            "prices[0].models: must have one entry or more",
            'prices[0].usd_per_clip: must be dollars as a quoted string such as "0.15", '
            "with at most six decimals",
            "prices[0].from: must be a day such as 2025-01-31",
            "follow: must be a group of keys",
            "secrets.key: is required with PostgreSQL, so that every process has the same",
            "aliases.veo-3.1: is a model itself; an alias must have a name of its own",
        ):
            assert expected in problems
        assert len(problems) == 16
        assert any(problem.startswith("limits.colour: there is no key") for problem in problems)

    def test_a_group_that_is_broken_does_not_accuse_the_others(self) -> None:
        values = {
            "models": [{"name": "veo-3.1-4k", "size": "big", "seconds": 8, "images": 0}],
            "aliases": {"sora-2": "veo-3.1-4k"},
        }
        assert problems_of(values) == ["models[0].size: must be pixels such as 720x1280"]

    def test_the_error_reads_as_its_problems_line_by_line(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse({"server": {"port": -1}, "replay": 7}, {})
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert len(caught.value.problems) == 2

    @pytest.mark.parametrize("key", ["port"])
    @pytest.mark.parametrize("value", [-1, 65536, "http", 1.5, True, None, [1]])
    def test_a_port_is_a_number_of_sixteen_bits(self, key: str, value: object) -> None:
        (problem,) = problems_of({"server": {key: value}})
        assert problem.startswith("server.port: must be")

    @pytest.mark.parametrize("group", ["follow", "replay", "billing"])
    @pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "soon"])
    def test_hours_are_more_than_none(self, group: str, value: object) -> None:
        key = {"follow": "give_up_hours", "replay": "idempotency_hours"}.get(
            group, "close_grace_hours"
        )
        (problem,) = problems_of({group: {key: value}})
        assert problem.startswith(f"{group}.{key}: must be")


class TestDisagreements:
    @pytest.mark.parametrize(
        ("limits", "problem"),
        [
            (
                {"request_bytes_max": "6MiB", "request_text_bytes_max": "7MiB"},
                "limits.request_text_bytes_max: must not exceed limits.request_bytes_max",
            ),
            ({"answer_seconds_max": 300, "stall_seconds_max": 100}, "limits.head_seconds_max"),
            ({"keepalive_seconds_min": 301}, "limits.keepalive_seconds_min: must not exceed"),
            ({"breaker_seconds": 301}, "limits.breaker_seconds: must not exceed"),
            ({"drain_seconds_max": 4}, "limits.drain_listen_seconds: must not exceed"),
            ({"download_seconds_max": 25}, "limits.download_stall_seconds_max: must not exceed"),
            (
                {"download_seconds_max": 30, "download_open_seconds_max": 31},
                "limits.download_open_seconds_max: must not exceed",
            ),
            (
                {"orphan_seconds": 9.9},
                "limits.orphan_seconds: must be twice limits.heartbeat_seconds or more",
            ),
        ],
    )
    def test_limits_that_contradict_each_other_are_refused(
        self, limits: dict[str, object], problem: str
    ) -> None:
        (found,) = problems_of({"limits": limits})
        assert found.startswith(problem)

    def test_a_clip_must_fit_the_vault(self) -> None:
        assert problems_of({"vault": {"bytes_max": "1GiB", "clip_bytes_max": "2GiB"}}) == [
            "vault.clip_bytes_max: must not exceed vault.bytes_max"
        ]

    def test_one_answer_must_fit_among_those_that_are_kept(self) -> None:
        most = {"answers_bytes_max": "1KiB"}
        assert problems_of({"replay": most}) == [
            "replay.answer_bytes_max: must not exceed replay.answers_bytes_max"
        ]
