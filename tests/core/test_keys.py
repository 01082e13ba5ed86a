"""Keys: their form, their digests, and one secret's many purposes."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import keys

SOME = bytes(range(32))


@given(st.binary(min_size=32, max_size=32))
def test_every_made_key_is_well_formed_and_of_one_length(random: bytes) -> None:
    key = keys.make(random)
    assert keys.well_formed(key)
    assert key.startswith("sk-cm-")
    assert len(key) == 6 + 43 + 6
    assert set(key[6:]) <= set(string.ascii_letters + string.digits)


@given(st.lists(st.binary(min_size=32, max_size=32), unique=True, min_size=2, max_size=2))
def test_different_bytes_make_different_keys(both: list[bytes]) -> None:
    assert keys.make(both[0]) != keys.make(both[1])


def test_the_largest_number_still_fits() -> None:
    assert keys.well_formed(keys.make(b"\xff" * 32))
    assert keys.make(bytes(32))[6:-6] == "0" * 43


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_too_few_or_many_bytes_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        keys.make(bytes(length))


@given(st.integers(6, 54), st.sampled_from(string.ascii_letters + string.digits))
def test_one_changed_character_is_noticed(position: int, other: str) -> None:
    key = keys.make(SOME)
    changed = key[:position] + other + key[position + 1 :]
    assert keys.well_formed(changed) is (changed == key)


@given(st.text())
def test_arbitrary_text_is_no_key_and_never_an_error(text: str) -> None:
    assert not keys.well_formed(text)
    assert keys.shown(text) == "…"


@pytest.mark.parametrize(
    "bent",
    [
        keys.make(SOME)[:-1],
        keys.make(SOME) + "0",
        keys.make(SOME).replace("sk-cm-", "sk-xx-"),
        keys.make(SOME).replace("sk-cm-", "SK-CM-"),
        " " + keys.make(SOME)[1:],
        keys.make(SOME)[:-7] + "é" + keys.make(SOME)[-6:],
        keys.make(SOME)[:-7] + "_" + keys.make(SOME)[-6:],
        keys.make(SOME)[:-7] + "٣" + keys.make(SOME)[-6:],
    ],
)
def test_a_bent_key_is_not_well_formed(bent: str) -> None:
    assert not keys.well_formed(bent)


def test_the_checksum_covers_the_prefix_and_stays_as_it_was_issued() -> None:
    assert keys.make(SOME) == "sk-cm-003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf26uNa5"


def test_the_digest_is_hmac_sha256_by_the_rfcs_own_example() -> None:
    # RFC 4231, test case 2
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert keys.digest(b"Jefe", "what do ya want for nothing?") == expected


def test_digests_differ_by_pepper_and_by_key() -> None:
    one, other = keys.make(SOME), keys.make(SOME[::-1])
    assert keys.digest(b"pepper", one) != keys.digest(b"salt", one)
    assert keys.digest(b"pepper", one) != keys.digest(b"pepper", other)


def test_without_a_pepper_nothing_is_digested() -> None:
    with pytest.raises(ValueError, match="pepper"):
        keys.digest(b"", keys.make(SOME))


def test_a_list_shows_four_characters_of_the_secret_part() -> None:
    key = keys.make(SOME)
    assert keys.shown(key) == f"sk-cm-{key[6:10]}…"
    assert key[10:] not in keys.shown(key)


def test_derived_keys_follow_the_rfcs_own_example() -> None:
    # RFC 5869, test case 3: no salt, no info; its first block
    okm = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert keys._expand(keys._extract(b"\x0b" * 22), b"").hex() == okm


def test_each_purpose_has_a_key_of_its_own() -> None:
    purposes = ["key digests", "signed links", "sessions", "cursors"]
    derived = {keys.derive(b"one secret", purpose) for purpose in purposes}
    assert len(derived) == len(purposes)
    assert {len(key) for key in derived} == {32}
    assert keys.derive(b"one secret", "sessions") == keys.derive(b"one secret", "sessions")


@pytest.mark.parametrize(("secret", "purpose"), [(b"", "sessions"), (b"secret", "")])
def test_nothing_is_derived_from_nothing(secret: bytes, purpose: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        keys.derive(secret, purpose)
