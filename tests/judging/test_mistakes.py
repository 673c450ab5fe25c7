"""Mistakes that nobody recorded: named where they explain every case, and nowhere else."""

import dataclasses
import functools
import math

import pytest
import torch
from conftest import EXERCISES, RIGHT

from nbjudge.asking.task import make_task
from nbjudge.check import run
from nbjudge.errors import UserError
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.judging.generic import changes_of_result
from nbjudge.judging.sheet import Sheet
from nbjudge.judging.terms import coefficients

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
BOUND = dataclasses.replace(BY_NAME["iwae_bound"], misconceptions=())
KL = dataclasses.replace(BY_NAME["gaussian_kl"], misconceptions=())
# Results are numbers, and the page names their axes; of `active_units` they are true or false.
NUMERIC = [
    e for e in EXERCISES if e.compare and "_" not in e.axes["return"] and e.name != "active_units"
]


def bound(log_w):
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def kl(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)


def negated(value):
    if isinstance(value, dict):
        return {key: -item for key, item in value.items()}
    return -value if isinstance(value, torch.Tensor) else type(value)(map(negated, value))


@pytest.mark.parametrize("exercise", NUMERIC, ids=lambda e: e.name)
def test_the_other_sign_is_named_in_every_exercise(exercise):
    right = RIGHT[exercise.name][0]
    _, verdict = run(exercise, lambda *args: negated(right(*args)))
    recorded = {m.name for m in exercise.misconceptions}
    assert verdict.kind == "misconception", verdict
    assert verdict.misconception in {"the other sign", *recorded}


OF_RESULT = {
    "times 2": (lambda v: 2 * v, "is 2 times the right one"),
    "times ½": (lambda v: v / 2, "is ½ times the right one"),
    "divided by log 2": (lambda v: v / math.log(2), "divided by log 2"),
    "exponential": (torch.exp, "is the exponential of the right one"),
    "summed over the axis B": (torch.sum, "summed over the axis B"),
    "averaged over the axis B": (torch.mean, "averaged over the axis B"),
    "reversed along the axis B": (lambda v: v.flip(0), "in reverse order along the axis B"),
    "one place too late along the axis B": (lambda v: v.roll(1), "one place too late"),
    "the first along the axis B for all": (lambda v: v[:1].expand_as(v), "has the first entry"),
}


@pytest.mark.parametrize("name", OF_RESULT)
def test_a_change_of_the_result_is_named(name):
    change, words = OF_RESULT[name]
    _, verdict = run(BOUND, lambda log_w: change(bound(log_w)))
    assert (verdict.kind, verdict.misconception) == ("misconception", name)
    assert words in verdict.sentence


def test_a_factor_and_a_summand_are_named_by_the_axis_that_is_as_long():
    _, verdict = run(BOUND, lambda log_w: torch.logsumexp(log_w, 0))
    assert verdict.misconception == "plus log K"
    assert "is the right one plus log K, with K = 3 here" in verdict.sentence
    _, verdict = run(KL, lambda mean, log_var: kl(mean, log_var) / mean.shape[1])
    assert verdict.misconception == "divided by L"


OF_ARGUMENTS = {
    "log_var read as log σ": lambda mean, log_var: kl(mean, 2 * log_var),
    "mean left out": lambda mean, log_var: kl(0 * mean, log_var),
    "log_var with the other sign": lambda mean, log_var: kl(mean, -log_var),
    "mean and log_var exchanged": lambda mean, log_var: kl(log_var, mean),
}


@pytest.mark.parametrize("name", OF_ARGUMENTS)
def test_the_right_function_of_other_arguments_is_named(name):
    _, verdict = run(KL, OF_ARGUMENTS[name])
    assert (verdict.kind, verdict.misconception) == ("misconception", name)
    assert verdict.got in verdict.sentence and verdict.expected in verdict.sentence


def test_a_mistake_on_record_goes_before_and_two_at_once_are_told_apart():
    exercise = BY_NAME["iwae_bound"]
    _, verdict = run(exercise, lambda log_w: torch.logsumexp(log_w, 0))
    assert verdict.misconception == "log K forgotten"
    _, verdict = run(exercise, lambda log_w: -torch.logsumexp(log_w, 0))
    assert verdict.misconception == "log K forgotten; the other sign"
    assert verdict.sentence.startswith("Two mistakes at once: log K forgotten, and the other sign")


def test_a_part_of_several_results_is_named():
    exercise = dataclasses.replace(BY_NAME["maf_forward"], misconceptions=())
    right = RIGHT["maf_forward"][0]

    def wrong(*args):
        u, log_det = right(*args)
        return u, -log_det

    _, verdict = run(exercise, wrong)
    assert verdict.misconception == "the other sign, the second of your results"
    assert verdict.sentence.startswith("The second of your results is right but for its sign")


@functools.cache
def wrong_on(cases):
    """Right but for the sign on so many cases; the numbers of the others are right."""
    seen = []

    def function(log_w):
        seen.append(1)
        return -bound(log_w) if len(seen) <= cases else bound(log_w)

    return function


@pytest.mark.parametrize("cases", [1, 2, 5])
def test_what_explains_some_cases_and_not_others_is_not_said(cases):
    _, verdict = run(BOUND, wrong_on(cases))
    assert not verdict.passed
    assert verdict.misconception is None


def test_numbers_that_are_not_finite_prove_nothing():
    # The logarithm of the right result is NaN wherever that is negative.
    _, verdict = run(BOUND, lambda log_w: bound(log_w) * float("nan"))
    assert (verdict.kind, verdict.misconception) == ("not finite", None)


SHAPES = [
    (lambda w: bound(w)[:, None], "An axis of length 1 is left"),
    (lambda w: bound(w.T), "3 is the length of K: it has a number for each of K, where one for"),
    (lambda w: w, "The axis K (length 3) is still there"),
    (lambda w: w.T, "The axis K (length 3) is still there"),
    (lambda w: w.sum() * 0 + w.max(), "It has no axis B (length 2)"),
]


@pytest.mark.parametrize(("answer", "words"), SHAPES)
def test_a_wrong_shape_is_explained_by_the_axes(answer, words):
    _, verdict = run(BOUND, answer)
    assert verdict.kind == "shape"
    assert words in verdict.sentence


def test_nothing_is_said_of_a_length_that_no_axis_has_alone():
    _, verdict = run(BOUND, lambda w: torch.zeros(7, dtype=w.dtype))
    assert verdict.sentence == "The result has shape (7,); it should have (2,)."


def test_gradients_are_spoken_of_once_all_values_are_right():
    """Where the first case has no spread, the mistake shows in its gradient alone."""
    mean_of = dataclasses.replace(
        BOUND, properties=(), cases=lambda draw: [*BOUND.cases(draw)][3:6]
    )
    _, verdict = run(mean_of, lambda log_w: log_w.mean(0))
    assert verdict.kind != "gradient"
    assert "gradient" not in verdict.sentence


def test_a_gradient_that_is_no_number_is_not_called_detached():
    def wrong(log_w):
        largest = log_w.max(0).values
        return bound(log_w) + 0 * (log_w - largest).abs().amin(0).sqrt()

    _, verdict = run(BOUND, wrong)
    assert verdict.kind == "gradient"
    assert "is nan where it should be" in verdict.sentence
    assert "detached" not in verdict.sentence


def test_noise_of_its_own_is_noticed():
    exercise = dataclasses.replace(BY_NAME["reparameterize"], misconceptions=())
    right = RIGHT["reparameterize"][0]
    _, verdict = run(exercise, lambda m, scale, noise: right(m, scale, torch.randn_like(noise)))
    assert verdict.kind == "noise"
    assert "draws random numbers of its own" in verdict.sentence


def test_of_many_lines_of_an_error_one_is_quoted():
    def wrong(log_w):
        raise RuntimeError("sizes differ\n  at line 1\n  at line 2")

    _, verdict = run(BOUND, wrong)
    assert "raised RuntimeError: sizes differ at `raise" in verdict.sentence


def test_of_an_error_in_a_network_the_line_that_called_it_is_shown():
    exercise = BY_NAME["maf_forward"]

    def wrong(z, net):
        return net(z[:, :-1])

    _, verdict = run(exercise, wrong)
    assert verdict.kind == "raised"
    assert "at `return net(z[:, :-1])`" in verdict.sentence


def test_a_right_answer_that_raises_is_not_taken_for_the_students():
    def reference(log_w):
        return log_w.nothing()

    broken = dataclasses.replace(BOUND, reference=reference, properties=())
    with pytest.raises(UserError, match="the right answer of iwae_bound raised AttributeError"):
        # Not one of this file, which would be borrowed from beside the reference.
        run(broken, RIGHT["iwae_bound"][0])


TERMS = [exercise for exercise in EXERCISES if exercise.terms]


@pytest.mark.parametrize("exercise", TERMS, ids=lambda e: e.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_terms_of_a_page_add_up_to_the_right_answer_in_one_way(exercise, seed):
    """In each dtype: else nothing could be said of a student's coefficients."""
    sheet, task = Sheet(exercise), make_task(exercise, seed)
    for dtype in exercise.rtol:
        cases = [case for case in task.cases if case.facts["dtype"] == dtype]
        compared = list(sheet.compared([(case, sheet.right(case)) for case in cases]))
        for terms in exercise.terms:
            found = coefficients(terms, compared)
            assert found is not None, (dtype, *terms)
            assert all(got == due for got, due in found.values())


def without_records(name):
    return dataclasses.replace(BY_NAME[name], misconceptions=())


def test_a_term_with_another_coefficient_is_named():
    def wrong(mean, log_var):
        return 0.5 * (mean**2 + log_var.exp() - 1).sum(1) - log_var.sum(1)

    _, verdict = run(without_records("gaussian_kl"), wrong)
    assert verdict.misconception == "Σ log σ² with −1 for −½"
    assert "but for one term: `Σ log σ²` enters with −1 where −½ is due" in verdict.sentence


def test_terms_that_are_missing_or_of_the_other_sign_are_named():
    def wrong(log_px, log_pz1, log_pz2, log_qz1, log_qz2):
        return log_px + log_pz1 + log_qz1 - log_qz2

    _, verdict = run(without_records("hierarchical_elbo"), wrong)
    assert verdict.misconception == "log p(z₂) with 0 for 1 and log q(z₁) with 1 for −1"
    assert "`log p(z₂)` is missing, and `log q(z₁)` is added where it should be" in verdict.sentence


def test_what_is_no_simple_combination_of_the_terms_is_not_explained():
    def wrong(mean, log_var):
        return 0.5 * (mean**2 + log_var.exp() - 1 - 1.37 * log_var).sum(1)

    _, verdict = run(without_records("gaussian_kl"), wrong)
    assert not verdict.passed
    assert verdict.misconception is None


@pytest.mark.parametrize(
    "value", [torch.zeros(1, 2, 1, 2, 1, 2, 1), torch.zeros(0, 3), torch.ones(())]
)
def test_results_of_any_size_can_be_changed(value):
    case = Case("", (value,))
    exercise = dataclasses.replace(BOUND, axes={})
    right = Observation(value=value)
    for change in changes_of_result(exercise, case, right):
        change.predict(case, right)


def test_a_sparse_tensor_is_no_tensor_of_the_kind_that_is_due():
    _, verdict = run(BOUND, lambda log_w: bound(log_w).to_sparse())
    assert verdict.kind == "type"
    assert "returned a sparse tensor; it should return a tensor" in verdict.sentence


def test_a_tensor_without_numbers_is_on_another_device():
    exercise = BY_NAME["iwae_bound"]
    _, verdict = run(exercise, lambda log_w: bound(log_w).to("meta"))
    assert verdict.kind == "device"
    assert "The result is on meta" in verdict.sentence
