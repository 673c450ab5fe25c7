"""What a student sees: the checks inside a kernel, and nbgrader's Validate."""

import inspect

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nbgrader.validator import Validator
from traitlets.config import Config

from dgm_utils import iwae
from nbjudge.judging.verdict import VERDICT_MIME

IMPORTS = """
import inspect, math
import torch
from dgm_utils.validate import takes, whole_number
from dgm_utils.exercises.iwae import check
"""
WRONG = "def iwae_bound(log_w):\n    return log_w.mean(0)"
RIGHT = "def iwae_bound(log_w):\n    return log_w.logsumexp(0) - math.log(log_w.shape[0])"


def run_cells(*sources):
    """Outputs of each cell, run one after another in a fresh kernel."""
    cells = [nbformat.v4.new_code_cell(source) for source in (IMPORTS, *sources)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=60, allow_errors=True, kernel_name="python3").execute()
    return [cell.outputs for cell in notebook.cells[1:]]


@pytest.fixture(scope="module")
def outputs():
    copied = inspect.getsource(iwae.subset_bound)
    return dict(
        zip(
            ("wrong", "right", "copy", "timed copy", "run_cell", "after", "states", "states after"),
            run_cells(
                f"{WRONG}\ncheck(iwae_bound)",
                f"{RIGHT}\ncheck(iwae_bound)",
                f"{copied}\ncheck(subset_bound)",
                f"%%time\n{copied}",
                "from dgm_utils import iwae\n"
                "get_ipython().run_cell(inspect.getsource(iwae.gradient_snr))\n"
                "check(gradient_snr)",
                "print(check.passed(iwae_bound), check.passed(gradient_snr))\ncheck(subset_bound)",
                "torch.set_grad_enabled(False); torch.set_default_device('meta')\n"
                f"@torch.compile\n{RIGHT}\ncheck(iwae_bound)",
                f"{WRONG}\nprint(torch.is_grad_enabled(), torch.ones(1).device)\ncheck(iwae_bound)",
            ),
            strict=True,
        )
    )


def verdict(outputs):
    (data,) = [o.data for o in outputs if VERDICT_MIME in o.get("data", {})]
    return data[VERDICT_MIME]


def test_a_failure_is_shown_as_html_with_a_plain_twin(outputs):
    shown, _ = outputs["wrong"]
    assert "average the logs" in shown.data["text/html"]
    assert "average the logs" in shown.data["text/plain"]
    assert "<details" in shown.data["text/html"]
    assert '<img style="background:white" alt="' in shown.data["text/html"]
    assert verdict(outputs["wrong"])["misconception"]


def test_the_error_is_short_and_shows_nothing_of_the_package(outputs):
    _, error = outputs["wrong"]
    assert error.ename == "CheckFailed"
    assert len(error.traceback) <= 5
    assert all(len(line) <= 80 for line in error.traceback)
    assert "dgm_utils" not in "\n".join(error.traceback)


def test_a_pass_is_one_line(outputs):
    (shown,) = outputs["right"]
    assert shown.data["text/plain"].startswith("✓ iwae_bound: passed")
    assert verdict(outputs["right"])["passed"]


def test_a_copy_typed_into_a_cell_passes_and_is_flagged(outputs):
    assert verdict(outputs["copy"])["copied"]
    assert verdict(outputs["after"])["passed"]


def test_the_reference_run_as_a_cell_by_the_program_is_refused(outputs):
    assert verdict(outputs["run_cell"])["kind"] == "borrowed"


def test_the_state_of_the_notebook_is_not_the_functions(outputs):
    assert verdict(outputs["states"])["passed"]
    kept, shown, _ = outputs["states after"]
    assert kept.text == "False meta\n"
    assert "<img" in shown.data["text/html"] and verdict(outputs["states after"])["misconception"]


def test_the_notebook_knows_what_passed(outputs):
    assert outputs["after"][0].text == "True False\n"


def answered(answer):
    notebook = nbformat.read(ROOT / "assignments" / "iwae" / "iwae.ipynb", as_version=4)
    kept = ("iwae_bound-solution", "iwae_bound-check")
    for cell in notebook.cells:
        if cell.id == "iwae_bound-solution":
            cell.source = answer
    notebook.cells = [nbformat.v4.new_code_cell(IMPORTS, id="imports")] + [
        cell for cell in notebook.cells if cell.id in kept
    ]
    return notebook


@pytest.mark.parametrize(("answer", "failed"), [(WRONG, True), (RIGHT, False)])
def test_validate_agrees_with_the_check(tmp_path, answer, failed):
    path = tmp_path / "iwae.ipynb"
    nbformat.write(answered(answer), path)
    settings = Config({"Execute": {"kernel_name": "python3", "timeout": 60}})
    results = Validator(config=settings).validate(str(path))
    assert ("failed" in results) == failed
    if failed:
        (cell,) = results["failed"]
        assert "average the logs" in " ".join(cell["raw_error"].split())
