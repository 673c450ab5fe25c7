"""What `dgm new-exercise` writes: a place marked FILL wherever a maintainer has to think.

`$name` and the like are put in by `string.Template`. A mark with a colon and words is listed as a
place; one without belongs to the place above it. Words hold no quotation mark and no backslash.
"""

# dgm_utils/TOPIC.py, a new one and what is added to it.
REFERENCE_MODULE = '''\
"""FILL: what the topic is, and the formula it is about.

Everything is in nats.

Sources: FILL.
"""
'''
REFERENCE = '''

def $name($arguments):
    """FILL: what is computed, shapes as in `(B, D) → (B,)`, units, what raises what."""
    raise NotImplementedError("FILL: the reference $name")
'''

# tests/test_TOPIC.py
TEST_MODULE = '''\
"""FILL: the claims of lecture $lecture, held against exact answers."""
'''
TEST = '''

def test_$name():
    """FILL: the claim that $name answers, as a sentence."""
    raise NotImplementedError("FILL: hold $name against an exact answer")
'''

# dgm_utils/exercises/TOPIC/__init__.py, a new one
PAGES = '''\
"""The assignment `$topic`: its exercises in the order in which they are asked, and `check`."""

from dgm_utils.exercises import EDITION
from nbjudge.asking.page import exercises
from nbjudge.check import Checker

EXERCISES = exercises(
    __name__,
    "$name",
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
'''
# dgm_utils/exercises/TOPIC/NAME.py
PAGE = '''\
"""`$name`: FILL: what is asked, in a few words."""

from dgm_utils import $topic
from nbjudge.asking.page import Page

page = Page(
    $topic.$name,
    "FILL: what is asked in $name, in one sentence",
    # FILL: these numbers, the same on the card and in the check cell of the notebook.
    points=1,
    minutes=10,
    difficulty=1,
    # FILL: the axes of $name, as in B D, _ -> B, and its wrt
    axes="",
    wrt="$first",
    hints=(
        "FILL: three hints for $name, each saying more than the one before",
        "FILL",
        "FILL",
    ),
)


@page.cases
def _(draw):
    size = draw.integer(2, 4)
    args = ($draws)
    yield page.case("FILL: the simplest case of $name", *args)
    # Then the edges: one entry, axes of different length, large numbers, not contiguous.
    raise NotImplementedError("FILL: the other cases of $name")


@page.must
def hold_for_it(value, $arguments):
    """FILL: a property of $name, or none."""
    raise NotImplementedError("FILL: a property of $name, or none")
'''
WRONG = '''

@page.wrong("FILL: wrong answer $number")
def _($arguments):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")
'''

# dgm_utils/exercises/TOPIC.py, where a topic is still one module
EXERCISE = """\
# --- $name $rule


def _${name}_cases(draw):
    size = draw.integer(2, 4)
    args = ($draws)
    yield Case("FILL: the simplest case of $name", args, wrt=(0,))
    # Then the edges: one entry, axes of different length, large numbers, not contiguous.
    raise NotImplementedError("FILL: the other cases of $name")


def _${name}_is_exact(case, value):
    raise NotImplementedError("FILL: a property of $name, or none")


${name}_wrong = Misconceptions()
$wrong

_$name = Exercise(
    name="$name",
    question="FILL: what is asked in $name, in one sentence",
    reference=$reference.$name,
    cases=_${name}_cases,
    properties=(Property("FILL", "FILL", _${name}_is_exact),),
    misconceptions=tuple(${name}_wrong),
    hints=(
        "FILL: three hints for $name, each saying more than the one before",
        "FILL",
        "FILL",
    ),
    # FILL: these numbers, the same on the card and in the check cell of the notebook.
    points=1,
    minutes=10,
    difficulty=1,
)


"""
MISCONCEPTION = '''

@${name}_wrong("FILL: wrong answer $number")
def _($arguments):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")
'''

# tests/right_answers/TOPIC.py
RIGHT_MODULE = '''\
"""Right answers written in different ways: every check must pass all of them."""


'''
RIGHT = """\
def ${name}_in_a_loop($arguments):
    raise NotImplementedError("FILL: $name in a loop")


def ${name}_from_torch($arguments):
    raise NotImplementedError("FILL: $name from what torch has")


def ${name}_rearranged($arguments):
    raise NotImplementedError("FILL: $name by another formula")


"""
RIGHT_ENTRY = """\
    "$name": (
        ${name}_in_a_loop,
        ${name}_from_torch,
        ${name}_rearranged,
    ),
"""

# solutions/TOPIC/TOPIC.ipynb, a new one: cells before and after those of the exercises.
TITLE = """\
# FILL: title of the assignment

FILL: what it is about and what the student writes, in three sentences.

**4 points** in all, for a function and a written answer; about **30 minutes**. FILL: how long the \
notebook itself runs.

Each function has a cell for your code and a check below it. Run the check, or press *Validate*, \
as often as you like: it says what is wrong and with which numbers. When a class is graded, the \
same check runs with other numbers and sizes. Replace `raise NotImplementedError()` by your code; \
add cells wherever you want to try something.

The lecture that goes with it: [$lecture FILL](../../lectures/$lecture_file). A card's claim is a \
claim of that lecture."""
TITLE_OF_MORE = """\


FILL: add $name to the points, functions and minutes above, and delete this line."""
NOTATION = """\
## Notation

| letter | is | axis |
|---|---|---|
| $$B$$ | FILL: the letters of the assignment | first |

Results are differentiable, on the device and in the dtype of the arguments; arguments stay as \
they are."""
RECAP = """\
## Recap

FILL: what the student has to know, with formulas."""
IMPORTS = """\
from dgm_utils.exercises.$topic import check

check.made_with("$version")  # the version of dgm_utils that this notebook needs

# FILL: above, what the wrong answers need: math, itertools, torch, F. Here, from dgm_utils.data."""
PROOF_CARD = """\
## Written: FILL: title of the written question

**3 points** · 20 minutes · difficulty ●●○ · claim FILL

FILL: the written question."""
PROOF = "FILL: the answer to the written question."
CLOSING = "FILL: what the student has seen, in two sentences."

# … and the cells of an exercise.
CARD = """\
## `$name`

**1 point** · 10 minutes · difficulty ●○○ · claim FILL

FILL: the card of $name, with the formula and the shapes of arguments and result."""
SOLUTION = '''\
def $name($arguments):
    """FILL: what $name returns, and its shape."""
    ### BEGIN SOLUTION
    raise NotImplementedError("FILL: the answer to $name")
    ### END SOLUTION'''
CHECK = """\
check($name)
### BEGIN HIDDEN TESTS
check($name, seed=1)
### END HIDDEN TESTS"""

# lectures/NN_TOPIC.ipynb, and what lectures/README.md says of it.
LECTURE_TITLE = """\
# $number · FILL: title of the lecture

FILL: what the lecture is about, in three sentences.

**What you will know**
- FILL ($number.1).

**What it takes.** FILL: minutes to read, seconds to run, which lecture before.

**What follows.** The assignment [`$topic`](../assignments/$topic/$topic.ipynb).

Notation: [the table of all lectures](README.md#notation)."""
LECTURE_IMPORTS = "from dgm_utils.$topic import $name"
CLAIM = """\
## $number.1 FILL: title of the claim

**Claim $number.1.** FILL: the claim, and its derivation in a few lines."""
CLAIM_NUMBERS = """\
# NBVAL_CHECK_OUTPUT
print($name.__name__)
assert not "FILL: print the numbers of claim $number.1 and assert it\""""
SUMMARY = """\
## Summary

- FILL: a line for each claim.

## References

- FILL: authors, title, year."""
LECTURE_ROW = """\
| $number | [FILL: title of the lecture]($lecture_file) | $assignment |
"""
CLAIM_ROW = """\
| $number.1 | FILL: the claim | [$number.1 FILL: title of the claim]($lecture_file) | \
`tests/test_$topic.py::test_$name` |
"""
ASSIGNMENT = "[`$topic`](../assignments/$topic/$topic.ipynb)"
# A lecture that stood without an assignment so far.
FOLLOWS = """\


FILL: say that this assignment follows: [`$topic`](../assignments/$topic/$topic.ipynb)."""
