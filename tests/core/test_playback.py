"""Signed links: good for what they grant and for as long, and for nothing else."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.playback import (
    Disposition,
    Playback,
    Refused,
    content_disposition,
    key_id,
    sign,
    verify,
)

OLD, NEW, NEXT = (bytes([each]) * 32 for each in (1, 2, 3))
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = 3_600
GRANT = Playback("video_a", "tenant_a", NOW + timedelta(seconds=HOUR))
LINK = sign(GRANT, [NEW])


def check(
    query: str = LINK, clip_id: str = "video_a", now: datetime = NOW, ttl: int = HOUR
) -> Playback | Refused:
    return verify(clip_id, query, [NEW, OLD], now, ttl)


def test_a_link_grants_what_was_signed() -> None:
    assert check() == GRANT
    saved = replace(GRANT, disposition=Disposition.ATTACHMENT)
    assert check(sign(saved, [NEW])) == saved


def test_a_link_is_good_again_and_again() -> None:
    assert [check(), check(), check(now=NOW + timedelta(minutes=59))] == [GRANT] * 3


def test_a_link_is_the_same_wherever_it_is_made() -> None:
    signature = "IloHy3UK1jqOYhrPinfGcSA6f08MqjetqtC35fgV8Lo"
    assert f"exp=1795352400&kid=92b6ef07&for=tenant_a&as=inline&sig={signature}" == LINK


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (HOUR - 1, GRANT),
        (HOUR - 0.001, GRANT),
        (HOUR, Refused.EXPIRED),
        (HOUR + 1, Refused.EXPIRED),
        (HOUR * 10**4, Refused.EXPIRED),
        (-0.5, Refused.TOO_LONG),
        (-HOUR, Refused.TOO_LONG),
    ],
)
def test_a_link_lives_to_the_second(seconds: float, found: Playback | Refused) -> None:
    assert check(now=NOW + timedelta(seconds=seconds)) == found


def test_a_link_that_claims_too_long_a_life_is_dead() -> None:
    assert check(ttl=HOUR - 1) is Refused.TOO_LONG


def test_a_fraction_of_a_second_is_not_granted() -> None:
    link = sign(
        replace(GRANT, expires_at=GRANT.expires_at + timedelta(microseconds=900_000)), [NEW]
    )
    assert check(link) == GRANT


@pytest.mark.parametrize("position", range(len(LINK)))
def test_every_changed_character_kills_the_link(position: int) -> None:
    for other in "a0_%" + chr(ord(LINK[position]) ^ 1):
        changed = LINK[:position] + other + LINK[position + 1 :]
        if changed != LINK:
            assert isinstance(check(changed), Refused)


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": "1795352401"},
        {"exp": "01795352400"},
        {"exp": "+1795352400"},
        {"exp": " 1795352400"},
        {"exp": "1795352400.0"},
        {"exp": "١٧٩٥٣٥٢٤٠٠"},
        {"exp": "9" * 1_000},
        {"for": "tenant_b"},
        {"for": "tenant_"},
        {"as": "attachment"},
        {"sig": "A" * 43},
        {"sig": ""},
        {"sig": "é"},
        {"sig": "\ud800"},
    ],
    ids=repr,
)
def test_a_changed_field_is_a_forgery(changes: dict[str, str]) -> None:
    link = urlencode({**dict(parse_qsl(LINK)), **changes}, errors="surrogatepass")
    found = check(link)
    assert found in {Refused.FORGED, Refused.MALFORMED}


def test_a_link_to_one_clip_is_none_to_another() -> None:
    assert check(clip_id="video_b") is Refused.FORGED
    assert check(clip_id="video_\ud800") is Refused.FORGED


def test_fields_cannot_lend_each_other_characters() -> None:
    link = sign(Playback("video_ab", "c", GRANT.expires_at), [NEW])
    moved = link.replace("for=c", "for=bc")
    assert check(moved, clip_id="video_a") is Refused.FORGED


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sig=x",
        LINK.replace("&as=inline", ""),
        LINK + "&exp=1795352400",
        LINK + "&sig=x",
        LINK + "&for=",
        "&" * 3_000 + LINK,
        "\x00",
        "%",
    ],
    ids=lambda query: repr(query[:9] + query[-30:]),
)
def test_a_link_in_pieces_is_malformed_unless_all_is_there_once(query: str) -> None:
    assert check(query) is Refused.MALFORMED


def test_what_others_add_to_a_link_changes_nothing() -> None:
    assert check(LINK + "&utm_source=mail&t=12") == GRANT
    assert check("x=1&" + "&".join(reversed(LINK.split("&")))) == GRANT


def test_links_of_both_live_keys_are_good_and_of_no_other() -> None:
    assert check(sign(GRANT, [OLD])) == GRANT
    assert check(sign(GRANT, [NEW, OLD])) == GRANT
    assert check(sign(GRANT, [NEXT, NEW])) is Refused.UNKNOWN_KEY
    rotated = verify("video_a", sign(GRANT, [OLD]), [NEXT, NEW], NOW, HOUR)
    assert rotated is Refused.UNKNOWN_KEY


def test_another_keys_name_on_a_link_does_not_help() -> None:
    link = sign(GRANT, [NEXT]).replace(key_id(NEXT), key_id(NEW))
    assert check(link) is Refused.FORGED


def test_whatever_changes_in_the_tenants_word_ends_its_links() -> None:
    before = sign(replace(GRANT, tenant="tenant_a.1"), [NEW])
    assert check(before.replace("tenant_a.1", "tenant_a.2")) is Refused.FORGED


@pytest.mark.parametrize(
    "keys",
    [[], [NEW, OLD, NEXT], [b""], [b"x" * 31], [NEW, b"short"]],
    ids=lambda keys: str([len(key) for key in keys]),
)
def test_keys_are_one_or_two_and_long(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="keys of at least 32 bytes"):
        sign(GRANT, keys)
    with pytest.raises(ValueError, match="keys of at least 32 bytes"):
        verify("video_a", LINK, keys, NOW, HOUR)


_TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(_TEXT, _TEXT, st.integers(1, HOUR), st.sampled_from(Disposition), st.booleans())
def test_whatever_is_granted_is_read_back(
    clip_id: str, tenant: str, seconds: int, disposition: Disposition, former: bool
) -> None:
    grant = Playback(clip_id, tenant, NOW + timedelta(seconds=seconds), disposition)
    link = sign(grant, [OLD if former else NEW])
    assert link.isascii()
    assert check(link, clip_id) == grant


@given(st.text(max_size=200), st.text(max_size=20))
def test_any_text_is_a_refusal(query: str, clip_id: str) -> None:
    assert isinstance(check(query, clip_id), Refused)


def test_a_keys_name_does_not_tell_the_key() -> None:
    assert len({key_id(key) for key in (OLD, NEW, NEXT)}) == 3
    assert all(len(key_id(key)) == 8 for key in (OLD, NEW, NEXT))
    assert set(key_id(NEW)) <= set(string.hexdigits)


@pytest.mark.parametrize(
    ("disposition", "clip_id", "value"),
    [
        (Disposition.INLINE, "video_ab2", 'inline; filename="video_ab2.mp4"'),
        (Disposition.ATTACHMENT, "video_ab2", 'attachment; filename="video_ab2.mp4"'),
        (Disposition.INLINE, 'a"\r\nb/../é', 'inline; filename="ab.mp4"'),
        (Disposition.INLINE, "…", 'inline; filename="clip.mp4"'),
    ],
)
def test_a_file_name_is_made_of_harmless_characters(
    disposition: Disposition, clip_id: str, value: str
) -> None:
    assert content_disposition(disposition, clip_id) == value


def test_a_picture_is_saved_under_its_own_suffix() -> None:
    value = content_disposition(Disposition.INLINE, "video_a", "webp")
    assert value == 'inline; filename="video_a.webp"'
