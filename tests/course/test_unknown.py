"""Mistakes that nobody knew: students who made the same one stand together, and it gets a name."""

import dataclasses
import re
import shutil
import types

import pytest
import torch
from conftest import JAILED

from benchmarks.classroom import BOUND, TOPIC, answered, make_course, submit
from dgm_utils.cli import main
from dgm_utils.exercises.iwae import check
from nbjudge.asking.adopted import as_wrong_answer
from nbjudge.check import run
from nbjudge.errors import UserError
from nbjudge.execute_and_mark import close_graders
from nbjudge.grade import grade_class
from nbjudge.judging.verdict import same
from nbjudge.name import name_mistake
from nbjudge.reports.read import read_class, write_report
from nbjudge.reports.unknown import unknown_mistakes

LOG_NORMAL = '''def iwae_bound(weights: torch.Tensor) -> torch.Tensor:
    """Ada Lovelace, 1843."""
    print(weights)
    return weights.mean(0) + spread(weights) / 2  # I am not sure


def spread(w):
    return w.var(0, unbiased=False)
'''
BY_MOMENTS = """def iwae_bound(log_w):
    first, second = log_w.mean(0), ((log_w - log_w.mean(0)) ** 2).mean(0)
    return first + 0.5 * second"""
LEAST = "def iwae_bound(log_w):\n    return log_w.sort(0).values[0] * 0.9 + 0.3"
KNOWN = "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0)"
ELSEWHERE = "def iwae_bound(log_w):\n    return log_w.quantile(SHARE, 0)"
CLASS = {
    "ann": LEAST,
    "ben": LOG_NORMAL,
    "cyd": KNOWN,
    "dan": BY_MOMENTS,
    "eva": BOUND,
    "fay": ELSEWHERE,
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    made = make_course(tmp_path_factory.mktemp("unknown"))
    for student, bound in CLASS.items():
        submit(made, student, answered(made, bound, attack="SHARE = 0.2"))
    list(grade_class(made, TOPIC, list(CLASS), jobs=1, jailed=JAILED))
    yield made
    close_graders()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A copy of the page, in the place of the course's own."""
    exercise = check.exercises["iwae_bound"]
    copy = tmp_path / "iwae_bound.py"
    shutil.copy(exercise.page, copy)
    mine = dataclasses.replace(exercise, page=str(copy))
    monkeypatch.setitem(check.exercises, "iwae_bound", mine)
    return copy


def exercise_on(page):
    module = types.ModuleType("page")
    exec(compile(page.read_text(encoding="utf-8"), str(page), "exec"), module.__dict__)
    return module.page.exercise


def test_those_who_made_one_mistake_stand_together_the_largest_group_first(course):
    layout, submissions = read_class(course, TOPIC)
    found = unknown_mistakes(submissions, layout.checks)
    assert [(one.exercise, one.number, one.students) for one in found] == [
        ("iwae_bound", 1, ("ben", "dan")),
        ("iwae_bound", 2, ("ann",)),
        ("iwae_bound", 3, ("fay",)),
    ]
    page, _ = write_report(course, TOPIC)
    section = page.read_text("utf-8").partition("Unknown mistakes")[2].partition("</section>")[0]
    assert "weights.mean(0) + spread(weights) / 2" in section
    assert f"name {TOPIC} EXERCISE GROUP" in section


def test_a_group_gets_a_name_and_is_explained_from_then_on(course, page):
    before = page.read_text(encoding="utf-8")
    sentence = "The log of a log-normal mean is {got}; your weights are any: {expected}."
    assert name_mistake(course, TOPIC, "iwae_bound", 1, "as if log-normal", sentence)[0] == page
    added = page.read_text(encoding="utf-8").removeprefix(before.rstrip())
    assert added.strip() == (
        '@page.wrong("as if log-normal")\n'
        "def _(log_w):\n"
        f'    """{sentence}"""\n'
        "    def value_1(value_2):\n"
        "        return value_2.var(0, unbiased=False)\n"
        "    return log_w.mean(0) + value_1(log_w) / 2"
    )
    namespace = {}
    exec("import torch\n" + BY_MOMENTS, namespace)
    _, verdict = run(exercise_on(page), namespace["iwae_bound"])
    assert verdict.misconception == "as if log-normal"
    assert verdict.sentence.startswith("The log of a log-normal mean is 0.")


@pytest.mark.parametrize(
    ("group", "name", "reason"),
    [
        (4, "a name", "no unknown mistake iwae_bound 4; there is iwae_bound 1, iwae_bound 2"),
        (3, "a name", "`SHARE`"),
        (1, "log K forgotten", "two wrong answers are called 'log K forgotten'"),
        (1, " ", "takes a name and a sentence"),
        (1, 'a "name"', "double quotes"),
        (1, "with {K}", "braces but those of {got} and {expected}"),
    ],
)
def test_what_cannot_be_named_leaves_the_page_as_it_was(course, page, group, name, reason):
    before = page.read_bytes()
    with pytest.raises(UserError) as error:
        name_mistake(course, TOPIC, "iwae_bound", group, name, "A sentence.")
    assert reason in str(error.value)
    assert page.read_bytes() == before


def test_code_that_gives_other_numbers_alone_is_not_recorded(course, page, monkeypatch):
    monkeypatch.setattr("nbjudge.checks.same", lambda one, other: False)
    before = page.read_bytes()
    with pytest.raises(UserError, match="by itself, the code of ben gives other numbers"):
        name_mistake(course, TOPIC, "iwae_bound", 1, "as if log-normal", "A sentence.")
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    "body",
    [
        "import os",
        "return open('x').read()",
        "return x.__class__",
        "return torch.save(x, 'x')",
        "return torch.os.system('x')",
        "return torch.utils.data",
        "return F.torch.load('x')",
        "return x.numpy().tofile('x')",
        "return (lambda t: t.nn)(torch)",
        "global x",
        "return np.mean(x)",
        "return getattr(torch, 'save')",
        "m = torch\n    return m.save",
        "return [torch][0].save",
    ],
)
def test_what_does_more_than_compute_is_not_recorded(body):
    with pytest.raises(UserError, match="does nothing but compute"):
        as_wrong_answer(f"def f(x):\n    {body}", "f", ["x"], "a name", "A sentence.")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def g(x): return x", "defines no function of that name"),
        ("def f(x)", "is no Python"),
        ("def f(x, y): return x", "takes other arguments than x"),
        ("def f(*x): return x", "takes other arguments than x"),
        ("@cache\ndef f(x): return x", "has a decorator"),
    ],
)
def test_what_fits_no_page_is_refused_with_its_reason(source, reason):
    with pytest.raises(UserError, match=reason):
        as_wrong_answer(source, "f", ["x"], "a name", "A sentence.")


def test_ordinary_code_is_recorded():
    body = """
    import_free: float = 0.5
    total = torch.zeros((), dtype=x.dtype, device=x.device)
    for row in x:
        total = total + F.softplus(torch.special.expit(row)).sum() * math.pi
    with torch.no_grad():
        scale = torch.linalg.norm(x)
    if x.dim() > 9:
        raise ValueError("too many axes")
    return torch.distributions.Normal(total, import_free + scale).log_prob(total)
"""
    text = as_wrong_answer(f"def f(x):{body}", "f", ["x"], "a name", "A sentence.")
    assert text.startswith('@page.wrong("a name")\ndef _(x):\n    """A sentence."""\n')


def test_nothing_tells_whose_the_code_is():
    body = """
    author = "Ada Lovelace"
    signed: str = "A. L."
    ada = [lovelace * 2 for lovelace in x]
    try:
        return babbage(engine=torch.stack([(lambda byron: byron + 1)(v) for v in ada]))
    except ValueError as babbages:
        return x


def babbage(engine):
    return engine.mean(dim=0)
"""
    text = as_wrong_answer(f"def f(x):{body}", "f", ["x"], "a name", "A sentence.")
    assert not re.search(
        "ada|lovelace|byron|babbage|engine|author|signed|A[.]", text.partition('sentence."""')[2]
    )
    namespace = {"torch": torch, "page": types.SimpleNamespace(wrong=lambda name: lambda f: f)}
    exec(text, namespace)
    assert namespace["_"](torch.ones(2, 3)).tolist() == [3.0, 3.0, 3.0]


def test_a_name_that_the_reference_has_for_an_argument_is_no_other():
    source = "def f(y):\n    x = 2\n    return x * y"
    text = as_wrong_answer(source, "f", ["x"], "a name", "A sentence.")
    assert text.endswith("    value_1 = 2\n    return value_1 * x\n")


def test_signatures_are_the_same_up_to_rounding_and_where_both_have_nothing():
    assert same((1.0, None), (1.0 + 1e-7, None))
    assert not same((1.0, None), (1.0, 0.0))
    assert not same((1.0,), (1.001,))
    assert not same((1.0,), (1.0, 1.0))


def test_the_command_says_what_it_wrote_or_why_not(course, page, capsys):
    words = ["--course", str(course.root), "name", TOPIC, "iwae_bound"]
    assert main([*words, "1", "as if log-normal", "It is {got}, and not {expected}."]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{page}: 'as if log-normal', as 2 students had it")
    assert f"grade {TOPIC}` explains it" in said
    assert main([*words, "9", "a name", "A sentence."]) == 2
    assert "no unknown mistake iwae_bound 9" in capsys.readouterr().err
