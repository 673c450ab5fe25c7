"""nbgrader's settings for a course that is graded here; `nbgrader_config.py` asks for them.

from nbjudge.settings import configure

c = get_config()
configure(c, __file__)
"""

import os

from traitlets.config import Config

from nbjudge import quirks

# Moodle's "Ada Lovelace_1234567_assignsubmission_file_/iwae.ipynb", with the folder or without, and
# Canvas's "lovelaceada_12345_67890_iwae.ipynb". The number after the name is the student's id here;
# it is the column of the platform's own table of grades.
_NAMES_IN_ARCHIVES = (
    r"(?:[^/]+/)??(?P<name>[^/]*?)_(?:LATE_)?(?P<student_id>\d+)_"
    r"(?:assignsubmission_(?:file|onlinetext)_?/?|\d+_|(?=text\.html$))(?P<file_id>.+)"
)


def configure(c: Config, config_file: str) -> None:
    """Have `nbgrader`, formgrader and the command grade a course in the sandbox.

    What the course sets after this call is what holds.

    Args:
        c: what nbgrader's `get_config()` returns.
        config_file: path of the `nbgrader_config.py` that calls this; its folder is the course's.

    """
    root = os.path.dirname(os.path.abspath(config_file))
    # nbgrader opens the gradebook without making its folder.
    os.makedirs(os.path.join(root, "grading"), exist_ok=True)
    c.CourseDirectory.root = root
    c.CourseDirectory.submitted_directory = "grading/submitted"
    c.CourseDirectory.autograded_directory = "grading/autograded"
    c.CourseDirectory.feedback_directory = "grading/feedback"
    c.CourseDirectory.source_with_tests_directory = "grading/source_with_tests"
    c.CourseDirectory.solution_directory = "grading/solution"
    c.CourseDirectory.db_url = f"sqlite:///{root}/grading/gradebook.db"

    # A notebook under another name is found; what was lost or doubled in it is mended, metadata
    # too. Then comes nbgrader's own list, here and below, with quicker steps in the place of two of
    # its own, and without `CheckCellMetadata`, which has nothing left to find.
    c.Autograde.pre_convert_hook = "nbjudge.submissions.hooks.before_autograde"
    c.Autograde.exporter_class = "nbjudge.submissions.hooks.SubmittedExporter"
    c.Autograde.sanitize_preprocessors = [
        "nbjudge.submissions.hooks.Mend",
        "nbgrader.preprocessors.ClearOutput",
        "nbgrader.preprocessors.DeduplicateIds",
        "nbgrader.preprocessors.OverwriteKernelspec",
        "nbjudge.course.overwrite.OverwriteTogether",
    ]
    # Student code runs in the sandbox, and what judges it outside.
    c.Autograde.autograde_preprocessors = [
        "nbjudge.execute_and_mark.ExecuteAndMark",
        "nbgrader.preprocessors.IgnorePattern",
        "nbconvert.preprocessors.ClearMetadataPreprocessor",
        "nbgrader.preprocessors.LimitOutput",
        "nbjudge.course.save.SaveTogether",
        "nbgrader.preprocessors.AssignLatePenalties",
        # What stays of it is shown to an instructor, who is logged in.
        "nbjudge.reports.inert.Sanitize",
    ]
    # Once for each conversion, and not after each of its steps.
    c.Exporter.optimistic_validation = True
    # `c.PerDay.share` is the share of the points that each day after the due date costs.
    c.AssignLatePenalties.plugin_class = "nbjudge.reports.late.PerDay"
    # `c.ExecuteAndMark.partial_credit = False` gives all the points of a check or none.
    # Seconds for one cell. A check stops an endless loop itself, after 10.
    c.ExecuteAndMark.cell_seconds = 60
    # The same for *Validate*; nbgrader's own limit of 30 would look like a student's mistake.
    c.Execute.timeout = 120
    # A deleted check comes back instead of staying ungraded.
    c.OverwriteCells.add_missing_cells = True

    # The command's `collect` and `nbgrader zip_collect` read the archive of all submissions that
    # Moodle or Canvas gives.
    c.CheckedExtractor.names = _NAMES_IN_ARCHIVES
    c.ZipCollectApp.extractor_plugin = "nbjudge.submissions.collect.CheckedExtractor"
    c.ZipCollectApp.downloaded_directory = "grading/downloaded"
    # What the extractor wrote: a folder for each student.
    c.FileNameCollectorPlugin.named_regexp = (
        r".*[/\\](?P<student_id>[^/\\]+)[/\\](?P<file_id>[^/\\]+)"
    )
    # Its page of the current configuration would show the database's address with the password.
    c.FormgradeExtension.debug = False
    # What students handed in is shown on pages on which nothing of it acts.
    c.GenerateFeedback.exporter_class = "nbjudge.reports.pages.FeedbackExporter"
    # Puts into nbgrader what reads times strictly, copies files with care, and guards formgrader.
    quirks.apply()
