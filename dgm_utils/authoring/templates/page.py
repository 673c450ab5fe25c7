"""`NAME`: FILL: what is asked, in a few words."""

from dgm_utils import TOPIC
from nbjudge.asking.page import Page

page = Page(
    TOPIC.NAME,
    "FILL: what is asked in NAME, in one sentence",
    # FILL: these numbers, the same on the card and in the check cell of the notebook.
    points=1,
    minutes=10,
    difficulty=1,
    # FILL: the axes of NAME, as in B D, _ -> B, and its wrt
    axes="",
    wrt="FIRST",
    hints=(
        "FILL: three hints for NAME, each saying more than the one before",
        "FILL",
        "FILL",
    ),
)


@page.cases
def _(draw):
    size = draw.integer(2, 4)
    args = [draw.normal(size)]
    yield page.case("FILL: the simplest case of NAME", *args)
    # Then the edges: one entry, axes of different length, large numbers, not contiguous.
    raise NotImplementedError("FILL: the other cases of NAME")


@page.must
def hold_for_it(value, ARGUMENTS):
    """FILL: a property of NAME, or none."""
    raise NotImplementedError("FILL: a property of NAME, or none")


@page.wrong("FILL: wrong answer 1")
def _(ARGUMENTS):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")


@page.wrong("FILL: wrong answer 2")
def _(ARGUMENTS):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")


@page.wrong("FILL: wrong answer 3")
def _(ARGUMENTS):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")


@page.wrong("FILL: wrong answer 4")
def _(ARGUMENTS):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")


@page.wrong("FILL: wrong answer 5")
def _(ARGUMENTS):
    """FILL You …: {got}; …, {expected}."""
    raise NotImplementedError("FILL")
