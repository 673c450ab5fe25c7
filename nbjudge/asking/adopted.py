"""A student's wrong answer put on record: no trace of its author, and nothing but computing.

What is on record runs wherever something is checked. So of the code that somebody handed in only
what computes with torch comes through, by a list of what may be used.
"""

import ast
import builtins
import textwrap
import types

from nbjudge.asking.source import IN_A_NOTEBOOK
from nbjudge.errors import UserError

_BUILTINS = {
    *("abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "int"),
    *("isinstance", "len", "list", "map", "max", "min", "pow", "range", "reversed", "round"),
    *("set", "slice", "sorted", "sum", "tuple", "zip"),
}
_ERRORS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, Exception)
}
_MODULES = {
    *("torch", "torch.special", "torch.linalg", "torch.fft", "torch.distributions", "torch.nn"),
    *("torch.nn.functional", "math", "itertools"),
}
# Of torch itself, what does more than compute; and what leads from a tensor to NumPy's files.
_REFUSED = {"save", "load", "compile", "from_file", "set_printoptions", "numpy", "tofile"}
_STATEMENTS = (ast.Import, ast.ImportFrom, ast.Global, ast.ClassDef, ast.AsyncFunctionDef)
_WIDTH = 96


def as_wrong_answer(
    source: str, function: str, parameters: list[str], name: str, sentence: str
) -> str:
    """A student's function as it is written into a page under `@page.wrong`.

    Comments, texts, annotations and what is printed are left out, and what was called by names of
    the student's is called `value_1`, `value_2` and so on.

    Args:
        source: of the cell that answers the exercise.
        function: its name.
        parameters: as the reference has them.
        name: of the mistake.
        sentence: said to who makes it; may hold `{got}` and `{expected}`.

    Raises:
        UserError: when the code, the name or the sentence cannot stand there; it says why.

    """
    plain = sentence.replace("{got}", "").replace("{expected}", "")
    if not name.strip() or not plain.strip() or any(c in name + plain for c in '\\{}"'):
        raise UserError(
            "a mistake takes a name and a sentence, without backslashes, double quotes, and braces "
            "but those of {got} and {expected}"
        )
    definition = _definition(source, function)
    _rename(definition, parameters)
    if refused := next(_refused(definition), ""):
        raise UserError(
            f"the code of {function} uses {refused}: what is on record does nothing but compute "
            "with torch, F, math and itertools. Write it by hand under `@page.wrong`"
        )
    said = "\n".join(textwrap.wrap(f'"""{" ".join(sentence.split())}"""', _WIDTH))
    body = "\n".join(map(ast.unparse, definition.body))
    lines = textwrap.indent(f"{said}\n{body}", "    ")
    return f'@page.wrong("{name.strip()}")\ndef _({ast.unparse(definition.args)}):\n{lines}\n'


def _definition(source, function):
    """The function's definition, and in it those of the cell's functions that it may call."""
    try:
        cell = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"the answer to {function} is no Python: {error}") from error
    functions = {node.name: node for node in cell.body if isinstance(node, ast.FunctionDef)}
    if function not in functions:
        raise UserError(f"the cell that answers {function} defines no function of that name")
    definition = functions.pop(function)
    if definition.decorator_list:
        raise UserError(f"{function} has a decorator: write it by hand under `@page.wrong`")
    called = {node.id for node in ast.walk(cell) if isinstance(node, ast.Name)}
    definition.body[:0] = [helper for helper in functions.values() if helper.name in called]
    return _Bare().visit(definition)


class _Bare(ast.NodeTransformer):
    """Takes out what says something to people only."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        node.body = node.body or [ast.Pass()]
        return node

    def visit_arg(self, node):
        return ast.arg(node.arg)

    def visit_Assign(self, node):
        self.generic_visit(node)
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else node

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if node.value is None:
            return None
        return self.visit_Assign(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_Expr(self, node):
        called = node.value.func if isinstance(node.value, ast.Call) else None
        printed = isinstance(called, ast.Name) and called.id == "print"
        return None if printed or isinstance(node.value, ast.Constant) else node


def _rename(definition, parameters):
    """Call the parameters as the reference does, and everything else by its number."""
    arguments = definition.args
    own = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    if len(own) != len(parameters) or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        raise UserError(
            f"{definition.name} takes other arguments than {', '.join(parameters)}: write it by "
            "hand under `@page.wrong`"
        )
    named = {*_bound(definition)} - {definition.name, *own}
    new = dict(zip(own, parameters, strict=True))
    # In the order in which they are met.
    order = [name for node in ast.walk(definition) for name in _names(node) if name in named]
    new |= {name: f"value_{number}" for number, name in enumerate(dict.fromkeys(order), 1)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = new.get(node.arg, node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ExceptHandler)):
            node.name = new.get(node.name, node.name)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) in new:
            # A function of the student's own, by the names of its arguments.
            for keyword in node.keywords:
                keyword.arg = new.get(keyword.arg, keyword.arg)


def _bound(definition):
    """The names that a function gives to something."""
    for node in ast.walk(definition):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            yield from _names(node)


def _names(node):
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, (ast.FunctionDef, ast.ExceptHandler)) and node.name:
        yield node.name


def _refused(definition):
    """What a function does that is not computing."""
    nodes = list(ast.walk(definition))
    own = {*_bound(definition)}
    known = {*own, *IN_A_NOTEBOOK, *_BUILTINS, *_ERRORS}
    asked = {id(n.value) for n in nodes if isinstance(n, ast.Attribute)}
    for node in nodes:
        if isinstance(node, _STATEMENTS):
            yield f"`{ast.unparse(node).partition(chr(10))[0]}`"
        elif id(node) not in asked and _module(node, own):
            # Under another name it could give anything.
            yield f"`{ast.unparse(node)}` as a value"
        elif isinstance(node, ast.Attribute):
            if node.attr.startswith("_") or node.attr in _REFUSED or not _computes(node, own):
                yield f"`{ast.unparse(node)}`"
        elif isinstance(node, ast.Name) and node.id not in known:
            yield f"`{node.id}`"


def _computes(node, own):
    """Whether an attribute is one of a value, or of a module what computes."""
    holder = _module(node.value, own)
    if holder is None:
        return True
    value = getattr(holder, node.attr, None)
    return not isinstance(value, types.ModuleType) or value.__name__ in _MODULES


def _module(node, own):
    """The module that `F` or `torch.special` is; None for a value."""
    found = None
    if isinstance(node, ast.Name) and node.id not in own:
        found = IN_A_NOTEBOOK.get(node.id)
    elif isinstance(node, ast.Attribute):
        found = getattr(_module(node.value, own), node.attr, None)
    return found if isinstance(found, types.ModuleType) else None
