"""Execute: a sanitized notebook in, an executed notebook with observations out.

No gradebook, no reference and no other submission is needed here, so it can run in any process or
on any machine that has a `Sandbox`.
"""

import atexit
import contextlib
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

from nbjudge.course.safe_files import as_text
from nbjudge.running.kernel import Ended, Kernel, Limits
from nbjudge.running.sandbox import Contents, Sandbox

OUTPUT_LIMIT = 32_000_000
# A graded cell's own, beside those: more than any record of a check has.
RECORD_LIMIT = 17_000_000
# Wall time is so many times the processor's: a busy machine has many to serve.
WALL = 10
# How long a kernel is watched for what a cell has left behind to end it, and how often a notebook's
# kernel may die before nobody asks why.
SETTLE_SECONDS, LONGEST_SETTLING, SEARCHES = 3.0, 60.0, 8
# Seconds that a cell has at least, however little is left.
LEAST = 0.1
# Where an executed notebook says what became of it; no cell can write there.
_ABOUT = "nbjudge_execution"


@dataclass(frozen=True)
class Rules:
    """How long and how much.

    Seconds are of processor time, of everything that a kernel has started; wall time ends only what
    hangs. Without a jail nobody counts them, and they are of wall time.

    Args:
        cell_seconds: for one cell.
        notebook_seconds: for all cells and all restarts together.
        output_limit: characters that all cells together may put out, graded ones aside.

    """

    cell_seconds: float = 60.0
    notebook_seconds: float = 900.0
    output_limit: int = OUTPUT_LIMIT


class Unfinished(Exception):
    """A notebook was not run to its end; the message says why."""


def execute(
    notebook: NotebookNode, folder: str, jailed: bool = True, rules: Rules | None = None
) -> NotebookNode:
    """Run all code cells in a kernel of a sandbox.

    A cell that kills the kernel, hangs, or floods gets an error output that says so. The others are
    then run in a new kernel: what came before runs again, except for graded cells, whose outputs
    are kept. It need not be the cell that runs when the kernel dies: an earlier one may have left a
    timer or a thread. Then that one gets the error, and what came after it runs without it.

    Args:
        notebook: left as it is.
        folder: of a running `Sandbox`, on this machine.
        jailed: as in that sandbox.
        rules: limits.

    Returns:
        The notebook with outputs and execution counts.

    """
    return _Execution(copy.deepcopy(notebook), folder, jailed, rules or Rules()).run()


def execute_all(
    notebooks: list[NotebookNode], folder: str, jailed: bool = True, rules: Rules | None = None
) -> list[NotebookNode]:
    """`execute` for several notebooks at once, each in a kernel of its own."""
    copies = [copy.deepcopy(notebook) for notebook in notebooks]
    with ThreadPoolExecutor(len(copies)) as threads:
        runs = [_Execution(c, folder, jailed, rules or Rules()) for c in copies]
        done = [threads.submit(run.run) for run in runs]
    return [future.result() for future in done]


def execute_text(
    text: str, contents: Contents, folder: str | None = None, rules: Rules | None = None
) -> str:
    """`execute` for another process or machine: text in, text out.

    Args:
        text: a notebook.
        contents: of the sandbox.
        folder: of a sandbox that is running on this machine; None starts one that lives as long as
            this process, for all notebooks that want the same contents.
        rules: limits.

    """
    # It was sanitized, and what is added is made by nbformat: there is nothing to validate.
    notebook = nbformat.v4.reads(text)
    folder = folder or str(_own_sandbox(contents).folder)
    return as_text(_Execution(notebook, folder, contents.jailed, rules or Rules()).run())


def wants_quiet(notebook: NotebookNode) -> bool:
    """Whether wall time ended something in an executed notebook, which may be a busy machine's.

    Such a notebook is executed again while nothing else runs, once, before it is marked.
    """
    return bool(notebook.metadata.get(_ABOUT, {}).get("by_wall"))


def why_unreached(notebook: NotebookNode, cell: NotebookNode) -> str:
    """Why a cell of an executed notebook was not reached; empty if it was."""
    about = notebook.metadata.get(_ABOUT, {})
    return about.get("why", "") if cell.id in about.get("unreached", ()) else ""


_own: dict[Contents, Sandbox] = {}


def _own_sandbox(contents):
    """This process's one sandbox: a cluster's worker lives for many classes."""
    if contents not in _own:
        _close_own()
        _own[contents] = Sandbox(contents)
    return _own[contents]


@atexit.register
def _close_own():
    while _own:
        _own.popitem()[1].close()


class _Execution:
    """One notebook on its way through as many kernels as it takes; changes the notebook."""

    def __init__(self, notebook, folder, jailed, rules):
        self._notebook, self._sandbox, self._rules = notebook, (folder, jailed), rules
        self._cells = [
            cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()
        ]
        self._left_out = set()
        self._spent, self._by_wall, self._unreached = 0.0, False, {}
        # What each cell has put out, of all that they may put out together.
        self._characters = {}
        self._begun, self._wall = time.monotonic(), WALL if jailed else 1
        self._searches = SEARCHES

    def run(self):
        """Run all cells."""
        begin = 0
        while begin < len(self._cells):
            begin = self._go_on(begin)
        checks = [cell for cell in self._cells if is_graded(cell)]
        self._by_wall |= any(map(_hung, checks))
        self._notebook.metadata[_ABOUT] = {"by_wall": self._by_wall, **self._unreached}
        return self._notebook

    def _go_on(self, begin):
        """Run cells from this one on, in a kernel of their own; the first that is left."""
        try:
            with self._kernel() as kernel:
                self._again(kernel, self._before(begin))
                return self._all(kernel, begin)
        except _Stopped as stop:
            return self._after(stop, begin)

    def _all(self, kernel, begin):
        for number in range(begin, len(self._cells)):
            if number not in self._left_out:
                self._run(kernel, number, self._cells[number])
        return len(self._cells)

    def _after(self, stop, begin):
        """Find out why a kernel could not go on; where to go on instead."""
        if self._time_is_over():
            reason = f"The notebook did not finish within {self._rules.notebook_seconds:g} seconds."
            left = self._cells[begin:]
            self._unreached = {"why": reason, "unreached": [cell.id for cell in left]}
            for cell in left:
                _fail(cell, Unfinished.__name__, reason)
            return len(self._cells)
        if stop.ended.own or self._searches == 0:
            return self._leave_out(stop.number, str(stop.ended), max(begin, stop.number + 1))
        self._searches -= 1
        settling = min(max(SETTLE_SECONDS, stop.age + 1), LONGEST_SETTLING)
        before = self._before(stop.number)
        dies = self._dies(before, settling)
        if dies is None:
            return self._once_more(stop.number, begin, settling)
        # What survives is known for the first ones, and that it dies for one more, or some more.
        alive, dead = 0, dies + 1
        while dead - alive > 1:
            middle = (alive + dead) // 2
            dies = self._dies(before[:middle], settling)
            alive, dead = (middle, dead) if dies is None else (alive, min(middle, dies + 1))
        culprit = before[dead - 1]
        reason = "This cell ended the kernel a moment after it ran, by what it left behind."
        return self._leave_out(culprit, reason, culprit + 1)

    def _once_more(self, number, begin, settling):
        """Run a cell for the second time, after all that came before it has proved harmless."""
        try:
            with self._kernel() as kernel:
                self._again(kernel, self._before(number))
                if number >= begin:
                    self._run(kernel, number, self._cells[number])
                    return self._all(kernel, number + 1)
                # Its outputs were kept the first time.
                self._again(kernel, [number])
                self._settle(kernel, number, settling)
                return begin
        except _Stopped as stop:
            if stop.number > number:
                return self._after(stop, stop.number)
            return self._leave_out(number, str(stop.ended), max(begin, number + 1))

    def _dies(self, numbers, settling):
        """Place of the one of these cells at which a kernel dies that runs no other; or None."""
        if not numbers:
            return None
        try:
            with self._kernel() as kernel:
                self._again(kernel, numbers)
                self._settle(kernel, numbers[-1], settling)
        except _Stopped as stop:
            return numbers.index(stop.number)
        return None

    def _before(self, number):
        """The cells that must run again in a new kernel before this one can."""
        return [
            i for i in range(number) if i not in self._left_out and not is_graded(self._cells[i])
        ]

    def _again(self, kernel, numbers):
        for number in numbers:
            self._run(kernel, number, copy.deepcopy(self._cells[number]))

    def _run(self, kernel, number, cell):
        """Run a cell, or a copy of it; raises `_Stopped` when the kernel cannot go on after it."""
        rules = self._rules
        others = sum(spent for other, spent in self._characters.items() if other != number)
        limits = Limits(
            seconds=max(min(rules.cell_seconds, self._seconds_left(kernel)), LEAST),
            wall=max(min(self._wall * rules.cell_seconds, self._wall_left()), LEAST),
            characters=RECORD_LIMIT if is_graded(cell) else max(rules.output_limit - others, 0),
        )
        try:
            spent = kernel.run(cell, limits)
        except Ended as ended:
            raise self._stopped(kernel, number, ended) from ended
        if cell is self._cells[number] and not is_graded(cell):
            self._characters[number] = spent

    def _settle(self, kernel, number, seconds):
        try:
            kernel.settle(seconds)
        except Ended as ended:
            raise self._stopped(kernel, number, ended) from ended

    def _stopped(self, kernel, number, ended):
        self._by_wall |= ended.by_wall
        return _Stopped(number, ended, kernel.age)

    @contextlib.contextmanager
    def _kernel(self):
        with Kernel(*self._sandbox) as kernel:
            try:
                yield kernel
            finally:
                self._spent += kernel.used

    def _seconds_left(self, kernel=None):
        return self._rules.notebook_seconds - self._spent - (kernel.used if kernel else 0.0)

    def _wall_left(self):
        return self._begun + self._wall * self._rules.notebook_seconds - time.monotonic()

    def _time_is_over(self):
        return min(self._seconds_left(), self._wall_left()) <= LEAST

    def _leave_out(self, number, reason, then):
        """Have a cell fail that runs no more; where to go on."""
        _fail(self._cells[number], "KernelDied", reason)
        self._left_out.add(number)
        return then


class _Stopped(Exception):
    """A kernel could not go on after a cell, at some age."""

    def __init__(self, number, ended, age):
        super().__init__(number, ended, age)
        self.number, self.ended, self.age = number, ended, age


def _hung(cell):
    """Whether the record of a check says that a function waited, as `wire.dump_observations` does.

    It is student code that says so; all that comes of it is that the notebook runs once more.
    """
    return any(
        '"hung": true' in text
        for output in cell.outputs
        for text in output.get("data", {}).values()
        if isinstance(text, str)
    )


def is_graded(cell: NotebookNode) -> bool:
    """Whether nbgrader gives points for what a cell puts out, and no person for what it says."""
    marks = cell.metadata.get("nbgrader", {})
    return bool(marks.get("grade") and not marks.get("solution"))


def _fail(cell, name, reason):
    cell.outputs = [
        *cell.get("outputs", []),
        nbformat.v4.new_output("error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"]),
    ]
