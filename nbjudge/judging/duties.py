"""Duties: what a right function does, each judged by itself; and the points that follow."""

import math
from collections.abc import Iterable, Sequence

from nbjudge.inside.case import Case
from nbjudge.inside.tensors import placed
from nbjudge.judging.findings import OF_THE_PLACE, Finding

VALUES = "right values"
EXTREMES = "extreme cases"
GRADIENTS = "gradients"
ANYWHERE = "any dtype and device"
MANNERS = "arguments, calls and memory"

_OF_GRADIENTS = ("gradient", "no gradient")
_OF_MANNERS = ("mutation", "calls", "memory")
_GAVE_NOTHING = ("unimplemented", "raised", "timeout")
# Duty → whether it is met, in the order in which a student reads them.
Duties = tuple[tuple[str, bool], ...]


def duties(cases: Sequence[Case], missed: Sequence[Case], findings: Iterable[Finding]) -> Duties:
    """Which duties a function had, and which of them it met.

    Args:
        cases: that it was called on, in order.
        missed: those that it did not come to, because it ran out of time.
        findings: all that is wrong with it.

    """
    findings = list(findings)
    everything = [*cases, *missed]
    first = everything[0].facts["dtype"]

    def duty_on(case):
        if case.extreme:
            return EXTREMES
        return VALUES if case.facts["dtype"] == first else ANYWHERE

    def duty_of(finding):
        if finding.kind in _OF_GRADIENTS:
            return GRADIENTS
        if finding.kind in _OF_MANNERS:
            return MANNERS
        # What the device probe finds is on no case.
        if finding.at is None or finding.kind in (*OF_THE_PLACE, "precision"):
            return ANYWHERE
        return duty_on(finding.at.case)

    met = dict.fromkeys((VALUES, EXTREMES, GRADIENTS, ANYWHERE, MANNERS), True)
    if sum(finding.kind in _GAVE_NOTHING for finding in findings) == len(cases):
        # What never gave a result has kept no duty.
        met = dict.fromkeys(met, False)
    failed = {duty_of(finding) for finding in findings} | {duty_on(case) for case in missed}
    if missed:
        failed |= {GRADIENTS, ANYWHERE}
    if VALUES in failed:
        # Of what is a gradient the right one is not known.
        failed.add(GRADIENTS)
    met.update(dict.fromkeys(failed, False))
    if not any(case.extreme for case in everything):
        del met[EXTREMES]
    if not any(case.wrt for case in everything):
        del met[GRADIENTS]
    if not any(placed(arg) for case in everything for arg in case.args):
        del met[ANYWHERE]
    return tuple(met.items())


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
