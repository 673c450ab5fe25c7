"""Mend a submitted notebook: every cell that grading needs stands in it once, in its place.

Jupyter lets a student copy, split, delete and move cells, and other editors drop what nbgrader
wrote beside them. What the student wrote is kept; no code is run and nothing is judged here.
"""

import ast
import copy
import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import nbformat
from nbformat import NotebookNode

MENDED_ID = "mended-before-grading"
_HEADING = "**This notebook was mended before grading.**"

# So many cells are named in a sentence.
_LISTED = 8
_BINDING = re.compile(r"^(?:async )?(?:def|class) +(\w+)|^(\w+) *=(?!=)", re.MULTILINE)
# What nbgrader writes of a cell for grading; the rest (checksums) it renews itself.
_MARKS = ("grade", "grade_id", "locked", "solution", "task", "points", "schema_version")


class ForeignNotebookError(ValueError):
    """A notebook that is not of the assignment at all."""


def mend(notebook: NotebookNode, release: NotebookNode) -> list[str]:
    """Give a submitted notebook back what was lost of the released one, and drop what is double.

    Args:
        notebook: as submitted, of nbformat 4; it is changed.
        release: the students' version of the assignment.

    Returns:
        A sentence for each kind of thing that was mended; none for a notebook that was in order.

    Raises:
        ForeignNotebookError: when it holds no cell that counts; then there is nothing to mend.

    """
    said = _tidy(notebook)
    targets = _targets(release)
    copies = _claims(notebook.cells, targets)
    if not _count(targets, copies):
        raise ForeignNotebookError("it holds none of the checks and answers of the assignment")
    kept = _choose(notebook, targets, copies, said)
    _mark(notebook, targets, kept, said)
    _place(notebook, targets, kept, said)
    return said


def held(notebook: NotebookNode, release: NotebookNode) -> int:
    """How many of the released notebook's checks and answers a submitted notebook has."""
    notebook = copy.deepcopy(notebook)
    _tidy(notebook)
    targets = _targets(release)
    copies = _claims(notebook.cells, targets)
    return _count(targets, copies)


def _count(targets, copies):
    return sum(bool(copies[target.key]) for target in targets if target.counts)


def note(sentences: Iterable[str]) -> NotebookNode:
    """The cell that tells student and instructor what was mended."""
    lines = [_HEADING, "", *(f"- {sentence}" for sentence in sentences)]
    return nbformat.v4.new_markdown_cell("\n".join(lines), id=MENDED_ID)


def mended(notebook: NotebookNode) -> list[str]:
    """The sentences that `note` left in a graded notebook."""
    sources = [cell.source for cell in notebook.cells if cell.get("id") == MENDED_ID]
    lines = "\n".join(sources).splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


@dataclass
class _Target:
    """A cell of the released notebook.

    Args:
        cell: as released.
        number: its place.
        check: number of the graded cell that comes next, which is the check of a solution.
        names: what a solution defines.

    """

    cell: NotebookNode
    number: int
    check: int | None = None
    names: frozenset[str] = field(default_factory=frozenset)

    @property
    def key(self):
        return self.cell.id

    @property
    def marks(self):
        return self.cell.metadata.get("nbgrader", {})

    @property
    def known(self):
        """Whether nbgrader knows it; the others are text and pictures that may go."""
        return bool(self.marks.get("grade_id"))

    @property
    def locked(self):
        return self.known and bool(self.marks.get("locked"))

    @property
    def answer(self):
        return self.known and bool(self.marks.get("solution"))

    @property
    def written(self):
        return self.answer and not self.code

    @property
    def is_check(self):
        return self.locked and self.code and bool(self.marks.get("grade"))

    @property
    def counts(self):
        return self.answer or bool(self.marks.get("grade"))

    @property
    def code(self):
        return self.cell.cell_type == "code"

    def is_unchanged(self, cell):
        return _text(cell) == _text(self.cell)


def _targets(release):
    targets = [_Target(cell, number) for number, cell in enumerate(release.cells)]
    check = None
    for target in reversed(targets):
        if target.answer and target.code and not target.marks.get("grade"):
            target.check, target.names = check, _bound(target.cell.source)
        elif target.known and target.marks.get("grade"):
            check = target.number
    return targets


def _tidy(notebook):
    """Give each cell an id of its own, as nbformat 4.5 wants."""
    said = []
    if notebook.metadata.get("orig_nbformat"):
        said.append(
            "The notebook was saved in an old format, from before nbformat 4; it was converted."
        )
    notebook.nbformat, notebook.nbformat_minor = 4, max(notebook.get("nbformat_minor", 5), 5)
    taken, repeated = {MENDED_ID}, False
    for cell in notebook.cells:
        cell.setdefault("metadata", NotebookNode())
        own = cell.get("id")
        usable = isinstance(own, str) and re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", own)
        if not usable or own in taken:
            repeated |= bool(usable)
            # Marked as free until all cells that have an id of their own are known.
            cell.id = ""
        else:
            taken.add(own)
    for cell in notebook.cells:
        cell.id = cell.id or _free_id(taken)
    if repeated:
        said.append("Cells that shared an id got ids of their own.")
    return said


def _free_id(taken):
    number = len(taken)
    while f"cell-{number}" in taken:
        number += 1
    taken.add(f"cell-{number}")
    return f"cell-{number}"


def _claims(cells, targets) -> dict[str, list[NotebookNode]]:
    """Id of each released cell → the submitted cells that are it or copies of it."""
    copies = {target.key: [] for target in targets}
    positions = {cell.id: position for position, cell in enumerate(cells)}
    by_grade_id = {target.marks["grade_id"]: target for target in targets if target.known}
    free = {}
    for cell in cells:
        if target := by_grade_id.get(_grade_id(cell)):
            copies[target.key].append(cell)
        else:
            free[cell.id] = cell

    def claim(target, found):
        for cell in found:
            copies[target.key].append(free.pop(cell.id))

    unmarked = [target for target in targets if not copies[target.key]]
    for target in unmarked:
        if target.key in free:
            claim(target, [free[target.key]])
    by_text: dict[tuple, list[NotebookNode]] = {}
    for cell in free.values():
        by_text.setdefault(_text(cell), []).append(cell)
    for target in unmarked:
        # Stubs do not count: those of written answers are all alike, and one of a function may
        # stand beside the answer.
        if not copies[target.key] and not target.answer:
            claim(target, [c for c in by_text.get(_text(target.cell), ()) if c.id in free])
        if not copies[target.key] and target.is_check:
            # The call stands, with something of the student's behind it.
            claim(target, [c for c in free.values() if _opening(c) == _opening(target.cell)][:1])
    if any(target.names for target in unmarked):
        bound = {cell.id: _bound(cell.source) for cell in free.values() if _is_code(cell)}
        for target in unmarked:
            # A cell with several definitions goes to the first; see `_restored` for the others.
            claim(target, [free[i] for i in bound if i in free and bound[i] & target.names])
    for target in targets:
        if target.written and not copies[target.key]:
            claim(target, _in_its_gap(cells, positions, target, targets, copies, free)[:1])
    for found in copies.values():
        found.sort(key=lambda cell: positions[cell.id])
    return copies


def _in_its_gap(cells, positions, target, targets, copies, free):
    """Texts between the released cells that come before and after a written answer."""
    at = {t.number: [positions[cell.id] for cell in copies[t.key]] for t in targets}
    if not at.get(target.number - 1) and not at.get(target.number + 1):
        return []
    before = [max(at[number]) for number in range(target.number) if at[number]][-1:] or [-1]
    after = [min(at[n]) for n in range(target.number + 1, len(targets)) if at[n]][:1]
    gap = cells[before[0] + 1 : after[0] if after else len(cells)]
    return [c for c in gap if c.id in free and c.cell_type == "markdown" and c.source.strip()]


def _choose(notebook, targets, copies, said) -> dict[str, NotebookNode]:
    """Keep one copy of each cell; the others go, or stay as plain cells if they hold work."""
    positions = {cell.id: position for position, cell in enumerate(notebook.cells)}
    kept, dropped, dropped_names, plain_names = {}, set(), [], []
    solution = {target.check: target for target in targets if target.check is not None}
    for target in targets:
        found = copies[target.key]
        if not found:
            continue
        if target.answer:
            limit = max(
                (positions[c.id] for c in copies[targets[target.check].key])
                if target.check is not None
                else (),
                default=len(positions),
            )
            best = _best_answer(found, target, positions, limit)
        else:
            # A check comes after what it checks, which was chosen before it.
            answer = kept.get(solution[target.number].key) if target.number in solution else None
            start = positions[answer.id] if answer else -1
            best = next((c for c in found if positions[c.id] > start), found[-1])
        kept[target.key] = best
        if not target.known:
            continue
        for cell in found:
            if cell.id == best.id:
                continue
            double = target.locked or target.is_unchanged(cell) or cell.source == best.source
            if double:
                dropped.add(cell.id)
                dropped_names.append(_name(target))
            else:
                _unmark(cell)
                plain_names.append(_name(target))
    notebook.cells = [cell for cell in notebook.cells if cell.id not in dropped]
    if dropped_names:
        said.append(f"Stood more than once, and copies removed: {_listed(dropped_names)}.")
    if plain_names:
        said.append(
            "Answered in several cells; the last before the check is the answer, and the others "
            f"stay as plain cells: {_listed(plain_names)}."
        )
    return kept


def _best_answer(found, target, positions, limit):
    """Of several copies, what the check met when the notebook was run from top to bottom."""
    changed = [cell for cell in found if not target.is_unchanged(cell)]
    defining = [cell for cell in changed if not target.names or _bound(cell.source) & target.names]
    in_time = [cell for cell in defining if positions[cell.id] < limit]
    choice = in_time or defining or changed
    return choice[-1] if choice else found[0]


def _mark(notebook, targets, kept, said):
    """Write nbgrader's metadata as it was released; take it from all other cells."""
    stripped, altered, turned, strange = [], [], [], False
    owner = {kept[target.key].id: target for target in targets if target.key in kept}
    for index, cell in enumerate(notebook.cells):
        target = owner.get(cell.id)
        if target is None or not target.known:
            strange |= _grade_id(cell) is not None
            _unmark(cell)
            continue
        marks = cell.metadata.get("nbgrader")
        if _grade_id(cell) is None:
            stripped.append(_name(target))
        elif [marks.get(mark) for mark in _MARKS] != [target.marks.get(m) for m in _MARKS]:
            altered.append(_name(target))
        if cell.cell_type != target.cell.cell_type:
            turned.append(_name(target))
            cell = kept[target.key] = notebook.cells[index] = _new_cell(
                target, cell.source, cell.id, cell.metadata
            )
        for name in ("deletable", "editable"):
            cell.metadata.pop(name, None)
        cell.metadata.update(copy.deepcopy(target.cell.metadata))
    if stripped:
        said.append(
            f"Without nbgrader's metadata, and recognized by id or text: {_listed(stripped)}."
        )
    if altered:
        said.append(f"Grading metadata changed, and set back: {_listed(altered)}.")
    if turned:
        said.append(f"Changed from code to text or back, and set back: {_listed(turned)}.")
    if strange:
        said.append("Grading metadata of another assignment was removed.")
    # An id that a plain cell has in the place of the released one goes to its owner.
    taken = {cell.id for cell in notebook.cells} | {target.key for target in targets}
    keep = {cell.id: key for key, cell in kept.items()}
    for cell in notebook.cells:
        if cell.id in keep:
            cell.id = keep[cell.id]
        elif cell.id in kept:
            cell.id = _free_id(taken)


def _place(notebook, targets, kept, said):
    """Put back what is missing, and what stands where it cannot be run."""
    order = [target.key for target in targets]
    present = [cell.id for cell in notebook.cells if cell.id in kept]
    blocks = difflib.SequenceMatcher(None, order, present, autojunk=False).get_matching_blocks()
    fixed = {order[block.a + i] for block in blocks for i in range(block.size)}
    rank = {key: position for position, key in enumerate(present)}
    missing, moved, restored = [], [], {}
    for target in targets:
        if not target.known or target.key in fixed:
            continue
        if target.key not in kept:
            missing.append(_name(target))
            restored[target.key] = _restored(target, notebook.cells)
        elif target.locked or _is_late(target, targets, fixed, rank):
            # An answer that stands earlier than released works; it is left there.
            moved.append(_name(target))
            restored[target.key] = kept[target.key]
    cells = [cell for cell in notebook.cells if cell.id not in restored]
    at = {cell.id: position for position, cell in enumerate(cells)}
    # Before what comes next, so that what the student added between is run first.
    before: dict[int, list[NotebookNode]] = {}
    place = len(cells)
    for target in reversed(targets):
        if target.key in restored:
            before.setdefault(place, []).insert(0, restored[target.key])
        elif target.key in fixed:
            place = at[target.key]
    notebook.cells = [
        cell
        for position in range(len(cells) + 1)
        for cell in (*before.get(position, ()), *cells[position : position + 1])
    ]
    if missing:
        said.append(f"Missing, and added back as released: {_listed(missing)}.")
    if moved:
        said.append(f"In the wrong place, and put back: {_listed(moved)}.")


def _is_late(target, targets, fixed, rank):
    """Whether an answer stands behind its check, or behind where the check will be put."""
    if target.check is None:
        return False
    behind = [rank[t.key] for t in targets[target.check :] if t.key in fixed][:1]
    return bool(behind) and rank[target.key] > behind[0]


def _restored(target, cells):
    """A released cell again; a stub must not undo an answer that stands elsewhere."""
    cell = copy.deepcopy(target.cell)
    if any(_bound(other.source) & target.names for other in cells if _is_code(other)):
        cell.source = f"# This cell was missing; {_name(target)} is answered in another cell."
    return cell


def _new_cell(target, source, cell_id, metadata):
    new = nbformat.v4.new_code_cell if target.code else nbformat.v4.new_markdown_cell
    return new(source, id=cell_id, metadata=metadata)


def _unmark(cell):
    for name in ("nbgrader", "deletable", "editable"):
        cell.metadata.pop(name, None)


def _grade_id(cell):
    marks = cell.metadata.get("nbgrader")
    found = marks.get("grade_id") if isinstance(marks, dict) else None
    return found if isinstance(found, str) else None


def _is_code(cell):
    return cell.cell_type == "code"


def _text(cell):
    """What two cells have in common that differ in white space only."""
    return cell.cell_type, " ".join(cell.source.split())


def _opening(cell):
    """The first line of a cell, without a comment."""
    return cell.cell_type, cell.source.lstrip().partition("\n")[0].partition("#")[0].strip()


def _bound(source) -> frozenset[str]:
    """Names that a cell defines, assigns or imports at its top level."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Half of a function, or a line for IPython.
        return frozenset(name for found in _BINDING.findall(source) for name in found if name)
    names = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            of = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {name.id for name in of if isinstance(name, ast.Name)}
    return frozenset(names)


def _name(target):
    return f"`{target.marks['grade_id']}`"


def _listed(names):
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
