"""Judge: from cases and observations alone, decide, and say why. Runs no student code."""

from collections.abc import Sequence

from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.judging.duties import examine
from nbjudge.judging.mistakes import explain
from nbjudge.judging.provenance import BORROWED, COPIED, provenance
from nbjudge.judging.sheet import Observed, Sheet
from nbjudge.judging.verdict import Verdict

_BORROWED = (
    "The answer came from the reference implementation, called or executed while your function "
    "ran. Write the computation in your own cell."
)


def judge(
    sheet: Sheet,
    observed: Observed,
    probe: Observation | None = None,
    missed: Sequence[Case] = (),
) -> Verdict:
    """The verdict on the observations of one function.

    Args:
        sheet: of the exercise; to be used again for the same cases.
        observed: cases and what happened on each, in order.
        probe: what happened on the device probe.
        missed: cases that it did not come to, after a time-out.

    """
    exercise = sheet.exercise
    source = provenance(exercise, [seen for _, seen in observed])
    if source == BORROWED:
        return Verdict(exercise.name, passed=False, kind="borrowed", sentence=_BORROWED)
    finding, duties = examine(exercise, sheet.compared(observed), probe, missed)
    if finding is None:
        return Verdict(exercise.name, passed=True, duties=duties, copied=source == COPIED)
    misconception = explain(sheet, observed, finding)
    kind, sentence = finding.kind, finding.sentence
    if misconception:
        kind, sentence = "misconception", misconception.sentence
        if not finding.got:
            # What it is about has no number that shows it.
            sentence = sentence.replace(": {got} for {expected}", "")
        sentence = sentence.replace("{got}", finding.got).replace("{expected}", finding.expected)
    return Verdict(
        exercise.name,
        passed=False,
        kind=kind,
        sentence=sentence,
        misconception=misconception and misconception.name,
        case=finding.described,
        got=finding.got,
        expected=finding.expected,
        printed=finding.at.seen.printed if finding.at else "",
        duties=duties,
    )
