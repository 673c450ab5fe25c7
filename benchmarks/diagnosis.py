"""How often a wrong answer is explained that is on no record.

    python -m benchmarks.diagnosis                 # all exercises, and writes diagnosis.md
    python -m benchmarks.diagnosis --topic iwae    # one topic, with every sentence; writes nothing

Each wrong answer on record is struck from it in turn and then handed in. What is said of it comes
from the other records, from small changes of the right answer, from its terms, or from what needs
no number, such as a shape or a gradient that is missing. `train_vampprior` is left out: its
reference trains for too long to be tried with changes.
"""

import argparse
import ast
import contextlib
import dataclasses
import importlib
import inspect
import itertools
import linecache
import random
from collections import Counter
from pathlib import Path

import torch

from nbjudge.asking.task import make_task
from nbjudge.inside.observe import observe_task
from nbjudge.judging.code import Part, places
from nbjudge.judging.edits_of_code import edits_of
from nbjudge.judging.judge import judge
from nbjudge.judging.line import wrong_line
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.words import Words

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks" / "diagnosis.md"
TOPICS = sorted(path.stem for path in (ROOT / "dgm_utils" / "exercises").glob("[a-z]*"))
# What is said of these is only that a number is another one, or that a statement does not hold.
BARE = ("value", "property", "gradient")


@dataclasses.dataclass(frozen=True, eq=False)
class _Without(Sheet):
    """A sheet with one wrong answer less, which reads what the whole one has observed.

    Args:
        whole: the sheet.

    """

    whole: Sheet

    def right(self, case):
        """What the reference gives on a case."""
        return self.whole.right(case)

    def wrong(self, misconception, case):
        """What a wrong answer on record gives on a case."""
        return self.whole.wrong(misconception, case)

    def edits(self, cases):
        """What the right answer becomes by one edit."""
        return self.whole.edits(cases)

    def detached(self, cases):
        """What it becomes when no gradient goes through a step."""
        return self.whole.detached(cases)

    def edited(self, edits, case):
        """What the right answer gives on a case after each of some edits."""
        return self.whole.edited(edits, case)

    def cut_off(self, edit, case):
        """What it gives, and its gradients, when a step is detached."""
        return self.whole.cut_off(edit, case)


def verdicts(exercise):
    """(Name, verdict) of each wrong answer on record, judged as if it were not."""
    sheet, task = Sheet(exercise), make_task(exercise)
    for struck in exercise.misconceptions:
        observed = [(case, _as_typed(sheet.wrong(struck, case))) for case in task.cases]
        others = tuple(m for m in exercise.misconceptions if m is not struck)
        without = dataclasses.replace(exercise, misconceptions=others)
        yield struck.name, judge(_Without(without, sheet), observed)


def lines(exercise, most: int = 8):
    """How often the wrong line of a formula is named, where one line of it was edited.

    Returns:
        Counter of "named", "another" (a line that is right) and "none".

    """
    found, task = Counter(), make_task(exercise)
    for number, function in _edited_lines(exercise, most):
        sheet = Sheet(exercise)
        observed = list(zip(task.cases, observe_task(function, task)[0], strict=False))
        verdict = judge(sheet, observed)
        if verdict.kind in ("value", "property", "misconception"):
            line = wrong_line(sheet, function, observed, verdict.kind)
            right = line.startswith(f"line {number}:")
            found["named" if right else "another" if line else "none"] += 1
    return found


def _edited_lines(exercise, most):
    """Functions that differ from a formula in one line, and the number of that line."""
    for formula in exercise.formulas[:1]:
        part = Part(formula)
        part.tree.name = exercise.name
        words = Words(exercise, part, make_task(exercise).cases[:1])
        whole = ast.unparse(part.tree).splitlines()
        texts = []
        for place in places(part.tree):
            for node, _ in edits_of(place.node, words):
                with contextlib.suppress(ValueError, TypeError), place.holding(node):
                    texts.append(ast.unparse(ast.fix_missing_locations(part.tree)))
        random.Random(0).shuffle(texts)
        for text in [t for t in texts if len(t.splitlines()) == len(whole)][:most]:
            changed = [
                n
                for n, (a, b) in enumerate(zip(whole, text.splitlines(), strict=True), 1)
                if a != b
            ]
            if len(changed) == 1:
                file = f"<{exercise.name} {len(linecache.cache)}>"
                linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
                scope = dict(inspect.unwrap(formula).__globals__)
                exec(compile(text, file, "exec"), scope)
                yield changed[0], scope[exercise.name]


def _as_typed(seen):
    """An observation of code that stands in a notebook, and not beside the reference."""
    return dataclasses.replace(seen, code=frozenset(), files=frozenset())


_STRUCK = """# Wrong answers that are on no record

`python -m benchmarks.diagnosis`: each wrong answer on record, struck from it and handed
in. *Named*: a mistake is named that agrees on every case. *Said otherwise*: a shape, a
type, a gradient that is missing, a step that over- or underflows. *Bare*: a number or a
statement alone.

| exercise | struck | named | said otherwise | bare |
|---|---|---|---|---|"""
_LINES = """
# The line to look at

Of each exercise whose page has a formula, up to eight edits of one line of it, handed in as
a student's function. *Named*: the line that was edited. *Another*: one that is right.

| exercise | wrong | named | another | none |
|---|---|---|---|---|"""


def main() -> None:
    """Strike, judge, print, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--topic", choices=TOPICS, help="this one only, with every sentence")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = [
        exercise
        for topic in ([options.topic] if options.topic else TOPICS)
        for exercise in importlib.import_module(f"dgm_utils.exercises.{topic}").EXERCISES
        if exercise.name != "train_vampprior"
    ]
    struck, blamed = Table(_STRUCK), Table(_LINES)
    for exercise in asked:
        kinds = Counter()
        for name, verdict in verdicts(exercise):
            kinds[verdict.kind] += 1
            if options.topic:
                print(f"{exercise.name}, {name}: {verdict.kind}. {verdict.sentence}")
        bare = sum(kinds[kind] for kind in BARE)
        named = kinds["misconception"]
        struck.add(exercise.name, kinds.total(), named, kinds.total() - named - bare, bare)
    for exercise in asked:
        found = lines(exercise)
        if found:
            numbers = (found[what] for what in ("named", "another", "none"))
            blamed.add(exercise.name, found.total(), *numbers)
    report = f"{struck}\n{blamed}\n"
    if not options.topic:
        REPORT.write_text(report, encoding="utf-8")


class Table:
    """A table of counts that is printed row by row, with a sum below.

    Args:
        head: what stands above its rows.

    """

    def __init__(self, head: str):
        self._lines, self._sums = [head], []
        print(head, flush=True)

    def add(self, name: str, *counts: int) -> None:
        """Add a row."""
        self._lines.append(self._row(f"`{name}`", counts))
        self._sums = [a + b for a, b in itertools.zip_longest(self._sums, counts, fillvalue=0)]
        print(self._lines[-1], flush=True)

    def __str__(self) -> str:
        return "\n".join([*self._lines, self._row("**all**", self._sums)])

    def _row(self, name, counts):
        return f"| {' | '.join([name, *map(str, counts)])} |"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
