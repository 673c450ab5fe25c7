"""A function's definition as a tree, in which one thing at a time is changed, and put back."""

import ast
import contextlib
import inspect
import math
import textwrap
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

# What is called from a module, and not of a value.
MODULES = {"torch", "F", "math", "itertools", "np", "numpy", "nn"}
# Processor seconds of one call; an edited function may run for ever.
SECONDS = 0.2
# What may be left of a list, and as a slice.
PARTS_OF_A_LIST = {
    "the {}s of {} in reverse order": "::-1",
    "all but the first {} of {}": "1:",
    "all but the last {} of {}": ":-1",
    "the first {} of {} only": ":1",
    "the last {} of {} only": "-1:",
}
# Functions that a function calls are read too, so many calls down.
_DEPTH = 2


class Part:
    """A function's definition, and those of the functions that it calls.

    Args:
        function: of Python, defined by a `def` in a file.
        package: only functions of this one are followed; the function's own by default.
        depth: how many calls down.

    Attributes:
        tree: its definition, without decorators and docstring.
        nodes: of the definition, by identity.
        scope: what the names mean that it takes from outside.
        parts: name → the functions that it calls.

    Raises:
        OSError, TypeError, ValueError: when it has no source that is a definition.

    """

    def __init__(self, function: Callable, package: str = "", depth: int = _DEPTH):
        function = inspect.unwrap(function)
        package = package or (function.__module__ or "").partition(".")[0]
        self.tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        if not isinstance(self.tree, ast.FunctionDef):
            raise ValueError(f"{function!r} is not defined by a `def`")
        self.tree.decorator_list = []
        if ast.get_docstring(self.tree) is not None:
            del self.tree.body[0]
        self.nodes = {id(node): node for node in ast.walk(self.tree)}
        self.scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
        called = {name: self.scope.get(name) for name in _called(self.tree) if depth}
        self.parts = {
            name: Part(callee, package, depth - 1)
            for name, callee in called.items()
            if _is_of(package, callee)
        }

    def all(self) -> Iterator["Part"]:
        """This part and those below."""
        yield self
        for part in self.parts.values():
            yield from part.all()

    def compiled(self, **others) -> Callable:
        """The function as its tree is now, with `others` in the place of what it calls."""
        # Edits may use names that the function has not.
        scope = {**self.scope, "_math": math, "_torch": torch, **others}
        module = ast.Module([self.tree], [])
        with warnings.catch_warnings():
            # An edit may call what is no function.
            warnings.simplefilter("ignore", SyntaxWarning)
            exec(compile(module, "<edited>", "exec"), scope)
        return scope[self.tree.name]

    def compiled_with(self, **more) -> Callable:
        """The function and all that it calls, with `more` in their scope."""
        called = {name: part.compiled_with(**more) for name, part in self.parts.items()}
        return self.compiled(**called, **more)


@dataclass(frozen=True)
class Place:
    """Where an expression or statement stands in a tree: in a field of another, or in its list."""

    parent: ast.AST
    field: str
    index: int | None

    @property
    def node(self) -> ast.AST:
        """What stands there."""
        held = getattr(self.parent, self.field)
        return held if self.index is None else held[self.index]

    @contextlib.contextmanager
    def holding(self, node: ast.AST) -> Iterator[None]:
        """Something else stands there for the time of the body."""
        before = self.node
        self._put(node)
        try:
            yield
        finally:
            self._put(before)

    def _put(self, node):
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def places(tree: ast.AST) -> list[Place]:
    """Where the expressions and statements of a function stand, the outer ones first.

    Its parameters are left out, and what only refuses bad arguments.
    """
    found, todo = [], [tree]
    for parent in todo:
        for field, held in ast.iter_fields(parent):
            items = enumerate(held) if isinstance(held, list) else [(None, held)]
            for index, node in items:
                if isinstance(node, (ast.arguments, ast.Raise, ast.Assert)):
                    continue
                if isinstance(node, (ast.expr, ast.stmt)):
                    found.append(Place(parent, field, index))
                if isinstance(node, ast.AST):
                    todo.append(node)
    return found


def _called(tree):
    """Names of the functions whose results are used, or that are handed on."""
    dropped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and id(n) not in dropped]
    names = [node for call in calls for node in (call.func, *call.args)]
    return dict.fromkeys(node.id for node in names if isinstance(node, ast.Name))


def _is_of(package, callee):
    callee = inspect.unwrap(callee) if callable(callee) else callee
    own = isinstance(callee, types.FunctionType)
    return own and callee.__module__.partition(".")[0] == package


def subject(call: ast.Call) -> tuple[str, ast.AST | None]:
    """Name of what is called, and what it is applied to; the name is empty where there is none."""
    first = call.args[0] if call.args else None
    if isinstance(call.func, ast.Attribute):
        return call.func.attr, first if is_of_module(call) else call.func.value
    return (call.func.id, first) if isinstance(call.func, ast.Name) else ("", None)


def is_a_length(node: ast.AST) -> bool:
    """Whether it is `len(x)` or `x.shape[0]`."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    return isinstance(node, ast.Call) and subject(node)[0] == "len"


def is_of_module(call: ast.Call) -> bool:
    """Whether it is `torch.sum(x)` or the like, and not `x.sum()`."""
    value = getattr(call.func, "value", None)
    return isinstance(value, ast.Name) and value.id in MODULES


def then(statement: ast.stmt, another: ast.stmt) -> ast.stmt:
    """Two statements in the place of one."""
    return ast.If(ast.Constant(True), [statement, another], [])


def expression(text: str, **parts: ast.AST) -> ast.AST:
    """An expression as it is written in a program, with other nodes in the place of some names."""
    return _Filled(parts).visit(ast.parse(text, mode="eval").body)


class _Filled(ast.NodeTransformer):
    def __init__(self, parts):
        self._parts = parts

    def visit_Name(self, node):
        return self._parts.get(node.id, node)
