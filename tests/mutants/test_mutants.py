"""Each safety law is held up by a test that turns red without it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

import pytest

from tests.mutants.copies import Edit, Mutant, Runs, Unfit
from tests.mutants.table import MUTANTS, UNCHANGED


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Begins the chosen mutants ahead of their tests, unless other workers have some of them."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        made = Runs(Path(folder))
        if "PYTEST_XDIST_WORKER" not in os.environ:
            for item in request.session.items:
                mutant = item.callspec.params.get("mutant") if hasattr(item, "callspec") else None
                if isinstance(mutant, Mutant):
                    made.begin(mutant)
        yield made
        made.close()


@pytest.mark.parametrize("mutant", [UNCHANGED], ids=attrgetter("name"))
def test_every_test_that_kills_a_mutant_is_green(runs: Runs, mutant: Mutant) -> None:
    run = runs.of(mutant)
    assert run.exit_code == 0, run.output
    assert not run.red | run.broken


@pytest.mark.parametrize("mutant", MUTANTS, ids=attrgetter("name"))
def test_without_its_law_the_program_turns_a_named_test_red(runs: Runs, mutant: Mutant) -> None:
    run = runs.of(mutant)
    assert run.exit_code == 1, run.output
    assert run.broken == frozenset(), run.output
    assert run.red == frozenset(mutant.killers), run.output


def test_every_law_of_the_running_program_has_a_mutant() -> None:
    """The first law is about the tree, and `tests/test_house.py` has a breach for each rule."""
    assert {mutant.law for mutant in MUTANTS} == set(range(2, 11))


def test_no_two_mutants_have_the_same_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("text", "times"), [("b", 0), ("a a", 2)])
def test_a_mutant_that_no_longer_fits_the_program_says_so(text: str, times: int) -> None:
    with pytest.raises(Unfit, match=rf"x\.py has this text {times} times, not once:\na"):
        Edit("x.py", "a", "b").apply(text)


def test_a_mutant_that_is_no_program_is_found_out() -> None:
    with pytest.raises(SyntaxError):
        Edit("x.py", "a", "b b").apply("a")
