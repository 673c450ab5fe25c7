"""nbgrader's settings for this course; `nbgrader` and JupyterLab read them when started here."""

import os

c = get_config()  # noqa: F821 - nbgrader defines it when it reads this file

root = os.path.dirname(os.path.abspath(__file__))
# nbgrader opens the gradebook without making its folder.
os.makedirs(os.path.join(root, "grading"), exist_ok=True)

c.CourseDirectory.root = root
c.CourseDirectory.course_id = "dgm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "assignments"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.source_with_tests_directory = "grading/source_with_tests"
c.CourseDirectory.solution_directory = "grading/solution"
c.CourseDirectory.db_url = f"sqlite:///{root}/grading/gradebook.db"

c.ClearSolutions.code_stub = {"python": "# Your code here.\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "Your answer here."

# The grader's own kernel, whatever the submission asks for.
c.Execute.kernel_name = "python3"
# Seconds for one cell. A check stops an endless loop itself, after 10.
c.Execute.timeout = 60
# A deleted check comes back instead of staying ungraded.
c.OverwriteCells.add_missing_cells = True
