"""Duties: each is judged by itself, and its part of the points is given for it."""

import dataclasses
import math

import pytest
import torch
from conftest import EXERCISES, RIGHT

from nbjudge.asking.task import make_task
from nbjudge.check import run
from nbjudge.judging.duties import points_due
from nbjudge.judging.screen import as_html, as_text
from nbjudge.judging.verdict import ANYWHERE, EXTREMES, GRADIENTS, MANNERS, VALUES

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
BOUND, MASKS = (BY_NAME[name] for name in ("iwae_bound", "made_masks"))


def bound(log_w):
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def naive(log_w):
    return log_w.exp().mean(0).log()


def detached(log_w):
    return bound(log_w).detach()


def in_float32(log_w):
    return bound(log_w.float())


def on_the_cpu(log_w):
    return bound(log_w) + torch.zeros(log_w.shape[1], dtype=log_w.dtype)


def writes(log_w):
    log_w -= 0
    return bound(log_w)


def forgets_log_k(log_w):
    return torch.logsumexp(log_w, 0)


def wrong_in_float32(log_w):
    return torch.zeros(log_w.shape[1])


def raises_on_wide_batches(log_w):
    if log_w.shape[1] > 6:
        raise ValueError
    return bound(log_w)


def raises(log_w):
    raise ValueError


def naive_and_detached(log_w):
    return naive(log_w).detach()


def naive_detached_and_in_float32(log_w):
    return naive(log_w).detach().float()


OWED = {VALUES, EXTREMES, GRADIENTS, ANYWHERE, MANNERS}
MISSING = {
    bound: set(),
    naive: {EXTREMES},
    detached: {GRADIENTS},
    in_float32: {ANYWHERE},
    on_the_cpu: {ANYWHERE},
    writes: {MANNERS},
    naive_and_detached: {EXTREMES, GRADIENTS},
    naive_detached_and_in_float32: {EXTREMES, GRADIENTS, ANYWHERE},
    # Whether gradients are right cannot be told before the values are.
    forgets_log_k: {VALUES, EXTREMES, GRADIENTS, ANYWHERE},
    # That the dtype is wrong does not hide that the numbers are.
    wrong_in_float32: {VALUES, EXTREMES, GRADIENTS, ANYWHERE},
    raises_on_wide_batches: {VALUES, GRADIENTS, ANYWHERE},
    # Nobody keeps a manner by giving nothing.
    raises: OWED,
}


@pytest.mark.parametrize("answer", MISSING, ids=lambda f: f.__name__)
def test_each_duty_is_judged_by_itself(answer):
    _, verdict = run(BOUND, answer)
    assert {duty for duty, _ in verdict.duties} == OWED
    assert {duty for duty, met in verdict.duties if not met} == MISSING[answer]
    assert verdict.passed == (not MISSING[answer])


def test_what_was_not_reached_in_time_is_not_met():
    def endless_on_seven(log_w):
        while len(log_w) == 7:
            pass
        return bound(log_w)

    quick = dataclasses.replace(BOUND, time_limit=0.3)
    _, verdict = run(quick, endless_on_seven)
    assert verdict.kind == "timeout"
    assert not any(met for duty, met in verdict.duties if duty != MANNERS)


def test_a_function_of_plain_numbers_has_no_gradients_and_no_device():
    _, verdict = run(MASKS, RIGHT["made_masks"][0])
    assert {duty for duty, _ in verdict.duties} == {VALUES, MANNERS}


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
def test_every_exercise_has_ordinary_cases_first(exercise):
    cases = make_task(exercise).cases
    assert not cases[0].extreme
    assert sum(not case.extreme for case in cases) > len(cases) / 3


def met(*missing):
    return tuple((duty, duty not in missing) for duty in (VALUES, EXTREMES, GRADIENTS, MANNERS))


@pytest.mark.parametrize(
    ("missing", "worth", "for_values", "points"),
    [
        ((), 3, 0.5, 3.0),
        ((VALUES,), 3, 0.5, 0.0),
        ((EXTREMES,), 3, 0.5, 2.5),
        ((EXTREMES, GRADIENTS), 3, 0.5, 2.0),
        ((EXTREMES, GRADIENTS, MANNERS), 3, 0.5, 1.5),
        ((EXTREMES,), 1, 0.5, 0.5),
        ((EXTREMES, GRADIENTS, MANNERS), 1, 0.5, 0.5),
        ((EXTREMES,), 3, 1 / 3, 2.0),
        ((EXTREMES, GRADIENTS, MANNERS), 3, 1.0, 3.0),
        ((EXTREMES,), 3, None, 0.0),
        ((), 3, None, 3.0),
    ],
)
def test_right_values_have_their_share_and_the_others_equal_parts_of_the_rest(
    missing, worth, for_values, points
):
    assert points_due(met(*missing), worth, for_values) == points


def test_where_nothing_was_judged_there_are_no_points():
    assert points_due((), 3, 0.5) == 0.0


def test_the_checklist_is_read_in_words():
    observed, verdict = run(BOUND, detached)
    text = " ".join(as_text(BOUND, verdict, len(observed)).split())
    there = "met right values; extreme cases; any dtype and device; arguments, calls and memory"
    assert f"{there} not yet gradients" in text
    page = as_html(BOUND, verdict, len(observed))
    assert ">not yet</dt>" in page
    assert ">gradients</dd>" in page


def test_what_can_only_be_judged_once_the_values_are_right_comes_then():
    observed, verdict = run(BOUND, forgets_log_k)
    text = " ".join(as_text(BOUND, verdict, len(observed)).split())
    assert "met arguments, calls and memory not yet right values then extreme cases;" in text


def test_an_answer_that_is_not_written_has_no_checklist():
    def nothing(log_w):
        raise NotImplementedError

    observed, verdict = run(BOUND, nothing)
    assert "not yet " not in as_text(BOUND, verdict, len(observed)).partition("\n")[2]


def test_a_coarse_gradient_in_float32_is_enough_on_an_extreme_case():
    """The gradient of a difference of large numbers cancels in 32 bits."""

    def coarse(log_w):
        value = bound(log_w)
        if log_w.dtype == torch.float32 and log_w.abs().max() > 1e3:
            value = value + 1e-2 * (log_w - log_w.detach()).sum(0)
        return value

    assert run(BOUND, coarse)[1].passed

    def coarse_everywhere(log_w):
        value = bound(log_w)
        if log_w.dtype == torch.float32:
            value = value + 1e-2 * (log_w - log_w.detach()).sum(0)
        return value

    _, verdict = run(BOUND, coarse_everywhere)
    assert [duty for duty, is_met in verdict.duties if not is_met] == [GRADIENTS]
