"""`reparameterize`: a sample of a Gaussian as a function of its parameters and noise."""

import itertools

import torch

from dgm_utils import latent_variable_models
from nbjudge.asking.page import Page
from nbjudge.asking.statements import is_exact

page = Page(
    latent_variable_models.reparameterize,
    "z = mean + scale_tril · noise for each data point, shape (B, L)",
    points=1,
    minutes=10,
    difficulty=1,
    axes="B L, B L L, B L -> B L",
    wrt="mean scale_tril noise",
    hints=(
        "A linear map of standard normal noise: E zzᵀ − μμᵀ = L E[εεᵀ] Lᵀ = LLᵀ.",
        "One matrix-vector product for each data point: z_bi = μ_bi + Σ_j L_bij ε_bj.",
        "`scale_tril @ noise.unsqueeze(-1)` is (B, L, 1): squeeze the last axis and add the mean.",
    ),
)

page.terms(
    {
        "μ": lambda mean: mean,
        "L ε": lambda scale_tril, noise: torch.einsum("bij,bj->bi", scale_tril, noise),
    }
)


@page.cases
def _(draw):
    def case(name, *args, **facts):
        # Nothing above the diagonal belongs to the argument.
        return page.case(name, *args, project={"scale_tril": torch.tril}, **facts)

    def factor(b, latents):
        lower = draw.normal(b, latents, latents).tril(-1)
        return lower + torch.diag_embed(torch.exp(0.5 * draw.normal(b, latents)))

    args = [[1.0, 2.0]], [[[2.0, 0.0], [1.0, 3.0]]], [[1.0, -1.0]]
    yield case("two latents, noise 1 and −1", *map(draw.tensor, args), z=[[3.0, 0.0]])
    b, latents = draw.integer(5, 7), draw.integer(3, 4)
    mean, noise = draw.normal(b, latents), draw.normal(b, latents)
    yield case("more data points than latents", mean, factor(b, latents), noise)
    yield case("one latent", draw.normal(b, 1), factor(b, 1), draw.normal(b, 1))
    yield case("one data point", draw.normal(1, latents), factor(1, latents), mean[:1])
    mean, noise = draw.normal(latents, latents), draw.normal(latents, latents)
    yield case("as many latents as data points", mean, factor(latents, latents), noise)
    # Noise at the corners of a cube has mean 0 and covariance I exactly.
    noise = draw.tensor(list(itertools.product([-1.0, 1.0], repeat=3)))
    mean, scale_tril = draw.normal(1, 3).repeat(8, 1), factor(1, 3).repeat(8, 1, 1)
    yield case("noise at the corners of a cube", mean, scale_tril, noise, moments=True)
    args = draw.normal(2, 300), factor(2, 300) / 10, draw.normal(2, 300)
    yield case("300 latents", *args, extreme=True)
    upper = factor(b, latents).mT.contiguous()
    args = draw.normal(latents, b).T, upper.mT, draw.normal(latents, b).T
    yield case("arguments that are not contiguous in memory", *args)


@page.must
def have_the_moments(value, mean, scale_tril, moments):
    """Over noise of mean 0 and covariance I, z must have the mean μ and the covariance LLᵀ. Yours
    has not.
    """
    mean, scale_tril, z = (arg.double().cpu() for arg in (mean[0], scale_tril[0], value))
    centred = z - z.mean(0)
    right = mean, scale_tril @ scale_tril.T
    found = z.mean(0), centred.T @ centred / len(z)
    return all(is_exact(f.to(value.dtype), r) for f, r in zip(found, right, strict=True))


page.must_equal(
    "z", "With μ = (1, 2), L = ((2, 0), (1, 3)) and ε = (1, −1), z is (3, 0). Yours is not."
)


@page.formula
def _(mean, scale_tril, noise):
    return mean + (scale_tril @ noise[:, :, None])[:, :, 0]


@page.wrong("transposed")
def _(mean, scale_tril, noise):
    """You multiply the noise by the transpose, so the covariance of z is LᵀL: {got}; with L
    itself it is LLᵀ, and the result {expected}.
    """
    return mean + torch.einsum("bji,bj->bi", scale_tril, noise)


@page.wrong("diagonal only")
def _(mean, scale_tril, noise):
    """You use the diagonal of L only, so the latents are independent: {got}; the entries below
    it correlate them, {expected}.
    """
    return mean + scale_tril.diagonal(dim1=-2, dim2=-1) * noise


@page.wrong("covariance for its factor")
def _(mean, scale_tril, noise):
    """You multiply the noise by LLᵀ, so the covariance of z is the square of that: {got}; the
    factor L alone gives {expected}.
    """
    covariance = scale_tril @ scale_tril.mT
    return mean + (covariance @ noise.unsqueeze(-1)).squeeze(-1)


@page.wrong("noise paired with the rows of L")
def _(mean, scale_tril, noise):
    """You multiply row i of L by noise_i and sum the row: {got}; the product Lε takes
    L_ij ε_j, {expected}.
    """
    return mean + (scale_tril * noise.unsqueeze(-1)).sum(-1)


@page.wrong("the mean scaled too")
def _(mean, scale_tril, noise):
    """You multiply L with mean + noise: {got}; only the noise is scaled, {expected}."""
    return (scale_tril @ (mean + noise).unsqueeze(-1)).squeeze(-1)


@page.wrong("first matrix for all")
def _(mean, scale_tril, noise):
    """You use the first data point's L for the whole batch: {got}; each has its own,
    {expected}.
    """
    return mean + noise @ scale_tril[0].T


@page.wrong("every matrix with every noise")
def _(mean, scale_tril, noise):
    """You multiply the whole batch of noise with each matrix, which gives (B, B, L); data point b
    has its own matrix and its own noise, shape (B, L).
    """
    return mean + noise @ scale_tril.mT


@page.wrong("noise not scaled")
def _(mean, scale_tril, noise):
    """You add the noise itself, so the covariance of z is I: {got}; with Lε the result is
    {expected}.
    """
    return mean + noise


@page.wrong("mean left out")
def _(mean, scale_tril, noise):
    """You leave the mean out: {got}; z = μ + Lε is {expected}."""
    return torch.einsum("bij,bj->bi", scale_tril, noise)


page.but(
    "detached",
    "Your numbers are right, but you detach z, and to let gradients through the sample is the "
    "point of the reparametrization.",
    torch.detach,
)
