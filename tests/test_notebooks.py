"""What every committed notebook keeps to."""

import nbformat
import pytest
from conftest import EXERCISES_OF, ROOT, TOPICS

NOTEBOOKS = sorted(ROOT.glob("[las]*/**/*.ipynb"))
LECTURES = [path for path in NOTEBOOKS if path.is_relative_to(ROOT / "lectures")]
STARS = {1: "●○○", 2: "●●○", 3: "●●●"}

each_notebook = pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT))
)


def cells(path):
    return nbformat.read(path, as_version=4).cells


@each_notebook
def test_every_cell_has_an_id_of_its_own(path):
    ids = [cell.get("id") for cell in cells(path)]
    assert None not in ids
    assert len(set(ids)) == len(ids)


@each_notebook
def test_only_lectures_carry_outputs_and_small_ones(path):
    if path in LECTURES:
        assert path.stat().st_size < 1_000_000
    else:
        assert all(not cell.get("outputs") for cell in cells(path))


@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_a_lecture_was_run_from_top_to_bottom_without_an_error(path):
    code = [cell for cell in cells(path) if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


@pytest.mark.parametrize("topic", TOPICS)
def test_cards_say_what_the_exercises_say(topic):
    notebook = {cell.id: cell for cell in cells(ROOT / "solutions" / topic / f"{topic}.ipynb")}
    names = {cell_id.removesuffix("-check") for cell_id in notebook if cell_id.endswith("-check")}
    exercises = {exercise.name: exercise for exercise in EXERCISES_OF[topic]}
    assert names == set(exercises)
    for name, exercise in exercises.items():
        points = f"{exercise.points} point" + "s" * (exercise.points > 1)
        stars = STARS[exercise.difficulty]
        line = f"**{points}** · {exercise.minutes} minutes · difficulty {stars}"
        assert line in notebook[f"{name}-card"].source
        graded = notebook[f"{name}-check"]
        assert graded.metadata.nbgrader.points == exercise.points
        visible, *hidden = graded.source.splitlines()
        assert visible == f"check({name})"
        assert f"check({name}, seed=1)" in hidden


def test_every_notebook_begins_with_one_and_the_same_cell_for_hosts():
    found = set()
    for path in NOTEBOOKS:
        hosted, imports = [cell for cell in cells(path) if cell.cell_type == "code"][:2]
        assert (hosted.id, imports.id) == ("hosted", "imports")
        # Once there are submissions, nbgrader refuses a release with a new cell that it knows.
        assert "nbgrader" not in hosted.metadata
        # The book is for reading.
        assert (path in LECTURES) == ("remove-cell" in hosted.metadata.get("tags", ()))
        found.add(hosted.source)
    assert len(found) == 1


@pytest.mark.parametrize("topic", TOPICS)
def test_releases_show_no_hidden_check_and_no_solution(topic):
    text = (ROOT / "assignments" / topic / f"{topic}.ipynb").read_text()
    assert "HIDDEN TESTS" not in text
    assert "seed=1)" not in text
    assert "BEGIN SOLUTION" not in text
