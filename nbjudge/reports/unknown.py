"""Mistakes that nobody knows yet: wrong answers that no explanation fits, those alike together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nbjudge.judging.verdict import Signature, same


@dataclass(frozen=True)
class Unknown:
    """Students whose function gives the same wrong numbers on all cases.

    Args:
        exercise: its name.
        number: of the group among those of the exercise, from 1; the largest is the first.
        students: in the order of the class.
        numbers: the signature of the first one's function.
        verdict: on the first one's, as the notebook holds it.
        source: the first one's code.

    """

    exercise: str
    number: int
    students: tuple[str, ...]
    numbers: Signature
    verdict: Mapping
    source: str


def unknown_mistakes(submissions: Iterable, exercises: Iterable[str]) -> list[Unknown]:
    """The groups of a class, the largest first.

    Args:
        submissions: as `read_class` reads them.
        exercises: in the order in which equally large groups come.

    """
    found = []
    for exercise in exercises:
        groups = []
        for submission in submissions:
            verdict = submission.verdicts.get(exercise)
            if not verdict or verdict["misconception"] or not verdict["numbers"]:
                continue
            alike = [g for g in groups if _same(g[0].verdicts[exercise], verdict)]
            if alike:
                alike[0].append(submission)
            else:
                groups.append([submission])
        groups.sort(key=len, reverse=True)
        found += [_group(exercise, number, one) for number, one in enumerate(groups, 1)]
    return sorted(found, key=lambda group: -len(group.students))


def _same(one, other):
    return one["kind"] == other["kind"] and same(one["numbers"], other["numbers"])


def _group(exercise, number, submissions):
    first = submissions[0]
    verdict = first.verdicts[exercise]
    students = tuple(submission.student for submission in submissions)
    source = first.answers.get(exercise, "")
    return Unknown(exercise, number, students, tuple(verdict["numbers"]), verdict, source)
