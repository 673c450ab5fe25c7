"""nbgrader's settings for this course; `nbgrader` and JupyterLab read them when started here."""

import os

from nbjudge import quirks

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
# Where several machines record, a database of their own: postgresql://user@host/gradebook. It is
# SQLAlchemy's version that decides which driver this means; ours is psycopg2.
db_url = os.environ.get("DGM_GRADEBOOK", f"sqlite:///{root}/grading/gradebook.db")
c.CourseDirectory.db_url = db_url.replace("postgresql://", "postgresql+psycopg2://", 1)

c.ClearSolutions.code_stub = {"python": "# Your code here.\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "Your answer here."

# A notebook under another name is found; what was lost or doubled in it is mended, metadata too.
# Then comes nbgrader's own list, here and below, with quicker steps in the place of two of its own,
# and without `CheckCellMetadata`, which has nothing left to find.
c.Autograde.pre_convert_hook = "nbjudge.submissions.sanitize.before_autograde"
c.Autograde.exporter_class = "nbjudge.submissions.sanitize.SubmittedExporter"
c.Autograde.sanitize_preprocessors = [
    "nbjudge.submissions.sanitize.Mend",
    "nbgrader.preprocessors.ClearOutput",
    "nbgrader.preprocessors.DeduplicateIds",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbjudge.course.gradebook.OverwriteTogether",
]
# Student code runs in the sandbox, and what judges it outside.
c.Autograde.autograde_preprocessors = [
    "nbjudge.step.ExecuteAndMark",
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbjudge.course.gradebook.SaveTogether",
    "nbgrader.preprocessors.AssignLatePenalties",
    # What stays of it is shown to an instructor, who is logged in.
    "nbjudge.reports.inert.Sanitize",
]
# Once for each conversion, and not after each of its steps.
c.Exporter.optimistic_validation = True
# The share of the points that each day after the due date costs; see docs/instructors.md.
c.AssignLatePenalties.plugin_class = "nbjudge.reports.late.PerDay"
c.PerDay.share = 0.0
# Seconds for one cell. A check stops an endless loop itself, after 10.
c.ExecuteAndMark.cell_seconds = 60
# The same for *Validate*; nbgrader's own limit of 30 would look like a student's mistake.
c.Execute.timeout = 120
# A deleted check comes back instead of staying ungraded.
c.OverwriteCells.add_missing_cells = True

# `dgm collect` and `nbgrader zip_collect` read the archive of all submissions that Moodle or Canvas
# gives: Moodle's "Ada Lovelace_1234567_assignsubmission_file_/iwae.ipynb", with the folder or
# without, and Canvas's "lovelaceada_12345_67890_iwae.ipynb". The number after the name is the
# student's id here; it is the column of the platform's own table of grades.
c.CheckedExtractor.names = (
    r"(?:[^/]+/)??(?P<name>[^/]*?)_(?:LATE_)?(?P<student_id>\d+)_"
    r"(?:assignsubmission_(?:file|onlinetext)_?/?|\d+_|(?=text\.html$))(?P<file_id>.+)"
)
c.ZipCollectApp.extractor_plugin = "nbjudge.submissions.collect.CheckedExtractor"
c.ZipCollectApp.downloaded_directory = "grading/downloaded"
# What the extractor wrote: a folder for each student.
c.FileNameCollectorPlugin.named_regexp = r".*[/\\](?P<student_id>[^/\\]+)[/\\](?P<file_id>[^/\\]+)"
# Its page of the current configuration would show the address of the database with the password.
c.FormgradeExtension.debug = False
# What students handed in is shown on pages on which nothing of it acts.
c.GenerateFeedback.exporter_class = "nbjudge.reports.pages.FeedbackExporter"
# Puts into nbgrader what reads times strictly, copies files with care, and guards formgrader.
quirks.apply()
