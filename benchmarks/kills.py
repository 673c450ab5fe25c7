"""Kill `dgm grade` at random moments, resume it, and see whether the gradebook tells.

    python -m benchmarks.kills --times 1000

A chain is some runs on one course that are all killed with SIGKILL, and a last one that is not.
After it the course must hold what an undisturbed run would have made of it: gradebook, autograded
notebooks, table and remembered results. No process may be left of a killed run, and no file of it
once the chain is over. Prints one line for each chain; the exit code is 1 if one came out wrong,
and its line has the seed that repeats it.

The runs are short: a small assignment, with one worker, in a process forked from one that has
imported what `dgm grade` imports. Moments are uniform between two lines of the run's output, and so
spread over its start, each recording and its end on any machine.
"""

import argparse
import atexit
import contextlib
import csv
import ctypes
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dgm_utils import cli
from nbjudge.course import seeds

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT = "small"
# What takes `dgm grade` long to import.
IMPORTED = ["nbjudge.running.startup", "nbjudge.grade", "dgm_utils.exercises.iwae"]
PR_SET_CHILD_SUBREAPER = 36
# What is left of a killed run has so long to end; none of it has anything to wait for.
LAST_BREATH = 30

_IMPORTS = "import torch\n\nfrom dgm_utils.exercises.iwae import check"
_RIGHT = {
    "multi_sample_elbo": "def multi_sample_elbo(log_w):\n    return log_w.mean(dim=0)",
    "active_units": "def active_units(means, threshold=0.01):\n"
    "    return torch.var(means, dim=0) > threshold",
}
_POINTS = {"multi_sample_elbo": 1, "active_units": 2}
_WRONG = {"multi_sample_elbo": "def multi_sample_elbo(log_w):\n    return log_w.sum(dim=0)"}
_STUB, _QUESTION = "Your answer here.", "question"


@dataclass
class Undisturbed:
    """A course that was graded without a disturbance.

    Args:
        state: what `read_state` found in it.
        gaps: seconds from the start to the first line of output, from line to line, and to the end.

    """

    state: dict
    gaps: list[float]


@dataclass
class Chain:
    """Runs on one course, all killed but the last.

    Args:
        kills: what was killed when, in words.
        faults: what an undisturbed run would not have left; none if all is well.

    """

    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Rehearsal:
    """A small course, graded again and again; a context manager that removes all of it."""

    def __init__(self):
        # Short, because the paths of sockets that lie in it must be.
        self.folder = Path(tempfile.mkdtemp(prefix="k-"))
        self._count = 0
        self._template = self.folder / "course"
        make_course(self._template)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(IMPORTED)

    def __enter__(self):
        # What loses its parent becomes a child of this process, where it can be counted.
        _adopt_orphans(True)
        return self

    def __exit__(self, *exception):
        _adopt_orphans(False)
        shutil.rmtree(self.folder)

    def undisturbed(self) -> Undisturbed:
        """Grade a new copy of the course from beginning to end.

        Raises:
            RuntimeError: when that does not come out as it must; then there is nothing to compare.

        """
        course = self._copy()
        run = _Run(self._context, course)
        moments = [time.monotonic(), *run.moments(), run.ended()]
        state = read_state(course)
        points = {name: row["points"] for name, row in state["table"].items()}
        if points != {"ann": "3", "ben": "3", "cyd": "2", "dan": "0", "eve": ""}:
            raise RuntimeError(f"the undisturbed run gave {points}; it said: {run.said()}")
        return Undisturbed(state, [b - a for a, b in itertools.pairwise(moments)])

    def chain(self, kills: int, rng: random.Random, undisturbed: Undisturbed) -> Chain:
        """Kill so many runs on one course, let the next one end, and compare."""
        chain = Chain()
        course = self._copy()
        options = ()
        for _ in range(kills):
            self._kill(course, rng, undisturbed.gaps, options, chain)
            # A course that has once been graded to its end can still be killed when graded again.
            done = (course / "grading" / "reports" / f"{ASSIGNMENT}.csv").is_file()
            options = ("--regrade",) if done else ()
        run = _Run(self._context, course)
        list(run.moments())
        run.ended()
        chain.faults += self._left_over()
        found = read_state(course)
        chain.faults += list(differences(found, undisturbed.state))
        if chain.faults:
            chain.faults.append(f"the last run said: {run.said()}")
        shutil.rmtree(course)
        return chain

    def _copy(self):
        self._count += 1
        return Path(shutil.copytree(self._template, self.folder / str(self._count)))

    def _kill(self, course, rng, gaps, options, chain):
        """Start a run, and kill it between two lines of its output."""
        stage, everything = rng.randrange(len(gaps)), rng.random() < 0.5
        delay = rng.uniform(0, gaps[stage])
        before = set(psutil.Process().children(recursive=True))
        run = _Run(self._context, course, *options)
        for number, _ in enumerate(run.moments(), 1):
            if number == stage:
                break
        run.process.join(delay)
        ended = not run.process.is_alive()
        victims = [run.process]
        if everything:
            victims += psutil.Process(run.process.pid).children(recursive=True) if not ended else []
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        run.ended()
        what = "nothing, it had ended" if ended else "all" if everything else "one"
        chain.kills.append(f"{' '.join(options)} line {stage} + {delay:.3f} s: {what}".strip())
        left = _survivors(before)
        chain.faults += [f"after kill {len(chain.kills)} there still ran {name}" for name in left]

    def _left_over(self):
        """What killed runs left on disk that the last one should have removed."""
        for path in sorted((self.folder / "tmp").iterdir()):
            # One that torch makes, the same each time.
            if not path.name.startswith("torchinductor_"):
                yield f"left in the temporary folder: {path.name}"
                # Or the next chain would be blamed for it.
                shutil.rmtree(path)


class _Run:
    """`dgm grade` on a course, in a process."""

    def __init__(self, context, course, *options):
        temporary = course.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        self._errors = course.parent / "stderr"
        mine, its = context.Pipe(duplex=False)
        self._output = open(os.dup(mine.fileno()), encoding="utf-8")  # noqa: SIM115 - `ended` closes
        mine.close()
        arguments = ["--course", str(course), "grade", ASSIGNMENT, "--jobs", "1", *options]
        self.process = context.Process(
            target=_dgm, args=(arguments, its, str(self._errors), str(temporary))
        )
        self.process.start()
        its.close()

    def moments(self):
        """The time of each line of output."""
        for _ in self._output:
            yield time.monotonic()

    def ended(self):
        """Wait for the end; its time."""
        self.process.join()
        self._output.close()
        return time.monotonic()

    def said(self):
        """What it complained about."""
        return self._errors.read_text(errors="replace").strip()[-2000:]


def _dgm(arguments, output, errors, temporary):
    """Be `dgm`, in a process forked for it."""
    os.dup2(output.fileno(), 1)
    output.close()
    with open(errors, "wb") as file:
        os.dup2(file.fileno(), 2)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(ROOT)
    os.environ.update(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", TMPDIR=temporary)
    code = cli.main(arguments)
    # Which multiprocessing does not do, and a program does.
    atexit._run_exitfuncs()
    sys.exit(code)


def read_state(course: Path) -> dict:
    """Everything that grading a course leaves, without ids and the like that differ each time."""
    grading = course / "grading"
    autograded = {}
    for path in sorted(grading.glob("autograded/*/*/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        autograded[path.parent.parent.name] = [
            (cell.cell_type, cell.source, cell.get("outputs", [])) for cell in cells
        ]
    table = {}
    with (
        contextlib.suppress(FileNotFoundError),
        open(grading / "reports" / f"{ASSIGNMENT}.csv", encoding="utf-8") as file,
    ):
        table = {row["student"]: row for row in csv.DictReader(file)}
    results = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((grading / "graded" / ASSIGNMENT).glob("*.json"))
    }
    files = sorted(
        str(path.relative_to(course))
        for path in course.rglob("*")
        if path.is_file() and path.name != ".nbgrader.log"
    )
    gradebook = _read_gradebook(grading / "gradebook.db")
    return {"table": table, "results": results, "autograded": autograded, "files": files} | {
        f"gradebook: {name}": rows for name, rows in gradebook.items()
    }


# Each row by the names of what it belongs to; left joins, so that a row without them shows as well.
_OF_A_CELL = """
    FROM {table} LEFT JOIN base_cell ON base_cell.id = {table}.cell_id
    LEFT JOIN submitted_notebook ON submitted_notebook.id = {table}.notebook_id
    LEFT JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
    LEFT JOIN assignment ON assignment.id = submitted_assignment.assignment_id
"""
_QUERIES = {
    "students": "SELECT id FROM student",
    "submissions": """
        SELECT student_id, assignment.name, timestamp, extension, submitted_notebook.id IS NOT NULL,
        flagged, late_submission_penalty FROM submitted_assignment
        LEFT JOIN assignment ON assignment.id = submitted_assignment.assignment_id
        LEFT JOIN submitted_notebook ON submitted_notebook.assignment_id = submitted_assignment.id
    """,
    "grades": "SELECT student_id, assignment.name, base_cell.name, auto_score, manual_score,"
    " extra_credit, needs_manual_grade" + _OF_A_CELL.format(table="grade"),
    "comments": "SELECT student_id, assignment.name, base_cell.name, auto_comment, manual_comment"
    + _OF_A_CELL.format(table="comment"),
    "cells": """
        SELECT notebook.name, base_cell.name, base_cell.type, max_score FROM base_cell
        LEFT JOIN notebook ON notebook.id = base_cell.notebook_id
        LEFT JOIN grade_cells ON grade_cells.id = base_cell.id
    """,
    "sources": """
        SELECT notebook.name, source_cell.name, locked, source, checksum FROM source_cell
        LEFT JOIN notebook ON notebook.id = source_cell.notebook_id
    """,
    "version": "SELECT version_num FROM alembic_version",
    "integrity": "PRAGMA integrity_check",
}


def _read_gradebook(path):
    if not path.is_file():
        return dict.fromkeys(_QUERIES, ())
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {
            name: sorted(database.execute(query).fetchall(), key=repr)
            for name, query in _QUERIES.items()
        }


def differences(found: dict, wanted: dict):
    """What differs between two states, in short lines."""
    for name in wanted:
        one, other = found[name], wanted[name]
        if one == other:
            continue
        if isinstance(other, dict):
            keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
            for key in keys:
                yield f"{name} of {key}: {one.get(key)!r:.600} instead of {other.get(key)!r:.600}"
        else:
            # As often as they are there.
            more = list((Counter(one) - Counter(other)).elements())
            less = list((Counter(other) - Counter(one)).elements())
            yield f"{name}: there are {more!r:.600}, there should be {less!r:.600}"


def _survivors(before):
    """Names of processes that outlive a killed run and are not from before; then they are ended."""
    me, end = psutil.Process(), time.monotonic() + LAST_BREATH
    while time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        left = [process for process in me.children(recursive=True) if process not in before]
        if not left:
            return []
        time.sleep(0.02)
    names = [" ".join(process.cmdline())[:200] for process in left]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=LAST_BREATH)
    return names


def _adopt_orphans(yes):
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def make_course(folder: Path) -> None:
    """A course with one assignment of two functions and a question, and five submissions."""
    source = _notebook(
        {name: f"### BEGIN SOLUTION\n{text}\n### END SOLUTION" for name, text in _RIGHT.items()},
        "A model answer.",
    )
    path = folder / "solutions" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(source, path)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    # The same in every course that is made here, or no two could be compared.
    (folder / "grading").mkdir()
    (folder / "grading" / seeds.FILE).write_text("0" * 64)
    submissions = {
        # The same code; one of them has answered the question and one has not.
        "ann": _notebook(_RIGHT, "Because the logarithm is concave."),
        "ben": _notebook(_RIGHT, _STUB),
        "cyd": _notebook(_RIGHT | _WRONG, "By Jensen."),
        "dan": _notebook(dict.fromkeys(_RIGHT, "# Your code here.\nraise NotImplementedError()")),
        "eve": None,
    }
    for student, notebook in submissions.items():
        path = folder / "grading" / "submitted" / student / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(nbformat.writes(notebook) if notebook else "no notebook", encoding="utf-8")


def _notebook(answers, written=_STUB):
    cells = [_cell(new_code_cell, "imports", _IMPORTS, locked=True)]
    for name, source in answers.items():
        cells.append(_cell(new_code_cell, f"{name}-solution", source, solution=True))
        points = _POINTS[name]
        check = f"check({name})"
        cells.append(_cell(new_code_cell, f"{name}-check", check, points=points, locked=True))
    cells.append(_cell(new_markdown_cell, _QUESTION, written, solution=True, points=3))
    return new_notebook(
        cells=cells,
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
    )


def _cell(make, name, source, locked=False, solution=False, points=None):
    about = {
        "grade": points is not None,
        "grade_id": name,
        "locked": locked,
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if points is not None:
        about["points"] = points
    return make(source, id=name, metadata={"nbgrader": about})


def main() -> int:
    """Kill so many runs as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=1000, help="kills in all")
    parser.add_argument("--seed", type=int, default=0, help="of the first chain")
    options = parser.parse_args()
    wrong = done = 0
    with Rehearsal() as rehearsal:
        undisturbed = rehearsal.undisturbed()
        print("undisturbed, seconds from line to line:", end=" ")
        print(" ".join(f"{gap:.2f}" for gap in undisturbed.gaps), flush=True)
        seed = options.seed
        while done < options.times:
            rng = random.Random(seed)
            chain = rehearsal.chain(min(rng.randint(1, 5), options.times - done), rng, undisturbed)
            done += len(chain.kills)
            wrong += bool(chain.faults)
            print(f"{done:5} kills  seed {seed}  {'WRONG' if chain.faults else 'well'}", flush=True)
            if chain.faults:
                print(
                    "\n".join(f"    {line}" for line in (*chain.kills, *chain.faults)), flush=True
                )
            seed += 1
    print(f"{done} kills in {seed - options.seed} chains, {wrong} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
