"""What JupyterLab opens is read, whatever its form; what is none is called by its name."""

import copy
import json

import nbformat
import pytest
from submissions import ANSWER, PLAYED, PROOF, cell, fill_in

from nbjudge.submissions import normalize
from nbjudge.submissions.mend import mend
from nbjudge.submissions.normalize import NoNotebookError, parse


@pytest.fixture
def raw(released):
    """A submitted notebook as it lies in a file: texts line by line, and outputs."""
    notebook = json.loads(nbformat.writes(fill_in(released)))
    for c in notebook["cells"]:
        if c["cell_type"] == "code":
            c["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["passed"]}]
            c["execution_count"] = 7
    return notebook


def of_code(raw):
    return [c for c in raw["cells"] if c["cell_type"] == "code"]


def of_text(raw):
    return [c for c in raw["cells"] if c["cell_type"] == "markdown"]


def each(cells, **changes):
    for c in cells:
        c.update(copy.deepcopy(changes))


def without(cells, *names):
    for c in cells:
        for name in names:
            c.pop(name, None)


def old_format(raw):
    """As nbformat 3 has it."""
    for c in of_code(raw):
        c["input"], c["language"], c["prompt_number"] = c.pop("source"), "python", 1
    raw["worksheets"] = [{"cells": raw.pop("cells"), "metadata": {}}, None, {"cells": 3}]
    raw["nbformat"], raw["nbformat_minor"] = 3, 0


BENT = {
    "outputs on text": lambda r: each(of_text(r), outputs=[], execution_count=None),
    "code without outputs": lambda r: without(of_code(r), "outputs", "execution_count"),
    "outputs that are none": lambda r: each(of_code(r), outputs=[3, None, {}, {"x": 1}]),
    "outputs null": lambda r: each(of_code(r), outputs=None),
    "count as text": lambda r: each(of_code(r), execution_count="*"),
    "no metadata": lambda r: without(of_code(r)[:1], "metadata"),
    "metadata null": lambda r: each(r["cells"][:3], metadata=None),
    "metadata a list": lambda r: each(r["cells"][:3], metadata=[1]),
    "metadata of the notebook": lambda r: r.update(metadata=3),
    "no metadata of the notebook": lambda r: r.pop("metadata"),
    "widgets without state": lambda r: r["metadata"].update(
        widgets={"application/vnd.jupyter.widget-state+json": {"a": {}}}
    ),
    "no ids": lambda r: without(r["cells"], "id"),
    "ids that are none": lambda r: each(r["cells"], id={"x": 1}),
    "bad ids": lambda r: [c.update(id=c["id"] + " ü/" * 30) for c in r["cells"]],
    "keys that nobody knows": lambda r: each(r["cells"], colab={"x": [1]}, attachments=None),
    "minor of long ago": lambda r: r.update(nbformat_minor=2),
    "minor of the future": lambda r: r.update(nbformat_minor=99),
    "minor as text": lambda r: r.update(nbformat_minor="5", nbformat="4"),
    "no version": lambda r: [r.pop("nbformat"), r.pop("nbformat_minor")],
    "an old format": old_format,
    "empty cells": lambda r: r["cells"].extend([{}, None, 3, [], {"cell_type": "code"}]),
    "source null": lambda r: each(r["cells"][:2], source=None),
    "kind in capitals": lambda r: each(of_code(r), cell_type="Code"),
    "no kind": lambda r: without(r["cells"], "cell_type"),
    "a number of 10,000 digits": lambda r: r["metadata"].update(x=0),
    "NaN": lambda r: each(of_code(r), execution_count=float("nan")),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=list(BENT))
def test_a_bent_form_costs_nothing(bend, raw, released):
    bend(raw)
    text = json.dumps(raw).replace('"x": 0', f'"x": {"9" * 10_000}')
    notebook, _ = parse(text.encode())
    mend(notebook, released)
    nbformat.validate(notebook)
    assert cell(notebook, f"{PLAYED}-solution").source == ANSWER
    assert cell(notebook, PROOF).source == "By Jensen."
    kinds = {c.metadata.nbgrader.grade_id: c.cell_type for c in released.cells if c.metadata}
    assert kinds == {
        c.metadata.nbgrader.grade_id: c.cell_type for c in notebook.cells if c.metadata
    }


def test_what_counts_is_kept_and_the_rest_is_not(raw):
    picture = {"p.png": {"image/png": "QUJD"}}
    raw["cells"][0]["attachments"] = picture
    raw["cells"][0]["metadata"]["tags"] = ["remove_cell"]
    notebook, said = parse(json.dumps(raw).encode())
    assert said == []
    assert notebook.cells[0].attachments == picture
    assert notebook.cells[0].metadata == {}
    assert not any(c.outputs for c in notebook.cells if c.cell_type == "code")
    assert [c.id for c in notebook.cells] == [c["id"] for c in raw["cells"]]
    texts = ["".join(c["source"]) for c in raw["cells"]]
    assert [c.source for c in notebook.cells] == texts


@pytest.mark.parametrize(
    "picture",
    [{"image/png": '"><script>'}, {"text/html;x": "QUJD"}, {"image/png": None}, "QUJD", {}],
)
def test_an_attachment_that_is_none_goes_and_that_is_said(raw, picture):
    raw["cells"][0]["attachments"] = {"p.png": picture}
    notebook, said = parse(json.dumps(raw).encode())
    assert "attachments" not in notebook.cells[0]
    assert len(said) == 1 and "damaged" in said[0]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]
)
def test_every_unicode_encoding_is_read(raw, encoding):
    raw["cells"][0]["source"] = "π ∑ ü 😀"
    notebook, said = parse(json.dumps(raw, ensure_ascii=False).encode(encoding))
    assert notebook.cells[0].source == "π ∑ ü 😀" and said == []


def test_other_encodings_are_read_and_that_is_said(raw):
    raw["cells"][0]["source"] = "Übung — fertig"
    for encoding in ("cp1252", "latin-1"):
        raw["cells"][0]["source"] = "Übung"
        notebook, said = parse(json.dumps(raw, ensure_ascii=False).translate(WEST).encode(encoding))
        assert notebook.cells[0].source == "Übung"
        assert len(said) == 1 and "not UTF-8" in said[0]


# No letters that Western encodings lack.
WEST = {n: "?" for n in range(256, 0x11000)}


def test_one_damaged_byte_does_not_turn_the_others_into_other_letters(raw):
    raw["cells"][0]["source"] = "μ = 1  # §"
    content = json.dumps(raw, ensure_ascii=False).encode().replace("§".encode(), b"\xff")
    notebook, said = parse(content)
    assert notebook.cells[0].source.startswith("μ = 1  # ")
    assert len(said) == 1 and "damaged: 1 of" in said[0]


def test_half_a_character_can_be_written_afterwards(raw):
    raw["cells"][0]["source"] = "a \ud800 b"
    raw["cells"][1]["id"] = "\udfff"
    raw["cells"][2]["attachments"] = {"\ud800.png": {"image/png": "QUJD"}}
    raw["cells"][3]["metadata"]["nbgrader"] = {"grade_id": "\ud800", "\ud800": 1}
    raw["metadata"]["\ud800"] = "\ud800"
    notebook, said = parse(json.dumps(raw).encode())
    json.dumps(notebook, ensure_ascii=False).encode()
    assert len(said) == 1 and "no file can hold" in said[0]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"%PDF-1.7\xff", "a PDF file"),
        (b"PK\x03\x04\xff\xfe", "a zip file"),
        (b"<!doctype html><title>Log in</title>", "a page for a browser"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\x7fELF\xff", "not UTF-8 text"),
        (b'{"cells": [\n<<<<<<< HEAD\n{}\n=======\n>>>>>>> main\n]}', "a conflict that Git"),
        (b'{"cells": [', "not JSON"),
        (b"import torch", "not JSON"),
        (b"[1, 2]", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"cells": ' + b"[" * 100_000, "nested too deeply"),
        (b"{}", "no cell"),
        (b'{"cells": {}, "worksheets": 3}', "no cell"),
        (b'{"cells": [{"cell_type": "code", "source": " "}]}', "no cell"),
    ],
)
def test_what_is_no_notebook_is_called_by_its_name(content, what):
    with pytest.raises(NoNotebookError) as caught:
        parse(content)
    assert what in str(caught.value)


def test_more_cells_than_anyone_writes_are_refused(raw, monkeypatch):
    monkeypatch.setattr(normalize, "CELLS_LIMIT", len(raw["cells"]))
    parse(json.dumps(raw).encode())
    raw["cells"].append(raw["cells"][0])
    with pytest.raises(NoNotebookError, match="more than"):
        parse(json.dumps(raw).encode())
