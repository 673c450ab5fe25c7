"""What a person may do to a piece of code: other code in its place, and what is then said."""

import ast
import itertools
from collections.abc import Iterator

from nbjudge.judging.code import PARTS_OF_A_LIST, applied, method, subject, then, times, transposed
from nbjudge.judging.edits_of_calls import edits_of_call
from nbjudge.judging.words import Words, pair

_OPPOSITE = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
# What people add to keep off zero.
_SMALL = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12)
_BESIDE = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}


def edits_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that may stand in the place of this one, and what is said of each."""
    if isinstance(node, (ast.BinOp, ast.Call, ast.Subscript)):
        if isinstance(node, ast.BinOp):
            yield from _of_operation(node, words)
        elif isinstance(node, ast.Call):
            yield from edits_of_call(node, words)
        here = words.of(node) or "one of the steps"
        for name, said in words.names(node):
            yield ast.Name(name, ast.Load()), f"with {said} in the place of {here}"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield node.operand, f"with the other sign of {words.of(node.operand) or 'one quantity'}"
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _BESIDE:
        yield from _of_comparison(node, words)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _of_subscripts(node.value)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _of_name(node, words)
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPPOSITE:
        other = ast.AugAssign(node.target, _OPPOSITE[type(node.op)](), node.value)
        value = words.of(node.value) or "what each step adds"
        yield other, f"with {value} entering with the other sign at each step"
    elif isinstance(node, (ast.For, ast.GeneratorExp, ast.ListComp)):
        yield from _of_loop(node)
    elif isinstance(node, ast.Assign) and len(node.targets) == 1:
        yield from _of_assignment(node, words)
    elif isinstance(node, (ast.IfExp, ast.If)):
        other = type(node)(**{**dict(ast.iter_fields(node)), "test": _not(node.test)})
        yield other, "with a condition the other way round"
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load) and len(node.elts) == 2:
        yield ast.Tuple(node.elts[::-1], ast.Load()), "with two quantities exchanged"
    elif isinstance(node, ast.Attribute) and node.attr in ("T", "mT"):
        yield node.value, f"without transposing {words.of(node.value) or 'a matrix'}"


def additions_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """What a person may have added: a small number to keep off zero, another scale of the data."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        for small in _SMALL:
            divisor = ast.BinOp(node.right, ast.Add(), ast.Constant(small))
            said = f"with {small:g} added to {words.of(node.right) or 'the divisor'}"
            yield ast.BinOp(node.left, ast.Div(), divisor), said
    elif isinstance(node, ast.Call) and subject(node)[0] in ("log", "sqrt"):
        function, operand = subject(node)
        of = f" of {words.of(operand)}" if words.of(operand) else ""
        for small in _SMALL:
            more = ast.BinOp(operand, ast.Add(), ast.Constant(small))
            said = f"with {small:g} added inside {words.noun(function)}{of}"
            yield method(more, function), said
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and words.of(node):
        here = words.of(node)
        for levels in (255, 256):
            rescaled = ast.BinOp(node, ast.Div(), ast.Constant(levels))
            yield rescaled, f"with {here} divided by {levels}"
        centred = ast.BinOp(node, ast.Sub(), ast.Constant(0.5))
        yield centred, f"with {here} − ½ in the place of {here}"


def lacks_of(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """What may be missing at the end of a statement: a factor, a summand, a function, an axis."""
    if not isinstance(node, (ast.Assign, ast.Return)):
        return
    # What only hands on a variable lacks nothing of its own.
    if node.value is None or isinstance(node.value, ast.Name):
        return
    value, one = node.value, ast.Constant(1)
    changed = [ast.UnaryOp(ast.USub(), value), times(0.5, value), times(2.0, value)]
    changed += [ast.BinOp(value, sign(), one) for sign in (ast.Add, ast.Sub)]
    changed += [method(value, name) for name in ("exp", "log", "sqrt", "square", "abs", "detach")]
    changed += [method(value, name, axis) for name in ("sum", "mean") for axis in (0, 1, -1)]
    for _, length in words.lengths():
        log = ast.parse("__import__('math').log(0)", mode="eval").body
        log.args = [length]
        changed += [ast.BinOp(value, op(), length) for op in (ast.Mult, ast.Div)]
        changed += [ast.BinOp(value, op(), log) for op in (ast.Add, ast.Sub)]
    for other in changed:
        yield type(node)(**{**dict(ast.iter_fields(node)), "value": other}), "with what it lacks"


def _of_operation(node, words):
    left, right, op = node.left, node.right, type(node.op)
    a, b = words.of(left), words.of(right)
    if op in (ast.Add, ast.Sub):
        done, due = ("subtracted", "added") if op is ast.Add else ("added", "subtracted")
        swapped = ast.BinOp(left, _OPPOSITE[op](), right)
        yield swapped, f"with {b or 'one summand'} {done} where it is to be {due}"
        yield left, f"without {b or 'one of the summands'}"
        if op is ast.Add:
            yield right, f"without {a or 'one of the summands'}"
            yield (
                ast.BinOp(right, ast.Sub(), left),
                f"with {a or 'one summand'} subtracted where it is to be added",
            )
        else:
            yield ast.BinOp(right, op(), left), f"with {pair('the difference', a, b)} reversed"
            yield ast.UnaryOp(ast.USub(), right), f"without {a or 'one of the summands'}"
            yield right, f"with {b or 'what is to be subtracted'} alone"
    for letter, length in words.lengths() if op is ast.Div else ():
        yield ast.BinOp(left, op(), length), f"divided by {letter}, not by {b or 'the divisor'}"
    if op is ast.Mult:
        yield left, f"without the factor {b or ''}".rstrip()
        yield right, f"without the factor {a or ''}".rstrip()
        yield ast.BinOp(left, ast.Div(), right), f"divided by {b or 'one of the factors'}"
        yield ast.BinOp(right, ast.Div(), left), f"divided by {a or 'one of the factors'}"
        yield ast.BinOp(left, ast.Add(), right), f"with {pair('a sum', a, b)} for a product"
        for factor, said in ((left, a), (right, b)):
            if said and not isinstance(factor, ast.Constant):
                squared = ast.BinOp(factor, ast.Pow(), ast.Constant(2))
                sides = (squared, right) if factor is left else (left, squared)
                yield ast.BinOp(sides[0], ast.Mult(), sides[1]), f"with the factor {said} twice"
    if op is ast.Div:
        yield left, f"without the division by {b or 'the divisor'}"
        yield ast.BinOp(left, ast.Mult(), right), f"multiplied by {b or 'what is the divisor'}"
        yield ast.BinOp(right, op(), left), f"with {pair('the quotient', a, b)} upside down"
        squared = ast.BinOp(right, ast.Pow(), ast.Constant(2))
        yield ast.BinOp(left, op(), squared), f"divided by {b or 'the divisor'} twice"
        root = ast.BinOp(right, ast.Pow(), ast.Constant(0.5))
        yield ast.BinOp(left, op(), root), f"divided by the square root of {b or 'the divisor'}"
    if op is ast.Pow:
        yield left, f"with {a or 'a quantity'} not raised to a power"
    if op is ast.MatMult:
        yield ast.BinOp(right, op(), left), "with a product of matrices in the other order"
        for sides in ((transposed(left), right), (left, transposed(right))):
            yield ast.BinOp(sides[0], op(), sides[1]), "with one of two matrices transposed"


def _of_comparison(node, words):
    for other in _BESIDE[type(node.ops[0])]:
        changed = ast.Compare(node.left, [other()], node.comparators)
        a, b = words.of(node.left), words.of(node.comparators[0])
        pair = f" of {a} and {b}" if a and b else ""
        equal = {type(node.ops[0]), other} in ({ast.Lt, ast.LtE}, {ast.Gt, ast.GtE})
        how = "that treats equality the other way" if equal else "the other way round"
        yield changed, f"with a comparison{pair} {how}"


def _of_constant(node):
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value), f"with `{not value}` in the place of `{value}`"
    elif isinstance(value, (int, float)):
        candidates = [value + 1, value - 1] if isinstance(value, int) else []
        candidates += [2 * value, value / 2] if value else [1]
        for other in dict.fromkeys([*candidates, 0, -value]):
            if other != value:
                yield (
                    ast.Constant(other),
                    f"with {Words.number(other)} in the place of {Words.number(value)}",
                )


def _of_subscripts(text):
    """Of what `einsum` takes: an operand with two of its axes exchanged, the axes of one sum kept.

    Any other text is a name or a message.
    """
    inputs, arrow, _ = text.partition("->")
    if not arrow:
        return
    for operand in inputs.split(","):
        for a, b in itertools.combinations(operand.strip(". "), 2):
            swapped = operand.translate(str.maketrans(a + b, b + a))
            yield ast.Constant(text.replace(operand, swapped, 1)), "with a matrix transposed"


def _of_name(node, words):
    here = words.of(node)
    if not here:
        return
    for name, said in words.names(node):
        if name != node.id and said != here:
            yield ast.Name(name, ast.Load()), f"with {said} in the place of {here}"
    if words.is_a_count(node):
        for one, said in ((1, f"{here} + 1"), (-1, f"{here} − 1")):
            other = ast.BinOp(node, ast.Add(), ast.Constant(one))
            yield other, f"with {said} in the place of {here}"
        return
    squared = ast.BinOp(node, ast.Pow(), ast.Constant(2))
    yield squared, f"with the square of {here} in its place"
    for function in ("exp", "log", "sqrt", "sigmoid", "abs", "reciprocal", "round"):
        noun = words.noun(function)
        yield method(node, function), f"with {noun} of {here} in its place"
    yield times(2.0, node), f"with 2 {here} in the place of {here}"
    yield times(0.5, node), f"with ½ {here} in the place of {here}"


def _of_loop(node):
    """Another order of its steps, or one step less."""
    holder = node if isinstance(node, ast.For) else node.generators[0]
    all_of_it = applied("list", holder.iter)
    for how, part in PARTS_OF_A_LIST.items():
        fields = dict(ast.iter_fields(holder))
        changed = type(holder)(**fields | {"iter": ast.Subscript(all_of_it, part, ast.Load())})
        if holder is not node:
            others = {**dict(ast.iter_fields(node)), "generators": [changed, *node.generators[1:]]}
            changed = type(node)(**others)
        yield changed, f"with {how.format('step')} of a loop"


def _of_assignment(node, words):
    """A variable changed wherever it is used from here on, or two of one call exchanged."""
    target = node.targets[0]
    names = target.elts if isinstance(target, ast.Tuple) else [target]
    if not all(isinstance(name, ast.Name) for name in names):
        return
    for name in names:
        loaded = ast.Name(name.id, ast.Load())
        if said := words.of(loaded):
            for how, changed in _of_variable(loaded, said, words):
                yield then(node, ast.Assign([name], changed)), how
    if len(names) == 2:
        exchanged = ast.Tuple(names[::-1], ast.Store())
        said = pair("two results", *(words.of(ast.Name(n.id, ast.Load())) for n in names))
        yield ast.Assign([exchanged], node.value), f"with {said} exchanged"


def _of_variable(name, said, words):
    yield f"with −{said} in the place of {said}", ast.UnaryOp(ast.USub(), name)
    for text, factor in (("½", 0.5), ("2", 2.0)):
        yield f"with {text} {said} in the place of {said}", times(factor, name)
    for function in ("exp", "log", "square", "sqrt", "sigmoid", "tanh", "abs", "mean", "sum"):
        changed = f"{words.noun(function)} of {said}"
        yield f"with {changed} in the place of {said}", method(name, function)
    for text, factor in (("0", 0.0), ("1", 1.0)):
        same = times(0.0, method(name, "nan_to_num"))
        yield f"if {said} were {text}", ast.BinOp(same, ast.Add(), ast.Constant(factor))


def _not(node):
    return ast.UnaryOp(ast.Not(), node)
