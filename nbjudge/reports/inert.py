"""What is kept of a graded notebook: what a person reads of it, and nothing that acts.

`nbgrader_config.py` puts `Sanitize` last into the list of what nbgrader does to a submission, once
everything was marked and recorded. The pages for students and instructors take the same step again,
because a notebook may lie there from an older release.
"""

import re

from nbformat import NotebookNode, from_dict
from nbgrader.preprocessors import NbGraderPreprocessor

from nbjudge.errors import readable
from nbjudge.reports.safe_html import (
    IMAGE_TYPES,
    PICTURE,
    clean_html,
    image_data,
    safe_markdown,
    safe_raw,
)
from nbjudge.submissions.note import MENDED_ID

# More than anybody writes or reads, and few enough for a page. A longer text is cut, with a word
# about it; the submission itself has all of it.
CELL_LIMIT = 2_000
TEXT_LIMIT = 200_000
NOTEBOOK_LIMIT = 2_000_000

# What the marker wrote for the report, beside what is read.
_OURS = re.compile(r"application/vnd\.nbjudge\.[\w.-]+\+json")
_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)
# Of nbgrader's own metadata of a cell: what each must be.
_NBGRADER = {
    "cell_type": str,
    "checksum": str,
    "grade": bool,
    "grade_id": str,
    "locked": bool,
    "points": (int, float),
    "schema_version": int,
    "solution": bool,
    "task": bool,
}
_AS_HTML = ("image/svg+xml", "image/gif", "image/webp")
_COLOUR = re.compile(r"\x1b\[[\d;]{0,20}m")
# Each costs a copy of what follows it, when a page is made.
_MOST_COLOURS = 5_000


class Sanitize(NbGraderPreprocessor):
    """Leaves of a notebook what is read, and of that nothing that acts."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Build the notebook anew from what is allowed in it."""
        return sanitize(nb), resources


def sanitize(notebook: NotebookNode) -> NotebookNode:
    """A notebook that can be shown to anybody; what is safe already does not change.

    Args:
        notebook: of nbformat 4, with anything in it.

    """
    room = _Room()
    cells = []
    for number, cell in enumerate(notebook.cells):
        graded = "nbgrader" in cell.get("metadata", {}) and len(cells) < 2 * CELL_LIMIT
        if graded or number < CELL_LIMIT:
            cells.append(_cell(cell, number, room))
    if left := len(notebook.cells) - len(cells):
        said = f"[{left} more cells are in the submission and not shown here.]"
        cells.append({"cell_type": "markdown", "id": "left-out", "metadata": {}, "source": said})
    return from_dict(
        {"cells": cells, "metadata": _about(notebook), "nbformat": 4, "nbformat_minor": 5}
    )


class _Room:
    """How much text a notebook may still have."""

    def __init__(self):
        self._left = NOTEBOOK_LIMIT

    def text(self, found):
        """A text, or as much of it as there is room for."""
        text = readable(_joined(found))
        # A picture within a text is longer than any text.
        pictures = len(text) - len(PICTURE.sub("", text)) if "data:image/" in text else 0
        most = min(TEXT_LIMIT, self._left) + pictures
        if len(text) > most:
            text = f"{text[:most]}\n[{len(text) - most} more characters are not shown here.]"
        self._left -= min(len(text) - pictures, self._left)
        return text


def _about(notebook):
    """The notebook's metadata: its language, which is Python's."""
    found = notebook.get("metadata", {}).get("kernelspec", {})
    name = found.get("name") if isinstance(found, dict) else None
    name = name if isinstance(name, str) and _NAME.fullmatch(name) else "python3"
    return {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": name},
        "language_info": {"name": "python", "pygments_lexer": "ipython3"},
    }


def _cell(cell, number, room):
    kind = cell.get("cell_type")
    kind = kind if kind in ("code", "markdown") else "raw"
    attachments = _attachments(cell)
    ident = cell.get("id")
    source = room.text(cell.get("source", ""))
    if ident == MENDED_ID:
        # Our own sentences, with names of files in them; others read them line by line.
        source = re.sub(r"[<>&\[\]\\]", "_", source)
    elif kind == "markdown":
        source = safe_markdown(source, attachments)
    elif kind == "raw":
        # nbconvert shows it as HTML.
        source = safe_raw(source)
    known = isinstance(ident, str) and re.fullmatch(r"[\w-]{1,64}", ident, re.ASCII)
    made = {
        "cell_type": kind,
        "id": ident if known else f"cell-{number}",
        "metadata": _metadata(cell),
        "source": source,
    }
    if attachments:
        made["attachments"] = attachments
    if kind == "code":
        count = cell.get("execution_count")
        made["execution_count"] = count if type(count) is int else None
        graded = made["metadata"].get("nbgrader", {}).get("grade", False)
        outputs = (_output(output, graded, room) for output in cell.get("outputs", ()))
        made["outputs"] = [output for output in outputs if output]
    return made


def _metadata(cell):
    found = cell.get("metadata", {}).get("nbgrader")
    if not isinstance(found, dict) or not _NAME.fullmatch(str(found.get("grade_id"))):
        return {}
    kept = {
        name: value
        for name, value in found.items()
        if name in _NBGRADER and isinstance(value, _NBGRADER[name])
    }
    for name in ("cell_type", "checksum"):
        if not _NAME.fullmatch(kept.get(name, "-")):
            del kept[name]
    return {"nbgrader": kept}


def _attachments(cell):
    """Name → type → base64, of pictures only."""
    found = cell.get("attachments")
    kept = {}
    for name, bundle in found.items() if isinstance(found, dict) else ():
        pictures = _pictures(bundle if isinstance(bundle, dict) else {})
        if pictures:
            kept[readable(name)] = pictures
    return kept


def _pictures(bundle):
    """Type → base64."""
    checked = {kind: image_data(kind, _joined(bundle[kind])) for kind in IMAGE_TYPES & set(bundle)}
    return {kind: checked[kind] for kind in sorted(checked) if checked[kind]}


def _output(output, graded, room):
    """An output as it may be shown; None if nothing is left of it."""
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        text = _coloured(output.get("text", ""), room)
        return {"output_type": kind, "name": name, "text": text}
    if kind == "error":
        lines = output.get("traceback", ())
        lines = _coloured("\n".join(map(_joined, lines)), room).split("\n") if lines else []
        about = {name: room.text(output.get(name, "")) for name in ("ename", "evalue")}
        return {"output_type": kind, **about, "traceback": lines}
    if kind not in ("display_data", "execute_result"):
        return None
    data = _data(output.get("data", {}), graded, room)
    made = {"output_type": kind, "data": data, "metadata": _sizes(output, data)}
    if kind == "execute_result":
        count = output.get("execution_count")
        made["execution_count"] = count if type(count) is int else None
    return made if data else None


def _data(found, graded, room):
    """Type → what is shown; one that is not known is named, if there is no other."""
    data = _pictures(found)
    # nbconvert shows the first of these as it is, the others not at all.
    others = [(kind, data.pop(kind)) for kind in _AS_HTML if kind in data]
    if "text/html" in found:
        data["text/html"] = clean_html(room.text(found["text/html"]))
    elif others and not data:
        kind, content = others[0]
        data["text/html"] = f'<img src="data:{kind};base64,{content}">'
    if "text/markdown" in found:
        data["text/markdown"] = safe_markdown(room.text(found["text/markdown"]))
    if "text/latex" in found:
        text = room.text(found["text/latex"])
        # The same text in markdown says whether there is anything in it.
        if safe_markdown(text) == text:
            data["text/latex"] = text
        else:
            data["text/plain"] = text
    if "text/plain" in found:
        data["text/plain"] = _coloured(found["text/plain"], room)
    if graded:
        data |= {kind: found[kind] for kind in found if _OURS.fullmatch(kind)}
    if not data and found:
        kinds = ", ".join(sorted(readable(str(kind))[:50] for kind in found)[:5])
        data["text/plain"] = f"[An output of type {kinds} is not shown here.]"
    return data


def _sizes(output, data):
    """Of pictures, in the metadata of an output."""
    found = output.get("metadata", {})
    sizes = {}
    for kind in IMAGE_TYPES & set(data):
        about = found.get(kind, {}) if isinstance(found, dict) else {}
        about = about if isinstance(about, dict) else {}
        kept = {
            name: about[name]
            for name in ("height", "width")
            if type(about.get(name)) is int and 0 < about[name] < 10_000
        }
        if kept:
            sizes[kind] = kept
    return sizes


def _coloured(found, room):
    """What a program printed, with its colours and no other sequence for a terminal."""
    text = _joined(found)
    colours = _COLOUR.findall(text)
    if not colours or len(colours) > _MOST_COLOURS:
        return room.text(_COLOUR.sub("", text))
    pieces = [room.text(piece) for piece in _COLOUR.split(text)]
    return pieces[0] + "".join(map("".join, zip(colours, pieces[1:], strict=True)))


def _joined(found):
    """A text that may be a list of lines."""
    if isinstance(found, list):
        return "".join(line for line in found if isinstance(line, str))
    return found if isinstance(found, str) else ""
