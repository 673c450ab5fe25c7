"""Answers in words, wherever they were put, reach a person; and no picture is lost on the way."""

import copy

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell
from nbgrader.utils import compute_checksum
from submissions import PLAYED, PROOF, cell, fill_in, index, marks

from nbjudge.submissions import definitions
from nbjudge.submissions.definitions import Definitions, is_prose
from nbjudge.submissions.mend import mend

OTHER = "proof-q-ew"
PROSE = "By Jensen's inequality, because the logarithm is concave."
PICTURE = {"image/png": "QUJD"}
ANOTHER = {"image/png": "REVG"}


@pytest.fixture
def submitted(released):
    """Both proofs are left as they were released."""
    notebook = fill_in(released)
    cell(notebook, PROOF).source = cell(released, PROOF).source
    return notebook


def waits(notebook, grade_id):
    """Whether nbgrader leaves this task to a person, in place of 0 points."""
    c = cell(notebook, grade_id)
    return compute_checksum(c) != c.metadata.nbgrader.checksum


def insert(notebook, *cells, after=PROOF, by=1):
    place = index(notebook, after) + by
    notebook.cells[place:place] = cells


def text(source, **more):
    return nbformat.from_dict({**new_markdown_cell(source), **more})


@pytest.mark.parametrize("by", [0, 1], ids=["above", "below"])
@pytest.mark.parametrize("make", [new_markdown_cell, new_raw_cell, new_code_cell])
def test_an_answer_beside_its_stub_is_moved_into_it(submitted, released, make, by):
    insert(submitted, make(PROSE), by=by)
    said = mend(submitted, released)
    assert cell(submitted, PROOF).source == PROSE and cell(submitted, PROOF).cell_type == "markdown"
    assert sum(PROSE in c.source for c in submitted.cells) == 1
    assert (
        len(said) == 1 and "moved into it" in said[0] and PROOF in said[0] and OTHER not in said[0]
    )
    assert waits(submitted, PROOF) and not waits(submitted, OTHER)
    nbformat.validate(submitted)
    assert mend(submitted, released) == []


def test_an_answer_in_several_cells_is_joined_in_order(submitted, released):
    insert(submitted, text("First."), new_code_cell("1 + 1"), new_raw_cell("Second."))
    mend(submitted, released)
    assert cell(submitted, PROOF).source == "First.\n\nSecond."
    assert any(c.source == "1 + 1" and c.cell_type == "code" for c in submitted.cells)


def test_a_split_answer_in_words_is_joined(submitted, released):
    """Jupyter gives both halves the metadata."""
    cell(submitted, PROOF).source = "First."
    half = copy.deepcopy(cell(submitted, PROOF))
    half.source, half.id = "Second.", "half"
    insert(submitted, half)
    said = mend(submitted, released)
    assert cell(submitted, PROOF).source == "First.\n\nSecond."
    assert len(said) == 1 and "joined" in said[0]


def test_an_answer_in_new_cells_in_place_of_the_stub_is_found(submitted, released):
    submitted.cells[index(submitted, PROOF)] = text("## My proof")
    place = next(i for i, c in enumerate(submitted.cells) if c.source == "## My proof")
    submitted.cells.insert(place + 1, new_raw_cell(PROSE))
    mend(submitted, released)
    assert cell(submitted, PROOF).source == f"## My proof\n\n{PROSE}"


def test_an_answer_in_the_locked_card_is_moved_out_of_it(submitted, released):
    """Editors other than Jupyter let one write there, and nbgrader sets it back."""
    cell(submitted, f"{PROOF}-card").source += f"\n\n{PROSE}"
    said = " ".join(mend(submitted, released))
    assert cell(submitted, PROOF).source == PROSE
    assert cell(submitted, f"{PROOF}-card").source == cell(released, f"{PROOF}-card").source
    assert "Added to locked cells" in said and "moved into it" in said


def test_a_card_of_an_earlier_release_is_no_answer(submitted, released):
    card = cell(submitted, f"{PROOF}-card")
    card.source = card.source.replace("points", "marks") + "\n\nA hint that was there then."
    card.metadata.nbgrader.checksum = compute_checksum(card)
    assert [s for s in mend(submitted, released) if "Grading metadata" not in s] == []
    assert not waits(submitted, PROOF)


@pytest.mark.parametrize("files", [["photo.jpg"], ["a/proof.pdf", "x.docx"]])
def test_a_document_beside_the_notebook_makes_what_is_open_wait(submitted, released, files):
    cell(submitted, OTHER).source = "Done."
    said = mend(submitted, released, files)
    assert waits(submitted, PROOF)
    assert len(said) == 1 and PROOF in said[0] and OTHER not in said[0]
    for place in (said[0], cell(submitted, PROOF).source):
        assert f"`{files[0]}`" in place
    assert cell(submitted, OTHER).source == "Done."
    assert mend(submitted, released, files) == []


def test_a_document_beside_a_notebook_without_open_tasks_changes_nothing(released):
    notebook = fill_in(released)
    cell(notebook, OTHER).source = "Done."
    assert mend(notebook, released, ["photo.jpg"]) == []


def test_a_text_that_stands_somewhere_else_makes_what_is_open_wait(submitted, released):
    submitted.cells.insert(2, text(PROSE))
    said = " ".join(mend(submitted, released))
    assert waits(submitted, PROOF) and waits(submitted, OTHER)
    assert "other cells" in said
    # A heading alone does not.
    short = fill_in(released)
    short.cells.insert(2, text("# Ada"))
    assert mend(short, released) == [] and not waits(short, OTHER)


def test_a_text_that_was_added_to_a_released_one_makes_what_is_open_wait(submitted, released):
    submitted.cells[-1].source += f"\n\n{PROSE}"
    assert "other cells" in " ".join(mend(submitted, released))
    assert waits(submitted, PROOF) and waits(submitted, OTHER)


def test_code_beside_a_stub_makes_it_wait(submitted, released):
    insert(submitted, new_code_cell(f"answer = {PROSE!r}"))
    assert "beside it" in " ".join(mend(submitted, released))
    assert waits(submitted, PROOF) and not waits(submitted, OTHER)


def test_a_picture_alone_is_an_answer(submitted, released):
    insert(submitted, text("", attachments={"image.png": PICTURE}))
    cell(submitted, OTHER).attachments = {"my photo.png": PICTURE}
    mend(submitted, released)
    for name, grade_id in (("image.png", PROOF), ("my%20photo.png", OTHER)):
        assert waits(submitted, grade_id)
        assert f"(attachment:{name})" in cell(submitted, grade_id).source
        assert list(cell(submitted, grade_id).attachments.values()) == [PICTURE]


def test_pictures_of_one_name_stay_two(submitted, released):
    one = text("![1](attachment:image.png)", attachments={"image.png": PICTURE})
    two = text("![2](attachment:image.png) !", attachments={"image.png": ANOTHER})
    same = text("![3](attachment:image.png)", attachments={"image.png": PICTURE})
    insert(submitted, one, two, same)
    mend(submitted, released)
    answer = cell(submitted, PROOF)
    first, second = answer.attachments
    assert (answer.attachments[first], answer.attachments[second]) == (PICTURE, ANOTHER)
    lines = f"![1](attachment:{first})", f"![2](attachment:{second}) !", f"![3](attachment:{first})"
    assert answer.source == "\n\n".join(lines)


def test_pictures_survive_every_way_of_mending(submitted, released):
    """A turned cell, a copy that is dropped, a moved cell, lost metadata."""
    answer = cell(submitted, PROOF)
    answer.source, answer.attachments = "![](attachment:a.png)", {"a.png": PICTURE}
    raw = nbformat.from_dict({**answer, "cell_type": "raw"})
    bare = copy.deepcopy(submitted)
    cell(bare, PROOF).metadata = {}
    turned = copy.deepcopy(submitted)
    turned.cells[index(turned, PROOF)] = raw
    doubled = copy.deepcopy(submitted)
    copied = copy.deepcopy(cell(doubled, PROOF))
    copied.id = "copied"
    del cell(doubled, PROOF)["attachments"]
    doubled.cells.append(copied)
    moved = copy.deepcopy(submitted)
    moved.cells.insert(0, moved.cells.pop(index(moved, PROOF)))
    for notebook in (submitted, bare, turned, doubled, moved):
        mend(notebook, released)
        assert cell(notebook, PROOF).attachments == {"a.png": PICTURE}
        nbformat.validate(notebook)


def test_a_picture_that_stayed_behind_when_its_text_was_moved_is_found_again(submitted, released):
    submitted.cells.append(text("x", attachments={"a (1).png": PICTURE}))
    cell(submitted, PROOF).source = "![](attachment:a%20(1).png) ![](attachment:gone.png)"
    said = " ".join(mend(submitted, released))
    assert cell(submitted, PROOF).attachments == {"a (1).png": PICTURE}
    assert f"`{PROOF}` (`gone.png`)" in said and "a (1)" not in said


# Answers in code that stand elsewhere.


STUB = "raise NotImplementedError"


def code_before_check(notebook):
    cells = notebook.cells[: index(notebook, f"{PLAYED}-check")]
    return [c.source for c in cells if c.cell_type == "code" and f"{PLAYED}(" in c.source]


@pytest.mark.parametrize("where", ["first", "above", "below", "after the check", "last"])
def test_a_function_in_a_cell_of_its_own_is_not_undone_by_the_stub(released, where):
    notebook = fill_in(released)
    answer = cell(notebook, f"{PLAYED}-solution").source
    cell(notebook, f"{PLAYED}-solution").source = cell(released, f"{PLAYED}-solution").source
    solution, check = (index(notebook, f"{PLAYED}-{kind}") for kind in ("solution", "check"))
    places = {"first": 0, "above": solution, "below": check, "after the check": check + 1}
    notebook.cells.insert(places.get(where, len(notebook.cells)), new_code_cell(answer))
    said = mend(notebook, released)
    assert code_before_check(notebook) == [answer] and said
    assert [marks(c) for c in notebook.cells if marks(c)] == [
        marks(c) for c in released.cells if marks(c)
    ] or where == "first"
    assert mend(notebook, released) == []


def test_two_functions_in_one_cell_are_not_undone_by_their_stubs(released):
    notebook = fill_in(released)
    stub = cell(released, f"{PLAYED}-solution").source
    both = (
        f"{cell(notebook, f'{PLAYED}-solution').source}\n\ndef active_units(means):\n    return 1"
    )
    cell(notebook, f"{PLAYED}-solution").source = stub
    notebook.cells.insert(index(notebook, "imports") + 1, new_code_cell(both))
    said = " ".join(mend(notebook, released))
    assert code_before_check(notebook) == [both]
    before = notebook.cells[: index(notebook, "active_units-check")]
    assert [c.source for c in before if "def active_units" in c.source] == [both]
    assert "active_units-solution" in said


def test_what_was_added_to_locked_cells_of_code_still_runs(released):
    notebook = fill_in(released)
    answer = cell(notebook, f"{PLAYED}-solution").source
    cell(notebook, f"{PLAYED}-solution").source = cell(released, f"{PLAYED}-solution").source
    cell(notebook, f"{PLAYED}-check").source = f"{answer}\n\ncheck({PLAYED})  # ok"
    cell(notebook, "imports").source += "\nimport numpy as np\n%matplotlib inline"
    said = " ".join(mend(notebook, released))
    assert "Added to locked cells" in said and "imports" in said and f"{PLAYED}-check" in said
    for name in ("imports", f"{PLAYED}-check"):
        assert cell(notebook, name).source == cell(released, name).source
    assert notebook.cells[index(notebook, "imports") + 1].source.startswith("import numpy as np")
    assert code_before_check(notebook)[-1].startswith(answer)
    assert mend(notebook, released) == []


def answer_with(released, *cells):
    """A notebook in which these cells, with the metadata of the stub, are in its place."""
    notebook = fill_in(released)
    place = index(notebook, f"{PLAYED}-solution")
    stub = notebook.cells[place]
    notebook.cells[place : place + 1] = [
        nbformat.from_dict({**copy.deepcopy(stub), "id": f"part-{n}", **c})
        for n, c in enumerate(cells)
    ]
    return notebook


def test_a_function_that_was_split_in_its_middle_is_whole_again(released):
    source = cell(fill_in(released), f"{PLAYED}-solution").source
    head, _, rest = source.partition("\n")
    notebook = answer_with(released, {"source": head}, {"source": rest})
    said = " ".join(mend(notebook, released))
    assert cell(notebook, f"{PLAYED}-solution").source == source and "joined" in said


@pytest.mark.parametrize("kind", ["markdown", "raw"])
@pytest.mark.parametrize("fence", ["{}", "```python\n{}\n```", "```\n{}\n```\n"])
@pytest.mark.parametrize("bare", [False, True])
def test_a_function_that_was_turned_into_text_is_code_again(released, kind, fence, bare):
    source = cell(fill_in(released), f"{PLAYED}-solution").source
    turned = {"cell_type": kind, "source": fence.format(source)}
    notebook = answer_with(released, {**turned, **({"metadata": {}} if bare else {})})
    said = " ".join(mend(notebook, released))
    assert code_before_check(notebook) == [source] and "from code to text" in said
    nbformat.validate(notebook)


def test_a_function_within_an_if_is_found(released):
    source = cell(fill_in(released), f"{PLAYED}-solution").source.replace("\n", "\n    ")
    notebook = answer_with(released, {"source": f"if True:\n    {source}", "metadata": {}})
    mend(notebook, released)
    assert code_before_check(notebook) == [f"if True:\n    {source}"]


# What is found in code without running it.


def test_definitions_are_found_in_short_code_exactly_and_in_long_code_by_lines():
    source = '"""\ndef in_text(): pass\n"""\ndef f(): pass\nclass C: pass\na = b: int = 1\n'
    source = source.replace("a = b: int = 1", "a = 1\nb: int = 1\nimport x.y, z as w\nc == 1")
    names = ["in_text", "f", "C", "a", "b", "x", "w", "z", "c"]
    assert Definitions(names).of(source) == {"f", "C", "a", "b", "x", "w"}
    long = source + "#" * 30_000
    assert Definitions(names).of(long) == {"in_text", "f", "C", "a"}
    assert Definitions([]).of(source) == set()


def test_a_notebook_of_much_code_is_not_parsed_for_ever(monkeypatch):
    read, really = [], definitions.parsed
    monkeypatch.setattr(definitions, "parsed", lambda s: read.append(len(s)) or really(s))
    found = Definitions(["f"])
    for number in range(1_000):
        assert found.of(f"def f(): pass  # {number}{'x' * 5_000}") == {"f"}
    assert found.of("def f(): pass" + "#" * 1_000_000) == {"f"}
    assert 0 < sum(read) <= definitions.NOTEBOOK_LIMIT


@pytest.mark.parametrize(
    ("source", "prose"),
    [
        (PROSE, True),
        ("# " + PROSE, True),
        ('"""' + PROSE + '"""', True),
        ("log p = E[x]", True),
        ("Jensen", True),
        ("", False),
        ("x = 1", False),
        ("print(1)", False),
        ("%matplotlib inline", False),
        ("!pip install x", False),
    ],
)
def test_prose_in_a_cell_of_code_is_told_from_code(source, prose):
    assert is_prose(source) == prose
