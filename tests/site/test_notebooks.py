"""What every committed notebook keeps to."""

import copy
import json
import re

import nbformat
import pytest
from conftest import EXERCISES_OF, ROOT, TOPICS
from notebooks import faults, main, notebooks

STARS = {1: "●○○", 2: "●●○", 3: "●●●"}
GOOD = {"lectures": "lectures/08_continuous_flows.ipynb", "solutions": "solutions/iwae/iwae.ipynb"}


def cells(path):
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("path", notebooks(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_notebook_has_no_fault(path):
    assert faults(path) == []


def code_cell(notebook):
    return next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def add_output(notebook):
    code_cell(notebook)["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["a"]}]


def add_warning(notebook):
    code_cell(notebook)["outputs"] = [{"output_type": "stream", "name": "stderr", "text": ["a"]}]


FAULTS = {
    "no id": ("solutions", lambda nb: nb["cells"][3].pop("id"), "a cell has no id"),
    "one id twice": (
        "solutions",
        lambda nb: nb["cells"].append(copy.deepcopy(nb["cells"][0])),
        "two cells have the id title",
    ),
    "an output": ("solutions", add_output, "cell hosted has an output"),
    "a count": (
        "solutions",
        lambda nb: code_cell(nb).update(execution_count=1),
        "cell hosted has an output or an execution count",
    ),
    "a folded cell": (
        "solutions",
        lambda nb: nb["cells"][0]["metadata"].update(collapsed=True),
        "cell title has the metadata collapsed",
    ),
    "another tool's metadata": (
        "solutions",
        lambda nb: nb["metadata"].update(toc={}),
        "has the metadata toc",
    ),
    "a version of Python": (
        "solutions",
        lambda nb: nb["metadata"]["language_info"].update(version="3.11"),
        "says of its language version",
    ),
    "a cell that was not run": (
        "lectures",
        lambda nb: code_cell(nb).update(execution_count=None),
        "was not run from top to bottom",
    ),
    "a warning": ("lectures", add_warning, "cell hosted shows an error or a warning"),
    "large figures": (
        "lectures",
        lambda nb: nb["cells"][0]["source"].append("x" * 1_000_000),
        "is not smaller than 1000000 bytes",
    ),
    "no cells": ("solutions", lambda nb: nb.pop("cells"), "is no notebook"),
}


@pytest.mark.parametrize(("kind", "spoil", "words"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_and_said(tmp_path, monkeypatch, capsys, kind, spoil, words):
    monkeypatch.setattr("notebooks.ROOT", tmp_path)
    path = tmp_path / kind / "notebook.ipynb"
    path.parent.mkdir()
    notebook = json.loads((ROOT / GOOD[kind]).read_text())
    path.write_text(json.dumps(notebook))
    assert faults(path) == []
    spoil(notebook)
    path.write_text(json.dumps(notebook))
    assert main([path]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: ")
    assert words in line


@pytest.mark.parametrize("topic", TOPICS)
def test_the_title_adds_up_points_and_minutes(topic):
    found = cells(ROOT / "solutions" / topic / f"{topic}.ipynb")
    cards = [cell.source for cell in found if cell.id.endswith("-card")]
    form = r"\*\*(\d+) points?\*\* (?:\([\d.]+ for right values\) )?· (\d+) minutes"
    told = [re.search(form, card).groups() for card in cards]
    points, minutes = (sum(map(int, numbers)) for numbers in zip(*told, strict=True))
    assert f"**{points} points** in all" in found[0].source
    assert f"about **{minutes} minutes**" in found[0].source


@pytest.mark.parametrize("topic", TOPICS)
def test_cards_say_what_the_exercises_say(topic):
    notebook = {cell.id: cell for cell in cells(ROOT / "solutions" / topic / f"{topic}.ipynb")}
    names = {cell_id.removesuffix("-check") for cell_id in notebook if cell_id.endswith("-check")}
    exercises = {exercise.name: exercise for exercise in EXERCISES_OF[topic]}
    assert names == set(exercises)
    for name, exercise in exercises.items():
        points = f"{exercise.points} point" + "s" * (exercise.points > 1)
        stars = STARS[exercise.difficulty]
        part = f"{exercise.points * exercise.for_values:g} for right values"
        line = f"**{points}** ({part}) · {exercise.minutes} minutes · difficulty {stars}"
        assert line in notebook[f"{name}-card"].source
        graded = notebook[f"{name}-check"]
        assert graded.metadata.nbgrader.points == exercise.points
        visible, *hidden = graded.source.splitlines()
        assert visible == f"check({name})"
        assert f"check({name}, seed=1)" in hidden


def test_every_notebook_begins_with_one_and_the_same_cell_for_hosts():
    found = set()
    for path in notebooks():
        hosted, imports = [cell for cell in cells(path) if cell.cell_type == "code"][:2]
        assert (hosted.id, imports.id) == ("hosted", "imports")
        # Once there are submissions, nbgrader refuses a release with a new cell that it knows.
        assert "nbgrader" not in hosted.metadata
        # The book is for reading.
        assert path.is_relative_to(ROOT / "lectures") == (
            "remove-cell" in hosted.metadata.get("tags", ())
        )
        found.add(hosted.source)
    assert len(found) == 1


@pytest.mark.parametrize("topic", TOPICS)
def test_releases_show_no_hidden_check_and_no_solution(topic):
    text = (ROOT / "assignments" / topic / f"{topic}.ipynb").read_text()
    assert "HIDDEN TESTS" not in text
    assert "seed=1)" not in text
    assert "BEGIN SOLUTION" not in text
