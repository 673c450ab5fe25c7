"""nbgrader's step that gives a notebook its locked cells back, with one question for all cells."""

from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.preprocessors import OverwriteCells

from nbjudge.course.gradebook import finder


class OverwriteTogether(OverwriteCells):
    """nbgrader's `OverwriteCells`: what is locked becomes again what was released."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Overwrite locked cells, and add missing ones if `add_missing_cells` says so."""
        about = resources["nbgrader"]
        self.notebook_id, self.assignment_id = about["notebook"], about["assignment"]
        self.gradebook = Gradebook(about["db_url"])
        with self.gradebook as gradebook:
            notebook = gradebook.find_notebook(self.notebook_id, self.assignment_id)
            graded = [*notebook.grade_cells, *notebook.task_cells]
            gradebook.find_source_cell = finder(notebook.source_cells)
            gradebook.find_graded_cell = finder(graded)
            for index, cell in enumerate(nb.cells):
                nb.cells[index], resources = self.preprocess_cell(cell, resources, index)
            if self.add_missing_cells:
                nb, resources = self.add_missing_grade_cells(nb, resources)
                nb, resources = self.add_missing_task_cells(nb, resources)
        return nb, resources
