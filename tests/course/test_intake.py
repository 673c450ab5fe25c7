"""A submission that was bent in a student's hands is graded as if nothing had happened, or told why

it cannot be. What grading needs are the released cells: each once, in order, with their metadata.
"""

import copy
import io
import json
import random
import shutil
import zipfile

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader.apps import ZipCollectApp
from submissions import (
    ANSWER,
    PLAYED,
    RELEASE,
    TOPIC,
    cell,
    index,
    make_course,
    marks,
    write,
    zipped,
)
from traitlets.config.loader import PyFileConfigLoader

from nbjudge.course.folder import Course, CourseError
from nbjudge.course.results import FAILED
from nbjudge.record import grade
from nbjudge.submissions import collect as collecting
from nbjudge.submissions import handed_in as folders
from nbjudge.submissions.collect import collect
from nbjudge.submissions.handed_in import SubmissionError, fingerprint, handed_in, read
from nbjudge.submissions.intake import take_in
from nbjudge.submissions.mend import ForeignNotebookError, mend
from nbjudge.submissions.note import MENDED_ID, mended, note
from nbjudge.submissions.recognize import held

# Two files whose notebooks repeat ids are among what is bent here.
pytestmark = pytest.mark.filterwarnings("ignore::nbformat.warnings.DuplicateCellId")


def known(notebook):
    """What nbgrader sees: the cells with metadata."""
    return [
        (dict(marks(c)), c.cell_type, c.metadata.get("editable"))
        for c in notebook.cells
        if "nbgrader" in c.metadata
    ]


def again(c, **changed):
    """A copy as Jupyter pastes it: all the same, but the id."""
    return nbformat.from_dict({**copy.deepcopy(c), "id": "pasted", **changed})


def assert_whole(notebook, released, answer=ANSWER, proof="By Jensen."):
    assert known(notebook) == known(released)
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids)
    nbformat.validate(copy.deepcopy(notebook))
    assert cell(notebook, f"{PLAYED}-solution").source == answer
    assert cell(notebook, "proof-monotone").source == proof
    # As released, but for what was answered.
    for c in released.cells:
        name = marks(c).get("grade_id")
        # Of locked cells nbgrader restores the text.
        answered = name in (f"{PLAYED}-solution", "proof-monotone")
        if name and not answered and not marks(c)["locked"]:
            assert cell(notebook, name).source == c.source


def definitions_before(notebook, grade_id):
    """The code that is run before a cell, in order."""
    cells = notebook.cells[: index(notebook, grade_id)]
    return [c.source for c in cells if c.cell_type == "code" and f"def {PLAYED}(" in c.source]


def test_a_notebook_in_order_is_not_touched(submitted, released):
    before = copy.deepcopy(submitted)
    assert mend(submitted, released) == []
    assert submitted == before


def test_the_solution_is_in_order(released):
    source = nbformat.read(ROOT / "solutions" / TOPIC / f"{TOPIC}.ipynb", as_version=4)
    assert mend(source, released) == []


# Each bends a notebook and returns words that the report must have.
def delete_check(nb):
    del nb.cells[index(nb, f"{PLAYED}-check")]
    return "Missing", f"{PLAYED}-check"


def delete_everything_around_the_answers(nb):
    nb.cells = [c for c in nb.cells if marks(c).get("solution")]
    return "Missing", "imports", f"{PLAYED}-check"


def delete_imports(nb):
    del nb.cells[index(nb, "imports")]
    return "Missing", "imports"


def delete_another_solution(nb):
    del nb.cells[index(nb, "active_units-solution")]
    return "Missing", "active_units-solution"


def delete_another_proof(nb):
    del nb.cells[index(nb, "proof-q-ew")]
    return "Missing", "proof-q-ew"


def double_check(nb):
    place = index(nb, f"{PLAYED}-check")
    nb.cells.insert(place, again(nb.cells[place]))
    return "more than once", f"{PLAYED}-check"


def double_check_at_the_top(nb):
    nb.cells.insert(0, again(cell(nb, f"{PLAYED}-check")))
    return "more than once", f"{PLAYED}-check"


def double_answer(nb):
    place = index(nb, f"{PLAYED}-solution")
    nb.cells.insert(place, again(nb.cells[place]))
    return "more than once", f"{PLAYED}-solution"


def stub_after_the_answer(nb):
    place = index(nb, f"{PLAYED}-solution")
    nb.cells.insert(place + 1, again(nb.cells[place], source=STUB))
    return "more than once", f"{PLAYED}-solution"


def answer_after_the_check(nb):
    place = index(nb, f"{PLAYED}-solution")
    nb.cells.append(again(nb.cells[place]))
    nb.cells[place].source = STUB
    return "wrong place", f"{PLAYED}-solution"


def double_section(nb):
    first, last = index(nb, f"{PLAYED}-card"), index(nb, f"{PLAYED}-check")
    section = [again(c, id=f"pasted-{i}") for i, c in enumerate(nb.cells[first : last + 1])]
    section[1].source = STUB
    nb.cells[first:first] = section
    return "more than once", f"{PLAYED}-card", f"{PLAYED}-solution", f"{PLAYED}-check"


def strip_all(nb):
    for c in nb.cells:
        c.metadata.clear()
    return "Without nbgrader's metadata", "imports", " more."


def strip_all_and_ids(nb):
    for number, c in enumerate(nb.cells):
        c.metadata.clear()
        c.id = f"other-{number}"
    return "Without nbgrader's metadata", "imports", " more."


def strip_ids_as_before_nbformat_4_5(nb):
    nb.nbformat_minor = 4
    for c in nb.cells:
        del c["id"]
    return ()


def strip_and_double(nb):
    strip_all_and_ids(nb)
    place = next(i for i, c in enumerate(nb.cells) if c.source == ANSWER)
    nb.cells.insert(place + 1, again(nb.cells[place], source=STUB))
    return "more than once", f"{PLAYED}-solution"


def strip_and_copy_the_answer(nb):
    """The original, which has the id, is a stub again."""
    strip_all(nb)
    place = next(i for i, c in enumerate(nb.cells) if c.source == ANSWER)
    nb.cells.insert(place, again(nb.cells[place]))
    nb.cells[place + 1].source = STUB
    return "more than once", f"{PLAYED}-solution"


def retype_in_new_cells(nb):
    """Delete the cells of the answers and write them into new ones."""
    place = index(nb, f"{PLAYED}-solution")
    nb.cells[place] = new_code_cell(ANSWER, id="new-code")
    place = index(nb, "proof-monotone")
    nb.cells[place] = new_markdown_cell("By Jensen.", id="new-text")
    return "Without", f"{PLAYED}-solution", "proof-monotone"


def strip_and_add_to_the_check(nb):
    strip_all_and_ids(nb)
    check = next(c for c in nb.cells if c.source == f"check({PLAYED})")
    check.source += "  # passes\n1 + 1"
    return ("Without nbgrader's metadata",)


def repeat_ids(nb):
    for c in nb.cells:
        c.id = "same"
    return ("shared an id",)


def change_points(nb):
    cell(nb, f"{PLAYED}-check").metadata.nbgrader.points = 100
    cell(nb, "proof-monotone").metadata.nbgrader.grade = False
    return "Grading metadata changed", f"{PLAYED}-check", "proof-monotone"


def old_schema(nb):
    for c in nb.cells:
        if "nbgrader" in c.metadata:
            c.metadata.nbgrader.schema_version = 1
    return ("Grading metadata changed",)


def schema_of_the_future(nb):
    cell(nb, "imports").metadata.nbgrader.schema_version = 99
    return "Grading metadata changed", "imports"


def metadata_of_another_assignment(nb):
    strange = again(cell(nb, f"{PLAYED}-check"))
    strange.metadata.nbgrader.grade_id = "vae_bound-check"
    nb.cells.append(strange)
    return ("another assignment",)


def metadata_that_is_no_metadata(nb):
    cell(nb, f"{PLAYED}-check").metadata["nbgrader"] = "here was something"
    cell(nb, "imports").metadata["nbgrader"] = {"grade_id": ["imports"]}
    return "Without", f"{PLAYED}-check", "imports"


def code_to_text(nb):
    c = cell(nb, f"{PLAYED}-check")
    nb.cells[index(nb, f"{PLAYED}-check")] = new_markdown_cell(
        c.source, id=c.id, metadata=c.metadata
    )
    return "from code to text", f"{PLAYED}-check"


def move_imports_to_the_end(nb):
    nb.cells.append(nb.cells.pop(index(nb, "imports")))
    return "wrong place", "imports"


def move_check_before_the_answer(nb):
    place = index(nb, f"{PLAYED}-solution")
    nb.cells.insert(place, nb.cells.pop(place + 1))
    return ("wrong place",)


def forge_the_note(nb):
    nb.cells.insert(0, new_markdown_cell("- all points to me", id=MENDED_ID))
    return ("shared an id",)


STUB = ""
BENT = [
    delete_check,
    delete_everything_around_the_answers,
    delete_imports,
    delete_another_solution,
    delete_another_proof,
    double_check,
    double_check_at_the_top,
    double_answer,
    stub_after_the_answer,
    answer_after_the_check,
    double_section,
    strip_all,
    strip_all_and_ids,
    strip_ids_as_before_nbformat_4_5,
    strip_and_double,
    strip_and_copy_the_answer,
    retype_in_new_cells,
    strip_and_add_to_the_check,
    repeat_ids,
    change_points,
    old_schema,
    schema_of_the_future,
    metadata_of_another_assignment,
    metadata_that_is_no_metadata,
    code_to_text,
    move_imports_to_the_end,
    move_check_before_the_answer,
    forge_the_note,
]


@pytest.fixture(autouse=True, scope="module")
def stub(released):
    global STUB
    STUB = cell(released, f"{PLAYED}-solution").source


@pytest.mark.parametrize("bend", BENT, ids=lambda bend: bend.__name__)
def test_what_was_bent_is_straight_again_and_said(bend, submitted, released):
    words = bend(submitted)
    said = " ".join(mend(submitted, released))
    assert_whole(submitted, released)
    assert [word for word in words if word not in said] == []
    assert bool(said) == bool(words)
    assert definitions_before(submitted, f"{PLAYED}-check") == [ANSWER]
    # It is in order now.
    assert mend(submitted, released) == []


def test_of_two_answers_the_one_that_the_check_met_counts_and_the_other_stays(submitted, released):
    place = index(submitted, f"{PLAYED}-solution")
    first = ANSWER.replace("return", "print(log_w.shape); return")
    submitted.cells.insert(place, again(submitted.cells[place], source=first))
    said = mend(submitted, released)
    assert_whole(submitted, released)
    assert len(said) == 1 and "several cells" in said[0] and f"{PLAYED}-solution" in said[0]
    assert definitions_before(submitted, f"{PLAYED}-check") == [first, ANSWER]


def test_a_split_answer_stays_whole(submitted, released):
    """Jupyter gives both halves of a split cell the metadata."""
    place = index(submitted, f"{PLAYED}-solution")
    helper = "def helper(log_w):\n    return len(log_w)"
    submitted.cells.insert(place, again(submitted.cells[place], source=helper))
    submitted.cells.insert(place + 2, again(submitted.cells[place], source="2 + 2", id="more"))
    mend(submitted, released)
    assert_whole(submitted, released)
    sources = [c.source for c in submitted.cells]
    assert sources[place : place + 3] == [helper, ANSWER, "2 + 2"]


def test_a_stub_never_comes_after_an_answer_that_stands_elsewhere(submitted, released):
    """Two answers in one cell: the cell is one of them; the other's place must not undo it."""
    other = "def active_units(means, threshold=0.01):\n    return means.var(0) > threshold"
    cell(submitted, f"{PLAYED}-solution").source = f"{ANSWER}\n\n{other}"
    del submitted.cells[index(submitted, "active_units-solution")]
    mend(submitted, released)
    assert known(submitted) == known(released)
    assert cell(submitted, f"{PLAYED}-solution").source.endswith(other)
    code = [c.source for c in submitted.cells if c.cell_type == "code"]
    assert sum("def active_units(" in source for source in code) == 1


def test_an_answer_that_stands_earlier_than_released_is_left_there(submitted, released):
    """What comes after it may use it."""
    moved = submitted.cells.pop(index(submitted, "active_units-solution"))
    submitted.cells.insert(index(submitted, "imports") + 1, moved)
    assert mend(submitted, released) == []
    assert submitted.cells[index(submitted, "imports") + 1] is moved


def test_broken_code_is_mended_like_any_other(submitted, released):
    strip_all_and_ids(submitted)
    broken = "%time 3\n" + ANSWER + "\n  )"
    next(c for c in submitted.cells if c.source == ANSWER).source = broken
    mend(submitted, released)
    assert_whole(submitted, released, answer=broken)


@pytest.mark.parametrize("seed", range(40))
def test_any_jumble_comes_out_whole(submitted, released, seed):
    """Cells deleted, copied, moved, stripped, cut and with repeated ids, at random."""
    draw = random.Random(seed)
    cells = submitted.cells
    for number in range(draw.randint(1, 25)):
        place = draw.randrange(len(cells))
        c = cells[place]
        other = draw.randrange(len(cells))
        bend = draw.choice(["delete", "copy", "move", "strip", "id", "cut", "replace"])
        if bend == "delete":
            del cells[place]
        elif bend == "copy":
            cells.insert(other, again(c, id=f"pasted-{number}"))
        elif bend == "move":
            cells.insert(other, cells.pop(place))
        elif bend == "strip":
            c.metadata.clear()
        elif bend == "id":
            c.id = cells[other].id
        elif bend == "cut":
            c.source = c.source[: len(c.source) // 2]
        else:
            c.source = "x = 1"
    mend(submitted, released)
    nbformat.validate(copy.deepcopy(submitted))
    ids = [c.id for c in submitted.cells]
    assert len(set(ids)) == len(ids)
    found = {m["grade_id"]: m for m, *_ in known(submitted)}
    assert found == {m["grade_id"]: m for m, *_ in known(released)}
    assert len(known(submitted)) == len(found)
    checks = [name for name in found if name.endswith("-check")]
    assert len(checks) > 5
    for name in checks:
        place = index(submitted, name)
        assert index(submitted, "imports") < place
        assert index(submitted, name.replace("-check", "-solution")) < place
    assert mend(submitted, released) == []


def test_a_notebook_of_something_else_is_not_mended_into_zero_points(released):
    other = nbformat.v4.new_notebook(cells=[new_code_cell("import torch\nprint(1)")])
    assert held(other, released) == 0
    with pytest.raises(ForeignNotebookError, match="none of the checks"):
        mend(other, released)


def test_the_note_is_read_back(submitted):
    submitted.cells.insert(0, note(["One.", "Two."]))
    assert mended(submitted) == ["One.", "Two."]


# Which file it is.


def take(folder):
    """The path; the notebook that comes with it is what is read there."""
    path, notebook = take_in(folder, RELEASE)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in read(path).cells]
    return path


def refused(folder):
    with pytest.raises(SubmissionError) as caught:
        take(folder)
    return str(caught.value)


def test_the_file_of_the_right_name_is_taken_as_it_is(folder, submitted, released):
    wanted = write(folder / f"{TOPIC}.ipynb", submitted)
    write(folder / "another.ipynb", released)
    write(folder / "scratch.ipynb", nbformat.v4.new_notebook(cells=[new_code_cell("1")]))
    (folder / ".ipynb_checkpoints").mkdir()
    before = {path: path.read_bytes() for path in folder.glob("*.ipynb")}
    assert take(folder) == wanted
    assert {path: path.read_bytes() for path in folder.glob("*.ipynb")} == before


def test_a_renamed_notebook_is_copied_once_and_stays_as_it_was(folder, submitted):
    renamed = write(folder / "Iwae (1).ipynb", submitted)
    before, print_before = renamed.read_bytes(), fingerprint(folder)
    copied = take(folder)
    assert copied == folder / f"{TOPIC}.ipynb"
    assert read(copied).cells == submitted.cells
    assert renamed.read_bytes() == before
    assert handed_in(folder) == [renamed]
    when = copied.stat().st_mtime_ns
    assert take(folder) == copied
    assert copied.stat().st_mtime_ns == when
    assert sorted(p.name for p in folder.iterdir()) == ["Iwae (1).ipynb", "iwae.ipynb"]
    # A new version of the student's file makes a new copy.
    cell(submitted, "proof-monotone").source = "By Hölder."
    write(renamed, submitted)
    assert fingerprint(folder) != print_before
    assert cell(read(take(folder)), "proof-monotone").source == "By Hölder."


def test_of_several_the_fullest_is_taken(folder, submitted):
    half = copy.deepcopy(submitted)
    half.cells = half.cells[: len(half.cells) // 2]
    write(folder / "a.ipynb", half)
    write(folder / "b.ipynb", submitted)
    write(folder / "c.ipynb", "not a notebook")
    assert read(take(folder)).cells == submitted.cells
    assert handed_in(folder) == [folder / f"{name}.ipynb" for name in "abc"]


def test_of_two_alike_none_is_guessed(folder, submitted):
    write(folder / "a.ipynb", submitted)
    cell(submitted, f"{PLAYED}-solution").source += "  # another"
    write(folder / "b.ipynb", submitted)
    said = refused(folder)
    assert "`a.ipynb`, `b.ipynb`" in said and "hand in one" in said
    assert len(list(folder.iterdir())) == 2


def test_another_assignments_notebook_is_not_taken_for_this_one(folder):
    shutil.copy(ROOT / "assignments" / "vampprior" / "vampprior.ipynb", folder)
    assert "none of its checks and answers is in `vampprior.ipynb`" in refused(folder)
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"   \n", "is empty"),
        (b"This was meant to be a notebook.", "not JSON"),
        (b'{"cells": [', "not JSON"),
        (b"%PDF-1.7 \xff\xfe", "it is a PDF file"),
        (b"[]", "not a notebook"),
        (b"3", "not a notebook"),
        (b"{}", "not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}', "not a notebook"),
        (b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}', "not a notebook"),
        (b'{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}', "not a notebook"),
        (b"[" * 200_000, "is not a notebook"),
        (b"1" * 10_000, "not JSON"),
    ],
)
def test_what_is_no_notebook_has_a_reason(folder, content, reason):
    (folder / f"{TOPIC}.ipynb").write_bytes(content)
    said = refused(folder)
    assert said.startswith(f"{TOPIC}.ipynb ") and reason in said
    assert len(said) < 300 and "\n" not in said


def test_no_file_has_a_reason(folder):
    assert refused(folder) == f"no file {TOPIC}.ipynb"
    (folder / "report.pdf").write_bytes(b"%PDF")
    assert refused(folder) == f"no file {TOPIC}.ipynb; there is `report.pdf`"
    (folder / f"{TOPIC}.ipynb").mkdir()
    assert refused(folder) == f"{TOPIC}.ipynb is not a file"


def test_too_large_is_not_read(folder, monkeypatch, submitted):
    path = write(folder / f"{TOPIC}.ipynb", submitted)
    monkeypatch.setattr(folders, "NOTEBOOK_LIMIT", path.stat().st_size)
    assert take(folder) == path
    monkeypatch.setattr(folders, "NOTEBOOK_LIMIT", path.stat().st_size - 1)
    assert "clear the outputs" in refused(folder)


def test_an_old_format_is_upgraded(folder, submitted, released):
    old = nbformat.convert(copy.deepcopy(submitted), 3)
    assert old.nbformat == 3 and "worksheets" in old
    write(folder / f"{TOPIC}.ipynb", nbformat.writes(old))
    notebook = read(take(folder))
    said = mend(notebook, released)
    assert_whole(notebook, released)
    assert len(said) == 1 and "old format" in said[0]


@pytest.mark.parametrize("what", ["notebook", "data", "folder", "dangling"])
def test_a_link_out_of_the_submission_is_not_followed(folder, submitted, tmp_path, what):
    secret = write(tmp_path / "secret.ipynb", submitted)
    name = f"{TOPIC}.ipynb" if what == "notebook" else "data"
    target = {"folder": tmp_path, "dangling": tmp_path / "nothing"}.get(what, secret)
    if what != "notebook":
        write(folder / f"{TOPIC}.ipynb", submitted)
    (folder / name).symlink_to(target)
    assert f"`{name}` is a link to something outside" in refused(folder)


def test_another_students_folder_is_not_a_submission(folder, submitted):
    write(folder / f"{TOPIC}.ipynb", submitted)
    other = folder.parents[1] / "bob"
    other.mkdir()
    (other / TOPIC).symlink_to(folder)
    assert "link to another folder" in refused(other / TOPIC)
    assert take(folder)


def test_a_link_within_the_submission_is_a_name_like_any_other(folder, submitted):
    (folder / "work").mkdir()
    real = write(folder / "work" / "mine.ipynb", submitted)
    (folder / f"{TOPIC}.ipynb").symlink_to(real)
    assert read(take(folder)).cells == submitted.cells


# Through nbgrader.


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course with what students bent, taken through nbgrader without running any code."""
    course = make_course(tmp_path_factory.mktemp("course"))
    # Outputs are recorded, not made.
    course.api.config.Autograde.autograde_preprocessors = [
        "nbgrader.preprocessors.SaveAutoGrades",
        "nbgrader.preprocessors.CheckCellMetadata",
    ]
    course.release(TOPIC)
    return course


def submit(course, student, notebook, name=f"{TOPIC}.ipynb"):
    folder = course.path("submitted", student, TOPIC)
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder / name, notebook)


def autograded(course, student):
    return nbformat.read(course.notebook("autograded", TOPIC, student), as_version=4)


def graded_cells(notebook):
    return [
        (marks(c).get("grade_id"), marks(c), c.source)
        for c in notebook.cells
        if c.metadata.get("nbgrader")
    ]


def test_nbgrader_sees_the_same_cells_however_the_notebook_was_bent(course, submitted):
    bent = [double_check, strip_all_and_ids, schema_of_the_future, delete_check, repeat_ids]
    submit(course, "straight", submitted)
    submit(course, "renamed", submitted, "Iwae (2).ipynb")
    for bend in bent:
        notebook = copy.deepcopy(submitted)
        bend(notebook)
        submit(course, bend.__name__, notebook)
    submit(course, "foreign", nbformat.v4.new_notebook(cells=[new_code_cell("1")]))
    submit(course, "no-json", "{")
    submit(course, "linked", submitted).with_name("key").symlink_to("/etc/hostname")
    submit(course, "two", submitted, "a.ipynb")
    other = copy.deepcopy(submitted)
    cell(other, f"{PLAYED}-solution").source += "  # another"
    submit(course, "two", other, "b.ipynb")
    submit(course, "twice", submitted, "a.ipynb")
    submit(course, "twice", submitted, "b.ipynb")

    # All of them in one run, as `nbgrader autograde` does it.
    outcome = course.api.autograde(TOPIC, "*")
    assert not outcome["success"]
    assert "foreign" in outcome["log"] and "this is not the notebook of iwae" in outcome["log"]
    for student in ("foreign", "no-json", "linked", "two"):
        assert not course.path("autograded", student, TOPIC).exists()
    assert "it is not JSON text" in outcome["log"]
    assert "is a link to something outside" in outcome["log"]
    assert "cannot be told which one is meant" in outcome["log"]

    straight = autograded(course, "straight")
    assert mended(straight) == []
    expected = graded_cells(straight)
    assert len(expected) > 20
    for student in ("renamed", *(bend.__name__ for bend in bent)):
        notebook = autograded(course, student)
        assert graded_cells(notebook) == expected
        # The student reads it in the feedback, at the top.
        if student != "repeat_ids":  # nbformat repairs those by itself.
            assert mended(notebook) and notebook.cells[0].id == MENDED_ID
    assert mended(autograded(course, "renamed")) == ["Its file was named `Iwae (2).ipynb`."]
    assert mended(autograded(course, "twice")) == [
        "2 notebooks of the assignment were handed in. Graded is `a.ipynb`, which has the same "
        "cells as `b.ipynb`; not graded: `b.ipynb`."
    ]


@pytest.mark.skipif(not shutil.which("bwrap"), reason="needs bubblewrap")
def test_bent_notebooks_get_the_points_of_straight_ones(course_folder):
    course = Course(course_folder)
    course.release(TOPIC)
    source = nbformat.read(course.notebook("source", TOPIC), as_version=4)
    submit(course, "straight", source)
    for student, bends, name in [
        ("stripped", [strip_all_and_ids], "my work.ipynb"),
        ("doubled", [double_section, double_check, double_check_at_the_top], f"{TOPIC}.ipynb"),
    ]:
        notebook = copy.deepcopy(source)
        for bend in bends:
            bend(notebook)
        submit(course, student, notebook, name)
    results = {s: grade(course, TOPIC, s) for s in course.submissions(TOPIC)}
    straight = results["straight"]
    assert straight.state != FAILED and straight.points == straight.max_points > 0
    for student in ("stripped", "doubled"):
        r = results[student]
        assert (r.state, r.points, r.max_points) == (
            straight.state,
            straight.points,
            straight.max_points,
        ), r


# Archives.


MOODLE = "Ada Lovelace_{0}_assignsubmission_file_/{1}"
MOODLE_FLAT = "Ada Lovelace_{0}_assignsubmission_file_{1}"
CANVAS = "lovelaceada_{0}_555_{1}"
CANVAS_LATE = "lovelaceada_LATE_{0}_555_{1}"


def archive(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


@pytest.fixture
def empty(course):
    """The course without submissions."""
    shutil.rmtree(course.path("submitted"), ignore_errors=True)
    return course


@pytest.mark.parametrize("form", [MOODLE, MOODLE_FLAT, CANVAS, CANVAS_LATE])
@pytest.mark.parametrize("name", ["iwae.ipynb", "x_999_1_my work-1.ipynb"])
def test_names_of_the_platforms_are_understood(empty, tmp_path, form, name):
    packed = archive(tmp_path / "all.zip", {form.format(1234567, name): "{}"})
    assert collect(empty, TOPIC, packed) == [("1234567", f"collected: {name}", True)]
    assert empty.submissions(TOPIC) == ["1234567"]
    written = empty.path("submitted", "1234567", TOPIC)
    assert [p.name for p in written.iterdir()] == [name]
    with empty.api.gradebook as gradebook:
        assert gradebook.find_student("1234567").last_name in ("Ada Lovelace", "lovelaceada")


def test_a_collected_notebook_is_the_one_in_the_archive(empty, tmp_path, submitted):
    text = nbformat.writes(submitted)
    inner = zipped({"hw/iwae.ipynb": text, "hw/.ipynb_checkpoints/iwae-checkpoint.ipynb": "{}"})
    packed = archive(
        tmp_path / "all.zip",
        {
            MOODLE.format(1, "Übung 1.ipynb"): text,
            MOODLE.format(2, "hw.zip"): inner,
            MOODLE.format(3, "__MACOSX/._iwae.ipynb"): "x",
            MOODLE.format(3, "report.pdf"): "%PDF",
        },
    )
    done = {c.student: c for c in collect(empty, TOPIC, packed)}
    assert [done[s].good for s in "123"] == [True, True, False]
    for student in "12":
        assert read(take(empty.path("submitted", student, TOPIC))).cells == submitted.cells
    assert handed_in(empty.path("submitted", "2", TOPIC)) == [
        empty.notebook("submitted", TOPIC, "2")
    ]
    # Who handed in no notebook is in the class, and told why there is no grade.
    said = refused(empty.path("submitted", "3", TOPIC))
    assert "no notebook was handed in; there is 'report.pdf'" in said


def test_what_is_there_is_replaced_only_when_asked_for(empty, tmp_path):
    first = archive(tmp_path / "1.zip", {MOODLE.format(1, "a.ipynb"): "1"})
    second = archive(tmp_path / "2.zip", {MOODLE.format(1, "b.ipynb"): "2"})
    folder = empty.path("submitted", "1", TOPIC)
    assert [c.outcome for c in collect(empty, TOPIC, first)] == ["collected: a.ipynb"]
    assert [c.outcome for c in collect(empty, TOPIC, first)] == ["unchanged: a.ipynb"]
    (kept,) = collect(empty, TOPIC, second)
    assert not kept.good and "kept what is there, a.ipynb" in kept.outcome
    assert [p.read_text() for p in folder.iterdir()] == ["1"]
    assert [c.outcome for c in collect(empty, TOPIC, second, replace=True)] == ["replaced: b.ipynb"]
    assert [p.read_text() for p in folder.iterdir()] == ["2"]


def test_no_name_leads_out_of_a_submission(empty, tmp_path):
    names = [
        MOODLE.format(1, "../../../../out.ipynb"),
        MOODLE.format(1, "..\\..\\out2.ipynb"),
        MOODLE.format(1, "/etc/out3.ipynb"),
        "../../2_3_out.ipynb",
        "/abs/Ada_4_5_out.ipynb",
        "..ipynb",
        "Eve_.._6_out.ipynb",
    ]
    packed = archive(tmp_path / "all.zip", dict(zip(names, "1234567", strict=True)))
    before = {p for p in empty.root.rglob("*") if "submitted" not in p.parts}
    done = collect(empty, TOPIC, packed)
    folder = empty.path("submitted", "1", TOPIC)
    assert {p.name for p in folder.iterdir()} == {"out.ipynb", "out2.ipynb", "out3.ipynb"}
    written = [p for p in empty.path("submitted").rglob("*") if p.is_file()]
    assert all(p.parent.name == TOPIC and p.parents[1].name.isdigit() for p in written)
    assert {p for p in empty.root.rglob("*") if "submitted" not in p.parts} == before
    assert not [p for p in tmp_path.rglob("*.ipynb")]
    assert any(c.student == "" and "does not say whose it is" in c.outcome for c in done)


def test_a_bomb_is_not_unpacked(empty, tmp_path, monkeypatch):
    monkeypatch.setattr(collecting, "NOTEBOOK_LIMIT", 100_000)
    monkeypatch.setattr(collecting, "STUDENT_LIMIT", 250_000)
    zeros = b"0" * 50_000_000
    inner = zipped({"iwae.ipynb": zeros})
    many = zipped({f"{i}.ipynb": str(i) * 60_000 for i in range(9)})
    odd = io.BytesIO()
    archive(odd, {"iwae.ipynb": zeros}, zipfile.ZIP_BZIP2)
    packed = archive(
        tmp_path / "all.zip",
        {
            MOODLE.format(1, "iwae.ipynb"): zeros,
            MOODLE.format(2, "work.zip"): inner,
            MOODLE.format(3, "work.zip"): many,
            MOODLE.format(4, "work.zip"): odd.getvalue(),
            MOODLE.format(5, "work.zip"): b"PK\x03\x04 not a zip file",
            MOODLE.format(6, "nested.zip"): zipped({"work.zip": inner}),
            MOODLE.format(7, "iwae.ipynb"): "{}",
        },
    )
    assert packed.stat().st_size < 500_000
    # Counts what was unpacked.
    unpacked = []
    content = collecting._content
    monkeypatch.setattr(collecting, "_content", lambda *a: unpacked.append(r := content(*a)) or r)
    done = {c.student: c for c in collect(empty, TOPIC, packed)}
    assert [s for s, c in done.items() if c.good] == ["7"]
    for student in "12":
        assert "larger than" in done[student].outcome
        assert "larger than" in refused(empty.path("submitted", student, TOPIC))
    assert "all notebooks together" in done["3"].outcome
    assert "zip file of the usual kind" in done["4"].outcome
    assert "damaged" in done["5"].outcome
    assert "no notebook was handed in" in done["6"].outcome
    assert max(map(len, unpacked)) <= 100_000
    size = sum(p.stat().st_size for p in empty.path("submitted").rglob("*") if p.is_file())
    assert size < 260_000


def test_a_size_that_lies_is_not_believed(empty, tmp_path, monkeypatch):
    """A bomb whose directory says that it is small."""
    monkeypatch.setattr(collecting, "NOTEBOOK_LIMIT", 100_000)
    name = MOODLE.format(1, "iwae.ipynb")
    packed = archive(tmp_path / "all.zip", {name: b"0" * 3_000_000})
    small, large = (number.to_bytes(4, "little") for number in (7, 3_000_000))
    packed.write_bytes(packed.read_bytes().replace(large, small))
    (done,) = collect(empty, TOPIC, packed)
    assert not done.good
    assert handed_in(empty.path("submitted", "1", TOPIC)) == []


def test_nobody_adds_to_anothers_submission_by_a_name(empty, tmp_path):
    packed = archive(
        tmp_path / "all.zip",
        {
            "Ada_12_assignsubmission_file_/iwae.ipynb": "{}",
            "Eve_12_assignsubmission_file__13_assignsubmission_file_/iwae.ipynb": "[]",
        },
    )
    (done,) = collect(empty, TOPIC, packed)
    assert not done.good and "several persons" in done.outcome


def test_an_archive_that_cannot_be_read_is_said(empty, tmp_path):
    with pytest.raises(CourseError, match=r"none\.zip cannot be read as a zip file"):
        collect(empty, TOPIC, tmp_path / "none.zip")
    (tmp_path / "bad.zip").write_text("Not an archive.")
    with pytest.raises(CourseError, match=r"bad\.zip cannot be read as a zip file"):
        collect(empty, TOPIC, tmp_path / "bad.zip")
    with pytest.raises(CourseError, match="no assignment 'none'"):
        collect(empty, "none", tmp_path / "bad.zip")


def test_nbgraders_zip_collect_takes_the_same_road(empty, tmp_path):
    downloaded = empty.root / "grading" / "downloaded" / TOPIC / "archive"
    downloaded.mkdir(parents=True)
    archive(
        downloaded / "all.zip",
        {
            MOODLE.format(1, "iwae.ipynb"): json.dumps({"of": 1}),
            CANVAS.format(2, "my work.ipynb"): json.dumps({"of": 2}),
            MOODLE.format(3, "../../../../../out.ipynb"): json.dumps({"of": 3}),
        },
    )
    config = PyFileConfigLoader("nbgrader_config.py", path=str(empty.root)).load_config()
    app = ZipCollectApp(config=config)
    app.coursedir = empty.folders
    empty.folders.assignment_id = TOPIC
    app.init_plugins()
    app.extract_archive_files()
    app.process_extracted_files()
    found = {
        p.relative_to(empty.path("submitted")).as_posix(): json.loads(p.read_text())["of"]
        for p in empty.path("submitted").rglob("*.ipynb")
    }
    assert found == {
        f"1/{TOPIC}/iwae.ipynb": 1,
        f"2/{TOPIC}/my work.ipynb": 2,
        f"3/{TOPIC}/out.ipynb": 3,
    }
