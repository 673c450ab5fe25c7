"""What is put to a function: the arguments of one call, and all calls of one check."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Case:
    """One call of the function under check.

    Args:
        name: what is special about it, in a few words the student reads.
        args: positional arguments: tensors, lists of tensors, plain values, modules, functions.
        wrt: positions of the arguments whose gradients are compared. A list counts with all its
            tensors, a module with all its parameters.
        facts: exact answers that a property of the exercise compares with.
        passes: position of a `Counted` argument → how often that may be passed: (least, most).
        project: position of an argument → what of its gradient is compared, for arguments that
            must stay in a domain: rows that add to one, a triangle.
        max_numel: the most numbers that a tensor made on the way may hold.
        probe: what is done with the result before it is looked at, `probe(result, *args)`: where
            the answer is a function, it calls it.
        extreme: whether its numbers or sizes are such that a formula that is right on paper fails.

    """

    name: str
    args: tuple
    wrt: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    passes: dict[int, tuple[int, int]] = field(default_factory=dict)
    project: dict[int, Callable] = field(default_factory=dict)
    max_numel: int | None = None
    probe: Callable | None = None
    extreme: bool = False


@dataclass(frozen=True, eq=False)
class Task:
    """What one check puts to a function.

    Args:
        cases: in order.
        probe: a case on torch's meta device, if the arguments can be moved there.
        seconds: for all of it.

    """

    cases: tuple[Case, ...]
    probe: Case | None
    seconds: float
