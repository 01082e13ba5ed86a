"""The first tables.

Revision 0001.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")


def upgrade() -> None:
    """Create every table; the vendor account's count of clips in flight starts at none."""
    _create_tenancy()
    _create_counters()
    _create_generations()
    _create_clips()
    op.execute("INSERT INTO flights (scope, clips) VALUES ('vendor', 0)")


def _create_tenancy() -> None:
    """Who pays, what for, and what runs."""
    op.create_table(
        "tenants",
        _text("id"),
        _text("name"),
        _text("cost_center", null=True),
        _big("clips_per_month", null=True),
        _big("micros_per_month", null=True),
        _big("clips_in_flight", null=True),
        _big("requests_per_minute", null=True),
        _json("models", null=True),
        _moment("created_at"),
        _moment("disabled_at", null=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "keys",
        _text("id"),
        _text("digest"),
        _text("tenant_id", null=True),
        _text("role"),
        _text("label"),
        _text("prefix"),
        _moment("created_at"),
        _moment("expires_at", null=True),
        _moment("last_used_at", null=True),
        _moment("revoked_at", null=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    op.create_table(
        "prices",
        _text("version"),
        _text("model"),
        _big("micros"),
        _date("valid_from"),
        _moment("added_at"),
        _text("origin"),
        sa.CheckConstraint("micros >= 0", name="prices_not_negative"),
        sa.PrimaryKeyConstraint("version"),
    )
    op.create_index("prices_model_day", "prices", ["model", "valid_from"], unique=True)
    op.create_table("installation", _text("key"), _text("value"), sa.PrimaryKeyConstraint("key"))
    op.create_table(
        "processes",
        _text("id"),
        _moment("started_at"),
        _moment("seen_at"),
        sa.PrimaryKeyConstraint("id"),
    )


def _create_counters() -> None:
    """What is taken of each limit."""
    op.create_table(
        "budgets",
        _text("tenant_id"),
        _text("month"),
        _big("clips"),
        _big("micros"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant_id", "month"),
    )
    op.create_table("flights", _text("scope"), _big("clips"), sa.PrimaryKeyConstraint("scope"))
    op.create_table(
        "minutes",
        _text("tenant_id"),
        _moment("minute"),
        _big("requests"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant_id"),
    )


def _create_generations() -> None:
    """Paid requests and their attempts."""
    op.create_table(
        "generations",
        _text("id"),
        _text("tenant_id"),
        _text("key_id"),
        _text("mode"),
        _text("model"),
        _text("asked_model"),
        _small("clips"),
        _flag("stream"),
        _text("body_hash"),
        _moment("accepted_at"),
        _text("month"),
        _text("process_id"),
        _text("gateway", null=True),
        _small("attempts"),
        _text("upstream_request_id", null=True),
        _text("upstream_origin_request_id", null=True),
        _text("upstream_id", null=True),
        _small("status", null=True),
        _moment("ended_at", null=True),
        _text("ending", null=True),
        _text("reason", null=True),
        _text("vendor_text", null=True),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "attempts",
        _text("generation_id"),
        _small("number"),
        _text("gateway"),
        _moment("started_at"),
        _moment("ended_at", null=True),
        _text("outcome"),
        _small("status", null=True),
        _text("reason", null=True),
        _flag("maybe_accepted"),
        _big("exposure_micros"),
        _text("upstream_request_id", null=True),
        _text("upstream_origin_request_id", null=True),
        sa.CheckConstraint("exposure_micros >= 0", name="attempts_not_negative"),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.PrimaryKeyConstraint("generation_id", "number"),
    )
    op.create_index(
        "attempts_exposed",
        "attempts",
        ["generation_id"],
        sqlite_where=sa.text("exposure_micros > 0"),
        postgresql_where=sa.text("exposure_micros > 0"),
    )


def _create_clips() -> None:
    """Clips and the ledger."""
    op.create_table(
        "clips",
        _text("id"),
        _text("generation_id"),
        _text("tenant_id"),
        _small("position"),
        _text("model"),
        _text("state"),
        _big("price_micros"),
        _big("list_micros"),
        _text("price_version"),
        _moment("accepted_at"),
        _text("month"),
        _moment("completed_at", null=True),
        _text("finance_month", null=True),
        _text("reason", null=True),
        _text("url", null=True),
        _text("vendor_text", null=True),
        sa.CheckConstraint("list_micros >= 0", name="clips_list_not_negative"),
        sa.CheckConstraint("price_micros >= 0", name="clips_price_not_negative"),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "clips_finance",
        "clips",
        ["finance_month", "tenant_id"],
        unique=False,
        sqlite_where=sa.text("finance_month IS NOT NULL"),
        postgresql_where=sa.text("finance_month IS NOT NULL"),
    )
    op.create_index("clips_listing", "clips", ["tenant_id", "accepted_at", "id"], unique=False)
    op.create_index("clips_position", "clips", ["generation_id", "position"], unique=True)
    op.create_index(
        "clips_unsettled",
        "clips",
        ["month", "accepted_at"],
        unique=False,
        sqlite_where=sa.text("completed_at IS NULL"),
        postgresql_where=sa.text("completed_at IS NULL"),
    )
    op.create_table(
        "entries",
        _text("id"),
        _text("kind"),
        _text("clip_id"),
        _text("tenant_id"),
        _big("amount_micros"),
        _moment("booked_at"),
        _text("month"),
        _text("settles", null=True),
        sa.CheckConstraint(
            "(kind = 'hold') = (settles IS NULL) AND (settles IS NULL OR settles = clip_id)",
            name="entries_settles_its_clip",
        ),
        sa.CheckConstraint("id = kind || ':' || clip_id", name="entries_derived_id"),
        sa.CheckConstraint("kind IN ('hold', 'charge', 'release')", name="entries_kind"),
        sa.CheckConstraint("amount_micros >= 0", name="entries_not_negative"),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("entries_settles", "entries", ["settles"], unique=True)


def _text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=null)


def _big(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _small(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=null)


def _date(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Date(), nullable=False)


def _flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _moment(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, _MOMENT, nullable=null)


def _json(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(), nullable=null)
