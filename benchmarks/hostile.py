"""Grade a class with every hostile submission we know, and see whether each was contained.

    python -m benchmarks.hostile                 # all of them at once, in two orders
    python -m benchmarks.hostile --only floods   # those in whose name this is found

What a submission tries, and the points that are due to it all the same, is in
`tests/rigs/hostile.py` and `tests/rigs/hostile_files.py`. It is contained if it gets what is due,
if the reason for it can be read, and if nothing came out of the sandbox that should not. Between
them stand honest submissions, which must come out exactly as in a class of their own.

This runs those too that take gigabytes or minutes, all at once. It prints a line for each, and how
much memory the machine had left at the worst moment. The exit code is 1 if one was not contained.
"""

import argparse
import contextlib
import importlib
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field
from pathlib import Path

import nbformat
import psutil

from benchmarks.classroom import BOUND, ROOT, TOPIC, WRITTEN, WRONG, answered, make_course, submit
from dgm_utils import cli
from nbjudge.course.folder import Course
from nbjudge.course.results import FAILED, MANUAL, Result
from nbjudge.course.safe_files import read_notebook
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.outcome import verdicts_in

sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "rigs")]
Hostile = importlib.import_module("hostile").Hostile
KINDS = [*importlib.import_module("hostile").CODE, *importlib.import_module("hostile_files").FILES]
# Honest students, and the points of their functions.
HONEST = {"whole": 3.0, "mistaken": 1.0, "untouched": 0.0, "written": 3.0}
# What would run in a page; what a sanitizer leaves of it is text.
_SCRIPT = re.compile(r"<script|<iframe|<svg[^>]*onload|<img[^>]*onerror|href=\W*javascript:", re.I)
GIB = 2**30


@dataclass
class Class:
    """A class that was graded.

    Args:
        course: its folder.
        alone: student → result of each honest one, in a class of their own.
        scores: student → what the gradebook then held of each.
        results: student → results in the whole class, of which there should be one.
        server: listens where nobody may call.
        memory: bytes by which the machine's available memory fell, at most.

    """

    course: Course
    alone: dict[str, Result]
    scores: dict[str, list]
    server: socket.socket
    results: dict[str, list[Result]] = field(default_factory=dict)
    memory: int = 0

    def called(self) -> bool:
        """Whether somebody called from inside."""
        with contextlib.suppress(TimeoutError):
            self.server.accept()
            return True
        return False

    def wrong(self, hostile: Hostile) -> list[str]:
        """Why a hostile submission was not contained, in sentences; none if it was."""
        results = self.results.get(hostile.name, [])
        if len(results) != 1:
            return [f"It has {len(results)} results."]
        return list(self._wrong(hostile, results[0]))

    def _wrong(self, hostile, result):
        if result.points not in hostile.due:
            yield f"It got {result.points} instead of {hostile.due}. {result.reason}"
        if (result.state == FAILED) != (result.points is None):
            yield f"It is {result.state} with {result.points} points."
        if result.state == FAILED and not result.reason:
            yield "It failed without a reason."
        if hostile.waits and result.state != MANUAL:
            yield "Nobody is to read what it wrote."
        if result.copies or {name for name, _ in result.misconceptions} - {"iwae_bound"}:
            yield f"The class is told {result.misconceptions} {result.copies}."
        text = "".join(map(str, astuple(result)))
        if not text.isprintable():
            yield f"Its result holds characters for a terminal: {text!r}"
        yield from self._wrong_on_disk(hostile, result)

    def _wrong_on_disk(self, hostile, result):
        path = self.course.notebook("autograded", TOPIC, hostile.name)
        sentences = [result.reason, *result.mended]
        if result.state == FAILED:
            if path.exists():
                yield "It failed, and something was made of it."
        else:
            notebook = read_notebook(path)
            outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
            # A traceback quotes the line that would have printed it.
            if any("REACHED" in output.get("text", "") for output in outputs):
                yield "It reached what it wanted."
            if found := _SCRIPT.search(" ".join(_shown(notebook))):
                yield f"A page of it would run {found[0]!r}."
            sentences += [v["sentence"] for v in verdicts_in(notebook)]
            recorded = sum(score for _, score, _, _ in scores(self.course, hostile.name) if score)
            if recorded != result.points:
                yield f"The gradebook holds {recorded} points."
        if hostile.says not in " ".join(sentences):
            yield f"Nothing says {hostile.says!r}: {sentences}"

    def wrong_about(self, student: str) -> str:
        """What an honest student has that is not as alone; empty if nothing is."""
        results, alone = self.results.get(student, []), self.alone[student]
        if alone.points != HONEST[student]:
            return f"alone {alone.points} points instead of {HONEST[student]}"
        if results != [alone]:
            return f"{results} instead of {alone}"
        found, wanted = scores(self.course, student), self.scores[student]
        return "" if found == wanted else f"the gradebook holds {found} instead of {wanted}"


def _shown(notebook):
    """What a page takes for HTML or markdown; it shows code and plain text as they are."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            yield cell.source
        for output in cell.get("outputs", ()):
            kinds = output.get("data", {})
            yield from (str(kinds[k]) for k in kinds if k.startswith("text/") and k != "text/plain")


def scores(course: Course, student: str) -> list[tuple]:
    """What the gradebook holds of a student."""
    with course.api.gradebook as gradebook:
        (notebook,) = gradebook.find_submission(TOPIC, student).notebooks
        return sorted((g.name, g.auto_score, g.manual_score, g.max_score) for g in notebook.grades)


@contextlib.contextmanager
def hand_in(course: Course, kinds: Iterable[Hostile]):
    """Hand in the honest submissions, grade them, and hand in the hostile ones.

    Yields:
        The class, of which only the honest are graded yet. At the end the sandbox is closed, and
        everything that was handed in or made of it is removed.

    """
    try:
        other = submit(course, "whole", answered(course, BOUND))
        submit(course, "mistaken", answered(course, WRONG))
        submit(course, "untouched", nbformat.read(course.notebook("release", TOPIC), 4))
        submit(course, "written", answered(course, BOUND, written=WRITTEN))
        alone = {r.student: r for r in grade_class(course, TOPIC, list(HONEST), jobs=2)}
        recorded = {student: scores(course, student) for student in HONEST}
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.1)
            places = {"course": course.root, "other": other, "port": server.getsockname()[1]}
            for hostile in kinds:
                if hostile.hand_in:
                    hostile.hand_in(course)
                    continue
                attack = hostile.attack
                for name, value in places.items():
                    attack = attack.replace(f"{{{name}}}", str(value))
                submit(course, hostile.name, answered(course, hostile.bound, attack))
            yield Class(course, alone, recorded, server)
    finally:
        close_graders()
        # Python cannot: some folders are nested too deeply.
        subprocess.run(["rm", "-rf", course.grading], check=True)


def grade(made: Class, seed: int) -> None:
    """Grade a class, all of it anew, in an order that the seed decides."""
    students = made.course.submissions(TOPIC)
    random.Random(seed).shuffle(students)
    made.results.clear()
    with _watched_memory() as fell:
        for result in grade_class(made.course, TOPIC, students, jobs=2, regrade=True):
            made.results.setdefault(result.student, []).append(result)
    made.memory = fell()


@contextlib.contextmanager
def _watched_memory():
    begin, least, ended = psutil.virtual_memory().available, [], threading.Event()

    def watch():
        while not ended.wait(0.2):
            least.append(psutil.virtual_memory().available)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: begin - min(least, default=begin)
    finally:
        ended.set()
        thread.join()


def main() -> int:
    """Grade the class as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a regular expression for the names")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="one for each order")
    options = parser.parse_args()
    kinds = [hostile for hostile in KINDS if re.search(options.only, hostile.name)]
    wrong = 0
    with (
        tempfile.TemporaryDirectory(prefix="hostile-") as folder,
        hand_in(make_course(Path(folder)), kinds) as made,
    ):
        for seed in options.seeds:
            begin = time.monotonic()
            grade(made, seed)
            took = time.monotonic() - begin
            print(f"order {seed}: {took:.0f} s, at most {made.memory / GIB:.1f} GiB of memory")
            wrong += _print(made, kinds)
        if made.called():
            print("somebody called from inside")
            wrong += 1
        wrong += _handed_back(made, folder)
    print(f"{wrong} not contained" if wrong else "all contained")
    return 1 if wrong else 0


def _print(made, kinds):
    """A line for each; how many are not contained."""
    width = max(len(name) for name in (*HONEST, *(hostile.name for hostile in kinds)))
    wrong = 0
    for hostile in kinds:
        got = ", ".join(_points(result.points) for result in made.results.get(hostile.name, []))
        faults = made.wrong(hostile)
        wrong += bool(faults)
        due = " or ".join(map(_points, hostile.due))
        print(f"{hostile.name:{width}}  {due:>9}  {got:>7}  {'no' if faults else 'yes'}")
        for fault in faults:
            print(f"    {fault[:500]}")
    for student in HONEST:
        fault = made.wrong_about(student)
        wrong += bool(fault)
        print(f"{student:{width}}  {'honest':>9}  {'':>7}  {f'no: {fault}' if fault else 'yes'}")
    return wrong


def _points(points):
    return "refused" if points is None else f"{points:g}"


def _handed_back(made, folder):
    """Whether an honest student is without a page, or one command ended before its end."""
    wrong = 0
    for command in ("feedback", "report", "export"):
        code = cli.main(["--course", folder, command, TOPIC])
        if code not in (0, 1):
            print(f"dgm {command} ended with {code}")
            wrong += 1
    for student in HONEST:
        page = made.course.path("feedback", student, TOPIC) / f"{TOPIC}.html"
        if not page.is_file():
            print(f"{student} has no page of feedback")
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
