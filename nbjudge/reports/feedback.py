"""Pages for students, each made where it can harm no other.

A page is made of what a student handed in, and that can take any time and any memory. So pages are
made by processes with limits, one after another; one that goes over a limit ends, another takes its
place, and only that page is missing.
"""

import contextlib
import math
import multiprocessing
import os
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait

from nbjudge.course.folder import Course
from nbjudge.errors import UserError, in_one_line, printable
from nbjudge.reports.late import settle

# The folder beside the pages in which a process makes its own.
_MAKING = ".feedback-"


@dataclass(frozen=True)
class Limits:
    """What one page may take; an honest one takes less than a second.

    Args:
        cpu: seconds of processor time.
        wall: seconds, for one that hangs.
        memory: bytes.

    """

    cpu: float = 30
    wall: float = 600
    memory: int = 4 * 2**30


def write_feedback(
    course: Course,
    assignment: str,
    students: list[str],
    jobs: int | None = None,
    limits: Limits | None = None,
) -> Iterator[tuple[str, str]]:
    """Write the page that each student gets back; yields as each one ends.

    A page is written whole. Where none can be made, an older one is taken away.

    Args:
        course: the course folder.
        assignment: its name.
        students: whose pages; those who have been graded.
        jobs: processes that make pages; None is one for each core.
        limits: for each page.

    Yields:
        Student, and why there is no page; nothing if there is one.

    """
    settle(course, assignment)
    for left in course.grading.glob(f"{_MAKING}*"):
        if not _runs(int(left.name.removeprefix(_MAKING).partition("-")[0])):
            # Of a run that was killed.
            shutil.rmtree(left, ignore_errors=True)
    limits = limits or Limits()
    todo = list(reversed(students))
    workers = [
        _Worker(course, assignment, number, limits)
        for number in range(min(jobs or os.cpu_count() or 1, len(students)))
    ]
    try:
        for worker in workers:
            worker.begin(todo.pop())
        while busy := [worker for worker in workers if worker.student]:
            late = min(worker.deadline for worker in busy) - time.monotonic()
            ready = wait([worker.pipe for worker in busy], max(0.0, late))
            for worker in busy:
                if worker.pipe not in ready and time.monotonic() < worker.deadline:
                    continue
                yield worker.end()
                if todo:
                    worker.begin(todo.pop())
    finally:
        for worker in workers:
            worker.close()


def _runs(process):
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Worker:
    """A process that makes pages, and its successors."""

    def __init__(self, course, assignment, number, limits):
        self.student = None
        self._limits = limits
        self._course, self._assignment = course, assignment
        self._folder = course.grading / f"{_MAKING}{os.getpid()}-{number}"
        self._process = None
        # Its successor need not import everything again.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "nbjudge.reports.pages"])

    def begin(self, student):
        """Have it make a page."""
        if self._process is None:
            self.pipe, theirs = self._context.Pipe()
            about = self._course.root, self._assignment, self._folder, self._limits, theirs
            self._process = self._context.Process(target=_make_pages, args=about, daemon=True)
            self._process.start()
            theirs.close()
        self.student, self.deadline = student, time.monotonic() + self._limits.wall
        # One that has ended since is noticed when the answer does not come.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(student)

    def end(self):
        """Put the page where it belongs, or say why there is none."""
        student, self.student = self.student, None
        page = self._course.path("feedback", student, self._assignment)
        try:
            reason = self.pipe.recv() if self.pipe.poll() else self._stuck()
        except (EOFError, ConnectionResetError):
            reason = self._died()
        try:
            shutil.rmtree(page, ignore_errors=True)
            made = self._folder / student / self._assignment
            if not reason:
                page.parent.mkdir(parents=True, exist_ok=True)
                os.replace(made, page)
        except OSError as error:
            reason = f"could not be written: {error.strerror}"
        shutil.rmtree(self._folder, ignore_errors=True)
        return student, reason

    def close(self):
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.pipe.close()
            self._process = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _stuck(self):
        self.close()
        return f"was not made within {self._limits.wall:g} seconds"

    def _died(self):
        self._process.join()
        code = self._process.exitcode
        self.close()
        if code == -signal.SIGXCPU:
            return f"took more than {self._limits.cpu:g} seconds of processor time"
        return f"the process that made it ended with code {code}"


# ── In the process that makes pages ──────────────────────────────────────────────────────────────


def _make_pages(root, assignment, folder, limits, pipe):
    """Make the page of each student that comes through a pipe, and answer why there is none."""
    # Ctrl-C reaches this process too; who began it will end it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError, OSError):
        # Not every system has it.
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    course = Course(root)
    course.folders.feedback_directory = str(folder)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(_reason(course, assignment, pipe.recv(), limits))


def _reason(course, assignment, student, limits):
    limit = math.ceil(time.process_time() + limits.cpu)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
    try:
        course.feedback(student, assignment)
        reason = ""
    except UserError as error:
        reason = str(error)
    except Exception as error:
        reason = in_one_line(error)
    if reason.startswith("MemoryError"):
        return f"needs more than {limits.memory / 2**30:g} GB of memory"
    return printable(reason)
