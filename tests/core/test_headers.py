from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.headers import (
    UpstreamIds,
    backward,
    clean_value,
    forward,
    looped,
    parse_http_date,
    parse_retry_after,
    upstream_ids,
    valid_request_id,
    value_of,
)

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
OURS = [("accept-encoding", "identity"), ("via", "1.1 clipmeter")]

RAW = st.lists(
    st.tuples(
        st.sampled_from(
            [
                b"Content-Type",
                b"ACCEPT",
                b"Connection",
                b"X-Request-Id",
                b"Transfer-Encoding",
                b"Content-Length",
                b"Set-Cookie",
                b"X-Any",
                b"authorization",
            ]
        )
        | st.binary(max_size=12),
        st.sampled_from([b"close", b"x-any, content-type", b"chunked", b"5", b"text/plain"])
        | st.binary(max_size=20),
    ),
    max_size=10,
)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Cookie",
        "Host",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Real-IP",
        "Accept-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Content-Length",
        "Upgrade",
        "Expect",
        "User-Agent",
        "X-Stainless-Os",
        "X-Stainless-Retry-Count",
        "Idempotency-Key",
        "X-Clipmeter-Reuse",
        "X-Request-Id",
        "OpenAI-Organization",
        "Via",
        "Range",
        "If-None-Match",
    ],
)
def test_nothing_about_the_caller_reaches_the_vendor(name: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert forward([(spelled.encode(), b"secret")]) == OURS


def test_the_content_type_and_accept_reach_the_vendor_once_and_clean() -> None:
    headers = [
        (b"Content-Type", b" application/json "),
        (b"content-type", b"text/plain"),
        (b"ACCEPT", b"text/event-stream"),
    ]
    assert forward(headers) == [
        ("content-type", "application/json"),
        ("accept", "text/event-stream"),
        *OURS,
    ]


@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\nb", b"a\x00", b"caf\xc3\xa9", b"", b"  "])
def test_a_value_that_could_begin_another_header_does_not_cross(value: bytes) -> None:
    assert forward([(b"accept", value)]) == OURS


def test_what_connection_names_stays_with_the_hop() -> None:
    for connection in (b"accept", b"close, ACCEPT", b" Accept ,x"):
        assert forward([(b"Connection", connection), (b"Accept", b"*/*")]) == OURS
        answer = [(b"connection", connection), (b"Accept", b"x"), (b"Etag", b"y")]
        assert backward(answer) == [(b"etag", b"y")]


@given(RAW)
def test_only_four_names_ever_reach_the_vendor(raw: list[tuple[bytes, bytes]]) -> None:
    crossing = forward(raw)
    assert {name for name, _ in crossing} <= {"content-type", "accept", "accept-encoding", "via"}
    assert len({name for name, _ in crossing}) == len(crossing)
    assert all(clean_value(value) == value for _, value in crossing)


@pytest.mark.parametrize(
    ("via", "expected"),
    [
        ("1.1 clipmeter", True),
        ("1.0 fred, 1.1 Clipmeter", False),
        ("1.0 fred, 1.1 clipmeter (Clipmeter 1)", True),
        ("HTTP/1.1 clipmeter", True),
        ("1.1 clipmeter2", False),
        ("1.1 x (by, 1.1 clipmeter)", False),
        ("clipmeter", False),
        ("", False),
        (",,", False),
    ],
)
def test_a_loop_is_seen_by_our_name_in_via(via: str, expected: bool) -> None:
    assert looped([(b"VIA", via.encode())]) is expected
    assert looped([(b"via", b"1.1 fred"), (b"via", via.encode())]) is expected


def test_what_we_send_is_what_we_see() -> None:
    sent = [(name.encode(), value.encode()) for name, value in forward([])]
    assert looped(sent)
    assert not looped([(b"x-via", b"1.1 clipmeter")])


GOLDEN = [
    (b"Date", b"Sun, 22 Nov 2026 12:00:00 GMT"),
    (b"Server", b"nginx"),
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"Content-Encoding", b"br"),
    (b"Connection", b"keep-alive, x-hop"),
    (b"Keep-Alive", b"timeout=5"),
    (b"X-Hop", b"1"),
    (b"Transfer-Encoding", b"chunked"),
    (b"Content-Length", b"12"),
    (b"Set-Cookie", b"a=b"),
    (b"X-Request-Id", b"origin"),
    (b"X-Shellapi-Request-Id", b"2026"),
    (b"X-Oneapi-Request-Id", b"one"),
    (b"Access-Control-Allow-Origin", b"*"),
    (b"X-Accel-Redirect", b"/etc/passwd"),
    (b"X-Clipmeter-Clips", b"video_fake"),
    (b"X-Upstream-Request-Id", b"fake"),
    (b"Retry-After", b"9999"),
    (b"X-Should-Retry", b"true"),
    (b"Location", b"https://elsewhere.example"),
    (b"WWW-Authenticate", b"Basic"),
    (b"Strict-Transport-Security", b"max-age=1"),
    (b"Alt-Svc", b'h3=":443"'),
    (b"Bad Name", b"x"),
    (b"X-Odd", b"a\r\nb: c"),
]


def test_the_golden_answer_loses_what_is_not_the_callers() -> None:
    assert backward(GOLDEN) == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"content-encoding", b"br"),
        (b"x-shellapi-request-id", b"2026"),
        (b"x-oneapi-request-id", b"one"),
    ]


def test_a_stream_is_kept_from_being_buffered_or_compressed() -> None:
    assert backward([*GOLDEN, (b"Expires", b"0")], streamed=True) == [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"content-encoding", b"br"),
        (b"x-shellapi-request-id", b"2026"),
        (b"x-oneapi-request-id", b"one"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
    ]


def test_a_length_crosses_only_when_nothing_else_frames_the_body() -> None:
    length = (b"Content-Length", b"12")
    assert backward([length]) == [(b"content-length", b"12")]
    assert backward([length, (b"transfer-encoding", b"chunked")]) == []
    assert backward([length], streamed=True)[0][0] == b"cache-control"


@given(RAW, st.booleans())
def test_no_answer_brings_a_hop_or_a_second_line(
    raw: list[tuple[bytes, bytes]], streamed: bool
) -> None:
    for name, value in backward(raw, streamed=streamed):
        assert name == name.lower()
        assert name not in {b"connection", b"transfer-encoding", b"set-cookie", b"x-request-id"}
        assert not set(name + value) & set(b"\r\n\x00")
        assert clean_value(value) is not None


def test_the_vendors_ids_are_told_apart() -> None:
    assert upstream_ids(GOLDEN) == UpstreamIds("2026", "origin", "one")
    assert upstream_ids([]) == UpstreamIds(None, None, None)
    odd = [(b"x-request-id", b"a\nb"), (b"x-request-id", b"fine"), (b"x-oneapi-request-id", b"")]
    assert upstream_ids(odd) == UpstreamIds(None, "fine", None)
    long = upstream_ids([(b"x-shellapi-request-id", b"i" * 9000)])
    assert long.request_id == "i" * 200


def test_the_first_clean_value_of_a_header_counts() -> None:
    headers = [(b"A", b"\x01"), (b"a", b" one "), (b"A", b"two")]
    assert value_of(headers, b"a") == "one"
    assert value_of(headers, b"b") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("req_12345678", True),
        ("a-b_C0123", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("short", False),
        ("has space", False),
        ("line\nbreak1", False),
        ("trailing1\n", False),
        ("ümlautümlaut", False),
        ("", False),
        (None, False),
    ],
)
def test_a_callers_request_id_is_taken_only_when_it_is_plain(
    value: str | None, expected: bool
) -> None:
    assert valid_request_id(value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7),
        ("0", 0),
        (" 120 ", 120),
        ("121", 120),
        ("99999999999999999999999999", 120),
        (b"8", 8),
        ("-5", None),
        ("1e9", None),
        ("1.5", None),
        ("junk", None),
        ("", None),
        (None, None),
        ("٣", None),
        ("7\r\nX: y", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("Sun, 22 Nov 2027 12:00:00 GMT", 120),
        ("Sunday, 22-Nov-26 12:00:30 GMT", 30),
        ("Sun Nov 22 12:00:30 2026", 30),
        ("Sun, 22 Nov 2026 12:00:30 CET", None),
        ("Sun, 32 Nov 2026 12:00:30 GMT", None),
        ("Sun, 22 Nox 2026 12:00:30 GMT", None),
        ("Sun, 22 Nov 2026 25:00:30 GMT", None),
        ("Sun, 22 Nov 0000 12:00:30 GMT", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date_and_never_more_than_two_minutes(
    value: str | bytes | None, expected: int | None
) -> None:
    assert parse_retry_after(value, NOW) == expected


def test_a_wait_is_rounded_up() -> None:
    almost = NOW + timedelta(microseconds=1)
    assert parse_retry_after("Sun, 22 Nov 2026 12:00:30 GMT", almost) == 30
    assert parse_retry_after("Sun, 22 Nov 2026 12:00:30 GMT", NOW) == 30


@given(st.text(max_size=40) | st.binary(max_size=40))
def test_any_retry_after_is_read(value: str | bytes) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= 120


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001
def test_a_date_is_read_as_it_is_written(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert parse_http_date(format_datetime(moment, usegmt=True), NOW) == moment


@pytest.mark.parametrize(
    ("text", "year"), [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999), ("00", 2000)]
)
def test_a_two_digit_year_is_at_most_fifty_years_ahead(text: str, year: int) -> None:
    found = parse_http_date(f"Sunday, 06-Nov-{text} 08:49:37 GMT", NOW)
    assert found == datetime(year, 11, 6, 8, 49, 37, tzinfo=UTC)


def test_a_leap_second_is_a_moment_too() -> None:
    found = parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW)
    assert found == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ("plain", "plain"),
        (b"\t padded ", "padded"),
        ("", ""),
        ("a b", "a b"),
        ("a\tb", None),
        ("a\rb", None),
        ("a\nb", None),
        ("a\x00b", None),
        ("a\x7fb", None),
        ("é", None),
        (b"\xe8", None),
        ("名", None),
    ],
)
def test_a_clean_value_is_visible_ascii(value: bytes | str, clean: str | None) -> None:
    assert clean_value(value) == clean
