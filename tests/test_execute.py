"""Executing a notebook: what its cells leave, send, use up or kill costs nobody else anything."""

import textwrap

import nbformat
import pytest
from conftest import JAILED, ROOT

from dgm_utils.grading.execute import Rules, execute
from dgm_utils.grading.marking import Marker
from dgm_utils.grading.sandbox import Sandbox

SOLUTION = ROOT / "solutions" / "iwae" / "iwae.ipynb"
# Two exercises of one point and two, and one of two that needs nothing of theirs.
ANSWERS = {
    "multi_sample_elbo": "def multi_sample_elbo(log_w):\n    return log_w.mean(0)",
    "iwae_bound": (
        "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])"
    ),
}


@pytest.fixture(scope="module")
def marker():
    return Marker(SOLUTION)


@pytest.fixture(scope="module")
def box(marker):
    if not JAILED:
        pytest.skip("bubblewrap is missing")
    with Sandbox(marker.contents()) as made:
        yield made


def small(before=(), after=(), **answers):
    """The imports, two exercises with their checks, and cells before and after the answers."""
    source = nbformat.read(SOLUTION, as_version=4)
    found = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in source.cells}
    cells = [found["imports"], *map(code, before)]
    for name, answer in (ANSWERS | answers).items():
        cells += [code(answer), *(map(code, after) if name == "multi_sample_elbo" else ())]
        cells.append(found[f"{name}-check"])
    return nbformat.v4.new_notebook(cells=cells)


def code(source):
    return nbformat.v4.new_code_cell(textwrap.dedent(source).strip())


def points(marker, done):
    """Points of each check, by its name."""
    given = {}
    for cell in done.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade"):
            alone = nbformat.v4.new_notebook(cells=[cell])
            given[about["grade_id"].removesuffix("-check")] = marker.mark(alone).points
    return given


def run(box, notebook, seconds=20.0, **rules):
    rules = Rules(cell_seconds=seconds, notebook_seconds=120, **rules)
    return execute(notebook, str(box.folder), rules=rules)


RIGHT = {"multi_sample_elbo": 1.0, "iwae_bound": 2.0}

STATES = {
    "gradients off": "torch.set_grad_enabled(False)",
    "inference mode": "torch.inference_mode().__enter__()",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "anomaly": "torch.autograd.set_detect_anomaly(True)",
    "warnings": "import warnings; warnings.simplefilter('error')",
    "autocast": "torch.autocast('cpu', torch.bfloat16).__enter__()",
    "numpy": "import numpy; numpy.seterr(all='raise')",
    "output": "import sys, io; sys.stdout = sys.stderr = io.StringIO()",
    "folder": "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "a mode": """
        from torch.overrides import TorchFunctionMode
        class Zeros(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return torch.Tensor([0.0])
        Zeros().__enter__()
        """,
}


def test_the_state_that_cells_leave_is_not_the_functions(box, marker):
    """One after the other, each on top of those before."""
    done = run(box, small(after=STATES.values()))
    assert points(marker, done) == RIGHT


def test_a_compiled_answer_is_graded_as_it_is_written(box, marker):
    inside = "def iwae_bound(log_w):\n    f = torch.compile(lambda w: w.logsumexp(0))\n"
    done = run(
        box,
        small(
            multi_sample_elbo=f"@torch.compile\n{ANSWERS['multi_sample_elbo']}",
            iwae_bound=inside + "    return f(log_w) - math.log(log_w.shape[0])",
        ),
    )
    assert points(marker, done) == RIGHT
