"""The source of wrong answers, which is pasted into notebooks: each must stand alone there."""

import ast
import builtins
import dis
import inspect
import itertools
import linecache
import math
import textwrap
import types
from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F

# What a notebook has imported when a wrong answer is pasted into it.
IN_A_NOTEBOOK = {"torch": torch, "F": F, "math": math, "itertools": itertools}


def foreign(function: Callable) -> str:
    """A name that a function uses and a notebook has not; empty if there is none."""
    for used in names_elsewhere(function.__code__):
        if used not in IN_A_NOTEBOOK and not hasattr(builtins, used):
            return used
    return ""


def with_pieces(definition: ast.FunctionDef, pieces: dict[str, Callable], file: str) -> Callable:
    """A function with this definition, and with those pieces inside that it uses.

    Args:
        definition: changed.
        pieces: name → function.
        file: under which `inspect` finds its source.

    """
    code = _compiled(definition, "").__code__
    definition.body[:0] = [definition_of(pieces[name]) for name in _needed(code, pieces)]
    return _compiled(definition, file)


def _needed(code, pieces):
    """Names of the pieces that code uses, each after those that it uses itself."""
    found = {}
    for name in names_elsewhere(code):
        if name in pieces:
            found |= dict.fromkeys(_needed(pieces[name].__code__, pieces))
            found[name] = None
    return list(found)


def names_elsewhere(code: types.CodeType) -> list[str]:
    """Names that code takes from outside of itself: of its module, and of a function around it."""
    return list(dict.fromkeys([*code.co_freevars, *_global_names(code)]))


def _global_names(code):
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def definition_of(function: Callable) -> ast.FunctionDef:
    """What a function's source says, without decorators and docstring."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    definition.decorator_list = []
    if ast.get_docstring(definition):
        del definition.body[0]
    return definition


def _compiled(definition, file):
    """A function with this definition, whose source `inspect` finds if the file has a name."""
    source = ast.unparse(definition) + "\n"
    namespace = dict(IN_A_NOTEBOOK)
    exec(compile(source, file, "exec"), namespace)
    if file:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return namespace[definition.name]


def returns_once(definition: ast.FunctionDef) -> bool:
    """Whether the one place where a function returns is its end."""
    returns = [node for node in _within(definition) if isinstance(node, ast.Return)]
    return returns == definition.body[-1:]


def change_result(definition: ast.FunctionDef, how: ast.expr) -> list[str]:
    """Have a function that returns once do something with its result first.

    Args:
        definition: changed.
        how: a function's name, or a lambda of the result and of arguments.

    Returns:
        The names of those arguments.

    """
    result, others = ast.unparse(definition.body.pop().value), []
    more = f"return {ast.unparse(how)}({result})"
    if isinstance(how, ast.Lambda):
        value, *others = [argument.arg for argument in how.args.args]
        more = f"{value} = {result}\nreturn {ast.unparse(how.body)}"
    definition.body += ast.parse(more).body
    return others


def _within(definition: ast.FunctionDef) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions that it defines."""
    for node in ast.iter_child_nodes(definition):
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            yield node
            yield from _within(node)


def third_argument(file: str, line: int) -> ast.expr:
    """The expression that is the third argument of the call of `but` in this line."""
    for node in ast.walk(_parsed(file)):
        called = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "but"
        if called and node.lineno <= line <= node.end_lineno:
            return node.args[2]
    raise ValueError(f"{file}:{line} calls `but` by another name; write `page.but(…)`")


@cache
def _parsed(file):
    return ast.parse("".join(linecache.getlines(file)))
