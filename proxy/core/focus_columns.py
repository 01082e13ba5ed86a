"""FOCUS's columns as we write them: their names, kinds and order, by version of the specification.

Written are all columns of the dataset Cost and Usage that are mandatory, or that apply to us; what
is about commitment discounts, capacity reservations, regions and split costs does not.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from proxy.core.columns import Column, Kind


class Version(StrEnum):
    """Versions of the specification that are written."""

    V1_2 = "1.2"
    V1_4 = "1.4"


class View(StrEnum):
    """Whose invoice the charges are on."""

    CHARGEBACK = "chargeback"
    VENDOR = "vendor"


_DECIMALS: Final = frozenset(
    {
        "BilledCost",
        "ConsumedQuantity",
        "ContractedCost",
        "ContractedUnitPrice",
        "EffectiveCost",
        "ListCost",
        "ListUnitPrice",
        "PricingCurrencyContractedUnitPrice",
        "PricingCurrencyEffectiveCost",
        "PricingCurrencyListUnitPrice",
        "PricingQuantity",
        "x_CreditedAmount",
        "x_ListCostAvoided",
    }
)
_TIMES: Final = frozenset(
    {"BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"}
)
_TEXTS: Final = (
    *("BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ConsumedUnit"),
    *("InvoiceId", "InvoiceIssuerName", "PricingCategory", "PricingCurrency", "PricingUnit"),
    *("ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName"),
    *("ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId"),
    *("SubAccountId", "SubAccountName", "SubAccountType", "Tags"),
)
# The rules of ConsumedQuantity in 1.2 look at the status of a commitment discount; there is none.
_OF_VERSION: Final = {
    Version.V1_2: ("CommitmentDiscountStatus", "ProviderName", "PublisherName"),
    Version.V1_4: ("HostProviderName", "InvoiceDetailId", "ServiceProviderName"),
}
_OWN: Final = (
    *("x_ChargeKey", "x_CorrectionOf", "x_GenerationId", "x_ApiKeyId", "x_Gateway"),
    *("x_UpstreamId", "x_UpstreamRequestId", "x_PriceVersion", "x_CacheStatus"),
    *("x_ListCostAvoided", "x_CreditedAmount"),
)


def columns(version: Version, *, sandbox: bool = False) -> tuple[Column, ...]:
    """FOCUS's columns in the order of their names, then our own, which begin with x_."""
    decimals = (name for name in _DECIMALS if not name.startswith("x_"))
    names = sorted((*_TEXTS, *decimals, *_TIMES, *_OF_VERSION[version]))
    mark = ("x_Sandbox",) if sandbox else ()
    return tuple(Column(name, _kind(name)) for name in (*names, *_OWN, *mark))


def _kind(name: str) -> Kind:
    if name in _DECIMALS:
        return Kind.DECIMAL
    return Kind.SECOND if name in _TIMES else Kind.TEXT
