"""What a person may do to a call: another function, another axis, none at all."""

import ast
from collections.abc import Iterator

from nbjudge.judging.code import PARTS_OF_A_LIST, expression, is_a_length, is_of_module, subject
from nbjudge.judging.words import Words

_SUMS = {"sum", "mean", "logsumexp", "amax", "max", "prod", "nansum"}
# Functions of an axis that are taken for others.
_INSTEAD = {
    "sum": ("mean",),
    "mean": ("sum", "amax"),
    "prod": ("sum", "mean"),
    "amax": ("amin", "mean"),
    "max": ("min",),
    "min": ("max",),
    "argmax": ("argmin",),
    "argmin": ("argmax",),
    "std": ("var",),
    "var": ("std",),
    "softmax": ("log_softmax",),
    "log_softmax": ("softmax",),
    "cumsum": ("cumprod",),
    "triu": ("tril",),
    "tril": ("triu",),
    "combinations": ("permutations", "combinations_with_replacement"),
}
# Functions of each number.
_INSTEAD_OF_EACH = {
    "exp": ("log", "sigmoid"),
    "log": ("exp", "log2", "log10"),
    "log2": ("log",),
    "log1p": ("log",),
    "expm1": ("exp",),
    "sqrt": ("square",),
    "square": ("sqrt",),
    "sigmoid": ("tanh", "exp"),
    "tanh": ("sigmoid",),
    "logsigmoid": ("sigmoid",),
    "softplus": ("exp", "relu"),
    "softmax": ("sigmoid", "exp"),
    "floor": ("round", "ceil"),
    "ceil": ("floor",),
    "round": ("floor",),
}
# Jensen's inequality sets them apart: what stands there, and where what is due.
_OF_LOGS = {
    "mean": {
        "_torch.logsumexp(v, n) - _math.log(v.shape[n])": (
            "the log of the average of exponentials",
            "the average",
        ),
        "_torch.logsumexp(v, n)": ("the log-sum-exp", "the average"),
    },
    "logsumexp": {
        "v.mean(n) + _math.log(v.shape[n])": ("the average of the logs", "the log of the average"),
        "v.mean(n)": ("the average", "the log-sum-exp"),
        "v.amax(n)": ("the largest", "the log-sum-exp"),
        "v.sum(n)": ("the sum of the logs", "the log-sum-exp"),
    },
}


def edits_of_call(node: ast.Call, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that may stand in the place of a call, and what is said of each."""
    function, operand = subject(node)
    if not function:
        return
    if is_a_length(node):
        yield from other_lengths(node, words)
        return
    noun, of = words.noun(function), words.of(operand)
    of = f" of {of}" if of else ""
    axis = _axis_of(node)
    letter = words.axis(operand, axis) if operand is not None else ""
    is_sum = function in _SUMS and operand is not None
    for other in _INSTEAD.get(function, ()):
        there, here = (words.noun(f, letter if is_sum else None) for f in (other, function))
        yield _renamed(node, other), f"with {there} where {here} is due"
    for other in _INSTEAD_OF_EACH.get(function, ()) if operand is not None else ():
        said = f"with {words.noun(other)}{of} in the place of {noun}"
        yield expression(f"v.{other}()", v=operand), said
    if axis is not None:
        yield from _of_logs(function, operand, axis, letter)
        for wrong in {0, 1, -1, -2} - {axis}:
            there = words.axis(operand, wrong)
            there = there if there and there != letter else "another axis"
            said = f"with {noun} along {there} in the place of {letter or 'the right axis'}"
            yield _with_axis(node, wrong), said
        if is_sum:
            yield _with_axis(node, None), f"with {noun} of everything at once"
            first = expression(f"v.select({axis}, 0)", v=operand)
            of_axis = f" of {letter}" if letter else ""
            yield first, f"with the first{of_axis} alone in the place of {noun}"
        if function == "mean":
            yield from _of_mean(operand, axis, letter, words)
    if function == "sum" and isinstance(node.func, ast.Name):
        yield from _of_sum(operand, words)
    if function in ("std", "var") and not any(k.arg == "correction" for k in node.keywords):
        keywords = [k for k in node.keywords if k.arg != "unbiased"]
        with_zero = [*keywords, ast.keyword("correction", ast.Constant(0))]
        said = f"with {noun}{of} that divides by the number, not by one less"
        yield ast.Call(node.func, node.args, with_zero), said
    if function in ("softmax", "log_softmax") and axis is not None:
        largest = expression(f"(v == v.amax({axis}, True)).to(v.dtype)", v=operand)
        yield largest, "with all of the weight on the largest"
    if operand is not None and function not in ("len", "range"):
        yield operand, f"without {noun}{of}"
    if len(node.args) >= 2 and isinstance(node.func, ast.Name):
        exchanged = [node.args[1], node.args[0], *node.args[2:]]
        both = [words.of(argument) for argument in node.args[:2]]
        said = " and ".join(both) if all(both) else "two arguments"
        yield ast.Call(node.func, exchanged, node.keywords), f"with {said} exchanged"
    for keyword in node.keywords:
        if keyword.arg and keyword.arg not in ("dtype", "device", "keepdim", "dim"):
            fewer = [k for k in node.keywords if k is not keyword]
            said = f"without `{keyword.arg}={ast.unparse(keyword.value)}`"
            yield ast.Call(node.func, node.args, fewer), said


def other_lengths(node: ast.AST, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """The length of another axis."""
    here = words.of(node)
    for other, n in words.lengths():
        if other != here:
            yield n, f"with {other} in the place of {here or 'a length'}"


def _of_mean(operand, axis, letter, words):
    """The sum, divided by another number than that of its terms."""
    total = f"v.sum({axis})"
    less = expression(f"{total} / (v.shape[{axis}] - 1)", v=operand)
    yield less, f"with a division by {letter or 'the number'} − 1"
    median = expression(f"v.median({axis}).values", v=operand)
    yield median, "with the median in the place of the average"
    for other, n in words.lengths():
        if other != letter:
            said = f"with a division by {other}, not by {letter or 'the number of summands'}"
            yield expression(f"{total} / n", v=operand, n=n), said


def _of_logs(function, operand, axis, letter):
    over = f" over {letter}" if letter else ""
    for text, (said, due) in _OF_LOGS.get(function, {}).items():
        other = expression(text, v=operand, n=ast.Constant(axis))
        yield other, f"with {said}{over} where {due} is due"


def _of_sum(operand, words):
    """Of Python's own sum of a list."""
    of = words.of(operand) or "a list"
    yield expression("sum(v) / len(v)", v=operand), f"with the average of {of}, not its sum"
    for how, part in PARTS_OF_A_LIST.items():
        some = expression(f"sum(list(v)[{part}])", v=operand)
        yield some, f"with {how.format('entry', of)}, not the sum of all"


def _axis_of(call):
    """The axis that a call names, as a number; None if it names none or several."""
    for keyword in call.keywords:
        if keyword.arg in ("dim", "axis"):
            return _whole(keyword.value)
    if not isinstance(call.func, ast.Attribute):
        return None
    after = call.args[1:] if is_of_module(call) else call.args
    known = call.func.attr in {*_SUMS, *_INSTEAD, "flip", "diff", "argsort", "sort", "unbind"}
    return _whole(after[0]) if after and known else None


def _whole(node):
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _with_axis(call, axis):
    """The call with another axis, or without one."""
    new = [] if axis is None else [ast.Constant(axis)]
    if any(k.arg in ("dim", "axis") for k in call.keywords):
        others = [k for k in call.keywords if k.arg not in ("dim", "axis")]
        named = [ast.keyword("dim", value) for value in new]
        return ast.Call(call.func, call.args, [*others, *named])
    first = 1 if is_of_module(call) else 0
    args = [*call.args[:first], *new, *call.args[first + 1 :]]
    return ast.Call(call.func, args, [k for k in call.keywords if new or k.arg != "keepdim"])


def _renamed(call, name):
    """The call of another function in its place."""
    func = call.func
    if isinstance(func, ast.Name):
        return ast.Call(ast.Name(name, ast.Load()), call.args, call.keywords)
    return ast.Call(ast.Attribute(func.value, name, ast.Load()), call.args, call.keywords)
