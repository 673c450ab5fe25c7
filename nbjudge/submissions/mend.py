"""Mend a submitted notebook: every cell that grading needs stands in it once, in its place.

Jupyter lets a student copy, split, delete and move cells, and other editors drop what nbgrader
wrote beside them. What the student wrote is kept; no code is run and nothing is judged here.
"""

import ast
import copy
import difflib
from collections.abc import Iterable

from nbformat import NotebookNode
from nbgrader.utils import compute_checksum

from nbjudge.errors import listed, quoted
from nbjudge.submissions import written
from nbjudge.submissions.cells import (
    LONG,
    free_ids,
    grade_id_of,
    is_code,
    new_cell,
    text_of,
    tidy,
    unmark,
)
from nbjudge.submissions.definitions import bound, parsed, unfenced
from nbjudge.submissions.recognize import around, claims, count, owners
from nbjudge.submissions.released import definitions_of, targets_of

# So many cells are named in a sentence.
_LISTED = 8
# Cells of one function, split by accident.
_MOST_PARTS = 10
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
    said = tidy(notebook)
    targets = targets_of(release)
    defined = definitions_of(targets)
    copies = claims(notebook.cells, targets, defined)
    if not count(targets, copies):
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
            joined.append(target.name)
            continue
        whole = _whole(target, parts)
        if whole:
            best.source = whole
            dropped |= {cell.id for cell in others}
            joined.append(target.name)
            continue
        source = best.source
        for cell in others:
            if target.locked or target.is_unchanged(cell) or cell.source == source:
                written.adopt(best, cell)
                dropped.add(cell.id)
                dropped_names.append(target.name)
            else:
                unmark(cell)
                plain_names.append(target.name)
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
    free = free_ids({cell.id for cell in notebook.cells} | {target.key for target in targets})
    for target in targets:
        cell = kept.get(target.key)
        if cell is None or not target.locked:
            continue
        pictures = cell.pop("attachments", None)
        addition = "" if _is_as_once_released(target, cell) else _addition(target, cell.source)
        if addition or pictures:
            own = new_cell(
                "code" if target.code and addition else "markdown", addition or "", next(free)
            )
            written.adopt(own, {"attachments": pictures})
            written.show_all(own)
            # What was added to a check is run before it, as a function must be.
            (before if target.is_check else after)[cell.id] = own
            added.append(target.name)
        cell.source = target.cell.source
    if before or after:
        groups = ((before.get(c.id), c, after.get(c.id)) for c in notebook.cells)
        notebook.cells = [cell for group in groups for cell in group if cell is not None]
    if added:
        said.append(f"Added to locked cells, and kept in cells of its own: {_listed(added)}.")


def _is_as_once_released(target, cell):
    """Whether a locked cell is as it was released, now or earlier; nbgrader left a checksum."""
    marks = cell.metadata.get("nbgrader")
    if text_of(cell)[1] == target.text[1]:
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
    elif target.code or len(source) > LONG:
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
    owner = owners(targets, {key: [cell] for key, cell in kept.items()})
    moved, names = set(), []
    for target in targets:
        answer = kept.get(target.key)
        if not target.written or answer is None or not target.is_unchanged(answer):
            continue
        cells = [c for c in around(notebook.cells, target, owner) if written.may_be_words(c)]
        if cells or answer.get("attachments"):
            written.move_into(answer, cells or [new_cell("markdown", answer.source, "")])
        if cells:
            moved |= {cell.id for cell in cells}
            names.append(target.name)
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
            strange |= grade_id_of(cell) is not None
            unmark(cell)
            continue
        marks = cell.metadata.get("nbgrader")
        if grade_id_of(cell) is None:
            stripped.append(target.name)
        elif [marks.get(mark) for mark in _MARKS] != [target.marks.get(m) for m in _MARKS]:
            altered.append(target.name)
        if cell.cell_type != target.cell.cell_type:
            turned.append(target.name)
            source = unfenced(cell.source) if target.code else cell.source
            new = new_cell(target.cell.cell_type, source, cell.id, cell.metadata)
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
    free = free_ids({cell.id for cell in notebook.cells} | {target.key for target in targets})
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
    for cell in filter(is_code, notebook.cells):
        for name in defined.of(cell.source):
            names.setdefault(name, []).append(cell.id)
    for target in targets:
        if not target.known:
            continue
        others = {i for name in target.names for i in names.get(name, ())} - {target.key}
        if target.key in kept and others and target.is_unchanged(kept[target.key]):
            kept[target.key].source = _ELSEWHERE.format(target.name)
            elsewhere.append(target.name)
        if target.key in fixed:
            continue
        if target.key not in kept:
            missing.append(target.name)
            restored[target.key] = copy.deepcopy(target.cell)
            if others:
                # A stub must not undo an answer.
                restored[target.key].source = _ELSEWHERE.format(target.name)
        elif target.locked or _is_late(target, targets, fixed, rank):
            # An answer that stands earlier than released works; it is left there.
            moved.append(target.name)
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
            lost += [f"{target.name} ({quoted(name)})" for name in names]
    if lost:
        said.append(f"Names a picture that is not in the notebook: {_listed(lost)}.")


def _let_wait(notebook, targets, files, said):
    """Have a person look where an answer in words is missing and may lie elsewhere."""
    cells = {cell.id: cell for cell in notebook.cells}
    owner = {target.key: target.number for target in targets if target.key in cells}
    open_ = [t for t in targets if t.written and t.is_unchanged(cells[t.key])]
    own = [cell for cell in notebook.cells if cell.id not in owner]
    added = [
        new_cell("markdown", cells[t.key].source[len(t.cell.source) :], "")
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
        beside = any(cell.source.strip() for cell in around(notebook.cells, target, owner))
        why = everywhere + ["something of the student's own stands beside it"] * beside
        if why:
            why = " and ".join(why)
            cells[target.key].source += f"\n\n*Nothing is written here, but {why}.*"
            reasons.setdefault(why, []).append(target.name)
    for why, names in reasons.items():
        said.append(f"Nothing is written, but {why}, so that a person decides: {_listed(names)}.")


def _listed(names):
    return listed(dict.fromkeys(names), _LISTED)
