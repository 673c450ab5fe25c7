"""`gaussian_elbo`: the ELBO of a VAE with the exact KL."""

import math

import torch
import torch.nn.functional as F

from dgm_utils import latent_variable_models
from dgm_utils.exercises.latent_variable_models._shared import gauss_hermite
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.gaussian_elbo,
    "log p(x|z) of one sample, less the exact KL of q to the prior, shape (B,)",
    points=2,
    minutes=10,
    difficulty=1,
    axes="B D, B D, B L, B L -> B",
    wrt="logits mean log_var",
    hints=(
        "ELBO = E_q log p(x|z) − KL(q(z|x)‖p(z)). The first term is estimated by the one sample "
        "that made the logits, the second has a closed form.",
        "The reconstruction is a Bernoulli log-likelihood with logits, summed over the pixels; the "
        "KL is ½ Σ (μ² + σ² − 1 − log σ²), summed over the latents.",
        "`(x * logits - F.softplus(logits)).sum(-1)`, minus "
        "`0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(-1)`.",
    ),
)

page.terms(
    {
        "log p(x|z)": lambda x, logits: (x * logits - F.softplus(logits)).sum(-1),
        "the KL": latent_variable_models.gaussian_kl,
    }
)
page.terms(
    {
        "log p(x|z)": lambda x, logits: (x * logits - F.softplus(logits)).sum(-1),
        "the average of log p(z)": lambda mean, log_var: (
            -0.5 * (mean.square() + log_var.double().exp() + math.log(2 * math.pi)).sum(-1)
        ),
        "the entropy of q": lambda log_var: (
            0.5 * (1 + math.log(2 * math.pi) + log_var.double()).sum(-1)
        ),
    }
)
page.terms(
    {
        "log p(x|z)": lambda x, logits: (x * logits - F.softplus(logits)).sum(-1),
        "Σ μ²": lambda mean: mean.square().sum(-1),
        "Σ σ²": lambda log_var: log_var.double().exp().sum(-1),
        "Σ log σ²": lambda log_var: log_var.sum(-1),
        "L": lambda mean: mean.new_tensor(float(mean.shape[1])),
    }
)


@page.cases
def _(draw):
    def encoded(b, latents):
        return draw.normal(b, latents), draw.normal(b, latents) - 0.5

    # −log 2 less the KL, ½ (1 + 4 − 1 − log 4).
    args = [[1.0]], [[0.0]], [[1.0]], [[math.log(4)]]
    name = "one pixel with p = ½, q = N(1, 4)"
    yield page.case(name, *map(draw.tensor, args), elbo=[-2.0])
    b, d = draw.integer(5, 6), draw.integer(7, 9)
    args = draw.bernoulli(b, d), 2 * draw.normal(b, d), *encoded(b, 3)
    yield page.case("all axes of different length", *args)
    args = draw.bernoulli(1, d), 2 * draw.normal(1, d), *encoded(1, 4)
    yield page.case("one data point", *args)
    logits = 100 * (2 * draw.bernoulli(b, d) - 1)
    yield page.case("logits of ±100", draw.bernoulli(b, d), logits, *encoded(b, 2), extreme=True)
    # A decoder that ignores z has the prior as its posterior.
    p = 0.1 + 0.8 * torch.rand(b, 4, generator=draw.generator, dtype=torch.float64)
    x = torch.randint(2, (b, 4), generator=draw.generator).double()
    log_px = torch.where(x == 1, p, 1 - p).log().sum(-1)
    zero = draw.tensor(torch.zeros(b, 2))
    args = draw.tensor(x), draw.tensor(torch.log(p / (1 - p))), zero, zero
    yield page.case("the decoder ignores z and q is the prior", *args, elbo=log_px)

    # Logits linear in one latent, z at the nodes of a quadrature.
    nodes, node_weights = gauss_hermite(40)
    x = torch.randint(2, (1, 3), generator=draw.generator).double()
    slope = torch.randn(1, 3, generator=draw.generator, dtype=torch.float64)
    mean, std = 0.4, 0.7
    z = mean + std * nodes[:, None]
    logits = slope * z + 0.3
    log_joint = (x * logits - F.softplus(logits)).sum(1) - 0.5 * (z**2).sum(1)
    log_q = -0.5 * nodes**2 - math.log(std)
    columns = x.repeat(40, 1), logits, 0 * z + mean, 0 * z + 2 * math.log(std)
    facts = {"average": node_weights @ (log_joint - log_q), "node_weights": node_weights}
    yield page.case("z at the nodes of a quadrature", *map(draw.tensor, columns), **facts)

    args = draw.bernoulli(b, 3), draw.normal(b, 3), draw.normal(b, 2), draw.normal(b, 2) - 30
    yield page.case("a narrow q", *args, extreme=True)
    args = draw.bernoulli(2, 300), draw.normal(2, 300), *encoded(2, 300)
    yield page.case("300 pixels and 300 latents", *args, extreme=True)
    args = draw.bernoulli(d, b).T, draw.normal(d, b).T, draw.normal(3, b).T, draw.normal(3, b).T
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "elbo",
    "Where the decoder ignores z and q is the prior the ELBO is log p(x); one pixel with p = ½ and "
    "q = N(1, 4) has −2. Yours is different.",
)


@page.must
def average_to_the_elbo(value, average, node_weights):
    """Averaged over z ~ q, by quadrature, the result must be E_q [log p(x, z) − log q(z|x)]. Yours
    is not.
    """
    return is_exact((node_weights @ value.double().cpu()).to(value.dtype), average)


@page.formula
def _(x, logits, mean, log_var):
    log_px = (x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(1)
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
    return log_px - kl


@page.formula
def _(x, logits, mean, log_var):
    p = torch.sigmoid(logits)
    log_px = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(1)
    kl = 0.5 * (mean**2 + log_var.exp() - 1 - log_var).sum(1)
    return log_px - kl


@page.piece
def reconstruction(x, logits):
    """log p(x|z) of a Bernoulli."""
    return (x * logits - F.softplus(logits)).sum(-1)


@page.piece
def kl(mean, log_var):
    """KL(q(z|x)‖p(z))."""
    return 0.5 * (mean**2 + torch.exp(log_var) - 1 - log_var).sum(-1)


@page.wrong("KL added")
def _(x, logits, mean, log_var):
    """You add the KL: {got}; the ELBO is the reconstruction less the KL, {expected}."""
    return reconstruction(x, logits) + kl(mean, log_var)


@page.wrong("loss for ELBO")
def _(x, logits, mean, log_var):
    """You return the negative ELBO, a loss: {got}; the ELBO itself is {expected}."""
    return kl(mean, log_var) - reconstruction(x, logits)


@page.wrong("reconstruction only")
def _(x, logits, mean, log_var):
    """You return the reconstruction alone, the objective of a plain autoencoder: {got}; the KL
    to the prior is subtracted, {expected}.
    """
    return reconstruction(x, logits) + 0 * (mean + log_var).sum(-1)


@page.wrong("½ missing")
def _(x, logits, mean, log_var):
    """Your KL lacks the factor ½: {got}; with ½ Σ (μ² + σ² − 1 − log σ²) the ELBO is
    {expected}.
    """
    return reconstruction(x, logits) - 2 * kl(mean, log_var)


@page.wrong("entropy left out")
def _(x, logits, mean, log_var):
    """You leave the entropy of q out, E_q log p(x, z) only: {got}; −log q(z|x) belongs to the
    ELBO, {expected}.
    """
    squares = mean**2 + torch.exp(log_var)
    return reconstruction(x, logits) - 0.5 * (squares + math.log(2 * math.pi)).sum(-1)


@page.wrong("prior left out")
def _(x, logits, mean, log_var):
    """You add the entropy of q and leave the prior out: {got}; the ELBO has E_q log p(z) too,
    {expected}.
    """
    entropy = 0.5 * (1 + math.log(2 * math.pi) + log_var).sum(-1)
    return reconstruction(x, logits) + entropy + 0 * mean.sum(-1)


@page.wrong("KL with its arguments exchanged")
def _(x, logits, mean, log_var):
    """You subtract KL(p(z)‖q): {got}; the ELBO has KL(q‖p(z)), {expected}."""
    exchanged = 0.5 * (torch.exp(-log_var) * (1 + mean**2) - 1 + log_var).sum(-1)
    return reconstruction(x, logits) - exchanged


@page.wrong("variance taken for the standard deviation")
def _(x, logits, mean, log_var):
    """You use exp(log_var) as the standard deviation of q: {got}; it is the variance, which
    gives {expected}.
    """
    wide = 0.5 * (mean**2 + torch.exp(log_var) ** 2 - 1 - 2 * log_var).sum(-1)
    return reconstruction(x, logits) - wide


@page.wrong("mean over the pixels")
def _(x, logits, mean, log_var):
    """You average the reconstruction over the pixels, so the KL weighs D times too much: {got};
    the sum gives {expected}.
    """
    return reconstruction(x, logits) / x.shape[1] - kl(mean, log_var)


@page.wrong("KL averaged over the latents")
def _(x, logits, mean, log_var):
    """You average the KL over the latents: {got}; their KL divergences add up, {expected}."""
    return reconstruction(x, logits) - kl(mean, log_var) / mean.shape[1]


@page.wrong("KL of the whole batch")
def _(x, logits, mean, log_var):
    """You subtract the KL of the whole batch from each reconstruction: {got}; a data point pays
    for its own q only, {expected}.
    """
    return reconstruction(x, logits) - kl(mean, log_var).sum()


@page.wrong("mean over the batch")
def _(x, logits, mean, log_var):
    """You average over the data points; each has its own ELBO, shape (B,)."""
    return (reconstruction(x, logits) - kl(mean, log_var)).mean()


@page.wrong("logits taken for probabilities")
def _(x, logits, mean, log_var):
    """You take the logits for probabilities: {got}; p(x = 1|z) is their sigmoid, {expected}."""
    p = logits.clamp(1e-6, 1 - 1e-6)
    log_px_given_z = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum(-1)
    return log_px_given_z - kl(mean, log_var)


@page.wrong("log of a rounded sigmoid")
def _(x, logits, mean, log_var):
    """You take the cross-entropy of sigmoid(logits), which rounds to 0 or 1 at large logits and
    loses the gradient: {got}; the cross-entropy with logits keeps it, {expected}.
    """
    p = torch.sigmoid(logits)
    log_px_given_z = -F.binary_cross_entropy(p, x, reduction="none").sum(-1)
    return log_px_given_z - kl(mean, log_var)


@page.wrong("q detached")
def _(x, logits, mean, log_var):
    """Your numbers are right, but you detach mean and log_var in the KL, so nothing holds q near
    the prior; differentiate the KL too.
    """
    return reconstruction(x, logits) - kl(mean, log_var).detach()
