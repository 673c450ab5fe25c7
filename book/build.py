"""Build the course as a static site: `python book/build.py FOLDER`.

The pages come from four places: `book/index.md`, the lectures as they are committed, the
descriptions of the assignments, which are made here from the students' notebooks, and the reference
of `dgm_utils`, which `book/reference.py` makes from its docstrings. Nothing is executed, and torch
is not needed.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
import reference
from sphinx.cmd.build import build_main

ROOT = Path(__file__).resolve().parent.parent
# Text, path and section of a link to a file.
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def description(notebook, path):
    """The description of an assignment: title, recap and cards, without code and answers.

    Args:
        notebook: the students' notebook, as nbformat reads it; left as it is.
        path: where a student finds it, from the root of the repository.

    """
    asked = [
        nbformat.v4.new_markdown_cell(cell.source, id=cell.id)
        for cell in notebook.cells
        if cell.cell_type == "markdown" and not cell.metadata.get("nbgrader", {}).get("solution")
    ]
    where = nbformat.v4.new_markdown_cell(
        f"> This page says what is asked. The work is done in the notebook `{path}`.", id="where"
    )
    return nbformat.v4.new_notebook(cells=[*asked[:1], where, *asked[1:]])


def in_order(topics, lectures):
    """The topics of assignments in the order in which lectures/README.md lists them.

    Raises:
        ValueError: when a topic is not listed.

    """
    return sorted(topics, key=lambda topic: lectures.index(f"assignments/{topic}/"))


def list_of_lectures(readme):
    """What lectures/README.md says before its first section, for a page in the folder above."""

    def from_above(match):
        return f"[{match[1]}]({os.path.normpath(Path('lectures', match[2]))}{match[3] or ''})"

    return LINK.sub(from_above, readme.split("\n## ")[0].removeprefix("# Lectures\n"))


def unlink(text, page, book):
    """Make plain text of links that lead to no page of the book.

    Those are links to other files of the repository, and to notebooks that lectures/README.md
    lists but nobody has written yet. Sphinx complains about a link that leads nowhere at all.

    Args:
        text: Markdown.
        page: path of the page it stands on, relative to the book.
        book: the folder in which the pages lie.

    """
    planned = (ROOT / "lectures" / "README.md").read_text()

    def replace(match):
        target = Path(os.path.normpath(page.parent / match[2]))
        known = (ROOT / target).exists() or target.name in planned
        return match[1] if known and not (book / target).exists() else match[0]

    return LINK.sub(replace, text)


def gather(folder):
    """Lay out the pages in an empty folder, under the same names as in the repository."""
    shutil.copytree(
        ROOT / "lectures", folder / "lectures", ignore=shutil.ignore_patterns(".*", "*.py")
    )
    topics = []
    for source in ROOT.glob("assignments/*/*.ipynb"):
        path = source.relative_to(ROOT)
        topics.append(path.stem)
        (folder / path).parent.mkdir(parents=True)
        nbformat.write(description(nbformat.read(source, as_version=4), path), folder / path)

    lectures = (ROOT / "lectures" / "README.md").read_text()
    pages = [f"assignments/{topic}/{topic}" for topic in in_order(topics, lectures)]
    index = (ROOT / "book" / "index.md").read_text()
    index = index.replace("ASSIGNMENTS", "\n".join(pages))
    (folder / "index.md").write_text(index.replace("LIST OF LECTURES", list_of_lectures(lectures)))

    sections = reference.pages()
    (folder / "reference").mkdir()
    (folder / "reference" / "index.md").write_text(reference.index(sections))
    for found in sections.values():
        for name, (_, text) in found.items():
            (folder / "reference" / f"{name}.md").write_text(text)

    for path in folder.rglob("*.md"):
        path.write_text(unlink(path.read_text(), path.relative_to(folder), folder))
    for path in folder.rglob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = unlink(cell.source, path.relative_to(folder), folder)
        nbformat.write(notebook, path)


def build(folder):
    """Build the site into a folder; a warning is an error.

    Returns:
        Sphinx's exit status: 0 when all is well.

    """
    with tempfile.TemporaryDirectory() as temporary:
        source, doctrees = Path(temporary, "source"), Path(temporary, "doctrees")
        source.mkdir()
        gather(source)
        options = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(ROOT / "book")]
        return build_main([*options, "-d", str(doctrees), str(source), str(folder)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    status = build(folder)
    if status == 0:
        print(f"Open {folder / 'index.html'} in a browser; no network is needed.")
    sys.exit(status)
