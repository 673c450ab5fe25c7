"""The bytes of a submitted file → a valid notebook, whatever an editor has made of its form.

JupyterLab opens much that is not valid, and grading throws most of it away: outputs, how a cell is
shown, the state of widgets. So nothing is demanded of these. A notebook is made anew from what
counts: the cells' kinds, texts and ids, attached pictures, and what nbgrader wrote beside them.
"""

import json
import re

from nbformat import NotebookNode

# No notebook that was written by hand comes near it, and a page of more cells takes minutes.
CELLS_LIMIT = 10_000
_KINDS = ("code", "markdown", "raw")
_MARKS = ("cell_type", "checksum", "grade", "grade_id", "locked", "points")
_MARKS += ("schema_version", "solution", "task")
# What only cells of code have, also in old formats.
_OF_CODE = {"outputs", "execution_count", "input", "prompt_number"}
# How files begin that are handed in under a notebook's name.
_BEGINNINGS = {
    b"%PDF": "it is a PDF file",
    b"PK\x03\x04": "it is a zip file",
    b"\x1f\x8b": "it is an archive",
    b"\x89PNG": "it is a picture",
    b"\xff\xd8\xff": "it is a picture",
    b"<": "it is a page for a browser (HTML)",
}
_WHOLE = "Hand in the .ipynb file that Jupyter saves, whole"
_LOST = "\ufffd"


class NoNotebookError(ValueError):
    """What a file is that holds no notebook."""


def parse(content: bytes) -> tuple[NotebookNode, list[str]]:
    """Read the content of a submitted file.

    Args:
        content: of the file.

    Returns:
        The notebook, as nbformat 4.5, whose cells may lack ids; and a sentence for each thing
        that may have changed what its author wrote.

    Raises:
        NoNotebookError: when it holds no cell with a text.

    """
    said: list[str] = []
    text = _decoded(content, said)
    try:
        # The rest of a number of thousands of digits would be an error of its own.
        raw = json.loads(text, parse_int=lambda digits: int(digits[:20]))
    except RecursionError as error:
        raise NoNotebookError("it is nested too deeply") from error
    except ValueError as error:
        raise NoNotebookError(_instead(content, text)) from error
    if not isinstance(raw, dict):
        raise NoNotebookError(f"it is not JSON text of one. {_WHOLE}")
    cells = [cell for cell in _cells(raw) if isinstance(cell, dict)]
    if len(cells) > CELLS_LIMIT:
        raise NoNotebookError(f"it has more than {CELLS_LIMIT:,} cells: remove those without work")
    cells = [_cell(cell, said) for cell in cells]
    if not any(cell.source.strip() or "attachments" in cell for cell in cells):
        raise NoNotebookError(f"it has no cell with a text. {_WHOLE}")
    about = NotebookNode(language_info=NotebookNode(name="python"))
    notebook = NotebookNode(cells=cells, metadata=about, nbformat=4, nbformat_minor=5)
    if not isinstance(raw.get("cells"), list):
        notebook.metadata.orig_nbformat = 3
    return notebook, list(dict.fromkeys(said))


def _decoded(content, said):
    # JSON text begins with ASCII, which tells UTF-8, UTF-16 and UTF-32 apart even without a mark.
    encoding = json.detect_encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8") or content.lstrip()[:1] != b"{":
            raise NoNotebookError(_instead(content, "", "it is not UTF-8 text")) from error
    text = content.decode("utf-8", "replace")
    lost = text.count(_LOST)
    if lost < len(re.findall(r"[^\0-\x7f]", text)) - lost:
        said.append(f"The file is damaged: {lost} of its characters are not UTF-8 text.")
        return text
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise NoNotebookError("it is not UTF-8 text: save it in Jupyter") from error
    said.append(
        "The file is not UTF-8 text; it was read as Windows-1252, so that letters beyond ASCII may "
        "be other ones."
    )
    return text


def _instead(content, text, otherwise="it is not JSON text"):
    """What a file is that is no notebook, and what to do."""
    start = content.lstrip()[:8]
    found = [words for magic, words in _BEGINNINGS.items() if start.startswith(magic)]
    if "\n<<<<<<< " in text and "\n>>>>>>> " in text:
        found.append("it holds a conflict that Git has marked, which is to be resolved")
    return f"{(*found, otherwise)[0]}. {_WHOLE}"


def _cells(raw):
    """Its cells; before nbformat 4 they lay in worksheets."""
    if isinstance(raw.get("cells"), list):
        return raw["cells"]
    sheets = raw.get("worksheets")
    sheets = [s for s in sheets if isinstance(s, dict)] if isinstance(sheets, list) else []
    lists = [s["cells"] for s in sheets if isinstance(s.get("cells"), list)]
    return [cell for cells in lists for cell in cells]


def _cell(raw, said):
    metadata = raw.get("metadata")
    marks = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    marks = marks if isinstance(marks, dict) else {}
    source = _text(raw.get("source", raw.get("input")), said)
    kind = raw.get("cell_type")
    if kind == "heading":
        kind, source = "markdown", f"# {source}"
    if kind not in _KINDS:
        said.append("Cells of no known kind were taken for code or text.")
        guess = "code" if _OF_CODE & raw.keys() else "markdown"
        kind = marks.get("cell_type") if marks.get("cell_type") in _KINDS else guess
    cell = NotebookNode(cell_type=kind, metadata=NotebookNode(), source=source)
    if isinstance(raw.get("id"), str):
        cell.id = _text(raw["id"], said)
    if kind == "code":
        cell.outputs, cell.execution_count = [], None
    if isinstance(marks.get("grade_id"), str):
        kept = {mark: marks[mark] for mark in _MARKS if mark in marks}
        cell.metadata.nbgrader = NotebookNode(
            {
                mark: _text(value, said) if isinstance(value, str) else value
                for mark, value in kept.items()
                if isinstance(value, str | int | float | None)
            }
        )
    for name in ("deletable", "editable"):
        if isinstance(metadata, dict) and isinstance(metadata.get(name), bool):
            cell.metadata[name] = metadata[name]
    if pictures := _attachments(raw.get("attachments"), said):
        cell.attachments = pictures
    return cell


def _attachments(raw, said):
    """Name → kind → content of what is attached to a cell."""
    found = NotebookNode()
    for name, bundle in raw.items() if isinstance(raw, dict) else ():
        kinds = NotebookNode()
        for kind, content in bundle.items() if isinstance(bundle, dict) else ():
            content = _text(content, said)
            # It becomes part of a page.
            if re.fullmatch(r"\w+/[\w.+-]+", kind) and re.fullmatch(r"[\w+/=\s]+", content, re.A):
                kinds[kind] = content
        if kinds:
            found[_text(name, said)] = kinds
        else:
            said.append("A picture that is attached to a cell is damaged and could not be kept.")
    return found


def _text(raw, said):
    """A text, which a notebook may hold line by line."""
    if isinstance(raw, list):
        raw = "".join(line for line in raw if isinstance(line, str))
    text = raw if isinstance(raw, str) else ""
    try:
        text.encode()
    except UnicodeEncodeError:
        said.append("Characters that no file can hold were replaced.")
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
