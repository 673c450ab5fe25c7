"""Notebooks of other versions: what was released before still runs, and what does not fit says so.

`tests/data/TOPIC-VERSION.ipynb` is an assignment as a student handed it in who had that version,
with right answers everywhere.
"""

import csv
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import nbformat
import pytest
from conftest import NO_SANDBOX, ROOT, TOPICS
from nbclient import NotebookClient
from nbgrader.validator import Validator
from traitlets.config import Config

from dgm_utils import OLDEST, __version__
from dgm_utils.cli import main
from dgm_utils.exercises import EDITION
from nbjudge.course.folder import Course
from nbjudge.course.results import MANUAL
from nbjudge.judging.stamp import misfit
from nbjudge.judging.verdict import VERDICT_MIME

FORMER = sorted((ROOT / "tests" / "data").glob("*.ipynb"))
STAMP = re.compile(r"^check\.made_with\(\"(.+)\"\)", re.MULTILINE)

each_former = pytest.mark.parametrize("former", FORMER, ids=lambda path: path.stem)


def topic_of(former):
    return former.stem.rpartition("-")[0]


def numbers(version):
    return tuple(map(int, version.split(".")))


def imports_of(topic):
    notebook = nbformat.read(ROOT / "assignments" / topic / f"{topic}.ipynb", as_version=4)
    return next(cell.source for cell in notebook.cells if cell.id == "imports")


def execute(notebook, folder):
    """Run a notebook where a student would: in a kernel, in the folder of the notebook."""
    client = NotebookClient(
        notebook,
        timeout=120,
        allow_errors=True,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute()


def errors(notebook):
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return [output for output in outputs if output.output_type == "error"]


# Notebooks of former versions


def test_a_notebook_of_the_oldest_version_is_on_record():
    assert OLDEST in {former.stem.rpartition("-")[2] for former in FORMER}
    first = (ROOT / "tests" / "data" / "iwae-0.1.0.ipynb").read_text()
    assert "made_with" not in first


@each_former
def test_it_runs_and_all_checks_pass(former, tmp_path):
    notebook = execute(nbformat.read(former, as_version=4), tmp_path)
    assert not errors(notebook)
    checks = [c for c in notebook.cells if c.source.startswith("check(")]
    verdicts = [o.data[VERDICT_MIME] for c in checks for o in c.outputs if VERDICT_MIME in o.data]
    assert len(verdicts) == len(checks) > 0
    assert all(verdict["passed"] for verdict in verdicts)


@each_former
def test_validate_finds_nothing_wrong(former, tmp_path):
    path = tmp_path / f"{topic_of(former)}.ipynb"
    shutil.copy(former, path)
    settings = Config({"Execute": {"kernel_name": "python3", "timeout": 120}})
    assert Validator(config=settings).validate(str(path)) == {}


@each_former
def test_handed_in_it_gets_all_points_and_needs_no_mending(former, course_folder, capsys):
    topic = topic_of(former)
    course = Course(course_folder)
    path = course.notebook("submitted", topic, "ada")
    path.parent.mkdir(parents=True)
    shutil.copy(former, path)

    assert main(["--course", str(course_folder), "grade", topic, *NO_SANDBOX]) == 0
    assert "mended" not in capsys.readouterr().out

    table = (course_folder / "grading" / "reports" / f"{topic}.csv").read_text()
    (row,) = csv.DictReader(table.splitlines())
    assert (row["state"], row["reason"]) == (MANUAL, "")
    assert float(row["points"]) == float(row["max_points"]) > 0
    graded = nbformat.read(course.notebook("autograded", topic, "ada"), as_version=4)
    # The locked cell is today's, with its stamp, and the sandbox takes it.
    imports = next(cell for cell in graded.cells if cell.id == "imports")
    assert imports.source == imports_of(topic)
    assert STAMP.search(imports.source)
    assert not errors(graded)


@each_former
def test_a_gradebook_of_its_time_takes_todays_release(former):
    """Once there are submissions, nbgrader refuses a release with other graded or locked cells."""
    topic = topic_of(former)
    released = ROOT / "assignments" / topic / f"{topic}.ipynb"
    now, then = (
        {
            tuple(cell.metadata.nbgrader[key] for key in ("grade_id", "grade", "solution", "task"))
            for cell in nbformat.read(path, as_version=4).cells
            if "nbgrader" in cell.metadata
        }
        for path in (released, former)
    )
    assert now == then


# The stamp


@pytest.mark.parametrize("topic", TOPICS)
def test_every_assignment_says_what_it_was_made_with(topic):
    before, made_with, _ = STAMP.split(imports_of(topic))
    assert numbers(OLDEST) <= numbers(made_with) <= numbers(__version__)
    # So it speaks before the import of what an older package does not have.
    assert re.findall(r"^from dgm_utils\S* import .*", before, re.MULTILINE) == [
        f"from dgm_utils.exercises.{topic} import check"
    ]


@pytest.mark.parametrize("made_with", [OLDEST, "0.1.7", "0.2.0"])
def test_what_fits_is_passed_over_in_silence(made_with):
    assert misfit(made_with, replace(EDITION, installed="0.2.0")) == ""


@pytest.mark.parametrize(
    ("made_with", "installed", "words"),
    [
        ("0.10.0", "0.9.0", ["made with dgm_utils 0.10.0", "0.9.0 is installed", "git pull"]),
        ("0.9.0", "0.10.0", ["made with dgm_utils 0.9.0", "made with 0.9.1 or newer", "copy"]),
    ],
)
def test_versions_are_compared_as_numbers(made_with, installed, words):
    oldest = "0.9.1" if installed == "0.10.0" else "0.1.0"
    said = misfit(made_with, replace(EDITION, installed=installed, oldest=oldest))
    assert [word for word in words if word not in said] == []


# A stamp, and what the message must say: what happened, why, and what to do.
MISFITS = {
    '"99.0.0"': [
        f"made with dgm_utils 99.0.0, and {__version__} is installed",
        "may not know its exercises",
        "git pull",
        "dgm_utils-99.0.0-py3-none-any.whl",
        "restart the kernel",
    ],
    '"0.0.1"': [
        f"made with dgm_utils 0.0.1, and {__version__} is installed",
        "Exercises have changed since",
        "newest release of the assignment",
        "dgm_utils-0.0.1-py3-none-any.whl",
        "restart the kernel",
    ],
    '"2 weeks ago"': ["takes a version", "'2 weeks ago'", "Copy the cell with the imports"],
    "0.2": ["takes a version", "0.2", "Copy the cell with the imports"],
}


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each stamp that does not fit leads to, when the cell of imports is run."""
    source = imports_of("iwae")
    cells = [
        nbformat.v4.new_code_cell(STAMP.sub(f"check.made_with({stamp})", source))
        for stamp in MISFITS
    ]
    notebook = execute(nbformat.v4.new_notebook(cells=cells), tmp_path_factory.mktemp("told"))
    return dict(zip(MISFITS, (cell.outputs for cell in notebook.cells), strict=True))


@pytest.mark.parametrize("stamp", MISFITS)
def test_a_student_reads_what_to_do_and_no_traceback(told, stamp):
    (error,) = told[stamp]
    assert error.ename == "VersionError"
    assert len(error.traceback) <= 6
    assert all(len(line) <= 80 for line in error.traceback)
    shown = "\n".join(error.traceback)
    assert [word for word in MISFITS[stamp] if word not in shown] == []
    assert 'File "' not in shown and "nbjudge" not in shown


def test_in_a_plain_session_too():
    source = "from dgm_utils.exercises.iwae import check\ncheck.made_with('99.0.0')"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, misfit("99.0.0", EDITION) + "\n")
