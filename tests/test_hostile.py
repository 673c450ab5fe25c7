"""A class with every hostile submission we know: each gets what is due, and harms nobody."""

import hashlib
import json
import shutil
import socket
import zipfile

import nbformat
import psutil
import pytest
from conftest import needs_sandbox
from hostile import BOUND, CODE, ELBO, WRONG, Hostile

from dgm_utils.grading.autograde import FAILED, GRADED, MANUAL, grade_class
from dgm_utils.grading.course import Course
from dgm_utils.grading.preprocess import close_graders, executed_path

pytestmark = needs_sandbox

TOPIC = "iwae"
KEPT = {"imports", "multi_sample_elbo", "iwae_bound", "proof-monotone"}
HONEST = {"whole": 3.0, "mistaken": 1.0, "untouched": 0.0}
OUTPUTS = {"answers", "autograded", "executed", "graded", "gradebook.db", "feedback", "reports"}


def small(notebook):
    """Two exercises and a written task are enough, and nothing is trained."""

    def wanted(cell):
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        return name in KEPT or name.removesuffix("-solution").removesuffix("-check") in KEPT

    notebook.cells = [cell for cell in notebook.cells if wanted(cell)]
    return notebook


def answered(course, bound, attack=""):
    notebook = nbformat.read(course.notebook("release", TOPIC), 4)
    for cell in notebook.cells:
        if cell.id == "multi_sample_elbo-solution":
            cell.source = ELBO
        if cell.id == "iwae_bound-solution":
            cell.source = bound
    if attack:
        notebook.cells.insert(1, nbformat.v4.new_code_cell(attack, id="attack"))
    return notebook


def submit(course, student, content):
    path = course.notebook("submitted", TOPIC, student)
    path.parent.mkdir(parents=True)
    content = nbformat.writes(content) if isinstance(content, dict) else content
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# Submissions whose files are the attack; each is (student, what it does to an honest notebook).


def _duplicated(course):
    notebook = answered(course, WRONG)
    check = next(cell for cell in notebook.cells if cell.id == "iwae_bound-check")
    notebook.cells.append(nbformat.from_dict({**check, "id": "again", "source": "1"}))
    return submit(course, "duplicated-cell", notebook)


def _stripped(course):
    notebook = answered(course, WRONG)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
    return submit(course, "stripped-metadata", notebook)


def _renamed(course):
    path = submit(course, "renamed", answered(course, WRONG))
    path.rename(path.with_name("Untitled (3).ipynb"))


def _torch_beside(course):
    path = submit(course, "torch-beside", answered(course, WRONG))
    evil = "import sys\nallclose = equal = lambda *a: True\nprint('REACHED', file=sys.stderr)\n"
    for name in ("torch.py", "sitecustomize.py", "nbgrader_config.py"):
        (path.parent / name).write_text(evil)


def _link(course, name, at, target):
    path = submit(course, name, answered(course, WRONG))
    link = path.parent / at
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _linked_notebook(course):
    _link(course, "link-to-a-notebook", "iwae.ipynb", course.notebook("submitted", TOPIC, "whole"))


def _linked_folder(course):
    _link(course, "link-to-a-folder", "data", course.path("submitted", "whole", TOPIC))


def _linked_gradebook(course):
    _link(course, "link-to-the-gradebook", "notes.txt", course.grading / "gradebook.db")


def _zip_bomb(course):
    path = course.notebook("submitted", TOPIC, "zip-bomb")
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("iwae.ipynb", bytes(50_000_000))


def _deep(course):
    submit(course, "nested-json", '{"cells": ' + "[" * 200_000 + "]" * 200_000 + "}")


FILES = [
    _duplicated,
    _stripped,
    _renamed,
    _torch_beside,
    _linked_notebook,
    _linked_folder,
    _linked_gradebook,
    _zip_bomb,
    _deep,
    lambda course: submit(course, "not-json", "This was meant to be a notebook."),
    lambda course: submit(course, "empty-file", ""),
]
# At most what the right one of two answers is worth.
MENDED = {"duplicated-cell", "stripped-metadata", "renamed", "torch-beside"}
REFUSED = {"link-to-a-notebook", "link-to-a-folder", "link-to-the-gradebook"} | {
    "zip-bomb",
    "nested-json",
    "not-json",
    "empty-file",
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """The class, graded: the course, what the honest got alone, all results, what else changed."""
    from conftest import ROOT

    folder = tmp_path_factory.mktemp("class")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    source = small(nbformat.read(ROOT / "solutions" / TOPIC / f"{TOPIC}.ipynb", 4))
    path = folder / "solutions" / TOPIC / f"{TOPIC}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text(nbformat.writes(source))
    course = Course(folder)
    course.api.config.ExecuteAndMark.cell_seconds = 5.0
    course.api.config.ExecuteAndMark.notebook_seconds = 60.0
    course.release(TOPIC)
    try:
        other = submit(course, "whole", answered(course, BOUND))
        submit(course, "mistaken", answered(course, WRONG))
        submit(course, "untouched", nbformat.read(course.notebook("release", TOPIC), 4))
        alone = {r.student: r for r in grade_class(course, TOPIC, list(HONEST), jobs=2)}
        rows = {student: scores(course, student) for student in HONEST}

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.1)
            port = server.getsockname()[1]
            for hostile in CODE:
                attack = hostile.attack
                for name, value in (("course", folder), ("other", other), ("port", port)):
                    attack = attack.replace(f"{{{name}}}", str(value))
                submit(course, hostile.name, answered(course, hostile.bound, attack))
            for make in FILES:
                make(course)
            before = contents(course)
            results = {}
            students = course.submissions(TOPIC)
            for result in grade_class(course, TOPIC, students, jobs=2, regrade=True):
                assert result.student not in results
                results[result.student] = result
            after = contents(course)
            with pytest.raises(TimeoutError):
                server.accept()
        left = [p for p in psutil.Process().children(recursive=True) if "zygote" in cmdline(p)]
        yield course, alone, rows, results, (before, after), left
    finally:
        close_graders()


def cmdline(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def scores(course, student):
    """What the gradebook holds of a student."""
    with course.api.gradebook as gradebook:
        (notebook,) = gradebook.find_submission(TOPIC, student).notebooks
        return sorted((g.name, g.auto_score, g.manual_score, g.max_score) for g in notebook.grades)


def contents(course):
    """Digest of every file of the course that grading has no business with."""
    found = {}
    for path in course.root.rglob("*"):
        parts = path.relative_to(course.root).parts
        if parts[0] == "grading" and len(parts) > 1 and parts[1] in OUTPUTS:
            continue
        if path.is_file() and not path.is_symlink():
            found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_every_submission_ends_once(graded):
    course, _, _, results, _, _ = graded
    assert set(results) == set(course.submissions(TOPIC))
    assert len(results) == len(HONEST) + len(CODE) + len(FILES)
    assert all(r.reason for r in results.values() if r.state == FAILED)
    assert all((r.points is None) == (r.state == FAILED) for r in results.values())


def test_the_honest_have_the_grades_they_have_alone(graded):
    course, alone, rows, results, _, _ = graded
    assert {student: alone[student].points for student in HONEST} == HONEST
    assert {student: results[student] for student in HONEST} == alone
    assert {student: scores(course, student) for student in HONEST} == rows
    assert alone["mistaken"].misconceptions


@pytest.mark.parametrize("hostile", CODE, ids=[hostile.name for hostile in CODE])
def test_code_gets_the_points_that_are_due(graded, hostile: Hostile):
    course, _, _, results, _, _ = graded
    result = results[hostile.name]
    assert result.state in (GRADED, MANUAL), result.reason
    assert (result.points, result.max_points) == (hostile.points, 3.0)
    recorded = [score for _, score, _, _ in scores(course, hostile.name) if score is not None]
    assert sum(recorded) == hostile.points
    assert not result.copies
    assert all(name == "iwae_bound" for name, _ in result.misconceptions)
    assert "evil" not in str(result.misconceptions)
    assert not reached(course, hostile.name)


def reached(course, student):
    """Whether a cell's output says that the attack got where it wanted."""
    notebook = json.loads(course.notebook("autograded", TOPIC, student).read_text())
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    return "REACHED" in json.dumps(outputs)


@pytest.mark.parametrize("student", sorted(MENDED))
def test_a_bent_notebook_is_graded_or_failed_with_a_reason(graded, student):
    result = graded[3][student]
    assert result.points in (1.0, None)
    if result.points is None:
        assert result.state == FAILED and result.reason
    else:
        assert not reached(graded[0], student)


@pytest.mark.parametrize("student", sorted(REFUSED))
def test_what_is_no_notebook_of_the_student_is_refused(graded, student):
    course, _, _, results, _, _ = graded
    assert (results[student].state, results[student].points) == (FAILED, None)
    assert results[student].reason
    # Nothing that a link points to was copied.
    for folder in ("autograded", "feedback"):
        made = course.path(folder, student, TOPIC)
        assert not made.exists() or not [p for p in made.rglob("*") if p.is_file()]


def test_nothing_else_in_the_course_has_changed(graded):
    before, after = graded[4]
    # Intake gives a renamed notebook a copy under the right name, in its own folder.
    own = {f"grading/submitted/renamed/{TOPIC}/{TOPIC}.ipynb"}
    assert {name: digest for name, digest in after.items() if name not in own} == before
    assert len(before) > len(CODE)


def test_no_process_is_left(graded):
    # The warm process, who holds its tree, and bubblewrap's two.
    assert 3 <= len(graded[5]) <= 4


def test_the_same_code_with_another_text_is_another_submission(graded):
    """Otherwise one student's written answers could be recorded as another's."""
    course = graded[0]
    notebook = answered(course, BOUND)
    first = executed_path(course.folders, TOPIC, "ada", notebook, b"")
    assert executed_path(course.folders, TOPIC, "ben", notebook, b"") != first
    text = next(cell for cell in notebook.cells if cell.id == "proof-monotone")
    text.source += " My own proof."
    assert executed_path(course.folders, TOPIC, "ada", notebook, b"") != first
