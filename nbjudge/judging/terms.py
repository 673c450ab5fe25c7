"""Results that are sums: with which coefficient each term of the right answer enters."""

from collections.abc import Iterable
from fractions import Fraction

import torch

from nbjudge.judging.compare import Compared

# Coefficients that a person writes down.
_SIMPLE = tuple(map(Fraction, ("0", "1/4", "1/2", "1", "3/2", "2", "3", "4")))
_GLYPHS = {Fraction(1, 4): "¼", Fraction(1, 2): "½", Fraction(3, 2): "1½"}
# Terms that are nearly combinations of others have no coefficients that could be told.
_INDEPENDENT = 1e-5
# More terms than this are not called a slip.
_MOST = 2


def explain_by_terms(terms: dict, compared: Iterable[Compared]) -> tuple[str, str] | None:
    """Which terms enter a student's result with another coefficient than the right one.

    Args:
        terms: name → what gives its numbers on a case.
        compared: cases of one dtype, all of them.

    Returns:
        A name and a sentence; None where the student's numbers are no simple combination of the
        terms on every case, or where more than two coefficients differ.

    """
    found = coefficients(terms, compared)
    if found is None:
        return None
    wrong = [(name, got, due) for name, (got, due) in found.items() if got != due]
    if not 1 <= len(wrong) <= _MOST:
        return None
    name = " and ".join(
        f"{term} with {_number(got)} for {_number(due)}" for term, got, due in wrong
    )
    count = "one term" if len(wrong) == 1 else "two terms"
    said = ", and ".join(_said(*one) for one in wrong)
    return name, f"Your result is right but for {count}: {said}: {{got}} for {{expected}}."


def coefficients(
    terms: dict, compared: Iterable[Compared]
) -> dict[str, tuple[Fraction, Fraction]] | None:
    """Name of each term → with what it enters the student's result and the right one.

    None where one of the two is no simple combination of the terms on every case.
    """
    rows = [_rows(terms, c) for c in compared]
    if not rows or any(row is None for row in rows):
        return None
    columns, seen, right, tolerance = (torch.cat(part) for part in zip(*rows, strict=True))
    fits = [_coefficients(columns, numbers, tolerance) for numbers in (seen, right)]
    if None in fits:
        return None
    return dict(zip(terms, zip(*fits, strict=True), strict=True))


def _rows(terms, c):
    """Numbers of one case, a row for each entry of the result: terms, seen, right, tolerance."""
    seen, right = c.seen.value, c.right.value
    alike = isinstance(seen, torch.Tensor) and isinstance(right, torch.Tensor)
    if not alike or seen.shape != right.shape or not seen.is_floating_point():
        return None
    found = [term(c.case).detach().double().broadcast_to(right.shape) for term in terms.values()]
    columns = torch.stack([column.reshape(-1) for column in found], 1)
    seen, right = seen.double().reshape(-1), right.double().reshape(-1)
    if not all(numbers.isfinite().all() for numbers in (columns, seen, right)):
        return None
    # A sum of large terms is as exact as these are.
    tolerance = c.rtol * columns.abs().sum(1).clamp(min=1)
    return columns, seen, right, tolerance


def _coefficients(columns, numbers, tolerance):
    """Simple coefficients with which the columns add up to the numbers; None if there are none."""
    weighted = columns / tolerance[:, None]
    lengths = weighted.norm(dim=0)
    if not lengths.all():
        return None
    singular = torch.linalg.svdvals(weighted / lengths)
    if len(weighted) < len(lengths) or singular[-1] < _INDEPENDENT * singular[0]:
        return None
    fit = torch.linalg.lstsq(weighted / lengths, (numbers / tolerance)[:, None]).solution[:, 0]
    simple = [_simplest(value) for value in (fit / lengths).tolist()]
    exact = columns @ torch.tensor([float(value) for value in simple], dtype=torch.float64)
    return simple if bool(((exact - numbers).abs() <= 4 * tolerance).all()) else None


def _simplest(value):
    nearest = min(_SIMPLE, key=lambda simple: abs(float(simple) - abs(value)))
    return nearest if value >= 0 else -nearest


def _said(name, got, due):
    if got == 0:
        return f"`{name}` is missing"
    if due == 0:
        return f"`{name}` does not belong there"
    if got == -due:
        done, wanted = ("added", "subtracted") if got > 0 else ("subtracted", "added")
        return f"`{name}` is {done} where it should be {wanted}"
    return f"`{name}` enters with {_number(got)} where {_number(due)} is due"


def _number(value):
    sign = "−" if value < 0 else ""
    return sign + _GLYPHS.get(abs(value), str(abs(value)))
