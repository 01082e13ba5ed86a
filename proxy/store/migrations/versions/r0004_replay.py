"""Keys, kept answers, an SDK's repeats, and clips that are given again.

Revision 0004, after 0003.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_MOMENT = sa.DateTime(timezone=True).with_variant(sa.String(26), "sqlite")

# Added with its column, because SQLite adds no constraint to a table that is there. That the clip
# was delivered, and is the same tenant's, the audit sees: a trigger on this table would cost every
# admission a tenth of its time.
_ADD_REPLAY_OF: Final = """
    ALTER TABLE clips ADD COLUMN replay_of VARCHAR REFERENCES clips (id)
    CONSTRAINT clips_replay_of CHECK ((state = 'replayed') = (replay_of IS NOT NULL))
"""

# A clip's facts that money was reckoned from, and what it gives again.
_FROZEN_COLUMNS: Final = (
    "generation_id",
    "tenant_id",
    "model",
    "price_micros",
    "list_micros",
    "price_version",
    "accepted_at",
    "month",
    "replay_of",
)
# As before, but nothing is held for a clip that is given again.
_HOLD_FITS: Final = """
    EXISTS (SELECT 1 FROM clips WHERE id = NEW.clip_id AND tenant_id = NEW.tenant_id
            AND price_micros = NEW.amount_micros AND replay_of IS NULL)
"""
_SETTLEMENT_FITS: Final = """
    EXISTS (SELECT 1 FROM entries WHERE id = 'hold:' || NEW.clip_id
            AND tenant_id = NEW.tenant_id AND amount_micros = NEW.amount_micros)
"""
_HOLD_WORDS: Final = "a hold is for its clip''s price and tenant"
_SETTLEMENT_WORDS: Final = "a charge or release is for the whole of its clip''s hold"
_FROZEN_WORDS: Final = "a clip''s price and owner are frozen"


def upgrade() -> None:
    """Create three tables; clips learn what they give again, and the guards with them."""
    _create_keys()
    _create_answers()
    _create_joins()
    op.execute(_ADD_REPLAY_OF)
    op.drop_index("clips_listing", "clips")
    listed = ["tenant_id", "accepted_at", "id"]
    op.create_index("clips_listing", "clips", listed, **_where(sa.text("replay_of IS NULL")))
    op.add_column("generations", sa.Column("like_hash", sa.String(), nullable=True))
    recent = ["tenant_id", "accepted_at", "body_hash"]
    op.create_index("generations_recent", "generations", recent, **_where(sa.text("attempts > 0")))
    alike = ["tenant_id", "like_hash", "accepted_at"]
    op.create_index(
        "generations_alike", "generations", alike, **_where(sa.text("like_hash IS NOT NULL"))
    )
    statements = _sqlite() if op.get_bind().dialect.name == "sqlite" else _postgres()
    for statement in statements:
        op.execute(statement)


def _create_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.String(), nullable=False),
        sa.Column("mode", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("body_hash", sa.String(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        sa.PrimaryKeyConstraint("tenant_id", "mode", "key"),
    )
    op.create_index("idempotency_keys_generation", "idempotency_keys", ["generation_id"])
    op.create_index("idempotency_keys_expiry", "idempotency_keys", ["expires_at"])


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", _MOMENT, nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.PrimaryKeyConstraint("generation_id"),
    )
    op.create_index("answers_expiry", "answers", ["expires_at"])
    op.create_index("answers_age", "answers", ["stored_at", "size_bytes"])


def _create_joins() -> None:
    op.create_table(
        "joins",
        sa.Column("generation_id", sa.String(), nullable=False),
        sa.Column("retry_count", sa.Integer(), nullable=False),
        sa.Column("joined_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generations.id"]),
        sa.PrimaryKeyConstraint("generation_id", "retry_count"),
    )


def _sqlite() -> list[str]:
    return [
        "DROP TRIGGER entries_hold_fits",
        f"""CREATE TRIGGER entries_hold_fits BEFORE INSERT ON entries
            WHEN NEW.kind = 'hold' AND NOT {_HOLD_FITS}
            BEGIN SELECT RAISE(ABORT, '{_HOLD_WORDS}'); END""",
        "DROP TRIGGER clips_frozen",
        f"""CREATE TRIGGER clips_frozen BEFORE UPDATE OF {", ".join(_FROZEN_COLUMNS)} ON clips
            BEGIN SELECT RAISE(ABORT, '{_FROZEN_WORDS}'); END""",
    ]


def _postgres() -> list[str]:
    return [
        f"""CREATE OR REPLACE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              IF NEW.kind = 'hold' THEN
                IF NOT {_HOLD_FITS} THEN
                  RAISE EXCEPTION '{_HOLD_WORDS}'
                  USING ERRCODE = 'integrity_constraint_violation';
                END IF;
              ELSIF NOT {_SETTLEMENT_FITS} THEN
                RAISE EXCEPTION '{_SETTLEMENT_WORDS}'
                USING ERRCODE = 'integrity_constraint_violation';
              END IF;
              RETURN NEW;
            END $$""",
        "DROP TRIGGER clips_frozen ON clips",
        f"""CREATE TRIGGER clips_frozen BEFORE UPDATE OF {", ".join(_FROZEN_COLUMNS)} ON clips
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_thaw()""",
    ]


def _where(condition: sa.TextClause) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}
