"""`active_units`: the latent units whose posterior mean varies with x."""

import torch

from dgm_utils import iwae
from nbjudge.asking.page import Page

page = Page(
    iwae.active_units,
    "which units' posterior means have a variance above the threshold, bool (L,)",
    points=1,
    minutes=5,
    difficulty=1,
    axes="N L, _ -> L",
    hints=(
        "A unit that q ignores has the same posterior mean for every x.",
        "For each column, the variance over the N data points, compared with `threshold`.",
        "`means.var(0)` and one comparison.",
    ),
)


@page.cases
def _(draw):
    def means(n, variances, shift):
        """Columns with these variances (N − 1); with N they are at most a tenth smaller."""
        noise = draw.normal(n, len(variances))
        noise = (noise - noise.mean(0)) / noise.std(0)
        offset = shift * (2 * draw.uniform(len(variances)) - 1)
        return offset + noise * draw.tensor(variances).sqrt()

    n = draw.integer(20, 30)
    yield page.case("variances 1 and 0", means(n, [1.0, 0.0], 0.0), active=[True, False])
    columns = means(n, [0.04, 0.004, 0.013, 0.007, 0.5, 2e-4], 2.0)
    active = [True, False, True, False, True, False]
    yield page.case("the default threshold, means far from 0", columns, active=active)
    columns = means(n, [0.04, 2.0, 0.3, 0.7, 0.4], 1.0)
    active = [False, True, False, True, False]
    yield page.case("threshold ½", columns, threshold=0.5, active=active)
    columns = means(n, [4.0, 2.0, 30.0], 1.0)
    yield page.case("threshold 3", columns, threshold=3.0, active=[True, False, True])
    columns, active = means(n, [1e-3, 2e-5, 2e-4, 5e-5], 0.1), [True, False, True, False]
    yield page.case("threshold 10⁻⁴", columns, threshold=1e-4, active=active)
    yield page.case("one unit", means(n, [0.1], 1.0), threshold=0.01, active=[True])
    variances = [10.0 ** (-draw.integer(0, 4) - 0.5) for _ in range(24)]
    active = [variance > 0.01 for variance in variances]
    columns = means(24, variances, 1.0)
    yield page.case("as many data points as units", columns, threshold=0.01, active=active)
    columns = means(n, [1.0, 1e-3, 1e-3, 0.2], 1.0).T.contiguous().T
    active = [True, False, False, True]
    name = "an argument that is not contiguous in memory"
    yield page.case(name, columns, threshold=0.05, active=active)


@page.must
def be_exact(value, active):
    """A unit whose posterior mean is the same for all data carries no information, and one
    whose mean varies more than the threshold does. Yours says otherwise.
    """
    return value.tolist() == active


@page.right
def _(means, threshold=0.01):
    return means.var(0) > threshold


@page.wrong("standard deviation for variance")
def _(means, threshold=0.01):
    """You compare the standard deviation with the threshold: {got}; the statistic is the
    variance, {expected}.
    """
    return means.std(0) > threshold


@page.wrong("fixed threshold")
def _(means, threshold=0.01):
    """You compare with 0.01 whatever threshold is passed: {got}; with the one asked for it is
    {expected}.
    """
    return means.var(0) > 0.01


@page.wrong("second moment")
def _(means, threshold=0.01):
    """You average the squared means, so a unit that is constant but not 0 counts as active:
    {got}; the variance subtracts the average first, {expected}.
    """
    return (means**2).mean(0) > threshold


@page.wrong("size of the mean")
def _(means, threshold=0.01):
    """You ask whether the average differs from 0: {got}; a unit is active when its mean varies
    with x, {expected}.
    """
    return means.mean(0).abs() > threshold


@page.wrong("variance over the units")
def _(means, threshold=0.01):
    """You take the variance over the units, axis 1; it is over the data, axis 0, and there is
    one answer for each unit, shape (L,).
    """
    return means.var(1, correction=0) > threshold


page.but(
    "count", "You return how many units are active; return which ones, a bool for each.", torch.sum
)
page.but(
    "indices",
    "You return the indices of the active units; return a bool for each unit, shape (L,).",
    lambda active: torch.nonzero(active).flatten(),
)
page.but(
    "numbers for bools",
    "Your zeros and ones are right but not of dtype bool; return the comparison itself.",
    lambda active, means: active.to(means.dtype),
)


@page.wrong("variances")
def _(means, threshold=0.01):
    """You return the variances; compare them with the threshold."""
    return means.var(0)


@page.wrong("inactive units")
def _(means, threshold=0.01):
    """You mark the units below the threshold: {got}; active ones are above, {expected}."""
    return means.var(0) < threshold


@page.wrong("relative to the largest")
def _(means, threshold=0.01):
    """You compare with the threshold times the largest variance: {got}; the threshold is
    absolute, {expected}.
    """
    variance = means.var(0)
    return variance > threshold * variance.max()
