"""Hostile submissions whose files are the attack, or only strange; see `hostile` for the fields."""

import json
import os
import subprocess
import sys
import zipfile

import nbformat
from hostile import Hostile

from benchmarks.classroom import BOUND, QUESTION, TOPIC, WRONG, answered

FILES: list[Hostile] = []


def _files(points=1.0, bound=WRONG, **fields):
    """What the function under it does to the folder with the notebook of one who answered.

    It gets the course, the path of the notebook, and the notebook, which is not yet written.
    """

    def keep(function):
        name = function.__name__.strip("_").replace("_", "-")

        def hand_in(course):
            path = course.notebook("submitted", TOPIC, name)
            path.parent.mkdir(parents=True)
            notebook = answered(course, bound)
            if function(course, path, notebook) is not WRITTEN:
                path.write_text(nbformat.writes(notebook), encoding="utf-8")

        FILES.append(Hostile(name, bound=bound, points=points, hand_in=hand_in, **fields))
        return function

    return keep


# Returned by a function that wrote the notebook itself, or wants none.
WRITTEN = object()


def _json(path, notebook):
    """Write it as it is: nbformat would mend it, or refuse."""
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return WRITTEN


# Bent notebooks


@_files((1.0, None))
def _duplicated_cell(course, path, notebook):
    check = next(cell for cell in notebook.cells if cell.id == "iwae_bound-check")
    notebook.cells.append(nbformat.from_dict({**check, "id": "again", "source": "1"}))


@_files((1.0, None))
def _stripped_metadata(course, path, notebook):
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()


@_files(says="Untitled")
def _renamed(course, path, notebook):
    path.with_name("Untitled (3).ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    return WRITTEN


def _cells_without_what_is_needed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            del cell["outputs"]
            del cell["execution_count"]


def _outputs_on_text(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.outputs, cell.execution_count = [], 3


def _outputs_that_are_none(notebook):
    for cell in notebook.cells:
        cell.outputs = [{"output_type": "stream"}, {"output_type": "nothing"}, {}]


_BENT = {
    "without-outputs": _cells_without_what_is_needed,
    "outputs-on-text": _outputs_on_text,
    "outputs-that-are-none": _outputs_that_are_none,
    "old-minor-number": lambda notebook: notebook.update(nbformat_minor=2),
    "text-as-minor-number": lambda notebook: notebook.update(nbformat_minor="5"),
    "no-minor-number": lambda notebook: notebook.pop("nbformat_minor"),
    "metadata-that-is-none": lambda notebook: notebook.update(metadata=None),
    "more-at-the-top": lambda notebook: notebook.update(signature="x", worksheets=[]),
    "one-id-for-all": lambda notebook: [cell.update(id="same") for cell in notebook.cells],
    "ids-that-are-none": lambda notebook: [cell.update(id="no id!") for cell in notebook.cells],
    "cells-with-more": lambda notebook: [
        cell.update(collapsed=True, prompt_number=1, attachments={}) for cell in notebook.cells
    ],
    "tags-that-are-none": lambda notebook: [
        cell.metadata.update(tags="x", name=3, collapsed="yes") for cell in notebook.cells
    ],
    "widgets-without-state": lambda notebook: notebook.metadata.update(
        widgets={"application/vnd.jupyter.widget-state+json": {"a": {"model_name": "HBoxModel"}}}
    ),
    "lost-attachment": lambda notebook: notebook.cells.append(
        nbformat.v4.new_markdown_cell("![photo](attachment:photo.png)", id="photo")
    ),
    "another-kernel": lambda notebook: notebook.metadata.update(
        kernelspec={"name": "ir", "language": "R", "display_name": "R"}
    ),
}


def _bent(name, bend):
    def hand_in(course, path, notebook):
        bend(notebook)
        return _json(path, notebook)

    hand_in.__name__ = f"bent-{name}"
    _files(3.0, BOUND)(hand_in)


for _name, _bend in _BENT.items():
    _bent(_name, _bend)


@_files((1.0, None))
def _half_a_surrogate(course, path, notebook):
    notebook.cells[1].source += "\n# \ud800"
    notebook.cells.append(notebook.cells[0] | {"cell_type": "markdown", "id": "\ud800"})
    notebook.metadata["title"] = "\udfff"
    return _json(path, notebook)


@_files((1.0, None))
def _strange_characters(course, path, notebook):
    for cell in notebook.cells[1:]:
        # No code can hold the first of them.
        zero = "" if cell.cell_type == "code" else "\x00"
        cell.source += f"\n# {zero}\x1b[31m\u202e\ufeff\x9b"
    return _json(path, notebook)


# Other encodings


@_files(3.0, BOUND)
def _mark_of_utf_8(course, path, notebook):
    path.write_text(nbformat.writes(notebook), encoding="utf-8-sig")
    return WRITTEN


@_files(3.0, BOUND)
def _utf_16(course, path, notebook):
    path.write_text(nbformat.writes(notebook), encoding="utf-16")
    return WRITTEN


# Other names


@_files(3.0, BOUND)
def _latin_1_name(course, path, notebook):
    name = os.fsencode(path.parent) + b"/\xdcbung.ipynb"
    with open(name, "wb") as file:
        file.write(nbformat.writes(notebook).encode())
    return WRITTEN


@_files(3.0, BOUND)
def _latin_1_name_beside(course, path, notebook):
    with open(os.fsencode(path.parent) + b"/\xdcbung.txt", "wb") as file:
        file.write(b"x")


@_files(3.0, BOUND)
def _escapes_in_a_name(course, path, notebook):
    path.with_name("\x1b]0;evil\x07\x1b[2J.ipynb").write_text(nbformat.writes(notebook))
    return WRITTEN


@_files(3.0, BOUND, says="iwae (1).ipynb")
def _two_notebooks(course, path, notebook):
    path.write_bytes(course.notebook("release", TOPIC).read_bytes())
    path.with_name("iwae (1).ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    return WRITTEN


@_files((3.0, None), BOUND)
def _json_name(course, path, notebook):
    path.with_name("iwae.ipynb.json").write_text(nbformat.writes(notebook), encoding="utf-8")
    return WRITTEN


# Links, pipes, holes, folders


@_files(None, says="link")
def _link_to_a_notebook(course, path, notebook):
    path.symlink_to(course.notebook("submitted", TOPIC, "whole"))
    return WRITTEN


@_files(None, says="link")
def _link_to_a_folder(course, path, notebook):
    (path.parent / "data").symlink_to(course.path("submitted", "whole", TOPIC))


@_files(None, says="link")
def _link_to_the_gradebook(course, path, notebook):
    (path.parent / "notes.txt").symlink_to(course.grading / "gradebook.db")


@_files(None, says="link")
def _folder_is_a_link(course, path, notebook):
    """The student's own folder, not that of the assignment, is another's."""
    path.parent.rmdir()
    path.parent.parent.rmdir()
    path.parent.parent.symlink_to(course.path("submitted", "whole", TOPIC).parent)
    return WRITTEN


@_files(None, says="link")
def _assignment_is_a_link(course, path, notebook):
    path.parent.rmdir()
    path.parent.symlink_to(course.path("submitted", "whole", TOPIC))
    return WRITTEN


@_files((1.0, None))
def _circle_of_links(course, path, notebook):
    (path.parent / "a").symlink_to("b")
    (path.parent / "b").symlink_to("a")
    (path.parent / "c").symlink_to(".")


@_files((1.0, None))
def _notebook_in_a_circle(course, path, notebook):
    path.symlink_to(path.name)
    return WRITTEN


@_files((1.0, None))
def _nested_folders(course, path, notebook):
    here = os.open(path.parent, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)


@_files((1.0, None))
def _unreadable(course, path, notebook):
    path.write_text(nbformat.writes(notebook), encoding="utf-8")
    path.chmod(0)
    return WRITTEN


@_files((1.0, None))
def _unreadable_beside(course, path, notebook):
    (path.parent / "data").mkdir(mode=0)


@_files(None)
def _folder_for_a_notebook(course, path, notebook):
    path.mkdir()
    return WRITTEN


@_files((1.0, None))
def _pipe_for_a_timestamp(course, path, notebook):
    os.mkfifo(path.with_name("timestamp.txt"))


@_files((1.0, None))
def _pipe_beside(course, path, notebook):
    os.mkfifo(path.with_name("data.csv"))
    os.mkfifo(path.with_name("other.ipynb"))


@_files(None)
def _pipe_for_a_notebook(course, path, notebook):
    os.mkfifo(path)
    return WRITTEN


@_files((1.0, None))
def _socket_beside(course, path, notebook):
    # The path of a socket must be short.
    code = "import os, socket, sys; os.chdir(sys.argv[1]); socket.socket(1).bind('s.ipynb')"
    subprocess.run([sys.executable, "-c", code, path.parent], check=True)


@_files((1.0, None))
def _hole_for_a_timestamp(course, path, notebook):
    _hole(path.with_name("timestamp.txt"), 700_000_000)


@_files((1.0, None))
def _hole_beside(course, path, notebook):
    _hole(path.with_name("data.bin"), 1_500_000_000)


@_files(None)
def _hole_for_a_notebook(course, path, notebook):
    _hole(path, 1_500_000_000)
    return WRITTEN


def _hole(path, size):
    with path.open("wb") as file:
        file.truncate(size)


@_files((1.0, None))
def _many_notebooks(course, path, notebook):
    text = nbformat.writes(notebook)
    for number in range(300):
        path.with_name(f"{number}.ipynb").write_text(text, encoding="utf-8")


@_files((1.0, None))
def _part_file_is_there(course, path, notebook):
    """Whoever writes a copy beside a notebook, under a name that can be known beforehand."""
    path.with_name("mine.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    for name in (f".{path.name}.part", f"{path.name}.part"):
        path.with_name(name).symlink_to(course.root / "evil")
    return WRITTEN


_TIMES = {
    "zone-without-colon": "2026-03-01 19:00:00 +0100",
    "zone-by-letters": "2026-03-01 20:15:00 CEST",
    "half-of-the-day": "2026-03-01 7:00 PM",
    "year-0": "0000-01-01 00:00:00 UTC",
    "year-9999": "9999-12-31 23:59:59 -2359",
    "other-digits": "２０２６-03-01 18:00:00 UTC",
    "nonsense": "1e999 \x00 \x1b[2J",
    "zone-that-is-a-path": "2026-03-01 18:00:00 ../../../etc/passwd",
    "two-lines": "2026-03-01 18:00:00 UTC\n2020-01-01 00:00:00 UTC",
}


def _time(name, text):
    def hand_in(course, path, notebook):
        path.with_name("timestamp.txt").write_text(text, encoding="utf-8")

    hand_in.__name__ = f"time-{name}"
    _files((1.0, None))(hand_in)


for _name, _text in _TIMES.items():
    _time(_name, _text)


# What lies beside is not imported


@_files()
def _torch_beside(course, path, notebook):
    evil = "import sys\nallclose = equal = lambda *a: True\nprint('REACHED', file=sys.stderr)\n"
    for name in ("torch.py", "sitecustomize.py", "nbgrader_config.py", "dgm_utils.py"):
        path.with_name(name).write_text(evil, encoding="utf-8")


# No notebooks


def _text_file(name, content):
    def hand_in(course, path, notebook):
        path.write_bytes(content)
        return WRITTEN

    hand_in.__name__ = name
    _files(None)(hand_in)


_text_file("nested-json", b'{"cells": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")
_text_file("not-json", b"This was meant to be a notebook.")
_text_file("empty-file", b"")
_text_file("a-number", b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 1e999}')
_text_file("a-list", b"[" * 5 + b"]" * 5)


@_files(None)
def _zip_bomb(course, path, notebook):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("iwae.ipynb", bytes(50_000_000))
    return WRITTEN


@_files(None)
def _other_assignment(course, path, notebook):
    notebook.cells = [nbformat.v4.new_code_cell("1")]


# Written tasks


def _written(notebook):
    return next(cell for cell in notebook.cells if cell.id == QUESTION)


@_files(3.0, BOUND, waits=True)
def _written_below(course, path, notebook):
    at = notebook.cells.index(_written(notebook))
    notebook.cells.insert(at + 1, nbformat.v4.new_markdown_cell("By Jensen.", id="mine"))


@_files(3.0, BOUND, waits=True)
def _photo_beside(course, path, notebook):
    path.with_name("answer.png").write_bytes(b"\x89PNG\r\n\x1a\n")


_CARRIERS = """
<script>evil()</script> <img src=x onerror=evil()> <svg onload=evil()></svg>
[x](javascript:evil()) <iframe src="javascript:evil()"></iframe> $\\href{javascript:evil()}{x}$
"""


@_files(3.0, BOUND, waits=True)
def _scripts_in_text(course, path, notebook):
    _written(notebook).source = _CARRIERS
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(_CARRIERS, id="more"))
    notebook.cells.insert(0, nbformat.v4.new_raw_cell(_CARRIERS, id="raw"))


# Pages that take long


@_files((1.0, None), slow=True)
def _quadratic_text(course, path, notebook):
    text = "".join(
        (f"[{'[' * 20_000}", "*a_ " * 50_000, "`" * 50_000, "<!--" * 20_000, "|" * 50_000)
    )
    notebook.cells.append(nbformat.v4.new_markdown_cell(text, id="long"))


@_files((1.0, None), slow=True)
def _60000_cells(course, path, notebook):
    cell = nbformat.v4.new_markdown_cell("x")
    notebook.cells += [nbformat.from_dict({**cell, "id": f"x{n}"}) for n in range(60_000)]


@_files((1.0, None), slow=True)
def _many_checks(course, path, notebook):
    """The same cell, with nbgrader's metadata, as often as the file may hold."""
    check = next(cell for cell in notebook.cells if cell.id == "iwae_bound-check")
    notebook.cells += [nbformat.from_dict({**check, "id": f"c{n}"}) for n in range(20_000)]
