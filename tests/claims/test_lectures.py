"""Every claim is shown in a lecture and held by a test; lectures/README.md says where."""

import ast
import re

import nbformat
import pytest
from conftest import ROOT

LECTURES = {path.name: path for path in sorted(ROOT.glob("lectures/*.ipynb"))}
NUM_CLAIMS = {1: 9, 2: 3, 3: 10, 4: 5, 5: 6, 6: 4, 7: 5, 8: 2}
CLAIMS = [f"{lecture}.{n}" for lecture, last in NUM_CLAIMS.items() for n in range(1, last + 1)]
ROW = re.compile(r"\| (\d+\.\d+) \| (.+) \| \[(.+)\]\((.+\.ipynb)\) \| (.+) \|")


def listed():
    """Claim → (title of its section, notebook, tests), as lectures/README.md has them."""
    text = (ROOT / "lectures" / "README.md").read_text()
    rows = ROW.findall(text.partition("## Claims")[2])
    return {claim: (title, name, tests) for claim, _, title, name, tests in rows}


def cells(name):
    return nbformat.read(LECTURES[name], as_version=4).cells


def section(claim, name):
    """The cells from a claim up to the next one, or to the slips or the summary."""
    found = cells(name)
    ids = [cell.id for cell in found]
    start = ids.index(f"claim-{claim.replace('.', '-')}")
    ends = (n for n in range(start + 1, len(ids)) if re.match(r"claim-|slips$|summary", ids[n]))
    return found[start : next(ends)]


def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_list_is_complete():
    assert list(listed()) == CLAIMS
    assert len(LECTURES) == len(NUM_CLAIMS)


def test_no_lecture_makes_a_claim_that_is_not_listed():
    ids = {cell.id for name in LECTURES for cell in cells(name)}
    made = {i.removeprefix("claim-").replace("-", ".") for i in ids if i.startswith("claim-")}
    assert made == set(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_is_stated_executed_and_held(claim):
    title, name, _ = listed()[claim]
    first, *rest = section(claim, name)
    assert first.source.splitlines()[0] == f"## {title}"
    assert f"**Claim {claim}.**" in first.source
    promises = [c.source for c in rest if c.source.startswith("# NBVAL_CHECK_OUTPUT")]
    assert any("assert " in source for source in promises)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_has_tests_that_exist(claim):
    tests = re.findall(r"`(\S+)::(\w+)`", listed()[claim][2])
    assert tests
    for path, function in tests:
        assert function in functions(path), f"{path} has no {function}"


@pytest.mark.parametrize("name", LECTURES)
def test_promised_numbers_are_stored(name):
    for cell in cells(name):
        if cell.source.startswith("# NBVAL_CHECK_OUTPUT"):
            assert any(output.output_type == "stream" for output in cell.outputs), cell.id


@pytest.mark.parametrize("name", LECTURES)
def test_figures_say_what_they_show(name):
    for cell in cells(name):
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                assert len(output.metadata["image/png"]["alt"]) > 20, cell.id


@pytest.mark.parametrize("name", LECTURES)
def test_a_lecture_says_what_it_takes_and_where_to_go_next(name):
    found = {cell.id: cell.source for cell in cells(name)}
    for words in ("**What you will know**", "**What it takes.**", "README.md#notation"):
        assert words in found["title"]
    assert "## Summary" in found["summary"]
    assert any("## References" in source for source in found.values())
    topic = name.removesuffix(".ipynb")[3:]
    if (ROOT / "assignments" / topic).is_dir():
        assert f"../assignments/{topic}/{topic}.ipynb" in found["title"]
