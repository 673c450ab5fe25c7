"""The task that one check puts to a function: its cases in every dtype, and the device probe."""

import copy
from collections.abc import Iterable
from dataclasses import replace

import torch

from nbjudge.asking.draw import Draw
from nbjudge.asking.exercise import Exercise
from nbjudge.inside.case import Case, Task
from nbjudge.inside.tensors import like, placed


def make_task(exercise: Exercise, seed: int = 0, devices: Iterable[str] = ("cpu",)) -> Task:
    """The cases of an exercise, in each of its dtypes and on each device, and its device probe."""
    cases = tuple(
        replace(case, facts={**case.facts, "dtype": dtype})
        for device in devices
        for dtype in exercise.rtol
        for case in exercise.cases(Draw(seed, dtype, device))
    )
    return Task(cases, device_probe(cases), exercise.time_limit)


def device_probe(cases: Iterable[Case]) -> Case | None:
    """The first case whose arguments can all be moved, on torch's meta device: shapes only.

    A function that writes a device down fails here, on a machine without a GPU too.
    """
    for case in cases:
        movable = all(isinstance(arg, torch.nn.Module) or not callable(arg) for arg in case.args)
        # A function of plain numbers rightly makes its result on the CPU.
        if movable and any(map(placed, case.args)):
            args = tuple(_to_meta(arg) for arg in case.args)
            return Case("device probe", args, probe=case.probe)
    return None


def _to_meta(arg):
    if isinstance(arg, (list, tuple)):
        return like(arg, [_to_meta(item) for item in arg])
    if isinstance(arg, torch.nn.Module):
        return copy.deepcopy(arg).to("meta")
    return arg.to("meta") if isinstance(arg, torch.Tensor) else arg
