"""`subset_bound`: the m-sample bound, averaged over all subsets of m of the K samples."""

import itertools
import math

import torch

from dgm_utils import iwae
from dgm_utils.exercises.iwae._shared import SINGLE
from nbjudge.asking.page import Page
from nbjudge.asking.statements import at_most, is_exact

page = Page(
    iwae.subset_bound,
    "the m-sample bound averaged over all subsets of m samples, shape (B,)",
    points=3,
    minutes=20,
    difficulty=2,
    axes="K B, _ -> B",
    wrt="log_w",
    hints=(
        "Every subset of m of the K samples has its own bound, log of the average of its m "
        "weights. Average these numbers over all the subsets.",
        "`itertools.combinations(range(K), m)` lists the subsets; `log_w[list(subset)]` has shape "
        "(m, B) and its bound is `iwae_bound` of it.",
        "Stack `torch.logsumexp(log_w[list(s)], 0) - math.log(m)` for all s in "
        "`itertools.combinations(range(log_w.shape[0]), m)`, then take the mean over the stack.",
    ),
)


@page.cases
def _(draw):
    log_w = draw.tensor([[1.0, 1.0], [1.0, 5.0], [1.0, 5.0], [3.0, 1.0]]).log()
    # The six pairs average to 1, 1, 1, 2, 2, 2 and to 3, 3, 3, 3, 1, 5.
    exact = [3 * math.log(2) / 6, (4 * math.log(3) + math.log(5)) / 6]
    yield page.case("pairs of the weights 1, 1, 1, 3 and 1, 5, 5, 1", log_w, m=2, bound=exact)
    yield page.case("one sample, m = 1", draw.normal(1, 3), m=1)
    k, b = draw.integer(5, 6), draw.integer(2, 3)
    log_w = 2 * draw.normal(k, b) - 1
    yield page.case("subsets of three", log_w, m=3)
    yield page.case("m = 1", log_w, m=1)
    yield page.case("m = K", draw.normal(4, b), m=4)
    yield page.case(
        "pairs of log-weights near −10⁴", 2 * draw.normal(5, b) - 1e4, m=2, extreme=True
    )
    scale = draw.tensor([0.0, -1e4, 1e4])
    yield page.case("data points 10⁴ apart", 2 * draw.normal(5, 3) + scale, m=3, extreme=True)
    log_w = (2 * draw.normal(1, 7) + 3).T
    yield page.case("one data point, seven positive log-weights", log_w, m=2)


@page.must
def lie_between_the_elbo_and_the_bound(value, log_w, m):
    """Averaged over subsets the bound lies between the ELBO (reached at m = 1) and L_K
    (reached at m = K). Yours does not.
    """
    elbo, bound = log_w.mean(0), torch.logsumexp(log_w, 0) - math.log(len(log_w))
    if m == 1:
        return is_exact(value, elbo.double().cpu(), single=SINGLE)
    if m == len(log_w):
        return is_exact(value, bound.double().cpu(), single=SINGLE)
    return at_most(elbo, value) and at_most(value, bound)


page.must_equal(
    "bound",
    "Three of the six pairs of the weights 1, 1, 1, 3 average to 1 and three to 2, so the result "
    "is ½ log 2. Yours is not.",
    single=SINGLE,
)


@page.formula
def _(log_w, m):
    subsets = itertools.combinations(range(len(log_w)), m)
    bounds = [torch.logsumexp(log_w[list(subset)], 0) - math.log(m) for subset in subsets]
    return torch.stack(bounds).mean(0)


@page.piece
def in_subsets(log_w, m):
    """The log-weights of each subset, `(subsets, m, B)`."""
    return log_w[torch.tensor(list(itertools.combinations(range(len(log_w)), m)))]


@page.piece
def bounds_of_subsets(log_w, m):
    """The m-sample bound of each subset, `(subsets, B)`."""
    return torch.logsumexp(in_subsets(log_w, m), 1) - math.log(m)


@page.wrong("first m samples")
def _(log_w, m):
    """You use the first m samples only: {got}; the average over all subsets of size m is
    {expected}.
    """
    return torch.logsumexp(log_w[:m], 0) - math.log(m)


@page.wrong("consecutive blocks")
def _(log_w, m):
    """You cut the samples into blocks of m: {got}; these are few of the subsets, and all of
    them average to {expected}.
    """
    blocks = log_w[: len(log_w) // m * m].reshape(-1, m, log_w.shape[1])
    return (torch.logsumexp(blocks, 1) - math.log(m)).mean(0)


@page.wrong("neighbours only")
def _(log_w, m):
    """You slide a window of m neighbours over the samples: {got}; a subset need not be
    neighbours, and all of them average to {expected}.
    """
    windows = log_w.unfold(0, m, 1)
    return (torch.logsumexp(windows, -1) - math.log(m)).mean(0)


@page.wrong("draws with repetition")
def _(log_w, m):
    """You draw m indices with repetition: {got}; a subset holds each sample at most once,
    {expected}.
    """
    draws = torch.tensor(list(itertools.product(range(len(log_w)), repeat=m)))
    return (torch.logsumexp(log_w[draws], 1) - math.log(m)).mean(0)


@page.wrong("multisets for subsets")
def _(log_w, m):
    """You use combinations with replacement, which repeat a sample: {got}; with
    `itertools.combinations` it is {expected}.
    """
    draws = itertools.combinations_with_replacement(range(len(log_w)), m)
    return (torch.logsumexp(log_w[torch.tensor(list(draws))], 1) - math.log(m)).mean(0)


@page.wrong("log K for log m")
def _(log_w, m):
    """You divide by K within a subset: {got}; a subset has m samples, {expected}."""
    return (torch.logsumexp(in_subsets(log_w, m), 1) - math.log(len(log_w))).mean(0)


@page.wrong("log m forgotten")
def _(log_w, m):
    """You sum the weights of a subset: {got}; its bound is the log of their average, so log m
    is subtracted, {expected}.
    """
    return torch.logsumexp(in_subsets(log_w, m), 1).mean(0)


@page.wrong("average inside the log")
def _(log_w, m):
    """You average over the subsets inside the log, which gives back L_K: {got}; average the
    bounds, outside the log, {expected}.
    """
    bounds = bounds_of_subsets(log_w, m)
    return torch.logsumexp(bounds, 0) - math.log(len(bounds))


@page.wrong("sum over the subsets")
def _(log_w, m):
    """You sum over the subsets: {got}; their average is {expected}."""
    return bounds_of_subsets(log_w, m).sum(0)


@page.wrong("mean of logs within a subset")
def _(log_w, m):
    """You average the logs within each subset, which gives the ELBO for any m: {got}; the bound
    of a subset is the log of its average weight, {expected}.
    """
    return in_subsets(log_w, m).mean(1).mean(0)


@page.wrong("exponentials that underflow")
def _(log_w, m):
    """You exponentiate the log-weights themselves, and e^(−10⁴) is 0 in floating point: {got};
    with log-sum-exp it is {expected}.
    """
    return torch.log(torch.exp(in_subsets(log_w, m)).mean(1)).mean(0)


@page.wrong("best m samples")
def _(log_w, m):
    """You keep the m largest weights: {got}; every subset counts equally, {expected}."""
    return torch.logsumexp(log_w.topk(m, dim=0).values, 0) - math.log(m)
