"""What the columns of one FOCUS row must say together, as a table of rules.

The numbers are those of the published model of 1.2, or of 1.4 where a rule is new there. Products
are exact, on corrections too, as 1.4 asks. A purchase is taken to be prepaid: ours all are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from proxy.core.focus_columns import Version
from proxy.core.focus_model import SUBCATEGORIES

Row = Mapping[str, str]
"""A row's cells by column, each right by itself; a null is an empty text or not there."""


@dataclass(frozen=True, slots=True)
class RowRule:
    """`holds` of the row and its `columns`, the first of which is blamed where it does not."""

    rule: str
    holds: Callable[..., bool]
    columns: tuple[str, ...]
    versions: tuple[Version, ...] = tuple(Version)

    def kept(self, row: Row) -> bool:
        """Whether `row` keeps the rule."""
        return self.holds(row, *self.columns)


def _is_null(row: Row, name: str) -> bool:
    return not row.get(name)


def _category(row: Row) -> str:
    return row["ChargeCategory"]


def _is_correction(row: Row) -> bool:
    return row.get("ChargeClass") == "Correction"


def _together(row: Row, one: str, other: str) -> bool:
    """Both null, or neither."""
    return _is_null(row, one) == _is_null(row, other)


def _only_with(row: Row, one: str, other: str) -> bool:
    """Null where the other one is."""
    return _is_null(row, one) or not _is_null(row, other)


def _priced(row: Row, name: str) -> bool:
    """Null for taxes; there for usage and purchases, unless they are corrections."""
    if _category(row) == "Tax":
        return _is_null(row, name)
    must = _category(row) in {"Usage", "Purchase"} and not _is_correction(row)
    return not must or not _is_null(row, name)


def _product(row: Row, cost: str, price: str, quantity: str) -> bool:
    if _is_null(row, price) or _is_null(row, quantity):
        return True
    return Decimal(row[price]) * Decimal(row[quantity]) == Decimal(row[cost])


def _unpriced_as_billed(row: Row, cost: str, price: str) -> bool:
    """What has no unit price, and hangs on no other charge, costs what is billed for it."""
    if not _is_null(row, price) or _category(row) == "Tax":
        return True
    return Decimal(row[cost]) == Decimal(row["BilledCost"])


def _consumed(row: Row, name: str) -> bool:
    if _category(row) != "Usage" or row.get("CommitmentDiscountStatus") == "Unused":
        return _is_null(row, name)
    return _is_correction(row) or not _is_null(row, name)


def _not_usage_based_purchase(row: Row, name: str) -> bool:
    return _category(row) != "Purchase" or row.get(name) != "Usage-Based"


def _nothing_for_purchase(row: Row, cost: str) -> bool:
    return _category(row) != "Purchase" or Decimal(row.get(cost) or 0) == 0


def _effective_as_billed(row: Row, effective: str, billed: str) -> bool:
    if _category(row) in {"Usage", "Purchase"}:
        return True
    return Decimal(row[effective]) == Decimal(row[billed])


def _parent(row: Row, name: str, parent: str) -> bool:
    return SUBCATEGORIES.get(row.get(name, ""), row[parent]) == row[parent]


def _no_copy(row: Row, name: str, of: str) -> bool:
    return _is_null(row, name) or row[name] != row.get(of)


def _there(row: Row, name: str) -> bool:
    return not _is_null(row, name)


def _classed(row: Row, name: str) -> bool:
    """Correction is what was incurred before its billing period, and nothing else."""
    late = row["ChargePeriodStart"] < row["BillingPeriodStart"]
    return late == (row.get(name) == "Correction")


def _in_order(row: Row, end: str, *starts: str) -> bool:
    return all(row[start] < row[end] for start in starts)


def _not_after(row: Row, end: str, bound: str) -> bool:
    return row[end] <= row[bound]


_PRICES: Final = ("ListUnitPrice", "ContractedUnitPrice")
_PRICED: Final = (
    *(*_PRICES, *(f"PricingCurrency{name}" for name in _PRICES)),
    *("PricingQuantity", "PricingCategory"),
)
_NEW: Final = (Version.V1_4,)

ROW_RULES: Final[tuple[RowRule, ...]] = (
    *(RowRule(f"{name}-C-005-C", _priced, (name,)) for name in (*_PRICED, "SkuId", "SkuPriceId")),
    RowRule("ListCost-C-009-C", _product, ("ListCost", "ListUnitPrice", "PricingQuantity")),
    RowRule("ListCost-C-008-C", _unpriced_as_billed, ("ListCost", "ListUnitPrice")),
    RowRule(
        "ContractedCost-C-009-C",
        _product,
        ("ContractedCost", "ContractedUnitPrice", "PricingQuantity"),
    ),
    RowRule(
        "ContractedCost-C-008-C", _unpriced_as_billed, ("ContractedCost", "ContractedUnitPrice")
    ),
    RowRule("ConsumedQuantity-C-004-C", _consumed, ("ConsumedQuantity",)),
    RowRule("ConsumedUnit-C-005-C", _together, ("ConsumedUnit", "ConsumedQuantity")),
    RowRule("PricingUnit-C-005-C", _together, ("PricingUnit", "PricingQuantity")),
    RowRule("SubAccountName-C-004-C", _together, ("SubAccountName", "SubAccountId")),
    RowRule("SubAccountType-C-004-C", _together, ("SubAccountType", "SubAccountId")),
    RowRule("ResourceType-C-004-C", _together, ("ResourceType", "ResourceId")),
    RowRule("ResourceName-C-004-C", _only_with, ("ResourceName", "ResourceId")),
    RowRule("ResourceName-C-006-C", _no_copy, ("ResourceName", "ResourceId")),
    RowRule("SkuMeter-C-004-C", _only_with, ("SkuMeter", "SkuId")),
    RowRule("SkuPriceDetails-C-004-C", _only_with, ("SkuPriceDetails", "SkuPriceId")),
    RowRule("ChargeFrequency-C-004-C", _not_usage_based_purchase, ("ChargeFrequency",)),
    RowRule("EffectiveCost-C-005-C", _nothing_for_purchase, ("EffectiveCost",)),
    RowRule("EffectiveCost-C-010-C", _effective_as_billed, ("EffectiveCost", "BilledCost")),
    RowRule(
        "PricingCurrencyEffectiveCost-C-005-M",
        _nothing_for_purchase,
        ("PricingCurrencyEffectiveCost",),
    ),
    RowRule("ServiceSubcategory-C-004-M", _parent, ("ServiceSubcategory", "ServiceCategory")),
    RowRule("InvoiceId-C-005-C", _there, ("InvoiceId",)),
    RowRule("ChargeClass-C-003-C", _classed, ("ChargeClass",)),
    RowRule("BillingPeriodEnd-C-004-M", _in_order, ("BillingPeriodEnd", "BillingPeriodStart")),
    RowRule("ChargePeriodEnd-C-004-M", _in_order, ("ChargePeriodEnd", "ChargePeriodStart")),
    RowRule("charge in the future", _not_after, ("ChargePeriodEnd", "BillingPeriodEnd")),
    *(
        RowRule(f"{name} without SkuPriceId", _only_with, (name, "SkuPriceId"), _NEW)
        for name in (*_PRICED, "ConsumedQuantity")
    ),
    *(
        RowRule(f"SkuPriceId without {name}", _only_with, ("SkuPriceId", name), _NEW)
        for name in _PRICES
    ),
    RowRule("InvoiceDetailId-C", _together, ("InvoiceDetailId", "InvoiceId"), _NEW),
)
"""Every rule about one row, in the order in which breaches are told."""
