"""What a person may do to a piece of code: other code in its place, and what is then said.

Other code is written as it would stand in a program, with names for its parts: `expression("a - b",
a=…, b=…)`.
"""

import ast
import itertools
from collections.abc import Iterator

from nbjudge.judging.code import PARTS_OF_A_LIST, expression, is_a_length, subject, then
from nbjudge.judging.edits_of_calls import edits_of_call, other_lengths
from nbjudge.judging.words import Words

# Of `a` and `b`: what they are called if they have no names, and what may stand there.
_OPERATIONS = {
    ast.Add: (
        ("one summand", "one summand"),
        {
            "a - b": "with {b} subtracted where it is to be added",
            "b - a": "with {a} subtracted where it is to be added",
            "a": "without {b}",
            "b": "without {a}",
        },
    ),
    ast.Sub: (
        ("one summand", "one summand"),
        {
            "a + b": "with {b} added where it is to be subtracted",
            "a": "without {b}",
            "-b": "without {a}",
            "b - a": "with a difference reversed, of {a} and {b}",
            "b": "with {b} alone",
        },
    ),
    ast.Mult: (
        ("one factor", "one factor"),
        {
            "a": "without the factor: {b}",
            "b": "without the factor: {a}",
            "a / b": "with a division by what is a factor: {b}",
            "b / a": "with a division by what is a factor: {a}",
            "a + b": "with a sum for a product, of {a} and {b}",
            "a * a * b": "with a factor twice: {a}",
            "a * b * b": "with a factor twice: {b}",
        },
    ),
    ast.Div: (
        ("what is divided", "the divisor"),
        {
            "a": "without the division by {b}",
            "a * b": "with a factor by which it is to be divided: {b}",
            "b / a": "with a quotient upside down, of {a} and {b}",
            "a / b**2": "with a second division by {b}",
            "a / b**0.5": "with a division by the square root of {b}, not by {b}",
        },
    ),
    ast.Pow: (("a number", "of another"), {"a": "with {a} not raised to the power {b}"}),
    ast.MatMult: (
        ("one matrix", "one matrix"),
        {
            "a.mT @ b": "with {a} transposed",
            "a @ b.mT": "with {b} transposed",
            "b @ a": "with a matrix product in the other order, of {a} and {b}",
        },
    ),
}
_BESIDE = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
# In the place of `v`.
_OF_NAME = {
    "v**2": "the square of {v}",
    "v.exp()": "the exponential of {v}",
    "v.log()": "the logarithm of {v}",
    "v.sqrt()": "the square root of {v}",
    "v.sigmoid()": "the sigmoid of {v}",
    "v.abs()": "the absolute value of {v}",
    "1 / v": "1/{v}",
    "v.sum()": "the sum of {v}",
    "v.mean()": "the average of {v}",
    "v.round()": "{v} rounded",
    "2 * v": "2 {v}",
    "0.5 * v": "½ {v}",
}
_OF_VARIABLE = {
    "-v": "−{v}",
    **_OF_NAME,
    "v.tanh()": "the tanh of {v}",
    "0 * v": "0",
    "0 * v + 1": "1",
}
_OF_COUNT = {"v + 1": "{v} + 1", "v - 1": "{v} − 1"}
# What people add to keep off zero, and what they rescale by.
_SMALL = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12)
_RESCALED = {"v / 255": "{v}/255", "v / 256": "{v}/256", "v - 0.5": "{v} − ½"}
_LACKS = (
    *("-v", "0.5 * v", "2 * v", "v + 1", "v - 1", "v.exp()", "v.log()", "v.sqrt()", "v.square()"),
    *("v.abs()", "v.detach()", "v.sum(0)", "v.sum(1)", "v.sum(-1)"),
    *("v.mean(0)", "v.mean(1)", "v.mean(-1)"),
)
_LACKS_A_LENGTH = ("v * n", "v / n", "v + _math.log(n)", "v - _math.log(n)")


def edits_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that may stand in the place of this one, and what is said of each."""
    if isinstance(node, ast.BinOp):
        yield from _of_operation(node, words)
    elif isinstance(node, ast.Call):
        yield from edits_of_call(node, words)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand, f"with the other sign of {words.of(node.operand) or 'one quantity'}"
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _BESIDE:
        yield from _of_comparison(node, words)
    elif isinstance(node, ast.Constant):
        of_constant = _of_subscripts if isinstance(node.value, str) else _of_number
        yield from of_constant(node.value)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and words.of(node):
        yield from _in_its_place(_OF_COUNT if words.is_a_count(node) else _OF_NAME, node, words)
    elif isinstance(node, (ast.For, ast.GeneratorExp, ast.ListComp)):
        yield from _of_loop(node)
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
        yield from _of_unpacking(node, words)
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Add, ast.Sub)):
        other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        value = words.of(node.value) or "what each step adds"
        yield ast.AugAssign(node.target, other, node.value), f"with the other sign of {value}"
    elif isinstance(node, (ast.IfExp, ast.If)):
        other = expression("not a", a=node.test)
        yield _with(node, test=other), "with a condition the other way round"
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
        yield ast.Tuple(node.elts[::-1], ast.Load()), "with two quantities exchanged"
    elif isinstance(node, ast.Subscript) and is_a_length(node):
        yield from other_lengths(node, words)
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield node.value, f"without transposing {words.of(node.value) or 'a matrix'}"
    if isinstance(node, (ast.BinOp, ast.Call, ast.Subscript, ast.Name)):
        yield from _another_variable(node, words)


def additions_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """What a person may have added: a small number to keep off zero, another scale of the data."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        for small in _SMALL:
            said = f"with {small:g} added to {words.of(node.right) or 'the divisor'}"
            yield expression(f"a / (b + {small})", a=node.left, b=node.right), said
    elif isinstance(node, ast.Call) and subject(node)[0] in ("log", "sqrt"):
        function, operand = subject(node)
        of = f" of {words.of(operand)}" if words.of(operand) else ""
        for small in _SMALL:
            said = f"with {small:g} added inside {words.noun(function)}{of}"
            yield expression(f"(a + {small}).{function}()", a=operand), said
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and words.of(node):
        yield from _in_its_place(_RESCALED, node, words)


def lacks_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """What may be missing at the end of a statement: a factor, a summand, a function, an axis."""
    if not isinstance(node, (ast.Assign, ast.Return)):
        return
    # What only hands on a variable lacks nothing of its own.
    if node.value is None or isinstance(node.value, ast.Name):
        return
    changed = [expression(text, v=node.value) for text in _LACKS]
    for _, n in words.lengths():
        changed += [expression(text, v=node.value, n=n) for text in _LACKS_A_LENGTH]
    for value in changed:
        yield _with(node, value=value), "with what it lacks"


def _of_operation(node, words):
    without_names, others = _OPERATIONS.get(type(node.op), ((), {}))
    parts = {"a": node.left, "b": node.right}
    names = {
        part: words.of(parts[part]) or name for part, name in zip("ab", without_names, strict=False)
    }
    for text, said in others.items():
        yield expression(text, **parts), said.format(**names)
    for letter, n in words.lengths() if isinstance(node.op, ast.Div) else ():
        said = f"with a division by {letter}, not by {names['b']}"
        yield expression("a / n", a=node.left, n=n), said


def _another_variable(node, words):
    here = words.of(node) or "one of the steps"
    if isinstance(node, ast.Name) and (isinstance(node.ctx, ast.Store) or not words.of(node)):
        return
    for name, said in words.names(node):
        # Two variables may be called the same where they are.
        if (name != node.id) if isinstance(node, ast.Name) else (said != here):
            yield ast.Name(name, ast.Load()), f"with {said} in the place of {here}"


def _in_its_place(others, node, words):
    here = words.of(node)
    for text, said in others.items():
        yield expression(text, v=node), f"with {said.format(v=here)} in the place of {here}"


def _of_comparison(node, words):
    a, b = words.of(node.left), words.of(node.comparators[0])
    of = f" of {a} and {b}" if a and b else ""
    for other in _BESIDE[type(node.ops[0])]:
        equal = {type(node.ops[0]), other} in ({ast.Lt, ast.LtE}, {ast.Gt, ast.GtE})
        how = "that treats equality the other way" if equal else "the other way round"
        yield _with(node, ops=[other()]), f"with a comparison{of} {how}"


def _of_number(value):
    if isinstance(value, bool):
        yield ast.Constant(not value), f"with `{not value}` in the place of `{value}`"
    elif isinstance(value, (int, float)):
        candidates = [value + 1, value - 1] if isinstance(value, int) else []
        candidates += [2 * value, value / 2] if value else [1]
        candidates += [10] if value == 2 else []
        for other in dict.fromkeys([*candidates, 0, -value]):
            if other != value:
                said = f"with {Words.number(other)} in the place of {Words.number(value)}"
                yield ast.Constant(other), said


def _of_subscripts(text):
    """Of what `einsum` takes: an operand with two of its axes exchanged.

    Any other text is a name or a message.
    """
    inputs, arrow, _ = text.partition("->")
    for operand in inputs.split(",") if arrow else ():
        for a, b in itertools.combinations(operand.strip(". "), 2):
            swapped = operand.translate(str.maketrans(a + b, b + a))
            yield ast.Constant(text.replace(operand, swapped, 1)), "with a matrix transposed"


def _of_loop(node):
    """Another order of its steps, or some of them only."""
    holder = node if isinstance(node, ast.For) else node.generators[0]
    for how, part in PARTS_OF_A_LIST.items():
        changed = _with(holder, iter=expression(f"list(v)[{part}]", v=holder.iter))
        if holder is not node:
            changed = _with(node, generators=[changed, *node.generators[1:]])
        yield changed, f"with {how.format('step', 'a loop')}"


def variables_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """A variable taken for something else wherever it is used from its assignment on."""
    for name in _assigned(node):
        loaded = ast.Name(name.id, ast.Load())
        here = words.of(loaded)
        for text, there in _OF_VARIABLE.items() if here else ():
            changed = ast.Assign([name], expression(text, v=loaded))
            yield then(node, changed), f"with {there.format(v=here)} in the place of {here}"


def _of_unpacking(node, words):
    """Two results of one call, exchanged."""
    names = _assigned(node)
    if len(names) == 2:
        said = [words.of(ast.Name(name.id, ast.Load())) for name in names]
        pair = " and ".join(said) if all(said) else "two results"
        exchanged = ast.Tuple(names[::-1], ast.Store())
        yield _with(node, targets=[exchanged]), f"with {pair} exchanged"


def _assigned(node):
    """The names that a statement assigns, if it assigns names only."""
    if not isinstance(node, ast.Assign) or len(node.targets) > 1:
        return []
    target = node.targets[0]
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    return names if all(isinstance(name, ast.Name) for name in names) else []


def _with(node, **fields):
    """A copy of a node in which some fields are others."""
    return type(node)(**{**dict(ast.iter_fields(node)), **fields})
