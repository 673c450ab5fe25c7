"""`elbo_surgery`: the ELBO with its average KL cut in two."""

import math

import torch

from dgm_utils import elbo_surgery
from dgm_utils.exercises.elbo_surgery._shared import COARSE, SINGLE, encoder_cases
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    elbo_surgery.elbo_surgery,
    "a dict of reconstruction, mutual_information, marginal_kl and elbo, 0-d tensors",
    points=3,
    minutes=15,
    difficulty=2,
    axes="N, N L, N L, N L -> (), (), (), ()",
    wrt="reconstruction z mean log_var",
    rtol=COARSE,
    hints=(
        "Three log-densities of each sample: log q(z_i|x_i), log q(z_i) and log p(z_i). The first "
        "less the second is mutual information, the second less the third marginal KL.",
        "log q(z_i|x_i) − log p(z_i) = [log q(z_i|x_i) − log q(z_i)] + [log q(z_i) − log p(z_i)]. "
        "Average each over the data; the ELBO is the reconstruction less both.",
        "With the (N, N) matrix `log_q` of log q(z_i|x_n): `log_q.diagonal()`, "
        "`torch.logsumexp(log_q, 1) - math.log(N)` and `-0.5 * (z**2 + math.log(2 * "
        "math.pi)).sum(1)` are the three; put the means into "
        '`{"reconstruction": …, "mutual_information": …, "marginal_kl": …, "elbo": …}`.',
    ),
)


@page.cases
def _(draw):
    for name, (z, mean, log_var), known in encoder_cases(draw):
        facts = {name: value for name, value in known.items() if name != "by_index"}
        # The two names of one estimate.
        if "by_density" in facts:
            facts["information"] = facts.pop("by_density")
        args = (2 * draw.normal(len(z)) - 9, z, mean, log_var)
        yield page.case(name, *args, **facts)

    # p(z) = N(0, 1), p(x|z) = N(z, s²): with the exact posterior every sample gives log p(x).
    n = draw.integer(5, 7)
    s = 0.7
    x = 2 * torch.randn(n, generator=draw.generator, dtype=torch.float64)
    variance = s**2 / (1 + s**2)
    noise = torch.randn(n, generator=draw.generator, dtype=torch.float64)
    mean = x / (1 + s**2)
    z = mean + math.sqrt(variance) * noise
    log_px_given_z = -0.5 * ((x - z) / s) ** 2 - 0.5 * math.log(2 * math.pi * s**2)
    log_px = -0.5 * x**2 / (1 + s**2) - 0.5 * math.log(2 * math.pi * (1 + s**2))
    log_var = [[math.log(variance)]] * n
    args = (log_px_given_z, z[:, None], mean[:, None], log_var)
    args = (draw.tensor(arg) for arg in args)
    yield page.case("q is the posterior", *args, elbo=log_px.mean())


@page.must
def add_up(value):
    """On the same samples the ELBO is the reconstruction less the mutual information less the
    marginal KL, exactly. Yours is not.
    """
    total = value["reconstruction"] - value["mutual_information"] - value["marginal_kl"]
    return is_exact(value["elbo"], total.double().cpu(), single=SINGLE)


page.must_equal(
    "elbo",
    "Where q(z|x) is the posterior, log p(x|z) + log p(z) − log q(z|x) is log p(x) for every z, "
    "so the ELBO is the average of log p(x_i), which is known here. Yours is not.",
    part="elbo",
    single=SINGLE,
)
page.must_equal(
    "information",
    "The mutual information is 0 where all posteriors are the same and log N where none overlap. "
    "Yours is not.",
    part="mutual_information",
    single=SINGLE,
)
page.must_equal(
    "marginal",
    "Where all posteriors are one Gaussian the marginal KL is its KL to the prior; where none "
    "overlap it is the average of log q(z_i|x_i) − log p(z_i), less log N. Yours is not.",
    part="marginal_kl",
    single=SINGLE,
)


@page.formula
def _(reconstruction, z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 / log_var.exp()
    log_q = -0.5 * (squares + log_var + math.log(2 * math.pi)).sum(2)
    log_own = log_q.diagonal()
    log_aggregated = torch.logsumexp(log_q, 1) - math.log(len(mean))
    log_p = -0.5 * (z**2 + math.log(2 * math.pi)).sum(1)
    information = (log_own - log_aggregated).mean()
    divergence = (log_aggregated - log_p).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": divergence,
        "elbo": reconstruction.mean() - information - divergence,
    }


@page.right
def _(reconstruction, z, mean, log_var):
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_aggregate = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    information = (log_q.diagonal() - log_aggregate).mean()
    marginal = (log_aggregate + 0.5 * (z**2).sum(-1)).mean()
    return {
        "reconstruction": reconstruction.mean(),
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction.mean() - information - marginal,
    }


@page.piece
def log_densities(z, mean, log_var):
    """Log-densities of each sample under its own posterior, their average and the prior.

    ½ log 2π, which cancels, is left out.
    """
    squares = (z[:, None] - mean) ** 2 * torch.exp(-log_var)
    log_q = -0.5 * (squares + log_var).sum(-1)
    log_average = torch.logsumexp(log_q, 1) - math.log(mean.shape[0])
    return log_q.diagonal(), log_average, -0.5 * (z**2).sum(-1)


@page.piece
def in_parts(reconstruction, information, marginal):
    """The dict of these three and of the ELBO, which is the first less both others."""
    return {
        "reconstruction": reconstruction,
        "mutual_information": information,
        "marginal_kl": marginal,
        "elbo": reconstruction - information - marginal,
    }


page.but(
    "KL added",
    "You add the two parts of the KL to the reconstruction: {got}; the ELBO subtracts both, "
    "{expected}.",
    lambda parts: {
        **parts,
        "elbo": parts["reconstruction"] + parts["mutual_information"] + parts["marginal_kl"],
    },
)
page.but(
    "mutual information rewarded",
    "You add the mutual information: {got}; the ELBO pays for information in z as well as for the "
    "marginal KL, and subtracts both, {expected}.",
    lambda parts: {
        **parts,
        "elbo": parts["reconstruction"] + parts["mutual_information"] - parts["marginal_kl"],
    },
)
page.but(
    "mutual information left out of the ELBO",
    "You subtract the marginal KL alone: {got}; that would be the ELBO with a free code, and with "
    "the mutual information it is {expected}.",
    lambda parts: {**parts, "elbo": parts["reconstruction"] - parts["marginal_kl"]},
)


@page.wrong("closed-form KL in the ELBO")
def _(reconstruction, z, mean, log_var):
    """You take the closed-form KL in the ELBO and samples in its parts: {got}; on the same
    samples the parts add up exactly, {expected}.
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    information, marginal = (log_own - log_average).mean(), (log_average - log_prior).mean()
    kl = 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)
    parts = in_parts(reconstruction.mean(), information, marginal)
    return {**parts, "elbo": (reconstruction - kl).mean()}


@page.wrong("average KL for the marginal KL")
def _(reconstruction, z, mean, log_var):
    """Your marginal KL compares q(z_i|x_i) with the prior, so the mutual information is in it
    already and counts twice: {got}; with the aggregated posterior q(z_i) it is {expected}.
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    information, marginal = (log_own - log_average).mean(), (log_own - log_prior).mean()
    return in_parts(reconstruction.mean(), information, marginal)


@page.wrong("average KL for the mutual information")
def _(reconstruction, z, mean, log_var):
    """Your mutual information compares q(z_i|x_i) with the prior, so the marginal KL is in it
    already and counts twice: {got}; with the aggregated posterior q(z_i) it is {expected}.
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    information, marginal = (log_own - log_prior).mean(), (log_average - log_prior).mean()
    return in_parts(reconstruction.mean(), information, marginal)


@page.wrong("log N forgotten")
def _(reconstruction, z, mean, log_var):
    """You sum the N posteriors in place of averaging them, which moves log N from one part to
    the other and leaves the ELBO as it is: {got}; with log N it is {expected}.
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    log_sum = log_average + math.log(mean.shape[0])
    information, marginal = (log_own - log_sum).mean(), (log_sum - log_prior).mean()
    return in_parts(reconstruction.mean(), information, marginal)


page.but(
    "sums over the data",
    "You sum over the data points: {got}; all four numbers are averages, {expected}.",
    lambda parts, z: {name: len(z) * part for name, part in parts.items()},
)


@page.wrong("one number for each data point")
def _(reconstruction, z, mean, log_var):
    """Your four entries have one number for each data point; average each over the data, shape
    ().
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    return in_parts(reconstruction, log_own - log_average, log_average - log_prior)


@page.wrong("reconstruction taken for a loss")
def _(reconstruction, z, mean, log_var):
    """You turn the sign of the reconstruction: {got}; it is log p(x_i|z_i) already, not a loss,
    {expected}.
    """
    log_own, log_average, log_prior = log_densities(z, mean, log_var)
    information, marginal = (log_own - log_average).mean(), (log_average - log_prior).mean()
    return in_parts(-reconstruction.mean(), information, marginal)


page.but(
    "numbers for tensors",
    "You return Python numbers, as `.item()` makes them, and no gradient flows through those; "
    "return the 0-d tensors.",
    lambda parts: {name: part.item() for name, part in parts.items()},
)
