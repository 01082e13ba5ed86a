"""What the database itself refuses, whoever asks: this is the ledger's last line of defence."""

from __future__ import annotations

from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from proxy.core import clip
from proxy.core.failure import Reason
from proxy.store.clips import settle
from proxy.store.database import Database
from tests.store.asks import MICROS, NOW, everything, let_in, write

DELIVERED = clip.Delivered("https://cdn.example/clip.mp4")
FAILED = clip.Failed(Reason.POLICY_AUDIO)


@pytest.fixture
def booked(database: Database) -> Database:
    """Clip 0 is charged, clip 1 released, clip 2 held."""
    let_in(database, 1, 3)
    for clip_id, event in (("video_1_0", DELIVERED), ("video_1_1", FAILED)):
        write(database, partial(settle, clip_id=clip_id, event=clip.Opened(), now=NOW))
        write(database, partial(settle, clip_id=clip_id, event=event, now=NOW))
    return database


def entry(
    kind: str, clip_id: str, micros: int = MICROS, tenant: str = "tenant_team", **changed: str
) -> str:
    values = {
        "id": f"'{kind}:{clip_id}'",
        "kind": f"'{kind}'",
        "clip_id": f"'{clip_id}'",
        "tenant_id": f"'{tenant}'",
        "amount_micros": f"{micros}",
        "booked_at": "'2026-11-22 12:00:00.000000'",
        "month": "'2026-11'",
        "settles": "NULL" if kind == "hold" else f"'{clip_id}'",
        **changed,
    }
    return f"INSERT INTO entries ({', '.join(values)}) VALUES ({', '.join(values.values())})"


REFUSED = {
    "changing an entry": "UPDATE entries SET amount_micros = 0 WHERE id = 'charge:video_1_0'",
    "changing an entry's month": "UPDATE entries SET month = '2026-10'",
    "deleting an entry": "DELETE FROM entries WHERE id = 'hold:video_1_2'",
    "deleting all entries": "DELETE FROM entries",
    "changing a price": "UPDATE prices SET micros = 0",
    "deleting a price": "DELETE FROM prices",
    "a second hold": entry("hold", "video_1_2"),
    "a second charge": entry("charge", "video_1_0"),
    "a second release": entry("release", "video_1_1"),
    "releasing what is charged": entry("release", "video_1_0"),
    "charging what is released": entry("charge", "video_1_1"),
    "charging less than the hold": entry("charge", "video_1_2", MICROS - 1),
    "charging more than the hold": entry("charge", "video_1_2", MICROS + 1),
    "charging another tenant": entry("charge", "video_1_2", tenant="tenant_rival"),
    "charging a clip that is not": entry("charge", "video_none"),
    "holding for a clip that is not": entry("hold", "video_none"),
    "a negative release": entry("release", "video_1_2", -MICROS),
    "an invented kind": entry("gift", "video_1_2"),
    "an invented id": entry("charge", "video_1_2", id="'charge:again'"),
    "a charge that settles nothing": entry("charge", "video_1_2", settles="NULL"),
    "a charge that settles another clip": entry("charge", "video_1_2", settles="'video_1_0'"),
    "thawing a clip's price": "UPDATE clips SET price_micros = 1 WHERE id = 'video_1_2'",
    "moving a clip to another tenant": "UPDATE clips SET tenant_id = 'tenant_rival'",
    "moving a clip to another budget": "UPDATE clips SET month = '2026-10'",
    "deleting a clip": "DELETE FROM clips WHERE id = 'video_1_2'",
    "deleting a generation": "DELETE FROM generations",
    "deleting a tenant": "DELETE FROM tenants WHERE id = 'tenant_team'",
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_database_refuses(booked: Database, what: str) -> None:
    before = everything(booked)
    with pytest.raises(IntegrityError):
        write(booked, lambda tx: tx.execute(text(REFUSED[what].replace(":", r"\:"))))
    assert everything(booked) == before


REPLACED = {
    "an entry": entry("charge", "video_1_0"),
    "a charge by a release": entry("release", "video_1_0"),
    "a price": "INSERT INTO prices VALUES ('other', 'veo-3.1', 1, '2025-01-01', '', '')",
}


@pytest.mark.parametrize("what", REPLACED)
@pytest.mark.parametrize("how", ["INSERT OR REPLACE", "REPLACE"])
def test_sqlites_own_way_to_replace_rows_is_refused_too(
    sqlite_database: Database, what: str, how: str
) -> None:
    let_in(sqlite_database, 1)
    write(sqlite_database, lambda tx: settle(tx, "video_1_0", clip.Opened(), NOW))
    write(sqlite_database, lambda tx: settle(tx, "video_1_0", DELIVERED, NOW))
    before = everything(sqlite_database)
    statement = REPLACED[what].replace("INSERT", how, 1).replace(":", r"\:")
    with pytest.raises(IntegrityError, match="append-only"):
        write(sqlite_database, lambda tx: tx.execute(text(statement)))
    assert everything(sqlite_database) == before


def test_postgres_own_way_to_empty_a_table_is_refused_too(postgres_database: Database) -> None:
    let_in(postgres_database, 1)
    with pytest.raises(DBAPIError, match="append-only"):
        write(postgres_database, lambda tx: tx.execute(text("TRUNCATE entries")))
