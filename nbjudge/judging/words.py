"""What the steps of a right answer are called: by the card's names and axes, and by named terms.

The right answer runs once on each case with every step noted. A step whose numbers are an argument,
a named term, the length of an axis or its logarithm on every case is called that; another is called
by its operation, or has no name.
"""

import ast
import contextlib
import inspect
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case
from nbjudge.inside.observe import observe
from nbjudge.judging.axes import lengths
from nbjudge.judging.code import MODULES, SECONDS, Part, Place, places, subject

_NOUNS = {
    "sum": "sum",
    "mean": "average",
    "prod": "product",
    "logsumexp": "log-sum-exp",
    "amax": "maximum",
    "max": "maximum",
    "amin": "minimum",
    "min": "minimum",
    "exp": "exponential",
    "log": "logarithm",
    "log2": "logarithm to base 2",
    "log10": "logarithm to base 10",
    "sqrt": "square root",
    "abs": "absolute value",
    "std": "standard deviation",
    "var": "variance",
    "cumsum": "cumulated sum",
    "cumprod": "cumulated product",
    "cov": "covariance",
}
_CONSTANTS = {
    "log 2π": math.log(2 * math.pi),
    "½ log 2π": math.log(2 * math.pi) / 2,
    "2π": 2 * math.pi,
    "π": math.pi,
    "log 2": math.log(2),
}
_FRACTIONS = {0.5: "½", 0.25: "¼", 1.5: "1½"}
# Code of the right answer that is quoted is no longer.
_LONGEST_QUOTE = 24
_SIGNS = {ast.Add: "+", ast.Sub: "−", ast.Mult: "·", ast.Div: "/"}


class Words:
    """Names of what happens in a function on the cases of an exercise.

    Args:
        exercise: whose arguments, axes and terms have names.
        part: its right answer.
        cases: of one dtype.

    """

    def __init__(self, exercise: Exercise, part: Part, cases: list[Case]):
        self._exercise, self._cases = exercise, cases
        # Variables that it speaks of are known to who reads it.
        self._documentation = inspect.getdoc(exercise.reference) or ""
        self._parts = list(part.all())
        self._own = {name for one in self._parts for name in _variables(one)}
        # Of each node what it was on each case; of one that did not run, nothing.
        self._noted = [notes(part, case) for case in cases]
        self._sizes = [lengths(exercise, case) for case in cases]
        self._values, self._numbers = list(self._known_values()), list(self._known_numbers())
        self._said: dict[int, tuple[ast.AST, str]] = {}

    def of(self, node: ast.AST | None) -> str:
        """What an expression is called; empty if it has no name."""
        if node is None:
            return ""
        if id(node) not in self._said:
            # A name that is assigned from itself has none. The node is kept with what is said of
            # it, for another may have its identity once it is gone.
            self._said[id(node)] = node, ""
            self._said[id(node)] = node, self._by_value(node) or self._by_form(node)
        return self._said[id(node)][1]

    def axis(self, node: ast.AST, axis: int | None) -> str:
        """The letter of an axis of an expression; empty where there is none, or several."""
        letters = None
        for values, sizes in zip(self._noted, self._sizes, strict=True):
            value = values.get(id(node))
            if not isinstance(value, torch.Tensor) or axis is None:
                return ""
            if not -value.ndim <= axis < value.ndim:
                return ""
            fitting = {letter for letter, size in sizes.items() if size == value.shape[axis]}
            letters = fitting if letters is None else letters & fitting
        return letters.pop() if letters and len(letters) == 1 else ""

    def is_a_count(self, node: ast.AST) -> bool:
        """Whether it is a whole number on every case."""
        return all(type(values.get(id(node))) is int for values in self._noted)

    def lengths(self) -> Iterator[tuple[str, ast.AST]]:
        """The letter of each axis of an argument, and what gives its length."""
        found = {}
        for name, letters in self._exercise.axes.items():
            for axis, letter in enumerate(letters.split()):
                if name != "return" and letter.isalpha():
                    shape = ast.Attribute(ast.Name(name, ast.Load()), "shape", ast.Load())
                    length = ast.Subscript(shape, ast.Constant(axis), ast.Load())
                    found.setdefault(letter, length)
        yield from found.items()

    def names(self, node: ast.AST) -> Iterator[tuple[str, str]]:
        """Variables of the function in which a node stands, and what each is called."""
        for part in self._parts:
            if id(node) in part.nodes:
                loaded = [n for n in part.nodes.values() if isinstance(n, ast.Name)]
                own = _variables(part)
                known = {n.id: self.of(n) for n in loaded if isinstance(n.ctx, ast.Load)}
                yield from ((name, said) for name, said in known.items() if said and name in own)

    @staticmethod
    def noun(function: str, over: str | None = None) -> str:
        """What a function's result is called; `over` an axis, which may have no letter."""
        noun = _NOUNS.get(function, f"`{function}`")
        if over is None:
            return f"the {noun}" if function in _NOUNS else noun
        article = "an" if noun[0] in "aeiou" else "a"
        return f"{article} {noun}" + (f" over {over}" if over else "")

    @staticmethod
    def number(value: float) -> str:
        """A number as a person writes it."""
        sign = "−" if value < 0 else ""
        return sign + _FRACTIONS.get(abs(value), f"{abs(value):g}")

    def _by_value(self, node):
        found = [values.get(id(node)) for values in self._noted]
        if any(value is None for value in found):
            return ""
        known = self._numbers if isinstance(found[0], (int, float)) else self._values
        for name, wanted, is_same in known:
            if all(map(is_same, found, wanted)):
                return name
        return ""

    def _known_values(self):
        """What has a name, what it is on each case, and how that is compared with a value."""
        names = [name for name in self._exercise.axes if name != "return"]
        # What is left to its default is in no case.
        for i, name in enumerate(names[: min(len(case.args) for case in self._cases)]):
            yield f"`{name}`", [case.args[i] for case in self._cases], _is
        for terms in self._exercise.terms:
            for name, term in terms.items():
                yield f"`{name}`", [term(case) for case in self._cases], _is_near

    def _known_numbers(self):
        for letter in self._sizes[0]:
            sizes = [sizes.get(letter) for sizes in self._sizes]
            if all(sizes):
                for form, of in (("{}", float), ("log {}", math.log), ("1/{}", lambda n: 1 / n)):
                    yield form.format(letter), list(map(of, sizes)), _is_number
        for name, constant in _CONSTANTS.items():
            yield name, [constant] * len(self._cases), _is_number

    def _by_form(self, node):
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            return self.number(node.value)
        if isinstance(node, ast.Name):
            if node.id not in self._own:
                return ""
            if re.search(rf"\b{node.id}\b", self._documentation):
                return f"`{node.id}`"
            return self.of(self._assigned(node.id)) or f"`{node.id}`"
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            said = self.of(node.operand)
            return said and f"−{said}"
        if isinstance(node, ast.BinOp) and type(node.op) in _SIGNS:
            sides = [self.of(side) for side in (node.left, node.right)]
            if all(side and " " not in side for side in sides):
                return f"{sides[0]} {_SIGNS[type(node.op)]} {sides[1]}"
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            said = self.of(node.left)
            if said and isinstance(node.right, ast.Constant) and node.right.value == 2:
                return f"the square of {said}"
        return ""

    def _called(self, node):
        function, operand = subject(node)
        if function in _NOUNS:
            of = self.of(operand)
            return f"the {_NOUNS[function]}" + (f" of {of}" if of else "")
        if function in self._exercise.axes:
            return f"the result of `{function}`"
        if any(function in part.parts for part in self._parts):
            return f"`{function}`"
        text = ast.unparse(node)
        return f"`{text}`" if len(text) <= _LONGEST_QUOTE and not self._is_whole(node) else ""

    def _is_whole(self, node):
        """Whether it is all that a statement does."""
        statements = [s for part in self._parts for s in ast.walk(part.tree)]
        return any(node is getattr(s, "value", None) for s in statements if isinstance(s, ast.stmt))

    def _assigned(self, name):
        """What a variable stands for, if it is assigned once."""
        values = [
            statement.value
            for part in self._parts
            for statement in ast.walk(part.tree)
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name) and target.id == name
        ]
        return values[0] if len(values) == 1 else None


def _variables(part):
    """Names of its parameters, and of what it assigns."""
    names = [n for n in part.nodes.values() if isinstance(n, ast.Name)]
    assigned = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return assigned | {n.arg for n in part.nodes.values() if isinstance(n, ast.arg)}


def notes(part: Part, case: Case) -> dict[int, Any]:
    """What each expression was when it was first evaluated, by the identity of its node."""
    noted: dict[int, Any] = {}

    def note(key, value):
        if key not in noted:
            noted[key] = value.detach() if isinstance(value, torch.Tensor) else value
        return value

    with contextlib.ExitStack() as stack:
        for one in part.all():
            for place in reversed([p for p in places(one.tree) if _has_a_value(p)]):
                stack.enter_context(place.holding(_noting(place.node)))
            ast.fix_missing_locations(one.tree)
        function = part.compiled_with(__note__=note)
    observe(function, replace(case, wrt=(), probe=None), SECONDS)
    return noted


def _noting(node):
    noted = [ast.Constant(id(node)), node]
    return ast.Call(ast.Name("__note__", ast.Load()), noted, [])


def _has_a_value(place: Place) -> bool:
    """Whether what stands there is an expression that may be put into a call."""
    node, parent = place.node, place.parent
    if not isinstance(node, ast.expr) or isinstance(node, (ast.Slice, ast.Starred)):
        return False
    if isinstance(parent, (ast.JoinedStr, ast.FormattedValue, ast.arguments)):
        return False
    if isinstance(node, ast.Name) and node.id in MODULES:
        return False
    called = isinstance(parent, ast.Call) and place.field == "func"
    return not called and isinstance(getattr(node, "ctx", ast.Load()), ast.Load)


def _is(value, arg):
    if isinstance(value, torch.Tensor) and isinstance(arg, torch.Tensor):
        return value.shape == arg.shape and torch.equal(value, arg)
    return value is arg and not isinstance(value, (int, float, bool))


def _is_near(value, term):
    if not isinstance(value, torch.Tensor) or value.shape != term.shape:
        return False
    return torch.allclose(value.double(), term.double(), rtol=1e-5, atol=1e-6)


def _is_number(value, wanted: float) -> bool:
    return isinstance(value, (int, float)) and math.isclose(value, wanted, rel_tol=1e-12)
