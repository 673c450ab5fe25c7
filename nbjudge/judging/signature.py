"""A signature: a few numbers by which two wrong answers that do the same are known as the same.

It stands in the verdict on an answer that no mistake explains, so that a report can put those
together that made one mistake.
"""

import math

from nbjudge.inside.tensors import cotangent, tensors
from nbjudge.judging.sheet import Observed
from nbjudge.judging.verdict import Signature

# What has a sentence of its own, which says the mistake already, needs no group.
KINDS = ("value", "property", "shape", "not finite", "gradient")


def signature(observed: Observed) -> Signature:
    """Of what a function gave: of each case its entries and gradients, each weighed and added.

    The weights are those by which gradients are taken, fixed and without a pattern. Only cases in
    the first dtype count.

    Args:
        observed: on all cases of a task; on the same ones for all who are compared.

    """
    first = observed[0][0].facts["dtype"]
    seen = [seen for case, seen in observed if case.facts["dtype"] == first]
    return tuple(number for one in seen for number in _of(one))


def _of(seen):
    parts = [*tensors(seen.value), *seen.gradients]
    yield float(len(parts))
    for position, part in enumerate(parts):
        if part is None or part.is_complex():
            yield None
            continue
        part = part.double().cpu()
        weighed = float((part * cotangent(part, position)).sum())
        yield weighed if math.isfinite(weighed) else None
