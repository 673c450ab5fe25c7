"""What grading a class costs: `dgm grade`, sandbox and all, against stock `nbgrader autograde`.

    python -m benchmarks.grading                                 # 24 submissions, 2 rounds
    python -m benchmarks.grading --sizes 10,30,100,300           # and how it grows
    python -m benchmarks.grading --class 4 --sizes 2,4 --rounds 1 --dry    # a trial, writes nothing

Submissions are real notebooks of one assignment: right answers, the misconceptions on record, and
written answers, dealt out as the demo deals them. All who grade them do so in the same run, by
turns, each on a fresh copy of the course; each must come to the points that are known beforehand,
or the benchmark stops.

- **stock** is nbgrader with its own preprocessors: each notebook in a new kernel, both halves of
  every check inside it, nothing shut in.
- **stock, checks only**: in the stock kernel `check.passed` is True after a right answer, and the
  notebook's cells that draw and train then run. In the sandbox nobody knows, and they do not. Here
  it is False in the stock kernel as well, so that both sides run the same cells.
- **dgm grade**: as it comes, with a worker for each core.

**CPU time** is that of a control group into which the command is put, and so of every process that
takes part, to its end; it takes root, or a group that one may divide. The benchmark is a "child
subreaper" (prctl(2)): what loses its parent becomes its child, and it waits for all of them.
**Memory** is the most that the process that marks and records held (VmHWM), and the most that any
one process held.

What a submission's **own cells** take is measured before each class of the growing ones and after
the last, in a process of its own: the same work can take a third more a few minutes later.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Executor, Future
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import nbformat
import numpy

from benchmarks.simulation import Service, simulate
from nbjudge import crew
from nbjudge import grade as autograde
from nbjudge.course.folder import Course
from nbjudge.demo import PREFIX, build_class
from nbjudge.execute_and_mark import close_graders, grader_for
from nbjudge.running.execute import Rules, execute_all

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "benchmarks" / "grading.md"
MIB = 2**20
PR_SET_CHILD_SUBREAPER = 36
# At least this many times faster than stock, and at most so many seconds of CPU time for each
# submission beyond the student's own cells.
FASTER, OVERHEAD = 6.0, 0.4

STOCK, CHECKS_ONLY, OURS = "stock", "stock, checks only", "dgm grade"
# The points that are known beforehand, and those that a stock kernel gives.
ALL_OR_NOTHING = "\nc.ExecuteAndMark.partial_credit = False\n"
STOCK_CONFIG = """
for name in ("sanitize_preprocessors", "autograde_preprocessors", "pre_convert_hook"):
    c.Autograde.pop(name, None)
c.Execute.kernel_name = "python3"
c.Execute.timeout = 60
"""
# Runs in each stock kernel before the notebook's first cell.
NOBODY_KNOWS = """
from nbjudge.check import Checker

Checker.passed = lambda self, *functions: False
"""


@dataclass(frozen=True)
class Cost:
    """What one command took: seconds, seconds and bytes."""

    wall: float
    cpu: float
    memory: int
    largest: int


def measured(command: list[str], folder: Path, **environment: str) -> Cost:
    """Run a command to its end, and wait for whatever it leaves behind.

    Args:
        command: program and arguments.
        folder: in which it runs; what it prints goes to a file there.
        environment: variables beside those of this process.

    Raises:
        RuntimeError: when a child is left that does not end.

    """
    group, start = _Group(), time.monotonic()
    with open(folder / "output", "ab") as output:
        process = subprocess.Popen(
            group.enter(command),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
        )
    watch = _Watch(process.pid)
    watch.start()
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    watch.join()
    wall = time.monotonic() - start
    end = time.monotonic() + 30
    with suppress(ChildProcessError):
        while time.monotonic() < end:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.01)
        raise RuntimeError(f"{command} left processes behind")
    return Cost(wall, group.leave(), watch.peak, usage.ru_maxrss * 1024)


class _Group:
    """A control group of our own, which adds up the CPU time of all that is in it.

    Raises:
        OSError: when none can be made.

    """

    def __init__(self):
        # The first version of control groups has a hierarchy for this; the second has but one.
        first = Path("/sys/fs/cgroup/cpuacct")
        parent = first if first.is_dir() else Path("/sys/fs/cgroup")
        self._folder = parent / f"benchmark-{os.getpid()}"
        self._folder.mkdir()

    def enter(self, command):
        """The command, which joins the group before it begins."""
        join = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        return ["/bin/sh", "-c", join, str(self._folder), *command]

    def leave(self):
        """Seconds of all that was in it; the group is gone then."""
        end = time.monotonic() + 30
        # What the kernel has ended may be in it for a moment still.
        while (self._folder / "cgroup.procs").read_text() and time.monotonic() < end:
            time.sleep(0.01)
        usage = self._folder / "cpuacct.usage"
        if usage.is_file():
            seconds = int(usage.read_text()) / 1e9
        else:
            lines = (self._folder / "cpu.stat").read_text().splitlines()
            seconds = int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
        self._folder.rmdir()
        return seconds


class _Watch(threading.Thread):
    """Looks at a process until it ends, for its own peak of memory.

    Args:
        pid: of the process.

    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.peak, self._status = 0, Path(f"/proc/{pid}/status")

    def run(self):
        with suppress(OSError, StopIteration):
            while True:
                lines = self._status.read_text().splitlines()
                # A process that has ended has no such line.
                line = next(line for line in lines if line.startswith("VmHWM"))
                self.peak = int(line.split()[1]) * 1024
                time.sleep(0.1)


@dataclass
class Class:
    """Courses that hold one class, and what everybody in it must get.

    Args:
        folder: of the course.
        points: student → points of the checks.

    """

    folder: Path
    points: dict[str, float]


class Classes:
    """Makes classes of any size from an assignment.

    Args:
        assignment: its name.
        folder: an empty one to work in.

    """

    def __init__(self, assignment: str, folder: Path):
        self._assignment, self._folder = assignment, folder
        self._model = folder / "model"
        self._model.mkdir()
        shutil.copytree(ROOT / "solutions" / assignment, self._model / "solutions" / assignment)
        config = (ROOT / "nbgrader_config.py").read_text(encoding="utf-8") + ALL_OR_NOTHING
        (self._model / "nbgrader_config.py").write_text(config, encoding="utf-8")
        exercises = import_module(f"dgm_utils.exercises.{assignment}").EXERCISES
        course = Course(self._model)
        expected = build_class(course, assignment, exercises)
        self._students = []
        for one in expected:
            if one.student.startswith(f"{PREFIX}student-"):
                path = course.notebook("submitted", assignment, one.student)
                self._students.append((path.read_text(encoding="utf-8"), one.points))
            course.forget(one.student, assignment)
        self._count = 0

    def make(self, students: int, stock: bool = False) -> Class:
        """A course with so many submissions, no two alike, of which none has been graded."""
        self._count += 1
        folder = self._folder / f"course-{self._count}"
        shutil.copytree(self._model, folder)
        config = folder / "nbgrader_config.py"
        if stock:
            config.write_text(config.read_text(encoding="utf-8") + STOCK_CONFIG, encoding="utf-8")
        course, points = Course(folder), {}
        for number in range(students):
            student = f"student-{number:04d}"
            text, points[student] = self._students[number % len(self._students)]
            notebook = nbformat.reads(text, as_version=4)
            solution = next(c for c in notebook.cells if c.id.endswith("-solution"))
            solution.source += f"\n# {student}"
            path = course.notebook("submitted", self._assignment, student)
            path.parent.mkdir(parents=True)
            nbformat.write(notebook, path)
        return Class(folder, points)

    def grade(self, who: str, students: int) -> Cost:
        """Have one of the contestants grade a new class.

        Raises:
            RuntimeError: when somebody did not get the points that are due.

        """
        made = self.make(students, stock=who != OURS)
        command = [sys.executable, "-m", "nbgrader", "autograde", self._assignment]
        environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        if who == OURS:
            command = [sys.executable, "-m", "dgm_utils.cli", "grade", self._assignment]
        elif who == CHECKS_ONLY:
            startup = made.folder / "ipython" / "profile_default" / "startup" / "first.py"
            startup.parent.mkdir(parents=True)
            startup.write_text(NOBODY_KNOWS)
            environment["IPYTHONDIR"] = str(made.folder / "ipython")
        cost = measured(command, made.folder, **environment)
        if (got := _points(made.folder / "grading" / "gradebook.db")) != made.points:
            said = (made.folder / "output").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{who} gave {got} instead of {made.points}\n{said}")
        shutil.rmtree(made.folder)
        return cost

    def own_cells(self, students: int) -> float:
        """CPU seconds for each submission's cells, all run one after another in a warm kernel.

        As many kernels do so at once as there are cores: a core that shares its caches, or itself,
        with another takes more seconds for the same work, and grading keeps all of them busy.
        """
        made = self.make(students)
        course = Course(made.folder)
        grader = grader_for(course.folders, self._assignment, True)
        sources = ["import time\n_start = time.process_time()"]
        for student in made.points:
            path = course.notebook("submitted", self._assignment, student)
            cells = nbformat.read(path, as_version=4).cells
            sources += [cell.source for cell in cells if cell.cell_type == "code"]
        sources.append("print(time.process_time() - _start)")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
        rules = Rules(notebook_seconds=3600, output_limit=2**40)
        alike = [notebook] * len(os.sched_getaffinity(0))
        done = execute_all(alike, str(grader.sandbox.folder), True, rules)
        close_graders()
        return statistics.fmean(float(d.cells[-1].outputs[0].text) for d in done) / students

    def service(self, students: int) -> Service:
        """How long one submission takes to be sanitized, executed, and marked and recorded."""
        made = self.make(students)
        course = Course(made.folder)
        clock, before = _InLine(), crew._processes
        crew._processes = lambda jobs: contextlib.nullcontext(clock)
        try:
            for _ in autograde.grade_class(course, self._assignment, list(made.points), jobs=1):
                clock.events.append(("record", time.monotonic(), time.monotonic()))
        finally:
            crew._processes = before
            close_graders()
        # Each stretch between two events is named by the event at its end.
        stretches = {"sanitize": [], "record": []}
        for (_, _, left), (name, reached, _) in zip(clock.events, clock.events[1:], strict=False):
            stretches[name].append(reached - left)
        executed = [end - start for name, start, end in clock.events if name == "sanitize"]
        return Service(executed, stretches["sanitize"], stretches["record"])


class _InLine(Executor):
    """Executes at once, in this process, and keeps the time."""

    def __init__(self):
        self.events = []

    def submit(self, function, /, *args, **kwargs):
        start, future = time.monotonic(), Future()
        future.set_result(function(*args, **kwargs))
        # A crew also has its processes say that they have begun.
        if function is not os.getpid:
            self.events.append(("sanitize", start, time.monotonic()))
        return future


def _points(gradebook):
    with closing(sqlite3.connect(gradebook)) as database:
        rows = database.execute("""
            SELECT student_id, sum(auto_score) FROM grade
            JOIN grade_cells ON grade_cells.id = grade.cell_id
            JOIN submitted_notebook ON submitted_notebook.id = grade.notebook_id
            JOIN submitted_assignment ON submitted_assignment.id = submitted_notebook.assignment_id
            WHERE grade_cells.cell_type = 'code' GROUP BY student_id
        """)
        return dict(rows.fetchall())


@dataclass(frozen=True)
class Line:
    """A straight line through costs of classes of several sizes.

    Args:
        start: what a class of nobody would cost.
        each: what each submission adds.
        residual: the largest distance of a point from the line.

    """

    start: float
    each: float
    residual: float

    @classmethod
    def through(cls, sizes, costs):
        """The line with the least squares of relative distances."""
        sizes, costs = numpy.asarray(sizes, float), numpy.asarray(costs, float)
        each, start = numpy.polyfit(sizes, costs, 1, w=1 / costs)
        return cls(start, each, float(abs(costs - start - each * sizes).max()))


def report(options, rounds, grown, own, service) -> str:
    """The page: tables and what they say, in markdown."""
    best = {who: min(costs, key=lambda c: c.wall) for who, costs in rounds.items()}
    lines = [
        _header(options),
        f"## {options.students} submissions of `{options.assignment}`",
        "",
        "The fastest of "
        f"{options.rounds} rounds by turns; in brackets the wall time of every round.",
        "",
        "| | wall | CPU | wall / ours | recording process | largest process |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for who, cost in best.items():
        every = ", ".join(f"{c.wall:.1f}" for c in rounds[who])
        lines.append(
            f"| {who} | {cost.wall:.1f} s ({every}) | {cost.cpu:.1f} s "
            f"| {cost.wall / best[OURS].wall:.2f} | {cost.memory / MIB:,.0f} MiB "
            f"| {cost.largest / MIB:,.0f} MiB |"
        )
    for who in (STOCK, CHECKS_ONLY):
        ratio = best[who].wall / best[OURS].wall
        lines += [
            "",
            f"Against {who}: {ratio:.2f} ×; {_verdict(ratio >= FASTER, FASTER, 'least')}.",
        ]
    sizes = [size for size, _ in grown]
    cpu = Line.through(sizes, [cost.cpu for _, cost in grown])
    wall = Line.through(sizes, [cost.wall for _, cost in grown])
    lines += [
        "",
        "## How the cost grows",
        "",
        "`dgm grade` on classes of several sizes, once each.",
        "",
        "| submissions | wall | CPU | recording process | largest process |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {size} | {cost.wall:.1f} s | {cost.cpu:.1f} s | {cost.memory / MIB:,.0f} MiB "
        f"| {cost.largest / MIB:,.0f} MiB |"
        for size, cost in grown
    ]
    beyond = cpu.each - statistics.fmean(own)
    memory = [cost.memory / MIB for _, cost in grown]
    lines += [
        "",
        f"Wall time is {wall.start:.1f} s + {wall.each:.2f} s a submission, within "
        f"{wall.residual:.1f} s; CPU time {cpu.start:.1f} s + {cpu.each:.2f} s a submission, "
        f"within {cpu.residual:.1f} s. The recording process held {memory[0]:,.0f} MiB for "
        f"{sizes[0]} submissions and {memory[-1]:,.0f} MiB for {sizes[-1]}.",
        "",
        f"The cells of one submission, checks included, take {statistics.fmean(own):.2f} s of CPU "
        f"(from {min(own):.2f} to {max(own):.2f}, before and after each class) in a warm kernel "
        "that runs those of all, while others do so on the other cores. What grading adds is "
        f"{beyond:.2f} s for each submission; {_verdict(beyond <= OVERHEAD, OVERHEAD, 'most')}. "
        "Start-up comes once: imports, the warm process, the workers, and the preflight.",
        "",
        *_on_paper(service),
    ]
    return "\n".join(lines)


def _verdict(reached, target, bound):
    return f"target at {bound} {target:g}: {'reached' if reached else '**missed**'}"


def _on_paper(service, submissions=10_000):
    """A large class on many workers, simulated from measured service times."""
    rng = random.Random(0)
    executed = statistics.fmean(service.execute)
    serial = statistics.fmean(service.sanitize) + statistics.fmean(service.record)
    lines = [
        f"## {submissions:,} submissions, on paper",
        "",
        f"Measured one at a time, on {len(service.execute)} submissions: executing takes "
        f"{executed:.2f} s (from {min(service.execute):.2f} to {max(service.execute):.2f}), "
        f"sanitizing {statistics.fmean(service.sanitize):.3f} s, marking and recording "
        f"{statistics.fmean(service.record):.3f} s. Executing is for the workers. The rest is for "
        "the one process that holds the gradebook, and it hands out work as well, four notebooks "
        "ahead for each worker. `benchmarks/simulation.py` plays that loop with service times "
        "drawn from the measured ones, each worker on a core of its own.",
        "",
        "| workers | takes | bound | workers busy | recording process busy |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for workers in (1, 2, 4, 8, 16, 32, 64):
        outcome = simulate(service, submissions, workers, rng)
        lines.append(
            f"| {workers} | {outcome.makespan / 60:.1f} min | {outcome.bound / 60:.1f} min "
            f"| {outcome.workers_busy:.0%} | {outcome.recorder_busy:.0%} |"
        )
    lines += [
        "",
        "No schedule is faster than the bound: the larger of all serial work, and all execution "
        f"divided by the workers. The two meet at {executed / serial:.1f} workers; more only wait "
        "for the recording process, which is then the bottleneck.",
        "",
    ]
    return lines


def _header(options):
    packages = ("nbgrader", "nbconvert", "nbclient", "ipykernel", "SQLAlchemy", "torch")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    bubblewrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout
    info = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((x.split(":")[1].strip() for x in info if "model name" in x), "")
    return "\n".join(
        [
            f"Made by `{options.command}` on {len(os.sched_getaffinity(0))} cores, "
            f"{processor or platform.machine()}, Python {platform.python_version()}.",
            f"Versions: {versions}, {bubblewrap.strip()}.",
            "",
            "Only the ratios carry over to another machine; expect ±15 %. What is compared, and "
            "how CPU time and memory are measured: the first lines of `benchmarks/grading.py`.",
            "",
        ]
    )


def main() -> None:
    """Measure, print the page and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--assignment", default="iwae")
    parser.add_argument("--class", dest="students", type=int, default=24, metavar="N")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sizes", default="10,30", metavar="N,N,…", help="of growing classes")
    parser.add_argument("--dry", action="store_true", help="write no file")
    parser.add_argument("--own", action="store_true", help="only print what own cells take")
    options = parser.parse_args()
    options.command = " ".join(["python -m benchmarks.grading", *sys.argv[1:]])
    sizes = sorted(int(size) for size in options.sizes.split(","))
    if len(sizes) < 2:
        parser.error("--sizes needs two sizes at least, for a line")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("this benchmark needs Linux: prctl(PR_SET_CHILD_SUBREAPER)")
    with tempfile.TemporaryDirectory(prefix="g-") as folder:
        classes = Classes(options.assignment, Path(folder))
        if options.own:
            print(classes.own_cells(options.students))
            return
        rounds = {who: [] for who in (STOCK, CHECKS_ONLY, OURS)}
        names = list(rounds)
        for turn in range(options.rounds):
            # Who comes first changes from round to round.
            for who in names[turn % 3 :] + names[: turn % 3]:
                rounds[who].append(classes.grade(who, options.students))
                _tell(f"round {turn + 1}, {who}", rounds[who][-1])
        grown, own = [], [_own_cells(options)]
        for size in sizes:
            grown.append((size, classes.grade(OURS, size)))
            _tell(f"{size} submissions", grown[-1][1])
            own.append(_own_cells(options))
        service = classes.service(options.students)
    page = report(options, rounds, grown, own, service)
    print(page)
    if not options.dry:
        REPORT.write_text(page, encoding="utf-8")


def _own_cells(options):
    """In a process of its own, for the memory of this one is in what each command begins with."""
    what = ["--own", "--assignment", options.assignment, "--class", str(options.students)]
    command = [sys.executable, "-m", "benchmarks.grading", *what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    _tell("own cells", seconds := float(done.stdout))
    return seconds


def _tell(what, found):
    said = dataclasses.asdict(found) if isinstance(found, Cost) else found
    print(f"{what}: {json.dumps(said)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
