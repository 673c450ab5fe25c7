"""Mistakes made by one edit of the right answer: named in words, and only where they explain."""

import ast
import dataclasses
import inspect
import math
import textwrap

import pytest
import torch
import torch.nn.functional as F
from conftest import EXERCISES

from nbjudge.asking.task import make_task
from nbjudge.check import run
from nbjudge.inside.observe import observe
from nbjudge.judging.code import Part, places
from nbjudge.judging.compare import agree
from nbjudge.judging.edits import detached, edits
from nbjudge.judging.mistakes import EVIDENCE

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
FORMULAS = [
    pytest.param(e, formula, id=f"{e.name}-{number}")
    for e in EXERCISES
    for number, formula in enumerate(e.formulas)
    if e.compare
]


def cases_of(exercise):
    cases = make_task(exercise).cases
    return tuple(case for case in cases if case.facts["dtype"] == torch.float64)


@pytest.mark.parametrize(("exercise", "formula"), FORMULAS)
def test_a_formula_is_right_on_enough_cases(exercise, formula):
    def right(case):
        case = dataclasses.replace(case, wrt=())
        seen, due = observe(formula, case), observe(exercise.reference, case)
        due = dataclasses.replace(due, passes=seen.passes)
        return agree(seen, due, exercise.rtol[torch.float64], with_gradients=False)

    assert sum(map(right, cases_of(exercise))) >= EVIDENCE


def weights(x, logits, z, mean, log_var):
    log_px = (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).mean(2)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(2)
    squares = (z - mean) ** 2 / log_var.exp()
    return log_px + log_pz + 0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)


def responsibilities(x, weights, means, variances):
    log_px = -0.5 * ((x[:, None] - means) ** 2 / variances + variances.log()).sum(2)
    return torch.softmax(log_px + weights.log(), 0)


def in_subsets(log_w, m):
    subsets = torch.combinations(torch.arange(len(log_w)), m, with_replacement=True)
    return (torch.logsumexp(log_w[subsets], 1) - math.log(m)).mean(0)


def first_for_all(z, net):
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu


def planar(z, u, w, b):
    along = w @ u
    u = u + (F.softplus(along) - 1 - along) * w / (w @ w).sqrt()
    h = torch.tanh(z @ w + b)
    return z + u * h[:, None], torch.log((1 + (1 - h**2) * (w @ u)).abs())


def elbo(x, logits, mean, log_var):
    log_px = (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(1)
    return log_px - 0.5 * (mean**2 + log_var.exp() - 1 - log_var).mean(1)


WRONG = {
    "log_importance_weights": (weights, "with an average over D where a sum over D is due"),
    "e_step": (responsibilities, "with `softmax` along N in the place of C"),
    "subset_bound": (in_subsets, "`combinations_with_replacement` where `combinations` is due"),
    "maf_inverse": (first_for_all, "with `z` in the place of `x`"),
    "planar_transform": (planar, "with a division by the square root of the divisor"),
    "gaussian_elbo": (elbo, "with an average over L where a sum over L is due"),
    "iwae_bound": (lambda log_w: log_w.amax(0) - math.log(len(log_w)), "with the largest over K"),
    "gradient_snr": (lambda g: g.mean(0) / g.std(0), "without the absolute value of the average"),
    "bits_per_dim": (lambda p, d: -p / d / math.log(2) ** 2, "is the right one divided by log 2"),
    "uniform_dequantize": (lambda x, noise: x / 256 + noise, "with `x`/256 in the place of `x`"),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_edit_is_said_in_words(name):
    wrong, said = WRONG[name]
    exercise = dataclasses.replace(BY_NAME[name], misconceptions=())
    _, verdict = run(exercise, wrong)
    assert verdict.kind == "misconception", verdict
    assert said in verdict.sentence
    assert "{" not in verdict.sentence


def test_a_step_without_gradient_is_named():
    def likelihood(x, forward, base_log_prob):
        z, log_det = forward(x)
        return base_log_prob(z) + log_det.detach()

    exercise = dataclasses.replace(BY_NAME["flow_log_likelihood"], misconceptions=())
    _, verdict = run(exercise, likelihood)
    assert "your gradients are what comes out when `log |det|` is detached" in verdict.sentence


def test_no_edit_explains_what_is_wrong_for_another_reason():
    exercise = dataclasses.replace(BY_NAME["iwae_bound"], misconceptions=())
    _, verdict = run(exercise, lambda log_w: torch.logsumexp(log_w, 0) - 1.2345)
    assert verdict.kind != "misconception"


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_words_quote_no_line_of_an_answer(exercise):
    if exercise.name == "train_vampprior":
        return
    lines = set()
    for function in (exercise.reference, *exercise.formulas):
        function = inspect.unwrap(function)
        body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0].body
        statements = [ast.unparse(s) for s in body if not isinstance(s, ast.Expr)]
        lines |= {s.removeprefix("return ") for s in statements}
    cases = cases_of(exercise)[:3]
    for edit in (*edits(exercise, cases), *detached(exercise, cases)):
        assert not any(line in edit.said for line in lines if len(line) > 12)


def test_a_tree_is_as_it_was_after_its_edits():
    exercise = BY_NAME["gaussian_kl"]
    part = Part(exercise.formulas[0])
    before = ast.unparse(part.tree)
    for place in places(part.tree):
        with place.holding(ast.Constant(0)):
            pass
    assert ast.unparse(part.tree) == before


def test_a_function_without_source_has_no_edits():
    scope = {}
    exec("def f(log_w): return log_w.mean(0)", scope)
    exercise = dataclasses.replace(BY_NAME["iwae_bound"], reference=scope["f"], formulas=())
    assert not list(edits(exercise, cases_of(exercise)))
