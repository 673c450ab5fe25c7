"""`marginal_kl`: the KL of the average posterior to the prior, from samples."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import COARSE, SINGLE, SUMMANDS, encoder_cases
from nbjudge.asking.page import Page

page = Page(
    elbo_surgery.marginal_kl,
    "the average of log q(z_i) − log p(z_i), a 0-d tensor",
    points=2,
    minutes=10,
    difficulty=2,
    axes="N L, N L, N L -> ()",
    wrt="z mean log_var",
    rtol=COARSE,
    hints=(
        "Two log-densities of the same sample: under q(z), the average of all N posteriors, and "
        "under the prior N(0, I).",
        "log q(z_i) is the log-sum-exp over n of log q(z_i|x_n), minus log N; log p(z_i) is "
        "−½ Σ (z² + log 2π). Average their difference over the samples.",
        "With `log_q` the (N, N) matrix of log q(z_i|x_n): `torch.logsumexp(log_q, 1) - "
        "math.log(N)`, plus `0.5 * (z**2 + math.log(2 * math.pi)).sum(1)`, and the mean of it.",
    ),
)

page.terms(SUMMANDS)
page.terms(
    {
        "the mean of log q(z)": lambda z, mean, log_var: elbo_surgery.log_aggregated_posterior(
            z, mean, log_var
        ).mean(),
        "the mean of Σ z²": lambda z: z.square().sum(1).mean(),
        "L log 2π": lambda z: z.new_tensor(z.shape[1] * math.log(2 * math.pi)),
    }
)


@page.cases
def _(draw):
    for name, args, facts in encoder_cases(draw):
        yield page.case(name, *args, **facts)


page.must_equal(
    "marginal",
    "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, log q − log p is "
    "4 − log 4 + log(1 + e^(−3/2)). Where all posteriors are one Gaussian the marginal KL is its "
    "KL to the prior. Where none overlap it is the average of log q(z_i|x_i) − log p(z_i), less "
    "log N. Yours is not.",
    single=SINGLE,
)


@page.formula
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    log_aggregated = torch.logsumexp(log_q, 1) - math.log(len(mean))
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    return (log_aggregated - log_p).mean()


@page.right
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@page.piece
def log_density(z, mean, log_var):
    """Log-density of every sample under every posterior, `(N, N)`, without ½ log 2π."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var).sum(-1)


@page.piece
def log_average(log_q):
    """Log of the average over the posteriors."""
    return torch.logsumexp(log_q, 1) - math.log(log_q.shape[1])


@page.wrong("closed-form KL less mutual information")
def _(z, mean, log_var):
    """You subtract the mutual information from the closed-form average KL: {got}, which has the
    same expectation; asked is the average of log q(z_i) − log p(z_i) at the samples, {expected}.
    """
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()
    log_q = log_density(z, mean, log_var)
    return kl - (log_q.diagonal() - log_average(log_q)).mean()


@page.wrong("own posterior in place of q(z)")
def _(z, mean, log_var):
    """You compare q(z_i|x_i) with the prior, which gives the average KL, mutual information
    included: {got}; the marginal KL has the average q(z_i) of all posteriors, {expected}.
    """
    log_own = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return (log_own + 0.5 * (z**2).sum(-1)).mean()


@page.wrong("log N forgotten")
def _(z, mean, log_var):
    """You sum the N densities: {got}; q(z) is their average, so log N is subtracted,
    {expected}.
    """
    return (torch.logsumexp(log_density(z, mean, log_var), 1) + 0.5 * (z**2).sum(-1)).mean()


page.but(
    "sign",
    "You subtract the wrong way round: {got}; a KL is E_q [log q − log p], {expected}.",
    torch.neg,
)


@page.wrong("prior left out")
def _(z, mean, log_var):
    """You leave log p(z) out, so this estimates the negative entropy of q(z): {got}; with it the KL
    is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    return (torch.logsumexp(log_q, 1) - math.log(mean.shape[0])).mean()


@page.wrong("½ log 2π on one side")
def _(z, mean, log_var):
    """You keep ½ log 2π in one of the two densities and drop it in the other: {got}; it stands
    in both and cancels, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@page.wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You form q(z) for each latent by itself and add up: {got}; the latents are independent
    given x, not in q(z), so sum over them before the log-sum-exp, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_aggregate = log_average(-0.5 * (squares + log_var)).sum(-1)
    return (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


@page.wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over n: {got}; q(z_i) averages the densities, and its log is
    taken after, {expected}.
    """
    return (log_density(z, mean, log_var).mean(1) + 0.5 * (z**2).sum(-1)).mean()


@page.wrong("one Gaussian for q(z)")
def _(z, mean, log_var):
    """You take the closed-form KL of one Gaussian with the mean and variance of q(z): {got}; q(z)
    is a mixture, and its log at the samples gives {expected}.
    """
    center = mean.mean(0)
    var = torch.exp(log_var).mean(0) + ((mean - center) ** 2).mean(0)
    return 0.5 * (center**2 + var - 1 - torch.log(var)).sum() + 0 * z.sum()


@page.wrong("prior at the means")
def _(z, mean, log_var):
    """You take the prior at the posterior means: {got}; both densities are of the same sample
    z_i, {expected}.
    """
    return (log_average(log_density(z, mean, log_var)) + 0.5 * (mean**2).sum(-1)).mean()


@page.wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You average the densities themselves, and far from every posterior they are all 0 in
    floating point: {got}; with log-sum-exp it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)).mean(1)
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return (torch.log(q) - log_p).mean()


@page.wrong("weighted by the density")
def _(z, mean, log_var):
    """You weigh each log-ratio by q(z_i): {got}; the z_i are samples of q already, so each counts
    the same, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(-1)
    return (torch.exp(log_aggregate) * (log_aggregate - log_p)).sum()
