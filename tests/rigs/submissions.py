"""What the tests of submissions share: a released assignment, and one that a student filled in."""

import copy
import io
import shutil
import zipfile

import nbformat
from conftest import ROOT

from nbjudge.course.folder import Course

TOPIC = "iwae"
RELEASE = ROOT / "assignments" / TOPIC / f"{TOPIC}.ipynb"
PLAYED, PROOF = "iwae_bound", "proof-monotone"
ANSWER = "def iwae_bound(log_w):\n    return log_w.logsumexp(0) - math.log(len(log_w))"


def read_released():
    """The students' version of an assignment."""
    return nbformat.read(RELEASE, as_version=4)


def fill_in(released):
    """A notebook in which one function and one proof are answered."""
    notebook = copy.deepcopy(released)
    cell(notebook, f"{PLAYED}-solution").source = ANSWER
    cell(notebook, PROOF).source = "By Jensen."
    return notebook


def make_course(folder):
    """A course that has this assignment alone, in an empty folder."""
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    for name in ("solutions", "assignments"):
        shutil.copytree(ROOT / name / TOPIC, folder / name / TOPIC)
    return Course(folder)


def zipped(files):
    """The bytes of an archive; the keys are names."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return held.getvalue()


def marks(c):
    return c.metadata.get("nbgrader", {})


def index(notebook, grade_id):
    return next(i for i, c in enumerate(notebook.cells) if marks(c).get("grade_id") == grade_id)


def cell(notebook, grade_id):
    return notebook.cells[index(notebook, grade_id)]


def write(path, notebook):
    path.write_text(notebook if isinstance(notebook, str) else nbformat.writes(notebook))
    return path
