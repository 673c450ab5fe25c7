"""`train_vampprior`: a VAE trained together with the pseudo-inputs of its VampPrior."""

import functools

import torch
import torch.nn.functional as F

from dgm_utils.exercises.vampprior import _training
from nbjudge.asking.page import Page

page = Page(
    _training.train_vampprior,
    "weights and raw of a VAE with a VampPrior after training, (list of 8, (C, D))",
    points=4,
    minutes=35,
    difficulty=3,
    axes="T B D, T B L, _, C D -> _",
    compare=False,
    # For naming a known wrong answer only: 300 steps make rounding errors larger.
    rtol={torch.float64: 1e-3, torch.float32: 1e-2},
    time_limit=30.0,
    hints=(
        "In each step: encode x, sample z with the noise given, decode; encode the pseudo-inputs "
        "with the same encoder; then −ELBO, backward, a step of Adam on the weights and on `raw`.",
        "Train copies: `w.clone().requires_grad_()`. The encoder is `(torch.tanh(u @ w1 + b1) @ w2 "
        "+ b2).chunk(2, -1)` for images and pseudo-inputs alike, and the prior is encoded anew in "
        "each step.",
        "The loss is `-(log_px + log_pz - log_qz).mean()` with log_px summed over pixels, log_qz "
        "over latents, and log_pz the log-sum-exp over the components of what is summed over "
        "latents, less log C.",
    ),
)


@page.cases
def _(draw):
    def start(steps, batch, components, hidden, latents):
        images = _training.images("train")
        rows = torch.randint(len(images), (steps, batch), generator=draw.generator)
        batches = draw.tensor(images[rows])
        weights = [draw.tensor(weight) for weight in _training.first_weights(hidden, latents)]
        chosen = images[torch.randperm(len(images), generator=draw.generator)[:components]]
        raw = draw.tensor(torch.where(chosen > 0.5, 3.0, -3.0))
        return batches, draw.normal(steps, batch, latents), weights, raw

    sizes = draw.integer(2, 3), draw.integer(4, 5), draw.integer(6, 7), 8, 3
    yield page.case("two or three steps", *start(*sizes))
    held_out = {
        "held_out": draw.tensor(_training.images("test")),
        "held_out_noise": draw.normal(20, 297, 8),
    }
    args = start(300, 100, draw.integer(46, 54), 100, 8)

    @functools.cache
    def baseline():
        """The result of a training, which is the same for every answer on this case."""
        weights = _training.train_standard_normal(*args[:3])
        return _training.held_out_elbo(*held_out.values(), weights)

    yield page.case("300 steps on the digits", *args, **held_out, baseline=baseline)


@page.must
def keep_the_form(value, weights, raw):
    """The trained tensors must come back in the order, shapes and dtype of those given. Yours do
    not.
    """
    pairs = zip([*value[0], value[1]], [*weights, raw], strict=True)
    return all((a.shape, a.dtype, a.device) == (b.shape, b.dtype, b.device) for a, b in pairs)


@page.must
def be_finite(value):
    """Something overflowed: a trained number is infinite or not a number."""
    return all(bool(t.isfinite().all()) for t in [*value[0], value[1]])


@page.must
def learn_the_pseudo_inputs(value, raw):
    """`raw` came back as it was: the pseudo-inputs were not trained."""
    return not torch.equal(value[1], raw)


@page.must
def be_better_than_a_standard_normal(value, held_out, held_out_noise, baseline):
    """With the sigmoids of your `raw` as pseudo-inputs, the ELBO on the images held out is not 0.25
    nats above that of a standard normal prior, trained with the same batches, noise and Adam.
    """
    elbo = _training.held_out_elbo(held_out, held_out_noise, *value)
    # Nats on images held out, mean ± standard deviation over five seeds: standard normal
    # −19.43 ± 0.11, the VampPrior better by 0.55 ± 0.06. Over thirty runs from six starts of the
    # weights: by 0.38 to 0.85.
    return elbo >= baseline() + 0.25


@page.piece
def encoded(u, weights):
    """Mean and log-variance of q(z|u)."""
    w1, b1, w2, b2 = weights[:4]
    return (torch.tanh(u @ w1 + b1) @ w2 + b2).chunk(2, -1)


@page.piece
def sampled(x, eps, weights):
    """A sample z, log p(x|z) and log q(z|x), this without the constant that cancels."""
    mean, log_var = encoded(x, weights)
    z = mean + torch.exp(0.5 * log_var) * eps
    v1, c1, v2, c2 = weights[4:]
    logits = torch.tanh(z @ v1 + c1) @ v2 + c2
    log_px = (x * logits - F.softplus(logits)).sum(-1)
    return z, log_px, -0.5 * (eps**2 + log_var).sum(-1)


@page.piece
def log_each(z, mean, log_var):
    """Log-density of z under each component in each dimension, without a constant."""
    return -0.5 * ((z.unsqueeze(1) - mean) ** 2 * torch.exp(-log_var) + log_var)


@page.piece
def trained(batches, noise, weights, raw, elbo, raw_too=True):
    """Copies of the weights and of raw after a step of Adam for each batch."""
    weights = [weight.detach().clone().requires_grad_() for weight in weights]
    raw = raw.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([*weights, raw] if raw_too else weights, lr=0.01)
    for x, eps in zip(batches, noise, strict=True):
        optimizer.zero_grad()
        (-elbo(x, eps, weights, raw).mean()).backward()
        optimizer.step()
    return [weight.detach() for weight in weights], raw.detach()


@page.wrong("standard normal prior")
def _(batches, noise, weights, raw):
    """You train with a standard normal prior, so the pseudo-inputs stay where they started; put
    the mixture of their posteriors in its place.
    """

    def elbo(x, eps, weights, raw):
        z, log_px, log_qz = sampled(x, eps, weights)
        return log_px + (-0.5 * (z**2).sum(-1) - log_qz)

    return trained(batches, noise, weights, raw, elbo)


@page.wrong("pseudo-inputs not given to the optimizer")
def _(batches, noise, weights, raw):
    """You train the weights only: gradients reach the pseudo-inputs, but no step is made with
    them; give `raw` to the optimizer too.
    """

    def elbo(x, eps, weights, raw):
        z, log_px, log_qz = sampled(x, eps, weights)
        mean, log_var = encoded(torch.sigmoid(raw), weights)
        log_pz = torch.logsumexp(log_each(z, mean, log_var).sum(-1), 1)
        return log_px + log_pz - log_qz

    return trained(batches, noise, weights, raw, elbo, raw_too=False)


@page.wrong("prior cut off")
def _(batches, noise, weights, raw):
    """You encode the pseudo-inputs under no_grad or detach the result, so the prior runs after
    the encoder and the pseudo-inputs get no gradient at all; differentiate through it.
    """

    def elbo(x, eps, weights, raw):
        z, log_px, log_qz = sampled(x, eps, weights)
        with torch.no_grad():
            mean, log_var = encoded(torch.sigmoid(raw), weights)
        log_pz = torch.logsumexp(log_each(z, mean, log_var).sum(-1), 1)
        return log_px + log_pz - log_qz

    return trained(batches, noise, weights, raw, elbo)


@page.wrong("product of one-dimensional mixtures")
def _(batches, noise, weights, raw):
    """You train with the log-sum-exp taken in each latent dimension, a product of one-dimensional
    mixtures. Scored with the VampPrior, such a model is not better than with a standard normal;
    sum over the dimensions first.
    """

    def elbo(x, eps, weights, raw):
        z, log_px, log_qz = sampled(x, eps, weights)
        mean, log_var = encoded(torch.sigmoid(raw), weights)
        log_pz = torch.logsumexp(log_each(z, mean, log_var), 1).sum(-1)
        return log_px + log_pz - log_qz

    return trained(batches, noise, weights, raw, elbo)


@page.wrong("pseudo-inputs not squashed")
def _(batches, noise, weights, raw):
    """You encode `raw` itself, numbers outside [0, 1]; the pseudo-inputs are its sigmoids, and
    with them your model is not better than with a standard normal prior.
    """

    def elbo(x, eps, weights, raw):
        z, log_px, log_qz = sampled(x, eps, weights)
        mean, log_var = encoded(raw, weights)
        log_pz = torch.logsumexp(log_each(z, mean, log_var).sum(-1), 1)
        return log_px + log_pz - log_qz

    return trained(batches, noise, weights, raw, elbo)


@page.wrong("q left out")
def _(batches, noise, weights, raw):
    """You leave log q(z|x) out of the loss, so nothing rewards a wide posterior and it shrinks to
    a point; the ELBO is log p(x|z) + log p(z) − log q(z|x).
    """

    def elbo(x, eps, weights, raw):
        z, log_px, _ = sampled(x, eps, weights)
        mean, log_var = encoded(torch.sigmoid(raw), weights)
        log_pz = torch.logsumexp(log_each(z, mean, log_var).sum(-1), 1)
        return log_px + log_pz

    return trained(batches, noise, weights, raw, elbo)
