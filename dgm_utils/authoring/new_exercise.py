"""`dgm new-exercise`: write the places of a new exercise, each marked until it is filled.

A place is marked with FILL, and a test of the project fails as long as one is. What is written is
valid and formatted, so that all that is left to do is to think.

The files in `templates` are written as they are, but for the words in capitals that `_Draft` knows.
"""

import contextlib
import re
import symtable
from collections.abc import Iterable
from pathlib import Path

import nbformat

from dgm_utils import __version__
from dgm_utils.authoring.names import require_names
from dgm_utils.authoring.places import Place, find_repository, places
from nbjudge.errors import UserError

_TEMPLATES = Path(__file__).parent / "templates"
_MAX_LINE = 100

# What is said of a topic elsewhere.
_ASSIGNMENT = "[`TOPIC`](../assignments/TOPIC/TOPIC.ipynb)"
_LECTURE_ROW = f"| NUMBER | [FILL: title of the lecture](NN_TOPIC.ipynb) | {_ASSIGNMENT} |\n"
_CLAIM_ROW = (
    "| NUMBER.1 | FILL: the claim | [NUMBER.1 FILL: title of the claim](NN_TOPIC.ipynb) | "
    "`tests/claims/test_TOPIC.py::test_NAME` |\n"
)
_ONE_MORE = "\n\nFILL: add NAME to the points, functions and minutes above, and delete this line."
_FOLLOWS = f"\n\nFILL: say that this assignment follows: {_ASSIGNMENT}."


def new_exercise(
    start: Path | str, topic: str, name: str, arguments: Iterable[str] = ("x",)
) -> list[Place]:
    """Write the places of a new exercise, and the files of its topic if that is new.

    Args:
        start: the repository or a folder inside it.
        topic: the assignment's name, and the modules'.
        name: of the function that students will write.
        arguments: of that function.

    Returns:
        The places in the order in which to fill them.

    Raises:
        UserError: when a name will not do, the exercise is there already, or a file cannot be
            changed; every file is then as it was.

    """
    root = find_repository(start)
    arguments = tuple(arguments)
    require_names(topic, name, arguments)
    _require_new(root, topic, name)
    files = _Draft(root, topic, name, arguments).files()
    _require_short_lines(root, files)
    _write_all(files)
    return places(root, topic)


def _require_new(root, topic, name):
    """Refuse an exercise that exists in any topic, and a topic whose name is taken."""
    # Right answers of all topics are looked up by the name of the exercise alone.
    for floor in ("dgm_utils/exercises", "tests/exercises"):
        for path in root.glob(f"{floor}/*/{name}.py"):
            raise UserError(
                f"{path.parent.name} has an exercise {name!r} already: choose another name"
            )
    modules = [f"dgm_utils/{topic}.py", f"tests/claims/test_{topic}.py"]
    notebook = f"solutions/{topic}/{topic}.ipynb"
    files = [*modules, f"dgm_utils/exercises/{topic}/__init__.py", notebook]
    taken = [path for path in (f"dgm_utils/{topic}/", *files) if (root / path).exists()]
    if taken not in ([], files):
        raise UserError(
            f"{', '.join(taken)} exists, but the other files of a topic {topic!r} do not: "
            "choose another topic"
        )
    imports = ""
    if taken:
        for path in modules:
            known = _known(_read(root / path))
            if both := sorted({name, f"test_{name}"} & known):
                raise UserError(f"{path} has a {both[0]!r} already: choose another name")
        path = root / notebook
        imports = _cell(nbformat.read(path, as_version=4), "imports", path).source
    if name in {"check"} | _known(imports):
        raise UserError(f"the notebook imports {name!r} from elsewhere: choose another name")


def _known(source):
    """The names of the outermost level of a module."""
    return set(symtable.symtable(source, "module", "exec").get_identifiers())


def _read(path):
    return path.read_text(encoding="utf-8")


def _cell(notebook, cell_id, path):
    for cell in notebook.cells:
        if cell.id == cell_id:
            return cell
    raise UserError(f"{path} has no cell {cell_id!r}, which every notebook here has")


class _Draft:
    """The texts of all files that a new exercise touches, made in memory."""

    def __init__(self, root, topic, name, arguments):
        self.root, self.name = root, name
        lectures = sorted(root.glob("lectures/[0-9]*_*.ipynb"))
        own = [path for path in lectures if path.stem.partition("_")[2] == topic]
        self.new_lecture = not own
        self.neighbour = lectures[0]
        number = int((own or lectures)[-1].stem.partition("_")[0]) + self.new_lecture
        self.words = {
            "TOPIC": topic,
            "NAME": name,
            "ARGUMENTS": ", ".join(arguments),
            "FIRST": arguments[0] if arguments else "",
            "draw.normal(size)": ", ".join(["draw.normal(size)"] * len(arguments)),
            "NUMBER": str(number),
            "NN": f"{number:02d}",
            "VERSION": __version__,
        }

    def files(self):
        """Path → new text, of every file that changes."""
        solution = self._path("solutions/TOPIC/TOPIC.ipynb")
        files = {
            **self._appended("dgm_utils/TOPIC.py", "reference.py"),
            **self._appended("tests/claims/test_TOPIC.py", "claims.py"),
            self._path("dgm_utils/exercises/TOPIC/NAME.py"): self._template("page.py"),
            **self._listed(),
            self._path("tests/exercises/TOPIC/NAME.py"): self._template("right.py"),
            solution: self._solution(solution),
        }
        return files if solution.exists() else files | self._lecture()

    def _path(self, path):
        return self.root / self._fill(path)

    def _fill(self, text):
        any_word = "|".join(map(re.escape, self.words))
        return re.sub(any_word, lambda found: self.words[found[0]], text)

    def _template(self, name):
        return self._fill(_read(_TEMPLATES / name))

    def _appended(self, path, template):
        """A module with a function more, which is what the template has behind its docstring."""
        path, text = self._path(path), self._template(template)
        if path.exists():
            _, gap, function = text.partition("\n\n\n")
            text = _read(path).rstrip("\n") + gap + function
        return {path: text}

    def _listed(self):
        """The topic's list of exercises with one more at its end."""
        path = self._path("dgm_utils/exercises/TOPIC/__init__.py")
        if not path.exists():
            return {path: self._template("topic.py")}
        rows = r"EXERCISES = exercises\(\n(    .*\n)+"
        return {path: self._behind(_read(path), rows, '    "NAME",\n', path)}

    def _solution(self, path):
        made = nbformat.reads(self._template("solution.ipynb"), as_version=4)
        if not path.exists():
            return self._with_hosted(made)
        notebook = nbformat.read(path, as_version=4)
        _cell(notebook, "title", path).source += self._fill(_ONE_MORE)
        ids = [cell.id for cell in notebook.cells]
        # Behind the last exercise: its check, and the picture where there is one.
        last = max(number for number, i in enumerate(ids) if i.endswith("-check"))
        last += ids[last + 1 :][:1] == [ids[last].removesuffix("-check") + "-picture"]
        cells = [cell for cell in made.cells if cell.id.startswith(f"{self.name}-")]
        notebook.cells[last + 1 : last + 1] = cells
        return _text(notebook)

    def _with_hosted(self, notebook):
        """A new notebook, with the cell for hosts without dgm_utils as all others have it."""
        neighbour = nbformat.read(self.neighbour, as_version=4)
        hosted = _cell(neighbour, "hosted", self.neighbour)
        _cell(notebook, "hosted", "the template").source = hosted.source
        return _text(notebook)

    def _lecture(self):
        """The lecture of a new topic and its rows in the lists; if it is there, its assignment."""
        readme, lecture = self._path("lectures/README.md"), self._path("lectures/NN_TOPIC.ipynb")
        text, assignment = _read(readme), self._fill(_ASSIGNMENT)
        if not self.new_lecture:
            row = f"({lecture.name}) | %s |\n"
            if row % "none" not in text:
                raise UserError(f"{readme} has no row for {lecture.name} that ends in none")
            notebook = nbformat.read(lecture, as_version=4)
            _cell(notebook, "title", lecture).source += self._fill(_FOLLOWS)
            text = text.replace(row % "none", row % assignment)
            return {readme: text, lecture: _text(notebook)}
        text = self._behind(text, r"(\| \d+ \| \[.*\n)+", _LECTURE_ROW, readme)
        text = self._behind(text, r"(\| \d+\.\d+ \| .*\n)+", _CLAIM_ROW, readme)
        made = nbformat.reads(self._template("lecture.ipynb"), as_version=4)
        counts = self._path("tests/claims/test_lectures.py")
        counted = self._behind(_read(counts), r"NUM_CLAIMS = \{.*\d(?=\}$)", ", NUMBER: 1", counts)
        return {readme: text, lecture: self._with_hosted(made), counts: counted}

    def _behind(self, text, pattern, more, path):
        """The text with something more behind the first lines of a pattern."""
        found = re.search(f"^{pattern}", text, re.MULTILINE)
        if not found:
            raise UserError(f"{path} has no line {pattern}, behind which goes: {more.strip()}")
        return text[: found.end()] + self._fill(more) + text[found.end() :]


def _text(notebook):
    ids = [cell.id for cell in notebook.cells]
    if twice := [cell_id for cell_id in ids if ids.count(cell_id) > 1]:
        raise UserError(f"the notebook has a cell {twice[0]!r} already: choose another name")
    return nbformat.writes(notebook) + "\n"


def _require_short_lines(root, files):
    """Lines of Python that the formatter leaves alone."""
    for path, text in files.items():
        long = [line for line in text.splitlines() if len(line) > _MAX_LINE]
        if path.suffix == ".py" and long:
            raise UserError(
                f"a line of {path.relative_to(root)} would be longer than {_MAX_LINE}: shorten "
                f"or leave out arguments in {long[0].strip()[:60]!r}"
            )


def _write_all(files):
    """Write every file, or none."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    try:
        for path, text in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except BaseException as error:
        for path, content in before.items():
            with contextlib.suppress(OSError):
                if content is None:
                    path.unlink(missing_ok=True)
                    # Unless something else is in it.
                    path.parent.rmdir()
                elif path.read_bytes() != content:
                    path.write_bytes(content)
        if isinstance(error, OSError):
            raise UserError(f"nothing was written: {error}") from None
        raise
