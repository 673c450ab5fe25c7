"""Which submissions of a class are more alike than chance explains."""

import ast
import io
import itertools
import math
import re
import tokenize
import warnings
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

# Tokens in a gram and grams in a window: any passage of GRAM + WINDOW - 1 tokens that two answers
# share leaves a fingerprint in both.
GRAM, WINDOW = 5, 4
# An answer with fewer tokens beyond what was released is written alike by chance, and one with
# fewer than `LONG` counts in proportion.
SHORTEST, LONG = 10, 30
# Answers that share fewer of their fingerprints are not alike.
ALIKE = 0.7
# An answer that more of the class has says nothing about who worked with whom.
COMMON = 0.2
# Longer answers are not compared: parsing one could take all the memory.
LONGEST = 20_000


@dataclass(frozen=True)
class Pair:
    """Two students whose answers are more alike than chance explains.

    Args:
        students: the two.
        evidence: the larger, the less likely by chance; see `alike_pairs`.
        exercises: exercise → share of the fingerprints in common; 1 for equal answers.

    """

    students: tuple[str, str]
    evidence: float
    exercises: dict[str, float]


def alike_pairs(
    answers: Mapping[str, Mapping[str, str]],
    released: Mapping[str, str],
    solutions: Mapping[str, str],
) -> list[Pair]:
    """Pairs of students whose answers are near-identical, the clearest first.

    Each answer is parsed and written anew without comments, docstrings, annotations and layout, the
    names that it binds replaced by numbers in the order they appear. Two answers are *equal* when
    the tokens are then the same. Otherwise their likeness is the share of fingerprints they have in
    common (Jaccard), names that they bind replaced by one symbol: hashes of `GRAM` successive
    tokens, chosen by winnowing (Schleimer, Wilkerson and Aiken, *Winnowing: Local Algorithms for
    Document Fingerprinting*, SIGMOD 2003), but for those of the released code.

    In an exercise that n students answered, an answer that c of them have, or have one like it, is
    given by one more student with probability (c - 1) / n: by the rule of succession, with the pair
    itself left out. Its evidence is the log of the inverse, times the likeness, less for a short
    answer. No evidence are one-liners, answers equal to the instructor's, and common ones. Evidence
    is added over exercises, as if they were independent, and a pair is shown when it exceeds the
    log of the number of pairs: chance alone would then show about one pair. In a class of more than
    three that takes at least two exercises.

    The cost grows with the number of answers and of likely pairs, not of all pairs: answers are
    grouped when equal, and found through an index of their rarest fingerprints (the prefix filter
    of Chaudhuri, Ganti and Kaushik, *A Primitive Operator for Similarity Joins*, ICDE 2006).
    Answers that are not Python or too long to be parsed are left out.

    Args:
        answers: student → exercise → source.
        released: exercise → the source every student was given.
        solutions: exercise → the instructor's source.

    """
    evidence, likeness = Counter(), defaultdict(dict)
    for exercise in solutions:
        given = {s: sources[exercise] for s, sources in answers.items() if exercise in sources}
        stub, solution = released.get(exercise, ""), solutions[exercise]
        for pair, share, weight in _alike_answers(given, stub, solution):
            evidence[pair] += share * weight
            likeness[pair][exercise] = share
    students = sum(any(sources.values()) for sources in answers.values())
    threshold = math.log(max(students * (students - 1) / 2, 1))
    pairs = [Pair(p, e, likeness[p]) for p, e in evidence.items() if e >= threshold]
    return sorted(pairs, key=lambda pair: (-pair.evidence, pair.students))


@dataclass(frozen=True)
class _Form:
    """What is left of an answer when its wording is taken away."""

    tokens: tuple[str, ...]
    prints: frozenset[int]


def _alike_answers(given, released, solution):
    """(Pair of students, likeness, weight) for the answers to one exercise."""
    stub, right = _form(released), _form(solution, released)
    students = defaultdict(list)
    forms = {source: _form(source, released) for source in set(given.values())}
    for student, source in sorted(given.items()):
        form = forms[source]
        if form and form != right and form.tokens != (stub and stub.tokens):
            students[form].append(student)
        elif form == right:
            students[right].append(student)
    answered = sum(map(len, students.values()))
    near = _near_forms(students)
    # How many students have an answer like this one.
    having = {
        form: len(members) + sum(len(students[other]) for other in near[form])
        for form, members in students.items()
    }
    beyond = {form: len(form.tokens) - (len(stub.tokens) if stub else 0) for form in having}
    telling = [
        form
        for form, count in having.items()
        if form != right
        and beyond[form] >= SHORTEST
        and 2 <= count <= 1 + max(1, COMMON * answered)
    ]

    def weight(form, other):
        length = min(beyond[form], beyond[other], LONG) / LONG
        return length * math.log(answered / (max(having[form], having[other]) - 1))

    order = {form: number for number, form in enumerate(telling)}
    for form in telling:
        for pair in itertools.combinations(students[form], 2):
            yield pair, 1.0, weight(form, form)
        for other, share in near[form].items():
            if order.get(other, -1) > order[form]:
                for pair in itertools.product(students[form], students[other]):
                    yield tuple(sorted(pair)), share, weight(form, other)


def _near_forms(forms):
    """Form → other form → likeness, where that reaches `ALIKE`."""
    near = {form: {} for form in forms}
    frequency = Counter(mark for form in forms for mark in form.prints)
    index = defaultdict(list)
    for form in sorted(forms, key=lambda form: (len(form.prints), form.tokens)):
        size = len(form.prints)
        rarest = sorted(form.prints, key=lambda mark: (frequency[mark], mark))
        # Two sets that are alike share one of the rarest so many.
        prefix = rarest[: size - math.ceil(ALIKE * size) + 1]
        for other in {other for mark in prefix for other in index[mark]}:
            common = len(form.prints & other.prints)
            share = common / (size + len(other.prints) - common)
            if share >= ALIKE:
                near[form][other] = near[other][form] = share
        for mark in prefix:
            index[mark].append(form)
    return near


def _form(source, released=""):
    """The form of an answer; None when it is no Python or too long."""
    tokens = _tokens(source)
    if tokens is None:
        return None
    given = _tokens(released) or ()
    numbers = itertools.count(1)
    names = defaultdict(lambda: f"v{next(numbers)}")
    ordered = tuple(_BOUND.sub(lambda m: names[m[0]], token) for token in tokens)
    prints = _winnow(_anonymous(tokens)) - set(_grams(_anonymous(given)))
    return _Form(ordered, frozenset(prints))


# Put before the names that an answer binds, to find them among the tokens.
_MARK = "_bound_"
_BOUND = re.compile(rf"{_MARK}\w+")
_LAYOUT = {
    tokenize.NEWLINE,
    tokenize.NL,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.COMMENT,
    tokenize.ENDMARKER,
}


def _anonymous(tokens):
    return [_BOUND.sub("v", token) for token in tokens]


def _tokens(source):
    """Tokens of a source in one manner of writing; None when it is no Python or too long."""
    if len(source) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        bound = {
            getattr(node, "arg", None) or getattr(node, "name", None) or getattr(node, "id", None)
            for node in ast.walk(tree)
            if isinstance(node, (ast.arg, ast.FunctionDef, ast.ExceptHandler))
            or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
        }
        plain = ast.unparse(_Plain(bound).visit(tree))
        found = list(tokenize.generate_tokens(io.StringIO(plain).readline))
    # What a student writes can break a parser in all these ways.
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None
    return [token.string for token in found if token.type not in _LAYOUT]


class _Plain(ast.NodeTransformer):
    """Marks bound names; takes out docstrings and annotations."""

    def __init__(self, bound):
        self._bound = bound

    def _marked(self, name):
        return _MARK + name if name in self._bound else name

    def visit_Name(self, node):
        return ast.Name(self._marked(node.id), node.ctx)

    def visit_arg(self, node):
        return ast.arg(self._marked(node.arg))

    def visit_FunctionDef(self, node):
        node.name, node.returns = self._marked(node.name), None
        return self.generic_visit(node)

    def visit_ExceptHandler(self, node):
        node.name = node.name and self._marked(node.name)
        return self.generic_visit(node)

    def visit_AnnAssign(self, node):
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_Expr(self, node):
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_text else self.generic_visit(node)


def _grams(tokens):
    """Hashes of each `GRAM` successive tokens; the same in every run."""
    return [
        zlib.crc32("\0".join(tokens[i : i + GRAM]).encode("utf-8", "replace"))
        for i in range(len(tokens) - GRAM + 1)
    ]


def _winnow(tokens):
    """The smallest hash of every `WINDOW` successive grams."""
    grams = _grams(tokens)
    windows = max(len(grams) - WINDOW + 1, min(len(grams), 1))
    return {min(grams[i : i + WINDOW]) for i in range(windows)}
