"""Which FOCUS columns are written: all that apply, in order, our own behind them."""

from __future__ import annotations

import re

import pytest

from proxy.core.columns import Kind
from proxy.core.focus_columns import Version, columns
from proxy.core.focus_model import MODEL

KINDS = {"decimal": Kind.DECIMAL, "non-negative": Kind.DECIMAL, "time": Kind.SECOND}


def names(version: Version) -> list[str]:
    return [column.name for column in columns(version)]


@pytest.mark.parametrize("version", Version)
def test_focus_columns_come_first_by_name_and_then_our_own(version: Version) -> None:
    ours = [name for name in names(version) if name.startswith("x_")]
    theirs = names(version)[: -len(ours)]
    assert theirs == sorted(theirs)
    assert len(set(names(version))) == len(names(version))
    assert all(re.fullmatch("x_[A-Z][A-Za-z]+", name) for name in ours)
    assert not any(name.startswith("x_") for name in theirs)


@pytest.mark.parametrize("version", Version)
def test_every_column_has_the_kind_of_its_format(version: Version) -> None:
    for column in columns(version):
        if column.name in MODEL:
            assert column.kind is KINDS.get(MODEL[column.name].form, Kind.TEXT), column.name


@pytest.mark.parametrize("version", Version)
def test_every_column_that_is_demanded_of_us_is_written(version: Version) -> None:
    demanded = {name for name, rule in MODEL.items() if rule.demanded(version)}
    assert demanded <= set(names(version))


def test_the_versions_differ_where_the_specification_does() -> None:
    old, new = (set(names(version)) for version in (Version.V1_2, Version.V1_4))
    assert old - new == {"ProviderName", "PublisherName", "CommitmentDiscountStatus"}
    assert new - old == {"ServiceProviderName", "HostProviderName", "InvoiceDetailId"}


def test_a_sandbox_is_marked_in_the_last_column() -> None:
    assert columns(Version.V1_4, sandbox=True)[-1].name == "x_Sandbox"
