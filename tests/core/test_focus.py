"""FOCUS exports: both views keep the rules, say what happened, and add up to the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from focus_data_toolkit.model.capabilities import CapabilityProfile
from focus_data_toolkit.model.validator import COND_UNIT_PRICING, lint_focus_1_4_structure
from hypothesis import given, settings

from proxy.core.catalog import Catalog
from proxy.core.corrections import corrections
from proxy.core.export import ExportRow, Totals, counted
from proxy.core.focus import price_details
from proxy.core.focus_columns import Version, View
from proxy.core.focus_rules import breaches
from proxy.core.prepaid import TopUp
from tests.exports import (
    START,
    any_rows,
    clip_row,
    credit_row,
    failed_row,
    replayed_row,
    some_month,
)
from tests.focus import SETTINGS, TOP_UPS, Table, charges_of, focus_file

EVERY = [(version, view) for version in Version for view in View]


def micros(usd: str) -> int:
    whole, _, decimals = usd.partition(".")
    return int(whole + decimals.ljust(6, "0"))


def total(charges: Table, column: str) -> int:
    return sum(micros(charge[column]) for charge in charges if charge[column])


@pytest.mark.parametrize(("version", "view"), EVERY)
def test_a_month_keeps_every_rule(version: Version, view: View) -> None:
    header, lines = focus_file(version, view, some_month(400))
    assert len(lines) > 250
    assert list(breaches(version, header, lines)) == []


@pytest.mark.parametrize(("version", "view"), EVERY)
@settings(max_examples=30)
@given(rows=any_rows())
def test_any_rows_keep_every_rule(version: Version, view: View, rows: list[ExportRow]) -> None:
    # A team and a model have names; the house refuses empty ones, and so does FOCUS.
    named = [
        replace(row, tenant=row.tenant.strip() or "ads", model=(row.model or "").strip() or "veo")
        for row in rows
    ]
    header, lines = focus_file(version, view, named)
    assert list(breaches(version, header, lines)) == []


@pytest.mark.parametrize("view", View)
def test_the_linter_of_focus_data_toolkit_finds_nothing(view: View) -> None:
    charges = charges_of(view, some_month(300), top_ups=TOP_UPS)
    declared = CapabilityProfile.of(COND_UNIT_PRICING)
    report = lint_focus_1_4_structure("Cost and Usage", charges, profile=declared)
    assert report.messages() == []
    assert report.row_count == len(charges)


def test_chargeback_bills_what_the_ledger_charged() -> None:
    totals = Totals()
    charges = charges_of(View.CHARGEBACK, counted(some_month(500), totals))
    for column in ("BilledCost", "EffectiveCost", "ContractedCost"):
        assert total(charges, column) == totals.amount_micros
    clips = [charge for charge in charges if charge["ChargeCategory"] == "Usage"]
    assert total(clips, "PricingQuantity") == totals.quantity * 10**6
    assert total(clips, "ListCost") == totals.list_micros


def test_the_vendor_bills_top_ups_alone_and_clips_draw_on_them() -> None:
    totals = Totals()
    charges = charges_of(View.VENDOR, counted(some_month(500), totals), top_ups=TOP_UPS)
    assert total(charges, "BilledCost") == sum(top_up.paid_micros for top_up in TOP_UPS)
    clips = [charge for charge in charges if charge["ChargeCategory"] == "Usage"]
    assert total(clips, "BilledCost") == 0
    assert total(clips, "ListCost") == totals.list_micros
    assert 0 < total(clips, "EffectiveCost") < totals.list_micros
    assert total(charges, "EffectiveCost") == total(clips, "EffectiveCost")


def test_a_clip_is_a_usage_charge_of_its_team() -> None:
    (charge,) = charges_of(
        View.CHARGEBACK, [clip_row(1, unit_price_micros=135_000, amount_micros=135_000)]
    )
    expected = {
        "BilledCost": "0.135",
        "BillingAccountId": "clipmeter-ltd",
        "BillingPeriodEnd": "2026-12-01T00:00:00Z",
        "BillingPeriodStart": "2026-11-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargePeriodEnd": "2026-11-01T00:01:46Z",
        "ChargePeriodStart": "2026-11-01T00:01:45Z",
        "ContractedUnitPrice": "0.135",
        "InvoiceId": "clipmeter-ltd-2026-11",
        "InvoiceIssuerName": "Clipmeter Ltd.",
        "ListCost": "0.15",
        "PricingQuantity": "1.00",
        "ResourceId": "video_00000001",
        "ServiceProviderName": "Clipmeter Ltd.",
        "SkuId": "veo-3.1-fast",
        "SkuPriceDetails": '{"x_DurationSeconds":8,"x_Resolution":"720x1280"}',
        "SubAccountId": "ads",
        "Tags": '{"cost_center":"CC-1001","key":"render farm"}',
        "x_ChargeKey": "video_00000001",
    }
    assert {name: charge[name] for name in expected} == expected


def test_names_of_the_vendors_view_are_the_vendors() -> None:
    (charge,) = charges_of(View.VENDOR, [clip_row(1)], Version.V1_2)
    assert charge["InvoiceIssuerName"] == charge["ProviderName"] == "APIYI"
    assert charge["PublisherName"] == "Google"
    assert charge["SubAccountId"] == ""
    assert orjson.loads(charge["Tags"]) == {"tenant": "ads", "cost_center": "CC-1001"}


def test_a_top_up_is_a_purchase_in_cash_and_takes_no_effect_itself() -> None:
    (charge,) = charges_of(View.VENDOR, [], top_ups=TOP_UPS[1:])
    assert charge["ChargeCategory"] == "Purchase"
    assert charge["ChargeFrequency"] == "One-Time"
    assert (charge["BilledCost"], charge["EffectiveCost"]) == ("50.50", "0.00")
    assert (charge["PricingQuantity"], charge["ListUnitPrice"]) == ("50.50", "1.00")
    assert charge["ConsumedQuantity"] == ""
    assert charge["x_CreditedAmount"] == "50.50"


def test_a_bonus_makes_a_clip_cost_less_than_its_list_price() -> None:
    (charge,) = charges_of(View.VENDOR, [clip_row(1)])
    assert (charge["ListCost"], charge["EffectiveCost"]) == ("0.15", "0.136364")


def test_top_ups_are_no_charges_of_the_teams() -> None:
    assert charges_of(View.CHARGEBACK, [], top_ups=TOP_UPS) == []


def test_a_failed_clip_is_no_charge_in_either_view() -> None:
    for view in View:
        assert charges_of(view, [failed_row(1), clip_row(2, outcome="written_off")]) == []


def test_a_replay_is_a_charge_of_nothing_that_says_what_was_avoided() -> None:
    row = replayed_row(2, of="video_00000001")
    (charge,) = charges_of(View.CHARGEBACK, [row])
    assert total([charge], "BilledCost") == total([charge], "ListCost") == 0
    assert charge["PricingQuantity"] == "0.00"
    assert (charge["x_CacheStatus"], charge["x_ListCostAvoided"]) == ("hit", "0.15")
    assert charges_of(View.VENDOR, [row]) == []


def test_a_credit_is_a_credit_of_its_team_alone() -> None:
    row = credit_row(3, 50_000)
    (charge,) = charges_of(View.CHARGEBACK, [row])
    assert charge["ChargeCategory"] == "Credit"
    assert {charge[name] for name in ("BilledCost", "EffectiveCost", "ListCost")} == {"-0.05"}
    assert charge["PricingQuantity"] == charge["SkuId"] == ""
    assert charges_of(View.VENDOR, [row]) == []


@pytest.mark.parametrize("view", View)
def test_a_correction_keeps_its_time_and_stands_on_a_later_invoice(view: View) -> None:
    line = clip_row(1)
    right = replace(line, unit_price_micros=1, amount_micros=1, list_price_micros=2)
    (original,) = charges_of(view, [line])
    back, new = charges_of(view, corrections(line, right, "2026-12"))
    for charge in (back, new):
        assert charge["ChargeClass"] == "Correction"
        assert charge["ChargePeriodStart"] == original["ChargePeriodStart"]
        assert charge["BillingPeriodStart"] == "2026-12-01T00:00:00Z"
        assert charge["InvoiceId"] != original["InvoiceId"]
        assert charge["x_CorrectionOf"] == original["x_ChargeKey"]
    signed = ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingQuantity")
    for name in signed:
        assert micros(back[name]) == -micros(original[name])
    changed = {*signed, "ConsumedQuantity", "PricingCurrencyEffectiveCost", "ChargeClass"}
    moved = {"BillingPeriodStart", "BillingPeriodEnd", "InvoiceId", "InvoiceDetailId"}
    for name in back.keys() - changed - moved:
        if not name.startswith("x_"):
            assert back[name] == original[name], name


def test_a_clip_that_is_found_in_its_own_month_is_no_correction() -> None:
    at_the_last = replace(
        clip_row(1), completed_at=START + timedelta(days=30) - timedelta(microseconds=1)
    )
    (charge,) = charges_of(View.CHARGEBACK, [at_the_last])
    assert charge["ChargeClass"] == ""
    assert charge["ChargePeriodEnd"] == charge["BillingPeriodEnd"]


def test_a_top_up_that_is_learned_of_late_is_a_correction() -> None:
    late = TopUp("topup_9", "2026-12", START, 10**6, 10**6)
    (charge,) = charges_of(View.VENDOR, [], top_ups=[late])
    assert (charge["ChargeClass"], charge["InvoiceId"]) == ("Correction", "apiyi-2026-12")


@pytest.mark.parametrize("view", View)
def test_every_charge_of_a_sandbox_says_so(view: View) -> None:
    pretended = replace(SETTINGS, sandbox=True)
    charges = charges_of(view, some_month(50), settings=pretended, top_ups=TOP_UPS)
    assert {charge["x_Sandbox"] for charge in charges} == {"SANDBOX"}
    assert all(charge["ChargeDescription"].startswith("SANDBOX: ") for charge in charges)


def test_each_model_of_the_catalogue_has_its_details() -> None:
    details = price_details(Catalog.documented())
    assert len(details) == 8
    assert orjson.loads(details["veo-3.1-landscape"]) == {
        "x_DurationSeconds": 8,
        "x_Resolution": "1280x720",
    }


def test_the_two_views_of_one_clip_name_it_alike() -> None:
    keys = [charges_of(view, [clip_row(1)])[0]["x_ChargeKey"] for view in View]
    assert keys == ["video_00000001"] * 2
