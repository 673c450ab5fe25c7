"""The state in which a function is observed: Python's and torch's own, whatever a notebook left.

What the notebook had is given back afterwards, and what the function changed goes.
"""

import contextlib
import random
import sys
import threading
import warnings

import numpy
import torch


def _autocast(device):
    """Autocast of a kind of device, as a setting."""

    def write(state):
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    def read():
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    return read, write, (False, read()[1])


def _anomaly():
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _flushes():
    """Whether numbers too small to be normal count as zero here."""
    smallest = sys.float_info.min
    return smallest / 2 == 0.0


# How it is read, how it is written, and what it is when a function is observed.
_SETTINGS = (
    (sys.getrecursionlimit, sys.setrecursionlimit, sys.getrecursionlimit()),
    (sys.gettrace, sys.settrace, None),
    (sys.getprofile, sys.setprofile, None),
    (threading.gettrace, threading.settrace, None),
    (threading.getprofile, threading.setprofile, None),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_num_threads, torch.set_num_threads, torch.get_num_threads()),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (_anomaly, lambda state: torch.set_anomaly_enabled(*state), (False, True)),
    (_flushes, torch.set_flush_denormal, False),
    _autocast("cpu"),
    _autocast("cuda"),
)
_NUMPY = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn", "call": None}


@contextlib.contextmanager
def neutral_state():
    """Run the body in the state that Python and torch start with; afterwards the old one is back.

    Numbers that are drawn without a generator are the same each time.
    """
    # Modes override what is done in here too: there is none before it, and none after it.
    with (
        _without_modes(),
        torch.inference_mode(False),
        torch.enable_grad(),
        _settings(),
        _seeded(),
        numpy.errstate(**_NUMPY),
        warnings.catch_warnings(),
        _eagerly(),
        _modes_taken_off_after(),
    ):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _settings():
    with contextlib.ExitStack() as undo:
        for read, write, wanted in _SETTINGS:
            before = read()
            undo.callback(_write, read, write, before)
            _write(read, write, wanted)
        yield


def _write(read, write, wanted):
    # A limit on recursion that is lower than the depth of whoever asks is refused.
    with contextlib.suppress(RecursionError):
        if read() != wanted:
            write(wanted)


@contextlib.contextmanager
def _without_modes():
    """Without what overrides torch's functions, a default device among them, or its gradients."""
    functions, dispatch, hooks = _take_modes_off()
    default = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)
    torch._GLOBAL_DEVICE_CONTEXT.device_context = None
    try:
        yield
    finally:
        for mode in functions:
            torch._C._push_on_torch_function_stack(mode)
        for mode in dispatch:
            torch._C._push_on_torch_dispatch_stack(mode)
        for pack, unpack in hooks:
            torch._C._autograd._push_saved_tensors_default_hooks(pack, unpack)
        torch._GLOBAL_DEVICE_CONTEXT.device_context = default


@contextlib.contextmanager
def _modes_taken_off_after():
    try:
        yield
    finally:
        _take_modes_off()


def _take_modes_off():
    """What was on, the innermost last: modes of torch's functions, of its operators, and hooks."""
    stacks, hooks_on = torch._C, torch._C._autograd
    functions, dispatch, hooks = [], [], []
    while stacks._len_torch_function_stack():
        functions.insert(0, stacks._pop_torch_function_stack())
    while stacks._len_torch_dispatch_stack():
        dispatch.insert(0, stacks._pop_torch_dispatch_stack(None))
    while pair := hooks_on._top_saved_tensors_default_hooks(True):
        hooks.insert(0, pair)
        hooks_on._pop_saved_tensors_default_hooks()
    return functions, dispatch, hooks


@contextlib.contextmanager
def _seeded():
    """With the generators that everybody shares at one place, and then where they were."""
    python, arrays, tensors = random.getstate(), numpy.random.get_state(), torch.get_rng_state()
    card = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    try:
        random.seed(0)
        numpy.random.seed(0)
        torch.default_generator.manual_seed(0)
        if card is not None:
            torch.cuda.manual_seed(0)
        yield
    finally:
        random.setstate(python)
        numpy.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if card is not None:
            torch.cuda.set_rng_state(card)


def _eagerly():
    """Compiled functions run as they are written: to compile them takes longer than to run them."""
    if "torch._dynamo" not in sys.modules:
        return contextlib.nullcontext()
    return torch.compiler.set_stance("force_eager")
