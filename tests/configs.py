"""What the tests of the configuration share: a file of it, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.config import ConfigError, parse


def problems_of(values: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> list[str]:
    """Everything that is wrong with `values`; fails the test when nothing is."""
    with pytest.raises(ConfigError) as caught:
        parse(values, environ or {})
    return caught.value.problems


def written(tmp_path: Path, text: str) -> Path:
    """The path of a config.yaml in `tmp_path` that holds `text`."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path
