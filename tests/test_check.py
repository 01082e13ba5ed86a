"""`clipmeter check`: what is wrong is found before callers find it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from proxy.check import Finding, look
from proxy.commands import do, hold_folder
from proxy.config import Config, parse
from proxy.control import serve_control
from proxy.sandbox import Sandbox
from tests.operators import desk
from tests.s3 import running_s3
from tests.server_process import free_port

KEY = "sk-sandbox-0123456789abcdef"


def config_in(folder: Path, urls: dict[str, str], **groups: Any) -> Config:
    gateways = [{"name": name, "url": url} for name, url in urls.items()]
    upstream = {"api_key": KEY, "gateways": gateways}
    return parse({"data_dir": str(folder), "upstream": upstream, **groups}, {})


def subjects(findings: list[Finding], verdict: str) -> list[str]:
    return [finding.subject for finding in findings if finding.verdict == verdict]


def test_a_fresh_machine_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        async with Sandbox.start() as sandbox:
            config = config_in(tmp_path / "data", sandbox.urls)
            findings = await look(config)
        assert subjects(findings, "problem") == []
        parts = ["config", "data_dir", "database", "vault"]
        assert subjects(findings, "ok") == parts + ["gateway"] * 3

    asyncio.run(story())
    assert list(tmp_path.iterdir()) == []


def test_gateways_that_are_dead_or_ill_are_told_apart(tmp_path: Path) -> None:
    async def story() -> None:
        async with Sandbox.start() as sandbox:
            urls = {"dead": f"http://127.0.0.1:{free_port()}", **sandbox.urls}
            await sandbox.put(gateway="api", fault="status", status=503, on="models")
            await sandbox.put(gateway="vip", fault="status", status=401, on="models")
            findings = await look(config_in(tmp_path, urls))
        gateways = [finding for finding in findings if finding.subject == "gateway"]
        words = [one.words.replace(urls[one.words.split()[0]], "…") for one in gateways]
        assert words == [
            "dead (…) does not answer (refused)",
            "api (…) answers with status 503",
            "vip (…) does not accept the vendor key",
            "b (…) answers",
        ]
        assert [one.is_problem for one in gateways] == [True, True, True, False]

    asyncio.run(story())


def test_a_missing_vendor_key_is_a_problem_with_its_cure(tmp_path: Path) -> None:
    findings = asyncio.run(look(parse({"data_dir": str(tmp_path)}, {})))
    (problem,) = [finding for finding in findings if finding.is_problem]
    assert problem.subject == "upstream"
    assert "APIYI_API_KEY" in problem.words


def test_an_existing_ledger_is_opened_and_its_schema_read(tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path)}, {})
    do(config, "tenant list", {})
    found = {finding.subject: finding for finding in asyncio.run(look(config))}
    assert found["database"].verdict == "ok"
    assert "up to date" in found["database"].words


def test_a_file_that_is_no_database_is_a_problem(tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path)}, {})
    config.sqlite_path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    found = {finding.subject: finding for finding in asyncio.run(look(config))}
    assert found["database"].verdict == "problem"


def test_a_running_server_is_asked_instead(tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path)}, {})
    with desk(tmp_path) as opened:
        lock = hold_folder(config)
        assert lock is not None

        async def story() -> list[Finding]:
            async with serve_control(opened.operator, tmp_path):
                return await look(config)

        with lock:
            found = {finding.subject: finding for finding in asyncio.run(story())}
    assert found["database"].words == "a server holds it, with 0 tenants"


def vault_of(config: Config) -> Finding:
    """What is found of the vault."""
    (found,) = [one for one in asyncio.run(look(config)) if one.subject == "vault"]
    return found


def test_a_vault_that_is_not_there_yet_is_well(tmp_path: Path) -> None:
    found = vault_of(parse({"data_dir": str(tmp_path / "data")}, {}))
    assert found == Finding(
        "ok", "vault", f"{tmp_path / 'data' / 'vault'}; it is made at the first start"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_clips_is_written_and_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "my clips"
    folder.mkdir()
    config = parse(
        {"data_dir": str(tmp_path / "data"), "vault": {"url": f"file://{tmp_path}/my%20clips"}}, {}
    )
    assert vault_of(config) == Finding("ok", "vault", str(folder))
    assert list((folder / "incoming").iterdir()) == []


def test_a_vault_that_takes_nothing_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("not a folder")
    found = vault_of(parse({"data_dir": str(tmp_path)}, {}))
    assert found.is_problem
    assert "cannot use" in found.words
    nowhere = parse({"data_dir": str(tmp_path), "vault": {"url": "file://host/clips"}}, {})
    assert vault_of(nowhere) == Finding(
        "problem", "vault", "the vault's folder is written as file:///folder"
    )


def test_a_bucket_is_asked_and_one_that_is_not_there_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_s3(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        url = s3.create()
        config = parse({"data_dir": str(tmp_path / "data"), "vault": {"url": url}}, {})
        assert vault_of(config) == Finding("ok", "vault", f"{url} answers")
        s3.send("DELETE", url.split("/")[2])
        assert vault_of(config).is_problem
        assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("secret", "verdicts"), [("short", ["problem"]), ("0123456789abcdef" * 4, [])]
)
def test_a_kept_secret_is_looked_at(tmp_path: Path, secret: str, verdicts: list[str]) -> None:
    (tmp_path / "secret").write_text(secret)
    findings = asyncio.run(look(parse({"data_dir": str(tmp_path)}, {})))
    assert [one.verdict for one in findings if one.subject == "secret"] == verdicts


def test_what_is_seldom_meant_is_a_warning(tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path), "prices": []}, {})
    findings = asyncio.run(look(config))
    assert "config" in subjects(findings, "warning")
