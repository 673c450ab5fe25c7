"""Judge: from cases and observations alone, decide, and say why. Runs no student code."""

import functools
from dataclasses import replace

from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.judging.compare import agree
from nbjudge.judging.findings import describe, examine, wrong_device
from nbjudge.judging.provenance import BORROWED, COPIED, provenance
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.verdict import Verdict

Observed = list[tuple[Case, Observation]]


def judge(sheet: Sheet, observed: Observed, probe: Observation | None = None) -> Verdict:
    """The verdict on the observations of one function.

    Args:
        sheet: of the exercise; to be used again for the same cases.
        observed: cases and what happened on each, in order; may stop early after a time-out.
        probe: what happened on the device probe.

    """
    exercise = sheet.exercise
    source = provenance(exercise, [observation for _, observation in observed])
    if source == BORROWED:
        return Verdict(
            exercise.name,
            passed=False,
            kind="borrowed",
            sentence="The answer came from the reference implementation, called or executed while "
            "your function ran. Write the computation in your own cell.",
        )
    for case, observation in observed:
        finding = examine(exercise, case, observation, sheet.right(case))
        if finding:
            return _verdict_on(sheet, observed, case, observation, finding)
    if probe and (sentence := wrong_device(probe)):
        return Verdict(exercise.name, passed=False, kind="device", sentence=sentence)
    return Verdict(exercise.name, passed=True, copied=source == COPIED)


def _verdict_on(sheet, observed, case, observation, finding):
    """The verdict for a finding, with the misconception that explains it if there is one."""
    exercise = sheet.exercise
    verdict = Verdict(
        exercise.name,
        passed=False,
        kind=finding.kind,
        sentence=finding.sentence,
        case=describe(exercise, case),
        got=finding.got,
        expected=finding.expected,
        printed=observation.printed,
    )
    if finding.kind in ("unimplemented", "timeout"):
        return verdict
    misconception = _explain(sheet, observed, case)
    if misconception is None:
        return verdict
    return replace(
        verdict,
        kind="misconception",
        misconception=misconception.name,
        sentence=misconception.sentence.replace("{got}", finding.got).replace(
            "{expected}", finding.expected
        ),
    )


def _explain(sheet, observed, failing):
    """The misconception whose observations agree with the student's on every case.

    Only cases in the dtype of the failing one count: where a wrong answer under- or overflows, it
    does so differently in each dtype. An agreement with gradients is worth more than one without.
    """
    exercise, dtype = sheet.exercise, failing.facts["dtype"]
    rtol = exercise.rtol[dtype]
    pairs = [(case, seen) for case, seen in observed if case.facts["dtype"] == dtype]
    values_agree = functools.partial(agree, rtol=rtol, with_gradients=False)
    right, wrong = sheet.right, sheet.wrong
    # Each wrong answer runs until the first case on which it differs from the student's.
    for m in exercise.misconceptions:
        if all(agree(seen, wrong(m, case), rtol) for case, seen in pairs):
            return m
    for m in exercise.misconceptions:
        same_values = all(values_agree(seen, wrong(m, case)) for case, seen in pairs)
        if same_values and not all(values_agree(wrong(m, case), right(case)) for case, _ in pairs):
            return m
    return None
