"""When two results count as the same."""

from typing import Any

import torch

from nbjudge.inside.observe import Observation, tensors


def close(got: torch.Tensor, want: torch.Tensor, rtol: float) -> bool:
    """Equal entry by entry, to `rtol` of the entry or of 1, whichever is larger; nan equals nan."""
    # The most frequent case by far, and the cheapest question; so below.
    if torch.equal(got, want):
        return True
    if not want.is_floating_point():
        return False
    return _within(got, want, rtol * want.abs().clamp(min=1.0))


def close_gradients(got: torch.Tensor, want: torch.Tensor, rtol: float) -> bool:
    """Equal to `rtol` of the largest entry: what cancels in one entry is large in another."""
    if torch.equal(got, want):
        return True
    finite = want[want.isfinite()]
    largest = finite.abs().max().clamp(min=1.0) if finite.numel() else 1.0
    return _within(got, want, rtol * largest)


def agree(a: Observation, b: Observation, rtol: float, with_gradients: bool = True) -> bool:
    """Whether two observations of one case cannot be told apart."""
    if a.timed_out or b.timed_out:
        return False
    if (a.raised and a.raised.kind) != (b.raised and b.raised.kind):
        return False
    if (a.foreign, a.changed, a.passes) != (b.foreign, b.changed, b.passes):
        return False
    if skeleton(a.value) != skeleton(b.value) or plain_values(a.value) != plain_values(b.value):
        return False
    if not all(_alike(x, y, rtol, close) for x, y in pairs(a, b)):
        return False
    if not with_gradients:
        return True
    if len(a.gradients) != len(b.gradients):
        return False
    return all(
        x is y if x is None or y is None else _alike(x, y, rtol, close_gradients)
        for x, y in zip(a.gradients, b.gradients, strict=True)
    )


def pairs(a: Observation, b: Observation) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The tensors of two results of one structure, side by side."""
    return list(zip(tensors(a.value), tensors(b.value), strict=True))


def skeleton(value) -> Any:
    """The structure of a value without its numbers; a list and a tuple count as the same."""
    if isinstance(value, torch.Tensor):
        return "tensor"
    if isinstance(value, dict):
        return {key: skeleton(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [skeleton(item) for item in value]
    return type(value).__name__


def plain_values(value) -> Any:
    """The entries of a value that are not tensors, in its structure."""
    if isinstance(value, torch.Tensor):
        return None
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_values(item) for item in value]
    return value


def worst(got: torch.Tensor, want: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Index of the entry that is furthest off; one that is not a number comes first."""
    error = (got.double() - want.double()).abs().nan_to_num(nan=torch.inf)
    return torch.unravel_index(error.argmax(), got.shape)


def _within(got, want, tolerance):
    same = (got == want) | (got.isnan() & want.isnan())
    # Where the truth is infinite so is the tolerance, and any number would do.
    near = want.isfinite() & ((got - want).abs() <= tolerance)
    return bool((same | near).all())


def _alike(a, b, rtol, is_close):
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if torch.equal(a, b):
        return True
    if a.is_floating_point():
        # One wrong answer overflows to inf, its twin to nan: the mistake is the same.
        a, b = (torch.where(t.isfinite(), t, torch.nan) for t in (a, b))
    return is_close(a, b, rtol)
