"""Hosts where a student can only `pip install`, such as Colab: the wheel, and the cell for it."""

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from dgm_utils import __version__
from nbjudge.judging.verdict import VERDICT_MIME

PACKAGES = ("dgm_utils", "nbjudge")
CHECK = "\n\n\ncheck(iwae_bound)"
WRONG = "def iwae_bound(log_w):\n    return log_w.mean(0)" + CHECK
RIGHT = "def iwae_bound(log_w):\n    return log_w.logsumexp(0) - math.log(len(log_w))" + CHECK
WHERE = "import sys, dgm_utils\nprint(dgm_utils.__file__.startswith(sys.prefix))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as an instructor builds it; from a copy, for a build leaves folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name)
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    pip = [sys.executable, "-m", "pip", "wheel", "--no-index", *options]
    subprocess.run(pip, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture
def host(tmp_path):
    """A Python that has every package of this one but the course's, and no network to get it."""
    made = tmp_path / "host"
    venv.create(made, symlinks=True)
    (place,) = made.glob("lib/python*/site-packages")
    for folder in map(Path, site.getsitepackages()):
        for package in folder.iterdir() if folder.is_dir() else ():
            # An editable install has its finder in a .pth file.
            if package.suffix != ".pth" and "dgm_utils" not in package.name:
                (place / package.name).symlink_to(package)
    return made / "bin" / "python"


@pytest.fixture
def folder(tmp_path):
    """Where the student's notebook lies."""
    made = tmp_path / "notebooks"
    made.mkdir()
    return made


def run(python, folder, *sources):
    """Outputs of the assignment's first two code cells and of others, in a kernel of the host."""
    released = nbformat.read(ROOT / "assignments" / "iwae" / "iwae.ipynb", as_version=4)
    first = [cell for cell in released.cells if cell.id in ("hosted", "imports")]
    cells = [*first, *map(nbformat.v4.new_code_cell, sources)]
    manager = _Manager()
    manager.argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    client = NotebookClient(
        nbformat.v4.new_notebook(cells=cells),
        km=manager,
        timeout=120,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    client.execute(env=environment | {"PIP_NO_INDEX": "1"}, cleanup_kc=True)
    return [cell.outputs for cell in client.nb.cells]


class _Manager(AsyncKernelManager):
    """A manager of kernels that no kernelspec on disk describes."""

    @property
    def kernel_spec(self):
        return KernelSpec(argv=self.argv, display_name="host", language="python")


def errors(outputs):
    return [output for output in outputs if output.output_type == "error"]


def test_the_wheel_holds_the_whole_package(wheel):
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.*"))
    # What `dgm new-exercise` writes are notebooks too.
    committed = {str(path.relative_to(ROOT)) for path in files if path.suffix in (".py", ".ipynb")}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == committed
    assert wheel.name == f"dgm_utils-{__version__}-py3-none-any.whl"


def test_the_wheel_beside_the_notebook_is_installed_and_checks(wheel, host, folder):
    shutil.copy(wheel, folder)
    hosted, imports, wrong, right, where = run(host, folder, WRONG, RIGHT, WHERE)
    assert not errors(hosted) and not errors(imports)
    shown, error = wrong
    assert "average the logs" in shown.data["text/html"]
    assert error.ename == "CheckFailed"
    assert right[0].data[VERDICT_MIME]["passed"]
    assert where[0].text == "True\n"


@pytest.mark.parametrize("content", [None, b"half of a download"])
def test_without_a_wheel_that_works_the_cell_says_what_to_do(content, host, folder):
    if content:
        (folder / f"dgm_utils-{__version__}-py3-none-any.whl").write_bytes(content)
    hosted, _ = run(host, folder)
    (error,) = errors(hosted)
    assert error.evalue == "No dgm_utils: upload its wheel, restart the kernel, run again"
    # In that case pip has said why.
    assert bool(content) == any("is invalid" in output.get("text", "") for output in hosted)


def test_where_the_package_is_nothing_is_installed(folder):
    (folder / f"dgm_utils-{__version__}-py3-none-any.whl").write_bytes(b"no wheel")
    hosted, *_ = run(sys.executable, folder)
    assert hosted == []
