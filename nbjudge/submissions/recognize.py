"""Recognize released cells in a submitted notebook, by mark, id, text, name or place."""

import copy
import itertools

from nbformat import NotebookNode

from nbjudge.submissions import written
from nbjudge.submissions.cells import grade_id_of, is_code, opening_of, text_of, tidy
from nbjudge.submissions.definitions import unfenced
from nbjudge.submissions.released import definitions_of, targets_of

# Cells of an answer in words, in place of the one that was meant for it.
_MOST_AROUND = 200


def held(notebook: NotebookNode, release: NotebookNode) -> int:
    """How many of the released notebook's checks and answers a submitted notebook has."""
    targets = targets_of(release)
    return count(targets, _untouched_claims(notebook, targets))


def answered(notebook: NotebookNode, release: NotebookNode) -> int:
    """How many answers of a submitted notebook are no longer as they were released."""
    targets = targets_of(release)
    copies = _untouched_claims(notebook, targets)
    return sum(t.answer and not all(map(t.is_unchanged, copies[t.key])) for t in targets)


def _untouched_claims(notebook, targets):
    """What `claims` finds in a notebook that stays as it is."""
    notebook = NotebookNode(cells=[copy.copy(cell) for cell in notebook.cells], metadata={})
    tidy(notebook)
    return claims(notebook.cells, targets, definitions_of(targets))


def count(targets, copies) -> int:
    """How many of the checks and answers have a submitted cell."""
    return sum(bool(copies[target.key]) for target in targets if target.counts)


def claims(cells, targets, defined) -> dict[str, list[NotebookNode]]:
    """Id of each released cell → the submitted cells that are it or copies of it."""
    copies = {target.key: [] for target in targets}
    positions = {cell.id: position for position, cell in enumerate(cells)}
    by_grade_id = {target.marks["grade_id"]: target for target in targets if target.known}
    free = {}
    for cell in cells:
        if target := by_grade_id.get(grade_id_of(cell)):
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
        by_text.setdefault(text_of(cell), []).append(cell)
        by_opening.setdefault(opening_of(cell), []).append(cell)
    for target in unmarked:
        # Stubs do not count: those of written answers are all alike, and one of a function may
        # stand beside the answer.
        if not copies[target.key] and not target.answer:
            claim(target, by_text.get(target.text, ()))
        if not copies[target.key] and target.is_check:
            # The call stands, with something of the student's behind it.
            claim(
                target, [c for c in by_opening.get(opening_of(target.cell), ()) if c.id in free][:1]
            )
    # A stub that was left as it is, and the function in a cell of its own, is an answer as well.
    open_ = [t for t in targets if t.names and all(map(t.is_unchanged, copies[t.key]))]
    by_name: dict[str, list[NotebookNode]] = {}
    for cell in free.values() if open_ else ():
        # A cell may have been turned into text.
        for name in defined.of(unfenced(cell.source), is_code(cell)):
            by_name.setdefault(name, []).append(cell)
    for target in open_:
        # A cell with several definitions goes to the first; see `_restored` for the others.
        claim(target, [c for name in sorted(target.names) for c in by_name.get(name, ())])
    owner = owners(targets, copies)
    for target in targets:
        if target.written and not copies[target.key]:
            claim(target, filter(written.may_be_words, around(cells, target, owner)))
    for found in copies.values():
        found.sort(key=lambda cell: positions[cell.id])
    return copies


def owners(targets, copies):
    """Id of each submitted cell that was released → number of the released one."""
    return {cell.id: target.number for target in targets for cell in copies.get(target.key, ())}


def around(cells, target, owner):
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
