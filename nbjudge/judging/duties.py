"""Duties: what a right function does, each judged by itself; and the points that follow."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.inside.tensors import placed
from nbjudge.judging.compare import Compared
from nbjudge.judging.findings import (
    OF_THE_PLACE,
    Finding,
    bad_manners,
    gave_nothing,
    in_words,
    wrong_device,
    wrong_gradient,
    wrong_result,
)
from nbjudge.judging.verdict import ANYWHERE, EXTREMES, GRADIENTS, MANNERS, VALUES, Duties

# Where the numbers are right to the digits that another dtype has.
_OF_ANYWHERE = (*OF_THE_PLACE, "precision")


def examine(
    exercise: Exercise,
    compared: Iterable[Compared],
    probe: Observation | None = None,
    missed: Sequence[Case] = (),
) -> tuple[Finding | None, Duties]:
    """The first thing to mend in a function, and which of its duties it met.

    Args:
        exercise: that it answers.
        compared: what it did on the cases, in their order, beside what is right.
        probe: what it did on the device probe.
        missed: cases that it did not come to, because it ran out of time.

    """
    compared = list(compared)
    everything = [*(c.case for c in compared), *missed]
    first_dtype = everything[0].facts["dtype"]
    found, failed = [], set()

    def duty_on(case):
        if case.extreme:
            return EXTREMES
        return VALUES if case.facts["dtype"] == first_dtype else ANYWHERE

    def note(finding, duty, c):
        failed.add(duty)
        if not found:
            found.append(replace(finding, at=c, described=in_words(exercise, c.case)))

    nothing, gradients_seen = 0, False
    for _, group in itertools.groupby(compared, lambda c: c.case.facts["dtype"]):
        right = []
        # Values first, of all cases: on one alone they may be right by coincidence.
        for c in group:
            duty = duty_on(c.case)
            if finding := gave_nothing(exercise, c):
                note(finding, duty, c)
                nothing += 1
                continue
            for finding in bad_manners(exercise, c):
                note(finding, MANNERS, c)
            if duty in failed and (gradients_seen or GRADIENTS in failed):
                # Once is enough.
                continue
            results = list(wrong_result(exercise, c))
            for finding in results:
                note(finding, ANYWHERE if finding.kind in _OF_ANYWHERE else duty, c)
            if not results:
                right.append(c)
        if VALUES in failed:
            # Of what is a gradient the right one is not known.
            failed.add(GRADIENTS)
        for c in right:
            gradients_seen |= bool(c.case.wrt)
            if GRADIENTS not in failed and (finding := wrong_gradient(exercise, c)):
                note(finding, GRADIENTS, c)
    if finding := probe and wrong_device(probe):
        failed.add(ANYWHERE)
        found.append(finding)
    failed.update(map(duty_on, missed))
    if missed:
        failed |= {GRADIENTS, ANYWHERE}
    if not gradients_seen:
        failed.add(GRADIENTS)
    if nothing == len(compared):
        # What never gave a result has kept no duty.
        failed.add(MANNERS)
    duties = tuple((duty, duty not in failed) for duty in _owed(everything))
    return (found[0] if found else None), duties


def _owed(cases):
    """The duties that there are on some cases."""
    yield VALUES
    if any(case.extreme for case in cases):
        yield EXTREMES
    if any(case.wrt for case in cases):
        yield GRADIENTS
    if any(placed(arg) for case in cases for arg in case.args):
        yield ANYWHERE
    yield MANNERS


def points_due(duties: Duties, worth: float, for_values: float | None) -> float:
    """Points for the duties that are met, in halves.

    Args:
        duties: of a function.
        worth: points for all of them.
        for_values: the share of right values alone; the others have equal parts of the rest. None
            gives nothing for a part.

    """
    met = dict(duties)
    if met and all(met.values()):
        return worth
    if for_values is None or not met.get(VALUES):
        return 0.0
    others = [done for duty, done in duties if duty != VALUES]
    share = for_values + (1 - for_values) * sum(others) / max(1, len(others))
    # A hair more, so that a third of three and a tenth of five are what they are on paper.
    return math.floor(2 * worth * share + 1e-9) / 2
