"""Rows → FOCUS 1.2 and 1.4, the FinOps Open Cost and Usage Specification, dataset Cost and Usage.

There are two views of one month, and adding them up would count double. **Chargeback**: our
installation invoices its teams; each billed clip is a usage charge at the team's own price, a
replay one of quantity zero, a goodwill credit a credit. **Vendor**: the vendor invoices us; a
top-up is a purchase, billed in cash, with no effective cost of its own, and a clip drawn from it
is billed 0, its effective cost what that part of the top-up cost in cash. Failed clips are no
charges in either. What corrects a closed month has the class Correction, the time the cost was
incurred, and the invoice of the month it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import orjson

from proxy.core.catalog import Catalog
from proxy.core.clip import State
from proxy.core.columns import Cell
from proxy.core.export import CREDIT, ExportRow
from proxy.core.focus_columns import Version, View, columns
from proxy.core.months import bounds
from proxy.core.prepaid import PrepaidBook, TopUp
from proxy.core.pricing import MICROS_PER_USD
from proxy.core.statement import SANDBOX


@dataclass(frozen=True, slots=True)
class Settings:
    """Names and rates that the rows do not carry.

    `issuer` invoices the teams, `vendor` invoices us, `publisher` made what the vendor sells.
    `details` are flat JSON objects by model (`price_details`).
    """

    issuer: str
    vendor: str = "APIYI"
    publisher: str = "Google"
    details: Mapping[str, str] = field(default_factory=dict)
    prepaid: PrepaidBook = field(default_factory=PrepaidBook)
    sandbox: bool = False


_PERIOD: Final = timedelta(seconds=1)
_CLIPS: Final = "Clips"


def focus_rows(
    version: Version,
    view: View,
    settings: Settings,
    rows: Iterable[ExportRow],
    top_ups: Iterable[TopUp] = (),
) -> Iterator[tuple[Cell, ...]]:
    """The charges of `rows`, in their order, as cells of `columns`; top-ups come first.

    Top-ups are charges of the vendor's view alone.
    """
    names = [column.name for column in columns(version, sandbox=settings.sandbox)]
    constant = _constant(view, settings)
    for charge in _charges(view, settings, rows, top_ups):
        yield tuple(map((constant | charge).get, names))


def price_details(catalog: Catalog) -> dict[str, str]:
    """`SkuPriceDetails` of each model: how long its clips are, and how large."""
    return {
        name: orjson.dumps(
            {"x_DurationSeconds": int(model.seconds), "x_Resolution": model.size}
        ).decode()
        for name, model in catalog.models.items()
    }


Charge = dict[str, Cell]


def _charges(
    view: View, settings: Settings, rows: Iterable[ExportRow], top_ups: Iterable[TopUp]
) -> Iterator[Charge]:
    if view is View.VENDOR:
        yield from (_top_up(settings, top_up) for top_up in top_ups)
        yield from (_drawn(settings, row) for row in rows if row.quantity)
        return
    for row in rows:
        if row.quantity or row.outcome == State.REPLAYED:
            yield _charged(settings, row)
        elif row.outcome == CREDIT:
            yield _credit(settings, row)


def _constant(view: View, settings: Settings) -> Charge:
    """What is the same in every charge."""
    issuer = settings.issuer if view is View.CHARGEBACK else settings.vendor
    publisher = settings.issuer if view is View.CHARGEBACK else settings.publisher
    return {
        "BillingAccountId": _account(issuer),
        "BillingAccountName": issuer,
        "BillingAccountType": "Account",
        "BillingCurrency": "USD",
        "HostProviderName": issuer,
        "InvoiceIssuerName": issuer,
        "PricingCurrency": "USD",
        "ProviderName": issuer,
        "PublisherName": publisher,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Video Generation",
        "ServiceProviderName": issuer,
        "ServiceSubcategory": "Generative AI",
        "x_Sandbox": SANDBOX if settings.sandbox else None,
    }


def _charged(settings: Settings, row: ExportRow) -> Charge:
    """A clip, delivered or replayed, as its team is charged for it."""
    charge = _clip(settings, row, row.unit_price_micros or 0, row.quantity)
    charge |= _costs(billed=row.amount_micros, effective=row.amount_micros)
    charge |= _period(settings.issuer, row.month, row.incurred_at, f"{row.tenant}/usage")
    charge |= _team(row)
    charge["Tags"] = _tags(cost_center=row.cost_center, key=row.key_label)
    if row.outcome == State.REPLAYED:
        charge["ChargeDescription"] = _described(settings, f"{row.model} clip, given again free")
        charge["x_CacheStatus"] = "hit"
        charge["x_ListCostAvoided"] = row.sign * (row.list_price_micros or 0)
    return charge


def _drawn(settings: Settings, row: ExportRow) -> Charge:
    """A delivered clip as it is drawn from the prepaid balance."""
    price = row.list_price_micros or 0
    effective = row.sign * settings.prepaid.effective_micros(price, row.accepted_at)
    charge = _clip(settings, row, price, row.quantity)
    charge |= _costs(billed=0, effective=effective)
    charge |= _period(settings.vendor, row.month, row.incurred_at, "usage")
    charge["Tags"] = _tags(tenant=row.tenant, cost_center=row.cost_center)
    return charge


def _clip(settings: Settings, row: ExportRow, price: int, quantity: int) -> Charge:
    list_price = row.list_price_micros or 0
    counted = quantity * MICROS_PER_USD
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": _described(settings, f"{row.model} clip"),
        "ConsumedQuantity": counted,
        "ConsumedUnit": _CLIPS,
        "ContractedCost": price * quantity,
        "ContractedUnitPrice": price,
        "ListCost": list_price * quantity,
        "ListUnitPrice": list_price,
        "PricingCategory": "Standard",
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyListUnitPrice": list_price,
        "PricingQuantity": counted,
        "PricingUnit": _CLIPS,
        "ResourceId": row.clip_id,
        "ResourceType": "Video",
        "SkuId": row.model,
        "SkuMeter": "Generated Clips",
        "SkuPriceDetails": settings.details.get(row.model or ""),
        "SkuPriceId": f"{row.model}:clip",
        "x_ChargeKey": row.line_id,
        "x_CorrectionOf": row.correction_of,
        "x_GenerationId": row.generation_id,
        "x_ApiKeyId": row.key_id,
        "x_Gateway": row.gateway,
        "x_UpstreamId": row.upstream_id,
        "x_UpstreamRequestId": row.upstream_request_id,
        "x_PriceVersion": row.price_version,
    }


def _credit(settings: Settings, row: ExportRow) -> Charge:
    """Money given back to a team; it has no price of its own, so every cost is the amount."""
    amount = row.amount_micros
    return {
        **_period(settings.issuer, row.month, row.incurred_at, f"{row.tenant}/credit"),
        **_team(row),
        **_costs(billed=amount, effective=amount),
        "ChargeCategory": "Credit",
        "ChargeFrequency": "One-Time",
        "ChargeDescription": _described(settings, "Goodwill credit"),
        "ContractedCost": amount,
        "ListCost": amount,
        "ResourceId": row.clip_id,
        "ResourceType": "Video" if row.clip_id else None,
        "Tags": _tags(cost_center=row.cost_center),
        "x_ChargeKey": row.line_id,
        "x_CorrectionOf": row.correction_of,
    }


def _top_up(settings: Settings, top_up: TopUp) -> Charge:
    """Cash paid to the vendor: a purchase whose cost takes effect as clips are drawn from it."""
    paid = top_up.paid_micros
    return {
        **_period(settings.vendor, top_up.month, top_up.at, "purchase"),
        **_costs(billed=paid, effective=0),
        "ChargeCategory": "Purchase",
        "ChargeFrequency": "One-Time",
        "ChargeDescription": _described(settings, "Prepaid balance"),
        "ContractedCost": paid,
        "ContractedUnitPrice": MICROS_PER_USD,
        "ListCost": paid,
        "ListUnitPrice": MICROS_PER_USD,
        "PricingCategory": "Standard",
        "PricingCurrencyContractedUnitPrice": MICROS_PER_USD,
        "PricingCurrencyListUnitPrice": MICROS_PER_USD,
        "PricingQuantity": paid,
        "PricingUnit": "Units",
        "ResourceId": top_up.id,
        "ResourceType": "Prepaid Balance",
        "SkuId": "prepaid-topup",
        "SkuMeter": "Prepaid Balance",
        "SkuPriceId": "prepaid-topup:unit",
        "x_ChargeKey": top_up.id,
        "x_CreditedAmount": top_up.credited_micros,
    }


def _costs(*, billed: int, effective: int) -> Charge:
    return {
        "BilledCost": billed,
        "EffectiveCost": effective,
        "PricingCurrencyEffectiveCost": effective,
    }


def _period(issuer: str, month: str, at: datetime, detail: str) -> Charge:
    """When a charge was incurred, which month's invoice it is on, and whether it corrects one."""
    start, end = _bounds(month)
    incurred = at.replace(microsecond=0)
    invoice = f"{_account(issuer)}-{month}"
    return {
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargePeriodStart": incurred,
        "ChargePeriodEnd": incurred + _PERIOD,
        "ChargeClass": "Correction" if at < start else None,
        "InvoiceId": invoice,
        "InvoiceDetailId": f"{invoice}/{detail}",
    }


def _team(row: ExportRow) -> Charge:
    return {
        "SubAccountId": row.tenant,
        "SubAccountName": row.tenant,
        "SubAccountType": "Team",
    }


def _described(settings: Settings, text: str) -> str:
    return f"{SANDBOX}: {text}" if settings.sandbox else text


def _tags(**tags: str | None) -> str | None:
    """A flat JSON object of the tags that there are, None without any."""
    there = {name: value for name, value in tags.items() if value}
    return orjson.dumps(there, option=orjson.OPT_SORT_KEYS).decode() if there else None


_bounds: Final = lru_cache(maxsize=64)(bounds)


@lru_cache(maxsize=64)
def _account(name: str) -> str:
    """A name as an id: what is no letter or digit becomes a hyphen."""
    return re.sub(r"[^0-9a-z]+", "-", name.lower()).strip("-") or "account"
