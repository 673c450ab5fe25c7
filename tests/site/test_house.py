"""The house: what may import what."""

import ast
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT

# From the ground up; each imports itself and those before it, and modules above them all of them.
WINGS = ("errors", "inside", "asking", "judging", "course", "running", "submissions", "reports")
MODULES = sorted((ROOT / "nbjudge").rglob("*.py"))


LONGEST = 400


def imported(path: Path) -> set[str]:
    """Dotted names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def wing(parts):
    """The wing that a module of nbjudge belongs to, or what stands above all of them."""
    return parts[0] if len(parts) and parts[0] in WINGS else "roof"


def name_of(path):
    return ".".join(path.relative_to(ROOT / "nbjudge").with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_imported_upward(path):
    own = wing(path.relative_to(ROOT / "nbjudge").with_suffix("").parts)
    below = WINGS[: WINGS.index(own) + 1] if own in WINGS else (*WINGS, "roof")
    if own == "inside":
        below = ("inside",)
    for name in imported(path):
        top, *rest = name.split(".")
        assert top != "dgm_utils"
        if top == "nbjudge":
            assert wing(rest) in below, name


def test_the_models_know_nothing_of_how_they_are_asked():
    for path in (ROOT / "dgm_utils" / "models").glob("*.py"):
        assert not any(name.startswith("nbjudge") for name in imported(path))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_an_import_changes_nothing_elsewhere(path):
    """What nbgrader is made to do otherwise, `quirks.apply` puts into it where it is called."""
    if path.parent.name == "inside":
        # The warm process is ours alone, and settles what it imports before it does.
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        assert not isinstance(node, ast.For | ast.With)
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant)
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assert isinstance(target, ast.Name | ast.Tuple)


def test_nbjudge_does_without_what_only_the_models_need():
    """All of it is imported where there is no scikit-learn and no dgm_utils."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    # These start something when they are imported: a kernel's process, and a notebook's `check`.
    inside = {"nbjudge.inside.warm", "nbjudge.inside.zygote"}
    code = textwrap.dedent(f"""
        import importlib, sys
        sys.modules["sklearn"] = sys.modules["dgm_utils"] = None
        for name in {sorted(set(names) - inside)}:
            importlib.import_module(name.removesuffix(".__init__"))
    """)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_topic_imports_no_model():
    """Models are made of the functions of the topics; `densities` is beneath both."""
    for path in (ROOT / "dgm_utils" / "exercises").glob("[a-z]*"):
        names = imported(ROOT / "dgm_utils" / f"{path.stem}.py")
        models = {name for name in names if name.startswith("dgm_utils.models")}
        assert all(name.startswith("dgm_utils.models.densities") for name in models), path.stem


def test_no_module_is_too_long_to_be_read_at_once():
    modules = [*MODULES, *(ROOT / "dgm_utils").rglob("*.py")]
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in modules
    }
    assert not {name for name, number in lines.items() if number > LONGEST}


@pytest.mark.parametrize("first", ["nbjudge.cli", "nbjudge.running.startup"])
def test_what_comes_first_imports_nothing_large(first):
    """A command and its processes do without a grammar that takes seconds; see `do_without`."""
    large = {"jsonschema", "nbformat", "nbgrader", "torch"}
    code = f"import sys, {first}; print(*sorted({large!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
