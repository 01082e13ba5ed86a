"""What a repeated request is known by, and what the earlier one means for it."""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.catalog import Catalog
from proxy.core.clip import OPEN, State
from proxy.core.replay import (
    RETRY_WINDOW,
    Earlier,
    Meaning,
    Standing,
    Why,
    fingerprint_chat,
    fingerprint_video,
    keep_until,
    meaning,
    read_key,
    retry_count,
    wants_reuse,
)
from proxy.core.request import Malformed
from proxy.core.submission import submission
from proxy.core.video_request import Image, VideoRequest

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
FRAME = b"\xff\xd8\xff frame"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


def shuffled(value: object) -> object:
    """The same value with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(value)}
    return [shuffled(one) for one in value] if isinstance(value, list) else value


@given(st.dictionaries(st.text(), JSON))
def test_neither_blanks_nor_the_order_of_keys_nor_escapes_change_a_fingerprint(
    body: dict[str, object],
) -> None:
    plain = json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
    other = json.dumps(shuffled(body), ensure_ascii=False, indent=3)
    other_bytes = other.encode("utf-8", "surrogatepass")
    same = plain if "\\ud" in plain.decode() else other_bytes  # half a pair is no UTF-8 to send
    assert fingerprint_chat(plain) == fingerprint_chat(same)


@given(JSON, JSON)
def test_two_bodies_have_one_fingerprint_only_where_they_say_the_same(
    one: object, two: object
) -> None:
    said = [json.dumps({"x": value}, sort_keys=True) for value in (one, two)]
    prints = [fingerprint_chat(text.encode()) for text in said]
    assert (prints[0] == prints[1]) == (said[0] == said[1])


CHAT = {
    "model": "veo-3.1-fl",
    "n": 1,
    "stream": True,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "a cat"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAB"}},
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"stream": true', '"stream": false'),
        ('"n": 1', '"n": 2'),
        ("veo-3.1-fl", "veo-3.1-landscape-fl"),
        ("a cat", "a cat "),
        ("base64,AAAB", "base64,AAAC"),
        ('"n": 1', '"n": 1, "seed": 7'),
    ],
    ids=["stream", "n", "model", "a blank", "one byte of an image", "a parameter"],
)
def test_whatever_changes_what_is_bought_changes_the_fingerprint(old: str, new: str) -> None:
    said = json.dumps(CHAT)
    changed = said.replace(old, new)
    assert changed != said
    assert fingerprint_chat(changed.encode()) != fingerprint_chat(said.encode())


def test_the_order_of_images_counts() -> None:
    first, second = CHAT["messages"][0]["content"][1:]  # type: ignore[index]
    turned = {**CHAT, "messages": [{"role": "user", "content": [second, first]}]}
    straight = {**CHAT, "messages": [{"role": "user", "content": [first, second]}]}
    prints = {fingerprint_chat(json.dumps(body).encode()) for body in (turned, straight)}
    assert len(prints) == 2


def video(prompt: str = "a cat", *images: Image) -> str:
    model = Catalog.documented().models["veo-3.1-fl"]
    return fingerprint_video(submission(VideoRequest(model, "sora-2", prompt, images))[1])


def test_a_videos_fingerprint_is_that_of_its_content() -> None:
    frame, other = Image(FRAME, "image/jpeg"), Image(FRAME + b"!", "image/jpeg")
    told = [video(), video("a dog"), video("a cat", frame), video("a cat", other)]
    told += [video("a cat", frame, other), video("a cat", other, frame)]
    assert len(set(told)) == len(told)
    assert video("a cat", frame) == video("a cat", Image(FRAME, "image/jpeg"))


def test_a_video_and_a_chat_are_never_the_same_request() -> None:
    body = b'{"messages":[]}'
    prints = {fingerprint_chat(body), fingerprint_video(body), hashlib.sha256(body).hexdigest()}
    assert len(prints) == 3


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ([], None),
        ([b"a"], "a"),
        ([b" 8e03978e-40d5-43dd-bc93-6894a57f9324\t"], "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ([b'"quoted"'], '"quoted"'),
        ([b"two words, and more"], "two words, and more"),
        ([b"k" * 255], "k" * 255),
    ],
    ids=["none", "short", "with blanks around it", "quoted", "words", "the longest"],
)
def test_a_key_is_read_as_it_was_sent(values: list[bytes], key: str | None) -> None:
    headers = [(b"accept", b"*/*"), *((b"Idempotency-Key", value) for value in values)]
    assert read_key(headers) == key


@pytest.mark.parametrize(
    "values",
    [[b""], [b" \t"], [b"k" * 256], [b"caf\xc3\xa9"], [b"a\x00b"], [b"a\x7fb"], [b"a", b"a"]],
    ids=["empty", "blank", "too long", "not ASCII", "a NUL", "a DEL", "twice"],
)
def test_a_key_that_is_none_is_refused(values: list[bytes]) -> None:
    refused = read_key([(b"idempotency-key", value) for value in values])
    assert isinstance(refused, Malformed)
    assert (refused.code, refused.param) == ("invalid_request", "idempotency-key")


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([], 0),
        ([b"0"], 0),
        ([b"1"], 1),
        ([b" 2 "], 2),
        ([b"9999"], 9999),
        ([b"10000"], 0),
        ([b"-1"], 0),
        ([b"1.0"], 0),
        ([b"one"], 0),
        ([b""], 0),
        (["²".encode()], 0),
        ([b"1", b"1"], 0),
    ],
    ids=[
        *("none", "the first try", "a repeat", "with blanks", "many", "too many", "negative"),
        *("a fraction", "a word", "empty", "a digit of no ASCII", "twice"),
    ],
)
def test_the_sdks_count_is_read_where_it_is_clear(values: list[bytes], count: int) -> None:
    assert retry_count([(b"X-Stainless-Retry-Count", value) for value in values]) == count


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], False),
        ([b"off"], False),
        ([b"on"], True),
        ([b" On "], True),
        ([b"on", b"ON"], True),
        ([b"on", b"off"], None),
        ([b"yes"], None),
        ([b""], None),
    ],
    ids=["none", "off", "on", "in capitals", "twice", "both", "another word", "empty"],
)
def test_reuse_is_on_or_off(values: list[bytes], wanted: bool | None) -> None:
    said = wants_reuse([(b"X-Clipmeter-Reuse", value) for value in values])
    if wanted is None:
        assert isinstance(said, Malformed)
        assert (said.code, said.param) == ("invalid_request", "x-clipmeter-reuse")
    else:
        assert said is wanted


def test_an_answer_is_kept_as_long_as_somebody_may_ask_for_it() -> None:
    days = timedelta(hours=48)
    assert keep_until(NOW, days, keyed=True, reusable=False) == NOW + days
    assert keep_until(NOW, days, keyed=False, reusable=True) == NOW + days
    assert keep_until(NOW, days, keyed=False, reusable=False) == NOW + RETRY_WINDOW
    short = timedelta(minutes=1)
    assert keep_until(NOW, short, keyed=False, reusable=False) == NOW + short


A, G, Q, P = State.ACCEPTED, State.GENERATING, State.QUEUED, State.IN_PROGRESS
U, D, F, W = State.UNKNOWN, State.DELIVERED, State.FAILED, State.WRITTEN_OFF
KEY, RETRY, REUSE = Why.IDEMPOTENCY, Why.RETRY, Why.REUSE

NEW, JOIN, REPLAY, REMAKE = Meaning.NEW, Meaning.JOIN, Meaning.REPLAY, Meaning.REMAKE
SHOW, WAIT, UNKNOWN, GONE = Meaning.SHOW, Meaning.IN_PROGRESS, Meaning.UNKNOWN, Meaning.GONE

# States, what else is so, and what it means to: a key, an SDK's repeat, a wish for the like.
CHATS: dict[str, tuple[tuple[State, ...], str, tuple[Meaning, Meaning, Meaning]]] = {
    "just begun here": ((A,), "running here", (JOIN, JOIN, JOIN)),
    "answering here": ((G, D), "running here", (JOIN, JOIN, JOIN)),
    "its last words still to come here": ((D,), "running here playable", (JOIN, JOIN, JOIN)),
    "running elsewhere": ((G,), "running", (WAIT, WAIT, WAIT)),
    "its last words still to come": ((D,), "running playable", (WAIT, WAIT, WAIT)),
    "its process just died": ((G,), "", (WAIT, WAIT, WAIT)),
    "charged, and its process died": ((D,), "playable", (REMAKE, REMAKE, REMAKE)),
    "answered": ((D,), "answered playable", (REPLAY, REPLAY, REMAKE)),
    "answered, its bytes are gone": ((D,), "answered", (REPLAY, REPLAY, NEW)),
    "answered at too great length": ((D, D), "playable", (REMAKE, REMAKE, REMAKE)),
    "answered in part": ((D, F), "answered playable", (REPLAY, REPLAY, NEW)),
    "nothing of it is left": ((D,), "", (GONE, GONE, NEW)),
    "deleted": ((D, D), "playable deleted", (GONE, GONE, NEW)),
    "unknown": ((U,), "", (UNKNOWN, UNKNOWN, NEW)),
    "unknown in part": ((D, U), "answered playable", (UNKNOWN, UNKNOWN, NEW)),
    "given up": ((W,), "", (UNKNOWN, UNKNOWN, NEW)),
    "given up in part": ((D, W), "playable", (REMAKE, REMAKE, NEW)),
    "refused for good": ((F,), "answered", (REPLAY, REPLAY, NEW)),
    "unknown, and found to have failed": ((F,), "", (GONE, NEW, NEW)),
}
VIDEOS: dict[str, tuple[tuple[State, ...], str, tuple[Meaning, Meaning, Meaning]]] = {
    "being submitted here": ((A,), "running here", (JOIN, JOIN, JOIN)),
    "being submitted elsewhere": ((A,), "running", (WAIT, WAIT, WAIT)),
    "its process just died": ((A,), "", (WAIT, WAIT, WAIT)),
    "queued": ((Q,), "running", (SHOW, SHOW, SHOW)),
    "queued, and not yet answered": ((Q,), "running here", (SHOW, SHOW, SHOW)),
    "rendering": ((P,), "", (SHOW, SHOW, SHOW)),
    "delivered": ((D,), "playable", (SHOW, SHOW, SHOW)),
    "delivered, its bytes are gone": ((D,), "", (SHOW, SHOW, NEW)),
    "deleted": ((D,), "deleted", (GONE, GONE, NEW)),
    "unknown": ((U,), "", (UNKNOWN, UNKNOWN, NEW)),
    "given up": ((W,), "", (UNKNOWN, UNKNOWN, NEW)),
    "refused here just now": ((F,), "here", (JOIN, JOIN, JOIN)),
    "refused for good": ((F,), "answered", (REPLAY, REPLAY, NEW)),
    "failed": ((F,), "", (SHOW, NEW, NEW)),
    "failed and deleted": ((F,), "deleted", (GONE, NEW, NEW)),
}


def standing(mode: str, states: tuple[State, ...], words: str) -> Standing:
    return Standing(mode, states, **dict.fromkeys(words.split(), True))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "what"),
    [*(("chat", what) for what in CHATS), *(("video", what) for what in VIDEOS)],
    ids=" ".join,
)
def test_what_an_earlier_request_means(mode: str, what: str) -> None:
    states, words, told = (CHATS if mode == "chat" else VIDEOS)[what]
    found = standing(mode, states, words)
    assert tuple(meaning(Earlier("gen_1", why), found) for why in (KEY, RETRY, REUSE)) == told


STANDINGS = [
    Standing(mode, states, *flags)
    for mode in ("chat", "video")
    for count in ((1, 2) if mode == "chat" else (1,))
    for states in itertools.combinations_with_replacement(
        [state for state in State if state is not State.REPLAYED], count
    )
    for flags in itertools.product((False, True), repeat=5)
]


def test_another_body_is_another_request_however_the_earlier_one_stands() -> None:
    earlier = Earlier("gen_1", KEY, same_body=False)
    assert {meaning(earlier, each) for each in STANDINGS} == {Meaning.REUSED}


def test_nothing_that_may_have_been_bought_is_bought_again_for_a_key_or_a_repeat() -> None:
    for each in STANDINGS:
        for why in (KEY, RETRY):
            if meaning(Earlier("gen_1", why), each) is NEW:
                assert {*each.states} <= {F}
                assert why is RETRY


def test_a_like_is_given_only_where_all_of_it_is_there_or_still_to_come() -> None:
    for each in STANDINGS:
        given_ = meaning(Earlier("gen_1", REUSE), each)
        assert given_ in {JOIN, WAIT, SHOW, REMAKE, NEW}
        if given_ is REMAKE or (given_ is SHOW and not OPEN & {*each.states}):
            assert {*each.states} == {D}
            assert each.playable
            assert not each.deleted
