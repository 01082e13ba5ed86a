"""Words read from prompts, and rules that are taken by requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sandbox.faults import Faults, Operation, Switchboard, from_prompt, read_rule

NAMES = ("api", "vip", "b")


def rule(**given: object) -> Switchboard:
    board = Switchboard()
    board.put(read_rule(given, NAMES))
    return board


def test_words_are_read_with_their_arguments() -> None:
    faults = from_prompt("A cat [[stall 0.5 300]] in [[ cut   7 ]] the sky [[english]]", "api")
    assert faults.number("stall", "seconds") == 0.5
    assert faults.whole("stall", "bytes") == 300
    assert faults.whole("cut", "bytes") == 7
    assert "english" in faults
    assert "choices" not in faults


def test_absent_faults_give_the_default() -> None:
    assert Faults().number("stall", "seconds", 3.5) == 3.5
    assert Faults().whole("cut", "bytes") == -1
    assert Faults().word("link", "form", "click") == "click"


@pytest.mark.parametrize("prompt", ["[cut 3]", "[[Cut 3]]", "[[ ]]", "[[]]", "[[a b", "[[画]]", ""])
def test_brackets_that_are_no_words_are_part_of_the_prompt(prompt: str) -> None:
    assert "cut" not in from_prompt(prompt, "api")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("[[cutt 3]]", r"\[\[cutt\]\] is not a word"),
        ("[[refuse]]", "not a word"),
        ("[[cut]]", "cut needs bytes"),
        ("[[cut many]]", "bytes must be a number"),
        ("[[cut -5]]", "from 0 to"),
        ("[[deliver 9]]", "from 0 to 4"),
        ("[[gateway cf]]", "one of api, vip, b"),
        ("[[gateway b]] [[status 99]]", "from 400 to 599"),
        ("[[english please]]", "fewer arguments"),
    ],
)
def test_a_misspelt_word_is_an_error_at_every_gateway(prompt: str, reason: str) -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match=reason):
            from_prompt(prompt, name)


@given(st.text(), st.sampled_from(NAMES))
def test_any_prompt_is_read_or_refused_with_words(prompt: str, gateway: str) -> None:
    reason = ""
    try:
        faults = from_prompt(prompt, gateway)
    except ValueError as wrong:
        faults, reason = Faults(), str(wrong)
    assert "gateway" not in faults
    assert not reason or "[[" in prompt


def test_an_earlier_word_wins() -> None:
    assert from_prompt("[[cut 1]] [[cut 2]]", "api").whole("cut", "bytes") == 1
    both = from_prompt("[[cut 1]]", "api") + from_prompt("[[cut 2]] [[bom]]", "api")
    assert (both.whole("cut", "bytes"), "bom" in both) == (1, True)


def test_a_rule_covers_its_gateway_and_operation() -> None:
    board = rule(gateway="vip", fault="html", on="poll")
    assert "html" in board.take("vip", Operation.POLL)
    assert "html" not in board.take("api", Operation.POLL)
    assert "html" not in board.take("vip", Operation.SUBMIT)
    everywhere = rule(fault="html", on="any")
    assert all("html" in everywhere.take("b", operation) for operation in Operation)


def test_a_rule_is_used_up_only_by_requests_it_bends() -> None:
    board = rule(gateway="api", fault="html", times=1)
    assert "html" not in board.take("vip", Operation.SUBMIT)
    assert "html" not in board.take("api", Operation.LINK)
    assert "html" not in board.take("api", None)
    assert "html" in board.take("api", Operation.SUBMIT)
    assert board.rules == []


def test_a_reset_on_accept_is_taken_by_connections_only() -> None:
    board = rule(gateway="api", fault="reset-before", times=1)
    assert "reset-before" not in board.take("api", Operation.SUBMIT)
    assert "reset-before" in board.take("api", None)
    assert "reset-before" not in board.take("api", None)


def test_a_newer_rule_wins_over_one_for_all() -> None:
    board = rule(fault="status", status=500)
    board.put(read_rule({"gateway": "api", "fault": "status", "status": 503}, NAMES))
    assert board.take("api", Operation.SUBMIT).whole("status", "status") == 503
    assert board.take("b", Operation.SUBMIT).whole("status", "status") == 500


def test_rules_have_a_limit() -> None:
    board = Switchboard()
    rules = [
        read_rule({"fault": fault, "gateway": name, "on": on.value}, NAMES)
        for fault in ("bom", "crlf", "ids", "ping", "html", "junk", "reset", "split", "silent")
        for name in NAMES
        for on in Operation
    ]
    for one in rules * 2:
        board.put(one)
    assert len(board.rules) == len(rules)
    board.rules *= 7
    with pytest.raises(ValueError, match="1000 rules"):
        board.put(read_rule({"fault": "gzip"}, NAMES))


def test_a_shown_rule_can_be_set_again() -> None:
    board = rule(gateway="b", fault="stall", seconds=1.5, times=3, on="link")
    shown = board.rules[0].as_json()
    assert shown == {
        "gateway": "b",
        "fault": "stall",
        "seconds": 1.5,
        "bytes": -1,
        "on": "link",
        "times": 3,
    }
    assert read_rule(shown, NAMES) == board.rules[0]
