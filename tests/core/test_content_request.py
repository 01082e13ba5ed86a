"""What is asked of a clip's content, read from the query and the headers."""

from __future__ import annotations

import pytest

from proxy.core.content_request import ContentRequest, Variant, read_content_request
from proxy.core.request import Malformed


def ask(query: str = "", **headers: str) -> ContentRequest:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    found = read_content_request(query, raw)
    assert isinstance(found, ContentRequest), found
    return found


@pytest.mark.parametrize(
    ("query", "variant"),
    [
        ("", Variant.VIDEO),
        ("variant=video", Variant.VIDEO),
        ("variant=thumbnail&exp=1&sig=x", Variant.THUMBNAIL),
        ("variant=spritesheet&variant=spritesheet", Variant.SPRITESHEET),
        ("variants=thumbnail", Variant.VIDEO),
    ],
)
def test_the_variant_is_the_one_that_is_named(query: str, variant: Variant) -> None:
    assert ask(query).variant is variant


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("variant=", "variant"),
        ("variant=poster", "variant"),
        ("variant=VIDEO", "variant"),
        ("variant=video&variant=thumbnail", "variant"),
        ("redirect=no", "redirect"),
        ("redirect=0&redirect=1", "redirect"),
    ],
)
def test_what_reads_two_ways_or_none_is_refused(query: str, param: str) -> None:
    found = read_content_request(query, [])
    assert isinstance(found, Malformed)
    assert (found.code, found.param) == ("invalid_request", param)


def test_only_a_zero_refuses_to_be_sent_on() -> None:
    assert [ask(query).direct for query in ("", "redirect=1", "redirect=0")] == [False, False, True]


@pytest.mark.parametrize(
    ("accept", "as_link"),
    [
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/json, text/plain", True),
        ("application/json, video/mp4;q=0", True),
        ("text/plain, application/json;q=0.5", True),
        ("application/json;q=0", False),
        ("application/json; q=0.0", False),
        ("application/json, text/plain, */*", False),
        ("application/json, video/*", False),
        ("video/mp4, application/json", False),
        ("application/binary", False),
        ("application/json, application/octet-stream", False),
        ("application/jsonl", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_the_link_form_is_for_those_who_take_nothing_else(accept: str, as_link: bool) -> None:
    assert ask(accept=accept).as_link is as_link


def test_without_an_accept_header_bytes_are_meant() -> None:
    assert ask().as_link is False


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        ({}, True),
        ({"range": "bytes=0-"}, True),
        ({"range": "Bytes=0- "}, True),
        ({"range": "bytes=0-1"}, False),
        ({"range": "bytes=-5"}, False),
        ({"range": "bytes=0-", "if_range": '"x"'}, False),
        ({"if_none_match": '"x"'}, False),
        ({"if_match": '"x"'}, False),
        ({"if_modified_since": "x"}, False),
        ({"if_unmodified_since": "x"}, False),
    ],
)
def test_only_a_plain_request_is_content_with_the_whole(
    headers: dict[str, str], whole: bool
) -> None:
    assert ask(**headers).whole is whole
