"""What is asked in the assignment `maf_vs_iaf`: cases, exact answers, wrong answers, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import itertools
import math

import torch

from dgm_utils import maf_vs_iaf
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case
from nbjudge.inside.observe import Counted, cotangent, tensors

# The networks of the cases are defined here, and the student's function calls them.
_NETWORKS = ("dgm_utils.exercises.maf_vs_iaf",)


def _jacobian_log_det(function, points):
    """log|det| of a function's Jacobian at each point, by differentiation."""
    rows = [
        torch.autograd.functional.jacobian(lambda row: function(row[None])[0], point)
        for point in points
    ]
    return torch.linalg.slogdet(torch.stack(rows)).logabsdet


# Networks. All have parameters that ask for a gradient.


class _Conditioner(torch.nn.Module):
    """(mu, log_sigma) of each coordinate from the ones before it; log_sigma is `level` ± `spread`.

    Args:
        draw: of the weights.
        dims: D.
        level: a number, or one for each coordinate.
        spread: how far log_sigma goes from there.
        scale: of weights and biases.

    """

    def __init__(self, draw, dims, level=0.0, spread=1.0, scale=1.0):
        super().__init__()
        weight = scale * draw.normal(2, dims, dims) / math.sqrt(dims)
        self.weight = torch.nn.Parameter(weight)
        self.bias = torch.nn.Parameter(scale * draw.normal(2, 1, dims))
        self.register_buffer("level", draw.tensor(level))
        self.spread = spread

    def forward(self, v):
        """`(B, D) → (mu, log_sigma)`, each `(B, D)`."""
        mu, raw = v @ self.weight.tril(-1).mT + self.bias
        return mu, self.level + self.spread * torch.tanh(raw)


class _CouplingNet(torch.nn.Module):
    """(t, s) of the last coordinates from the first; s is `level` ± 1."""

    def __init__(self, draw, split, rest, level=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(draw.normal(2, rest, split) / math.sqrt(split))
        self.bias = torch.nn.Parameter(draw.normal(2, 1, rest))
        self.register_buffer("level", draw.tensor(level))

    def forward(self, first):
        """`(B, split) → (t, s)`, each `(B, rest)`."""
        shift, raw = first @ self.weight.mT + self.bias
        return shift, self.level + torch.tanh(raw)


class _Gaussian(torch.nn.Module):
    """Log-density of a Gaussian, plus a constant that stands for a missing normalization."""

    def __init__(self, mean, scale_tril, constant=0.0):
        super().__init__()
        self.mean = torch.nn.Parameter(mean)
        self.scale_tril = torch.nn.Parameter(scale_tril)
        self.constant = constant

    def forward(self, v):
        """`(B, D) → (B,)`."""
        centred = (v - self.mean).mT
        noise = torch.linalg.solve_triangular(self.scale_tril, centred, upper=False)
        log_volume = self.scale_tril.diagonal().log().sum()
        log_2pi = len(self.mean) * math.log(2 * math.pi)
        return self.constant - 0.5 * (noise**2).sum(0) - log_volume - 0.5 * log_2pi


class _Mixture(torch.nn.Module):
    """Log-density of a mixture of unit Gaussians, all equally likely."""

    def __init__(self, means):
        super().__init__()
        self.means = torch.nn.Parameter(means)

    def forward(self, v):
        """`(B, D) → (B,)`."""
        squares = ((v[:, None] - self.means) ** 2 + math.log(2 * math.pi)).sum(-1)
        return torch.logsumexp(-0.5 * squares, 1) - math.log(len(self.means))


class _Generator(torch.nn.Module):
    """Base → data: each coordinate scaled and bent, then mixed by a triangular matrix."""

    def __init__(self, draw, dims, bend=1.0):
        super().__init__()
        self.log_scale = torch.nn.Parameter(0.5 * draw.normal(dims))
        self.weight = torch.nn.Parameter(draw.normal(dims, dims) / math.sqrt(dims))
        self.shift = torch.nn.Parameter(draw.normal(dims))
        self.bend = bend

    def matrix(self):
        """The triangular matrix, with ones on its diagonal."""
        return self.weight.tril(-1) + torch.eye(len(self.weight)).to(self.weight)

    def forward(self, z):
        """`(B, D) → (x, log_det)`, `(B, D)` and `(B,)`."""
        bent = torch.exp(self.log_scale) * z + self.bend * torch.tanh(z)
        slope = torch.exp(self.log_scale) + self.bend * (1 - torch.tanh(z) ** 2)
        return bent @ self.matrix().mT + self.shift, slope.log().sum(1)


def _standard_normal(draw, dims):
    return _Gaussian(draw.tensor(torch.zeros(dims)), draw.tensor(torch.eye(dims)))


def _random_gaussian(draw, dims):
    scale_tril = 0.3 * draw.normal(dims, dims).tril(-1)
    return _Gaussian(draw.normal(dims), scale_tril + torch.diag(0.6 + draw.uniform(dims)))


# --- made_masks -----------------------------------------------------------------------------------


def _mask_cases(draw):
    def shuffled(num):
        return torch.randperm(num, generator=draw.generator).tolist()

    yield Case("three inputs in the natural order", (3, [4], [0, 1, 2]))
    for order in list(itertools.permutations(range(3)))[1:]:
        yield Case("three inputs in another order", (3, [draw.integer(2, 6)], list(order)))
    d = draw.integer(5, 7)
    yield Case("as few units as are enough", (d, [d - 1, d - 1], shuffled(d)))
    yield Case("layers of different widths", (d, [2 * d + 1, d, 3 * d - 1], shuffled(d)))
    yield Case("no hidden layer", (d - 1, [], shuffled(d - 1)))
    yield Case("a layer of fewer than D − 1 units", (d, [2, d + 2], shuffled(d)))
    yield Case("one unit", (4, [1], shuffled(4)))
    yield Case("two inputs", (2, [draw.integer(1, 3)], [1, 0]))
    yield Case("one input", (1, [draw.integer(2, 4)], [0]))
    yield Case("20 inputs", (20, [19, 40], shuffled(20)))


def _mask_shapes(case):
    num_inputs, hidden_sizes, _ = case.args
    return [*itertools.pairwise([num_inputs, *hidden_sizes, num_inputs])]


def _have_the_shapes(case, masks):
    return [tuple(mask.shape) for mask in masks] == [(b, a) for a, b in _mask_shapes(case)]


def _are_zero_or_one(case, masks):
    return all(bool(((mask == 0) | (mask == 1)).all()) for mask in masks)


def _paths(case, masks):
    """How many paths lead to each output from each input, both sorted by the order."""
    order = case.args[2]
    product = torch.eye(len(order), dtype=torch.float64)
    for mask in masks:
        product = mask.double().cpu() @ product
    return product[order][:, order]


def _sees_no_later_input(case, masks):
    return not _paths(case, masks).triu(1).any()


def _does_not_see_itself(case, masks):
    return not _paths(case, masks).diagonal().any()


def _sees_all_before_it(case, masks):
    num_inputs, hidden_sizes, _ = case.args
    if any(size < num_inputs - 1 for size in hidden_sizes):
        return True
    earlier = torch.ones(num_inputs, num_inputs).tril(-1).bool()
    return bool((_paths(case, masks)[earlier] > 0).all())


made_masks_wrong = Misconceptions()


@made_masks_wrong("≥ in the last mask")
def _(num_inputs, hidden_sizes, order):
    """Your last mask uses ≥, as the hidden ones do, so an output sees its own input; the output
    that comes k-th may see units of degree below k only, >.
    """
    place = [order.index(i) + 1 for i in range(num_inputs)]
    degrees = [torch.tensor(place)]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    degrees.append(torch.tensor(place))
    return [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]


@made_masks_wrong("> in the hidden masks")
def _(num_inputs, hidden_sizes, order):
    """You use > between the hidden layers too. Nothing is seen that must not be, but paths are
    lost at each layer; a hidden unit may see all of its own degree or below, ≥.
    """
    place = [order.index(i) + 1 for i in range(num_inputs)]
    degrees = [torch.tensor(place)]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    degrees.append(torch.tensor(place))
    return [(b[:, None] > a).float() for a, b in itertools.pairwise(degrees)]


@made_masks_wrong("always the natural order")
def _(num_inputs, hidden_sizes, order):
    """Your masks belong to the order 0, 1, 2, … whatever `order` is; input `order[k]` is the one
    that comes k-th, and it has the degree k + 1.
    """
    degrees = [1 + torch.arange(num_inputs)]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (degrees[0][:, None] > degrees[-1]).float()]


@made_masks_wrong("the order taken for the degrees")
def _(num_inputs, hidden_sizes, order):
    """You use `order` itself as the degrees. `order[k]` is the index of the input that comes
    k-th; the degree of an input is its place, the inverse permutation, `order.index(i)`.
    """
    degrees = [1 + torch.tensor(order)]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (degrees[0][:, None] > degrees[-1]).float()]


@made_masks_wrong("outputs not reordered")
def _(num_inputs, hidden_sizes, order):
    """You reorder the inputs but not the outputs: row i of the last mask belongs to input i, with
    that input's degree, whatever comes i-th.
    """
    degrees = [torch.tensor([order.index(i) + 1 for i in range(num_inputs)])]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (1 + torch.arange(num_inputs)[:, None] > degrees[-1]).float()]


@made_masks_wrong("hidden degrees from 0")
def _(num_inputs, hidden_sizes, order):
    """Your hidden degrees run from 0 to D − 1. A unit of degree 0 sees no input and is wasted,
    and a layer of D − 1 units then lacks a degree that is needed; let them run from 1 to D − 1.
    """
    place = torch.tensor([order.index(i) + 1 for i in range(num_inputs)])
    degrees = [place, *(torch.arange(size) % num_inputs for size in hidden_sizes)]
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float()]


@made_masks_wrong("degrees drawn at random")
def _(num_inputs, hidden_sizes, order):
    """You draw the hidden degrees at random, so a narrow layer can lack one, and with it all
    paths through it; spread the degrees 1 … D − 1 evenly over the units.
    """
    generator = torch.Generator().manual_seed(0)
    place = torch.tensor([order.index(i) + 1 for i in range(num_inputs)])
    degrees = [place]
    for size in hidden_sizes:
        degrees.append(torch.randint(1, max(2, num_inputs), (size,), generator=generator))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float()]


@made_masks_wrong("(in, out) for (out, in)")
def _(num_inputs, hidden_sizes, order):
    """Your masks have the shape (in, out). They multiply the weight of `nn.Linear`, which is
    (out, in): the transpose.
    """
    place = torch.tensor([order.index(i) + 1 for i in range(num_inputs)])
    degrees = [place]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float().T for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float().T]


@made_masks_wrong("two outputs for each input")
def _(num_inputs, hidden_sizes, order):
    """Your last mask has two rows for each input, for mu and log_sigma; one is asked for here,
    D rows in all, and a network repeats it as often as it needs.
    """
    place = torch.tensor([order.index(i) + 1 for i in range(num_inputs)])
    degrees = [place]
    for size in hidden_sizes:
        degrees.append(1 + torch.arange(size) % max(1, num_inputs - 1))
    masks = [(b[:, None] >= a).float() for a, b in itertools.pairwise(degrees)]
    return [*masks, (place[:, None] > degrees[-1]).float().repeat(2, 1)]


_made_masks = Exercise(
    name="made_masks",
    question="masks of 0 and 1, (out, in), that make a network strictly autoregressive",
    reference=maf_vs_iaf.made_masks,
    cases=_mask_cases,
    compare=False,
    properties=(
        Property(
            "shapes",
            "Each mask has a layer's shape, (out, in): from D inputs through the hidden sizes to D "
            "outputs, one for each input. Yours have other shapes.",
            _have_the_shapes,
        ),
        Property(
            "zero or one",
            "A mask holds zeros and ones only. Yours do not.",
            _are_zero_or_one,
        ),
        Property(
            "does not see itself",
            "In the product of your masks (last @ … @ first) an output is connected to the very "
            "input that it is to predict. It may see only inputs that come before, not itself.",
            _does_not_see_itself,
        ),
        Property(
            "sees no later input",
            "In the product of your masks (last @ … @ first) an output is connected to an input "
            "that comes after it. Input `order[k]` comes k-th, and output i belongs to input i.",
            _sees_no_later_input,
        ),
        Property(
            "sees all before it",
            "In the product of your masks (last @ … @ first) an output is not connected to an "
            "input that comes before it, although every hidden layer has at least D − 1 units. "
            "All of these connections are wanted.",
            _sees_all_before_it,
        ),
    ),
    misconceptions=tuple(made_masks_wrong),
    hints=(
        "Give each unit a degree, the number of inputs (in the order) that it may depend on. "
        "The input that comes k-th (k = 1 … D) has degree k. What does that allow between layers?",
        "Hidden degrees run through 1 … D − 1 again and again: `1 + torch.arange(size) % (D - 1)`, "
        "with care at D = 1. A hidden unit sees degrees ≤ its own. The output that comes k-th "
        "sees degrees < k.",
        "`place = torch.tensor([order.index(i) + 1 for i in range(D)])`, hidden masks "
        "`degrees[:, None] >= previous`, where the first `previous` is `place`, and the last mask "
        "`place[:, None] > previous`. Use `max(1, D - 1)` for the remainder.",
    ),
    points=3,
    minutes=25,
    difficulty=3,
)


# --- maf_forward ----------------------------------------------------------------------------------


def _fast_cases(draw, function):
    """Cases for the directions that take one call; `function(v, mu, log_sigma)` gives the value."""

    def random(name, b, d, v=None, **options):
        net = Counted(_Conditioner(draw, d, **options))
        v = draw.normal(b, d) if v is None else v
        return Case(name, (v, net), wrt=(0, 1), passes={1: (1, 1)})

    def at(case):
        """The case with the log-determinant that differentiation gives."""
        v, net = case.args
        with torch.no_grad():
            case.facts["log_det"] = _jacobian_log_det(lambda v: function(v, *net(v)), v)
        return case

    yield at(random("one data point in two dimensions", 1, 2))
    yield at(random("three dimensions", draw.integer(4, 6), 3))
    yield random("one dimension", draw.integer(3, 5), 1)
    yield random("more dimensions than data points", 2, draw.integer(6, 9))
    d = draw.integer(3, 5)
    level = [30.0, -30.0, *[0.0] * (d - 2)]
    yield random("σ from e⁻³⁰ to e³⁰", 7, d, level=level)
    # The product of these σ is e^±800, beyond what 64 bits hold.
    yield random("40 dimensions with σ near e⁻²⁰", 2, 40, level=-20.0)
    yield random("40 dimensions with σ near e²⁰", 2, 40, level=20.0)
    v = draw.normal(d, 6).T
    yield random("an argument that is not contiguous in memory", 6, d, v)


def _maf_cases(draw):
    yield from _fast_cases(draw, lambda x, mu, log_sigma: (x - mu) / torch.exp(log_sigma))
    # The density of a flow integrates to one: points on a grid, σ between 0.67 and 1.5.
    line = torch.linspace(-10, 10, 31, dtype=torch.float64)
    net = Counted(_Conditioner(draw, 2, spread=0.4, scale=0.4))
    grid = draw.tensor(torch.cartesian_prod(line, line))
    cell = (20 / 30) ** 2
    yield Case("a grid in two dimensions", (grid, net), (0, 1), {"cell": cell}, {1: (1, 1)})


def _is_gaussian_density(case, value):
    """Whether log N(z; 0, I) + log_det is Σ log N(x_i; μ_i, σ_i²)."""
    x, net = case.args
    z, log_det = (part.double() for part in value)
    with torch.no_grad():
        mu, log_sigma = (part.double() for part in net(x))
    noise = (x.double() - mu) / torch.exp(log_sigma)
    expected = -(0.5 * noise**2 + log_sigma).sum(1)
    got = -0.5 * (z**2).sum(1) + log_det
    return is_exact(got.to(value[0].dtype), expected)


def _integrates_to_one(case, value):
    if "cell" not in case.facts:
        return True
    z, log_det = (part.double() for part in value)
    log_density = log_det - 0.5 * (z**2).sum(1) - math.log(2 * math.pi)
    total = log_density.exp().sum() * case.facts["cell"]
    return is_exact(total.to(value[0].dtype), 1.0, double=1e-6)


maf_forward_wrong = Misconceptions()


@maf_forward_wrong("log-det with the wrong sign")
def _(x, net):
    """You return +Σ log σ as the log-determinant: {got}; z is x divided by σ, so that
    ∂z_i/∂x_i = 1/σ_i and the log-determinant is −Σ log σ, {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), log_sigma.sum(1)


@maf_forward_wrong("the direction of sampling")
def _(x, net):
    """You map base to data, σ ⊙ v + μ: {got}; from data to base μ is subtracted and σ divided
    out, {expected}.
    """
    mu, log_sigma = net(x)
    return x * torch.exp(log_sigma) + mu, log_sigma.sum(1)


@maf_forward_wrong("log σ taken for log σ²")
def _(x, net):
    """You take log_sigma for the logarithm of the variance and halve it: {got}; it is log σ, and
    σ = exp(log_sigma), which gives {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-0.5 * log_sigma), -0.5 * log_sigma.sum(1)


@maf_forward_wrong("μ subtracted after the division")
def _(x, net):
    """You divide x by σ before μ is subtracted, x/σ − μ: {got}; (x − μ)/σ is {expected}."""
    mu, log_sigma = net(x)
    return x * torch.exp(-log_sigma) - mu, -log_sigma.sum(1)


@maf_forward_wrong("log-det of each coordinate")
def _(x, net):
    """You return −log σ of each coordinate, shape (B, D); the log-determinant of a triangular
    Jacobian is their sum over the coordinates, one number for each data point, shape (B,).
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma


@maf_forward_wrong("log-det averaged")
def _(x, net):
    """You average log σ over the coordinates: {got}; the determinant is a product over all of
    them, so the logs add up, {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.mean(1)


@maf_forward_wrong("log of the product")
def _(x, net):
    """You multiply the σ and take the log of the product, which under- or overflows in many
    dimensions: {got}; the sum of the logs does not, {expected}.
    """
    mu, log_sigma = net(x)
    sigma = torch.exp(log_sigma)
    return (x - mu) / sigma, -torch.log(sigma.prod(1))


@maf_forward_wrong("epsilon added to σ")
def _(x, net):
    """You add a small number to σ before dividing: {got}; σ = exp(log_sigma) is never zero, and
    without the number it is {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) / (torch.exp(log_sigma) + 1e-6), -log_sigma.sum(1)


@maf_forward_wrong("a call for each coordinate")
def _(x, net):
    """Your numbers are right, but you call `net` once for each coordinate. All of x is known in
    this direction, so one call gives every μ_i and σ_i: that is what makes MAF's density fast.
    """
    columns, log_det = [], torch.zeros_like(x[:, 0])
    for i in range(x.shape[1]):
        mu, log_sigma = net(x)
        columns.append((x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i]))
        log_det = log_det - log_sigma[:, i]
    return torch.stack(columns, 1), log_det


@maf_forward_wrong("the network detached")
def _(x, net):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through μ(x) and σ(x); nothing can be trained with it.
    """
    with torch.no_grad():
        mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma), -log_sigma.sum(1)


_maf_forward = Exercise(
    name="maf_forward",
    question="z = (x − μ(x)) / σ(x) and log|det ∂z/∂x| in one call of the network",
    reference=maf_vs_iaf.maf_forward,
    cases=_maf_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the Jacobian's determinant",
            "Differentiating z(x) gives another log-determinant than the one you return.",
            is_fact("log_det", 1),
        ),
        Property(
            "a Gaussian autoregressive model",
            "log N(z; 0, I) + log_det must be Σ_i log N(x_i; μ_i, σ_i²), the density of a Gaussian "
            "autoregressive model. Yours is not.",
            _is_gaussian_density,
        ),
        Property(
            "integrates to one",
            "The density N(z(x); 0, I) · |det ∂z/∂x| must integrate to 1 over x. Yours does not.",
            _integrates_to_one,
        ),
    ),
    misconceptions=tuple(maf_forward_wrong),
    hints=(
        "All of x is given, so one call of `net` gives μ_i and log σ_i for every coordinate.",
        "z_i depends on x_1 … x_i only: the Jacobian is triangular, with 1/σ_i on its diagonal. "
        "The determinant of a triangular matrix is the product of its diagonal.",
        "`mu, log_sigma = net(x)`; z is `(x - mu) * torch.exp(-log_sigma)`, and the "
        "log-determinant minus `log_sigma` summed over the coordinates.",
    ),
    points=2,
    minutes=10,
    difficulty=1,
)


# --- maf_inverse ----------------------------------------------------------------------------------


def _slow_cases(draw):
    """Cases for the directions that go through the coordinates one after the other."""

    def random(name, b, d, v=None, **options):
        net = Counted(_Conditioner(draw, d, **options))
        v = draw.normal(b, d) if v is None else v
        return Case(name, (v, net), wrt=(0, 1), passes={1: (0, d)})

    yield random("one data point in two dimensions", 1, 2)
    yield random("two data points in three dimensions", 2, 3)
    yield random("one dimension", draw.integer(3, 5), 1)
    b, d = draw.integer(6, 8), draw.integer(4, 5)
    yield random("more data points than dimensions", b, d)
    yield random("more dimensions than data points", 2, d + 4)
    yield random("one data point", 1, d)
    yield random("points far from the origin", b, 3, 30 * draw.normal(b, 3))
    level = [-8.0, 6.0, *[0.0] * (d - 2)]
    yield random("a narrow conditional before a wide one", b, d, level=level)
    yield random("an argument that is not contiguous in memory", b, d, draw.normal(d, b).T)


def _comes_back(function):
    """A statement: the fast direction takes the value back to the argument."""

    def holds(case, value):
        start, net = case.args
        with torch.no_grad():
            back = function(value, *net(value))
        scale = start.abs().max().clamp(min=1.0)
        # Dividing by σ = e⁻⁸ on the way back makes rounding 3000 times larger.
        return is_exact(back / scale, (start / scale).double(), double=1e-8, single=1e-2)

    return holds


maf_inverse_wrong = Misconceptions()


@maf_inverse_wrong("one call, at z")
def _(z, net):
    """You call `net` once, at z: {got}. That is an IAF; in a MAF μ_i and σ_i are functions of the
    x before x_i, which have to be found one after the other, {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu


@maf_inverse_wrong("stops one short")
def _(z, net):
    """Your loop ends before the last coordinate, which keeps its first value: {got}; there are D
    coordinates to find, `range(D)`, and the last is {expected}.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1] - 1):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x


@maf_inverse_wrong("one call too many")
def _(z, net):
    """Your numbers are right, but you call `net` D + 1 times. After D calls the last coordinate
    is known; a first call outside the loop or a last one to clean up is not needed.
    """
    x = torch.zeros_like(z)
    mu, log_sigma = net(x)
    for _ in range(z.shape[1]):
        x = z * torch.exp(log_sigma) + mu
        mu, log_sigma = net(x)
    return x


@maf_inverse_wrong("from the last to the first")
def _(z, net):
    """You find the last coordinate first: {got}; x_i needs those before it, so the first comes
    first, {expected}.
    """
    x = torch.zeros_like(z)
    for i in reversed(range(z.shape[1])):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x


@maf_inverse_wrong("a loop over the batch")
def _(z, net):
    """Your loop has as many steps as there are data points; it goes over the D coordinates,
    `z.shape[1]`, and takes all data points at once.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[0]):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x


@maf_inverse_wrong("the forward map again")
def _(z, net):
    """You subtract μ and divide by σ, which is the way from data to base: {got}; back it is
    x_i = σ_i z_i + μ_i, {expected}.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, (z - mu) * torch.exp(-log_sigma), x)
    return x


@maf_inverse_wrong("written in place")
def _(z, net):
    """Your numbers are right, but you write each coordinate into the very tensor that `net` was
    called with, and autograd needs it as it was. Write into a copy (`x = x.clone()`), or put the
    columns together with `torch.stack` or `torch.where`.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        x[:, i] = z[:, i] * torch.exp(log_sigma[:, i]) + mu[:, i]
    return x


@maf_inverse_wrong("found without gradient")
def _(z, net):
    """Your numbers are right, but you compute them under no_grad, so no gradient reaches z or
    the parameters of `net`.
    """
    with torch.no_grad():
        x = torch.zeros_like(z)
        for _ in range(z.shape[1]):
            mu, log_sigma = net(x)
            x = z * torch.exp(log_sigma) + mu
    return x


@maf_inverse_wrong("gradient of the last pass only")
def _(z, net):
    """Your numbers are right, but you detach x before each call of `net`, so the gradient lacks
    what comes through the coordinates before: μ_i and σ_i depend on them.
    """
    x = torch.zeros_like(z)
    for _ in range(z.shape[1]):
        mu, log_sigma = net(x.detach())
        x = z * torch.exp(log_sigma) + mu
    return x


# In 32 bits the coordinates before a coordinate bring their rounding into its μ and σ.
_SLOW_RTOL = {torch.float64: 1e-8, torch.float32: 1e-3}

_maf_inverse = Exercise(
    name="maf_inverse",
    question="x with (x − μ(x)) / σ(x) = z, in at most D calls of the network",
    reference=maf_vs_iaf.maf_inverse,
    cases=_slow_cases,
    may_use=_NETWORKS,
    rtol=_SLOW_RTOL,
    properties=(
        Property(
            "comes back",
            "Your x, put into (x − μ(x)) / σ(x), must give z back. It does not.",
            _comes_back(lambda x, mu, log_sigma: (x - mu) * torch.exp(-log_sigma)),
        ),
    ),
    misconceptions=tuple(maf_inverse_wrong),
    hints=(
        "x_1 needs nothing: μ_1 and σ_1 are constants. x_2 needs x_1, x_3 needs x_1 and x_2, …",
        "Start with x = 0 and call `net(x)` D times. The i-th call gives the right μ_i and σ_i, "
        "because the coordinates before i are right by then and the later ones do not matter.",
        "D times: `mu, log_sigma = net(x)`, then `x = z * torch.exp(log_sigma) + mu`, all of x "
        "anew. After i rounds the first i coordinates are right. Do not write into x in place.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- iaf_inverse ----------------------------------------------------------------------------------


def _iaf_cases(draw):
    yield from _fast_cases(draw, lambda z, mu, log_sigma: z * torch.exp(log_sigma) + mu)


def _is_undone(case, value):
    """Whether (x − μ(z)) / σ(z) is z, where σ is not so small that x forgets z."""
    z, net = case.args
    x = value[0].double()
    with torch.no_grad():
        mu, log_sigma = (part.double() for part in net(z))
    residual = (x - mu - z.double() * torch.exp(log_sigma)).abs()
    tolerance = 1e-4 if value[0].dtype == torch.float32 else 1e-8
    return bool((residual <= tolerance * (1 + x.abs())).all())


iaf_inverse_wrong = Misconceptions()


@iaf_inverse_wrong("log-det with the wrong sign")
def _(z, net):
    """You return −Σ log σ as the log-determinant: {got}. It is that of the map that was applied,
    z → x, which multiplies by σ: +Σ log σ, {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, -log_sigma.sum(1)


@iaf_inverse_wrong("the map of a MAF")
def _(z, net):
    """You subtract μ and divide by σ: {got}; an IAF goes from base to data by x = σ(z) ⊙ z +
    μ(z), {expected}.
    """
    mu, log_sigma = net(z)
    return (z - mu) * torch.exp(-log_sigma), -log_sigma.sum(1)


@iaf_inverse_wrong("μ scaled too")
def _(z, net):
    """You add μ before multiplying by σ, σ ⊙ (z + μ): {got}; σ ⊙ z + μ is {expected}."""
    mu, log_sigma = net(z)
    return (z + mu) * torch.exp(log_sigma), log_sigma.sum(1)


@iaf_inverse_wrong("log σ taken for log σ²")
def _(z, net):
    """You take log_sigma for the logarithm of the variance and halve it: {got}; it is log σ, and
    σ = exp(log_sigma), which gives {expected}.
    """
    mu, log_sigma = net(z)
    return z * torch.exp(0.5 * log_sigma) + mu, 0.5 * log_sigma.sum(1)


@iaf_inverse_wrong("gated update")
def _(z, net):
    """You use the gated form of the IAF paper, σ ⊙ z + (1 − σ) ⊙ μ with a sigmoid for σ: {got};
    here log_sigma is the log of σ and μ is added as it is, {expected}.
    """
    mu, log_sigma = net(z)
    gate = torch.sigmoid(log_sigma)
    return gate * z + (1 - gate) * mu, torch.log(gate).sum(1)


@iaf_inverse_wrong("log-det of each coordinate")
def _(z, net):
    """You return log σ of each coordinate, shape (B, D); the log-determinant is their sum over
    the coordinates, one number for each data point, shape (B,).
    """
    mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, log_sigma


@iaf_inverse_wrong("log of the product")
def _(z, net):
    """You multiply the σ and take the log of the product, which under- or overflows in many
    dimensions: {got}; the sum of the logs does not, {expected}.
    """
    mu, log_sigma = net(z)
    sigma = torch.exp(log_sigma)
    return z * sigma + mu, torch.log(sigma.prod(1))


@iaf_inverse_wrong("one coordinate after the other, from x")
def _(z, net):
    """You call `net` at x, one coordinate after the other, which is how a MAF is sampled; in an
    IAF μ and σ are functions of z, all of which is known, so one call is enough.
    """
    x = torch.zeros_like(z)
    for i in range(z.shape[1]):
        mu, log_sigma = net(x)
        new = torch.arange(z.shape[1], device=z.device) == i
        x = torch.where(new, z * torch.exp(log_sigma) + mu, x)
    return x, log_sigma.sum(1)


@iaf_inverse_wrong("the network detached")
def _(z, net):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through μ(z) and σ(z); nothing can be trained with it.
    """
    with torch.no_grad():
        mu, log_sigma = net(z)
    return z * torch.exp(log_sigma) + mu, log_sigma.sum(1)


_iaf_inverse = Exercise(
    name="iaf_inverse",
    question="x = σ(z) ⊙ z + μ(z) and log|det ∂x/∂z| in one call of the network",
    reference=maf_vs_iaf.iaf_inverse,
    cases=_iaf_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the Jacobian's determinant",
            "Differentiating x(z) gives another log-determinant than the one you return.",
            is_fact("log_det", 1),
        ),
        Property(
            "scaled, then shifted",
            "x less μ(z) must be σ(z) ⊙ z, where σ = exp(log_sigma). Yours is not.",
            _is_undone,
        ),
    ),
    misconceptions=tuple(iaf_inverse_wrong),
    hints=(
        "In an IAF μ and σ are functions of z, and all of z is given: one call of `net`.",
        "x_i depends on z_1 … z_i: the Jacobian ∂x/∂z is triangular with σ_i on its diagonal.",
        "`mu, log_sigma = net(z)`; x is `z * torch.exp(log_sigma) + mu`, and the log-determinant "
        "`log_sigma` summed over the coordinates, without a minus: this map multiplies by σ.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- iaf_forward ----------------------------------------------------------------------------------

iaf_forward_wrong = Misconceptions()


@iaf_forward_wrong("one call, at x")
def _(x, net):
    """You call `net` once, at x: {got}. That is a MAF; in an IAF μ_i and σ_i are functions of the
    z before z_i, which have to be found one after the other, {expected}.
    """
    mu, log_sigma = net(x)
    return (x - mu) * torch.exp(-log_sigma)


@iaf_forward_wrong("stops one short")
def _(x, net):
    """Your loop ends before the last coordinate, which keeps its first value: {got}; there are D
    coordinates to find, `range(D)`, and the last is {expected}.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[1] - 1):
        mu, log_sigma = net(z)
        new = torch.arange(x.shape[1], device=x.device) == i
        z = torch.where(new, (x - mu) * torch.exp(-log_sigma), z)
    return z


@iaf_forward_wrong("one call too many")
def _(x, net):
    """Your numbers are right, but you call `net` D + 1 times. After D calls the last coordinate
    is known; a first call outside the loop or a last one to clean up is not needed.
    """
    z = torch.zeros_like(x)
    mu, log_sigma = net(z)
    for _ in range(x.shape[1]):
        z = (x - mu) * torch.exp(-log_sigma)
        mu, log_sigma = net(z)
    return z


@iaf_forward_wrong("the map of sampling again")
def _(x, net):
    """You multiply by σ and add μ, which is the way from base to data: {got}; back it is
    z_i = (x_i − μ_i) / σ_i, {expected}.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[1]):
        mu, log_sigma = net(z)
        new = torch.arange(x.shape[1], device=x.device) == i
        z = torch.where(new, x * torch.exp(log_sigma) + mu, z)
    return z


@iaf_forward_wrong("started at x, two rounds")
def _(x, net):
    """You repeat z = (x − μ(z)) / σ(z) a fixed number of times: {got}; each round makes one more
    coordinate right, so it takes D of them, {expected}.
    """
    z = x
    for _ in range(2):
        mu, log_sigma = net(z)
        z = (x - mu) * torch.exp(-log_sigma)
    return z


@iaf_forward_wrong("a loop over the batch")
def _(x, net):
    """Your loop has as many steps as there are data points; it goes over the D coordinates,
    `x.shape[1]`, and takes all data points at once.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[0]):
        mu, log_sigma = net(z)
        new = torch.arange(x.shape[1], device=x.device) == i
        z = torch.where(new, (x - mu) * torch.exp(-log_sigma), z)
    return z


@iaf_forward_wrong("written in place")
def _(x, net):
    """Your numbers are right, but you write each coordinate into the very tensor that `net` was
    called with, and autograd needs it as it was. Write into a copy (`z = z.clone()`), or put the
    columns together with `torch.stack` or `torch.where`.
    """
    z = torch.zeros_like(x)
    for i in range(x.shape[1]):
        mu, log_sigma = net(z)
        z[:, i] = (x[:, i] - mu[:, i]) * torch.exp(-log_sigma[:, i])
    return z


@iaf_forward_wrong("found without gradient")
def _(x, net):
    """Your numbers are right, but you compute them under no_grad, so no gradient reaches x or
    the parameters of `net`.
    """
    with torch.no_grad():
        z = torch.zeros_like(x)
        for _ in range(x.shape[1]):
            mu, log_sigma = net(z)
            z = (x - mu) * torch.exp(-log_sigma)
    return z


_iaf_forward = Exercise(
    name="iaf_forward",
    question="z with σ(z) ⊙ z + μ(z) = x, in at most D calls of the network",
    reference=maf_vs_iaf.iaf_forward,
    cases=_slow_cases,
    may_use=_NETWORKS,
    rtol=_SLOW_RTOL,
    properties=(
        Property(
            "comes back",
            "Your z, put into σ(z) ⊙ z + μ(z), must give x back. It does not.",
            _comes_back(lambda z, mu, log_sigma: z * torch.exp(log_sigma) + mu),
        ),
    ),
    misconceptions=tuple(iaf_forward_wrong),
    hints=(
        "z_1 needs nothing: μ_1 and σ_1 are constants. z_2 needs z_1, z_3 needs z_1 and z_2, …",
        "As in `maf_inverse`, with the parts swapped: the i-th call `net(z)` gives the right μ_i "
        "and σ_i because the z before it are right by then.",
        "D times: `mu, log_sigma = net(z)`, then `z = (x - mu) * torch.exp(-log_sigma)`, all of z "
        "anew. After i rounds the first i coordinates are right. Do not write into z in place.",
    ),
    points=1,
    minutes=5,
    difficulty=2,
)


# --- coupling_forward -----------------------------------------------------------------------------


def _coupling_cases(draw):
    def random(name, b, d, split, x=None, level=0.0):
        net = _CouplingNet(draw, split, d - split, level)
        x = draw.normal(b, d) if x is None else x
        first = x[:, :split]
        _, log_scale = net(first)
        # Block triangular, with ones and the scales on the diagonal.
        log_det = log_scale.detach().double().sum(1)
        facts = {"first": first, "log_det": log_det}
        return Case(name, (x, net, split), wrt=(0, 1), facts=facts)

    yield random("one data point in two dimensions", 1, 2, 1)
    yield random("half of four coordinates", draw.integer(3, 5), 4, 2)
    d = draw.integer(5, 7)
    yield random("one coordinate stays", 3, d, 1)
    yield random("one coordinate changes", 4, d, d - 1)
    yield random("more stay than change", draw.integer(3, 4), d, d - 2)
    yield random("scales from e⁻²⁰ to e²⁰", 3, 5, 2, level=[-20.0, 20.0, 0.0])
    yield random("an argument that is not contiguous in memory", 3, d, 2, draw.normal(d, 3).T)


coupling_forward_wrong = Misconceptions()


@coupling_forward_wrong("t and s swapped")
def _(x, net, split):
    """You take the first output of `net` for the log-scale: {got}; it returns (t, s), the shift
    first, {expected}.
    """
    s, t = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), s.sum(1)


@coupling_forward_wrong("log-det with the wrong sign")
def _(x, net, split):
    """You return −Σ s: {got}; this direction multiplies by exp(s), so the log-determinant is
    +Σ s, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), -s.sum(1)


@coupling_forward_wrong("the inverse direction")
def _(x, net, split):
    """You subtract t and divide by exp(s), the way from base to data: {got}; from data to base
    it is x ⊙ exp(s) + t, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], (x[:, split:] - t) * torch.exp(-s)], 1), -s.sum(1)


@coupling_forward_wrong("t scaled too")
def _(x, net, split):
    """You add t before multiplying by exp(s): {got}; x ⊙ exp(s) + t is {expected}."""
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], (x[:, split:] + t) * torch.exp(s)], 1), s.sum(1)


@coupling_forward_wrong("s taken for the scale")
def _(x, net, split):
    """You multiply by s itself: {got}; s is the log of the scale, so multiply by exp(s), which
    is never zero, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * s + t], 1), torch.log(s.abs()).sum(1)


@coupling_forward_wrong("always half of the coordinates")
def _(x, net, split):
    """You cut x in the middle; `split` says how many coordinates stay, and it need not be half
    of them.
    """
    half = x.shape[1] // 2
    t, s = net(x[:, :half])
    return torch.cat([x[:, :half], x[:, half:] * torch.exp(s) + t], 1), s.sum(1)


@coupling_forward_wrong("the changed part first")
def _(x, net, split):
    """You put the changed coordinates in front of those that stay: {got}; they keep their
    places, {expected}.
    """
    t, s = net(x[:, :split])
    return torch.cat([x[:, split:] * torch.exp(s) + t, x[:, :split]], 1), s.sum(1)


@coupling_forward_wrong("only the changed part")
def _(x, net, split):
    """You return the changed coordinates only; z has all D of them, the first `split` as they
    are in x.
    """
    t, s = net(x[:, :split])
    return x[:, split:] * torch.exp(s) + t, s.sum(1)


@coupling_forward_wrong("the network detached")
def _(x, net, split):
    """Your numbers are right, but you call `net` under no_grad, so that no gradient reaches its
    parameters and none goes through t and s; nothing can be trained with it.
    """
    with torch.no_grad():
        t, s = net(x[:, :split])
    return torch.cat([x[:, :split], x[:, split:] * torch.exp(s) + t], 1), s.sum(1)


_coupling_forward = Exercise(
    name="coupling_forward",
    question="a coupling layer from data to base: z and log|det ∂z/∂x|",
    reference=maf_vs_iaf.coupling_forward,
    cases=_coupling_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the first stay",
            "The first `split` coordinates of z are those of x. Yours are not.",
            lambda case, value: is_exact(value[0][:, : case.args[2]], case.facts["first"]),
        ),
        Property(
            "the Jacobian's determinant",
            "Differentiating z(x) gives another log-determinant than the one you return.",
            is_fact("log_det", 1),
        ),
    ),
    misconceptions=tuple(coupling_forward_wrong),
    hints=(
        "Cut x into the first `split` coordinates and the rest. Only the first part goes into "
        "`net`, only the rest is changed.",
        "The Jacobian is triangular: ones for the coordinates that stay, exp(s) for the others.",
        "`t, s = net(x[:, :split])`; z is `torch.cat` of `x[:, :split]` and "
        "`x[:, split:] * torch.exp(s) + t` along axis 1; the log-determinant is s summed over "
        "axis 1.",
    ),
    points=1,
    minutes=10,
    difficulty=1,
)


# --- coupling_as_maf ------------------------------------------------------------------------------


def _conditioner_at(x):
    """A probe: what a conditioner gives at x, and the gradient that goes back to x through it."""

    def probe(conditioner, net, split):
        at = x.to(next(net.parameters()).device).clone().requires_grad_()
        result = conditioner(at)
        outputs = [part for part in tensors(result) if part.requires_grad and not part.is_meta]
        gradient = None
        if outputs:
            directions = [cotangent(part) for part in outputs]
            (gradient,) = torch.autograd.grad(
                outputs, at, directions, retain_graph=True, allow_unused=True
            )
        return result, torch.zeros_like(at) if gradient is None else gradient

    return probe


def _as_maf_cases(draw):
    def random(name, b, d, split, x=None, level=0.0):
        net = _CouplingNet(draw, split, d - split, level)
        x = draw.normal(b, d) if x is None else x
        return Case(name, (net, split), wrt=(0,), facts={"x": x}, probe=_conditioner_at(x))

    yield random("one data point in two dimensions", 1, 2, 1)
    yield random("half of four coordinates", draw.integer(3, 5), 4, 2)
    d = draw.integer(5, 7)
    yield random("one coordinate stays", 3, d, 1)
    yield random("one coordinate changes", 4, d, d - 1)
    yield random("more stay than change", draw.integer(3, 4), d, d - 2)
    yield random("scales from e⁻¹⁰ to e¹⁰", 3, 5, 2, level=[-10.0, 10.0, 0.0])
    yield random("data that is not contiguous in memory", 3, d, 2, draw.normal(d, 3).T)


def _is_the_coupling_layer(case, value):
    """Whether (x − μ)/σ and −Σ log σ are what the coupling layer gives."""
    (mu, log_sigma), _ = value
    net, split = case.args
    x = case.facts["x"]
    with torch.no_grad():
        shift, log_scale = net(x[:, :split])
    z = torch.cat([x[:, :split], x[:, split:] * torch.exp(log_scale) + shift], 1)
    scale = torch.exp(-log_sigma)
    # μ/σ and x/σ may be large and cancel.
    size = scale * (x.abs() + mu.abs()) + 1
    tolerance = 1e-4 if x.dtype == torch.float32 else 1e-8
    same = ((x - mu) * scale - z).abs() <= tolerance * size
    return bool(same.all()) and is_exact(-log_sigma.sum(1), log_scale.sum(1))


coupling_as_maf_wrong = Misconceptions()


@coupling_as_maf_wrong("t and s as they are")
def _(net, split):
    """You use t as μ and s as log σ: {got}. A MAF subtracts μ and divides by σ, so solve
    (x − μ)/σ = x exp(s) + t for both, which gives {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, t], 1), torch.cat([zero, s], 1)

    return conditioner


@coupling_as_maf_wrong("μ = −t")
def _(net, split):
    """You use μ = −t: {got}. In (x − μ)/σ the shift is divided by σ too: −μ/σ = t with
    1/σ = exp(s) gives {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, -t], 1), torch.cat([zero, -s], 1)

    return conditioner


@coupling_as_maf_wrong("sign of μ")
def _(net, split):
    """Your μ has the wrong sign, t exp(−s): {got}; a MAF subtracts it, so μ = −t exp(−s),
    {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, t * torch.exp(-s)], 1), torch.cat([zero, -s], 1)

    return conditioner


@coupling_as_maf_wrong("log σ = s")
def _(net, split):
    """You use log σ = s: {got}; a MAF divides by σ and the coupling layer multiplies by exp(s),
    so σ = exp(−s), {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, -t * torch.exp(-s)], 1), torch.cat([zero, s], 1)

    return conditioner


@coupling_as_maf_wrong("one for log σ")
def _(net, split):
    """You return log σ = 1 for the coordinates that stay: {got}; they have σ = 1, so log σ is
    {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        first = x[:, :split]
        mu = torch.cat([torch.zeros_like(first), -t * torch.exp(-s)], 1)
        return mu, torch.cat([torch.ones_like(first), -s], 1)

    return conditioner


@coupling_as_maf_wrong("the coordinates that stay left out")
def _(net, split):
    """Your conditioner returns μ and log σ of the changed coordinates only; it returns all D,
    with μ = 0 and log σ = 0 for those that stay.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        return -t * torch.exp(-s), -s

    return conditioner


@coupling_as_maf_wrong("zeros at the end")
def _(net, split):
    """You put the zeros behind: {got}; the coordinates that stay are the first ones,
    {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([-t * torch.exp(-s), zero], 1), torch.cat([-s, zero], 1)

    return conditioner


@coupling_as_maf_wrong("x as μ where it stays")
def _(net, split):
    """You return μ = x for the coordinates that stay: {got}; then z = (x − μ)/σ is 0 there.
    It is x itself where μ = 0 and σ = 1, {expected}.
    """

    def conditioner(x):
        t, s = net(x[:, :split])
        first = x[:, :split]
        mu = torch.cat([first, -t * torch.exp(-s)], 1)
        return mu, torch.cat([torch.zeros_like(first), -s], 1)

    return conditioner


@coupling_as_maf_wrong("x detached")
def _(net, split):
    """Your numbers are right, but you detach x before it goes into `net`; μ and σ are functions
    of x, and their gradient with respect to x is part of the flow.
    """

    def conditioner(x):
        t, s = net(x[:, :split].detach())
        zero = torch.zeros_like(x[:, :split])
        return torch.cat([zero, -t * torch.exp(-s)], 1), torch.cat([zero, -s], 1)

    return conditioner


_coupling_as_maf = Exercise(
    name="coupling_as_maf",
    question="a function x → (mu, log_sigma), each (B, D), that makes a MAF of a coupling layer",
    reference=maf_vs_iaf.coupling_as_maf,
    cases=_as_maf_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the coupling layer",
            "With your (mu, log_sigma), the MAF's z = (x − μ)/σ and −Σ log σ must be what the "
            "coupling layer gives. They are not.",
            _is_the_coupling_layer,
        ),
    ),
    misconceptions=tuple(coupling_as_maf_wrong),
    hints=(
        "Write down what the coupling layer does to a coordinate, x exp(s) + t, and what the MAF "
        "does, (x − μ)/σ. For which μ and σ are they equal for every x?",
        "1/σ = exp(s) and −μ/σ = t. For the coordinates that stay, z = x: μ = 0 and log σ = 0. "
        "The result is a function: define it inside with `def conditioner(x):` and return it.",
        "In `conditioner(x)`: `t, s = net(x[:, :split])`, `zero = torch.zeros_like(x[:, :split])`, "
        "then `torch.cat` of zero and `-t * torch.exp(-s)` is mu, of zero and `-s` log_sigma.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- reverse_kl -----------------------------------------------------------------------------------


def _signs(dims):
    """All points of −1 and 1: they have the mean and the covariance of N(0, I)."""
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=dims)), dtype=torch.float64)


def _gaussian_kl_case(draw, name, dims):
    """Base N(0, I), affine flow, Gaussian target: two points a dimension give the KL exactly."""
    base, flow = _standard_normal(draw, dims), _Generator(draw, dims, bend=0.0)
    target = _random_gaussian(draw, dims)
    with torch.no_grad():
        scale = (flow.matrix() * flow.log_scale.exp()).double()
        p = torch.distributions.MultivariateNormal(flow.shift.double(), scale_tril=scale)
        pi = torch.distributions.MultivariateNormal(
            target.mean.double(), scale_tril=target.scale_tril.double()
        )
        kl = torch.distributions.kl_divergence(p, pi)
    args = (draw.tensor(_signs(dims)), base, flow, target)
    return Case(name, args, wrt=(0, 1, 2, 3), facts={"kl": kl})


def _flow_is_target_case(draw, name, b, dims, constant=0.0):
    base, flow = _standard_normal(draw, dims), _Generator(draw, dims, bend=0.0)
    scale_tril = (flow.matrix() * flow.log_scale.exp()).detach()
    target = _Gaussian(flow.shift.detach().clone(), scale_tril, constant)
    args = (draw.normal(b, dims), base, flow, target)
    return Case(name, args, wrt=(0, 1, 2, 3), facts={"log_ratio": -constant})


def _kl_cases(draw):
    def random(name, b, dims, components=2, z=None, spread=1.0):
        target = _Mixture(spread * draw.normal(components, dims))
        z = draw.normal(b, dims) if z is None else z
        args = (z, _random_gaussian(draw, dims), _Generator(draw, dims), target)
        return Case(name, args, wrt=(0, 1, 2, 3))

    yield random("one draw in one dimension", 1, 1)
    b, d = draw.integer(5, 7), draw.integer(2, 4)
    yield _flow_is_target_case(draw, "the flow is the target", b, d)
    yield _flow_is_target_case(draw, "the flow is the target, times e³", b, d, 3.0)
    yield _gaussian_kl_case(draw, "a Gaussian flow and a Gaussian target", draw.integer(1, 3))
    yield random("all axes of different length", b, d, 8)
    yield random("one draw", 1, d)
    yield random("one dimension", b, 1)
    yield random("a target far away", b, d, spread=100.0)
    yield random("an argument that is not contiguous in memory", b, d, 2, draw.normal(d, b).T)


reverse_kl_wrong = Misconceptions()


@reverse_kl_wrong("log-det with the wrong sign")
def _(z, base_log_prob, generate, target_log_prob):
    """You add the log-determinant: {got}. `generate` gives that of z → x; where the map
    stretches, the density falls, so log p(x) = log p(z) − log_det, {expected}.
    """
    x, log_det = generate(z)
    return base_log_prob(z) + log_det - target_log_prob(x)


@reverse_kl_wrong("the sign of the ratio")
def _(z, base_log_prob, generate, target_log_prob):
    """You return log π(x) − log p(x): {got}; KL(p‖π) is the expectation under p of
    log p(x) − log π(x), {expected}.
    """
    x, log_det = generate(z)
    return target_log_prob(x) - base_log_prob(z) + log_det


@reverse_kl_wrong("the base at x")
def _(z, base_log_prob, generate, target_log_prob):
    """You evaluate the base's density at x: {got}; the base is the density of z, {expected}."""
    x, log_det = generate(z)
    return base_log_prob(x) - log_det - target_log_prob(x)


@reverse_kl_wrong("the target at z")
def _(z, base_log_prob, generate, target_log_prob):
    """You evaluate the target at z: {got}; it is a density of the data, x = g(z), {expected}."""
    _, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(z)


@reverse_kl_wrong("the base left out")
def _(z, base_log_prob, generate, target_log_prob):
    """You leave log p(z) out: {got}. On average it is a constant, but not for each sample, and
    without it the value is no divergence: {expected}.
    """
    x, log_det = generate(z)
    return -log_det - target_log_prob(x)


@reverse_kl_wrong("log-det left out")
def _(z, base_log_prob, generate, target_log_prob):
    """You leave the log-determinant out: {got}; the density of x = g(z) is p(z) divided by the
    stretch of g, {expected}.
    """
    x, _ = generate(z)
    return base_log_prob(z) - target_log_prob(x)


@reverse_kl_wrong("averaged over the batch")
def _(z, base_log_prob, generate, target_log_prob):
    """You average over the draws; each has its own value here, shape (B,)."""
    x, log_det = generate(z)
    return (base_log_prob(z) - log_det - target_log_prob(x)).mean()


@reverse_kl_wrong("x detached")
def _(z, base_log_prob, generate, target_log_prob):
    """Your numbers are right, but you detach x, so that the flow is not told where the target is
    high; its gradient goes through log π(g(z)).
    """
    x, log_det = generate(z)
    return base_log_prob(z) - log_det - target_log_prob(x.detach())


_reverse_kl = Exercise(
    name="reverse_kl",
    question="log p(x) − log π(x) at x = g(z) for each draw z of the base, shape (B,)",
    reference=maf_vs_iaf.reverse_kl,
    cases=_kl_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the flow is the target",
            "Where the flow's density is the target's, log p(x) − log π(x) is 0 for every draw "
            "(and −3 where π is too large by e³). Yours is not.",
            is_fact("log_ratio"),
        ),
        Property(
            "the KL divergence of two Gaussians",
            "For these z the average over the draws is exactly the KL divergence of two Gaussians. "
            "Yours is not.",
            lambda case, value: "kl" not in case.facts or is_exact(value.mean(), case.facts["kl"]),
        ),
    ),
    misconceptions=tuple(reverse_kl_wrong),
    hints=(
        "KL(p‖π) is the expectation of log p(x) − log π(x) over x ~ p, and x = g(z) with z from "
        "the base is such a draw. You need log p at a point that you have just generated.",
        "Change of variables: log p(x) = log p(z) − log|det ∂x/∂z|. No inverse of g is needed, "
        "because z is known.",
        "`x, log_det = generate(z)`, then `base_log_prob(z) - log_det - target_log_prob(x)`.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- distillation_loss ----------------------------------------------------------------------------


def _distillation_cases(draw):
    for case in _kl_cases(draw):
        # A teacher is a density, normalized.
        if case.facts.get("log_ratio", 0.0) == 0.0:
            yield case


distillation_loss_wrong = Misconceptions()


@distillation_loss_wrong("sum over the draws")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You sum over the draws: {got}; an expectation is estimated by their average, {expected}."""
    x, log_det = student_generate(z)
    return (base_log_prob(z) - log_det - teacher_log_prob(x)).sum()


@distillation_loss_wrong("one value for each draw")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You return one value for each draw, shape (B,); a loss is one number, their average."""
    x, log_det = student_generate(z)
    return base_log_prob(z) - log_det - teacher_log_prob(x)


@distillation_loss_wrong("cross-entropy only")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You return the cross-entropy H(p_s, p_t) alone: {got}. Its minimum is a student that draws
    the teacher's most likely point only; less the student's entropy it is {expected}.
    """
    x, _ = student_generate(z)
    return -teacher_log_prob(x).mean()


@distillation_loss_wrong("entropy added")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You add the student's entropy to the cross-entropy: {got}; KL(p_s‖p_t) = H(p_s, p_t) −
    H(p_s), {expected}.
    """
    x, log_det = student_generate(z)
    return (log_det - base_log_prob(z) - teacher_log_prob(x)).mean()


@distillation_loss_wrong("log-det with the wrong sign")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You add the log-determinant: {got}; the student's density is log p(z) − log_det,
    {expected}.
    """
    x, log_det = student_generate(z)
    return (base_log_prob(z) + log_det - teacher_log_prob(x)).mean()


@distillation_loss_wrong("the base left out")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You take −log_det for the student's log-density: {got}. The base's density belongs to it,
    log p(z) − log_det, and then it is {expected}.
    """
    x, log_det = student_generate(z)
    return (-log_det - teacher_log_prob(x)).mean()


@distillation_loss_wrong("log-det left out")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """You take the density of z for the density of x: {got}; the student's log-density is
    log p(z) − log_det, {expected}.
    """
    x, _ = student_generate(z)
    return (base_log_prob(z) - teacher_log_prob(x)).mean()


@distillation_loss_wrong("x detached")
def _(z, base_log_prob, student_generate, teacher_log_prob):
    """Your numbers are right, but you detach the student's draws before the teacher scores them,
    so that the student does not learn what the teacher likes; only the teacher's parameters
    stay fixed in training, and the optimizer sees to that.
    """
    x, log_det = student_generate(z)
    return (base_log_prob(z) - log_det - teacher_log_prob(x.detach())).mean()


_distillation_loss = Exercise(
    name="distillation_loss",
    question="the average of log p_s(x) − log p_t(x) over the student's own draws, one number",
    reference=maf_vs_iaf.distillation_loss,
    cases=_distillation_cases,
    may_use=_NETWORKS,
    properties=(
        Property(
            "the student is the teacher",
            "Where the student's density is the teacher's, the loss is 0 whatever was drawn. "
            "Yours is not.",
            is_fact("log_ratio"),
        ),
        Property(
            "the KL divergence of two Gaussians",
            "For these z the loss is the KL divergence of two Gaussians, exactly. Yours is not.",
            is_fact("kl"),
        ),
    ),
    misconceptions=tuple(distillation_loss_wrong),
    hints=(
        "The student draws x = g(z) and knows its own density there; the teacher scores the same "
        "x. KL(p_s‖p_t) is the average of the difference of the logs.",
        "log p_s(x) = log p(z) − log|det ∂x/∂z|: its average is −H(p_s). The average of "
        "−log p_t(x) is the cross-entropy H(p_s, p_t).",
        "`x, log_det = student_generate(z)`, then the mean over the batch of "
        "`base_log_prob(z) - log_det - teacher_log_prob(x)`.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


EXERCISES = (
    _made_masks,
    _maf_forward,
    _maf_inverse,
    _iaf_inverse,
    _iaf_forward,
    _coupling_forward,
    _coupling_as_maf,
    _reverse_kl,
    _distillation_loss,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
