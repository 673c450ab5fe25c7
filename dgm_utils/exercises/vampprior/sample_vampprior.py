"""`sample_vampprior`: samples of the VampPrior, each from the component chosen for it."""

import torch

from dgm_utils import vampprior
from dgm_utils.exercises.vampprior import _networks
from nbjudge.asking.page import Page

page = Page(
    vampprior.sample_vampprior,
    "one sample of q(z|u) for each chosen pseudo-input u, shape (S, L)",
    points=2,
    minutes=10,
    difficulty=1,
    axes="C D, _, S, S L -> S L",
    wrt="pseudo encoder noise",
    may_use=(_networks,),
    hints=(
        "Sampling a mixture takes two steps: choose a component, then sample it. The choice is "
        "given.",
        "`pseudo[component]` is `(S, D)`: the pseudo-input of each sample. Encode these, and "
        "reparametrize.",
        "`mean, log_var = encoder(pseudo[component])`, then `mean + exp(log_var / 2) * noise`.",
    ),
)


@page.cases
def _(draw):
    def components(c, s):
        return torch.randint(c, (s,), generator=draw.generator).to(draw.device)

    def random(name, s, c, d, latents, **about):
        args = (draw.uniform(c, d), _networks.Encoder(draw, d, latents), components(c, s))
        return page.case(name, *args, draw.normal(s, latents), **about)

    yield random("one pseudo-input of two pixels, one sample, one latent", 1, 1, 2, 1)
    c, d, latents = draw.integer(3, 4), draw.integer(5, 6), draw.integer(7, 8)
    s = draw.integer(9, 11)
    yield random("all axes of different length", s, c, d, latents)
    yield random("more pseudo-inputs than samples", 2, c, d, 3)
    yield random("one pixel", s, c, 1, 2)

    # Each component once at its mean, once a standard deviation above and once below.
    pseudo, encoder = draw.uniform(c, d), _networks.Encoder(draw, d, 2)
    with torch.no_grad():
        mean, log_var = (t.double().cpu() for t in encoder(pseudo))
    std = torch.exp(0.5 * log_var)
    order = torch.randperm(c, generator=draw.generator)
    noise = draw.tensor([0.0, 1.0, -1.0]).repeat_interleave(c)[:, None].repeat(1, 2)
    args = (pseudo, encoder, order.repeat(3).to(draw.device), noise)
    samples = torch.cat([mean[order], (mean + std)[order], (mean - std)[order]])
    yield page.case("noise of 0, 1 and −1", *args, samples=samples)

    component = torch.full((s,), c - 1, device=draw.device)
    args = (draw.uniform(c, d), _networks.Encoder(draw, d, 2), component, draw.normal(s, 2))
    yield page.case("every sample from the last pseudo-input", *args)
    yield random("300 latents", 2, c, d, 300, extreme=True)
    args = (draw.uniform(d, c).T, _networks.Encoder(draw, d, 3), components(c, 2 * s)[::2])
    args = (*args, draw.normal(3, s).T)
    yield page.case("arguments that are not contiguous in memory", *args)


page.must_equal(
    "samples",
    "With noise 0 a sample is the mean of its component, with noise ±1 one standard deviation "
    "away from it. Yours is not.",
    single=1e-4,
)


@page.formula
def _(pseudo, encoder, component, noise):
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(0.5 * log_var) * noise


@page.wrong("variance taken for the standard deviation")
def _(pseudo, encoder, component, noise):
    """You multiply the noise by exp(log_var): {got}; that is the variance, and the standard
    deviation exp(log_var / 2) gives {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(log_var) * noise


@page.wrong("log-variance taken for the standard deviation")
def _(pseudo, encoder, component, noise):
    """You multiply the noise by log_var itself: {got}; the standard deviation is
    exp(log_var / 2), which gives {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + log_var * noise


@page.wrong("precision taken for the variance")
def _(pseudo, encoder, component, noise):
    """You divide the noise by the standard deviation: {got}; a wide posterior has far samples,
    so multiply, {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(-0.5 * log_var) * noise


@page.wrong("noise left out")
def _(pseudo, encoder, component, noise):
    """You return the means of the posteriors: {got}; a sample has noise of their standard
    deviation around them, {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + 0 * log_var * noise


@page.wrong("components in turn")
def _(pseudo, encoder, component, noise):
    """You take the pseudo-inputs in turn and do not look at `component`: {got}; sample s comes
    from the pseudo-input numbered component[s], {expected}.
    """
    turn = torch.arange(noise.shape[0], device=noise.device) % pseudo.shape[0]
    mean, log_var = encoder(pseudo[turn])
    return mean + torch.exp(0.5 * log_var) * noise


@page.wrong("one component for all")
def _(pseudo, encoder, component, noise):
    """You take every sample from the first component drawn: {got}; each sample has a component of
    its own, {expected}.
    """
    mean, log_var = encoder(pseudo[component[:1]])
    return mean + torch.exp(0.5 * log_var) * noise


@page.wrong("counted from one")
def _(pseudo, encoder, component, noise):
    """You count the components from 1, so you take the one before: {got}; they are numbered from
    0 to C − 1, {expected}.
    """
    mean, log_var = encoder(pseudo[component - 1])
    return mean + torch.exp(0.5 * log_var) * noise


@page.wrong("components averaged")
def _(pseudo, encoder, component, noise):
    """You average the means and variances of all components and sample one Gaussian: {got}; a
    sample of a mixture comes from one component, {expected}.
    """
    mean, log_var = encoder(pseudo)
    return mean.mean(0) + torch.exp(log_var).mean(0).sqrt() * noise


@page.wrong("noise of one sample only")
def _(pseudo, encoder, component, noise):
    """You use the first row of the noise for every sample: {got}; each has its own row,
    {expected}.
    """
    mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(0.5 * log_var) * noise[:1]


@page.wrong("without gradients")
def _(pseudo, encoder, component, noise):
    """Your numbers are right, but you encode under no_grad, so nothing that depends on a sample
    reaches the encoder or the pseudo-inputs.
    """
    with torch.no_grad():
        mean, log_var = encoder(pseudo[component])
    return mean + torch.exp(0.5 * log_var) * noise
