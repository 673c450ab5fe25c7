"""Mend a submitted notebook: every cell that grading needs stands in it once, in its place.

Jupyter lets a student copy, split, delete and move cells, and other editors drop what nbgrader
wrote beside them. What the student wrote is kept; no code is run and nothing is judged here.
"""

import ast
import copy
import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbgrader.utils import compute_checksum

from nbjudge.submissions import written
from nbjudge.submissions.definitions import Definitions, bound, parsed, unfenced

MENDED_ID = "mended-before-grading"
_HEADING = "**This notebook was mended before grading.**"

# So many cells are named in a sentence.
_LISTED = 8
# Cells of an answer in words, in place of the one that was meant for it.
_MOST_AROUND = 200
# Cells of one function, split by accident.
_MOST_PARTS = 10
# In characters: no released cell is as long.
_LONG = 50_000
_ELSEWHERE = "# {} is answered in another cell."
# What nbgrader writes of a cell for grading; the rest (checksums) it renews itself.
_MARKS = ("grade", "grade_id", "locked", "solution", "task", "points", "schema_version")


class ForeignNotebookError(ValueError):
    """A notebook that is not of the assignment at all."""


def mend(notebook: NotebookNode, release: NotebookNode, files: Iterable[str] = ()) -> list[str]:
    """Give a submitted notebook back what was lost of the released one, and drop what is double.

    Args:
        notebook: as submitted, of nbformat 4; it is changed.
        release: the students' version of the assignment.
        files: names of documents that were handed in beside it.

    Returns:
        A sentence for each kind of thing that was mended; none for a notebook that was in order.

    Raises:
        ForeignNotebookError: when it holds no cell that counts; then there is nothing to mend.

    """
    said = _tidy(notebook)
    targets = _targets(release)
    defined = _definitions(targets)
    copies = _claims(notebook.cells, targets, defined)
    if not _count(targets, copies):
        raise ForeignNotebookError("it holds none of the checks and answers of the assignment")
    pictures = written.attached(notebook.cells)
    kept = _choose(notebook, targets, copies, defined, said)
    _take_additions(notebook, targets, kept, said)
    _gather(notebook, targets, kept, said)
    _mark(notebook, targets, kept, said)
    _place(notebook, targets, kept, defined, said)
    _complete(targets, kept, pictures, said)
    _let_wait(notebook, targets, list(files), said)
    return said


def held(notebook: NotebookNode, release: NotebookNode) -> int:
    """How many of the released notebook's checks and answers a submitted notebook has."""
    targets = _targets(release)
    return _count(targets, _untouched_claims(notebook, targets))


def answered(notebook: NotebookNode, release: NotebookNode) -> int:
    """How many answers of a submitted notebook are no longer as they were released."""
    targets = _targets(release)
    copies = _untouched_claims(notebook, targets)
    return sum(t.answer and not all(map(t.is_unchanged, copies[t.key])) for t in targets)


def _untouched_claims(notebook, targets):
    """What `_claims` finds in a notebook that stays as it is."""
    notebook = NotebookNode(cells=[copy.copy(cell) for cell in notebook.cells], metadata={})
    _tidy(notebook)
    return _claims(notebook.cells, targets, _definitions(targets))


def _definitions(targets):
    return Definitions(name for target in targets for name in target.names)


def _count(targets, copies):
    return sum(bool(copies[target.key]) for target in targets if target.counts)


def note(sentences: Iterable[str]) -> NotebookNode:
    """The cell that tells student and instructor what was mended."""
    lines = [_HEADING, "", *(f"- {sentence}" for sentence in sentences)]
    return _cell("markdown", "\n".join(lines), MENDED_ID)


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

    @functools.cached_property
    def text(self):
        return _text(self.cell)

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
        # White space alone does not make a cell ten times as long.
        longest = 10 * (len(self.cell.source) + 100)
        return len(cell.source) < longest and _text(cell) == self.text


def _targets(release):
    targets = [_Target(cell, number) for number, cell in enumerate(release.cells)]
    check = None
    for target in reversed(targets):
        if target.answer and target.code and not target.marks.get("grade"):
            target.check, target.names = check, bound(parsed(target.cell.source))
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
    free = _free_ids(taken)
    for cell in notebook.cells:
        cell.id = cell.id or next(free)
    if repeated:
        said.append("Cells that shared an id got ids of their own.")
    return said


def _free_ids(taken) -> Iterator[str]:
    """Ids that no cell has."""
    names = (f"cell-{number}" for number in itertools.count(1))
    return (name for name in names if name not in taken)


def _claims(cells, targets, defined) -> dict[str, list[NotebookNode]]:
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
            if cell.id in free:
                copies[target.key].append(free.pop(cell.id))

    unmarked = [target for target in targets if not copies[target.key]]
    for target in unmarked:
        if target.key in free:
            claim(target, [free[target.key]])
    by_text: dict[tuple, list[NotebookNode]] = {}
    by_opening: dict[tuple, list[NotebookNode]] = {}
    for cell in free.values() if unmarked else ():
        by_text.setdefault(_text(cell), []).append(cell)
        by_opening.setdefault(_opening(cell), []).append(cell)
    for target in unmarked:
        # Stubs do not count: those of written answers are all alike, and one of a function may
        # stand beside the answer.
        if not copies[target.key] and not target.answer:
            claim(target, by_text.get(target.text, ()))
        if not copies[target.key] and target.is_check:
            # The call stands, with something of the student's behind it.
            claim(
                target, [c for c in by_opening.get(_opening(target.cell), ()) if c.id in free][:1]
            )
    # A stub that was left as it is, and the function in a cell of its own, is an answer as well.
    open_ = [t for t in targets if t.names and all(map(t.is_unchanged, copies[t.key]))]
    by_name: dict[str, list[NotebookNode]] = {}
    for cell in free.values() if open_ else ():
        # A cell may have been turned into text.
        for name in defined.of(unfenced(cell.source), _is_code(cell)):
            by_name.setdefault(name, []).append(cell)
    for target in open_:
        # A cell with several definitions goes to the first; see `_restored` for the others.
        claim(target, [c for name in sorted(target.names) for c in by_name.get(name, ())])
    owner = _owners(targets, copies)
    for target in targets:
        if target.written and not copies[target.key]:
            claim(target, filter(written.may_be_words, _around(cells, target, owner)))
    for found in copies.values():
        found.sort(key=lambda cell: positions[cell.id])
    return copies


def _owners(targets, copies):
    """Id of each submitted cell that was released → number of the released one."""
    return {cell.id: target.number for target in targets for cell in copies.get(target.key, ())}


def _around(cells, target, owner):
    """Cells of the student's own that stand beside a released one, or where it would stand.

    None, if neither it nor a neighbour is there: then nobody knows where that is.
    """
    at: dict[int, list[int]] = {}
    for position, cell in enumerate(cells):
        if cell.id in owner:
            at.setdefault(owner[cell.id], []).append(position)
    number = target.number
    if not {number - 1, number, number + 1} & at.keys():
        return []
    before = max((n for n in at if n < number), default=None)
    after = min((n for n in at if n > number), default=None)
    start = 0 if before is None else max(at[before]) + 1
    stop = len(cells) if after is None else min(at[after])
    found = (cell for cell in cells[start:stop] if cell.id not in owner)
    return list(itertools.islice(found, _MOST_AROUND))


def _choose(notebook, targets, copies, defined, said) -> dict[str, NotebookNode]:
    """Keep one copy of each cell; the others go, or stay if they hold work.

    Those of an answer in words are joined; those of a function stay as plain cells.
    """
    positions = {cell.id: position for position, cell in enumerate(notebook.cells)}
    kept, dropped, dropped_names, plain_names, joined = {}, set(), [], [], []
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
            best = _best_answer(found, target, positions, limit, defined)
        else:
            # A check comes after what it checks, which was chosen before it.
            answer = kept.get(solution[target.number].key) if target.number in solution else None
            start = positions[answer.id] if answer else -1
            best = next((c for c in found if positions[c.id] > start), found[-1])
        kept[target.key] = best
        if not target.known:
            continue
        others = [cell for cell in found if cell is not best]
        parts = {cell.source: cell for cell in found if not target.is_unchanged(cell)}
        if target.written and len(parts) > 1:
            written.move_into(best, parts.values())
            dropped |= {cell.id for cell in others}
            joined.append(_name(target))
            continue
        whole = _whole(target, parts)
        if whole:
            best.source = whole
            dropped |= {cell.id for cell in others}
            joined.append(_name(target))
            continue
        source = best.source
        for cell in others:
            if target.locked or target.is_unchanged(cell) or cell.source == source:
                written.adopt(best, cell)
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
    if joined:
        said.append(f"Answered in several cells, which were joined: {_listed(joined)}.")
    return kept


def _whole(target, parts):
    """A function that Jupyter has split where it is none any more; empty if that is not so."""
    if not target.names or not 2 <= len(parts) <= _MOST_PARTS or all(map(parsed, parts)):
        return ""
    source = "\n".join(parts)
    return source if bound(parsed(source)) & target.names else ""


def _best_answer(found, target, positions, limit, defined):
    """Of several copies, what the check met when the notebook was run from top to bottom."""
    changed = [cell for cell in found if not target.is_unchanged(cell)]
    names = target.names
    defining = [cell for cell in changed if not names or defined.of(cell.source) & names]
    in_time = [cell for cell in defining if positions[cell.id] < limit]
    choice = in_time or defining or changed
    return choice[-1] if choice else found[0]


def _take_additions(notebook, targets, kept, said):
    """Keep in cells of their own what a student wrote into locked ones, which become as released.

    An editor other than Jupyter lets one add imports, or an answer below its task.
    """
    added, before, after = [], {}, {}
    free = _free_ids({cell.id for cell in notebook.cells} | {target.key for target in targets})
    for target in targets:
        cell = kept.get(target.key)
        if cell is None or not target.locked:
            continue
        pictures = cell.pop("attachments", None)
        addition = "" if _is_as_once_released(target, cell) else _addition(target, cell.source)
        if addition or pictures:
            own = _cell(
                "code" if target.code and addition else "markdown", addition or "", next(free)
            )
            written.adopt(own, {"attachments": pictures})
            written.show_all(own)
            # What was added to a check is run before it, as a function must be.
            (before if target.is_check else after)[cell.id] = own
            added.append(_name(target))
        cell.source = target.cell.source
    if before or after:
        groups = ((before.get(c.id), c, after.get(c.id)) for c in notebook.cells)
        notebook.cells = [cell for group in groups for cell in group if cell is not None]
    if added:
        said.append(f"Added to locked cells, and kept in cells of its own: {_listed(added)}.")


def _is_as_once_released(target, cell):
    """Whether a locked cell is as it was released, now or earlier; nbgrader left a checksum."""
    marks = cell.metadata.get("nbgrader")
    if _text(cell)[1] == target.text[1]:
        return True
    if target.cell.source.strip() in cell.source:
        return False
    try:
        # Without a checksum it cannot be told.
        return "checksum" not in marks or marks["checksum"] == compute_checksum(cell)
    except (LookupError, TypeError, ValueError):
        return "checksum" not in (marks or ())


def _addition(target, source):
    """What stands in a locked cell besides what was released."""
    released = target.cell.source.strip()
    if released in source:
        rest = source.replace(released, "", 1)
    elif target.code or len(source) > _LONG:
        rest = source
    else:
        rest = "\n".join(line for line in source.splitlines() if line.strip() not in released)
    tree = parsed(rest) if target.code else None
    if tree and all(isinstance(node, ast.Expr) for node in tree.body):
        # Nothing that other cells could use: a comment, or one more call of the check.
        return ""
    return rest.strip("\n")


def _gather(notebook, targets, kept, said):
    """Move what is written beside the cell of an answer, which was left as it was, into it."""
    owner = _owners(targets, {key: [cell] for key, cell in kept.items()})
    moved, names = set(), []
    for target in targets:
        answer = kept.get(target.key)
        if not target.written or answer is None or not target.is_unchanged(answer):
            continue
        cells = [c for c in _around(notebook.cells, target, owner) if written.may_be_words(c)]
        if cells or answer.get("attachments"):
            written.move_into(answer, cells or [_cell("markdown", answer.source, "")])
        if cells:
            moved |= {cell.id for cell in cells}
            names.append(_name(target))
    notebook.cells = [cell for cell in notebook.cells if cell.id not in moved]
    if names:
        said.append(f"Answered beside its cell, and moved into it: {_listed(names)}.")


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
            source = unfenced(cell.source) if target.code else cell.source
            new = _cell(target.cell.cell_type, source, cell.id, cell.metadata)
            written.adopt(new, cell)
            cell = kept[target.key] = notebook.cells[index] = new
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
    free = _free_ids({cell.id for cell in notebook.cells} | {target.key for target in targets})
    keep = {cell.id: key for key, cell in kept.items()}
    for cell in notebook.cells:
        if cell.id in keep:
            cell.id = keep[cell.id]
        elif cell.id in kept:
            cell.id = next(free)


def _place(notebook, targets, kept, defined, said):
    """Put back what is missing, and what stands where it cannot be run."""
    order = [target.key for target in targets]
    present = [cell.id for cell in notebook.cells if cell.id in kept]
    blocks = difflib.SequenceMatcher(None, order, present, autojunk=False).get_matching_blocks()
    fixed = {order[block.a + i] for block in blocks for i in range(block.size)}
    rank = {key: position for position, key in enumerate(present)}
    missing, moved, restored, elsewhere = [], [], {}, []
    names = {}
    for cell in filter(_is_code, notebook.cells):
        for name in defined.of(cell.source):
            names.setdefault(name, []).append(cell.id)
    for target in targets:
        if not target.known:
            continue
        others = {i for name in target.names for i in names.get(name, ())} - {target.key}
        if target.key in kept and others and target.is_unchanged(kept[target.key]):
            kept[target.key].source = _ELSEWHERE.format(_name(target))
            elsewhere.append(_name(target))
        if target.key in fixed:
            continue
        if target.key not in kept:
            missing.append(_name(target))
            restored[target.key] = copy.deepcopy(target.cell)
            if others:
                # A stub must not undo an answer.
                restored[target.key].source = _ELSEWHERE.format(_name(target))
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
    if elsewhere:
        said.append(f"Left as released, and answered in another cell: {_listed(elsewhere)}.")
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


def _complete(targets, kept, pictures, said):
    """Find the pictures of answers again; Jupyter leaves them behind when a text is moved."""
    lost = []
    for target in targets:
        if target.written and target.key in kept:
            names = written.complete(kept[target.key], pictures)
            lost += [f"{_name(target)} ({quoted(name)})" for name in names]
    if lost:
        said.append(f"Names a picture that is not in the notebook: {_listed(lost)}.")


def _let_wait(notebook, targets, files, said):
    """Have a person look where an answer in words is missing and may lie elsewhere."""
    cells = {cell.id: cell for cell in notebook.cells}
    owner = {target.key: target.number for target in targets if target.key in cells}
    open_ = [t for t in targets if t.written and t.is_unchanged(cells[t.key])]
    own = [cell for cell in notebook.cells if cell.id not in owner]
    added = [
        _cell("markdown", cells[t.key].source[len(t.cell.source) :], "")
        for t in targets
        if t.key in owner and not t.known and not t.code
    ]
    everywhere = []
    if files:
        everywhere.append(f"beside the notebook lies {_listed(map(quoted, files))}")
    if any(map(written.is_long, own + added)):
        everywhere.append("text of the student's own stands in other cells")
    reasons: dict[str, list[str]] = {}
    for target in open_:
        beside = any(cell.source.strip() for cell in _around(notebook.cells, target, owner))
        why = everywhere + ["something of the student's own stands beside it"] * beside
        if why:
            why = " and ".join(why)
            cells[target.key].source += f"\n\n*Nothing is written here, but {why}.*"
            reasons.setdefault(why, []).append(_name(target))
    for why, names in reasons.items():
        said.append(f"Nothing is written, but {why}, so that a person decides: {_listed(names)}.")


def _cell(kind, source, cell_id, metadata=None):
    # nbformat's functions would validate it.
    cell = NotebookNode(
        cell_type=kind, id=cell_id, source=source, metadata=metadata or NotebookNode()
    )
    if kind == "code":
        cell.outputs, cell.execution_count = [], None
    return cell


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
    source = cell.source
    return cell.cell_type, source if len(source) > _LONG else " ".join(source.split())


def _opening(cell):
    """The first line of a cell, without a comment."""
    return cell.cell_type, cell.source.lstrip().partition("\n")[0].partition("#")[0].strip()


def quoted(name: str) -> str:
    """A name that a student chose, for a line of text."""
    return f"`{plain(name)}`"


def plain(name: str) -> str:
    """The same without quotes."""
    return "".join(c if c.isprintable() and c not in "`<>|" else "_" for c in name[:80])


def _name(target):
    return f"`{target.marks['grade_id']}`"


def _listed(names):
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
