"""Grades leave the gradebook whole: points of both kinds, less what lateness costs, or nothing."""

import csv
import importlib
import io
import re
import shutil
import subprocess
import sys

import pytest
from conftest import NO_SANDBOX
from lab import environment

from dgm_utils.cli import main
from nbjudge.course.folder import Course, CourseError
from nbjudge.reports.export import Grade, fill, grades, write_plain
from nbjudge.reports.late import PerDay, settle
from nbjudge.reports.tables import as_csv

kills = importlib.import_module("benchmarks.kills")
ASSIGNMENT = kills.ASSIGNMENT
# Due on the evening of the first; of the students Ann is on her second day late, Ben one second
# before the end and Cyd has no timestamp, as it is with what a platform's archive brought.
DUE = "2026-03-01 18:00:00 UTC"
CAME = {"ann": "2026-03-02 19:00:00 UTC", "ben": "2026-03-01 17:59:59 UTC"}


def make_course(folder):
    """The small course with a due date, a tenth a day for being late, and nothing graded yet."""
    kills.make_course(folder)
    config = folder / "nbgrader_config.py"
    config.write_text(config.read_text().replace("PerDay.share = 0.0", "PerDay.share = 0.1"))
    course = Course(folder)
    course.release(ASSIGNMENT)
    with course.api.gradebook as gradebook:
        gradebook.update_or_create_assignment(ASSIGNMENT, duedate=DUE)
    for student, time in CAME.items():
        (course.path("submitted", student, ASSIGNMENT) / "timestamp.txt").write_text(time)
    return course


def grade(folder, *options):
    return main(["--course", str(folder), "grade", ASSIGNMENT, *NO_SANDBOX, *options])


def give(course, student, points, cell="question"):
    """What formgrader does when a person enters points."""
    with course.api.gradebook as gradebook:
        row = gradebook.find_grade(cell, ASSIGNMENT, ASSIGNMENT, student)
        row.manual_score, row.needs_manual_grade = points, False
        gradebook.db.commit()


def state(course, student, cell="question"):
    """Points from a person, and whether one must look."""
    with course.api.gradebook as gradebook:
        row = gradebook.find_grade(cell, ASSIGNMENT, ASSIGNMENT, student)
        return row.manual_score, row.needs_manual_grade


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Graded by `dgm grade`; Ann's answer got two points and Cyd's none yet."""
    folder = tmp_path_factory.mktemp("graded") / "course"
    course = make_course(folder)
    # Eve handed in no notebook.
    assert grade(folder) == 1
    give(course, "ann", 2)
    return course


@pytest.fixture
def course(graded, tmp_path):
    return Course(shutil.copytree(graded.root, tmp_path / "course"))


def penalties(course):
    with course.api.gradebook as gradebook:
        return {
            s.student_id: s.late_submission_penalty
            for s in gradebook.assignment_submissions(ASSIGNMENT)
        }


# ── What is exported ─────────────────────────────────────────────────────────────────────────────


def test_points_of_both_kinds_less_the_penalty(course):
    found, most = grades(course, ASSIGNMENT)
    values = {g.student: g.value for g in found}
    assert most == 6
    # Three for the checks and two for the answer, less a fifth for two days begun.
    assert values["ann"] == pytest.approx(5 - 0.2 * 5)
    # An unanswered question is 0 points and no question to a person.
    assert values["ben"] == 3
    assert values["dan"] == 0


def test_what_is_not_known_is_no_grade_and_has_a_reason(course):
    found = {g.student: g for g in grades(course, ASSIGNMENT)[0]}
    assert found["cyd"].value is None
    assert found["cyd"].remark == "to be graded by hand: question"
    assert found["eve"].value is None
    assert "it is not JSON text" in found["eve"].remark


def test_a_submission_that_came_since_is_not_graded_yet(course):
    shutil.copytree(
        course.path("submitted", "ben", ASSIGNMENT), course.path("submitted", "fay", ASSIGNMENT)
    )
    (fay,) = (g for g in grades(course, ASSIGNMENT)[0] if g.student == "fay")
    assert fay.value is None
    assert "run `dgm grade small`" in fay.remark


def test_grades_that_the_gradebook_lost_are_not_made_up(course):
    with course.api.gradebook as gradebook:
        gradebook.remove_submission(ASSIGNMENT, "ben")
    ben = {g.student: g for g in grades(course, ASSIGNMENT)[0]}["ben"]
    assert ben.value is None
    assert ben.remark == "not in the gradebook: run `dgm grade small --student ben`"
    grade(course.root, "--student", "ben")
    assert {g.student: g.value for g in grades(course, ASSIGNMENT)[0]}["ben"] == 3


def test_the_plain_table_leaves_them_empty(course, capsys):
    assert main(["--course", str(course.root), "export", ASSIGNMENT]) == 1
    said = capsys.readouterr().out
    assert "cyd  no grade: to be graded by hand: question" in said
    with open(course.grading / "reports" / f"{ASSIGNMENT}-grades.csv", encoding="utf-8") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert rows["ann"]["grade"] == "4"
    assert rows["ann"]["penalty"] == "1"
    assert rows["dan"]["grade"] == "0"
    assert {rows[name]["grade"] for name in ("cyd", "eve")} == {""}


def test_nothing_graded_is_said_in_one_line(tmp_path, capsys):
    make_course(tmp_path / "course")
    assert main(["--course", str(tmp_path / "course"), "export", ASSIGNMENT]) == 2
    assert "run `dgm grade small`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "formula",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\u00a0=1",
        "＝1+1",
        "﹣1",
        "a;=1",
        "a\t=1",
        "a\n-1",
        "a; ＋1",
    ],
)
def test_no_spreadsheet_executes_what_others_wrote(tmp_path, formula):
    write_plain(tmp_path / "grades.csv", [Grade(formula, formula, -1.5, 0.0, formula)], 6)
    text = (tmp_path / "grades.csv").read_bytes().decode()
    (row,) = list(csv.DictReader(io.StringIO(text, newline="")))
    # A number of ours stays one.
    assert row["points"] == "-1.5"
    for entry in (row["student"], row["name"], row["remark"]):
        for cell in re.split(r"[;\t\r\n]", entry.replace("\r\n", "\n")):
            assert not re.match(r"\s*[=+\-@＝＋－﹣＠﹫]", cell), entry
        assert entry.replace("'", "") == formula


def test_ordinary_texts_stay_as_they_are():
    texts = ["Zoë", "O'Hara-Smith", "a = b; c - d", "1+1", "photo.png; notes.txt"]
    assert as_csv(texts, []) == "Zoë,O'Hara-Smith,a = b; c - d,1+1,photo.png; notes.txt\r\n"


def test_what_was_not_written_is_said_beside_the_grade(course):
    found = {g.student: g for g in grades(course, ASSIGNMENT)[0]}
    assert found["ben"].remark == "left as released: question (0 points)"
    assert found["ann"].remark == ""


# ── Platforms' tables ────────────────────────────────────────────────────────────────────────────

MOODLE = (
    "Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,"
    "Last modified (submission),Last modified (grade),Feedback comments\r\n"
    'Participant 1001,Ada Lovelace,ada@example.org,Submitted for grading - ,,6.00,Yes,"Sunday, 1 '
    'March 2026, 5:12 PM",-,\r\n'
    "Participant 1002,Ben Blum,ben@example.org,No submission - ,,6.00,Yes,-,-,\r\n"
    'Participant 1003,"Cyd, Zoë",cyd@example.org,Submitted for grading - ,1.00,6.00,Yes,-,-,'
    '"Read it ""again"""\r\n'
)
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Assignment 1: small (77),Large (78),"
    "Assignments Current Score,Current Score\n"
    ",,,,,Manual Posting,,,\n"
    "    Points Possible,,,,,6.00,10.00,(read only),(read only)\n"
    '"Lovelace, Ada",1001,s1,ada,A,,9.50,,\n'
    '"Blum, Ben",1002,s2,ben,A,EX,,,\n'
    '"Zoë, Cyd",1003,s3,cyd,A,1.00,,,\n'
)
FOUND = [
    Grade("1001", "Ada Lovelace", 4 + 1 / 3, 0.0),
    Grade("1002", "Ben Blum", 3.0, 0.5),
    Grade("1003", "Cyd", remark="to be graded by hand: question"),
    Grade("1004", "Dan", 2.0),
]


def table(tmp_path, text, **encoding):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(**encoding))
    return path


def cells(text, delimiter=","):
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def changed(before, after):
    """Cells that differ, by row and column title."""
    header = before[0]
    assert [len(row) for row in after] == [len(header)] * len(before)
    return {
        (number, header[column]): after[number][column]
        for number, row in enumerate(before)
        for column, there in enumerate(row)
        if after[number][column] != there
    }


def test_moodles_worksheet_gets_its_grades_and_nothing_else(tmp_path):
    path = table(tmp_path, MOODLE, encoding="utf-8-sig")
    filled = fill(path, ASSIGNMENT, FOUND, 6)
    content = path.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfIdentifier,")
    assert content.count(b"\r\n") == content.count(b"\n") == 4
    after = cells(content.decode("utf-8-sig"))
    assert changed(cells(MOODLE), after) == {(1, "Grade"): "4.33", (2, "Grade"): "2.5"}
    assert (filled.written, filled.by) == (2, "Identifier")
    notes = dict(filled.notes)
    # A grade that stands there is not taken back.
    assert notes["1003"] == "keeps 1.00, which stands in the table"
    assert notes["1004"] == "has a grade and is not in the table"


def test_a_grade_that_is_locked_is_kept_and_named(tmp_path):
    locked = MOODLE.replace("- ,,6.00,Yes", "- ,2.00,6.00,No", 1)
    path = table(tmp_path, locked)
    filled = fill(path, ASSIGNMENT, FOUND, 6)
    assert changed(cells(locked), cells(path.read_text())) == {(2, "Grade"): "2.5"}
    assert dict(filled.notes)["1001"] == "has a grade and keeps what is there: it is locked"


GERMAN = (
    "ID;Vollständiger Name;E-Mail-Adresse;Status;Bewertung;Bestwertung;"
    "Bewertung kann geändert werden;Zuletzt geändert (Abgabe);Feedback als Kommentar\r\n"
    "Teilnehmer/in1001;Ada Lovelace;ada@example.org;Zur Bewertung abgegeben - ;;6,00;Ja;-;\r\n"
    "Teilnehmer/in1002;Ben Blum;ben@example.org;Keine Abgabe - ;;6,00;Ja;-;\r\n"
    "Teilnehmer/in1003;Cyd;cyd@example.org;Keine Abgabe - ;1,00;6,00;Nein;-;\r\n"
)


def test_a_table_of_another_language_says_what_to_name(tmp_path):
    path = table(tmp_path, GERMAN, encoding="utf-8-sig")
    with pytest.raises(CourseError, match="name that of the grades with --column"):
        fill(path, ASSIGNMENT, FOUND, 6)
    found = [*FOUND[:2], Grade("1003", "Cyd", 4.0)]
    filled = fill(path, ASSIGNMENT, found, 6, column="Bewertung")
    after = cells(path.read_bytes().decode("utf-8-sig"), ";")
    assert changed(cells(GERMAN, ";"), after) == {(1, "Bewertung"): "4,33", (2, "Bewertung"): "2,5"}
    assert (filled.by, filled.column) == ("ID", "Bewertung")
    assert dict(filled.notes)["1003"] == "has a grade and keeps what is there: it is locked"


def test_a_maximum_of_another_language_is_compared_too(tmp_path):
    path = table(tmp_path, GERMAN)
    with pytest.raises(CourseError, match="platform's maximum is 6,00: set it to 14"):
        fill(path, ASSIGNMENT, FOUND, 14, column="Bewertung")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_canvas_gradebook_gets_its_grades_and_nothing_else(tmp_path, delimiter):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(cells(CANVAS))
    path = table(tmp_path, text.getvalue())
    filled = fill(path, ASSIGNMENT, FOUND, 6)
    after = cells(path.read_text(), delimiter)
    assert changed(cells(CANVAS), after) == {(3, "Assignment 1: small (77)"): "4.33"}
    assert filled.by == "ID"
    assert dict(filled.notes)["1002"] == "has a grade and keeps EX, the platform's own word"


def test_students_may_be_known_by_login(tmp_path):
    path = table(tmp_path, CANVAS)
    filled = fill(path, ASSIGNMENT, [Grade("ada", "", 5.0), Grade("cyd", "", 0.0)], 6)
    assert filled.by == "SIS Login ID"
    rows = cells(path.read_text())
    assert (rows[3][5], rows[5][5]) == ("5", "0")


def test_another_column_by_its_title(tmp_path):
    path = table(tmp_path, CANVAS)
    fill(path, ASSIGNMENT, FOUND, 10, column="Large")
    assert cells(path.read_text())[3][6] == "4.33"


@pytest.mark.parametrize(
    ("text", "most", "column", "words"),
    [
        (CANVAS, 14, None, "platform's maximum is 6.00: set it to 14"),
        (MOODLE, 14, None, "platform's maximum is 6.00: set it to 14"),
        (CANVAS.replace("small", "tiny"), 6, None, "name one with --column"),
        (CANVAS.replace("Large", "Small bonus"), 6, None, "more than one column"),
        (CANVAS, 6, "Medium", "no column for 'Medium'"),
        (CANVAS.replace(",100", ",900"), 6, None, "none of our students, such as 1001"),
        ("a,b\n1,2\n", 6, None, "neither Moodle's grading worksheet"),
        ("", 6, None, "neither Moodle's grading worksheet"),
    ],
)
def test_what_is_not_clear_is_refused_and_nothing_is_written(tmp_path, text, most, column, words):
    path = table(tmp_path, text)
    with pytest.raises(CourseError, match=words):
        fill(path, ASSIGNMENT, FOUND, most, column)
    assert path.read_bytes().decode() == text


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CourseError, match="No such file"):
        fill(tmp_path / "none.csv", ASSIGNMENT, FOUND, 6)
    with pytest.raises(CourseError, match="not UTF-8"):
        fill(table(tmp_path, MOODLE, encoding="utf-16"), ASSIGNMENT, FOUND, 6)


def test_the_command_fills_a_table(course, tmp_path, capsys):
    path = table(tmp_path, CANVAS)
    command = ["--course", str(course.root), "export", ASSIGNMENT, "--into", str(path)]
    # Dan has a grade and is not in it.
    assert main(command) == 1
    rows = {row[3]: row[5] for row in cells(path.read_text())}
    assert rows["cyd"] == "1.00"
    said = capsys.readouterr().out
    assert "cyd  keeps 1.00" in said
    assert "dan  has a grade and is not in the table" in said
    assert "0 grades in 'Assignment 1: small (77)', students found by 'SIS Login ID'" in said


# ── Late work ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("days", "share"), [(0.01, 0.1), (1, 0.1), (1.01, 0.2), (30, 1)])
def test_each_day_begun_costs_the_same_and_never_more_than_there_is(days, share):
    plugin = PerDay(share=0.1)
    assert plugin.late_submission_penalty("ann", 20.0, days * 86400) == pytest.approx(share * 20)


def test_nbgraders_command_and_ours_take_off_the_same(tmp_path, graded):
    course = make_course(tmp_path / "course")
    options = [] if not NO_SANDBOX else ["--ExecuteAndMark.sandbox=False"]
    command = [sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT, *options]
    # Eve's cannot be graded, and so the command fails.
    subprocess.run(command, cwd=course.root, env=environment(), capture_output=True)
    found = penalties(course)
    # No person has graded yet: a fifth of the three points for the checks.
    assert found["ann"] == pytest.approx(0.6)
    assert not found["ben"]
    assert not found["cyd"]
    give(course, "ann", 2)
    assert settle(course, ASSIGNMENT) == settle(graded, ASSIGNMENT) == {"ann": pytest.approx(1.0)}
    assert penalties(course)["ann"] == pytest.approx(1.0)


def test_feedback_shows_the_penalty_on_all_points(course):
    assert main(["--course", str(course.root), "feedback", ASSIGNMENT]) == 0
    page = course.path("feedback", "ann", ASSIGNMENT) / f"{ASSIGNMENT}.html"
    assert "Late submission penalty (Score: -1.0)" in page.read_text()


def test_a_due_date_or_a_timestamp_that_was_put_right_counts(course):
    with course.api.gradebook as gradebook:
        gradebook.update_or_create_assignment(ASSIGNMENT, duedate="2026-03-02 18:30:00 UTC")
    assert settle(course, ASSIGNMENT) == {"ann": pytest.approx(0.5)}
    came = course.path("submitted", "ann", ASSIGNMENT) / "timestamp.txt"
    came.write_text("2026-03-02 18:29:00 UTC")
    assert settle(course, ASSIGNMENT) == {}
    assert not penalties(course)["ann"]


def test_a_time_that_became_unclear_after_grading_leaves_no_grade(course):
    came = course.path("submitted", "ann", ASSIGNMENT) / "timestamp.txt"
    before = came.read_text()
    came.write_text("2026-03-02 20:00:00 CEST")
    (ann,) = [g for g in grades(course, ASSIGNMENT)[0] if g.student == "ann"]
    assert ann.value is None and "'2026-03-02 20:00:00 CEST'" in ann.remark
    # No file means not late, whatever there was before.
    came.unlink()
    assert settle(course, ASSIGNMENT) == {}
    came.write_text(before)


@pytest.mark.parametrize("due", ["2026-03-01 20:00:00 CEST", "2026-03-01 7:00 PM", "01/03/2026"])
def test_a_due_date_is_read_as_strictly_as_a_timestamp(course, due):
    with course.api.gradebook as gradebook, pytest.raises(ValueError, match="write one such as"):
        gradebook.update_or_create_assignment(ASSIGNMENT, duedate=due)


def test_a_due_date_with_a_zone_is_read_as_one(course):
    for due in ("2026-03-01 20:00:00 +0200", "2026-03-01T18:00 +0000", DUE):
        with course.api.gradebook as gradebook:
            gradebook.update_or_create_assignment(ASSIGNMENT, duedate=due)
            assert str(gradebook.find_assignment(ASSIGNMENT).duedate) == "2026-03-01 18:00:00"


def test_an_extension_counts(course):
    with course.api.gradebook as gradebook:
        gradebook.grant_extension(ASSIGNMENT, "ann", days=1)
    assert settle(course, ASSIGNMENT) == {"ann": pytest.approx(0.5)}


def test_a_timestamp_that_is_none_stops_one_student_only(course, capsys):
    came = course.path("submitted", "ben", ASSIGNMENT) / "timestamp.txt"
    came.write_text("after dinner")
    assert grade(course.root) == 1
    assert "timestamp.txt does not hold a time: write one such as" in capsys.readouterr().out
    found = {g.student: g for g in grades(course, ASSIGNMENT)[0]}
    assert found["ben"].value is None
    assert found["ann"].value == pytest.approx(4)
    # It is noticed when it is put right.
    came.write_text(CAME["ben"])
    grade(course.root)
    assert {g.student: g.value for g in grades(course, ASSIGNMENT)[0]}["ben"] == 3


# ── What a person gave ───────────────────────────────────────────────────────────────────────────


def change_source(course, old, new):
    source = course.notebook("source", ASSIGNMENT)
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


@pytest.mark.parametrize("how", ["regrade", "fix", "button"])
def test_points_for_an_unchanged_answer_survive_a_regrade(course, how):
    if how == "button":
        course.api.config.ExecuteAndMark.sandbox = not NO_SANDBOX
        assert course.api.autograde(ASSIGNMENT, "ann")["success"]
    else:
        if how == "fix":
            # As a fix in an exercise does, this makes every result an old one.
            change_source(course, "import torch", "import torch  # fixed")
            course.release(ASSIGNMENT)
        grade(course.root, *(["--regrade"] if how == "regrade" else []))
    assert state(course, "ann") == (2, False)
    assert state(course, "cyd") == (None, True)


def test_who_waits_for_a_person_is_told_by_the_next_run(course, capsys):
    grade(course.root)
    said = capsys.readouterr().out.splitlines()
    state_of = {line.split()[0]: line.split("  ")[-1].strip() for line in said if line[:1] > " "}
    assert state_of["ann"] == "graded"
    assert state_of["cyd"] == "needs a manual grade"


def test_points_for_a_changed_answer_are_looked_at_again(course):
    path = course.notebook("submitted", ASSIGNMENT, "ann")
    path.write_text(path.read_text().replace("concave", "convex"))
    grade(course.root)
    assert state(course, "ann") == (2, True)
    assert {g.student: g.value for g in grades(course, ASSIGNMENT)[0]}["ann"] is None


def test_a_corrected_check_is_looked_at_again_when_its_result_changed(course):
    check = "multi_sample_elbo-check"
    give(course, "cyd", 0.5, check)
    grade(course.root, "--regrade")
    assert state(course, "cyd", check) == (0.5, False)
    path = course.notebook("submitted", ASSIGNMENT, "cyd")
    path.write_text(path.read_text().replace("log_w.sum(dim=0)", "log_w.mean(dim=0)"))
    grade(course.root)
    assert state(course, "cyd", check) == (0.5, True)


# ── A changed exercise ───────────────────────────────────────────────────────────────────────────


def test_other_points_are_released_and_regraded(course, capsys):
    change_source(course, '"points": 2', '"points": 4')
    course.release(ASSIGNMENT)
    grade(course.root)
    found, most = grades(course, ASSIGNMENT)
    assert most == 8
    assert {g.student: g.value for g in found}["ben"] == 5


def test_other_cells_are_refused_with_the_way_around_and_that_leads_there(course, capsys):
    released = course.notebook("release", ASSIGNMENT).read_bytes()
    change_source(course, '"grade_id": "active_units-check"', '"grade_id": "units-check"')
    command = ["--course", str(course.root), "release", ASSIGNMENT]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "has grades of 4 students" in said
    assert "added: units-check; removed: active_units-check; but" in said
    assert "`nbgrader db assignment remove small --force`" in said
    assert course.notebook("release", ASSIGNMENT).read_bytes() == released
    way = [sys.executable, "-m", "nbgrader", "db", "assignment", "remove", ASSIGNMENT, "--force"]
    subprocess.run(way, cwd=course.root, env=environment(), capture_output=True, check=True)
    assert main(command) == 0
    assert grade(course.root) == 1
    found = {g.student: g for g in grades(course, ASSIGNMENT)[0]}
    assert found["ben"].value == 3
    # What a person gave went with the old grades, and that is said.
    assert found["ann"].remark.startswith("to be graded by hand: question; Grading metadata")
