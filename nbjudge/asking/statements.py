"""Statements that a right answer satisfies, for the properties of exercises."""

from collections.abc import Callable
from typing import Any

import torch

from nbjudge.inside.case import Case


def is_exact(value: torch.Tensor, exact, double: float = 1e-8, single: float = 1e-4) -> bool:
    """Whether a value is an exact answer, up to rounding.

    Args:
        value: a tensor of any shape, on any device.
        exact: a tensor, nested lists or a number; broadcasts against `value`.
        double: tolerance of each entry, absolute plus relative: `tolerance * (1 + |exact|)`.
        single: the tolerance where `value` is float32.

    Returns:
        True if all entries are; nan never is.

    """
    tolerance = _tolerance(value, double, single)
    exact = torch.as_tensor(exact, dtype=torch.float64).cpu()
    return torch.allclose(value.double().cpu(), exact, rtol=tolerance, atol=tolerance)


def at_most(
    lower: torch.Tensor, upper: torch.Tensor, double: float = 1e-8, single: float = 1e-5
) -> bool:
    """Whether `lower ≤ upper`, up to rounding.

    Args:
        lower: a tensor.
        upper: another on its device; the two broadcast.
        double: by how much `lower` may be larger: `tolerance * (1 + |upper|)` in each entry.
        single: the tolerance where `lower` is float32.

    Returns:
        True if it holds in all entries; with nan it never does.

    """
    tolerance = _tolerance(lower, double, single)
    return bool((lower <= upper + tolerance * (1 + upper.abs())).all())


def is_fact(
    name: str, part: int | str | None = None, double: float = 1e-8, single: float = 1e-4
) -> Callable[[Case, Any], bool]:
    """For a `Property`: the value is the exact answer that the case knows under this name.

    Args:
        name: a key of `case.facts`. Of a case without it the statement says nothing.
        part: index or key of the tensor that is meant, where the value holds several.
        double: tolerance, see `is_exact`.
        single: tolerance in float32.

    """

    def holds(case, value):
        if name not in case.facts:
            return True
        return is_exact(value if part is None else value[part], case.facts[name], double, single)

    return holds


def adds_to_one(
    name: str, part: int | str | None = None, double: float = 1e-8, single: float = 1e-4
) -> Callable[[Case, Any], bool]:
    """For a `Property`: all entries of `exp(value + fact)` add to 1.

    Of log-densities on a grid, where the fact is the log of a cell's size, it says that they
    integrate to one.

    Args:
        name: a key of `case.facts`: a number, or a float64 tensor that broadcasts against the
            value, on the CPU. Of a case without it the statement says nothing.
        part: index or key of the tensor that is meant, where the value holds several.
        double: tolerance of the sum, see `is_exact`.
        single: tolerance in float32.

    """

    def holds(case, value):
        if name not in case.facts:
            return True
        logs = value if part is None else value[part]
        # Added up in float64, but held to the tolerance of the dtype that the entries came in.
        total = (logs.double().cpu() + case.facts[name]).exp().sum()
        return is_exact(total.to(logs.dtype), 1.0, double, single)

    return holds


def _tolerance(value, double, single):
    return single if value.dtype == torch.float32 else double
