"""What docs/sandbox.md says is held of student code, with the tests that hold each sentence."""

import ast
import re

import pytest
from conftest import ROOT

HOSTILE = "test_hostile.py::test_a_hostile_submission_gets_what_is_due_and_harms_nobody"
# Beginning of a sentence → the tests that would fail if it were not so.
HELD = {
    "A check has two halves.": ["test_wire.py::test_tasks_travel_without_answers"],
    "*Observe* calls": ["test_checks.py::test_an_observation_is_plain_data"],
    "When a class is graded, only": [
        "test_sandbox.py::test_there_is_no_network",
        "test_sandbox.py::test_no_file_holds_a_reference",
        "test_sandbox.py::test_neither_the_machine_nor_other_processes_are_visible",
        "test_sandbox.py::test_what_one_kernel_writes_the_next_does_not_see",
        "test_sandbox.py::test_a_fork_bomb_is_bounded_and_leaves_no_process",
        "test_sandbox.py::test_a_full_disk_is_an_error_and_nothing_grows_outside",
        "test_watch.py::test_no_process_hides_its_memory",
        "test_execute.py::test_a_flood_costs_only_its_cell_and_no_memory",
    ],
    "What comes out is read": ["test_wire.py::test_the_loader_runs_no_code"],
    "So a function is worth": [
        "test_hostile.py::test_a_hostile_submission_gets_what_is_due_and_harms_nobody"
    ],
    "Only duties of cost": [
        "test_hostile.py::test_a_hostile_submission_gets_what_is_due_and_harms_nobody"
    ],
    "The numbers and sizes": [
        "test_class.py::test_the_cases_of_a_class_are_nobody_elses",
        "test_class.py::test_a_course_has_one_secret_of_its_own",
    ],
    "Before anybody is graded, a search": [
        "test_covers.py::test_a_course_that_is_not_covered_lets_nobody_in",
        "test_covers.py::test_answers_that_nobody_knew_of_let_nobody_in",
    ],
    "Time is processor time": [
        "test_clock.py::test_time_that_others_use_does_not_count",
        "test_watch.py::test_the_seconds_of_all_processes_together_are_limited",
    ],
    "A notebook that wants more": [
        "test_watch.py::test_busy_shells_are_slowed_down_and_not_ended",
        "test_watch.py::test_a_busy_tree_gets_its_share_in_the_long_run_and_no_less",
    ],
    "What hangs is ended": [
        "test_clock.py::test_what_waits_hangs_and_uses_no_time",
        "test_execute.py::test_what_wall_time_ended_is_run_again_when_it_is_quiet",
        "test_class.py::test_what_ended_by_the_clock_on_the_wall_runs_once_more_alone",
    ],
    "Whatever fails with one submission": [
        "test_class.py::test_whatever_breaks_one_submission_is_its_result_and_the_others_go_on",
        "test_class.py::test_a_worker_that_dies_is_one_failed_submission",
        "test_feedback.py::test_a_page_that_cannot_be_made_is_named_and_the_old_one_goes",
        "test_report.py::test_a_notebook_that_cannot_be_read_harms_no_other",
        "test_handed_in.py::test_any_error_is_one_submissions_own",
    ],
    "A cell that ends the kernel": [
        "test_execute.py::test_the_same_notebook_has_the_same_grade_every_time",
        "test_execute.py::test_who_ends_the_kernel_later_is_found_and_costs_nobody_else",
        "test_neutral.py::test_what_a_notebook_left_changes_nothing_and_is_given_back",
    ],
    "What is kept of a notebook": [
        "test_formgrader_safety.py::test_nothing_acts_in_what_is_stored",
        "test_formgrader_safety.py::test_nothing_acts_where_submissions_are_graded",
        "test_formgrader_safety.py::test_nothing_acts_in_feedback",
        "test_report.py::test_nothing_that_students_wrote_becomes_part_of_the_page",
    ],
    "In a table no text": ["test_export.py::test_no_spreadsheet_executes_what_others_wrote"],
    "Before a class is graded, the instructor's": [
        "test_demo.py::test_the_solution_scores_full_and_the_release_nothing"
    ],
    "Pictures and final trainings": ["test_demo.py::test_points_are_as_expected"],
    "Where there is no bubblewrap": [
        "test_sandbox.py::test_without_bubblewrap_the_message_says_what_to_install"
    ],
    "On Windows": ["test_sandbox.py::test_without_bubblewrap_the_message_says_what_to_install"],
    "A notebook is found": [
        "test_handed_in.py::test_a_notebook_is_found_under_any_name",
        "test_handed_in.py::test_the_filled_notebook_wins_over_the_untouched_one_of_the_right_name",
    ],
    "Cells that were doubled": [
        "test_demo.py::test_a_broken_submission_costs_what_it_broke_and_harms_nobody"
    ],
    "Both the student and the report": [
        "test_handed_in.py::test_the_sentences_reach_the_note_through_dgm_and_nbgrader",
        "test_report.py::test_what_was_left_and_what_was_mended_is_on_the_page",
    ],
}


def sentences():
    """Of the page, from how notebooks are found to how student code is kept in."""
    text = (ROOT / "docs" / "sandbox.md").read_text()
    part = text[text.index("A notebook is found under") :]
    part = re.sub(r"^##.*$|^- \*\*[^*]*\*\*", "", part, flags=re.MULTILINE)
    return re.split(r"(?<=\.)\s+(?=[A-Z*])", " ".join(part.split()))


@pytest.mark.parametrize("sentence", sentences(), ids=lambda sentence: sentence[:30])
def test_a_promise_is_held_by_a_test(sentence):
    assert sum(sentence.startswith(beginning) for beginning in HELD) == 1


@pytest.mark.parametrize("beginning", HELD)
def test_what_holds_a_promise_is_there(beginning):
    assert any(sentence.startswith(beginning) for sentence in sentences())
    for test in HELD[beginning]:
        file, _, name = test.partition("::")
        (path,) = (ROOT / "tests").rglob(file)
        tree = ast.parse(path.read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test
