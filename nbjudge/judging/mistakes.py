"""Which mistake explains what was seen: one on record, or a small change that nobody recorded."""

import functools
import itertools
from dataclasses import dataclass, replace

from nbjudge.inside.observe import Observation
from nbjudge.inside.tensors import tensors
from nbjudge.judging.compare import agree
from nbjudge.judging.findings import Finding
from nbjudge.judging.generic import changes_of_arguments, changes_of_result
from nbjudge.judging.sheet import Observed, Sheet
from nbjudge.judging.terms import explain_by_terms

# A small change is believed when it explains so many cases on which it changes anything.
EVIDENCE = 3


@dataclass(frozen=True)
class Explanation:
    """A mistake that gives on every case what was seen there.

    Args:
        name: as the report counts it.
        sentence: what the student reads; may hold `{got}` and `{expected}`.

    """

    name: str
    sentence: str


def explain(sheet: Sheet, observed: Observed, finding: Finding) -> Explanation | None:
    """The first mistake that agrees with the student's observations on every case.

    Only cases in the dtype of the failing one count: where a wrong answer under- or overflows, it
    does so differently in each dtype. An agreement with gradients is worth more than one without.
    """
    if finding.at is None or finding.kind in ("unimplemented", "timeout"):
        return None
    dtype = finding.at.case.facts["dtype"]
    pairs = [(case, seen) for case, seen in observed if case.facts["dtype"] == dtype]
    cases = tuple(case for case, _ in pairs)
    if found := _recorded(sheet, pairs, finding.at.rtol):
        return found
    if finding.kind in _OF_MANNERS:
        return None
    if finding.kind == "gradient":
        return _detached(sheet, cases, pairs, finding.at.rtol)
    # The failing case first: most changes differ from the student's there already.
    pairs = sorted(pairs, key=lambda pair: pair[0] is not finding.at.case)
    if sheet.exercise.compare:
        return (
            _changed(sheet, pairs, finding)
            # A shape has been explained by its axes.
            or (finding.kind != "shape" and _edited(sheet, cases, pairs, finding))
            or _twice(sheet, pairs, finding)
        )
    return _edited(sheet, cases, pairs, finding)


def _recorded(sheet, pairs, rtol):
    misconceptions = sheet.exercise.misconceptions
    values_agree = functools.partial(agree, rtol=rtol, with_gradients=False)
    right, wrong = sheet.right, sheet.wrong
    # Each wrong answer runs until the first case on which it differs from the student's.
    for m in misconceptions:
        if all(agree(seen, wrong(m, case), rtol) for case, seen in pairs):
            return Explanation(m.name, m.sentence)
    for m in misconceptions:
        same_values = all(values_agree(seen, wrong(m, case)) for case, seen in pairs)
        if same_values and not all(values_agree(wrong(m, case), right(case)) for case, _ in pairs):
            return Explanation(m.name, m.sentence)
    return None


def _changed(sheet, pairs, finding):
    """One small change of the right result or of an argument, or terms that enter otherwise."""
    exercise, at = sheet.exercise, finding.at
    of_result = changes_of_result(exercise, at.case, at.right)
    for change in itertools.chain(of_result, changes_of_arguments(exercise, at.case, at.right)):
        if _explains(change.predict, pairs, sheet.right, at.rtol):
            return Explanation(change.name, change.sentence)
    for terms in exercise.terms:
        if found := explain_by_terms(terms, sheet.compared(pairs)):
            return Explanation(*found)
    return None


def _edited(sheet, cases, pairs, finding):
    """One edit of the right answer's code."""
    edits, rtol = sheet.edits(cases), finding.at.rtol
    (first, seen), *_ = pairs
    for edit, outcome in zip(edits, sheet.edited(edits, first), strict=True):
        # Nearly all are others on the first case already.
        if not same_values(seen, outcome, rtol):
            continue

        def predict(case, _, edit=edit):
            return sheet.edited([edit], case)[0]

        if _explains(predict, pairs, sheet.right, rtol):
            said = f"Your result is what comes out {edit.said}: {{got}} for {{expected}}."
            return Explanation(edit.said, said)
    return None


def _twice(sheet, pairs, finding):
    """A mistake on record and a small change of its result: two mistakes at once."""
    exercise, at = sheet.exercise, finding.at
    # Of a part of several results, two mistakes at once are too many to look for.
    changes = [c for c in changes_of_result(exercise, at.case, at.right) if c.whole]
    for m, change in itertools.product(exercise.misconceptions, changes):

        def both(case, _, m=m, change=change):
            return change.predict(case, sheet.wrong(m, case))

        if _explains(both, pairs, sheet.right, at.rtol):
            said = f"Two mistakes at once: {m.name}, and {change.name}: {{got}} for {{expected}}."
            return Explanation(f"{m.name}; {change.name}", said)
    return None


def _detached(sheet, cases, pairs, rtol):
    """A step of the right answer that no gradient goes through."""
    for edit in sheet.detached(cases):
        if all(agree(seen, sheet.cut_off(edit, case), rtol) for case, seen in pairs):
            said = f"Your values are right, but your gradients are what comes out {edit.said}"
            return Explanation(edit.said, f"{said}: {{got}} for {{expected}}.")
    return None


# What is wrong beside the numbers, and has its own sentence.
_OF_MANNERS = {"raised", "type", "mutation", "calls", "memory", "device", "dtype", "no gradient"}


def _explains(predict, pairs, right_of, rtol):
    """Whether a prediction agrees on every case, and differs from the right answer on enough."""
    evidence = 0
    for case, seen in pairs:
        right = right_of(case)
        predicted = predict(case, right)
        if predicted is None:
            predicted = right
        if not same_values(seen, predicted, rtol):
            return False
        # What is not finite is so for many a reason, and proves none.
        finite = all(t.isfinite().all() for t in tensors(predicted.value))
        evidence += finite and not same_values(predicted, right, rtol)
    return evidence >= min(EVIDENCE, len(pairs))


def same_values(seen: Observation, predicted: Observation, rtol: float) -> bool:
    """Whether two observations of one case have the same values, whatever else they have."""
    # How often a network was called, and what was written to, is judged elsewhere.
    predicted = replace(predicted, passes=seen.passes, changed=seen.changed)
    return agree(seen, predicted, rtol, with_gradients=False)
