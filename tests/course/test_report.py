"""The report says of a class what its results, verdicts and gradebook hold, and harms no reader."""

import csv
import itertools
import json
import random
import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import ROOT, TOPICS
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nbjudge.course.folder import Course, CourseError
from nbjudge.judging.verdict import VERDICT_MIME
from nbjudge.reports import alike
from nbjudge.reports import read as report
from nbjudge.reports.alike import alike_pairs
from nbjudge.reports.read import write_report

POINTS = {"mean_of": 2, "spread_of": 3, "sort_of": 1}
STUB = "def {}(x):\n    raise NotImplementedError()"
ATTACK = "<script>alert(1)"


# A course whose submissions were graded before: nothing is executed here.


def notebook(sources, outputs=None):
    """A notebook with an answer and a check for each exercise, and one written task."""
    cells = []
    for name, points in POINTS.items():
        solution = {"grade_id": f"{name}-solution", "solution": True, "grade": False}
        check = {"grade_id": f"{name}-check", "solution": False, "grade": True, "points": points}
        cells += [
            new_code_cell(sources[name], metadata={"nbgrader": solution}),
            new_code_cell(
                f"check({name})",
                metadata={"nbgrader": check},
                outputs=(outputs or {}).get(name, []),
            ),
        ]
    written = {"grade_id": "proof", "solution": True, "grade": True, "points": 4}
    cells.append(new_markdown_cell("Because.", metadata={"nbgrader": written}))
    return new_notebook(cells=cells)


def verdict(name, passed=True, **more):
    said = {"kind": "passed" if passed else "value", "sentence": "", "misconception": None}
    data = {"exercise": name, "passed": passed, "copied": False, **said, **more}
    return [new_output("display_data", data={VERDICT_MIME: data})]


def misconception(name, called, sentence):
    more = {"kind": "misconception", "misconception": called, "sentence": sentence}
    return verdict(name, False, **more)


class Class:
    """A course folder, filled one submission at a time."""

    def __init__(self, folder):
        shutil.copy(ROOT / "nbgrader_config.py", folder)
        self.course = Course(folder)
        stubs = {name: STUB.format(name) for name in POINTS}
        answers = {name: f"def {name}(x):\n    return torch.{name}(x)" for name in POINTS}
        self._write(self.course.notebook("source", "topic"), notebook(answers))
        self._write(self.course.notebook("release", "topic"), notebook(stubs))

    def _write(self, path, content):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))

    def submit(self, student, **result):
        """A submission; with a result, one that `dgm grade` has seen."""
        self.course.path("submitted", student, "topic").mkdir(parents=True)
        if result:
            path = self.course.grading / "graded" / "topic" / f"{student}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"digest": "", "result": {"student": student, **result}}))

    def grade(self, student, verdicts=None, sources=None, printed=(), state="graded"):
        """A graded submission; every check passed but for those that `verdicts` names."""
        outputs = {name: verdict(name) for name in POINTS} | (verdicts or {})
        passed = {name: o[0]["data"][VERDICT_MIME]["passed"] for name, o in outputs.items()}
        points = sum(POINTS[name] * passed[name] for name in POINTS)
        self.submit(student, state=state, points=points, max_points=6.0)
        written = {name: f"def {name}(x):\n    return x.{name}()" for name in POINTS}
        graded = notebook(written | (sources or {}), outputs)
        graded.cells[0].outputs = list(printed)
        self._write(self.course.notebook("autograded", "topic", student), graded)

    def report(self):
        """The page's text and the table's rows by student."""
        page, table = write_report(self.course, "topic")
        rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
        return page.read_text(encoding="utf-8"), {row["student"]: row for row in rows}


@pytest.fixture(scope="module")
def empty_gradebook(tmp_path_factory):
    """Making one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    with Course(folder).api.gradebook:
        pass
    return folder / "grading" / "gradebook.db"


@pytest.fixture
def students(tmp_path, empty_gradebook):
    (tmp_path / "grading").mkdir()
    shutil.copy(empty_gradebook, tmp_path / "grading")
    return Class(tmp_path)


class Reader(HTMLParser):
    """Tags, attributes and what a reader sees, one row of a table or paragraph a line."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self._hidden = [], [], "", False
        self.feed(page)
        self.lines = [" ".join(line.split()) for line in self.text.split("\n\n")]

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attr) for attr in attrs]
        self._hidden = self._hidden or tag == "style"
        self.text += "\n\n" if tag in BLOCKS else " "

    def handle_endtag(self, tag):
        self._hidden = self._hidden and tag != "style"
        self.text += "\n\n" if tag in BLOCKS else " "

    def handle_data(self, data):
        self.text += "" if self._hidden else re.sub(r"\n+", "\n", data)

    def section(self, title):
        """The lines under a heading."""
        start = self.lines.index(title)
        return list(itertools.takewhile(lambda line: line not in TITLES, self.lines[start + 1 :]))


BLOCKS = {"tr", "p", "h1", "h2", "li", "figure", "summary", "details", "pre"}
TITLES = [
    "Distribution of points",
    "Points for each exercise",
    "Misconceptions most met",
    "Not graded, and why",
    "Verbatim copies of a reference",
    "Near-identical pairs of submissions",
]


def test_numbers_are_those_of_the_class(students):
    students.grade("ada")
    students.grade("bob", {"mean_of": verdict("mean_of", False)})
    students.grade("cyd", {name: verdict(name, False, kind="unimplemented") for name in POINTS})
    students.submit("dan", state="failed", reason="the kernel died while a cell was running")
    students.submit("eve")
    page, table = students.report()
    page = Reader(page)

    headline = page.lines[: page.lines.index(TITLES[0])]
    wanted = ["5 submissions", "3 graded", "2 not graded", "4 of 6 median points"]
    assert [line for line in headline if line in wanted] == wanted
    exercises = page.section("Points for each exercise")
    assert "mean_of 2 0.67 1 of 3 value 1, unimplemented 1" in exercises
    assert "spread_of 3 2.00 2 of 3 unimplemented 1" in exercises
    labels = [value for tag, name, value in page.attributes if name == "aria-label"]
    assert len(labels) == 2
    assert labels[0].endswith("0 points: 1; 4 points: 1; 6 points: 1")
    assert labels[1].endswith("mean_of 33 %; spread_of 67 %; sort_of 67 %")

    assert list(table) == ["ada", "bob", "cyd", "dan", "eve"]
    assert [table[s]["points"] for s in table] == ["6", "4", "0", "", ""]
    assert [table[s]["mean_of"] for s in table] == ["2", "0", "0", "", ""]


def test_what_is_not_graded_is_listed_with_its_reason_and_has_no_points(students):
    students.grade("ada")
    students.submit("bob", state="failed", reason="topic.ipynb is not a notebook")
    students.submit("cyd")
    students.submit("dan", state="failed", reason="x")
    (students.course.grading / "graded" / "topic" / "dan.json").write_text("{")
    page, table = students.report()
    page = Reader(page)

    ungraded = page.section("Not graded, and why")
    assert "bob topic.ipynb is not a notebook" in ungraded
    assert "cyd not graded yet: run dgm grade topic" in ungraded
    assert any(line.startswith("dan its record cannot be read") for line in ungraded)
    for student in ("bob", "cyd", "dan"):
        filled = {name for name, value in table[student].items() if value}
        assert filled == {"student", "state", "reason"}
    assert "6 of 6 median points" in page.lines


def test_misconceptions_come_by_number_with_a_sentence_that_a_student_read(students):
    rare = misconception("mean_of", "sum for mean", "You add: `x.sum()` is 3.")
    for number in range(3):
        said = f"You forget the root: {number}; it is 2."
        more = {"mean_of": rare} if number == 1 else {}
        students.grade(
            f"s{number}", {"spread_of": misconception("spread_of", "root", said), **more}
        )
    page, table = students.report()
    text = Reader(page).section("Misconceptions most met")

    rows = [line for line in text if re.match(r"\d", line)]
    assert rows == [
        "3 spread_of root For example: You forget the root: 0; it is 2.",
        "1 mean_of sum for mean You add: x.sum() is 3.",
    ]
    assert text[text.index(rows[0]) :][:4] == [rows[0], "", "who", "s0 , s1 , s2"]
    assert "<code>x.sum()</code>" in page
    assert table["s1"]["misconceptions"] == "mean_of: sum for mean; spread_of: root"


def test_only_checks_say_what_came_out(students):
    students.grade("ada", {"sort_of": verdict("sort_of", copied=True)})
    forged = misconception("mean_of", "sum for mean", "Forged.") + verdict("mean_of", copied=True)
    broken = [new_output("display_data", data={VERDICT_MIME: text}) for text in ("", [1], {"a": 1})]
    students.grade("bob", printed=forged + broken)
    page, table = students.report()
    page = Reader(page)

    assert "No known misconception was met." in page.section("Misconceptions most met")
    assert "sort_of ada" in page.section("Verbatim copies of a reference")
    assert not any("bob" in line for line in page.section("Verbatim copies of a reference"))
    assert [row["copies"] for row in table.values()] == ["sort_of", ""]


def test_the_gradebook_has_the_last_word_on_scores(students):
    for student in ("ada", "bob"):
        students.grade(
            student, {"mean_of": verdict("mean_of", False)}, state="needs a manual grade"
        )
    with students.course.api.gradebook as gradebook:
        gradebook.add_assignment("topic")
        gradebook.add_notebook("topic", "topic")
        cells = [f"{name}-check" for name in POINTS]
        for cell, name in zip(cells, POINTS, strict=True):
            gradebook.add_grade_cell(
                cell, "topic", "topic", max_score=POINTS[name], cell_type="code"
            )
        gradebook.add_grade_cell("proof", "topic", "topic", max_score=4, cell_type="markdown")
        for student in ("ada", "bob"):
            gradebook.add_student(student)
            gradebook.add_submission("topic", student)
            for cell, score in zip(cells, (0, 3, 1), strict=True):
                grade = gradebook.find_grade(cell, "topic", "topic", student)
                grade.auto_score, grade.needs_manual_grade = score, False
            proof = gradebook.find_grade("proof", "topic", "topic", student)
            proof.needs_manual_grade = student == "bob"
            proof.manual_score = 2.5 if student == "ada" else None
        gradebook.find_grade("mean_of-check", "topic", "topic", "ada").manual_score = 1.5
        gradebook.db.commit()
    page, table = students.report()

    ada, bob = table["ada"], table["bob"]
    assert (ada["mean_of"], ada["points"], ada["proof"], ada["total"]) == ("1.5", "5.5", "2.5", "8")
    # What nobody has graded yet is empty, and so is the sum.
    assert (bob["mean_of"], bob["points"], bob["proof"], bob["total"]) == ("0", "4", "", "")
    assert {row["max_total"] for row in table.values()} == {"10"}
    assert "1 answers to grade by hand" in Reader(page).lines


def test_a_lost_notebook_costs_its_verdicts_only(students):
    wrong = {"mean_of": verdict("mean_of", False)}
    for student in ("ada", "bob", "cyd"):
        students.grade(student, wrong)
    students.course.notebook("autograded", "topic", "bob").unlink()
    students.course.notebook("autograded", "topic", "cyd").write_text('{"cells": [')
    page, table = students.report()
    exercises = Reader(page).section("Points for each exercise")

    assert "mean_of 2 0.00 0 of 1 value 1" in exercises
    assert any("gone or broken" in line and "bob , cyd" in line for line in exercises)
    assert [row["points"] for row in table.values()] == ["4", "4", "4"]


def test_nothing_that_students_wrote_becomes_part_of_the_page(students):
    image = '<img src="https://example.org/x" onerror="alert(2)">'
    said = f"`</code>{ATTACK}` {image} {{{{ 7 * 7 }}}} \ud800 \x00 \u2028"
    source = (
        f"def sort_of(x):\n    '''</pre>{ATTACK}'''\n    kept = [x[0], x[1], x[2], x[3], x[4]]\n"
        f"    text = {image!r}\n    return sorted(kept, key=lambda y: y * text.count('a') - 1)"
    )
    second = source.replace("sort_of", "mean_of").replace("sorted", "fsum").replace("- 1", "- 3")
    pair = {"sort_of": source, "mean_of": second}
    wrong = {"spread_of": misconception("spread_of", image, said)}
    students.grade(ATTACK, wrong, pair)
    students.grade('" onmouseover="x', wrong | {"mean_of": verdict("mean_of", copied=True)}, pair)
    students.submit("'><svg onload=x>", state="failed", reason=said)
    for number in range(6):
        students.grade(f"s{number}")
    text, _ = students.report()
    page = Reader(text)

    # It stands there as text, in every section that shows it.
    assert any(ATTACK in line for line in page.section("Misconceptions most met"))
    assert any("onload" in line for line in page.section("Not graded, and why"))
    assert any("onmouseover" in line for line in page.section("Verbatim copies of a reference"))
    pairs = page.section("Near-identical pairs of submissions")
    assert sum(f"</pre>{ATTACK}" in line for line in pairs) == 4
    assert any("{{ 7 * 7 }}" in line for line in page.lines)
    assert_stands_alone(page, text)


def assert_stands_alone(page, text):
    forbidden = {"script", "img", "iframe", "link", "object", "embed", "base", "form", "image"}
    assert not forbidden & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] in ("src", "action")]
    links = [value for _, name, value in page.attributes if name in ("href", "xlink:href")]
    assert all(link.startswith("#") for link in links)
    styles = re.findall(r"<style.*?</style>", text, re.DOTALL) + [
        value for _, name, value in page.attributes if name in ("style", "clip-path", "fill")
    ]
    assert styles
    assert not [s for s in styles if "@import" in s or re.search(r"url\((?!#)", s)]
    policy = [value for tag, name, value in page.attributes if tag == "meta" and name == "content"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy


def test_figures_say_what_they_show_and_do_not_mix(students):
    students.grade("ada")
    text, _ = students.report()
    page = Reader(text)

    assert page.tags.count("svg") == 2
    assert page.attributes.count(("svg", "role", "img")) == 2
    names = [value for _, name, value in page.attributes if name == "id"]
    assert len(names) == len(set(names)) > 0
    used = [value[1:] for _, name, value in page.attributes if name.endswith("href")]
    used += re.findall(r"url\(#([^)]*)\)", text)
    assert used
    assert set(used) <= set(names)
    # Text and axes have the colour of the page's text, light or dark.
    assert "currentColor" in text
    assert not re.search("#000000|#ffffff|#010203|fill: white", text)
    assert_stands_alone(page, text)


def test_no_field_of_the_table_is_a_formula(students):
    students.grade("=HYPERLINK(1)", {"mean_of": misconception("mean_of", "@SUM(1)", "s")})
    students.submit("-bob", state="failed", reason="+1\u0000")
    _, table = students.report()

    assert list(table) == ["'-bob", "'=HYPERLINK(1)"]
    assert not [v for row in table.values() for v in row.values() if v.startswith(("=", "+", "-"))]


def test_a_report_needs_results_and_comes_whole_or_not_at_all(students, monkeypatch):
    students.submit("ada")
    with pytest.raises(CourseError, match="dgm grade topic"):
        write_report(students.course, "topic")
    with pytest.raises(CourseError, match="no assignment 'other'"):
        write_report(students.course, "other")
    students.grade("bob")
    before, _ = students.report()
    monkeypatch.setattr(report, "_table", lambda *_: 1 / 0)
    students.grade("cyd")
    with pytest.raises(ZeroDivisionError):
        write_report(students.course, "topic")
    folder = students.course.grading / "reports"
    assert (folder / "topic.html").read_text(encoding="utf-8") == before
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("topic", TOPICS)
def test_cells_are_named_after_their_exercises(topic):
    cells = json.loads((ROOT / "solutions" / topic / f"{topic}.ipynb").read_text())["cells"]
    checks = {name for name, automatic, _ in report._graded_cells(cells) if automatic}
    assert checks
    assert set(report._answers(cells)) >= checks
    for cell in cells:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id", "").removesuffix("-check")
        if name in checks:
            assert f"check({name})" in "".join(cell["source"])


# Pairs. Ten exercises with answers of their own for each student of a class of twelve.


def own_answer(exercise, student, name="x"):
    """An answer of some length that no two students and no two exercises share."""
    rng = random.Random(f"{exercise}/{student}")
    lines = [f"def {exercise}({name}):", f'    """What {exercise} is."""']
    for number in range(6):
        function = rng.choice(["exp", "log", "sin", "tanh", "sigmoid", "softmax", "cumsum", "abs"])
        call = f"torch.{function}({name}, {rng.randint(0, 3)})"
        lines.append(
            f"    part{number} = {call} {rng.choice('+-*/')} {name}.sum({rng.randint(0, 9)})"
        )
    return "\n".join([*lines, "    return part0 + part1 * part2 - part3 / part4 + part5"])


EXERCISES = ["first", "second", "third", "fourth"]
RELEASED = {
    e: f'def {e}(x):\n    """What {e} is."""\n    raise NotImplementedError' for e in EXERCISES
}
SOLUTIONS = {e: own_answer(e, "instructor") for e in EXERCISES}


def a_class(**others):
    """Twelve students who worked alone, and others."""
    alone = {f"s{n}": {e: own_answer(e, n) for e in EXERCISES} for n in range(12)}
    return alone | {student: alone["s0"] | answers for student, answers in others.items()}


def pairs(answers, **more):
    found = alike_pairs(answers, **{"released": RELEASED, "solutions": SOLUTIONS, **more})
    return {pair.students: pair.exercises for pair in found}


def test_independent_answers_are_no_pair():
    assert pairs(a_class()) == {}


def test_a_copy_is_found_under_other_names_comments_and_layout():
    def disguised(source):
        source = re.sub(r"part(\d)", r"mine_\1", re.sub(r"\bx\b", "values", source))
        lines = [f"{line}  # I wrote this" for line in source.replace("What", "Now").splitlines()]
        lines[0] = lines[0].replace("values", "values: torch.Tensor").replace(":  #", " -> int:  #")
        return "\n\n".join(lines).replace(" + ", "+").replace("return ", "return (") + "\n    )"

    copied = {e: disguised(own_answer(e, "anna")) for e in EXERCISES[:2]}
    assert all(compile(source, "", "exec") for source in copied.values())
    found = pairs(
        a_class(
            anna={e: own_answer(e, "anna") for e in EXERCISES},
            ben=copied | {e: own_answer(e, "ben") for e in EXERCISES[2:]},
        )
    )
    assert found == {("anna", "ben"): {"first": 1.0, "second": 1.0}}


def test_a_copy_with_a_line_added_is_found_as_near():
    def longer(source):
        return source.replace("    return", "    extra = part0.clone()\n    return")

    anna = {e: own_answer(e, "anna") for e in EXERCISES}
    found = pairs(a_class(anna=anna, ben={e: longer(source) for e, source in anna.items()}))
    assert list(found) == [("anna", "ben")]
    likeness = found["anna", "ben"]
    assert list(likeness) == EXERCISES
    assert all(alike.ALIKE <= share < 1 for share in likeness.values())


def test_one_answer_in_common_is_not_enough():
    anna, ben = ({e: own_answer(e, who) for e in EXERCISES} for who in ("anna", "ben"))
    assert pairs(a_class(anna=anna, ben={**ben, "first": anna["first"]})) == {}


@pytest.mark.parametrize(
    "shared",
    [
        RELEASED,
        SOLUTIONS,
        {e: f"def {e}(y):\n    return y.mean(dim=0)" for e in EXERCISES},
        {e: f"def {e}(x):\n    return (" for e in EXERCISES},
        {e: f"def {e}(x):\n    return {'x + ' * 9000}x" for e in EXERCISES},
    ],
    ids=["untouched", "the instructor's", "one line", "no Python", "endless"],
)
def test_answers_that_prove_nothing_make_no_pair(shared):
    assert pairs(a_class(anna=shared, ben=shared)) == {}


def test_what_many_have_makes_no_pair_but_a_rare_answer_does():
    common = {e: own_answer(e, "common") for e in EXERCISES}
    answers = a_class() | {f"t{n}": common for n in range(6)}
    assert pairs(answers) == {}
    assert list(pairs(answers | {"t0": answers["s3"]})) == [("s3", "t0")]


def test_pairs_come_with_the_clearest_first_and_whatever_the_order_of_students():
    anna, carl = ({e: own_answer(e, who) for e in EXERCISES} for who in ("anna", "carl"))
    answers = a_class(anna=anna, ben=anna, carl=carl)
    answers["dora"] = {**carl, "fourth": own_answer("fourth", "dora")}
    found = pairs(answers)
    assert list(found) == [("anna", "ben"), ("carl", "dora")]
    assert list(pairs(dict(reversed(answers.items())))) == list(found)


def test_the_index_finds_what_comparing_all_with_all_finds():
    rng = random.Random(0)
    forms = []
    for _ in range(60):
        base = [rng.randrange(60) for _ in range(rng.randint(0, 25))]
        for _ in range(3):
            prints = frozenset([*base[: rng.randint(0, 25)], *rng.sample(range(60), 2)])
            forms.append(alike._Form((str(len(forms)),), prints))
    forms.append(alike._Form(("none",), frozenset()))
    near = alike._near_forms(forms)
    compared = 0
    for a, b in itertools.combinations(forms, 2):
        union = len(a.prints | b.prints)
        share = len(a.prints & b.prints) / union if union else 0.0
        assert near[a].get(b, 0.0) == near[b].get(a, 0.0) == (share if share >= alike.ALIKE else 0)
        compared += share >= alike.ALIKE
    assert compared > 10


@pytest.mark.parametrize(
    "source",
    ["(" * 9000, "x=" + "-" * 9000 + "1", "x=" + "1+" * 9000 + "1", "\0", "f'{", "x='\ud800'"],
    ids=["open", "minus", "sum", "null", "string", "half a character"],
)
def test_a_source_that_breaks_parsers_harms_nobody(source):
    copied = {e: own_answer(e, "anna") for e in EXERCISES}
    answers = a_class(anna=copied, ben=copied, mallory=dict.fromkeys(EXERCISES, source))
    assert list(pairs(answers)) == [("anna", "ben")]


# ── What one student's files hold ────────────────────────────────────────────────────────────────


RECORDS = {
    "text": "no JSON",
    "nothing": "{}",
    "a list": "[1, 2]",
    "nested": "[" * 100_000,
    "no digest of a result": '{"result": 3}',
    "a state that there is not": '{"result": {"student": "x", "state": "best", "points": 6}}',
    "points that are none": '{"result": {"student": "x", "state": "graded", "points": "6"}}',
    "no number": '{"result": {"student": "x", "state": "graded", "points": NaN, "max_points": 6}}',
    "no sentence": '{"result": {"student": "x", "state": "failed", "reason": ["x"]}}',
    "more": '{"result": {"student": "x", "state": "failed", "evil": 1}}',
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_record_that_cannot_be_read_is_its_students_reason(students, record):
    students.grade("ann")
    students.submit("ben", state="graded", points=6.0, max_points=6.0)
    (students.course.grading / "graded" / "topic" / "ben.json").write_text(record)
    page, rows = students.report()
    assert rows["ann"]["state"] == "graded"
    assert rows["ben"]["state"] == "not graded"
    assert rows["ben"]["reason"].startswith("its record cannot be read: run `dgm grade topic")
    assert "its record cannot be read" in page


NOTEBOOKS = {
    "text": "no JSON",
    "no cells": "{}",
    "cells that are none": '{"cells": [1]}',
    "nested": "[" * 100_000,
    "cells of no kind": '{"cells": [{"metadata": {"nbgrader": {"grade_id": 3}}}]}',
    "no verdict": json.dumps(
        notebook(dict.fromkeys(POINTS, "x"), {"mean_of": verdict("mean_of")})
    ).replace('"passed"', '"failed"'),
}


@pytest.mark.parametrize("text", NOTEBOOKS.values(), ids=NOTEBOOKS)
def test_a_notebook_that_cannot_be_read_harms_no_other(students, text):
    students.grade("ann")
    students.grade("ben")
    students.course.notebook("autograded", "topic", "ben").write_text(text)
    page, rows = students.report()
    assert rows["ann"]["mean_of"] == "2"
    assert rows["ben"]["points"] == "6"
    assert "the autograded notebook is gone or broken" in page


def test_what_was_left_and_what_was_mended_is_on_the_page(students):
    said = "2 notebooks of the assignment were handed in. Graded is `topic (1).ipynb`."
    students.submit(
        "ann", state="graded", points=6.0, max_points=6.0, untouched=["proof"], mended=[said]
    )
    page, rows = students.report()
    reader = Reader(page)
    titles = [*TITLES, "Written tasks left as released", "Mended before grading"]
    lines = reader.lines[reader.lines.index(titles[-2]) :]
    assert "proof ann" in lines
    assert "ann 2 notebooks of the assignment were handed in. Graded is topic (1).ipynb ." in lines
    assert (rows["ann"]["untouched"], rows["ann"]["mended"]) == ("proof", said)


def test_what_is_unseen_in_a_students_text_is_shown(students):
    students.submit("ann", state="failed", reason="\u202eabc\x1b[31m\u2067")
    students.grade("ben")
    page, rows = students.report()
    assert rows["ann"]["reason"] == "�abc�[31m�"
    assert not set(page) & {"\u202e", "\u2067", "\x1b"}
