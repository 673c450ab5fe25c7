"""nbgrader's step that records a notebook's grades: one question, one commit, all or none."""

import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import Comment, Grade, Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import SaveAutoGrades
from nbgrader.utils import is_grade, is_solution

from nbjudge.course.gradebook import entries, finder
from nbjudge.course.safe_files import kept_folder, write_whole

# The folder that says which answers the gradebook's grades are for.
ANSWERS = "answers"


class SaveTogether(SaveAutoGrades):
    """nbgrader's `SaveAutoGrades`: a notebook's grades are there all or none.

    nbgrader keeps the points that a person gave, and after every regrade asks for another look at
    each. Here only where the answer, the automatic score or the maximum has changed.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Record the scores of all cells, and which questions got no answer."""
        about = resources["nbgrader"]
        self.notebook_id, self.assignment_id = about["notebook"], about["assignment"]
        self.student_id, self.db_url = about["student"], about["db_url"]
        self.gradebook = Gradebook(self.db_url)
        path = answers_path(
            CourseDirectory(config=self.config), self.assignment_id, self.student_id
        )
        before, answers = _read_answers(path), _digests(nb)
        if self.notebook_id != self.assignment_id:
            # Of several notebooks of one assignment, two may have cells of the same name.
            answers = {f"{self.notebook_id}: {name}": said for name, said in answers.items()}
        names = {name.rpartition(": ")[2]: name for name in answers}
        with self.gradebook:
            session = self.gradebook.db
            commit, session.commit = session.commit, session.flush
            submission = self.gradebook.find_submission(self.assignment_id, self.student_id)
            notebook = [n for n in submission.notebooks if n.name == self.notebook_id]
            grades = entries(self.gradebook, notebook, Grade)
            self.gradebook.find_grade = finder(grades)
            self.gradebook.find_comment = finder(entries(self.gradebook, notebook, Comment))
            looked_at = [
                (grade, grade.auto_score)
                for grade in grades
                if grade.manual_score is not None and not grade.needs_manual_grade
            ]
            for index, cell in enumerate(nb.cells):
                self.preprocess_cell(cell, resources, index)
            for grade, auto_score in looked_at:
                name = names.get(grade.cell.name)
                if grade.auto_score == auto_score and before.get(name) == answers.get(name):
                    grade.needs_manual_grade = False
            commit()
        # Last: of a run that is killed before, nothing is believed to have been looked at.
        write_whole(path, json.dumps({**before, **answers}))
        return nb, resources


def answers_path(course: CourseDirectory, assignment: str, student: str) -> Path:
    """Where it is written down which answers the gradebook's grades are for."""
    return kept_folder(course, ANSWERS, assignment) / f"{student}.json"


def _read_answers(path):
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _digests(notebook):
    """Graded cell → digest of what is graded there: a text, or for a check all code."""
    code = [
        cell.source for cell in notebook.cells if is_solution(cell) and cell.cell_type == "code"
    ]
    found = {}
    for cell in filter(is_grade, notebook.cells):
        about = cell.metadata.nbgrader
        graded = [about.points, cell.source, *([] if is_solution(cell) else code)]
        found[about.grade_id] = hashlib.sha256(json.dumps(graded).encode()).hexdigest()
    return found
