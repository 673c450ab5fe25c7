"""When a value is the exact answer: what the properties of exercises are held to."""

import math

import pytest
import torch

from nbjudge.asking.statements import adds_to_one, at_most, is_exact, is_fact
from nbjudge.inside.case import Case

NAN = float("nan")
KNOWN = Case("known", (), facts={"answer": [1.0, 2.0]})
UNKNOWN = Case("unknown", ())
RIGHT, WRONG = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.1])

# The defaults, which most exercises rely on.
exact_to = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)]
)
at_most_by = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)]
)
# Relative to large numbers, absolute for small ones.
around = pytest.mark.parametrize("number", [0.0, 3.0, -1e4])


@exact_to
@around
@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_is_exact_within_the_tolerance_of_its_dtype(dtype, tolerance, number, sign):
    slack = sign * tolerance * (1 + abs(number))
    assert is_exact(torch.tensor([number + 0.9 * slack], dtype=dtype), [number])
    assert not is_exact(torch.tensor([number + 1.1 * slack], dtype=dtype), [number])


def test_each_dtype_has_a_tolerance_of_its_own():
    value = torch.tensor(1.001)
    assert is_exact(value, 1.0, single=1e-3)
    assert not is_exact(value, 1.0, double=1e-3)
    assert is_exact(value.double(), 1.0, double=1e-3)
    assert not is_exact(value.double(), 1.0, single=1e-3)


def test_every_entry_has_to_be_exact():
    assert is_exact(RIGHT.repeat(3, 1), RIGHT)
    assert not is_exact(torch.stack([RIGHT, WRONG]), RIGHT)


def test_what_is_not_a_number_is_never_exact():
    assert not is_exact(torch.tensor([1.0, NAN]), [1.0, NAN])
    assert not is_exact(torch.tensor([1.0]), [math.inf])
    assert is_exact(torch.tensor([math.inf]), [math.inf])


@at_most_by
@around
def test_at_most_allows_for_rounding_in_the_dtype(dtype, tolerance, number):
    slack = tolerance * (1 + abs(number))
    upper = torch.tensor([number], dtype=dtype)
    assert at_most(upper - 1, upper)
    assert at_most(torch.tensor([number + 0.9 * slack], dtype=dtype), upper)
    assert not at_most(torch.tensor([number + 1.1 * slack], dtype=dtype), upper)


def test_at_most_has_a_tolerance_for_each_dtype():
    lower, upper = torch.tensor(1.001), torch.tensor(1.0)
    assert at_most(lower, upper, single=1e-3)
    assert not at_most(lower, upper, double=1e-3)
    assert at_most(lower.double(), upper, double=1e-3)
    assert not at_most(lower.double(), upper, single=1e-3)


def test_at_most_has_to_hold_in_every_entry():
    assert at_most(torch.stack([RIGHT, RIGHT - 1]), RIGHT)
    assert not at_most(torch.stack([RIGHT, WRONG]), RIGHT)
    assert not at_most(torch.tensor([1.0, NAN]), RIGHT)


def test_a_fact_is_asked_for_where_the_case_knows_it():
    holds = is_fact("answer")
    assert holds(KNOWN, RIGHT)
    assert not holds(KNOWN, WRONG)
    assert holds(UNKNOWN, WRONG)


@pytest.mark.parametrize("part", [0, 1, "answer"])
def test_a_fact_can_be_of_one_part_of_the_value(part):
    holds = is_fact("answer", part)
    values = {0: WRONG, 1: WRONG, "answer": WRONG}
    assert holds(KNOWN, {**values, part: RIGHT})
    assert not holds(KNOWN, {**dict.fromkeys(values, RIGHT), part: WRONG})
    assert holds(UNKNOWN, values)


@pytest.mark.parametrize("part", [0, 1, "log_q"])
def test_one_part_of_the_value_can_add_to_one(part):
    case = Case("two cells", (), facts={"log_cell": math.log(0.5)})
    right, wrong = torch.zeros(2), torch.ones(2)
    holds = adds_to_one("log_cell", part)
    values = {0: wrong, 1: wrong, "log_q": wrong}
    assert holds(case, {**values, part: right})
    assert not holds(case, {**dict.fromkeys(values, right), part: wrong})
    assert holds(UNKNOWN, values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_density_on_a_grid_adds_to_one(dtype):
    z = torch.linspace(-8, 8, 33, dtype=torch.float64)
    log_density = (-0.5 * z**2 - 0.5 * math.log(2 * math.pi)).to(dtype)
    case = Case("a grid of spacing ½", (), facts={"log_cell": math.log(0.5)})
    holds = adds_to_one("log_cell")
    assert holds(case, log_density)
    assert not holds(case, log_density + math.log(2))
    assert not holds(case, log_density - math.log(2))
    assert holds(UNKNOWN, log_density + math.log(2))


def test_each_entry_may_have_a_weight_of_its_own():
    case = Case("", (), facts={"log_p": torch.tensor([0.25, 0.75], dtype=torch.float64).log()})
    ratios = torch.tensor([3.0, 1 / 3]).log()
    assert adds_to_one("log_p")(case, ratios)
    assert not adds_to_one("log_p")(case, ratios.flip(0))


def test_the_sum_loses_nothing_where_value_and_weight_cancel():
    """At 10⁵ float32 has steps of 0.008, so there log ½ would be lost."""
    case = Case("", (), facts={"log_weight": math.log(0.5) - 1e5})
    assert adds_to_one("log_weight")(case, torch.full((2,), 1e5))


@pytest.mark.parametrize(
    ("statement", "value"), [(is_fact, lambda x: x), (adds_to_one, torch.log)], ids=["fact", "sum"]
)
@exact_to
def test_statements_are_held_to_the_tolerances_of_is_exact(statement, value, dtype, tolerance):
    case = Case("", (), facts={"one": 1.0, "log_one": 0.0})
    name = "one" if statement is is_fact else "log_one"
    near, far = (value(1 + 2 * t * tolerance * torch.ones(1, dtype=dtype)) for t in (0.9, 1.1))
    assert statement(name)(case, near)
    assert not statement(name)(case, far)
    own, other = ("double", "single") if dtype == torch.float64 else ("single", "double")
    assert statement(name, **{own: 1.5 * tolerance})(case, far)
    assert not statement(name, **{other: 1.0})(case, far)
