"""The line to look at: where one edit makes a student's function right, and nowhere else."""

import math

import pytest
import torch
from conftest import EXERCISES

from nbjudge.check import run
from nbjudge.judging.line import wrong_line
from nbjudge.judging.sheet import Sheet

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}


def line_of(function):
    exercise = BY_NAME[function.__name__]
    observed, verdict = run(exercise, function)
    assert not verdict.passed
    return wrong_line(Sheet(exercise), function, observed, verdict.kind)


# The functions stand as a student would write them.


def multi_sample_elbo(log_w):
    total = log_w.sum(dim=0)
    return total


def iwae_bound(log_w):
    largest = log_w.max(dim=0).values
    total = torch.exp(log_w - largest).sum(0)
    return largest + torch.log(total) + math.log(log_w.shape[0])


def gaussian_kl(mean, log_var):
    var = torch.exp(log_var)
    kl = mean**2 + var - log_var
    return 0.5 * kl.sum(-1)


def e_step(x, weights, means, variances):
    d = x.unsqueeze(1) - means
    log_p = -0.5 * (d**2 / variances + variances.log()).sum(-1)
    log_p = log_p + weights
    return torch.softmax(log_p, dim=1)


def mean_of(values):
    return values.sum(0)


def gradient_snr(gradients):
    return mean_of(gradients).abs() / gradients.std(0)


@pytest.mark.parametrize(
    ("function", "line"),
    [
        (multi_sample_elbo, "line 2: total = log_w.sum(dim=0)"),
        (iwae_bound, "line 4: return largest + torch.log(total) + math.log(log_w.shape[0])"),
        # An edit of line 2 would make up for it; that line is a step of the right answer.
        (gaussian_kl, "line 3: kl = mean**2 + var - log_var"),
        (e_step, "line 4: log_p = log_p + weights"),
        (gradient_snr, ""),
    ],
)
def test_the_line_is_named(function, line):
    assert line_of(function) == line


def test_two_lines_of_which_either_could_be_meant_are_not_named():
    def bits_per_dim(log_prob, num_dims):
        bits = -log_prob / math.log(4)
        return bits / num_dims

    assert line_of(bits_per_dim) == ""


def test_nothing_is_said_of_what_no_single_edit_mends():
    def multi_sample_elbo(log_w):
        return log_w.sum(0).sin()

    assert line_of(multi_sample_elbo) == ""


def test_nothing_is_said_of_a_function_without_source():
    scope = {}
    exec("def multi_sample_elbo(log_w): return log_w.sum(0)", scope)
    assert line_of(scope["multi_sample_elbo"]) == ""


calls = []


def test_a_function_that_does_more_than_compute_is_not_run_again():
    def multi_sample_elbo(log_w):
        calls.append(len(log_w))
        return log_w.sum(0)

    exercise = BY_NAME["multi_sample_elbo"]
    observed, verdict = run(exercise, multi_sample_elbo)
    before = len(calls)
    assert wrong_line(Sheet(exercise), multi_sample_elbo, observed, verdict.kind) == ""
    assert len(calls) == before
