"""`mutual_information`: what z tells about x, from log-densities of samples."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import COARSE, SINGLE, SUMMANDS, encoder_cases
from nbjudge.asking.page import Page

page = Page(
    elbo_surgery.mutual_information,
    "the average of log q(z_i|x_i) − log q(z_i), a 0-d tensor",
    points=2,
    minutes=15,
    difficulty=2,
    axes="N L, N L, N L -> ()",
    wrt="z mean log_var",
    rtol=COARSE,
    hints=(
        "Two log-densities of the same sample: under its own posterior, and under the average of "
        "all N posteriors.",
        "In the (N, N) matrix of log q(z_i|x_n) the first is the diagonal, the second a "
        "log-sum-exp over the columns minus log N.",
        "With `log_q` that matrix: `log_q.diagonal() - (torch.logsumexp(log_q, 1) - "
        "math.log(N))`, and its mean.",
    ),
)

page.terms(SUMMANDS)


@page.cases
def _(draw):
    for name, args, facts in encoder_cases(draw):
        yield page.case(name, *args, **facts)


@page.must
def be_at_most_log_n(value, z):
    """q(z_i) ≥ q(z_i|x_i)/N, because x_i is one of the N data points, so no sample can give more
    than log N. Yours does.
    """
    return bool(value <= math.log(len(z)) + COARSE[value.dtype])


page.must_equal(
    "information",
    "Where all posteriors are the same, or there is one, z says nothing of x: 0. Where none "
    "overlap it says all: log N. Where three of four are the same it is log 4 − ¾ log 3. "
    "Yours is not.",
    single=SINGLE,
)
page.must_equal(
    "by_density",
    "For N(−1, 2²) and N(1, 2²), at the samples −3 and 3, the log-ratio of a sample's own density "
    "to the average of both is log 2 − log(1 + e^(−3/2)). Yours is not.",
    single=SINGLE,
)


@page.formula
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    log_own = log_q.diagonal()
    log_aggregated = torch.logsumexp(log_q, 1) - math.log(len(mean))
    return (log_own - log_aggregated).mean()


@page.right
def _(z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    return (log_q.diagonal() - torch.logsumexp(log_q, 1) + math.log(mean.shape[0])).mean()


@page.piece
def log_density(z, mean, log_var):
    """Log-density of every sample under every posterior, `(N, N)`, without ½ log 2π."""
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    return -0.5 * (squares + log_var).sum(-1)


@page.piece
def log_average(log_q):
    """Log of the average over the posteriors."""
    return torch.logsumexp(log_q, 1) - math.log(log_q.shape[1])


@page.wrong("log N forgotten")
def _(z, mean, log_var):
    """You divide by the sum of the N densities: {got}; q(z) is their average, so log N is added,
    {expected}.
    """
    log_q = log_density(z, mean, log_var)
    return (log_q.diagonal() - torch.logsumexp(log_q, 1)).mean()


@page.wrong("own posterior left out of q(z)")
def _(z, mean, log_var):
    """You leave q(z_i|x_i) out of the average q(z_i), and the result may exceed log N: {got};
    x_i is one of the N data points, and with it the result is {expected}.
    """
    n, log_q = mean.shape[0], log_density(z, mean, log_var)
    others = log_q.masked_fill(torch.eye(n, dtype=torch.bool, device=z.device), -math.inf)
    return (log_q.diagonal() - torch.logsumexp(others, 1) + math.log(max(n - 1, 1))).mean()


@page.wrong("prior in place of q(z)")
def _(z, mean, log_var):
    """You compare with the prior p(z), which gives the average KL, marginal KL included: {got};
    mutual information compares with the aggregated posterior q(z), {expected}.
    """
    log_own = -0.5 * ((z - mean) ** 2 * torch.exp(-log_var) + log_var).sum(-1)
    return (log_own + 0.5 * (z**2).sum(-1)).mean()


page.but(
    "sign",
    "You subtract the wrong way round: {got}; it is log q(z_i|x_i) less log q(z_i), {expected}.",
    torch.neg,
)


@page.wrong("every sample under every posterior")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over all pairs: {got}; z_i was drawn from q(z|x_i), and the
    first log is under that posterior alone, {expected}.
    """
    log_q = log_density(z, mean, log_var)
    return log_q.mean() - log_average(log_q).mean()


@page.wrong("average over the samples")
def _(z, mean, log_var):
    """You average q(z_m|x_i) over the samples z_m, axis 0: {got}; q(z_i) averages over the
    posteriors, axis 1, {expected}.
    """
    log_q = log_density(z, mean, log_var)
    return (log_q.diagonal() - log_average(log_q.T)).mean()


@page.wrong("log-sum-exp over each latent dimension")
def _(z, mean, log_var):
    """You form q(z) for each latent by itself and add up: {got}; the latents are independent
    given x, not in q(z), so sum over them before the log-sum-exp, {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var)
    return (log_q.sum(-1).diagonal() - log_average(log_q).sum(-1)).mean()


@page.wrong("mean of logs for log of mean")
def _(z, mean, log_var):
    """You average log q(z_i|x_n) over n: {got}; q(z_i) averages the densities, and its log is
    taken after, {expected}.
    """
    log_q = log_density(z, mean, log_var)
    return (log_q.diagonal() - log_q.mean(1)).mean()


@page.wrong("exponentials that underflow")
def _(z, mean, log_var):
    """You divide densities by their average, and both may be 0 in floating point: {got}; in logs
    it is {expected}.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    q = torch.exp(-0.5 * (squares + log_var + math.log(2 * math.pi)).sum(-1))
    return torch.log(q.diagonal() / q.mean(1)).mean()


@page.wrong("closed-form KL less marginal KL")
def _(z, mean, log_var):
    """You subtract an estimate of the marginal KL from the closed-form average KL: {got}, which
    has the same expectation; asked is the average of log q(z_i|x_i) − log q(z_i) at the samples,
    {expected}.
    """
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1).mean()
    log_aggregate = log_average(log_density(z, mean, log_var))
    return kl - (log_aggregate + 0.5 * (z**2).sum(-1)).mean()


page.but(
    "clamped at 0",
    "You cut the estimate off at 0: {got}; the mutual information is not negative, an unbiased "
    "estimate of it may be, {expected}.",
    lambda information: information.clamp(min=0),
)


@page.wrong("one number for each data point")
def _(z, mean, log_var):
    """You return one number for each data point; their average is asked for, a tensor of shape
    ().
    """
    log_q = log_density(z, mean, log_var)
    return log_q.diagonal() - log_average(log_q)
