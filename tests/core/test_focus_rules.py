"""The checker of FOCUS files finds what it is for: columns, formats, contradictions."""

from __future__ import annotations

import pytest

from proxy.core.focus_columns import Version, View
from proxy.core.focus_rules import Breach, breaches
from tests.exports import clip_row
from tests.focus import focus_file

HEADER, LINES = focus_file(Version.V1_4, View.CHARGEBACK, [clip_row(1), clip_row(2)])


def changed(name: str, value: str, row: int = 0) -> list[Breach]:
    lines = [list(line) for line in LINES]
    lines[row][HEADER.index(name)] = value
    return list(breaches(Version.V1_4, HEADER, lines))


def rules(found: list[Breach]) -> set[str]:
    return {breach.rule for breach in found}


def test_a_good_file_has_no_breach() -> None:
    assert list(breaches(Version.V1_4, HEADER, LINES)) == []


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("BilledCost", "", "null"),
        ("BilledCost", "$0.15", "not a decimal"),
        ("BilledCost", "1", "not a decimal"),
        ("BilledCost", "+0.15", "not a decimal"),
        ("BilledCost", "1.5E-1", "not a decimal"),
        ("BilledCost", "0,15", "not a decimal"),
        ("ListUnitPrice", "-0.15", "not a non-negative"),
        ("BillingCurrency", "usd", "not a currency"),
        ("ChargeCategory", "Refund", "not an allowed value"),
        ("ChargeClass", "Refund", "not an allowed value"),
        ("ServiceSubcategory", "Video", "not an allowed value"),
        ("ServiceName", "", "null"),
        ("ServiceName", "  ", "not a text"),
        ("PricingUnit", "clips", "not a unit"),
        ("PricingUnit", "1", "not a unit"),
        ("ChargePeriodStart", "2026-11-01", "not a time"),
        ("ChargePeriodStart", "2026-11-01 00:01:45", "not a time"),
        ("ChargePeriodStart", "2026-11-01T00:01:45.250Z", "not a time"),
        ("ChargePeriodStart", "2026-11-01T01:01:45+01:00", "not a time"),
        ("ChargePeriodStart", "2026-11-31T00:01:45Z", "not a time"),
        ("Tags", "cost_center", "not JSON"),
        ("Tags", "[]", "not a JSON object"),
        ("Tags", '{"a": {"b": 1}}', "not a flat JSON object"),
        ("Tags", '{"a": [1]}', "not a flat JSON object"),
        ("SkuPriceDetails", '{"Seconds": 8}', "SkuPriceDetails-C-017-C"),
    ],
)
def test_a_cell_that_is_wrong_by_itself_is_found(name: str, value: str, rule: str) -> None:
    assert changed(name, value) == [Breach(rule, name, 1, value)]


@pytest.mark.parametrize("name", ["Tags", "SkuPriceDetails", "ResourceName", "ChargeDescription"])
def test_what_may_be_null_may_be_null(name: str) -> None:
    assert changed(name, "") == []


def test_a_price_that_has_two_parents_is_found() -> None:
    assert rules(changed("SkuId", "veo-3.1", row=1)) == {"SkuPriceId-C-008-M"}


def test_what_stands_in_two_categories_is_found() -> None:
    assert "ServiceName-C-005-C" in rules(changed("ServiceCategory", "Media", row=1))


def test_an_invoice_of_two_months_is_found() -> None:
    assert "InvoiceId-C-007-C" in rules(changed("BillingPeriodStart", "2026-10-01T00:00:00Z", 1))


def test_a_charge_that_stands_twice_is_found() -> None:
    assert rules(changed("x_ChargeKey", "video_00000001", row=1)) == {"charge twice"}


def test_the_row_and_the_value_are_named() -> None:
    assert changed("ServiceName", "", row=1) == [Breach("null", "ServiceName", 2, "")]


@pytest.mark.parametrize("version", Version)
def test_the_columns_of_one_version_are_not_those_of_the_other(version: Version) -> None:
    other = next(each for each in Version if each is not version)
    header, lines = focus_file(other, View.CHARGEBACK, [clip_row(1)])
    found = list(breaches(version, header, lines))
    assert rules(found) == {"column missing", "column unknown"}


def test_a_missing_column_is_named_and_the_rows_wait() -> None:
    header = [name for name in HEADER if name != "BilledCost"]
    assert list(breaches(Version.V1_4, header, [["", *header[1:]]])) == [
        Breach("column missing", "BilledCost")
    ]


def test_an_unknown_column_is_found_unless_it_is_our_own() -> None:
    for name, expected in (("Amount", {"column unknown"}), ("x_Amount", set())):
        found = list(breaches(Version.V1_4, [*HEADER[:-1], name], []))
        assert rules(found) == expected


def test_a_column_that_stands_twice_is_found() -> None:
    assert Breach("column twice", "Tags") in breaches(Version.V1_4, ["Tags", *HEADER], [])


def test_focus_columns_come_before_our_own() -> None:
    header = ["x_Amount", *HEADER]
    assert rules(list(breaches(Version.V1_4, header, []))) == {"FOCUS column after our own"}
