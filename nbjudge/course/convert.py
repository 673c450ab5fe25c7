"""Run nbgrader's converters, and learn from them why one failed."""

import logging
import sys
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.converters import Autograde
from nbgrader.converters.base import BaseConverter

from nbjudge.errors import UserError, in_one_line

# Among what nbgrader hands from step to step: whether the notebook was executed before.
ALREADY = "nbjudge_executed"


class CourseError(UserError):
    """Something about the course folder."""


class NotConverted(CourseError):
    """nbgrader could not make what it was asked for; the message is the reason, in one line."""


class AutogradeExecuted(Autograde):
    """The second half of nbgrader's converter; the first was done before, and its hook.

    Args:
        executed: name → the sanitized notebook, executed.

    """

    def __init__(self, executed: dict[str, NotebookNode], **about):
        super().__init__(**about)
        self._executed = executed

    def run_pre_convert_hook(self):
        """What it would find was found; beside it a student may have handed in other notebooks."""
        self.notebooks = [path for path in self.notebooks if Path(path).stem in self._executed]

    def convert_single_notebook(self, notebook_filename: str) -> None:
        """Mark and record a notebook, and write it."""
        # As which it asks where the notebook lies.
        self._sanitizing = True
        resources = self.init_single_notebook_resources(notebook_filename)
        resources["nbgrader"][ALREADY] = True
        self._sanitizing = False
        self._init_preprocessors()
        executed = self._executed[Path(notebook_filename).stem]
        output, resources = self.exporter.from_notebook_node(executed, resources)
        self.write_single_notebook(output, resources)


def convert(converter: BaseConverter) -> None:
    """Run one of nbgrader's converters.

    Raises:
        NotConverted: when it fails, with the cause; nbgrader itself only points to its log.
        KeyboardInterrupt: when a person wants this to end.

    """
    causes = _Causes()
    converter.log = logging.Logger("nbgrader")
    converter.log.addHandler(causes)
    try:
        converter.start()
    except (Exception, SystemExit) as error:
        raise NotConverted(causes.first(error)) from error


class _Causes(logging.Handler):
    """Remembers the error that nbgrader logs before it raises one of its own."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self._errors, self._lines = [], []

    def emit(self, record):
        if error := sys.exc_info()[1]:
            self._errors.append(error)
        else:
            self._lines.append(" ".join(record.getMessage().split()))

    def first(self, raised):
        """The reason, if it ended with this error."""
        if self._errors:
            return in_one_line(self._errors[0])
        return self._lines[0][:200] if self._lines else in_one_line(raised)
