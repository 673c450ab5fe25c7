"""Which names code defines, found without running it and in bounded time.

Python's own parser is exact, but takes a minute and gigabytes for megabytes of code. So it reads
cells as people write them, up to a limit for the whole notebook; the rest is looked through for
lines that begin with `def NAME`, `class NAME` or `NAME =`.
"""

import ast
import re
import warnings
from collections.abc import Iterable

# In characters; no answer comes near the first.
CELL_LIMIT = 20_000
NOTEBOOK_LIMIT = 200_000
# Possessive, so that nothing is tried twice.
_BINDING = r"^(?:async ++)?+(?:def|class) ++({0})\b|^({0})\b *+=(?!=)"


class Definitions:
    """Which of some names the cells of one notebook define at their top level.

    Args:
        names: that are looked for.

    """

    def __init__(self, names: Iterable[str]):
        self._names = frozenset(names)
        names = "|".join(map(re.escape, sorted(self._names))) or r"(?!)"
        self._binding = re.compile(_BINDING.format(names), re.MULTILINE)
        self._left = NOTEBOOK_LIMIT
        self._known: dict[tuple[str, bool], frozenset[str]] = {}

    def of(self, source: str, code: bool = True) -> frozenset[str]:
        """Those that some code defines, assigns or imports at its top level.

        Args:
            source: of a cell.
            code: False for a cell of text: there prose may have lines that only look like code.

        """
        if (source, code) not in self._known:
            # Most cells have none of them anywhere.
            mentioned = any(name in source for name in self._names)
            self._known[source, code] = self._find(source, code) if mentioned else frozenset()
        return self._known[source, code]

    def _find(self, source, code):
        tree = None
        if len(source) <= min(CELL_LIMIT, self._left):
            self._left -= len(source)
            tree = parsed(source)
        if tree is None and code:
            found = {name for pair in self._binding.findall(source) for name in pair if name}
        else:
            found = bound(tree)
        return found & self._names


def bound(tree: ast.Module | None) -> frozenset[str]:
    """Names that code defines, assigns or imports at its top level; none for what is no code."""
    return frozenset(name for node in (tree.body if tree else ()) for name in _names(node))


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of code; None when it has none, or is too long to find out."""
    if len(source) > CELL_LIMIT:
        return None
    try:
        with warnings.catch_warnings():
            # About a backslash in a text, say.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Half of a function, or a line for IPython.
        return None


def is_prose(source: str) -> bool:
    """Whether what stands in a cell of code is none: no Python, or comments and texts alone."""
    if not source.strip() or len(source) > CELL_LIMIT:
        return False
    tree = parsed(source)
    if tree is None:
        # What Python cannot read may be for IPython.
        return not re.search(r"^\s*+[%!?]|\?\s*+$", source, re.MULTILINE)
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant | ast.Name)
        for node in tree.body
    )


def unfenced(source: str) -> str:
    """Code without the fences that make it code in a text."""
    lines = source.strip().splitlines()
    fenced = len(lines) > 1 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else source


def _names(node):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    # What stands within `if` and its like is at the top level as well.
    inner = (n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt | ast.excepthandler))
    return [name for child in inner for name in _names(child)]
