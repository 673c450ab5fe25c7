"""nbgrader's settings for this course; `nbgrader` and JupyterLab read them when started here."""

import os

from nbjudge.settings import configure

c = get_config()  # noqa: F821 - nbgrader defines it when it reads this file

configure(c, __file__)

c.CourseDirectory.course_id = "dgm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "assignments"
# Where several machines record, a database of their own: postgresql://user@host/gradebook. It is
# SQLAlchemy's version that decides which driver this means; ours is psycopg2.
db_url = os.environ.get("DGM_GRADEBOOK", c.CourseDirectory.db_url)
c.CourseDirectory.db_url = db_url.replace("postgresql://", "postgresql+psycopg2://", 1)

c.ClearSolutions.code_stub = {"python": "# Your code here.\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "Your answer here."

# The share of the points that each day after the due date costs; see docs/instructors.md.
c.PerDay.share = 0.0
