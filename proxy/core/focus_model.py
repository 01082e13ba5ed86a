"""FOCUS's published model of Cost and Usage as one table: which columns there are, what they hold.

Written down from the specification's column pages (1.2 and 1.4, CC-BY-4.0): for each column its
level in both versions (mandatory, conditional, recommended, or `-` for none), whether it may be
null, its format, and the condition under which it must be there. Both versions agree wherever a
column stands in both, but for the level of InvoiceId. The tests compare the table with the model
of 1.4 as others have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy.core.focus_columns import Version


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One column: `levels` by version, what it holds, and what makes it a must."""

    name: str
    levels: Mapping[Version, str]
    nullable: bool
    form: str
    condition: str | None

    def demanded(self, version: Version) -> bool:
        """Whether a dataset of ours must have the column."""
        level = self.levels[version]
        return level == "M" or (level == "C" and self.condition in SUPPORTED)


SUPPORTED: Final = frozenset(
    {"accounts", "consumption", "invoices", "list prices", "negotiation", "skus", "teams", "team"}
    | {"tags", "resources"}
)
"""The conditions that hold for us. We have no commitments, regions, reservations or shared costs,
one pricing category and one currency; the columns about the last two are written all the same."""

# Column, level in 1.2, level in 1.4, null or not, format, condition.
_TABLE: Final = """
AllocatedMethodDetails              - R null object       shared costs
AllocatedMethodId                   - C null text         shared costs
AllocatedResourceId                 - C null text         shared costs
AllocatedResourceName               - C null text         shared costs
AllocatedTags                       - C null flat         shared costs
AvailabilityZone                    R R null text         zones
BilledCost                          M M not  decimal
BillingAccountId                    M M not  text
BillingAccountName                  M M null text
BillingAccountType                  C C not  text         accounts
BillingCurrency                     M M not  currency
BillingPeriodEnd                    M M not  time
BillingPeriodStart                  M M not  time
CapacityReservationId               C C null text         reservations
CapacityReservationStatus           C C null one-of       reservations
ChargeCategory                      M M not  one-of
ChargeClass                         M M null one-of
ChargeDescription                   M M null text
ChargeFrequency                     R R not  one-of
ChargePeriodEnd                     M M not  time
ChargePeriodStart                   M M not  time
CommitmentDiscountCategory          C C null one-of       commitments
CommitmentDiscountId                C C null text         commitments
CommitmentDiscountName              C C null text         commitments
CommitmentDiscountQuantity          C C null decimal      commitments
CommitmentDiscountStatus            C C null one-of       commitments
CommitmentDiscountType              C C null text         commitments
CommitmentDiscountUnit              C C null unit         commitments
CommitmentProgramEligibilityDetails - C null object       commitments
ConsumedQuantity                    C C null decimal      consumption
ConsumedUnit                        C C null unit         consumption
ContractApplied                     - C null object       commitments
ContractedCost                      M M not  decimal
ContractedUnitPrice                 C C null non-negative negotiation
EffectiveCost                       M M not  decimal
HostProviderName                    - M null text
InvoiceDetailId                     - C null text         invoices
InvoiceId                           R C null text         invoices
InvoiceIssuerName                   M M not  text
ListCost                            M M not  decimal
ListUnitPrice                       C C null non-negative list prices
PricingCategory                     C C null one-of       categories
PricingCurrency                     C C not  currency     currencies
PricingCurrencyContractedUnitPrice  C C null non-negative virtual currency
PricingCurrencyEffectiveCost        C C not  decimal      virtual currency
PricingCurrencyListUnitPrice        C C null non-negative virtual currency
PricingQuantity                     M M null decimal
PricingUnit                         M M null unit
ProviderName                        M - not  text
PublisherName                       M - not  text
RegionId                            C C null text         regions
RegionName                          C C null text         regions
ResourceId                          C C null text         resources
ResourceName                        C C null text         resources
ResourceType                        C C null text         resources
ServiceCategory                     M M not  one-of
ServiceName                         M M not  text
ServiceProviderName                 - M not  text
ServiceSubcategory                  R R not  one-of
SkuId                               C C null text         skus
SkuMeter                            C C null text         skus
SkuPriceDetails                     C C null flat         skus
SkuPriceId                          C C null text         skus
SubAccountId                        C C null text         teams
SubAccountName                      C C null text         teams
SubAccountType                      C C null text         team
Tags                                C C null flat         tags
"""

_SUBCATEGORIES: Final = """
AI and Machine Learning: AI Platforms, Bots, Generative AI, Machine Learning
AI and Machine Learning: Natural Language Processing
Analytics: Analytics Platforms, Business Intelligence, Data Processing, Search, Streaming Analytics
Business Applications: Productivity and Collaboration
Compute: Containers, End User Computing, Quantum Compute, Serverless Compute, Virtual Machines
Databases: Caching, Data Warehouses, Ledger Databases, NoSQL Databases, Relational Databases
Databases: Time Series Databases
Developer Tools: Continuous Integration and Deployment, Developer Platforms, Quality Assurance
Developer Tools: Development Environments, Source Code Management
Identity: Identity and Access Management
Integration: API Management, Messaging, Workflow Orchestration
Internet of Things: IoT Analytics, IoT Platforms
Management and Governance: Architecture, Compliance, Cost Management, Data Governance
Management and Governance: Disaster Recovery, Endpoint Management, Observability, Support
Media: Content Creation, Gaming, Media Streaming, Mixed Reality
Migration: Data Migration, Resource Migration
Mobile:
Multicloud: Multicloud Integration
Networking: Application Networking, Content Delivery, Network Connectivity, Network Routing
Networking: Network Infrastructure, Network Security
Other:
Security: Secret Management, Security Posture Management, Threat Detection and Response
Storage: Backup Storage, Block Storage, File Storage, Object Storage, Storage Platforms
Web: Application Platforms
"""


def _read_table() -> dict[str, ColumnRule]:
    rules = {}
    for line in _TABLE.strip().splitlines():
        name, old, new, null, form, *condition = line.split()
        levels = {Version.V1_2: old, Version.V1_4: new}
        named = " ".join(condition) or None
        rules[name] = ColumnRule(name, levels, null == "null", form, named)
    return rules


def _read_subcategories() -> dict[str, str]:
    parents = {}
    for line in _SUBCATEGORIES.strip().splitlines():
        category, _, names = line.partition(":")
        for name in (*filter(None, map(str.strip, names.split(","))), f"Other ({category})"):
            parents[name] = category
    return parents


MODEL: Final[Mapping[str, ColumnRule]] = _read_table()
"""Every column of Cost and Usage in 1.2 or 1.4, by its name."""

SUBCATEGORIES: Final[Mapping[str, str]] = _read_subcategories()
"""The category that each service subcategory belongs to."""

ALLOWED: Final[Mapping[str, frozenset[str]]] = {
    "CapacityReservationStatus": frozenset({"Used", "Unused"}),
    "ChargeCategory": frozenset({"Usage", "Purchase", "Tax", "Credit", "Adjustment"}),
    "ChargeClass": frozenset({"Correction"}),
    "ChargeFrequency": frozenset({"One-Time", "Recurring", "Usage-Based"}),
    "CommitmentDiscountCategory": frozenset({"Spend", "Usage"}),
    "CommitmentDiscountStatus": frozenset({"Used", "Unused"}),
    "PricingCategory": frozenset({"Standard", "Dynamic", "Committed", "Other"}),
    "ServiceCategory": frozenset(SUBCATEGORIES.values()),
    "ServiceSubcategory": frozenset(SUBCATEGORIES),
}
"""What the columns of the format `one-of` may say."""
