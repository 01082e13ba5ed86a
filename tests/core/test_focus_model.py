"""Our table of FOCUS's columns says what the published model of 1.4 says."""

from __future__ import annotations

from importlib import resources

import orjson
import pytest

from proxy.core.focus_columns import Version
from proxy.core.focus_model import ALLOWED, MODEL, SUBCATEGORIES

PUBLISHED = orjson.loads(
    (resources.files("focus_data_toolkit.model") / "focus_1_4_model.json").read_bytes()
)
COLUMNS = PUBLISHED["datasets"]["Cost and Usage"]["columns"]

FORMS = {
    "Unspecified": "text",
    "Decimal (any)": "decimal",
    "Decimal (non-negative)": "non-negative",
    "Date/Time": "time",
    "Currency": "currency",
    "Allowed Values": "one-of",
    "Unit": "unit",
    "Key-Value": "flat",
    "JSON Object": "object",
}


def test_the_columns_of_1_4_are_the_published_ones() -> None:
    ours = {name for name, rule in MODEL.items() if rule.levels[Version.V1_4] != "-"}
    assert ours == set(COLUMNS)
    assert len(ours) == 65


def test_there_are_as_many_columns_of_1_2_as_it_has() -> None:
    assert sum(rule.levels[Version.V1_2] != "-" for rule in MODEL.values()) == 57


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_as_it_was_published(name: str) -> None:
    published, ours = COLUMNS[name], MODEL[name]
    assert ours.levels[Version.V1_4] == published["feature_level"][0]
    assert ours.nullable == published["allows_nulls"]
    assert ours.form == FORMS[published["value_format"]]
    assert (ours.condition is None) == (published["condition"] == "n/a")
    if published["allowed_values"] is not None:
        assert ALLOWED[name] == set(published["allowed_values"])
    if published["version"] in {"1.3", "1.4"}:
        assert ours.levels[Version.V1_2] == "-"


def test_the_subcategories_belong_where_they_were_published() -> None:
    assert PUBLISHED["service_subcategory_parents"] == SUBCATEGORIES


def test_both_versions_agree_on_the_level_of_all_columns_but_one() -> None:
    differ = {
        name
        for name, rule in MODEL.items()
        if "-" not in rule.levels.values() and len(set(rule.levels.values())) > 1
    }
    assert differ == {"InvoiceId"}


def test_mandatory_columns_are_demanded_and_what_does_not_apply_is_not() -> None:
    assert MODEL["BilledCost"].demanded(Version.V1_2)
    assert MODEL["SkuPriceId"].demanded(Version.V1_4)
    assert not MODEL["ProviderName"].demanded(Version.V1_4)
    assert not MODEL["RegionId"].demanded(Version.V1_4)
    assert not MODEL["InvoiceId"].demanded(Version.V1_2)
