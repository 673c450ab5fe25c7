"""The checks, proved: right answers pass, every misconception on record fails and is named."""

import dataclasses
import functools
import importlib
import inspect
import math
import threading
import types

import pytest
import record
import torch
from conftest import EXERCISES, EXERCISES_OF, RIGHT, TOPICS

from dgm_utils import iwae
from dgm_utils.exercises.iwae import EXERCISES as IWAE
from nbjudge.asking.draw import Draw
from nbjudge.check import run
from nbjudge.demo import source_as
from nbjudge.errors import UserError
from nbjudge.inside.case import Case
from nbjudge.inside.observe import observe, observe_task
from nbjudge.inside.tensors import tensors
from nbjudge.judging.judge import judge

IWAE_BOUND = next(exercise for exercise in IWAE if exercise.name == "iwae_bound")

# The students', and two as a course's secret makes them: any number below 2**63.
SEEDS = (*record.SEEDS, 2**63 - 1)

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)
each_right = pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        pytest.param(exercise, answer, id=f"{exercise.name}-{number}")
        for exercise in EXERCISES
        for number, answer in enumerate(RIGHT[exercise.name])
    ],
)
each_misconception = pytest.mark.parametrize(
    ("exercise", "misconception"),
    [
        pytest.param(exercise, misconception, id=f"{exercise.name}-{misconception.name}")
        for exercise in EXERCISES
        for misconception in exercise.misconceptions
    ],
)


def on_tensors(change, result):
    """A result with all its tensors changed; of a function, those that it will return."""
    if isinstance(result, torch.Tensor):
        return change(result)
    if callable(result):
        return lambda *args: on_tensors(change, result(*args))
    if isinstance(result, dict):
        return {key: on_tensors(change, item) for key, item in result.items()}
    return type(result)(on_tensors(change, item) for item in result)


def held_by(arg):
    """The tensors of an argument: its own, its parameters, or what a list holds as numbers."""
    if isinstance(arg, torch.nn.Module):
        return list(arg.parameters())
    if isinstance(arg, list) and arg and isinstance(arg[0], int):
        return [torch.tensor(arg)]
    return tensors(arg)


def verdict_on(exercise, function, seed=0, dtype=None, may_use_all=False):
    """As of `run`, on the process's one task of this exercise and seed, or its part in one dtype.

    So the reference and the wrong answers on record are observed once for all functions. One that
    may use all of the package is not asked whose code ran.
    """
    parts = record.in_one_dtype(exercise.name, dtype, seed) if dtype else None
    task, sheet = parts or record.in_both_dtypes(exercise.name, seed)
    observations, probe = observe_task(function, task, traced=True)
    if may_use_all:
        observations = [dataclasses.replace(seen, files=frozenset()) for seen in observations]
    return judge(sheet, list(zip(task.cases, observations, strict=False)), probe)


@each_exercise
def test_a_hand_written_copy_of_the_reference_passes(exercise, written):
    module = inspect.getmodule(inspect.unwrap(exercise.reference))
    copy = written(inspect.getsource(module), exercise.name)
    for seed in SEEDS:
        # The copied module leans on others of the package, which is not what is asked about here.
        verdict = verdict_on(exercise, copy, seed, may_use_all=True)
        assert verdict.passed, verdict


@each_exercise
def test_there_are_three_other_right_answers(exercise):
    assert len(RIGHT[exercise.name]) >= 3


@each_right
def test_a_right_answer_passes(exercise, answer):
    for seed in SEEDS:
        verdict = verdict_on(exercise, answer, seed)
        assert verdict.passed, verdict


@each_exercise
def test_there_are_five_misconceptions(exercise):
    assert len(exercise.misconceptions) >= 5


@each_misconception
@pytest.mark.parametrize("dtype", record.DTYPES, ids=["float64", "float32"])
def test_a_misconception_fails_and_is_named(exercise, misconception, dtype, written):
    wrong = written(source_as(exercise.name, misconception.implementation), exercise.name)
    on_record = record.kept_of(exercise).get(misconception.name)
    assert on_record, "python tests/record.py --write records it"
    for seed in record.SEEDS:
        verdict = verdict_on(exercise, wrong, seed, dtype)
        assert not verdict.passed
        assert verdict.misconception == misconception.name
        assert "{" not in verdict.sentence
        changed = record.differences(on_record[record.key(dtype, seed)], record.entry(verdict))
        assert not changed, "\n".join(changed)


@pytest.mark.parametrize("topic", TOPICS)
def test_nothing_else_is_on_record(topic):
    now = {e.name: {m.name for m in e.misconceptions} for e in EXERCISES_OF[topic]}
    assert {name: set(wrong) for name, wrong in record.kept(topic).items()} == now


@pytest.mark.parametrize(
    # One that trains for seconds keeps nothing of a training either.
    "exercise",
    [exercise for exercise in EXERCISES if exercise.name != "train_vampprior"],
    ids=lambda e: e.name,
)
def test_in_a_class_an_answer_is_judged_as_if_alone(exercise):
    """All are judged on the same cases: what one gave is not held against the next."""
    task, sheet = record.in_both_dtypes(exercise.name, SEEDS[1])
    class_ = [[(case, observe(f, case)) for case in task.cases] for f in RIGHT[exercise.name]]
    for observed in (*class_, *reversed(class_)):
        verdict = judge(sheet, observed)
        assert verdict.passed, verdict


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, -(2**63)])
def test_any_seed_makes_cases(seed):
    assert torch.equal(Draw(seed).normal(3), Draw(seed).normal(3))
    assert not torch.equal(Draw(seed).normal(3), Draw(seed // 2 + 7).normal(3))


@each_exercise
def test_a_constant_does_not_pass(exercise):
    """Zeros, ones and nothing of the right shape, taken from the reference's own result."""
    for fill in (torch.zeros_like, torch.ones_like, lambda t: torch.full_like(t, float("nan"))):

        def constant(*args, fill=fill):
            with torch.no_grad():
                shaped = exercise.reference(*args)
            return on_tensors(lambda t: fill(t.double()).to(t.dtype), shaped)

        # The reference only lends its shape, so that nothing but the numbers is wrong.
        assert not verdict_on(exercise, constant, may_use_all=True).passed


@each_exercise
def test_a_right_answer_without_gradient_does_not_pass(exercise):
    answer = RIGHT[exercise.name][0]
    task, _ = record.in_both_dtypes(exercise.name, SEEDS[0])
    if any(case.wrt for case in task.cases):
        verdict = verdict_on(exercise, lambda *args: on_tensors(torch.detach, answer(*args)))
        assert verdict.kind in ("no gradient", "misconception")
        assert not verdict.passed


@each_exercise
def test_seeds_give_other_sizes_and_numbers(exercise):
    shapes, numbers = set(), set()
    for seed in range(5):
        cases = list(exercise.cases(Draw(seed)))
        held = [tensor for case in cases for arg in case.args for tensor in held_by(arg)]
        plain = [arg for case in cases for arg in case.args if isinstance(arg, (int, float))]
        shapes.add((*(tensor.shape for tensor in held), *plain))
        numbers.add(tuple(tensor.double().sum().item() for tensor in held))
    assert len(shapes) > 1
    assert len(numbers) == 5 or not held


@each_exercise
def test_arguments_are_left_as_they_were(exercise):
    task, sheet = record.in_both_dtypes(exercise.name, SEEDS[0])
    for case in task.cases:
        assert sheet.right(case).changed == ()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_exercise
def test_right_answers_pass_on_the_card(exercise, monkeypatch):
    monkeypatch.setenv("DGM_DEVICE", "cuda")
    _, verdict = run(exercise, RIGHT[exercise.name][0])
    assert verdict.passed, verdict


def test_a_device_that_is_not_here_is_refused_in_words(monkeypatch):
    monkeypatch.setenv("DGM_DEVICE", "card")
    with pytest.raises(UserError, match=r"DGM_DEVICE is 'card', .* unset it or use 'cpu'"):
        run(IWAE_BOUND, RIGHT["iwae_bound"][0])


# Failing politely: each kind of failure has its own sentence.


def right(log_w):
    return torch.logsumexp(log_w, 0) - math.log(len(log_w))


def nothing(log_w):
    right(log_w)


def unwritten(log_w):
    raise NotImplementedError()


def raising(log_w):
    raise ValueError("no such axis")


def leaving(log_w):
    raise SystemExit


def interrupted(log_w):
    raise KeyboardInterrupt


def endless(log_w):
    while True:
        pass


def stubborn(log_w):
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


def writing(log_w):
    log_w -= log_w.max()
    return right(log_w)


def writing_around_autograd(log_w):
    result = right(log_w)
    log_w.data.zero_()
    return result


POLITE = [
    (nothing, "type", "returned None"),
    (unwritten, "unimplemented", "not written yet"),
    (raising, "raised", "ValueError: no such axis at `raise ValueError"),
    (leaving, "raised", "SystemExit"),
    (interrupted, "raised", "interrupted"),
    (endless, "timeout", "did not finish within 0.3 seconds"),
    (stubborn, "timeout", "did not finish within 0.3 seconds"),
    (writing, "mutation", "changed its argument `log_w` in place"),
    (writing_around_autograd, "mutation", "changed its argument `log_w` in place"),
    (lambda w: right(w)[:, None], "shape", "; it should have ("),
    (lambda w: right(w).float(), "dtype", "is float32 where it should be float64"),
    (lambda w: right(w.float()).to(w.dtype), "precision", "goes through float32"),
    (lambda w: right(w) * float("nan"), "not finite", "not finite (nan)"),
    (lambda w: right(w).detach(), "no gradient", "no gradient reaches `log_w`"),
    (lambda w: right(w).detach().numpy(), "type", "numpy.ndarray"),
    (lambda w: w.max(0), "type", "take `.values`"),
    (lambda w: 1.5, "type", "a plain float; it should return a tensor"),
    (lambda w: (right(w), 0), "type", "2 values"),
    (lambda w: right(w) + torch.zeros(1, device="cpu").to(w.dtype), "device", "on the CPU only"),
    (lambda w: right(w) + 1, "property", ""),
]


@pytest.mark.parametrize(("answer", "kind", "words"), POLITE)
def test_each_failure_has_its_own_words(answer, kind, words):
    plain = dataclasses.replace(IWAE_BOUND, misconceptions=(), time_limit=0.3)
    _, verdict = run(plain, answer)
    assert not verdict.passed
    assert verdict.kind == kind
    assert words in verdict.sentence


def test_what_a_function_prints_does_not_reach_the_cell(capsys):
    def chatty(log_w):
        print("x" * 10_000)
        return right(log_w) + 1

    _, verdict = run(IWAE_BOUND, chatty)
    assert capsys.readouterr() == ("", "")
    assert 0 < len(verdict.printed) <= 2_000


def test_a_warning_does_not_reach_the_cell(capsys, recwarn):
    def warning(log_w):
        import warnings

        warnings.warn("careful", stacklevel=1)
        return right(log_w)

    assert run(IWAE_BOUND, warning)[1].passed
    assert capsys.readouterr() == ("", "")
    assert not recwarn


def test_gradients_are_seen_although_they_were_switched_off():
    with torch.no_grad():
        assert run(IWAE_BOUND, right)[1].passed


# An answer that the program takes from the reference at run time.


def through_a_thread(log_w):
    results = []
    thread = threading.Thread(target=lambda: results.append(iwae.iwae_bound(log_w)))
    thread.start()
    thread.join()
    return results[0]


def executed_source(rename=False):
    source = inspect.getsource(iwae.iwae_bound)
    if rename:
        source = source.replace("iwae_bound", "mine")
    namespace = dict(vars(iwae))
    exec(source, namespace)
    return namespace["mine" if rename else "iwae_bound"]


class Hidden:
    def __call__(self, log_w):
        return iwae.iwae_bound(log_w)


BORROWED = {
    "alias": iwae.iwae_bound,
    "call": lambda w: iwae.iwae_bound(w),
    "partial": functools.partial(iwae.iwae_bound),
    "wraps": functools.wraps(iwae.iwae_bound)(lambda w: iwae.iwae_bound(w)),
    "import inside": lambda w: importlib.import_module("dgm_utils.iwae").iwae_bound(w),
    "from the exercise": lambda w: IWAE_BOUND.reference(w),
    "another reference": lambda w: iwae.subset_bound(w, len(w)),
    "object": Hidden(),
    "cache": functools.cache(iwae.iwae_bound),
    "thread": through_a_thread,
    "code object": types.FunctionType(
        inspect.unwrap(iwae.iwae_bound).__code__, {"torch": torch, "math": math}
    ),
    "executed source": executed_source(),
    "executed source, renamed": executed_source(rename=True),
    "eval": lambda w: eval("iwae.iwae_bound(w)", {"iwae": iwae, "w": w}),
}


@pytest.mark.parametrize("answer", BORROWED.values(), ids=BORROWED)
def test_an_answer_taken_from_the_reference_is_refused(answer):
    _, verdict = run(IWAE_BOUND, answer)
    assert verdict.kind == "borrowed"
    assert "reference" in verdict.sentence


def test_a_copy_made_by_hand_passes_and_is_flagged(written):
    exercise = next(e for e in IWAE if e.name == "subset_bound")
    copy = written(
        "from dgm_utils.validate import takes, whole_number\n\n\n"
        + inspect.getsource(exercise.reference),
        "subset_bound",
    )
    assert run(exercise, copy)[1].copied
    for answer in RIGHT["subset_bound"]:
        assert not run(exercise, answer)[1].copied


# Which exercise a function answers.


def test_one_function_cannot_answer_two_exercises():
    namespace = {"check": importlib.import_module("dgm_utils.exercises.iwae").check}
    code = "multi_sample_elbo = iwae_bound = lambda w: w.mean(0)\ncheck(iwae_bound)"
    with pytest.raises(ValueError, match="same function"):
        exec(code, namespace)


def test_a_lambda_is_known_by_the_name_it_is_bound_to(capsys):
    check = importlib.import_module("dgm_utils.exercises.iwae").check
    exec("multi_sample_elbo = lambda w: w.mean(0)\ncheck(multi_sample_elbo)", {"check": check})
    assert "✓ multi_sample_elbo" in capsys.readouterr().out


def test_what_is_no_exercise_is_refused_in_words():
    check = importlib.import_module("dgm_utils.exercises.iwae").check
    with pytest.raises(ValueError, match="no exercise is called 'right'; name your function one"):
        check(right)
    with pytest.raises(TypeError, match="check takes the function itself"):
        check(3)
    with pytest.raises(ValueError, match="hints are numbered 1 to 3; got 4"):
        check.hint("iwae_bound", 4)


def test_an_observation_is_plain_data():
    """It holds tensors and plain values only, so that it can leave the student's process."""
    seen = observe(right, Case("", (torch.randn(3, 2),), (0,)))
    assert not seen.value.requires_grad
    assert seen.value.grad_fn is None
    assert all(g.grad_fn is None for g in seen.gradients)


def test_gradients_of_several_outputs_do_not_cancel():
    """The four parts of the ELBO add up to twice the reconstruction: z drops out of their sum."""
    exercise = next(e for e in EXERCISES if e.name == "elbo_surgery")

    def detached(reconstruction, z, mean, log_var):
        return RIGHT["elbo_surgery"][0](reconstruction, z.detach(), mean.detach(), log_var.detach())

    assert not run(exercise, detached)[1].passed
