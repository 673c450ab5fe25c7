"""What is asked in the assignment `iwae`: cases, exact answers, wrong answers on record, hints.

The wrong implementations use `torch`, `F`, `math` and `itertools` and nothing else of this module,
because their sources are pasted into notebooks that have the same imports.
"""

import itertools
import math

import torch
import torch.nn.functional as F

from dgm_utils import iwae
from dgm_utils.exercises import EDITION
from nbjudge.asking.exercise import Exercise, Misconceptions, Property
from nbjudge.asking.statements import adds_to_one, at_most, is_exact, is_fact
from nbjudge.check import Checker
from nbjudge.inside.case import Case

# What an exact answer may be off by in float32: eighty eps.
_SINGLE = 1e-5
# Log-weights of 10⁴ are a thousandth apart in float32, and a right answer may round a few times.
_COARSE = {torch.float64: 1e-8, torch.float32: 5e-3}


# --- log_importance_weights -----------------------------------------------------------------------


def _weight_cases(draw):
    def encoded(k, b, latents):
        """Samples of an encoder: z, mean and log_var."""
        mean, log_var = draw.normal(b, latents), draw.normal(b, latents) - 0.5
        return mean + torch.exp(0.5 * log_var) * draw.normal(k, b, latents), mean, log_var

    def random(name, k, b, d, latents):
        args = (draw.bernoulli(b, d), 2 * draw.normal(k, b, d), *encoded(k, b, latents))
        return Case(name, args, wrt=(1, 2, 3, 4))

    yield random("one sample of one data point, two pixels, one latent", 1, 1, 2, 1)
    k, b, d = draw.integer(2, 4), draw.integer(5, 6), draw.integer(7, 9)
    yield random("all axes of different length", k, b, d, 3)

    z, mean, log_var = encoded(k, b, 2)
    logits = 100 * (2 * draw.bernoulli(k, b, 5) - 1)
    args = (draw.bernoulli(b, 5), logits, z, mean, log_var)
    yield Case("logits of ±100", args, wrt=(1, 2, 3, 4))

    # When q is the posterior every weight is p(x): here z says nothing about x.
    p = 0.1 + 0.8 * torch.rand(b, 4, generator=draw.generator, dtype=torch.float64)
    x = torch.randint(2, (b, 4), generator=draw.generator).double()
    log_px = torch.where(x == 1, p, 1 - p).log().sum(-1).expand(k, b)
    logits = draw.tensor(torch.log(p / (1 - p)).repeat(k, 1, 1))
    zero = draw.tensor(torch.zeros(b, 2))
    args = (draw.tensor(x), logits, draw.normal(k, b, 2), zero, zero)
    yield Case("q is the posterior", args, (1, 2, 3, 4), {"log_px": log_px})

    # All images of two pixels on a grid of latents: ∫ w q dz = p(x), and the p(x) sum to one.
    x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    mean = torch.rand(4, 1, generator=draw.generator, dtype=torch.float64) - 0.5
    std = 1 + 0.3 * torch.rand(4, 1, generator=draw.generator, dtype=torch.float64)
    noise_grid = torch.linspace(-7, 7, 57, dtype=torch.float64)
    z = mean + std * noise_grid[:, None, None]
    slope = torch.randn(2, generator=draw.generator, dtype=torch.float64)
    # q(z|x) dz does not depend on x when z = mean + std · noise.
    log_cell = -0.5 * noise_grid**2 - 0.5 * math.log(2 * math.pi) + math.log(14 / 56)
    args = (x, slope * z + 0.3, z, mean, 2 * std.log())
    args = tuple(draw.tensor(arg) for arg in args)
    yield Case("all images of two pixels", args, (1, 2, 3, 4), {"log_cell": log_cell[:, None]})

    mean, log_var = draw.normal(b, 2), -5 + 0.5 * draw.normal(b, 2)
    z = mean + torch.exp(0.5 * log_var) * draw.normal(k, b, 2)
    args = (draw.bernoulli(b, 5), draw.normal(k, b, 5), z, mean, log_var)
    yield Case("a narrow q", args, wrt=(1, 2, 3, 4))
    yield random("300 pixels and 300 latents", 3, 2, 300, 300)
    z, mean, log_var = encoded(k, b, 4)
    args = (draw.bernoulli(d, b).T, draw.normal(d, b, k).permute(2, 1, 0), z, mean, log_var)
    yield Case("arguments that are not contiguous in memory", args, wrt=(1, 2, 3, 4))


log_importance_weights_wrong = Misconceptions()


@log_importance_weights_wrong("analytic KL")
def _(x, logits, z, mean, log_var):
    """You subtract the closed-form KL to the prior, which is an average over z: {got}; a weight
    is of one sample, log p(z_k) − log q(z_k|x), which gives {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    return log_px_given_z - kl


@log_importance_weights_wrong("½ missing")
def _(x, logits, z, mean, log_var):
    """Your Gaussian log-densities lack the factor ½: {got}; with −½ z² and −½ ((z − μ)²/σ² +
    log σ²) it is {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    log_pz = -(z**2).sum(-1)
    log_qz = -((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("prior left out")
def _(x, logits, z, mean, log_var):
    """You leave log p(z) out: {got}; the joint p(x, z) = p(x|z) p(z) has both factors,
    {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return log_px_given_z - log_qz


@log_importance_weights_wrong("q left out")
def _(x, logits, z, mean, log_var):
    """You return log p(x, z) = {got}; a weight is also divided by q(z|x), {expected}."""
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return log_px_given_z + log_pz


@log_importance_weights_wrong("log q added")
def _(x, logits, z, mean, log_var):
    """You add log q(z|x): {got}; the weight divides by q, so its log is subtracted, {expected}."""
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    squares = (z - mean) ** 2 * torch.exp(-log_var)
    log_qz = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return log_px_given_z + log_pz + log_qz


@log_importance_weights_wrong("variance taken for the standard deviation")
def _(x, logits, z, mean, log_var):
    """You use exp(log_var) as the standard deviation of q: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    std = torch.exp(log_var)
    log_pz = -0.5 * (z**2).sum(-1)
    log_qz = (-0.5 * ((z - mean) / std) ** 2 - torch.log(std)).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("½ log 2π on one side")
def _(x, logits, z, mean, log_var):
    """You keep ½ log 2π in the prior and drop it in q: {got}; it stands in both and cancels,
    {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    log_pz = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("logits taken for probabilities")
def _(x, logits, z, mean, log_var):
    """You take the logits for probabilities: {got}; p(x = 1|z) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    log_px_given_z = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)
    log_pz = -0.5 * (z**2).sum(-1)
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("log of a sigmoid plus epsilon")
def _(x, logits, z, mean, log_var):
    """You add a small number to a probability before its log: {got}; e⁻¹⁰⁰ is below any such
    number, and written with the logits themselves the result is {expected}.
    """
    p = torch.sigmoid(logits)
    log_px_given_z = (x * torch.log(p + 1e-8) + (1 - x) * torch.log(1 - p + 1e-8)).sum(-1)
    log_pz = -0.5 * (z**2).sum(-1)
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("log of a rounded sigmoid")
def _(x, logits, z, mean, log_var):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    p = torch.sigmoid(logits)
    log_px_given_z = -F.binary_cross_entropy(p, x.expand_as(p), reduction="none").sum(-1)
    log_pz = -0.5 * (z**2).sum(-1)
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("mean over pixels")
def _(x, logits, z, mean, log_var):
    """You average log p(x|z) over the pixels: {got}; the pixels are independent given z, so
    their logs add up, {expected}.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).mean(-1)
    log_pz = -0.5 * (z**2).sum(-1)
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


@log_importance_weights_wrong("q detached")
def _(x, logits, z, mean, log_var):
    """Your numbers are right, but you detach mean and log_var in log q, so the gradient lacks
    what q itself contributes; differentiate all of log w.
    """
    log_px_given_z = (x * logits - F.softplus(logits)).sum(-1)
    log_pz = -0.5 * (z**2).sum(-1)
    mean, log_var = mean.detach(), log_var.detach()
    log_qz = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return log_px_given_z + log_pz - log_qz


_log_importance_weights = Exercise(
    name="log_importance_weights",
    question="the log-weights log p(x|z) + log p(z) − log q(z|x), shape (K, B)",
    reference=iwae.log_importance_weights,
    cases=_weight_cases,
    # The expanded square z² − 2zμ + μ² is a right answer and cancels in float32.
    rtol={torch.float64: 1e-8, torch.float32: 1e-3},
    properties=(
        Property(
            "adds to one",
            "The weights times q, integrated over z and summed over every image of two pixels, "
            "must give 1, because they are p(x, z). Yours do not.",
            adds_to_one("log_cell", double=1e-6),
        ),
        Property(
            "q is the posterior",
            "Where q(z|x) is the posterior, log p(x, z) − log q(z|x) is log p(x) for every z. "
            "Yours is not.",
            is_fact("log_px", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(log_importance_weights_wrong),
    hints=(
        "Three log-densities of the same sample: log p(x|z) + log p(z) − log q(z|x). The first is "
        "summed over pixels, the others over latents.",
        "A Bernoulli with logits a has log p(x) = x·a − log(1 + eᵃ), and log(1 + eᵃ) is "
        "`F.softplus(a)`. The constants ½ log 2π of p(z) and q(z|x) cancel.",
        "`(x * logits - F.softplus(logits)).sum(-1)`, plus `-0.5 * (z**2).sum(-1)`, minus "
        "`-0.5 * ((z - mean)**2 / log_var.exp() + log_var).sum(-1)`.",
    ),
    points=3,
    minutes=20,
    difficulty=2,
)


# --- multi_sample_elbo ----------------------------------------------------------------------------


def _elbo_cases(draw):
    log_w = draw.tensor([[-1.0, 2.0], [-2.0, 0.0], [-6.0, 7.0]])
    yield Case("three samples of two data points", (log_w,), (0,), {"elbo": [-3.0, 3.0]})
    yield Case("one sample", (draw.normal(1, draw.integer(4, 6)),), wrt=(0,))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield Case("more data points than samples", (2 * draw.normal(k, b) - 90,), wrt=(0,))
    yield Case("one data point", (draw.normal(k, 1),), wrt=(0,))
    yield Case("log-weights near −10⁴", (3 * draw.normal(k, b) - 1e4,), wrt=(0,))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield Case("data points 10⁴ apart", (draw.normal(k, 3) + scale,), wrt=(0,))
    log_w = (draw.normal(b, k) + 5).T
    yield Case("an argument that is not contiguous in memory", (log_w,), wrt=(0,))


multi_sample_elbo_wrong = Misconceptions()


@multi_sample_elbo_wrong("log of mean for mean of logs")
def _(log_w):
    """You take the log of the average weight, which is the importance weighted bound: {got};
    the ELBO averages the logs, {expected}.
    """
    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])


@multi_sample_elbo_wrong("sum over the samples")
def _(log_w):
    """You sum over the samples: {got}; an expectation is estimated by their average,
    {expected}.
    """
    return log_w.sum(0)


@multi_sample_elbo_wrong("average over the batch")
def _(log_w):
    """You average over the batch, axis 1; the samples are on axis 0 and the result has one
    number for each data point, shape (B,).
    """
    return log_w.mean(1)


@multi_sample_elbo_wrong("average over everything")
def _(log_w):
    """You average over samples and data points together; each data point has its own ELBO,
    shape (B,).
    """
    return log_w.mean()


@multi_sample_elbo_wrong("first sample only")
def _(log_w):
    """You use the first sample and drop the others: {got}; the average of all K is {expected}."""
    return log_w[0]


@multi_sample_elbo_wrong("best sample")
def _(log_w):
    """You take the largest log-weight: {got}; the ELBO is the average over the samples,
    {expected}.
    """
    return log_w.max(0).values


@multi_sample_elbo_wrong("weighted average")
def _(log_w):
    """You weight each log-weight with its own weight: {got}; samples of q count equally in the
    ELBO, {expected}.
    """
    return (torch.softmax(log_w, 0) * log_w).sum(0)


@multi_sample_elbo_wrong("detached")
def _(log_w):
    """Your numbers are right, but you detach the log-weights, so nothing can be trained with
    them.
    """
    return log_w.detach().mean(0)


_multi_sample_elbo = Exercise(
    name="multi_sample_elbo",
    question="the ELBO estimated with K samples, shape (B,)",
    reference=iwae.multi_sample_elbo,
    cases=_elbo_cases,
    properties=(
        Property(
            "average",
            "For the log-weights −1, −2, −6 the estimate is −3, and for 2, 0, 7 it is 3. "
            "Yours is not.",
            is_fact("elbo", single=_SINGLE),
        ),
        Property(
            "below the bound",
            "By Jensen's inequality the average of the logs is at most the log of the average. "
            "Yours is above it.",
            lambda case, value: at_most(value, iwae.iwae_bound(case.args[0])),
        ),
    ),
    misconceptions=tuple(multi_sample_elbo_wrong),
    hints=(
        "The ELBO is an expectation of log w under q, and you have K samples of q.",
        "An expectation is estimated by the average over the samples, which are on axis 0.",
        "One line: `log_w.mean(…)` over the axis of the samples.",
    ),
    points=1,
    minutes=3,
    difficulty=1,
)


# --- iwae_bound -----------------------------------------------------------------------------------


def _bound_cases(draw):
    log_w = draw.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]).log()
    exact = [math.log(2), math.log(4)]
    yield Case("weights 1, 2, 3 and 2, 4, 6", (log_w,), (0,), {"bound": exact})
    facts = {"bound": [value - 1e4 for value in exact]}
    yield Case("weights 1, 2, 3 and 2, 4, 6, times e⁻¹⁰⁰⁰⁰", (log_w - 1e4,), (0,), facts)
    facts = {"bound": [value + 1e3 for value in exact]}
    yield Case("weights 1, 2, 3 and 2, 4, 6, times e¹⁰⁰⁰", (log_w + 1e3,), (0,), facts)
    yield Case("one sample", (draw.normal(1, draw.integer(4, 6)),), wrt=(0,))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield Case("more data points than samples", (2 * draw.normal(k, b) - 3,), wrt=(0,))
    yield Case("one data point", (draw.normal(b, 1),), wrt=(0,))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield Case("data points 10⁴ apart", (draw.normal(k, 3) + scale,), wrt=(0,))
    log_w = (2 * draw.normal(b, k)).T
    yield Case("an argument that is not contiguous in memory", (log_w,), wrt=(0,))

    # One model, p(z) = N(0, 1) and p(x|z) = N(z, ½), at x = 1, with q = N(0, 0.8²). The same 2048
    # samples are grouped by 1, 2, 4, … so that the average of the bound grows with K exactly.
    z = 0.8 * draw.normal(2048)
    log_px = -0.5 / 1.5 - 0.5 * math.log(2 * math.pi * 1.5)
    log_w = -((1 - z) ** 2) - 0.5 * z**2 + 0.5 * (z / 0.8) ** 2
    log_w = log_w - 0.5 * math.log(math.pi) + math.log(0.8)
    for k in (1, 2, 4, 8, 16, 32):
        facts = {"samples": k, "log_px": log_px}
        yield Case(f"a model with known log p(x), K = {k}", (log_w.reshape(k, -1),), (0,), facts)


def _is_between(case, value):
    log_w = case.args[0]
    return at_most(log_w.mean(0), value) and at_most(value, log_w.amax(0))


def _is_first_weight(case, value):
    log_w = case.args[0]
    return len(log_w) > 1 or is_exact(value, log_w[0].double().cpu(), single=_SINGLE)


def _draw_bound(axis, triples):
    """The bound against K on one model, the student's beside the right one, and log p(x)."""
    # Cases come back in several dtypes; one curve is enough.
    known = {t[0].facts["samples"]: t for t in triples if "samples" in t[0].facts}
    axis.set(xlabel="K, samples", ylabel="nats", title="The bound against K")
    if not known:
        return "The bound against K: no values to draw."
    log_px = next(iter(known.values()))[0].facts["log_px"]
    right = {k: float(expected.double().mean()) for k, (_, _, expected) in known.items()}
    yours = {
        k: float(value.double().mean())
        for k, (_, value, expected) in known.items()
        if value.shape == expected.shape and value.isfinite().all()
    }
    axis.axhline(log_px, color="black", linestyle=":", label="log p(x)")
    axis.plot(right.keys(), right.values(), "o-", color="#0072B2", markersize=9, label="$L_K$")
    if yours:
        axis.plot(yours.keys(), yours.values(), "s--", color="#D55E00", label="yours")
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(known), [str(k) for k in known])
    axis.legend()
    said = f"The bound against K. log p(x) is {log_px:.3f}; " + _from_to("the right bound", right)
    return f"{said}; {_from_to('yours', yours)}." if yours else f"{said}; yours cannot be drawn."


def _from_to(name, curve):
    (low, first), *_, (high, last) = curve.items() if len(curve) > 1 else [*curve.items()] * 2
    return f"{name} goes from {first:.3f} at K = {low} to {last:.3f} at K = {high}"


iwae_bound_wrong = Misconceptions()


@iwae_bound_wrong("mean of logs for log of mean")
def _(log_w):
    """You average the logs, which is the ELBO L_1: {got} here; the bound is the log of the
    average weight, {expected}.
    """
    return log_w.mean(0)


@iwae_bound_wrong("log K forgotten")
def _(log_w):
    """You take the log of the sum of the weights: {got}; an average divides by K, so log K is
    subtracted, {expected}.
    """
    return torch.logsumexp(log_w, 0)


@iwae_bound_wrong("log K subtracted twice")
def _(log_w):
    """You subtract log K twice, inside and outside the log: {got}; once gives {expected}."""
    log_k = math.log(log_w.shape[0])
    return torch.logsumexp(log_w - log_k, 0) - log_k


@iwae_bound_wrong("sum over the batch")
def _(log_w):
    """You sum over the data points as well; each has its own bound, shape (B,)."""
    return (torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])).sum()


@iwae_bound_wrong("mean over the batch")
def _(log_w):
    """You average over the data points as well; each has its own bound, shape (B,)."""
    return (torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])).mean()


@iwae_bound_wrong("wrong axis")
def _(log_w):
    """You reduce over the batch, axis 1; the K samples are on axis 0."""
    return torch.logsumexp(log_w, 1) - math.log(log_w.shape[1])


@iwae_bound_wrong("exponentials that underflow")
def _(log_w):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with the largest subtracted first it is {expected}.
    """
    return torch.log(torch.exp(log_w).mean(0))


@iwae_bound_wrong("epsilon inside the log")
def _(log_w):
    """You add a small number inside the log, which hides weights that underflow: {got}; with
    the largest log-weight subtracted first it needs none, {expected}.
    """
    return torch.log(torch.exp(log_w).mean(0) + 1e-8)


@iwae_bound_wrong("one maximum for the whole tensor")
def _(log_w):
    """You subtract the maximum of the whole tensor, so a data point far below it underflows:
    {got}; with the maximum of its own column it is {expected}.
    """
    largest = log_w.max()
    return largest + torch.log(torch.exp(log_w - largest).mean(0))


@iwae_bound_wrong("weighted average of logs")
def _(log_w):
    """You average the logs with the normalized weights: {got}; the gradient of the bound is
    such an average of gradients, the bound itself is the log of the average weight, {expected}.
    """
    return (torch.softmax(log_w, 0) * log_w).sum(0)


@iwae_bound_wrong("maximum")
def _(log_w):
    """You take the largest log-weight: {got}; the bound averages all K weights, {expected}."""
    return log_w.max(0).values


@iwae_bound_wrong("detached")
def _(log_w):
    """Your numbers are right, but you detach the log-weights, so nothing can be trained with
    them.
    """
    return torch.logsumexp(log_w.detach(), 0) - math.log(log_w.shape[0])


_iwae_bound = Exercise(
    name="iwae_bound",
    question="the log of the average weight, log (1/K Σ_k w_k), shape (B,)",
    reference=iwae.iwae_bound,
    cases=_bound_cases,
    properties=(
        Property(
            "one sample",
            "With one sample the bound is its log-weight, the ELBO. Yours is not.",
            _is_first_weight,
        ),
        Property(
            "between",
            "The log of an average lies between the average of the logs and the largest of them. "
            "Yours does not.",
            _is_between,
        ),
        Property(
            "exact",
            "Weights 1, 2, 3 average to 2, whatever factor e^c they share, so the bound is "
            "log 2 + c. Yours is not.",
            is_fact("bound", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(iwae_bound_wrong),
    hints=(
        "Average the weights, then take the log: log (1/K Σ_k exp(log w_k)). The order matters.",
        "exp(−10⁴) is 0 in floating point. With m the largest log-weight of a data point, "
        "log Σ exp(log w_k) = m + log Σ exp(log w_k − m); `torch.logsumexp` does this.",
        "`torch.logsumexp(…)` over the axis of the samples, minus the log of the number of "
        "samples.",
    ),
    points=2,
    minutes=10,
    difficulty=2,
    picture=_draw_bound,
)


# --- subset_bound ---------------------------------------------------------------------------------


def _subset_cases(draw):
    log_w = draw.tensor([[1.0, 1.0], [1.0, 5.0], [1.0, 5.0], [3.0, 1.0]]).log()
    # The six pairs average to 1, 1, 1, 2, 2, 2 and to 3, 3, 3, 3, 1, 5.
    facts = {"bound": [3 * math.log(2) / 6, (4 * math.log(3) + math.log(5)) / 6]}
    yield Case("pairs of the weights 1, 1, 1, 3 and 1, 5, 5, 1", (log_w, 2), (0,), facts)
    yield Case("one sample, m = 1", (draw.normal(1, 3), 1), wrt=(0,))
    k, b = draw.integer(5, 6), draw.integer(2, 3)
    log_w = 2 * draw.normal(k, b) - 1
    yield Case("subsets of three", (log_w, 3), wrt=(0,))
    yield Case("m = 1", (log_w, 1), wrt=(0,))
    yield Case("m = K", (draw.normal(4, b), 4), wrt=(0,))
    yield Case("pairs of log-weights near −10⁴", (2 * draw.normal(5, b) - 1e4, 2), wrt=(0,))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield Case("data points 10⁴ apart", (2 * draw.normal(5, 3) + scale, 3), wrt=(0,))
    log_w = (2 * draw.normal(1, 7) + 3).T
    yield Case("one data point, seven positive log-weights", (log_w, 2), wrt=(0,))


def _is_between_bounds(case, value):
    log_w, m = case.args
    elbo, bound = log_w.mean(0), torch.logsumexp(log_w, 0) - math.log(len(log_w))
    if m == 1:
        return is_exact(value, elbo.double().cpu(), single=_SINGLE)
    if m == len(log_w):
        return is_exact(value, bound.double().cpu(), single=_SINGLE)
    return at_most(elbo, value) and at_most(value, bound)


subset_bound_wrong = Misconceptions()


@subset_bound_wrong("first m samples")
def _(log_w, m):
    """You use the first m samples only: {got}; the average over all subsets of size m is
    {expected}.
    """
    return torch.logsumexp(log_w[:m], 0) - math.log(m)


@subset_bound_wrong("consecutive blocks")
def _(log_w, m):
    """You cut the samples into blocks of m: {got}; these are few of the subsets, and all of
    them average to {expected}.
    """
    blocks = log_w[: len(log_w) // m * m].reshape(-1, m, log_w.shape[1])
    return (torch.logsumexp(blocks, 1) - math.log(m)).mean(0)


@subset_bound_wrong("neighbours only")
def _(log_w, m):
    """You slide a window of m neighbours over the samples: {got}; a subset need not be
    neighbours, and all of them average to {expected}.
    """
    windows = log_w.unfold(0, m, 1)
    return (torch.logsumexp(windows, -1) - math.log(m)).mean(0)


@subset_bound_wrong("draws with repetition")
def _(log_w, m):
    """You draw m indices with repetition: {got}; a subset holds each sample at most once,
    {expected}.
    """
    draws = torch.tensor(list(itertools.product(range(len(log_w)), repeat=m)))
    return (torch.logsumexp(log_w[draws], 1) - math.log(m)).mean(0)


@subset_bound_wrong("multisets for subsets")
def _(log_w, m):
    """You use combinations with replacement, which repeat a sample: {got}; with
    `itertools.combinations` it is {expected}.
    """
    draws = itertools.combinations_with_replacement(range(len(log_w)), m)
    return (torch.logsumexp(log_w[torch.tensor(list(draws))], 1) - math.log(m)).mean(0)


@subset_bound_wrong("log K for log m")
def _(log_w, m):
    """You divide by K within a subset: {got}; a subset has m samples, {expected}."""
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    return (torch.logsumexp(log_w[subsets], 1) - math.log(len(log_w))).mean(0)


@subset_bound_wrong("log m forgotten")
def _(log_w, m):
    """You sum the weights of a subset: {got}; its bound is the log of their average, so log m
    is subtracted, {expected}.
    """
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    return torch.logsumexp(log_w[subsets], 1).mean(0)


@subset_bound_wrong("average inside the log")
def _(log_w, m):
    """You average over the subsets inside the log, which gives back L_K: {got}; average the
    bounds, outside the log, {expected}.
    """
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    bounds = torch.logsumexp(log_w[subsets], 1) - math.log(m)
    return torch.logsumexp(bounds, 0) - math.log(len(bounds))


@subset_bound_wrong("sum over the subsets")
def _(log_w, m):
    """You sum over the subsets: {got}; their average is {expected}."""
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    return (torch.logsumexp(log_w[subsets], 1) - math.log(m)).sum(0)


@subset_bound_wrong("mean of logs within a subset")
def _(log_w, m):
    """You average the logs within each subset, which gives the ELBO for any m: {got}; the bound
    of a subset is the log of its average weight, {expected}.
    """
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    return log_w[subsets].mean(1).mean(0)


@subset_bound_wrong("exponentials that underflow")
def _(log_w, m):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with log-sum-exp it is {expected}.
    """
    subsets = torch.tensor(list(itertools.combinations(range(len(log_w)), m)))
    return torch.log(torch.exp(log_w[subsets]).mean(1)).mean(0)


@subset_bound_wrong("best m samples")
def _(log_w, m):
    """You keep the m largest weights: {got}; every subset counts equally, {expected}."""
    return torch.logsumexp(log_w.topk(m, dim=0).values, 0) - math.log(m)


_subset_bound = Exercise(
    name="subset_bound",
    question="the m-sample bound averaged over all subsets of m samples, shape (B,)",
    reference=iwae.subset_bound,
    cases=_subset_cases,
    properties=(
        Property(
            "between the ELBO and the bound",
            "Averaged over subsets the bound lies between the ELBO (reached at m = 1) and L_K "
            "(reached at m = K). Yours does not.",
            _is_between_bounds,
        ),
        Property(
            "exact",
            "Three of the six pairs of the weights 1, 1, 1, 3 average to 1 and three to 2, so the "
            "result is ½ log 2. Yours is not.",
            is_fact("bound", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(subset_bound_wrong),
    hints=(
        "Every subset of m of the K samples has its own bound, log of the average of its m "
        "weights. Average these numbers over all the subsets.",
        "`itertools.combinations(range(K), m)` lists the subsets; `log_w[list(subset)]` has shape "
        "(m, B) and its bound is `iwae_bound` of it.",
        "Stack `torch.logsumexp(log_w[list(s)], 0) - math.log(m)` for all s in "
        "`itertools.combinations(range(log_w.shape[0]), m)`, then take the mean over the stack.",
    ),
    points=3,
    minutes=20,
    difficulty=2,
)


# --- iwae_gradient_weights ------------------------------------------------------------------------


def _gradient_weight_cases(draw):
    log_w = draw.tensor([[1.0, 3.0], [2.0, 3.0], [5.0, 4.0]]).log()
    exact = [[0.125, 0.3], [0.25, 0.3], [0.625, 0.4]]
    yield Case("weights 1, 2, 5 and 3, 3, 4", (log_w,), (0,), {"weights": exact})
    yield Case("one sample", (draw.normal(1, draw.integer(4, 6)),), wrt=(0,))
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    yield Case("more data points than samples", (draw.normal(k, b) - 3,), wrt=(0,))
    yield Case("one data point", (draw.normal(k, 1),), wrt=(0,))
    yield Case("log-weights near −10⁴", (draw.normal(k, b) - 1e4,), wrt=(0,))
    yield Case("log-weights near 1000", (draw.normal(k, b) + 1e3,), wrt=(0,))
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield Case("data points 10⁴ apart", (draw.normal(k, 3) + scale,), wrt=(0,))
    log_w = draw.normal(b, k).T
    yield Case("an argument that is not contiguous in memory", (log_w,), wrt=(0,))


def _sums_to_one(case, value):
    return is_exact(value.sum(0), torch.ones(value.shape[1]), single=_COARSE[torch.float32])


iwae_gradient_weights_wrong = Misconceptions()


@iwae_gradient_weights_wrong("normalized over the batch")
def _(log_w):
    """You normalize over the batch, axis 1: {got}; the weights of one data point compete among
    its K samples, axis 0, {expected}.
    """
    return torch.softmax(log_w, 1)


@iwae_gradient_weights_wrong("normalized over everything")
def _(log_w):
    """You normalize over samples and data points together: {got}; each data point has weights
    that sum to one over K, {expected}.
    """
    return torch.softmax(log_w.flatten(), 0).reshape(log_w.shape)


@iwae_gradient_weights_wrong("uniform weights")
def _(log_w):
    """You give every sample 1/K, which is the gradient of the ELBO: {got}; the bound's gradient
    weighs a sample by w_k, {expected}.
    """
    return torch.ones_like(log_w) / log_w.shape[0] + 0 * log_w


@iwae_gradient_weights_wrong("normalized logs")
def _(log_w):
    """You divide the log-weights by their sum: {got}; the weights themselves are normalized,
    after exp, {expected}.
    """
    return log_w / log_w.sum(0)


@iwae_gradient_weights_wrong("not normalized")
def _(log_w):
    """You return exp(log w) without dividing by the sum: {got}; it should be {expected}."""
    return torch.exp(log_w)


@iwae_gradient_weights_wrong("divided by the largest")
def _(log_w):
    """You divide by the largest weight: {got}; divide by the sum, {expected}."""
    return torch.exp(log_w - log_w.amax(0))


@iwae_gradient_weights_wrong("log of the weights")
def _(log_w):
    """You return the logs of the normalized weights: {got}; the weights are {expected}."""
    return torch.log_softmax(log_w, 0)


@iwae_gradient_weights_wrong("squared weights")
def _(log_w):
    """You square the normalized weights, as the doubly reparametrized gradient does: {got}; the
    plain gradient has the first power, {expected}.
    """
    return torch.softmax(log_w, 0) ** 2


@iwae_gradient_weights_wrong("exponentials that underflow")
def _(log_w):
    """You exponentiate the log-weights themselves and divide 0 by 0 or ∞ by ∞: {got}; subtract
    the largest of each data point first, {expected}.
    """
    w = torch.exp(log_w)
    return w / w.sum(0)


@iwae_gradient_weights_wrong("weights of mean one")
def _(log_w):
    """Your weights sum to K: {got}; the 1/K of the average cancels in ∇ log, so they sum to
    one, {expected}.
    """
    return torch.softmax(log_w, 0) * log_w.shape[0]


@iwae_gradient_weights_wrong("winner takes all")
def _(log_w):
    """You give everything to the largest weight: {got}; every sample has its share, {expected}."""
    return F.one_hot(log_w.argmax(0), log_w.shape[0]).T.to(log_w.dtype)


@iwae_gradient_weights_wrong("detached")
def _(log_w):
    """Your numbers are right, but you detach them; return them differentiable, and let whoever
    uses them decide.
    """
    return torch.softmax(log_w, 0).detach()


_iwae_gradient_weights = Exercise(
    name="iwae_gradient_weights",
    question="the normalized weights w_k / Σ_j w_j, shape (K, B)",
    reference=iwae.iwae_gradient_weights,
    cases=_gradient_weight_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "sum to one",
            "The normalized weights of each data point must sum to one over the K samples. "
            "Yours do not.",
            _sums_to_one,
        ),
        Property(
            "exact",
            "Weights 1, 2, 5 normalize to 1/8, 1/4, 5/8. Yours do not.",
            is_fact("weights", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(iwae_gradient_weights_wrong),
    hints=(
        "Differentiate log (1/K Σ_k w_k) and use ∇ w_k = w_k ∇ log w_k.",
        "∇ L_K = Σ_k (w_k / Σ_j w_j) ∇ log w_k: you are asked for the factor in brackets, from "
        "log w and without overflow.",
        "exp(log w_k) / Σ_j exp(log w_j) is a softmax over the axis of the samples.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- q_iw_log_prob --------------------------------------------------------------------------------


def _q_iw_cases(draw):
    # w(z) = 3 and w(z_2) = 1 average to 2: the density grows by the factor 3/2.
    args = (draw.tensor([3.0]).log(), draw.tensor([[1.0]]).log(), draw.tensor([0.5]).log())
    yield Case("w = 3 and 1, q = ½", args, (0, 1, 2), {"log_q_iw": [math.log(0.75)]})
    k, b = draw.integer(4, 5), draw.integer(6, 8)
    args = (draw.normal(b), draw.normal(0, b), draw.normal(b) - 2)
    yield Case("K = 1, no other samples", args, wrt=(2,))
    args = (2 * draw.normal(b), 2 * draw.normal(k - 1, b), draw.normal(b) - 2)
    yield Case("more data points than samples", args, wrt=(0, 1, 2))

    log_q = torch.randn(b, generator=draw.generator, dtype=torch.float64)
    log_w = draw.normal(b)
    args = (log_w, log_w.repeat(k - 1, 1), draw.tensor(log_q))
    yield Case("equal weights", args, (0, 1, 2), {"log_q_iw": log_q})
    args = (draw.normal(b) - 1e4, draw.normal(k - 1, b) - 1e4, draw.normal(b))
    yield Case("log-weights near −10⁴", args, wrt=(0, 1, 2))
    scale = draw.tensor([0.0, -1e4, 1e4])
    args = (draw.normal(3) + scale, draw.normal(k - 1, 3) + scale, draw.normal(3))
    yield Case("data points 10⁴ apart", args, wrt=(0, 1, 2))
    args = (draw.normal(b) - 200, draw.normal(b, k - 1).T, draw.normal(b))
    yield Case("a sample with almost no weight", args, wrt=(0, 1, 2))

    # q = N(0, 1), posterior N(½, 0.8²); z and z_2 on a grid: E_{z_2} q_IW(z|x, z_2) sums to one.
    grid = torch.linspace(-6, 6, 31, dtype=torch.float64)
    log_q = -0.5 * grid**2 - 0.5 * math.log(2 * math.pi)
    log_w = -0.5 * ((grid - 0.5) / 0.8) ** 2 - log_q
    log_q_first, log_q_second = (v.flatten() for v in torch.meshgrid(log_q, log_q, indexing="ij"))
    first, second = (v.flatten() for v in torch.meshgrid(log_w, log_w, indexing="ij"))
    args = tuple(draw.tensor(v) for v in (first, second[None], log_q_first))
    facts = {"log_cell": log_q_second + 2 * math.log(12 / 30)}
    yield Case("K = 2 on a grid of z and z_2", args, (0, 1, 2), facts)


def _is_log_q(case, value):
    _, log_w_rest, log_q_first = case.args
    return len(log_w_rest) > 0 or is_exact(value, log_q_first.double().cpu(), single=_SINGLE)


q_iw_log_prob_wrong = Misconceptions()


@q_iw_log_prob_wrong("K − 1 for K")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by the number of the other samples, K − 1: {got}; the average is over all K, z
    among them, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    average = torch.logsumexp(log_w, 0) - math.log(max(len(log_w_rest), 1))
    return log_w_first + log_q_first - average


@q_iw_log_prob_wrong("z left out of the sum")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by K but leave w(z) out of the sum: {got}; with it the result is {expected}."""
    average = torch.logsumexp(log_w_rest, 0) - math.log(len(log_w_rest) + 1)
    return log_w_first + log_q_first - average


@q_iw_log_prob_wrong("average of the others")
def _(log_w_first, log_w_rest, log_q_first):
    """You average the other K − 1 weights only: {got}; w(z) itself belongs to the average of K,
    {expected}.
    """
    average = torch.logsumexp(log_w_rest, 0) - math.log(max(len(log_w_rest), 1))
    return log_w_first + log_q_first - average


@q_iw_log_prob_wrong("log q forgotten")
def _(log_w_first, log_w_rest, log_q_first):
    """You leave log q(z|x) out, so this is only the reweighting factor: {got}; the density has
    both, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first - torch.logsumexp(log_w, 0) + math.log(len(log_w)) + 0 * log_q_first


@q_iw_log_prob_wrong("log q subtracted")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract log q(z|x): {got}; the factor multiplies q, so its log is added, {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first - log_q_first - torch.logsumexp(log_w, 0) + math.log(len(log_w))


@q_iw_log_prob_wrong("log K forgotten")
def _(log_w_first, log_w_rest, log_q_first):
    """You divide by the sum of the weights: {got}; the denominator is their average, so log K
    is added, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - torch.logsumexp(log_w, 0)


@q_iw_log_prob_wrong("log K subtracted")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract log K: {got}; it divides the denominator, so it is added, {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - torch.logsumexp(log_w, 0) - math.log(len(log_w))


@q_iw_log_prob_wrong("mean of logs in the denominator")
def _(log_w_first, log_w_rest, log_q_first):
    """You subtract the average log-weight, the ELBO: {got}; the denominator is the log of the
    average weight, {expected}.
    """
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_w_first + log_q_first - log_w.mean(0)


@q_iw_log_prob_wrong("w(z) left out")
def _(log_w_first, log_w_rest, log_q_first):
    """You leave the weight of z out of the numerator: {got}; with it the result is {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    return log_q_first - torch.logsumexp(log_w, 0) + math.log(len(log_w))


@q_iw_log_prob_wrong("exponentials that underflow")
def _(log_w_first, log_w_rest, log_q_first):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    in logs it is {expected}.
    """
    w = torch.exp(torch.cat([log_w_first[None], log_w_rest]))
    return torch.log(w[0] / w.mean(0)) + log_q_first


@q_iw_log_prob_wrong("density for log-density")
def _(log_w_first, log_w_rest, log_q_first):
    """You return the density: {got}; its log is {expected}."""
    log_w = torch.cat([log_w_first[None], log_w_rest])
    ratio = torch.softmax(log_w, 0)[0] * len(log_w)
    return ratio * torch.exp(log_q_first)


_q_iw_log_prob = Exercise(
    name="q_iw_log_prob",
    question="log q_IW(z|x, z_2…z_K) = log w(z) + log q(z|x) − log of the average of all K weights",
    reference=iwae.q_iw_log_prob,
    cases=_q_iw_cases,
    rtol=_COARSE,
    properties=(
        Property(
            "K = 1",
            "Without other samples the weight cancels, and q_IW is q. Yours is not.",
            _is_log_q,
        ),
        Property(
            "exact",
            "Where all K weights are equal q_IW is q; where w(z) = 3 and the other weight is 1 it "
            "is 3/2 of it. Yours is not.",
            is_fact("log_q_iw", single=_SINGLE),
        ),
        Property(
            "integrates to one",
            "Averaged over z_2 ~ q and integrated over z, q_IW must give 1: q_EW is a density. "
            "Yours is not.",
            adds_to_one("log_cell", double=1e-6),
        ),
    ),
    misconceptions=tuple(q_iw_log_prob_wrong),
    hints=(
        "q_IW is q(z|x) times w(z) divided by the average of all K weights, w(z) included. Take "
        "logs.",
        "The log of the denominator is `iwae_bound` of the K log-weights together: put "
        "`log_w_first` on top of `log_w_rest`.",
        "`log_w = torch.cat([log_w_first[None], log_w_rest])`, then log w(z) + log q(z|x) minus "
        "`iwae_bound(log_w)`.",
    ),
    points=2,
    minutes=15,
    difficulty=2,
)


# --- gradient_snr ---------------------------------------------------------------------------------


def _snr_cases(draw):
    gradients = draw.tensor([[10.0, -10.0, 50.0], [30.0, -30.0, 90.0]])
    # Means 20, −20 and 70, standard deviations 10√2, 10√2 and 10√8.
    facts = {"snr": [math.sqrt(2), math.sqrt(2), 7 / math.sqrt(8)]}
    yield Case("two estimates of three parameters", (gradients,), (0,), facts)
    s, p = draw.integer(8, 10), draw.integer(5, 7)
    yield Case("gradients of size 10⁻⁷", (1e-7 * (draw.normal(s, p) + 1),), wrt=(0,))
    yield Case("signals about as large as the noise", (draw.normal(s, p) + 1,), wrt=(0,))
    yield Case("negative signals", (draw.normal(s, p) - 2,), wrt=(0,))
    yield Case("one parameter", (draw.normal(s, 1) + 0.7,), wrt=(0,))
    yield Case("as many estimates as parameters", (draw.normal(s, s) + 0.5,), wrt=(0,))
    yield Case("300 parameters", (draw.normal(s, 300) + draw.normal(300),), wrt=(0,))
    gradients = (100 * draw.normal(p, s) - 50).T
    yield Case("an argument that is not contiguous in memory", (gradients,), wrt=(0,))


gradient_snr_wrong = Misconceptions()


@gradient_snr_wrong("variance for standard deviation")
def _(gradients):
    """You divide by the variance: {got}; noise is the standard deviation, which has the units
    of the gradient, {expected}.
    """
    return gradients.mean(0).abs() / gradients.var(0)


@gradient_snr_wrong("no absolute value")
def _(gradients):
    """You keep the sign of the mean: {got}; the ratio has its absolute value, {expected}."""
    return gradients.mean(0) / gradients.std(0)


@gradient_snr_wrong("divided by S")
def _(gradients):
    """Your standard deviation divides by S: {got}; with S − 1 it is {expected}."""
    return gradients.mean(0).abs() / gradients.std(0, correction=0)


@gradient_snr_wrong("over the parameters")
def _(gradients):
    """You take mean and standard deviation over the parameters, axis 1; the noise is that of
    one parameter's S estimates, axis 0, shape (P,).
    """
    return gradients.mean(1).abs() / gradients.std(1)


@gradient_snr_wrong("norm of the whole gradient")
def _(gradients):
    """You compare the norms of the whole gradient; each parameter has its own ratio, shape
    (P,).
    """
    mean = gradients.mean(0)
    return mean.norm() / gradients.var(0).sum().sqrt()


@gradient_snr_wrong("averaged over the parameters")
def _(gradients):
    """You average the ratios over the parameters; each keeps its own, shape (P,)."""
    return (gradients.mean(0).abs() / gradients.std(0)).mean()


@gradient_snr_wrong("standard error")
def _(gradients):
    """You divide by the standard error of the mean, std/√S: {got}; the noise is that of one
    estimate, {expected}.
    """
    return gradients.mean(0).abs() / (gradients.std(0) / math.sqrt(gradients.shape[0]))


@gradient_snr_wrong("noise-to-signal")
def _(gradients):
    """You divide the noise by the signal: {got}; the other way round it is {expected}."""
    return gradients.std(0) / gradients.mean(0).abs()


@gradient_snr_wrong("mean of the magnitudes")
def _(gradients):
    """You average the absolute values, where noise counts as signal: {got}; the signal is the
    absolute value of the average, {expected}.
    """
    return gradients.abs().mean(0) / gradients.std(0)


@gradient_snr_wrong("root mean square")
def _(gradients):
    """You divide by the root mean square, which holds the signal as well: {got}; the noise is
    the spread around the mean, {expected}.
    """
    return gradients.mean(0).abs() / (gradients**2).mean(0).sqrt()


@gradient_snr_wrong("epsilon in the denominator")
def _(gradients):
    """You add a small number to the standard deviation: {got}; gradients can be as small as it,
    and without it the ratio is {expected}.
    """
    return gradients.mean(0).abs() / (gradients.std(0) + 1e-8)


@gradient_snr_wrong("ratio of squares")
def _(gradients):
    """You return mean² / variance, the ratio of powers: {got}; here the ratio of amplitudes is
    asked, {expected}.
    """
    return gradients.mean(0) ** 2 / gradients.var(0)


_gradient_snr = Exercise(
    name="gradient_snr",
    question="|mean| / standard deviation of S gradient estimates, for each parameter, shape (P,)",
    reference=iwae.gradient_snr,
    cases=_snr_cases,
    # The variance as E g² − (E g)² is a right answer and cancels in float32.
    rtol={torch.float64: 1e-8, torch.float32: 1e-3},
    properties=(
        Property(
            "not negative",
            "A signal-to-noise ratio is not negative. Yours is.",
            lambda case, value: bool((value >= 0).all()),
        ),
        Property(
            "exact",
            "The estimates 10 and 30 have mean 20 and standard deviation 10√2, so their ratio is "
            "√2. Yours is not.",
            is_fact("snr", single=_SINGLE),
        ),
    ),
    misconceptions=tuple(gradient_snr_wrong),
    hints=(
        "Each column holds S independent estimates of one parameter's gradient. Signal: the size "
        "of their average. Noise: their standard deviation.",
        "Both over axis 0; the absolute value after the average; the standard deviation with "
        "S − 1, torch's default.",
        "`gradients.mean(0).abs()` divided by `gradients.std(…)` over the same axis.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


# --- active_units ---------------------------------------------------------------------------------


def _active_cases(draw):
    def means(n, variances, shift):
        """Columns with these variances (N − 1); with N they are at most a tenth smaller."""
        noise = draw.normal(n, len(variances))
        noise = (noise - noise.mean(0)) / noise.std(0)
        offset = shift * (2 * draw.uniform(len(variances)) - 1)
        return offset + noise * draw.tensor(variances).sqrt()

    n = draw.integer(20, 30)
    yield Case("variances 1 and 0", (means(n, [1.0, 0.0], 0.0),), facts={"active": [True, False]})
    args = (means(n, [0.04, 0.004, 0.013, 0.007, 0.5, 2e-4], 2.0),)
    facts = {"active": [True, False, True, False, True, False]}
    yield Case("the default threshold, means far from 0", args, facts=facts)
    args = (means(n, [0.04, 2.0, 0.3, 0.7, 0.4], 1.0), 0.5)
    facts = {"active": [False, True, False, True, False]}
    yield Case("threshold ½", args, facts=facts)
    args = (means(n, [4.0, 2.0, 30.0], 1.0), 3.0)
    yield Case("threshold 3", args, facts={"active": [True, False, True]})
    args = (means(n, [1e-3, 2e-5, 2e-4, 5e-5], 0.1), 1e-4)
    yield Case("threshold 10⁻⁴", args, facts={"active": [True, False, True, False]})
    yield Case("one unit", (means(n, [0.1], 1.0), 0.01), facts={"active": [True]})
    variances = [10.0 ** (-draw.integer(0, 4) - 0.5) for _ in range(24)]
    facts = {"active": [variance > 0.01 for variance in variances]}
    yield Case("as many data points as units", (means(24, variances, 1.0), 0.01), facts=facts)
    columns = means(n, [1.0, 1e-3, 1e-3, 0.2], 1.0)
    args = (columns.T.contiguous().T, 0.05)
    facts = {"active": [True, False, False, True]}
    yield Case("an argument that is not contiguous in memory", args, facts=facts)


active_units_wrong = Misconceptions()


@active_units_wrong("standard deviation for variance")
def _(means, threshold=0.01):
    """You compare the standard deviation with the threshold: {got}; the statistic is the
    variance, {expected}.
    """
    return means.std(0) > threshold


@active_units_wrong("fixed threshold")
def _(means, threshold=0.01):
    """You compare with 0.01 whatever threshold is passed: {got}; with the one asked for it is
    {expected}.
    """
    return means.var(0) > 0.01


@active_units_wrong("second moment")
def _(means, threshold=0.01):
    """You average the squared means, so a unit that is constant but not 0 counts as active:
    {got}; the variance subtracts the average first, {expected}.
    """
    return (means**2).mean(0) > threshold


@active_units_wrong("size of the mean")
def _(means, threshold=0.01):
    """You ask whether the average differs from 0: {got}; a unit is active when its mean varies
    with x, {expected}.
    """
    return means.mean(0).abs() > threshold


@active_units_wrong("variance over the units")
def _(means, threshold=0.01):
    """You take the variance over the units, axis 1; it is over the data, axis 0, and there is
    one answer for each unit, shape (L,).
    """
    return means.var(1, correction=0) > threshold


@active_units_wrong("count")
def _(means, threshold=0.01):
    """You return how many units are active; return which ones, a bool for each."""
    return (means.var(0) > threshold).sum()


@active_units_wrong("indices")
def _(means, threshold=0.01):
    """You return the indices of the active units; return a bool for each unit, shape (L,)."""
    return torch.nonzero(means.var(0) > threshold).flatten()


@active_units_wrong("numbers for bools")
def _(means, threshold=0.01):
    """Your zeros and ones are right but not of dtype bool; return the comparison itself."""
    return (means.var(0) > threshold).to(means.dtype)


@active_units_wrong("variances")
def _(means, threshold=0.01):
    """You return the variances; compare them with the threshold."""
    return means.var(0)


@active_units_wrong("inactive units")
def _(means, threshold=0.01):
    """You mark the units below the threshold: {got}; active ones are above, {expected}."""
    return means.var(0) < threshold


@active_units_wrong("relative to the largest")
def _(means, threshold=0.01):
    """You compare with the threshold times the largest variance: {got}; the threshold is
    absolute, {expected}.
    """
    variance = means.var(0)
    return variance > threshold * variance.max()


_active_units = Exercise(
    name="active_units",
    question="which units' posterior means have a variance above the threshold, bool (L,)",
    reference=iwae.active_units,
    cases=_active_cases,
    properties=(
        Property(
            "exact",
            "A unit whose posterior mean is the same for all data carries no information, and one "
            "whose mean varies more than the threshold does. Yours says otherwise.",
            lambda case, value: value.tolist() == case.facts["active"],
        ),
    ),
    misconceptions=tuple(active_units_wrong),
    hints=(
        "A unit that q ignores has the same posterior mean for every x.",
        "For each column, the variance over the N data points, compared with `threshold`.",
        "`means.var(0)` and one comparison.",
    ),
    points=1,
    minutes=5,
    difficulty=1,
)


EXERCISES = (
    _log_importance_weights,
    _multi_sample_elbo,
    _iwae_bound,
    _subset_bound,
    _iwae_gradient_weights,
    _q_iw_log_prob,
    _gradient_snr,
    _active_units,
)

check = Checker(EXERCISES, may_import=("dgm_utils.data",), edition=EDITION)
