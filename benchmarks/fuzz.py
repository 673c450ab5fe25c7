"""Mutate right notebooks at random, grade them all, and see whether one lost points in silence.

    python -m benchmarks.fuzz --mutations 2000 --seed 0
    python -m benchmarks.fuzz --mutant '[["move", [3, 0]], ["encode", ["utf-16"]]]'     # this one

Of each mutant (see `mutants`) three things must be true. It ends nobody's run. It has all points
that are due, or a sentence says why: in what was mended, in the reason of a failure, or in the
verdict of the check that gave none. Graded again, it has the same grade.

Many are graded as one class, in one sandbox. Where one is at fault, hypothesis makes it smaller for
as long as it is; the smallest is printed, and the exit code is 1.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import hypothesis
import nbformat
from hypothesis import HealthCheck, Phase

from benchmarks.classroom import BOUND, POINTS, TOPIC, WRITTEN, answered, make_course
from benchmarks.mutants import build, mutants, takes_nothing
from nbjudge.course.results import FAILED, MANUAL
from nbjudge.course.safe_files import read_notebook
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.outcome import verdicts_in

# So many are one class: one run, that could be ended for all of them.
CLASS = 100
# What a check says of a function that it did not find; no reason where the notebook holds one.
_OPAQUE = re.compile(r"gave nothing: (NameError|nothing was recorded)")


class Fuzzer:
    """Grades mutants of one notebook.

    Args:
        folder: an empty one.
        jobs: processes that execute notebooks.

    """

    def __init__(self, folder: Path, jobs: int = 2):
        self._course = make_course(folder)
        self._jobs = jobs
        right = answered(self._course, BOUND, written=WRITTEN)
        self._right = json.loads(nbformat.writes(right))
        self._released = json.loads(self._course.notebook("release", TOPIC).read_text("utf-8"))
        self._faults: dict[str, str] = {}

    def fault(self, mutant: str) -> str:
        """What is wrong with how a mutant is graded; empty if nothing is."""
        if mutant not in self._faults:
            self.grade([mutant])
        return self._faults[mutant]

    def grade(self, many: Iterable[str]) -> None:
        """Grade mutants as one class, twice; `fault` then knows each of them."""
        many = list(dict.fromkeys(many))
        shutil.rmtree(self._course.path("submitted"), ignore_errors=True)
        by_student = {f"m{number:04}": mutant for number, mutant in enumerate(many)}
        for student, mutant in by_student.items():
            self._hand_in(student, mutant)
        try:
            first, again = self._results(by_student), self._results(by_student)
        except Exception as error:
            if len(many) == 1:
                self._faults[many[0]] = f"ended the run: {type(error).__name__}: {error}"[:500]
                return
            for half in (many[: len(many) // 2], many[len(many) // 2 :]):
                self.grade(half)
            return
        for student, mutant in by_student.items():
            self._faults[mutant] = self._compare(mutant, first.get(student), again.get(student))

    def _hand_in(self, student, mutant):
        folder = self._course.path("submitted", student, TOPIC)
        folder.mkdir(parents=True)
        for name, content in build(mutant, self._right, self._released).files().items():
            path = os.path.join(os.fsencode(folder), name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)

    def _results(self, students):
        results = grade_class(self._course, TOPIC, list(students), jobs=self._jobs, regrade=True)
        return {result.student: result for result in results}

    def _compare(self, mutant, first, again):
        if first is None or again is None:
            return "has no result"
        if first != again:
            return f"{first} and then {again}"
        if first.state == FAILED:
            if not first.reason:
                return "failed without a reason"
            return f"refused: {first.reason}" if takes_nothing(mutant) else ""
        if takes_nothing(mutant) and first.points != sum(POINTS.values()):
            return f"{first.points:g} points: {self._sentences(first)}"
        return "; ".join(self._silent(mutant, first))

    def _silent(self, mutant, result):
        """Exercises without points for which no sentence says why."""
        text = json.dumps(build(mutant, self._right, self._released).notebook)
        mended = " ".join(result.mended)
        for name, sentence in self._sentences(result).items():
            if f"`{name}-" not in mended and _OPAQUE.search(sentence) and f"def {name}(" in text:
                yield f"{name} has no points: {sentence}"
        if result.state != MANUAL and WRITTEN in text and "proof-monotone" not in mended:
            yield "nobody is to read the answer in words"

    def _sentences(self, result):
        """Exercise → sentence of each check that gave nothing."""
        notebook = read_notebook(self._course.notebook("autograded", TOPIC, result.student))
        verdicts = verdicts_in(notebook)
        return {v["exercise"]: v["sentence"] for v in verdicts if not v["passed"]}


def fuzz(fuzzer: Fuzzer, number: int, seed: int) -> tuple[list[str], list[str]]:
    """Draw so many mutants and grade them.

    Args:
        fuzzer: that grades them.
        number: of mutants; fewer come if hypothesis finds no more that differ.
        seed: the same draws the same mutants.

    Returns:
        All of them, and those that are at fault.

    """
    drawn: dict[str, None] = {}

    @_settings(number, [Phase.generate])
    @hypothesis.seed(seed)
    @hypothesis.given(mutants())
    def draw(mutant):
        drawn.setdefault(mutant)

    draw()
    many = list(drawn)
    for start in range(0, len(many), CLASS):
        fuzzer.grade(many[start : start + CLASS])
        print(f"{min(start + CLASS, len(many))} of {len(many)} graded", file=sys.stderr)
    return many, [mutant for mutant in many if fuzzer.fault(mutant)]


def smallest(fuzzer: Fuzzer, number: int, seed: int) -> str:
    """What is left of the first mutant at fault that `fuzz` drew, once hypothesis has shrunk it."""
    found = ""

    # Draws the same again; that it fails at the first has it shrink that one.
    @_settings(number, [Phase.generate, Phase.shrink])
    @hypothesis.seed(seed)
    @hypothesis.given(mutants())
    def fail(mutant):
        nonlocal found
        if fuzzer.fault(mutant):
            found = mutant
            raise AssertionError

    with contextlib.suppress(AssertionError):
        fail()
    return found


def _settings(number, phases):
    return hypothesis.settings(
        max_examples=number,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )


def main() -> int:
    """Grade so many mutants as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutations", type=int, default=2000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--jobs", type=int, default=2, help="processes that execute notebooks")
    parser.add_argument("--mutant", help="grade this one alone, as a former run printed it")
    options = parser.parse_args()
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        fuzzer = Fuzzer(Path(folder), options.jobs)
        if options.mutant:
            many, wrong = [options.mutant], [options.mutant] * bool(fuzzer.fault(options.mutant))
        else:
            many, wrong = fuzz(fuzzer, options.mutations, options.seed)
        for mutant in wrong:
            print(f"{mutant}: {fuzzer.fault(mutant)}", flush=True)
        if wrong and not options.mutant:
            least = smallest(fuzzer, options.mutations, options.seed)
            print(f"the smallest: {least}: {fuzzer.fault(least)}")
        close_graders()
    seconds = time.monotonic() - begin
    print(f"{len(many)} mutants in {seconds:.0f} s, {len(wrong)} of them at fault")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
