"""What the database itself refuses: changed entries and prices, and settlements out of order.

Revision 0002, after 0001.
"""

from __future__ import annotations

from typing import Final

from alembic import op

revision = "0002"
down_revision = "0001"

# A clip's facts that money was reckoned from.
FROZEN_COLUMNS: Final = (
    "generation_id",
    "tenant_id",
    "model",
    "price_micros",
    "list_micros",
    "price_version",
    "accepted_at",
    "month",
)

_HOLD_FITS: Final = """
    EXISTS (SELECT 1 FROM clips WHERE id = NEW.clip_id
            AND tenant_id = NEW.tenant_id AND price_micros = NEW.amount_micros)
"""
_SETTLEMENT_FITS: Final = """
    EXISTS (SELECT 1 FROM entries WHERE id = 'hold:' || NEW.clip_id
            AND tenant_id = NEW.tenant_id AND amount_micros = NEW.amount_micros)
"""
# INSERT OR REPLACE deletes without asking SQLite's delete triggers.
_NO_REPLACE: Final = (
    """CREATE TRIGGER entries_no_replace BEFORE INSERT ON entries
       WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id OR settles = NEW.settles)
       BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END""",
    """CREATE TRIGGER prices_no_replace BEFORE INSERT ON prices
       WHEN EXISTS (SELECT 1 FROM prices WHERE version = NEW.version
                    OR (model = NEW.model AND valid_from = NEW.valid_from))
       BEGIN SELECT RAISE(ABORT, 'prices are append-only'); END""",
)
_HOLD_WORDS: Final = "a hold is for its clip''s price and tenant"
_SETTLEMENT_WORDS: Final = "a charge or release is for the whole of its clip''s hold"


def upgrade() -> None:
    """Create the triggers."""
    statements = _sqlite() if op.get_bind().dialect.name == "sqlite" else _postgres()
    for statement in statements:
        op.execute(statement)


def _sqlite() -> list[str]:
    return [
        *(
            f"""CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
                BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"""
            for table in ("entries", "prices")
            for verb in ("UPDATE", "DELETE")
        ),
        *_NO_REPLACE,
        f"""CREATE TRIGGER entries_hold_fits BEFORE INSERT ON entries
            WHEN NEW.kind = 'hold' AND NOT {_HOLD_FITS}
            BEGIN SELECT RAISE(ABORT, '{_HOLD_WORDS}'); END""",
        f"""CREATE TRIGGER entries_settlement_fits BEFORE INSERT ON entries
            WHEN NEW.kind <> 'hold' AND NOT {_SETTLEMENT_FITS}
            BEGIN SELECT RAISE(ABORT, '{_SETTLEMENT_WORDS}'); END""",
        f"""CREATE TRIGGER clips_frozen BEFORE UPDATE OF {", ".join(FROZEN_COLUMNS)} ON clips
            BEGIN SELECT RAISE(ABORT, 'a clip''s price and owner are frozen'); END""",
    ]


def _postgres() -> list[str]:
    return [
        """CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION '% are append-only', TG_TABLE_NAME
                 USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        *(
            f"""CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"""
            for table in ("entries", "prices")
        ),
        f"""CREATE FUNCTION check_entry() RETURNS trigger LANGUAGE plpgsql AS $$
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
        """CREATE TRIGGER entries_fit BEFORE INSERT ON entries
           FOR EACH ROW EXECUTE FUNCTION check_entry()""",
        """CREATE FUNCTION refuse_thaw() RETURNS trigger LANGUAGE plpgsql AS $$
           BEGIN RAISE EXCEPTION 'a clip''s price and owner are frozen'
                 USING ERRCODE = 'integrity_constraint_violation'; END $$""",
        f"""CREATE TRIGGER clips_frozen BEFORE UPDATE OF {", ".join(FROZEN_COLUMNS)} ON clips
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_thaw()""",
    ]
