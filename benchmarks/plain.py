"""What a course without checks costs: `nbjudge grade`, sandbox and all, against stock nbgrader.

    python -m benchmarks.plain                      # 12 submissions of two notebooks, 2 rounds

The course is that of `tests/rigs/plain_course`; both graders have it by turns, in one run, each
time a fresh copy with the same submissions, and must come to the same score in every cell. Time and
CPU time are measured as in `benchmarks/grading.py`.
"""

import argparse
import ctypes
import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from benchmarks.grading import PR_SET_CHILD_SUBREAPER, ROOT, Cost, measured

sys.path += [str(ROOT / "tests"), str(ROOT / "tests" / "rigs")]

from plain_course import (
    ASSIGNMENT,
    CONFIG,
    STOCK_CONFIG,
    SUBMISSIONS,
    make_course,
    submit,
)

RELEASE = {"ours": ["nbjudge.cli", "release"], "stock": ["nbgrader", "generate_assignment"]}
GRADE = {"ours": ["nbjudge.cli", "grade"], "stock": ["nbgrader", "autograde"]}
# At most so much of stock's wall and CPU time.
SHARE = 1 / 3


def grade(who: str, students: int) -> tuple[Cost, set]:
    """Have one of the two grade a new class; what it took, and every score."""
    folder = Path(tempfile.mkdtemp(prefix="p-"))
    try:
        make_course(folder, CONFIG if who == "ours" else STOCK_CONFIG)
        release = [sys.executable, "-m", *RELEASE[who], ASSIGNMENT]
        subprocess.run(release, cwd=folder, check=True, capture_output=True)
        dealt = itertools.islice(itertools.cycle(SUBMISSIONS.values()), students)
        for number, submission in enumerate(dealt):
            submit(folder, f"student-{number:02d}", submission)
        cost = measured([sys.executable, "-m", *GRADE[who], ASSIGNMENT], folder)
        with closing(sqlite3.connect(folder / "grading" / "gradebook.db")) as database:
            scores = database.execute("""
                SELECT student_id, notebook.name, base_cell.name, auto_score FROM grade
                JOIN base_cell ON base_cell.id = grade.cell_id
                JOIN notebook ON notebook.id = base_cell.notebook_id
                JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
                JOIN submitted_assignment ON
                    submitted_assignment.id = submitted_notebook.assignment_id
            """)
            return cost, set(scores)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--class", dest="students", type=int, default=12, metavar="N")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    # A new gradebook asks alembic for its version.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("this benchmark needs Linux: prctl(PR_SET_CHILD_SUBREAPER)")
    for turn in range(options.rounds):
        found = {who: grade(who, options.students) for who in sorted(GRADE, reverse=turn % 2 == 0)}
        (ours, scores), (stock, theirs) = found["ours"], found["stock"]
        if scores != theirs:
            raise RuntimeError(f"scores differ: {sorted(map(str, scores ^ theirs))[:6]}")
        print(
            f"round {turn + 1}, {options.students} submissions: "
            f"ours {ours.wall:.1f} s wall, {ours.cpu:.1f} s CPU; "
            f"stock {stock.wall:.1f} s wall, {stock.cpu:.1f} s CPU; "
            f"shares {ours.wall / stock.wall:.2f} and {ours.cpu / stock.cpu:.2f}, "
            f"target {SHARE:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
