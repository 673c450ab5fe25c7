"""What a person may do to a call: another function, another axis, none at all."""

import ast
from collections.abc import Iterator

from nbjudge.judging.code import PARTS_OF_A_LIST, applied, is_of_module, method, subject
from nbjudge.judging.words import Words, pair

_SUMS = {"sum", "mean", "logsumexp", "amax", "max", "prod", "nansum"}
_INSTEAD = {
    "sum": ("mean",),
    "mean": ("sum", "amax", "median"),
    "prod": ("sum", "mean"),
    "amax": ("amin", "mean"),
    "max": ("min",),
    "min": ("max",),
    "argmax": ("argmin",),
    "argmin": ("argmax",),
    "exp": ("log", "sigmoid"),
    "log": ("exp", "log2", "log10"),
    "log2": ("log",),
    "log1p": ("log",),
    "expm1": ("exp",),
    "sqrt": ("square",),
    "square": ("sqrt",),
    "std": ("var",),
    "var": ("std",),
    "sigmoid": ("tanh", "exp"),
    "tanh": ("sigmoid",),
    "logsigmoid": ("sigmoid",),
    "softplus": ("exp", "relu"),
    "softmax": ("log_softmax", "sigmoid", "exp"),
    "log_softmax": ("softmax",),
    "floor": ("round", "ceil"),
    "ceil": ("floor",),
    "round": ("floor",),
    "triu": ("tril",),
    "tril": ("triu",),
    "cumsum": ("cumprod",),
    "combinations": ("permutations", "combinations_with_replacement"),
}


def edits_of_call(node: ast.Call, words: Words) -> Iterator[tuple[ast.AST, str]]:
    """Nodes that may stand in the place of a call, and what is said of each."""
    function, operand = subject(node)
    if not function:
        return
    noun, of = words.noun(function), words.of(operand)
    of = f" of {of}" if of else ""
    axis = _axis_of(node)
    if function in _SUMS and operand is not None:
        over = words.axis(operand, axis)
        for other in _INSTEAD.get(function, ()):
            said = f"with {words.noun(other, over)} where {words.noun(function, over)} is due"
            yield _renamed(node, other), said
        yield from _of_mean_and_exp(node, function, operand, over)
        if axis is not None:
            for wrong in (0, 1, -1, -2):
                if wrong != axis:
                    there = _another(words.axis(operand, wrong), over)
                    said = f"with {noun} over {there} in the place of {over or 'the right axis'}"
                    yield _with_axis(node, wrong), said
            yield _with_axis(node, None), f"with {noun} over everything at once"
    elif axis is not None:
        over = words.axis(operand, axis)
        for wrong in (0, 1, -1, -2):
            if wrong != axis:
                there = _another(words.axis(operand, wrong), over)
                said = f"with {noun}{of} along {there} in the place of {over or 'the right axis'}"
                yield _with_axis(node, wrong), said
    if function not in _SUMS:
        for other in _INSTEAD.get(function, ()):
            said = f"with {words.noun(other)}{of} in the place of {noun}"
            yield _renamed(node, other), said
    if function == "sum" and isinstance(node.func, ast.Name):
        yield from _of_sum(node, operand, words)
    if function in ("std", "var") and not any(k.arg == "correction" for k in node.keywords):
        keywords = [k for k in node.keywords if k.arg != "unbiased"]
        with_zero = [*keywords, ast.keyword("correction", ast.Constant(0))]
        yield ast.Call(node.func, node.args, with_zero), f"with {noun}{of} divided by the number"
    if function in ("softmax", "log_softmax") and axis is not None:
        largest = ast.Compare(operand, [ast.Eq()], [method(operand, "amax", axis, True)])
        dtype = ast.Attribute(operand, "dtype", ast.Load())
        weights = ast.Call(ast.Attribute(largest, "to", ast.Load()), [dtype], [])
        yield weights, "with all of the weight on the largest"
    if operand is not None and function not in ("len", "range"):
        yield operand, f"without {noun}{of}"
    if len(node.args) >= 2 and isinstance(node.func, ast.Name):
        exchanged = [node.args[1], node.args[0], *node.args[2:]]
        both = pair("two arguments", words.of(node.args[0]), words.of(node.args[1]))
        yield ast.Call(node.func, exchanged, node.keywords), f"with {both} exchanged"
    for keyword in node.keywords:
        if keyword.arg and keyword.arg not in ("dtype", "device", "keepdim", "dim"):
            fewer = [k for k in node.keywords if k is not keyword]
            said = f"without `{keyword.arg}={ast.unparse(keyword.value)}`"
            yield ast.Call(node.func, node.args, fewer), said


def _of_sum(node, operand, words):
    """Of Python's own sum of a list."""
    of = words.of(operand) or "a list"
    average = ast.BinOp(node, ast.Div(), applied("len", operand))
    yield average, f"with the average of {of} where its sum is due"
    for how, part in PARTS_OF_A_LIST.items():
        some = ast.Subscript(applied("list", operand), part, ast.Load())
        yield applied("sum", some), f"with {how.format('entry')} of {of} in the place of its sum"


def _of_mean_and_exp(node, function, operand, over):
    """The log of an average against the average of logs, which Jensen's inequality sets apart."""
    axis = _axis_of(node)
    if axis is None:
        return
    over = f" over {over}" if over else ""
    length = ast.Subscript(
        ast.Attribute(operand, "shape", ast.Load()), ast.Constant(axis), ast.Load()
    )
    log_length = ast.parse("__import__('math').log(0)", mode="eval").body
    log_length.args = [length]
    if function == "mean":
        log_of_sum = ast.parse("__import__('torch').logsumexp(0, 0)", mode="eval").body
        log_of_sum.args = [operand, ast.Constant(axis)]
        log_of_mean = ast.BinOp(log_of_sum, ast.Sub(), log_length)
        yield (
            log_of_mean,
            f"with the log of the average of exponentials{over} where the average is due",
        )
        yield log_of_sum, f"with the log-sum-exp{over} where the average is due"
    if function == "logsumexp":
        mean = method(operand, "mean", axis)
        mean_of_logs = ast.BinOp(mean, ast.Add(), log_length)
        yield (
            mean_of_logs,
            f"with the average of the logs{over} where the log of the average is due",
        )
        yield mean, f"with the average{over} where the log-sum-exp is due"
        for other, said in (("amax", "the largest"), ("sum", "the sum of the logs")):
            yield method(operand, other, axis), f"with {said}{over} where the log-sum-exp is due"


def _another(letter, than):
    return letter if letter and letter != than else "another axis"


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
