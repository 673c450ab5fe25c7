"""How nbgrader sanitizes a submission: what is found is mended before anything of it is run.

`nbgrader_config.py` names `before_autograde`, `SubmittedExporter` and `Mend`, so that
`nbgrader autograde`, formgrader's button and `nbjudge grade` take the same road.
"""

import functools
import os
from pathlib import Path

from nbconvert import NotebookExporter
from nbformat import NotebookNode
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets.config.loader import PyFileConfigLoader
from traitlets.log import get_logger

from nbjudge.course.safe_files import read_notebook
from nbjudge.errors import listed, quoted
from nbjudge.submissions.handed_in import (
    FILES_LIMIT,
    SAID,
    SubmissionError,
    documents,
    kept_files,
)
from nbjudge.submissions.intake import take_all, take_in
from nbjudge.submissions.mend import ForeignNotebookError, mend
from nbjudge.submissions.note import note
from nbjudge.submissions.released import read_release, release_path, release_paths


def before_autograde(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's `Autograde.pre_convert_hook`: choose the notebooks of one submission.

    nbgrader drops a submission without a notebook from the run and goes on with the next; what is
    wrong with it is in the log.

    Args:
        assignment: not used; nbgrader passes a pattern when it grades several.
        student: likewise.
        notebooks: paths in one submission's folder; changed to those that are graded.

    """
    folder = Path(notebooks[0]).parent
    # nbgrader works in the course folder while it converts.
    course = _course(os.getcwd())
    releases = release_paths(course, folder.name)
    try:
        found, _ = take_all(folder, releases)
        notebooks[:] = map(str, found)
    except SubmissionError as error:
        notebooks.clear()
        get_logger().error("%s cannot be graded: %s", folder, error)


class SubmittedExporter(NotebookExporter):
    """Reads what `take_in` finds, where nbgrader would read the file of the right name."""

    def from_filename(self, filename: str, resources: dict | None = None, **kw):
        """Convert a submitted notebook, or one that nbgrader's first half has sanitized."""
        path, about = Path(filename), resources["nbgrader"]
        course = CourseDirectory(config=self.config)
        assignment = about["assignment"]
        if path.parent == submitted_path(course, about["student"], assignment):
            _, notebook = take_in(path.parent, release_path(course, assignment, path.stem))
        else:
            notebook = read_notebook(path)
        return self.from_notebook_node(notebook, resources=resources, **kw)


class Mend(NbGraderPreprocessor):
    """The first of the sanitizing preprocessors: mends, and says so in a cell at the top."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Mend a submitted notebook.

        Raises:
            SubmissionError: when it is the notebook of something else.

        """
        about = resources["nbgrader"]
        assignment = about["assignment"]
        course = CourseDirectory(config=self.config)
        folder = submitted_path(course, about["student"], assignment)
        said = nb.metadata.pop(SAID, [])
        release = release_path(course, assignment, about["notebook"])
        released = {path.name for path in release.parent.glob("*")}
        files = [name for name in documents(folder) if name not in released]
        try:
            said += mend(nb, read_release(release), files)
        except ForeignNotebookError as error:
            raise SubmissionError(f"this is not the notebook of {release.stem}: {error}") from error
        if left := kept_files(folder)[1]:
            said.append(
                f"Files beside the notebook that would be more than {FILES_LIMIT // 1_000_000} MB "
                f"together were left out: {listed([quoted(path.name) for path in left], 5)}."
            )
        if said:
            nb.cells.insert(0, note(said))
        return nb, resources


def submitted_path(course: CourseDirectory, student: str, assignment: str) -> Path:
    """Where a submission lies."""
    return Path(course.format_path(course.submitted_directory, student, assignment))


@functools.lru_cache(maxsize=1)
def _course(root):
    config = PyFileConfigLoader("nbgrader_config.py", path=root).load_config()
    return CourseDirectory(config=config)
