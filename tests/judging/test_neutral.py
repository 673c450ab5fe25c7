"""The state in which a notebook leaves Python and torch is not the function's."""

import contextlib
import io
import os
import random
import sys
import threading
import warnings
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nbjudge.inside import observe as observing
from nbjudge.inside.case import Case
from nbjudge.inside.neutral import neutral_state
from nbjudge.inside.observe import observe

ARGUMENT = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
CASE = Case("plain", (ARGUMENT, [ARGUMENT[0].double(), 2]), wrt=(0, 1))


class Refuses(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.clone, torch.Tensor.__matmul__, torch.Tensor.double):
            raise RuntimeError("left on")
        return func(*args, **(kwargs or {}))


class Zeros(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return torch.zeros_like(func(*args, **(kwargs or {})))


def function(x, extra):
    """Touches whatever a state could change."""
    warnings.warn("careful", stacklevel=1)
    np.log(np.zeros(1))

    def deep(n):
        return n and deep(n - 1)

    deep(200)
    tiny = torch.tensor(1e-310, dtype=torch.float64) * torch.ones(1, dtype=torch.float64)
    assert str(torch.ones(1).device) == "cpu" and not x.is_inference()
    noise = torch.randn(1) + random.random() + float(np.random.rand())
    product = x @ x.T
    return product, tiny, torch.ones(2), noise.double() * extra[0], torch.get_num_threads()


def same(a, b):
    # Their texts show dtypes and devices too.
    return repr((a.value, a.gradients, a.raised, a.foreign)) == repr(
        (b.value, b.gradients, b.raised, b.foreign)
    )


def set_errors():
    np.seterr(all="raise")


def trace(frame, event, argument):
    if frame.f_code.co_name == "deep":
        raise RuntimeError("left on")
    return trace


STATES = {
    "gradients off": lambda: torch.set_grad_enabled(False),
    "inference mode": lambda: torch.inference_mode().__enter__(),
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "default device": lambda: torch.set_default_device("meta"),
    "a device entered": lambda: torch.device("meta").__enter__(),
    "threads": lambda: torch.set_num_threads(7),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "warnings as errors": lambda: warnings.simplefilter("error"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16).__enter__(),
    "precision": lambda: torch.set_float32_matmul_precision("medium"),
    "a function mode": lambda: Refuses().__enter__(),
    "a dispatch mode": lambda: Zeros().__enter__(),
    "both modes": lambda: (Zeros().__enter__(), Refuses().__enter__()),
    "hooks on saved tensors": lambda: torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: tensor * 0, lambda tensor: tensor
    ).__enter__(),
    "errors of numpy": set_errors,
    "denormals": lambda: torch.set_flush_denormal(True),
    "seed": lambda: (torch.manual_seed(5), random.seed(5), np.random.seed(5)),
    "recursion": lambda: sys.setrecursionlimit(150),
    "trace": lambda: sys.settrace(trace),
    "profile": lambda: sys.setprofile(lambda *_: None),
    "no output": lambda: setattr(sys, "stdout", None),
    "output closed": lambda: (setattr(sys, "stderr", io.StringIO()), sys.stderr.close()),
}


@contextlib.contextmanager
def in_a_thread_of_its_own():
    """Most of torch's state belongs to a thread; the rest is put back."""
    with (
        neutral_state(),
        contextlib.redirect_stdout(sys.stdout),
        contextlib.redirect_stderr(sys.stderr),
    ):
        yield


def observed_after(leave):
    """What is observed in a thread whose code left a state, and the state before and after."""
    found = []

    def run():
        with in_a_thread_of_its_own():
            leave()
            before = state()
            found.extend((observe(function, CASE), before, state()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch._C._len_torch_function_stack(),
        torch._C._len_torch_dispatch_stack(),
        torch._C._autograd._top_saved_tensors_default_hooks(True),
        getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None),
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.is_anomaly_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_float32_matmul_precision(),
        np.geterr(),
        sys.float_info.min / 2 == 0.0,
        str(random.getstate()),
        str(np.random.get_state()),
        torch.get_rng_state().tolist(),
        sys.getrecursionlimit(),
        sys.gettrace(),
        sys.getprofile(),
        sys.stdout,
        warnings.filters[:1],
    )


@pytest.mark.parametrize("leave", STATES.values(), ids=STATES)
def test_what_a_notebook_left_changes_nothing_and_is_given_back(leave):
    plain, _, _ = observed_after(lambda: None)
    assert plain.raised is None and len(plain.gradients) == 2
    seen, before, after = observed_after(leave)
    assert same(seen, plain), (seen.raised, seen.value)
    assert before == after


@pytest.mark.parametrize("leave", STATES.values(), ids=STATES)
def test_what_a_function_leaves_is_gone(leave):
    def leaves(x, extra):
        leave()
        return x

    found = []

    def run():
        with in_a_thread_of_its_own():
            before = state()
            observe(leaves, CASE)
            found.extend((before, state()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found and found[0] == found[1]


def test_a_folder_that_is_gone_changes_nothing(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    folder.rmdir()
    try:
        seen = observe(lambda x, extra: x * 2, CASE)
    finally:
        os.chdir(before)
    assert seen.raised is None and torch.equal(seen.value, ARGUMENT * 2)


def test_a_compiled_function_runs_as_it_is_written():
    compiled_with = []

    def backend(module, inputs):
        compiled_with.append(module)
        return module.forward

    @torch.compile(backend=backend)
    def doubled(x, extra):
        return x * 2

    seen = observe(doubled, CASE)
    assert seen.raised is None and torch.equal(seen.value, ARGUMENT * 2)
    assert compiled_with == []
    doubled(ARGUMENT, [])
    assert compiled_with, "the student's own calls are compiled as before"


# Results and arguments that inherit from containers

Pair = namedtuple("Pair", "mean scale")


class Own(list):
    def __iter__(self):
        raise RuntimeError("not like this")


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (lambda x: Pair(x, 2), (ARGUMENT, 2)),
        (lambda x: Own([x, 1.5]), [ARGUMENT, 1.5]),
        (lambda x: OrderedDict(a=x, b=None), {"a": ARGUMENT, "b": None}),
        (lambda x: np.float64(0.5), 0.5),
    ],
)
def test_what_inherits_from_a_container_is_one(made, plain):
    seen = observe(lambda x, extra: made(x), CASE)
    assert seen.foreign is None and type(seen.value) is type(plain)
    assert str(seen.value) == str(plain)


def test_a_named_tuple_is_an_argument_like_any_other():
    case = Case("pair", (Pair(ARGUMENT, [ARGUMENT]),), wrt=(0,))
    seen = observe(lambda pair: pair.mean.sum() + pair.scale[0].sum(), case)
    assert seen.raised is None and len(seen.gradients) == 2 and seen.changed == ()


def endless():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda: list(range(10**6)), "list of more parts"),
        (lambda: {i: i for i in range(300_000)}, "dict of more parts"),
        (endless, "list of more parts"),
        (lambda: 10**5000, "whole number of more"),
        (lambda: torch.ones(2, 2).max(0), "torch.return_types.max"),
        (lambda: [object()], "object"),
        (lambda: type("T" * 10**6, (), {})(), "T" * 50),
    ],
)
def test_a_result_that_no_answer_has_is_named(made, name):
    seen = observe(lambda x, extra: made(), CASE)
    assert seen.raised is None and name in seen.foreign
    assert len(seen.foreign) <= observing.NAME_LIMIT


def test_of_a_tensor_that_no_memory_holds_the_shape_is_kept():
    seen = observe(lambda x, extra: torch.zeros(1).expand(10**6, 10**7), CASE)
    assert seen.raised is None and seen.value.is_meta
    assert seen.value.shape == (10**6, 10**7)


class BadKey:
    def __hash__(self):
        return 1

    def __str__(self):
        raise RuntimeError("no name")


class BadError(Exception):
    def __str__(self):
        raise SystemExit


def raise_bad_error():
    raise BadError


def swallow(x, extra):
    extra.append(extra)


def change_type(x, extra):
    x.data = x.data[0]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda x, extra: {BadKey(): 1}, lambda seen: seen.raised.message == "no name"),
        (lambda x, extra: raise_bad_error(), lambda seen: seen.raised.kind == "BadError"),
        (swallow, lambda seen: seen.changed == (1,)),
        (change_type, lambda seen: seen.changed == (0,)),
    ],
)
def test_whatever_a_function_does_is_an_observation(function, says):
    assert says(observe(function, CASE))
