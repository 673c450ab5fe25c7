"""Which wrong answer on record explains what was seen."""

import functools

from nbjudge.asking.exercise import Misconception
from nbjudge.judging.compare import agree
from nbjudge.judging.findings import Finding
from nbjudge.judging.sheet import Observed, Sheet


def explain(sheet: Sheet, observed: Observed, finding: Finding) -> Misconception | None:
    """The misconception whose observations agree with the student's on every case.

    Only cases in the dtype of the failing one count: where a wrong answer under- or overflows, it
    does so differently in each dtype. An agreement with gradients is worth more than one without.
    """
    if finding.at is None or finding.kind in ("unimplemented", "timeout"):
        return None
    misconceptions, rtol = sheet.exercise.misconceptions, finding.at.rtol
    dtype = finding.at.case.facts["dtype"]
    pairs = [(case, seen) for case, seen in observed if case.facts["dtype"] == dtype]
    values_agree = functools.partial(agree, rtol=rtol, with_gradients=False)
    right, wrong = sheet.right, sheet.wrong
    # Each wrong answer runs until the first case on which it differs from the student's.
    for m in misconceptions:
        if all(agree(seen, wrong(m, case), rtol) for case, seen in pairs):
            return m
    for m in misconceptions:
        same_values = all(values_agree(seen, wrong(m, case)) for case, seen in pairs)
        if same_values and not all(values_agree(wrong(m, case), right(case)) for case, _ in pairs):
            return m
    return None
