"""When two results count as the same, and what shows best that they do not."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nbjudge.inside.case import Case
from nbjudge.inside.observe import Observation
from nbjudge.inside.tensors import differentiated, tensors

# What a function returned is shown in a sentence, whatever its size.
LONGEST_TEXT = 200
_ROUGHLY = 1e-4


@dataclass(frozen=True, eq=False)
class Compared:
    """What was seen on a case beside what is right there.

    Args:
        case: of which both are.
        seen: what the student's function did.
        right: what the right answer does.
        rtol: how far from it a number may lie, in the dtype of the case.

    """

    case: Case
    seen: Observation
    right: Observation
    rtol: float

    @functools.cached_property
    def same_structure(self) -> bool:
        """Whether the results have their tensors in the same places."""
        return skeleton(self.seen.value) == skeleton(self.right.value)

    @functools.cached_property
    def tensors(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Those of both results side by side, which must be of one structure."""
        return _pairs(self.seen, self.right)

    @property
    def same_form(self) -> bool:
        """Whether they have tensors of the same shapes there."""
        return self.same_structure and all(got.shape == want.shape for got, want in self.tensors)

    @functools.cached_property
    def same_plain_values(self) -> bool:
        """Whether all entries that are no tensors are the same."""
        return plain_values(self.seen.value) == plain_values(self.right.value)

    @functools.cached_property
    def identical(self) -> bool:
        """Bit by bit the same, as most right answers are."""
        return self.same_plain_values and all(torch.equal(got, want) for got, want in self.tensors)

    def tensors_agree(self, rtol: float | None = None) -> bool:
        """Whether all tensors are the same, to `rtol` if it is another than the case's."""
        return all(close(got, want, rtol or self.rtol) for got, want in self.tensors)

    def roughly_right(self) -> bool:
        """Whether all tensors are right to four digits, wherever and in whatever dtype they are."""
        return self.same_plain_values and all(
            not got.is_meta and close(got.to(want), want, _ROUGHLY) for got, want in self.tensors
        )

    def shown(self) -> tuple[str, str]:
        """The entry that shows the difference best, theirs and ours, in digits that differ."""
        for got, want in self.tensors:
            if not close(got, want, self.rtol):
                at = worst(got, want)
                return as_texts(got[at], want[at])
        if not self.same_plain_values:
            values = plain_values(self.seen.value), plain_values(self.right.value)
            return tuple(str(value)[:LONGEST_TEXT] for value in values)
        return "", ""

    def gradients(self) -> Iterator[tuple[int, torch.Tensor | None, torch.Tensor]]:
        """Position of an argument, theirs and ours, where the right answer has one.

        None stands for one that is missing and matters. Where a part of it is compared, it is that
        part; where theirs is none that autograd gives, it is left as it is.
        """
        positions = [position for position, _ in differentiated(self.case, self.case.args)]
        both = zip(positions, self.seen.gradients, self.right.gradients, strict=True)
        for position, got, want in both:
            project = self.case.project.get(position, lambda gradient: gradient)
            if want is None or (got is None and not project(want).any()):
                continue
            if got is None or (got.shape, got.dtype) != (want.shape, want.dtype):
                yield position, got, want
            else:
                yield position, project(got), project(want)


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
    if not all(_alike(x, y, rtol, close) for x, y in _pairs(a, b)):
        return False
    if not with_gradients:
        return True
    if len(a.gradients) != len(b.gradients):
        return False
    return all(
        x is y if x is None or y is None else _alike(x, y, rtol, close_gradients)
        for x, y in zip(a.gradients, b.gradients, strict=True)
    )


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


def as_texts(got: torch.Tensor, want: torch.Tensor) -> tuple[str, str]:
    """Two entries, in as many digits as tell them apart."""
    got, want = got.item(), want.item()
    if isinstance(got, bool):
        return str(got), str(want)
    # −0.0 is 0 to whoever reads it.
    got, want = got + 0.0, want + 0.0
    texts = [(f"{got:.{digits}g}", f"{want:.{digits}g}") for digits in (5, 8, 12, 17)]
    return next(((a, b) for a, b in texts if a != b), texts[-1])


def _pairs(a, b):
    return list(zip(tensors(a.value), tensors(b.value), strict=True))


def _within(got, want, tolerance):
    same = (got == want) | (got.isnan() & want.isnan())
    # Where the truth is infinite so is the tolerance, and any number would do.
    near = want.isfinite() & ((got - want).abs() <= tolerance)
    return bool((same | near).all())


def _alike(a, b, rtol, is_close):
    if (a.shape, a.dtype, a.device) != (b.shape, b.dtype, b.device):
        return False
    if torch.equal(a, b):
        return True
    if a.is_floating_point():
        # One wrong answer overflows to inf, its twin to nan: the mistake is the same.
        a, b = (torch.where(t.isfinite(), t, torch.nan) for t in (a, b))
    return is_close(a, b, rtol)
