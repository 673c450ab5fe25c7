"""Right notebooks, mutated at random: nobody's run ends, and no point is lost without a word."""

import json

import hypothesis
import pytest
from conftest import needs_sandbox

from benchmarks import fuzz, mutants
from nbjudge.course.results import FAILED, MANUAL, Result
from nbjudge.execute_and_mark import close_graders


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory):
    yield fuzz.Fuzzer(tmp_path_factory.mktemp("fuzz"))
    close_graders()


@needs_sandbox
def test_a_hundred_mutants_come_out_as_they_must(fuzzer):
    """`python -m benchmarks.fuzz` does the same with 2,000."""
    many, wrong = fuzz.fuzz(fuzzer, 100, seed=1)
    assert len(many) >= 95
    assert not {mutant: fuzzer.fault(mutant) for mutant in wrong}


@pytest.mark.parametrize(
    ("first", "again", "said"),
    [
        (None, None, "no result"),
        (Result("m", FAILED), Result("m", FAILED), "without a reason"),
        (Result("m", FAILED, "why"), Result("m", FAILED, "why"), "refused: why"),
        (Result("m", MANUAL, points=3.0), Result("m", MANUAL, points=1.0), "and then"),
    ],
)
def test_a_fault_is_seen(first, again, said):
    """What the test above relies on."""
    nothing = json.dumps([["mark_of_utf_8", []]])
    assert said in fuzz.Fuzzer._compare(None, nothing, first, again)


def test_every_edit_can_be_made():
    """One that fails, or changes nothing at all, would test nothing."""
    cell = {"cell_type": "code", "id": "a", "source": "x = 1\ny = 2", "outputs": []}
    cell |= {"execution_count": None, "metadata": {"nbgrader": {"grade_id": "a", "points": 1}}}
    right = {"cells": [cell, {**cell, "id": "b"}], "metadata": {}, "nbformat": 4}
    right |= {"nbformat_minor": 5}
    before = mutants.build("[]", right, right).files()
    for name, edit in mutants._EDITS.items():
        made = {
            str(mutants.build(json.dumps([[name, arguments]]), right, right).files())
            for arguments in _examples(edit.drawn)
        }
        assert made - {str(before)}, name


def _examples(strategy):
    found = []

    @hypothesis.settings(max_examples=40, database=None, derandomize=True, deadline=None)
    @hypothesis.given(strategy)
    def draw(arguments):
        found.append(arguments)

    draw()
    return found
