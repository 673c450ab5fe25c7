"""`log_aggregated_posterior`: the log-density of the average posterior, in little memory."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import (
    COARSE,
    SINGLE,
    corners,
    on_a_line,
    posteriors,
    sample,
)
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    elbo_surgery.log_aggregated_posterior,
    "log q(z_m) = log (1/N Σ_n q(z_m|x_n)), shape (M,), no tensor of M·N·L/4 numbers",
    points=3,
    minutes=25,
    difficulty=3,
    axes="M L, N L, N L -> M",
    wrt="z mean log_var",
    rtol=COARSE,
    hints=(
        "For one sample: the log-density under each of the N posteriors, summed over the latents, "
        "then the log of the average density, by `torch.logsumexp` and log N.",
        "`z[:, None] - mean` is an (M, N, L) tensor, too large here. Multiply the square out: "
        "Σ_l (z_l − μ_l)²/σ_l² = Σ_l z_l²/σ_l² − 2 Σ_l z_l μ_l/σ_l² + Σ_l μ_l²/σ_l², and the first "
        "two sums are matrix products of (M, L) and (L, N).",
        "With `p = torch.exp(-log_var)` the squares are `z**2 @ p.T - 2 * z @ (mean * p).T + "
        "(mean**2 * p).sum(1)`. Complete them to log-densities, (M, N), and take "
        "`torch.logsumexp` over axis 1, minus the log of `mean.shape[0]`.",
    ),
)


@page.cases
def _(draw):
    # z is one and no standard deviations from the means.
    args = (draw.tensor([[1.0]]), draw.tensor([[-1.0], [1.0]]), draw.tensor([[4.0], [4.0]]).log())
    exact = math.log((1 + math.exp(-0.5)) / 2) - math.log(2) - 0.5 * math.log(2 * math.pi)
    yield page.case("z = 1 under N(−1, 2²) and N(1, 2²)", *args, log_q=[exact])
    m, n, latents = draw.integer(4, 5), draw.integer(6, 8), draw.integer(2, 3)
    args = (1.5 * draw.normal(m, latents), *posteriors(draw, n, latents))
    yield page.case("all axes of different length", *args)
    args = (draw.normal(m, latents), *posteriors(draw, 1, latents))
    yield page.case("one posterior", *args)
    args = (draw.normal(m, m), *posteriors(draw, m, m))
    yield page.case("as many samples as posteriors and latents", *args)

    noise = torch.randn(m, 2, generator=draw.generator, dtype=torch.float64)
    log_q = -0.5 * (noise**2 + math.log(2 * math.pi) + math.log(0.25)).sum(1)
    args = (3 + 0.5 * noise, [[3.0, 3.0]] * n, [[math.log(0.25)] * 2] * n)
    args = tuple(draw.tensor(arg) for arg in args)
    yield page.case("posteriors that are all N(3, ½² I)", *args, log_q=log_q)

    mean, log_var = draw.normal(n, latents), -5 + 0.5 * draw.normal(n, latents)
    yield page.case("narrow posteriors", sample(draw, mean, log_var)[:m], mean, log_var)
    z = 45 * (2 * draw.bernoulli(m, 1) - 1) + draw.normal(m, 1)
    args = (z, draw.normal(n, 1), -0.3 * draw.uniform(n, 1))
    yield page.case("samples far from every posterior", *args, extreme=True)
    mean = corners(draw, n)
    log_var = 0.3 * draw.normal(n, 3)
    args = (sample(draw, mean, log_var)[:m], mean, log_var)
    yield page.case("posteriors 40 standard deviations apart", *args, extreme=True)
    args = (draw.normal(m, 300), *posteriors(draw, 3, 300))
    yield page.case("300 latents", *args, extreme=True)
    args = (draw.normal(2, m).T, draw.normal(2, n).T, draw.normal(2, n).T - 1)
    yield page.case("arguments that are not contiguous in memory", *args)
    yield page.case("samples on a grid, one latent", **on_a_line(draw))

    axis = torch.linspace(-8, 8, 33, dtype=torch.float64)
    mean, log_var = draw.normal(3, 2).clamp(-2, 2), 2 * torch.log(0.7 + 0.2 * draw.uniform(3, 2))
    args = (draw.tensor(torch.cartesian_prod(axis, axis)), mean, log_var)
    yield page.case("samples on a grid, two latents", *args, cell=0.25)

    # Gradients were compared above. Nine latents leave room for two (M, N) tensors in one.
    m, n, latents = draw.integer(900, 940), draw.integer(960, 1000), 9
    args = (draw.normal(m, latents), *posteriors(draw, n, latents))
    limit = m * n * latents // 4 - 1
    yield page.case(
        "a thousand samples, a thousand posteriors", *args, wrt="", max_numel=limit, extreme=True
    )


@page.must
def add_to_one(value, cell):
    """q(z) is a density: summed over a fine grid of z, times the size of a cell, it must give 1.
    Yours does not.
    """
    mass = value.double().exp().sum(0) * cell
    return is_exact(mass.to(value.dtype), torch.ones(mass.shape), single=SINGLE)


page.must_equal(
    "log_q",
    "Where all posteriors are the same, q(z) is any of them; at z = 1 the densities of N(−1, 2²) "
    "and N(1, 2²) average to ½ (1 + e^(−½))/√(8π). Yours do not.",
    single=SINGLE,
)


@page.formula
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    return torch.logsumexp(log_q, 1) - math.log(len(mean))


@page.formula
def _(z, mean, log_var):
    squares = ((z[:, None] - mean) ** 2 / log_var.exp()).sum(2)
    log_norm = 0.5 * log_var.sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi)
    return torch.logsumexp(-0.5 * squares - log_norm, 1) - math.log(len(mean))


@page.piece
def log_density(z, mean, log_var):
    """Log-density of every sample under every posterior, `(M, N)`, by matrix products."""
    p = torch.exp(-log_var)
    squares = z**2 @ p.T - 2 * z @ (mean * p).T + (mean**2 * p).sum(1)
    return -0.5 * (squares + (log_var + math.log(2 * math.pi)).sum(1))


@page.wrong("a tensor for every pair and dimension")
def _(z, mean, log_var):
    """Your numbers are right, but you hold one number for each sample, posterior and latent at
    once, 15 GB for ten thousand of each and 20 latents; take a matrix product, one latent at a
    time, or the samples in blocks.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return torch.logsumexp(log_q, 1) - math.log(mean.shape[0])


@page.wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You average the densities of each latent dimension by itself and add the logs, which
    scores a product of one-dimensional mixtures: {got}; a mixture of vectors sums over the
    latents first, {expected}.
    """
    total = 0
    for k in range(z.shape[1]):
        squares = (z[:, None, k] - mean[:, k]) ** 2 * torch.exp(-log_var[:, k])
        log_q = -0.5 * (squares + log_var[:, k] + math.log(2 * math.pi))
        total = total + torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return total


@page.wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average the log-densities: {got}; q(z) averages the densities, and the log comes
    after, {expected}.
    """
    return log_density(z, mean, log_var).mean(1)


@page.wrong("log N forgotten")
def _(z, mean, log_var):
    """You sum over the posteriors: {got}; q(z) is their average, so log N is subtracted,
    {expected}.
    """
    return torch.logsumexp(log_density(z, mean, log_var), 1)


@page.wrong("log M for log N")
def _(z, mean, log_var):
    """You subtract the log of the number of samples, M: {got}; the average is over the N
    posteriors, {expected}.
    """
    return torch.logsumexp(log_density(z, mean, log_var), 1) - math.log(z.shape[0])


@page.wrong("average over the samples")
def _(z, mean, log_var):
    """You average over the samples and get a number for each posterior; average over the
    posteriors, so that each sample has its own, shape (M,).
    """
    return torch.logsumexp(log_density(z, mean, log_var), 0) - math.log(z.shape[0])


@page.wrong("one Gaussian with average parameters")
def _(z, mean, log_var):
    """You average the means and the variances and take one Gaussian: {got}; a mixture of N
    Gaussians is not a Gaussian, and averaging the densities gives {expected}.
    """
    center, var = mean.mean(0), torch.exp(log_var).mean(0)
    squares = (z - center) ** 2 / var
    return -0.5 * (squares + torch.log(var) + math.log(2 * math.pi)).sum(-1)


@page.wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You average the densities themselves, and far from every posterior they are all 0 in
    floating point: {got}; with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(log_density(z, mean, log_var)).mean(1))


@page.wrong("epsilon inside the log")
def _(z, mean, log_var):
    """You add a small number inside the log, which hides densities that underflow: {got}; with
    log-sum-exp it needs none, {expected}.
    """
    return torch.log(torch.exp(log_density(z, mean, log_var)).mean(1) + 1e-8)


@page.wrong("variance taken for the standard deviation")
def _(z, mean, log_var):
    """You use exp(log_var) as the standard deviation: {got}; it is the variance, and the
    standard deviation is exp(log_var / 2), which gives {expected}.
    """
    return torch.logsumexp(log_density(z, mean, 2 * log_var), 1) - math.log(mean.shape[0])


@page.picture
def _(axis, triples):
    """The aggregated posterior on a grid, the student's beside the right one."""
    axis.set(xlabel="z", ylabel="density", title="The aggregated posterior")
    known = [t for t in triples if "cell" in t[0].facts and t[0].args[0].shape[1] == 1]
    if not known:
        return "The aggregated posterior: no values to draw."
    case, value, expected = known[0]
    z = case.args[0][:, 0].double().cpu()
    right = expected.double().exp().cpu()
    axis.plot(z, right, color="#0072B2", linewidth=3, label="q(z)")
    said = "The aggregated posterior on a grid. The right density has its peak, "
    said += f"{right.max():.3f}, at z = {z[right.argmax()]:.2f}"
    if value.shape == expected.shape and value.isfinite().all():
        yours = value.double().clamp(max=5).exp().cpu()
        axis.plot(z, yours, "--", color="#D55E00", label="yours")
        axis.set_ylim(0, 2.5 * float(right.max()))
        said += f"; yours has {yours.max():.3f} at z = {z[yours.argmax()]:.2f}."
    else:
        said += "; yours cannot be drawn."
    axis.legend()
    return said
