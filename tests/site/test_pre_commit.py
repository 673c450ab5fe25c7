"""The hooks of `.pre-commit-config.yaml`: each command exists, passes, and stops what is wrong."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
HOOKS = {hook["id"]: hook for repo in CONFIG["repos"] for hook in repo["hooks"]}
NOTEBOOK = "solutions/iwae/iwae.ipynb"


@pytest.fixture
def clone(course_folder):
    for name in ("pyproject.toml", "tests/rigs/notebooks.py"):
        (course_folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, course_folder / name)
    # With the modules beside it, ruff knows which imports are the project's own.
    shutil.copytree(ROOT / "dgm_utils", course_folder / "dgm_utils")
    # The environment that these tests run in, where `make` puts it.
    (course_folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return course_folder


def run(clone, hook, *files):
    """A hook as pre-commit starts it."""
    command = shlex.split(HOOKS[hook]["entry"])
    given = files if HOOKS[hook].get("pass_filenames", True) else ()
    done = subprocess.run([*command, *given], cwd=clone, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def change(path, edit):
    notebook = json.loads(path.read_text())
    cell = next(c for c in notebook["cells"] if c["id"] == "iwae_bound-solution")
    edit(cell)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


WRONG = {
    "ruff-check": (lambda cell: cell["source"].append("\nundefined"), "F821"),
    "ruff-format": (lambda cell: cell["source"].append("\nx=1"), "would be reformatted"),
    "notebooks": (lambda cell: cell.update(execution_count=7), "cell iwae_bound-solution has an"),
    "releases": (lambda cell: cell["source"].insert(0, "#\n"), "run `dgm release iwae`"),
}


def test_every_hook_is_tried_here_and_downloads_nothing():
    assert set(HOOKS) == set(WRONG)
    assert [repo["repo"] for repo in CONFIG["repos"]] == ["local"]
    assert {hook["language"] for hook in HOOKS.values()} == {"system"}


@pytest.mark.parametrize("hook", WRONG)
def test_a_hook_passes_what_is_right_and_stops_what_is_wrong(clone, hook):
    assert run(clone, hook, NOTEBOOK)[0] == 0
    edit, words = WRONG[hook]
    change(clone / NOTEBOOK, edit)
    code, output = run(clone, hook, NOTEBOOK)
    assert code == 1, output
    assert words in output


@pytest.mark.parametrize("hook", ["ruff-check", "ruff-format"])
def test_linters_leave_generated_assignments_alone(clone, hook):
    path = clone / "assignments" / "iwae" / "iwae.ipynb"
    change(path, lambda cell: cell["source"].append("\nundefined=x"))
    assert run(clone, hook, "assignments/iwae/iwae.ipynb")[0] == 0
