"""`dgm new-exercise` writes places that count as open until they are filled, and all or nothing."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import NO_SANDBOX, ROOT

from dgm_utils.authoring.new_exercise import new_exercise
from dgm_utils.authoring.places import places
from dgm_utils.cli import main
from nbjudge.errors import UserError

PARTS = ("dgm_utils", "tests", "lectures", "solutions", "assignments")
FILES = ("pyproject.toml", "nbgrader_config.py", "README.md")
MARK = re.compile(r"\bFILL\b")


def test_no_exercise_of_the_course_is_half_written():
    assert "\n".join(map(str, places(ROOT))) == ""


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    for name in PARTS:
        caches = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / name, folder / name, ignore=caches)
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_in(clone, *command):
    """A command of the clone's own: its `dgm_utils`, its tests."""
    environment = os.environ | {"PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=clone, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def succeed_in(clone, *command):
    code, output = run_in(clone, *command)
    assert code == 0, output


# The exercise that the places are filled with: half of each number.
RIGHT = itertools.cycle(["x * 0.5", "x - x / 2", "x.div(2)"])
WRONG = ["x * 2", "x + 0", "-x / 2", "x / 4", "x / 2 + 1"]
STUB = r'raise NotImplementedError\(\\?"FILL: %s[^"]*"\)'
FILLED = {
    STUB % "the reference": lambda _: "return x / 2",
    STUB % "hold": lambda _: "assert 0.5 + 0.5 == 1",
    STUB % "the other cases": lambda _: 'yield page.case("more", 1e3 * draw.normal(5))',
    STUB % "a property": lambda _: "return bool((2 * value == x).all())",
    STUB % r"\w+ (in a|from|by)": lambda _: f"return {next(RIGHT)}",
    '# FILL: above, what the wrong answers need[^"]*': lambda _: "# Nothing from dgm_utils.data.",
    STUB % "the answer to": lambda _: "return x / 2",
    r'FILL: wrong answer (\d)(.*\n.*\n    """)FILL (You .*\n    )raise .*': lambda m: (
        f"wrong {m[1]}{m[2]}{m[3]}return {WRONG[int(m[1]) - 1]}"
    ),
    r'not \\"FILL: print the numbers[^"]*"': lambda _: "0.5 + 0.5 == 1",
    # What is left is prose.
    r"FILL:? ?": lambda _: "Filled ",
}


def fill(clone, topic):
    for path in {place.path for place in places(clone, topic)}:
        text = (clone / path).read_text()
        for mark, answer in FILLED.items():
            text = re.sub(mark, answer, text)
        (clone / path).write_text(text)


def add_to_title(clone, topic, points, minutes):
    path = clone / "solutions" / topic / f"{topic}.ipynb"
    text = path.read_text()
    for unit, more in (("points", points), ("minutes", minutes)):
        # The title is the first to give both.
        total = re.search(rf"\*\*(\d+) {unit}\*\*", text)
        text = text.replace(total[0], f"**{int(total[1]) + more} {unit}**", 1)
    path.write_text(text)


def is_formatted(clone):
    for check in (["check"], ["format", "--check"]):
        succeed_in(clone, "-m", "ruff", *check)


@pytest.mark.parametrize("topic", ["vampprior", "continuous_flows", "halves"])
def test_what_is_written_counts_as_open_until_it_is_filled(clone, topic, capsys):
    """An exercise more, the first one of a lecture without an assignment, and a new topic."""
    assert main(["--course", str(clone), "new-exercise", topic, "half_of_each"]) == 0
    listed = capsys.readouterr().out
    for place in places(clone, topic):
        assert MARK.search((clone / place.path).read_text().splitlines()[place.line - 1])
        assert not place.what or str(place) in listed
    is_formatted(clone)
    tests = ["-m", "pytest", "-p", "no:cacheprovider", "tests/exercises/test_new_exercise.py"]
    tests += ["tests/exercises/test_checks.py", f"tests/claims/test_{topic}.py"]
    about_it = "half_of_each or half_written"
    code, output = run_in(clone, *tests, "-k", about_it)
    assert code == 1
    assert str(places(clone)[0]) in output
    for words in ("hold half_of_each", "the other cases"):
        assert f"FILL: {words}" in output

    fill(clone, topic)
    if topic == "vampprior":
        add_to_title(clone, topic, points=1, minutes=10)
    if topic == "halves":
        succeed_in(clone, "lectures/execute.py", "lectures/09_halves.ipynb")
    is_formatted(clone)
    dgm = ["-m", "dgm_utils.cli"]
    succeed_in(clone, *dgm, "release", topic)
    succeed_in(clone, "tests/record.py", "--write", "--exercise", "half_of_each")
    rules = ["tests/site/test_notebooks.py", "tests/claims/test_lectures.py"]
    about_all = f"{about_it} or test_notebooks or test_lectures"
    succeed_in(clone, *tests, *rules, "-k", about_all)
    if topic == "halves":
        succeed_in(clone, *dgm, "demo", topic, *NO_SANDBOX)


def test_a_second_exercise_of_a_new_topic_stands_behind_the_first(clone):
    new_exercise(clone, "halves", "first_half")
    new_exercise(clone, "halves", "second_half", ["x", "other"])
    is_formatted(clone)
    text = (clone / "dgm_utils/exercises/halves/__init__.py").read_text()
    assert '    __name__,\n    "first_half",\n    "second_half",\n)\n' in text
    text = (clone / "solutions/halves/halves.ipynb").read_text()
    ids = re.findall(r'"id": "(.*)"', text)
    assert ids.index("second_half-card") == ids.index("first_half-check") + 1
    assert "def second_half(x, other):" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["iwae", "2nd"], "the name '2nd' will not do"),
        (["iwae", "lambda"], "the name 'lambda' will not do"),
        (["Iwae", "half"], "the topic 'Iwae' will not do"),
        (["../iwae", "half"], "the topic '../iwae' will not do"),
        (["iwae", "half", "x", "x-y"], "the argument 'x-y' will not do"),
        (["iwae", "half", "x", "x"], "an argument is named twice: x, x"),
        (["iwae", "sum"], "'sum' is a function of Python's own"),
        (["iwae", "iwae_bound"], "iwae has an exercise 'iwae_bound' already"),
        (["halves", "iwae_bound"], "iwae has an exercise 'iwae_bound' already"),
        (["iwae", "math"], "has a 'math' already"),
        (["iwae", "plt"], "the notebook imports 'plt' from elsewhere"),
        (["data", "half"], "the other files of a topic 'data' do not"),
        (["models", "half"], "dgm_utils/models/ exists"),
        (["iwae", "half" * 11], "is longer than 40 characters"),
        (["iwae", "half", *(f"argument_{n}" for n in range(9))], "would be longer than 100"),
    ],
)
def test_what_cannot_be_written_is_said_in_one_line_and_nothing_is(clone, capsys, arguments, words):
    before = contents(clone)
    assert main(["--course", str(clone), "new-exercise", *arguments]) == 2
    out, err = capsys.readouterr()
    assert words in err
    assert err.count("\n") == 1
    assert out == ""
    assert contents(clone) == before


def test_a_course_folder_without_the_sources_is_refused(course_folder, capsys):
    assert main(["--course", str(course_folder), "new-exercise", "iwae", "half"]) == 2
    assert "is in no clone of the course's repository" in capsys.readouterr().err


@pytest.mark.parametrize("topic", ["iwae", "halves"])
def test_if_one_file_cannot_be_written_none_is(clone, topic, monkeypatch):
    before, folders = contents(clone), sorted(clone.rglob("*/"))
    write = Path.write_text

    def full(path, text, **options):
        if path.suffix == ".ipynb":
            write(path, text[:100], **options)
            raise OSError("no space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="nothing was written: no space left"):
        new_exercise(clone, topic, "half")
    assert contents(clone) == before
    assert sorted(clone.rglob("*/")) == folders


def test_a_table_that_is_not_found_is_named(clone):
    counts = clone / "tests" / "claims" / "test_lectures.py"
    counts.write_text(counts.read_text().replace("NUM_CLAIMS = {", "NUM_CLAIMS = dict({"))
    before = contents(clone)
    with pytest.raises(UserError, match=r"test_lectures.py has no line NUM_CLAIMS"):
        new_exercise(clone, "halves", "half")
    assert contents(clone) == before
