"""What the columns of a FOCUS row say together: each rule holds for us, and catches its breach."""

from __future__ import annotations

import pytest

from proxy.core.focus_columns import Version, View
from proxy.core.focus_relations import ROW_RULES, RowRule
from tests.exports import clip_row, credit_row, replayed_row
from tests.focus import TOP_UPS, Table, charges_of

CLIP, REPLAY, CREDIT = charges_of(
    View.CHARGEBACK, [clip_row(1), replayed_row(2, "video_00000001"), credit_row(3, 5)]
)
(TOP_UP,) = charges_of(View.VENDOR, [], top_ups=TOP_UPS[1:])
TAX = {
    **CREDIT,
    "ChargeCategory": "Tax",
    "BilledCost": "0.01",
    "EffectiveCost": "0.01",
    "ListCost": "0.01",
    "ContractedCost": "0.01",
}
GOOD: Table = [CLIP, REPLAY, CREDIT, TOP_UP, TAX]

# A rule, the row that keeps it, and what makes that row break it.
BREACHES: list[tuple[str, dict[str, str], dict[str, str]]] = [
    *(
        (f"{name}-C-005-C", CLIP, {name: ""})
        for name in (
            *("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingCategory"),
            *("PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"),
            *("SkuId", "SkuPriceId"),
        )
    ),
    ("SkuId-C-005-C", TAX, {"SkuId": "veo-3.1"}),
    ("ListCost-C-009-C", CLIP, {"ListCost": "0.150001"}),
    ("ListCost-C-009-C", CLIP, {"ChargeClass": "Correction", "PricingQuantity": "2.0"}),
    ("ListCost-C-008-C", CREDIT, {"ListCost": "0.00"}),
    ("ContractedCost-C-009-C", CLIP, {"ContractedUnitPrice": "0.16"}),
    ("ContractedCost-C-008-C", CREDIT, {"ContractedCost": "0.00"}),
    ("ConsumedQuantity-C-004-C", CLIP, {"ConsumedQuantity": ""}),
    ("ConsumedQuantity-C-004-C", TOP_UP, {"ConsumedQuantity": "1.0"}),
    ("ConsumedQuantity-C-004-C", CLIP, {"CommitmentDiscountStatus": "Unused"}),
    ("ConsumedUnit-C-005-C", CLIP, {"ConsumedUnit": ""}),
    ("PricingUnit-C-005-C", CLIP, {"PricingUnit": ""}),
    ("SubAccountName-C-004-C", CLIP, {"SubAccountName": ""}),
    ("SubAccountType-C-004-C", CLIP, {"SubAccountId": ""}),
    ("ResourceType-C-004-C", CLIP, {"ResourceType": ""}),
    ("ResourceName-C-004-C", CLIP, {"ResourceName": "clip", "ResourceId": ""}),
    ("ResourceName-C-006-C", CLIP, {"ResourceName": "video_00000001"}),
    ("SkuMeter-C-004-C", CLIP, {"SkuId": ""}),
    ("SkuPriceDetails-C-004-C", CLIP, {"SkuPriceId": ""}),
    ("ChargeFrequency-C-004-C", TOP_UP, {"ChargeFrequency": "Usage-Based"}),
    ("EffectiveCost-C-005-C", TOP_UP, {"EffectiveCost": "50.50"}),
    ("EffectiveCost-C-010-C", CREDIT, {"EffectiveCost": "0.00"}),
    ("PricingCurrencyEffectiveCost-C-005-M", TOP_UP, {"PricingCurrencyEffectiveCost": "1.00"}),
    ("ServiceSubcategory-C-004-M", CLIP, {"ServiceCategory": "Media"}),
    ("InvoiceId-C-005-C", CLIP, {"InvoiceId": ""}),
    ("ChargeClass-C-003-C", CLIP, {"ChargeClass": "Correction"}),
    ("ChargeClass-C-003-C", CLIP, {"ChargePeriodStart": "2026-10-31T23:59:59Z"}),
    ("BillingPeriodEnd-C-004-M", CLIP, {"BillingPeriodEnd": "2026-11-01T00:00:00Z"}),
    ("ChargePeriodEnd-C-004-M", CLIP, {"ChargePeriodEnd": "2026-11-01T00:01:45Z"}),
    ("charge in the future", CLIP, {"ChargePeriodEnd": "2026-12-01T00:00:01Z"}),
    *(
        (f"{name} without SkuPriceId", CLIP, {"SkuPriceId": ""})
        for name in (
            *("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingCategory"),
            *("PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"),
            "ConsumedQuantity",
        )
    ),
    ("SkuPriceId without ListUnitPrice", CLIP, {"ListUnitPrice": ""}),
    ("SkuPriceId without ContractedUnitPrice", CLIP, {"ContractedUnitPrice": ""}),
    ("InvoiceDetailId-C", CLIP, {"InvoiceDetailId": ""}),
]


def rule_of(name: str) -> RowRule:
    (rule,) = (rule for rule in ROW_RULES if rule.rule == name)
    return rule


@pytest.mark.parametrize("rule", ROW_RULES, ids=lambda rule: rule.rule)
def test_what_we_write_keeps_the_rule(rule: RowRule) -> None:
    assert [row for row in GOOD if not rule.kept(row)] == []


@pytest.mark.parametrize(
    ("name", "row", "changes"),
    BREACHES,
    ids=[f"{number} {name}" for number, (name, _, _) in enumerate(BREACHES)],
)
def test_a_row_that_breaks_the_rule_is_found(
    name: str, row: dict[str, str], changes: dict[str, str]
) -> None:
    rule = rule_of(name)
    assert rule.kept(row)
    assert not rule.kept({**row, **changes})


def test_every_rule_has_a_breach_that_shows_it_works() -> None:
    assert {rule.rule for rule in ROW_RULES} == {name for name, _, _ in BREACHES}


def test_the_rules_that_are_new_in_1_4_are_not_asked_of_1_2() -> None:
    new = {rule.rule for rule in ROW_RULES if Version.V1_2 not in rule.versions}
    assert "InvoiceDetailId-C" in new
    assert all("SkuPriceId" in name or name == "InvoiceDetailId-C" for name in new)
