"""Grade a class: sanitize, execute elsewhere, mark and record; what breaks one harms no other."""

import collections
import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, ProcessPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path

import nbformat
from nbconvert import NotebookExporter
from nbformat import NotebookNode
from nbgrader.api import MissingEntry
from nbgrader.converters import Autograde

from nbjudge.course.declared import declared
from nbjudge.course.files import (
    as_text,
    kept_folder,
    notebooks_in,
    read_notebook,
    remove_halves,
    write_whole,
)
from nbjudge.course.folder import Course, CourseError, NotConverted
from nbjudge.course.gradebook import ANSWERS, grades_of, opened_once, waiting_of
from nbjudge.course.results import FAILED, GRADED, MANUAL, Result
from nbjudge.errors import in_one_line
from nbjudge.judging.verdict import VERDICT_MIME
from nbjudge.reports.tables import as_csv
from nbjudge.running.execute import execute_text, is_graded, wants_quiet
from nbjudge.running.startup import begin_worker
from nbjudge.step import EXECUTED, ExecuteAndMark, executed_path
from nbjudge.submissions.handed_in import SubmissionError, fingerprint
from nbjudge.submissions.intake import take_all
from nbjudge.submissions.note import mended
from nbjudge.submissions.released import release_paths

# Columns that hold several entries, separated by semicolons.
_LISTS = ("misconceptions", "copies", "mended", "untouched")


def grade_class(
    course: Course,
    assignment: str,
    students: list[str],
    *,
    jobs: int | None = None,
    jailed: bool = True,
    cluster: str | None = None,
    regrade: bool = False,
) -> Iterator[Result]:
    """Grade each student's submission; yields as each one ends, those graded before first.

    Student code runs in sandboxes, in any number of processes; marks are given and recorded in this
    one. A run that was killed goes on where it stopped when it is started again.

    Whatever goes wrong with one submission becomes its result, and the others go on.

    Args:
        course: the course folder.
        assignment: its name.
        students: whose submissions.
        jobs: processes that execute notebooks; None is one for each core.
        jailed: whether student code is shut in.
        cluster: address of a Dask scheduler that executes instead.
        regrade: whether to grade again what was graded before.

    Raises:
        CourseError: when another process grades the assignment in this folder.
        PreflightError: when the instructor's own notebooks do not get the points they must get.
        SandboxError: when there is no sandbox.

    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    jobs = min(jobs or os.cpu_count() or 1, len(students))
    with course.claimed(assignment), _Crew(jobs, cluster) as crew:
        course.api.config.ExecuteAndMark.sandbox = jailed
        grader = ExecuteAndMark(config=course.api.config).grader(course.folders, assignment)
        # What is in the sandbox here need not travel with every submission.
        contents = grader.contents if cluster else replace(grader.contents, beside=())
        execute = functools.partial(
            execute_text,
            contents=contents,
            folder=None if cluster else str(grader.sandbox.folder),
            rules=grader.rules,
        )
        crew.execute = functools.partial(_execute_each, execute)
        todo = collections.deque()
        for record in _records(course, assignment, students, grader, regrade):
            if result := record.attempt(record.read):
                yield result
            else:
                todo.append(record)
        alone = []
        # Few at a time, so that a large class needs no more memory than a small one.
        for record in _executed(todo, crew, 4 * jobs):
            if record.needs_quiet:
                alone.append(record)
            else:
                yield record.finish()
        for record in alone:
            # What was ended by the clock on the wall, or died with its worker, may be innocent: now
            # nothing of the class runs beside it.
            for _ in _executed(collections.deque([record]), crew, 1):
                yield record.finish()


def _execute_each(execute, texts):
    return [execute(text) for text in texts]


def _executed(todo, crew, ahead):
    """Each record once its notebook has been executed, or cannot be; empties the queue.

    Whoever kept the records would keep the notebooks of a whole class.
    """
    waiting = {}
    while todo or waiting:
        while todo and len(waiting) < ahead:
            record = todo.popleft()
            if record.prepare():
                waiting[crew.submit(list(record.texts.values()))] = record
            else:
                yield record
        done, _ = wait(waiting, return_when=FIRST_COMPLETED) if waiting else ((), ())
        for future in done:
            record = waiting.pop(future)
            try:
                record.keep(future.result())
            except BrokenExecutor:
                crew.must_have_begun()
                record.lose_worker()
            except Exception as error:
                # Not remembered: it may be the machine's fault, and is tried again.
                record.fail(f"could not be executed: {in_one_line(error)}")
            yield record


class _Crew:
    """Where notebooks are executed: processes here, or a cluster's; a context manager.

    Args:
        jobs: how many processes.
        cluster: address of a Dask scheduler that executes instead.

    """

    def __init__(self, jobs, cluster):
        self._jobs, self._cluster = jobs, cluster
        self.execute = None

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        self._executor = self._start()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def submit(self, texts):
        """Have a submission's notebooks executed, one after another; a future."""
        try:
            return self._executor.submit(self.execute, texts)
        except BrokenExecutor:
            # One of its processes has died, and the others were ended with it.
            self._stack.close()
            self._executor = self._start()
            return self._executor.submit(self.execute, texts)

    def must_have_begun(self):
        """Whether a process that died can have died of a notebook.

        Raises:
            CourseError: when none has got so far; then no notebook is to blame.

        """
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


def _records(course, assignment, students, grader, regrade):
    """One for each submission, once the halves that a killed run left are gone."""
    executed, answers, graded = (
        kept_folder(course.folders, kind, assignment) for kind in (EXECUTED, ANSWERS, "graded")
    )
    for folder in (executed, answers, graded, course.grading / "reports"):
        remove_halves(folder)
    with course.api.gradebook as gradebook:
        waiting = waiting_of(gradebook, assignment)
    records = [_Record(course, assignment, s, grader, waiting.get(s)) for s in students]
    if regrade:
        shutil.rmtree(executed, ignore_errors=True)
        for record in records:
            # All of them first: a run that is killed on the way leaves no old result to trust.
            record.forget()
    return records


class _Record:
    """What is known of one submission while it is graded, on disk and in here.

    Its steps are `read`, or else `prepare`, `keep` and `finish`.
    """

    def __init__(self, course, assignment, student, grader, waiting):
        self.student = student
        # Where each notebook's executed form is kept → the notebook, as long as it is not there.
        self.texts = {}
        # Whether its notebook is to be executed once more, alone.
        self.needs_quiet = False
        # Whether a person must grade; None when the gradebook does not know the submission.
        self._waiting = waiting
        self._course, self._assignment = course, assignment
        self._path = course.grading / "graded" / assignment / f"{student}.json"
        self._folder = course.path("submitted", student, assignment)
        self._version = grader.marker.version
        self._result = None
        self._tries = 0

    def attempt(self, step):
        """What a step returns; if it fails, the result that says why."""
        try:
            return step()
        except SubmissionError as error:
            self.fail(str(error), remember=True)
        except Exception as error:
            # Whatever a student has bent, the class goes on.
            self.fail(f"could not be graded: {in_one_line(error)}")
        return self._result

    def fail(self, reason, remember=False):
        """End it without points.

        Args:
            reason: said to the instructor.
            remember: whether the next run need not try again.

        """
        self._result = Result(self.student, FAILED, reason)
        if remember:
            # It ends the same way if it cannot be remembered.
            with contextlib.suppress(Exception):
                self.write(self._result)

    def read(self):
        """The result of an earlier run, if neither submission nor exercises changed since."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            result = Result(**found["result"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            # There was none, or a person or another version has written what this cannot read.
            return None
        if found["digest"] != self._digest():
            return None
        if result.state == FAILED:
            return result
        # When formgrader's button fails, nbgrader forgets what it had; and the gradebook's grades
        # go when a person removes the assignment there.
        kept = self._course.path("autograded", self.student, self._assignment)
        if not notebooks_in(kept) or self._waiting is None:
            return None
        # A person may have graded since.
        return replace(result, state=MANUAL if self._waiting else GRADED)

    def forget(self):
        """Trust no earlier result; to be called before anything of it is changed."""
        with contextlib.suppress(OSError, ValueError):
            self._path.unlink(missing_ok=True)

    def write(self, result):
        """Remember that this submission is done; the last step, and all or nothing."""
        text = json.dumps({"digest": self._digest(), "result": asdict(result)})
        write_whole(self._path, text)
        return result

    def _digest(self):
        return hashlib.sha256(fingerprint(self._folder) + self._version).hexdigest()

    def prepare(self) -> bool:
        """Sanitize; whether the notebook must now be executed."""
        self._tries += 1
        self.needs_quiet = False
        self._result = None
        self.attempt(self._sanitize)
        return not self._result and bool(self.texts)

    def _sanitize(self):
        """The notebooks as they will be executed, their locked cells as they were released."""
        folders = self._course.folders
        found, self._missing = take_all(self._folder, release_paths(folders, self._assignment))
        self._sanitized, self._executed, self.texts = {}, [], {}
        for path, notebook in found.items():
            notebook = self._sanitized[path.stem] = self._sanitize_one(path, notebook)
            executed = executed_path(
                folders, self._assignment, self.student, notebook, self._version
            )
            self._executed.append(executed)
            if not executed.is_file():
                self.texts[executed] = as_text(notebook)

    def _sanitize_one(self, path, notebook):
        folders = self._course.folders
        folders.assignment_id, folders.student_id = self._assignment, self.student
        converter = Autograde(coursedir=folders, config=self._course.api.config)
        # Only to make the steps: it would copy the notebook three times and write it down.
        exporter = NotebookExporter(config=converter.config)
        for preprocessor in converter.sanitize_preprocessors:
            exporter.register_preprocessor(preprocessor)
        resources = converter.init_single_notebook_resources(str(path))
        try:
            with opened_once():
                for step in exporter._preprocessors:
                    notebook, resources = step(notebook, resources)
            nbformat.validate(notebook, relax_add_props=True)
        except SubmissionError:
            raise
        except Exception as error:
            # What nbgrader makes of a notebook that a student has bent is the notebook's fault.
            raise SubmissionError(in_one_line(error)) from error
        return notebook

    def keep(self, texts):
        """Keep executed notebooks, so that a run that is killed now need not execute them again."""
        for executed, text in zip(self.texts, texts, strict=True):
            if self._tries == 1 and wants_quiet(nbformat.v4.reads(text)):
                self.needs_quiet = True
            else:
                write_whole(executed, text)

    def lose_worker(self):
        """The process that executed it has died, for its sake or for another's."""
        if self._tries == 1:
            self.needs_quiet = True
        else:
            self.fail(
                "could not be executed: what the notebook sent ended the process that reads it, "
                "most likely for want of memory"
            )

    def finish(self):
        """Mark and record through nbgrader, then remember; the result."""
        return self._result or self.attempt(self._grade)

    def _grade(self):
        self.forget()
        result = grade(self._course, self._assignment, self.student, self._sanitized, self._missing)
        for executed in self._executed:
            executed.unlink(missing_ok=True)
        # A failure here may be the machine's, and is tried again by the next run.
        return result if result.state == FAILED else self.write(result)


def grade(
    course: Course,
    assignment: str,
    student: str,
    sanitized: dict[str, NotebookNode] | None = None,
    missing: Iterable[str] = (),
) -> Result:
    """Have nbgrader autograde one submission; what is wrong with it becomes the result's reason.

    Args:
        course: the course folder.
        assignment: its name.
        student: whose submission.
        sanitized: name of each notebook → what nbgrader's sanitizing makes of it, if that was done
            before.
        missing: file names of notebooks that were not handed in.

    """
    course.remove_student_files(student, assignment)
    with opened_once():
        try:
            course.autograde(student, assignment, sanitized)
        except NotConverted as error:
            return Result(student, FAILED, str(error))
        return _recorded(course, assignment, student, missing)


def write_csv(path: Path, results: list[Result]) -> None:
    """One row for each submission; a failed one has no points rather than 0."""
    rows = []
    for r in results:
        named = "; ".join(f"{exercise}: {name}" for exercise, name in r.misconceptions)
        lists = [named, *("; ".join(items) for items in (r.copies, r.mended, r.untouched))]
        rows.append([r.student, r.points, r.max_points, r.state, r.reason, *lists])
    header = ["student", "points", "max_points", "state", "reason", *_LISTS]
    write_whole(path, as_csv(header, rows))


def _recorded(course, assignment, student, missing):
    """The result as it stands in the gradebook and in the autograded notebooks."""
    with course.api.gradebook as gradebook:
        try:
            grades = grades_of(gradebook, assignment, student)
        except MissingEntry:
            return Result(student, FAILED, "nbgrader recorded no submission")
        checks = [grade for grade in grades if _is_automatic(grade)]
        if ungraded := [grade.cell.name for grade in checks if grade.auto_score is None]:
            return Result(student, FAILED, f"not graded: {', '.join(sorted(ungraded))}")
        points = sum(grade.auto_score for grade in checks)
        max_points = sum(grade.cell.max_score for grade in checks)
        state = MANUAL if any(grade.needs_manual_grade for grade in grades) else GRADED
        handed_in = [grade for grade in grades if f"{grade.notebook.name}.ipynb" not in missing]
        untouched = sorted(grade.cell.name for grade in handed_in if _is_untouched(grade))
    paths = notebooks_in(course.path("autograded", student, assignment))
    notebooks = {path.stem: read_notebook(path) for path in paths}
    verdicts = [verdict for notebook in notebooks.values() for verdict in _verdicts(notebook)]
    said = [
        sentence if name == assignment else f"{name}: {sentence}"
        for name, notebook in notebooks.items()
        for sentence in mended(notebook)
    ]
    if missing:
        # As nbgrader does it.
        said.append(f"Not handed in, and so 0 points for all of it: {', '.join(missing)}.")
    named = {v["exercise"]: v["misconception"] for v in verdicts if v["misconception"]}
    copies = sorted({v["exercise"] for v in verdicts if v["copied"]})
    return Result(
        student,
        state,
        points=points,
        max_points=max_points,
        misconceptions=tuple(named.items()),
        copies=tuple(copies),
        mended=tuple(said),
        untouched=tuple(untouched),
    )


def _is_automatic(grade):
    """Whether points are for what a cell of code puts out; a person grades what students write."""
    answers = {cell.name for cell in grade.notebook.notebook.solution_cells}
    return grade.cell.cell_type == "code" and grade.cell.name not in answers


def _is_untouched(grade):
    """Whether nbgrader gave a written task its 0 because nothing was written there."""
    by_a_person = grade.needs_manual_grade or grade.manual_score is not None
    return not _is_automatic(grade) and grade.auto_score == 0 and not by_a_person


def _verdicts(notebook):
    """The verdicts that the marker left in a notebook's graded checks."""
    for cell in notebook.cells:
        # Into any other cell the student's own code can print what it likes.
        if not is_graded(cell):
            continue
        for output in cell.get("outputs", ()):
            if VERDICT_MIME in output.get("data", {}):
                yield output["data"][VERDICT_MIME]
