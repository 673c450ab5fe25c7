"""Pages: what an author writes becomes an exercise, and what does not fit is said in words."""

import importlib
import inspect

import pytest
import torch
from conftest import EXERCISES, EXERCISES_OF, TOPICS

from nbjudge.asking.draw import Draw
from nbjudge.asking.page import Page
from nbjudge.asking.task import make_task
from nbjudge.check import Checker, run
from nbjudge.demo import source_as
from nbjudge.inside.observe import observe
from nbjudge.inside.tensors import tensors

PAGES = [
    importlib.import_module(f"dgm_utils.exercises.{topic}.{exercise.name}").page
    for topic in TOPICS
    if hasattr(importlib.import_module(f"dgm_utils.exercises.{topic}"), "__path__")
    for exercise in EXERCISES_OF[topic]
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
# What a notebook imports before an answer.
HEADER = "import itertools\nimport math\nimport torch\nimport torch.nn.functional as F\n"


def scaled(x, factor=2.0):
    return x.mean(0) * factor


def a_page(**more):
    asked = {"points": 1, "minutes": 1, "difficulty": 1, "hints": ("", "", "")}
    page = Page(scaled, "the mean, scaled", **asked | {"wrt": "x"} | more)

    @page.cases
    def _(draw):
        yield page.case("two numbers", draw.tensor([[1.0], [3.0]]), mean=[4.0])
        yield page.case("three", factor=3.0, x=draw.normal(3, 2), wrt="")

    return page


def in_a_notebook(exercise, number):
    """The source of a wrong answer, run as in a notebook."""
    namespace = {}
    exec(HEADER + source_as("scaled", exercise.misconceptions[number].implementation), namespace)
    return namespace["scaled"]


# The pages of the course.


def fits(letters, tensor, sizes):
    """Whether a tensor has these axes, each of the size that its letter has elsewhere."""
    axes = letters.replace("()", "").split()
    shape = tuple(tensor.shape)
    if axes[:1] == ["..."]:
        axes = axes[1:]
        shape = shape[len(shape) - len(axes) :]
    return len(axes) == len(shape) and all(
        sizes.setdefault(axis, size) == size for axis, size in zip(axes, shape, strict=True)
    )


@each_page
def test_axes_are_those_of_the_cases(page):
    exercise = page.exercise
    assert exercise.axes
    *arguments, (_, result) = exercise.axes.items()
    for case in exercise.cases(Draw(0)):
        sizes = {}
        for (name, letters), arg in zip(arguments, case.args, strict=False):
            assert letters == "_" or fits(letters, arg, sizes), (case.name, name)
        if result != "_":
            found = tensors(observe(exercise.reference, case).value)
            for letters, tensor in zip(result.split(","), found, strict=True):
                assert fits(letters, tensor, sizes), case.name


@each_page
def test_every_statement_speaks_of_a_case_whatever_the_seed(page):
    for seed in range(5):
        assert make_task(page.exercise, seed).cases


@each_page
def test_the_right_answer_of_a_page_is_right(page, written):
    if page.answer:
        answer = written(source_as(page.name, page.answer), page.name)
        _, verdict = run(page.exercise, answer)
        assert verdict.passed, verdict


# What becomes of a page.


def test_arguments_go_by_name_and_other_names_are_facts():
    first, second = a_page().exercise.cases(Draw(0))
    assert (len(first.args), first.wrt, first.facts) == (1, (0,), {"mean": [4.0]})
    assert (second.args[1], second.wrt, second.facts) == (3.0, (), {})


def test_a_statement_is_about_cases_that_have_what_it_names():
    page = a_page()

    @page.must
    def know_the_mean(value, mean, factor):
        """It is not."""
        return value.tolist() == mean and factor == 2.0

    (statement,) = page.exercise.properties
    first, second = page.exercise.cases(Draw(0))
    assert (statement.name, statement.sentence) == ("know the mean", "It is not.")
    assert statement.holds(first, torch.tensor([4.0]))
    assert not statement.holds(first, torch.tensor([5.0]))
    assert statement.holds(second, torch.tensor([5.0]))


def test_what_is_made_from_the_right_answer_stands_alone():
    page = a_page()
    page.but("detached", "You detach.", torch.detach)
    page.but("a sum", "You sum.", lambda mean: mean.sum())
    page.but("divided", "You divide {got}.", lambda value, factor: value / factor)
    exercise, x = page.exercise, torch.tensor([[1.0], [3.0]], requires_grad=True)
    assert not in_a_notebook(exercise, 0)(x).requires_grad
    assert in_a_notebook(exercise, 1)(x).shape == ()
    assert in_a_notebook(exercise, 2)(x, 4.0).item() == 2.0
    assert "mean = x.mean(0) * factor\n" in inspect.getsource(
        exercise.misconceptions[1].implementation
    )


def test_what_uses_a_piece_brings_it_along():
    page = a_page()

    @page.piece
    def doubled(x):
        """Twice the numbers."""
        return 2 * x

    @page.piece
    def fourfold(x):
        """Four times the numbers."""
        return doubled(doubled(x))

    @page.wrong("four times")
    def _(x, factor=2.0):
        """You multiply by four: {got}."""
        return fourfold(x).sum() * factor

    x = torch.ones(2)
    assert in_a_notebook(page.exercise, 0)(x).item() == 16
    assert page.exercise.misconceptions[0].implementation(x).item() == 16
    assert page.exercise.misconceptions[0].sentence == "You multiply by four: {got}."


# What does not fit.


def undocumented(page):
    @page.must
    def hold(value):
        return True


def speaking_of_nothing(page):
    @page.must
    def hold(value, average):
        """It does not."""

    list(page.exercise.cases(Draw(0)))


def named_twice(page):
    page.but("detached", "You detach.", torch.detach)
    page.but("detached", "You detach.", torch.detach)


def stated_twice(page):
    page.must_equal("mean", "It is not.")
    page.must_equal("mean", "It is not.")


def of_other_arguments(page):
    @page.wrong("wrong")
    def _(y):
        """You do."""


def leaning_on_the_module(page):
    @page.wrong("wrong")
    def _(x, factor=2.0):
        """You do."""
        return scaled(x)


def given_back_early(page):
    @page.right
    def _(x, factor=2.0):
        if factor:
            return x
        return x.mean(0)

    page.but("detached", "You detach.", torch.detach)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda page: a_page(wrt="y"), "wrt names 'y'; the arguments are x, factor"),
        (lambda page: a_page(axes="B D -> D"), "take a part for each of x, factor"),
        (lambda page: page.case("one", y=1), "case 'one': missing a required argument: 'x'.* y"),
        (lambda page: page.case("one", 1, wrt="y"), "case 'one' names 'y'; the arguments are x"),
        (lambda page: page.case("one", 1, 2, 3), "case 'one': too many positional arguments"),
        (undocumented, "'hold' has no docstring, which is what the student reads"),
        (speaking_of_nothing, "'hold' speaks of `average`, which no case has; there are .*mean"),
        (named_twice, "two wrong answers are called 'detached'"),
        (stated_twice, "two properties are called 'equal to mean'"),
        (of_other_arguments, r"'wrong' takes \(y\); the reference takes \(x, factor\)"),
        (leaning_on_the_module, "'wrong' uses `scaled`, which a notebook has not: write it with"),
        (given_back_early, "right answer that does not return once, at its end"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_does_not_fit_is_said_in_words(mistake, words):
    with pytest.raises(ValueError, match=f"the page of scaled: .*{words}"):
        mistake(a_page())


def test_a_page_without_cases_is_refused():
    page = Page(scaled, "", points=1, minutes=1, difficulty=1, hints=("", "", ""))
    with pytest.raises(ValueError, match=r"no cases: write .* under `@page.cases`"):
        _ = page.exercise


def test_two_exercises_of_one_name_are_refused():
    with pytest.raises(ValueError, match=f"two exercises are called '{EXERCISES[0].name}'"):
        Checker([EXERCISES[0], EXERCISES[1], EXERCISES[0]])
