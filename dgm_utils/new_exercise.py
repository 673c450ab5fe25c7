"""`dgm new-exercise`: write the places of a new exercise, each marked until it is filled.

A place is marked with FILL, and a test of the project fails as long as one is. What is written is
valid and formatted, so that all that is left to do is to think.
"""

import ast
import builtins
import contextlib
import keyword
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import nbformat

from dgm_utils import __version__
from dgm_utils import new_exercise_templates as templates
from nbjudge.errors import UserError

# By these a clone of the repository is told from a course folder that only grades.
_FLOORS = ("dgm_utils/exercises", "tests/exercises", "solutions", "lectures")
_MARK = re.compile(r'\bFILL\b(?:: ([^"\\|\[\]]+))?')
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")
_MAX_LINE = 100
# A cell's id has 64 characters, and a line of code holds a name beside other words.
_MAX_NAME = 40
_SOLUTION_KERNEL = "Python 3 (ipykernel)"
_LECTURE_KERNEL = "Python 3"


@dataclass(frozen=True)
class Place:
    """A place that is still to fill: where, and what goes there; no words if the last one says."""

    path: str
    line: int
    what: str

    def __str__(self):
        return f"{self.path}:{self.line}  {self.what}".rstrip()


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
    _require_names(topic, name, arguments)
    _require_new(root, topic, name)
    files = _Draft(root, topic, name, arguments).files()
    _require_valid(root, files)
    _write_all(files)
    return places(root, topic)


def find_repository(start: Path | str) -> Path:
    """The clone of the repository around a folder.

    Raises:
        UserError: when there is none.

    """
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        if all((folder / floor).is_dir() for floor in _FLOORS):
            return folder
    raise UserError(
        f"{start} is in no clone of the course's repository, where exercises are written: "
        f"there must be {', '.join(_FLOORS)}"
    )


def places(root: Path, topic: str | None = None) -> list[Place]:
    """The places that are still to fill, of one topic or of all, in the order to fill them."""
    found = []
    for path in _paths(root, topic or "*"):
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if topic and path.name == "README.md" and f"_{topic}.ipynb" not in line:
                continue
            for mark in _MARK.finditer(line):
                what = (mark[1] or "").strip(" .:*")
                found.append(Place(str(path.relative_to(root)), number, what))
    return found


def _paths(root, topic):
    """The files in which a topic has its places, in the order in which to fill them."""
    for pattern in (
        f"dgm_utils/{topic}.py",
        f"tests/test_{topic}.py",
        f"dgm_utils/exercises/{topic}.py",
        f"dgm_utils/exercises/{topic}/*.py",
        f"tests/right_answers/{topic}.py",
        f"solutions/{topic}/{topic}.ipynb",
        f"lectures/[0-9]*_{topic}.ipynb",
        "lectures/README.md",
    ):
        # The generator and its test hold the mark without having a place to fill.
        own = (path for path in sorted(root.glob(pattern)) if "new_exercise" not in path.stem)
        yield from own


def _require_names(topic, name, arguments):
    for kind, word in (("topic", topic), ("name", name), *(("argument", a) for a in arguments)):
        if not _IDENTIFIER.fullmatch(word) or keyword.iskeyword(word) or "__" in word:
            raise UserError(
                f"the {kind} {word!r} will not do: it becomes a name in Python, of small letters, "
                "digits and single underscores, a letter first, and no keyword"
            )
        if len(word) > _MAX_NAME:
            raise UserError(
                f"the {kind} {word!r} is longer than {_MAX_NAME} characters: shorten it"
            )
    if hasattr(builtins, name):
        raise UserError(f"{name!r} is a function of Python's own: choose another name")
    if len(set(arguments)) < len(arguments):
        raise UserError(f"an argument is named twice: {', '.join(arguments)}")


def _require_new(root, topic, name):
    """Refuse an exercise that exists in any topic, and a topic whose name is taken."""
    # Right answers of all topics are looked up by the name of the exercise alone.
    folder = root / "dgm_utils" / "exercises"
    having = [path.parent.name for path in folder.glob(f"*/{name}.py")]
    having += [path.stem for path in folder.glob("*.py") if f"_{name}" in _bound(path)]
    if having:
        raise UserError(f"{having[0]} has an exercise {name!r} already: choose another name")
    files = [path for path in _paths(root, topic) if path.parent != root / "lectures"]
    if (root / "dgm_utils" / topic).exists() or 0 < len({path.parent for path in files}) < 5:
        taken = [str(path.relative_to(root)) for path in files] or [f"dgm_utils/{topic}/"]
        raise UserError(
            f"{', '.join(taken)} exists, but the other files of a topic {topic!r} do not: "
            "choose another topic"
        )
    names = {name, f"test_{name}", f"_{name}_cases", f"_{name}_is_exact", f"{name}_wrong"}
    names |= {f"{name}_in_a_loop", f"{name}_from_torch", f"{name}_rearranged"}
    for path in files:
        if path.suffix != ".py":
            continue
        if taken := sorted(names & _bound(path)):
            where = path.relative_to(root)
            raise UserError(f"{where} has a {taken[0]!r} already: choose another name")
    reserved = {"check"}
    if files:
        notebook = nbformat.read(files[-1], as_version=4)
        reserved |= _bound_in(_cell(notebook, "imports", files[-1]).source)
    if name in reserved:
        raise UserError(f"the notebook imports {name!r} from elsewhere: choose another name")


def _bound(path):
    return _bound_in(path.read_text(encoding="utf-8"))


def _bound_in(source):
    """The names that a module binds: functions, classes, imports, assignments."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            bound = (n for target in node.targets for n in ast.walk(target))
            names |= {n.id for n in bound if isinstance(n, ast.Name)}
    return names


def _cell(notebook, cell_id, path):
    for cell in notebook.cells:
        if cell.id == cell_id:
            return cell
    raise UserError(f"{path} has no cell {cell_id!r}, which every notebook here has")


class _Draft:
    """The texts of all files that a new exercise touches, made in memory."""

    def __init__(self, root, topic, name, arguments):
        self.root, self.topic, self.name = root, topic, name
        lectures = sorted(root.glob("lectures/[0-9]*_*.ipynb"))
        own = [path for path in lectures if path.stem.partition("_")[2] == topic]
        self.new_lecture = not own
        number = int((own or lectures)[-1].stem.partition("_")[0]) + self.new_lecture
        self.lecture = root / "lectures" / f"{number:02d}_{topic}.ipynb"
        draws = ", ".join(["draw.normal(size)"] * len(arguments))
        self.words = {
            "topic": topic,
            "name": name,
            "arguments": ", ".join(arguments),
            "first": arguments[0] if arguments else "",
            "draws": draws + "," * (len(arguments) == 1),
            "rule": "-" * (_MAX_LINE - len(f"# --- {name} ")),
            "reference": topic,
            "number": number,
            "lecture": f"{number:02d}",
            "lecture_file": self.lecture.name,
            "version": __version__,
        }

    def files(self):
        """Path → new text, of every file that changes."""
        topic = self.topic
        files = {
            self.root / f"dgm_utils/{topic}.py": self._module(
                f"dgm_utils/{topic}.py", templates.REFERENCE_MODULE, templates.REFERENCE
            ),
            self.root / f"tests/test_{topic}.py": self._module(
                f"tests/test_{topic}.py", templates.TEST_MODULE, templates.TEST
            ),
            **self._exercises(),
            self.root / f"tests/right_answers/{topic}.py": self._right_answers(),
        }
        solution = self.root / "solutions" / topic / f"{topic}.ipynb"
        new_topic = not solution.exists()
        files[solution] = self._solution(solution)
        if new_topic:
            files |= self._lecture()
        return files

    def _fill(self, template, **more):
        return Template(template).substitute(self.words | more)

    def _module(self, name, module, addition):
        path = self.root / name
        text = path.read_text(encoding="utf-8") if path.exists() else self._fill(module)
        return text + self._fill(addition)

    def _exercises(self):
        """The exercise: a page in the topic's folder, or a section where the topic is a module."""
        module = self.root / f"dgm_utils/exercises/{self.topic}.py"
        numbers = range(1, 6)
        if module.exists():
            text = module.read_text(encoding="utf-8")
            wrong = [self._fill(templates.MISCONCEPTION, number=number) for number in numbers]
            alias = _alias(text, self.topic, module)
            section = self._fill(templates.EXERCISE, wrong="".join(wrong), reference=alias)
            return {module: _insert(text, module, "EXERCISES", section, f"    _{self.name},\n")}
        table = module.with_suffix("") / "__init__.py"
        wrong = [self._fill(templates.WRONG, number=number) for number in numbers]
        page = self._fill(templates.PAGE) + "".join(wrong)
        if not table.exists():
            return {table.with_name(f"{self.name}.py"): page, table: self._fill(templates.PAGES)}
        text = table.read_text(encoding="utf-8")
        text = _insert(text, table, "EXERCISES", "", f'    "{self.name}",\n')
        return {table.with_name(f"{self.name}.py"): page, table: text}

    def _right_answers(self):
        path = self.root / f"tests/right_answers/{self.topic}.py"
        answers, entry = self._fill(templates.RIGHT), self._fill(templates.RIGHT_ENTRY)
        if not path.exists():
            return templates.RIGHT_MODULE + answers + "RIGHT = {\n" + entry + "}\n"
        return _insert(path.read_text(encoding="utf-8"), path, "RIGHT", answers, entry)

    def _solution(self, path):
        cells = [
            _locked("markdown", f"{self.name}-card", self._fill(templates.CARD)),
            _own("code", f"{self.name}-solution", self._fill(templates.SOLUTION)),
            _locked(
                "code", f"{self.name}-check", self._fill(templates.CHECK), grade=True, points=1
            ),
        ]
        if path.exists():
            notebook = nbformat.read(path, as_version=4)
            _cell(notebook, "title", path).source += self._fill(templates.TITLE_OF_MORE)
            ids = [cell.id for cell in notebook.cells]
            # Behind the last exercise: its check, and the picture where there is one.
            last = max(number for number, i in enumerate(ids) if i.endswith("-check"))
            last += ids[last + 1 :][:1] == [ids[last].removesuffix("-check") + "-picture"]
            notebook.cells[last + 1 : last + 1] = cells
            return nbformat.writes(notebook) + "\n"
        before = [
            _cell_of("markdown", "title", self._fill(templates.TITLE)),
            _cell_of("markdown", "notation", self._fill(templates.NOTATION)),
            _cell_of("markdown", "recap", self._fill(templates.RECAP)),
            self._hosted("solutions/*/*.ipynb"),
            _locked("code", "imports", self._fill(templates.IMPORTS)),
        ]
        after = [
            _locked("markdown", "proof-card", templates.PROOF_CARD),
            _own("markdown", "proof", templates.PROOF, grade=True, points=3),
            _cell_of("markdown", "closing", templates.CLOSING),
        ]
        return _notebook([*before, *cells, *after], _SOLUTION_KERNEL)

    def _hosted(self, pattern):
        """The cell for hosts without dgm_utils, the same in all notebooks: a neighbour's."""
        neighbour = min(self.root.glob(pattern))
        cell = _cell(nbformat.read(neighbour, as_version=4), "hosted", neighbour)
        cell.execution_count = None
        return cell

    def _lecture(self):
        """The lecture of a new topic and its rows in the lists; if it is there, its assignment."""
        readme = self.root / "lectures" / "README.md"
        text = readme.read_text(encoding="utf-8")
        assignment = self._fill(templates.ASSIGNMENT)
        if not self.new_lecture:
            row = re.compile(rf"(?m)^(\| .*\({self.lecture.name}\) \| )none( \|)$")
            text, found = row.subn(lambda m: m[1] + assignment + m[2], text)
            if not found:
                raise UserError(f"{readme} has no row for {self.lecture.name} that ends in none")
            notebook = nbformat.read(self.lecture, as_version=4)
            _cell(notebook, "title", self.lecture).source += self._fill(templates.FOLLOWS)
            return {readme: text, self.lecture: nbformat.writes(notebook) + "\n"}
        number = self.words["number"]
        row = self._fill(templates.LECTURE_ROW, assignment=assignment)
        text = _after_last(text, r"\| \d+ \| \[.*\n", row, readme)
        text = _after_last(text, r"\| \d+\.\d+ \| .*\n", self._fill(templates.CLAIM_ROW), readme)
        counts = self.root / "tests" / "test_lectures.py"
        counted, found = re.subn(
            r"(?m)^(NUM_CLAIMS = \{.*)\}$",
            rf"\g<1>, {number}: 1}}",
            counts.read_text(encoding="utf-8"),
        )
        if not found:
            raise UserError(f"{counts} has no line NUM_CLAIMS = {{…}}, which counts the claims")
        cells = [
            _cell_of("markdown", "title", self._fill(templates.LECTURE_TITLE)),
            self._hosted("lectures/[0-9]*.ipynb"),
            _cell_of("code", "imports", self._fill(templates.LECTURE_IMPORTS)),
            _cell_of("markdown", f"claim-{number}-1", self._fill(templates.CLAIM)),
            _cell_of("code", f"numbers-{number}-1", self._fill(templates.CLAIM_NUMBERS)),
            _cell_of("markdown", "summary", self._fill(templates.SUMMARY)),
        ]
        return {readme: text, self.lecture: _notebook(cells, _LECTURE_KERNEL), counts: counted}


def _insert(text, path, table, before, entry):
    """Put a section in front of the assignment to `table`, and an entry at its end."""
    lines = text.splitlines(keepends=True)
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == table:
            first, last = node.lineno - 1, node.end_lineno - 1
            if first == last:
                # One exercise so far: `EXERCISES = (_first,)`.
                opened, inner, closing = re.split(r"(?<=[({])(.*)(?=[)}])", lines[last])
                lines[last : last + 1] = [opened + "\n", f"    {inner}\n", closing]
                last += 2
            lines[last:last] = [entry]
            lines[first:first] = [before]
            return "".join(lines)
    raise UserError(f"{path} has no {table}, where the exercise belongs")


def _alias(text, topic, path):
    """The name under which the exercises know the topic's module."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom) and node.module == "dgm_utils":
            for alias in node.names:
                if alias.name == topic:
                    return alias.asname or topic
    raise UserError(f"{path} does not import dgm_utils.{topic}, where the reference is")


def _after_last(text, pattern, row, path):
    """Put a row under the last one that looks like it."""
    ends = [match.end() for match in re.finditer(rf"(?m)^{pattern}", text)]
    if not ends:
        raise UserError(f"{path} has no table whose rows look like {row.strip()!r}")
    return text[: ends[-1]] + row + text[ends[-1] :]


def _notebook(cells, kernel):
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.nbformat_minor = 5
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": kernel, "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return nbformat.writes(notebook) + "\n"


def _cell_of(kind, cell_id, source, **nbgrader):
    make = nbformat.v4.new_markdown_cell if kind == "markdown" else nbformat.v4.new_code_cell
    return make(source, id=cell_id, metadata={"nbgrader": nbgrader} if nbgrader else {})


def _locked(kind, cell_id, source, **more):
    """A cell that a student cannot change, a check among them."""
    nbgrader = {"grade": False, "grade_id": cell_id, "locked": True, "schema_version": 3}
    return _cell_of(kind, cell_id, source, **(nbgrader | {"solution": False, "task": False} | more))


def _own(kind, cell_id, source, **more):
    """A cell that a student writes; it holds the instructor's answer."""
    return _locked(kind, cell_id, source, locked=False, solution=True, **more)


def _require_valid(root, files):
    """Python that parses, in lines that the formatter leaves alone."""
    for path, text in files.items():
        if path.suffix != ".py":
            continue
        ast.parse(text)
        if long := [line for line in text.splitlines() if len(line) > _MAX_LINE]:
            raise UserError(
                f"a line of {path.relative_to(root)} would be longer than {_MAX_LINE}: shorten "
                f"or leave out arguments in {long[0].strip()[:60]!r}"
            )


def _write_all(files):
    """Write every file, or none."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    made = []
    try:
        for path, text in files.items():
            if not path.parent.exists():
                path.parent.mkdir()
                made.append(path.parent)
            path.write_text(text, encoding="utf-8")
    except BaseException as error:
        for path, content in before.items():
            with contextlib.suppress(OSError):
                if content is None:
                    path.unlink(missing_ok=True)
                elif path.read_bytes() != content:
                    path.write_bytes(content)
        for folder in made:
            folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"nothing was written: {error}") from None
        raise
