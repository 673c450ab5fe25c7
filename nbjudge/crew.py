"""Where the notebooks of a class are executed: in processes here, or on a cluster."""

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

from nbjudge.course.declared import declared
from nbjudge.course.folder import CourseError
from nbjudge.course.results import FAILED, Result
from nbjudge.course.safe_files import read_notebook, write_whole
from nbjudge.errors import in_one_line
from nbjudge.running.execute import wants_quiet
from nbjudge.running.startup import begin_worker
from nbjudge.submissions.sanitize import Sanitized


@dataclass(frozen=True)
class Executed:
    """A submission whose notebooks have outputs, those of the checks too: what they observed.

    Args:
        sanitized: what was executed.
        notebooks: name → notebook with outputs.

    """

    sanitized: Sanitized
    notebooks: dict[str, NotebookNode]


class Crew:
    """Executes notebooks, as long as the context lasts.

    Args:
        jobs: how many processes.
        cluster: address of a Dask scheduler that executes instead.

    """

    def __init__(self, jobs: int, cluster: str | None = None):
        self._jobs, self._cluster = jobs, cluster

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self._executor = self._start()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def executed(
        self, sanitized: Iterator[Sanitized | Result], execute: Callable[[str], str]
    ) -> Iterator[Executed | Result]:
        """Each once its notebooks were executed; in place of one that cannot be, its result.

        Args:
            sanitized: asked for few at a time, so that a large class needs no more memory than a
                small one; a result is handed on.
            execute: what a process does with a notebook, text in, text out.

        """
        again: list[Sanitized] = []
        execute = functools.partial(_execute_each, execute)
        yield from self._run(sanitized, execute, 4 * self._jobs, again)
        for one in again:
            # What was ended by the clock on the wall, or died with its worker, may be innocent: now
            # nothing of the class runs beside it.
            yield from self._run(iter([one]), execute, 1)

    def _run(self, source, execute, ahead, again=None):
        """Fills the list with those that are to be executed once more, alone, if it is given."""
        waiting = {}
        left = True
        while left or waiting:
            while left and len(waiting) < ahead:
                one = next(source, None)
                if one is None:
                    left = False
                elif isinstance(one, Result):
                    yield one
                elif texts := [one.texts[name] for name in _left(one)]:
                    waiting[self.submit(execute, texts)] = one
                else:
                    yield one.submission.attempt(_kept, one)
            done, _ = wait(waiting, return_when=FIRST_COMPLETED) if waiting else ((), ())
            for future in done:
                one = waiting.pop(future)
                ended = self._ended(one, future, last=again is None)
                if ended:
                    yield ended
                else:
                    again.append(one)

    def _ended(self, one, future, last):
        """How the execution of a notebook ended; None if it is to be tried once more."""
        student = one.submission.student
        try:
            hurried = False
            for name, text in zip(_left(one), future.result(), strict=True):
                if not last and wants_quiet(nbformat.v4.reads(text)):
                    hurried = True
                else:
                    write_whole(one.kept[name], text)
            return None if hurried else _kept(one)
        except BrokenExecutor:
            # The process that executed it has died, for its sake or for another's.
            self._must_have_begun()
            said = (
                "could not be executed: what the notebook sent ended the process that reads it, "
                "most likely for want of memory"
            )
            return Result(student, FAILED, said) if last else None
        except Exception as error:
            # Not remembered: it may be the machine's fault, and is tried again.
            return Result(student, FAILED, f"could not be executed: {in_one_line(error)}")

    def submit(self, execute: Callable[[list[str]], list[str]], texts: list[str]) -> Future:
        """Have a submission's notebooks executed, one after another."""
        try:
            return self._executor.submit(execute, texts)
        except BrokenExecutor:
            # One of its processes has died, and the others were ended with it.
            self._stack.close()
            self._executor = self._start()
            return self._executor.submit(execute, texts)

    def _must_have_begun(self):
        """Raise CourseError when no process has got so far that a notebook can be to blame."""
        if self._began and all(isinstance(f.exception(), BrokenExecutor) for f in self._began):
            raise CourseError(
                "the processes that execute notebooks die while they start: look at what they "
                "wrote above, or at the machine's memory"
            )

    def _start(self):
        if self._cluster:
            self._began = []
            return self._stack.enter_context(_connected(self._cluster))
        executor = self._stack.enter_context(_processes(self._jobs))
        # Has each worker start, which would otherwise wait for the first notebook.
        self._began = [executor.submit(os.getpid) for _ in range(self._jobs)]
        return executor


def _execute_each(execute, texts):
    return [execute(text) for text in texts]


def _left(sanitized):
    """Names of the notebooks that are still to be executed."""
    return [name for name, path in sanitized.kept.items() if not path.is_file()]


def _kept(sanitized):
    """What was executed, by this run or by one that was killed."""
    notebooks = {name: read_notebook(path) for name, path in sanitized.kept.items()}
    return Executed(sanitized, notebooks)


@contextlib.contextmanager
def _processes(jobs):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, begin_worker) as executor:
        try:
            yield executor
        finally:
            # A run that is interrupted does not wait for what has not begun.
            executor.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _connected(cluster):
    try:
        from distributed import Client
    except ImportError:
        raise CourseError(f"--cluster needs Dask: {declared().cluster}") from None
    try:
        client = Client(cluster, timeout=10)
    except (OSError, ValueError) as error:
        raise CourseError(f"no Dask scheduler answers at {cluster}: {error}") from None
    with client:
        yield client.get_executor()
