"""Jobs that are followed, what became of clips' bytes, and what a video's caller is told.

Revision 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")
_STATES = "state IN ('waiting', 'kept', 'lost', 'evicted', 'deleted')"
# A check that is null would pass.
_KNOWN = """
    state <> 'kept' OR (sha256 IS NOT NULL AND COALESCE(size_bytes, 0) > 0 AND kept_at IS NOT NULL)
"""

# SQLite's own times have no microseconds; those that stand there are taken over as they are.
_EXPECT_ON_SQLITE = """
    INSERT INTO keepings (clip_id, state, link_dies_at, tries, next_try_at, fence)
    SELECT id, 'waiting',
           datetime(substr(completed_at, 1, 19), '+1 day') || substr(completed_at, 20), 0,
           completed_at, 0
    FROM clips WHERE state = 'delivered'
"""
_EXPECT_ON_POSTGRES = """
    INSERT INTO keepings (clip_id, state, link_dies_at, tries, next_try_at, fence)
    SELECT id, 'waiting', completed_at + interval '24 hours', 0, completed_at, 0
    FROM clips WHERE state = 'delivered'
"""


def upgrade() -> None:
    """Create the two queues; clips delivered before are fetched while their links live."""
    op.add_column("generations", sa.Column("prompt", sa.String(), nullable=True))
    op.add_column("clips", sa.Column("deleted_at", _MOMENT, nullable=True))
    _create_jobs()
    _create_keepings()
    _expect_what_was_delivered()


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("clip_id", sa.String(), nullable=False),
        sa.Column("gateway", sa.String(), nullable=False),
        sa.Column("upstream_id", sa.String(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("ended_at", _MOMENT, nullable=True),
        sa.CheckConstraint("percent BETWEEN 0 AND 100", name="jobs_percent"),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"]),
        sa.PrimaryKeyConstraint("clip_id"),
    )
    op.create_index(
        "jobs_unfinished",
        "jobs",
        ["owner"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _create_keepings() -> None:
    op.create_table(
        "keepings",
        sa.Column("clip_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("link_dies_at", _MOMENT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", _MOMENT, nullable=False),
        sa.Column("trouble", sa.String(), nullable=True),
        sa.Column("owner", sa.String(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=True),
        sa.Column("kept_at", _MOMENT, nullable=True),
        sa.Column("used_at", _MOMENT, nullable=True),
        sa.CheckConstraint(_STATES, name="keepings_state"),
        sa.CheckConstraint(_KNOWN, name="keepings_kept_is_known"),
        sa.ForeignKeyConstraint(["clip_id"], ["clips.id"]),
        sa.PrimaryKeyConstraint("clip_id"),
    )
    op.create_index(
        "keepings_waiting",
        "keepings",
        ["next_try_at"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index(
        "keepings_kept",
        "keepings",
        ["kept_at"],
        sqlite_where=sa.text("state = 'kept'"),
        postgresql_where=sa.text("state = 'kept'"),
    )


def _expect_what_was_delivered() -> None:
    """A link lives 24 hours (vendor page); whether this one still does, the fetching finds out."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.execute(_EXPECT_ON_SQLITE if sqlite else _EXPECT_ON_POSTGRES)
