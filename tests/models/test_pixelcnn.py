"""The gated PixelCNN: what a pixel sees, and a distribution that is one."""

import itertools

import pytest
import torch
from scipy.stats import chi2
from statements import close, normal

from dgm_utils.models.pixelcnn import MaskedConv2d, PixelCNN, masks


def pixelcnn(height, width, num_latents=0, num_layers=2, kernel_size=3, scale=2.0):
    """Random weights, large enough for probabilities far from one half."""
    model = PixelCNN(height, width, num_latents, 6, num_layers, kernel_size).double()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            fan_in = parameter[0].numel()
            parameter.copy_(scale * normal(number, *parameter.shape) / fan_in**0.5)
    return model


def jacobian(model, x, z=None):
    """d logits / d x, `(D, D)`, of one image."""
    return torch.func.jacfwd(lambda x: model(x[None], z)[0])(x)


# What a pixel sees


def test_masks_of_both_kinds():
    vertical, horizontal = masks("A", 3)
    assert vertical.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert horizontal.tolist() == [[1, 0, 0]]
    vertical, horizontal = masks("B", 3)
    assert vertical.tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert horizontal.tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(("num_layers", "kernel_size"), [(1, 3), (2, 3), (3, 3), (2, 5)])
def test_a_pixel_sees_left_and_above_within_reach_and_nothing_else(num_layers, kernel_size):
    """Strictly autoregressive in raster order, and without a blind spot."""
    height, width = 7, 8
    model = pixelcnn(height, width, num_layers=num_layers, kernel_size=kernel_size)
    reach = num_layers * (kernel_size // 2)
    assert model.reach == reach
    # A ReLU of the head may be shut at one image: take the union over a few.
    seen = sum(jacobian(model, image) != 0 for image in normal(1, 4, height * width)) > 0
    row, column = (torch.arange(size) for size in (height, width))
    row, column = row.repeat_interleave(width), column.repeat(height)
    up, left = row[:, None] - row, column[:, None] - column
    above = (up >= 1) & (up <= reach) & (left.abs() <= reach)
    beside = (up == 0) & (left >= 1) & (left <= reach)
    torch.testing.assert_close(seen, above | beside)
    assert not seen.triu().any()


def test_a_single_masked_stack_has_a_blind_spot():
    """Why there are two stacks: k×k masks alone never see (i−1, j+2), however deep."""
    kernel = {kind: torch.zeros(3, 3) for kind in "AB"}
    for kind, mask in kernel.items():
        mask[0], mask[1, 0], mask[1, 1] = 1, 1, kind == "B"
    layers = [MaskedConv2d(1, 1, kernel["A"]), *(MaskedConv2d(1, 1, kernel["B"]) for _ in range(9))]
    net = torch.nn.Sequential(*layers).double()
    for parameter in net.parameters():
        torch.nn.init.constant_(parameter, 0.3)
    pattern = torch.func.jacfwd(net)(torch.zeros(1, 1, 7, 9, dtype=torch.float64))[0, 0, 5, 3, 0, 0]
    assert pattern[4, 4] != 0 and pattern[0, 8] != 0
    assert (pattern[4, 5:] == 0).all() and (pattern[3, 6:] == 0).all()
    two_stacks = jacobian(pixelcnn(7, 9, num_layers=5), normal(1, 63)).reshape(7, 9, 7, 9)[5, 3]
    assert (two_stacks[3:5, 4:] != 0).any(0).all()


# A distribution


def all_images(num_dims):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=num_dims)), dtype=torch.float64)


def test_probabilities_add_to_one():
    model, images, z = pixelcnn(2, 3, 2), all_images(6), normal(7, 5, 1, 2)
    log_prob = model.log_prob(images, z.expand(-1, 64, -1))
    close(log_prob.exp().sum(1), torch.ones(5, dtype=torch.float64), 1e-13)
    assert (log_prob.std(0) > 0.1).any()  # z matters
    unconditional = pixelcnn(2, 3).log_prob(images)
    close(unconditional.exp().sum(), torch.tensor(1, dtype=torch.float64), 1e-13)


def test_log_prob_is_the_chain_of_bernoullis():
    model, x, z = pixelcnn(3, 3, 2), all_images(9)[100:110], normal(1, 10, 2)
    expected = 0
    for i in range(9):
        # What comes after pixel i is unknown when it is drawn: zeros stand there.
        known = torch.where(torch.arange(9) < i, x, 0)
        expected += torch.distributions.Bernoulli(logits=model(known, z)[:, i]).log_prob(x[:, i])
    close(model.log_prob(x, z), expected, 1e-12)


def test_samples_agree_with_enumeration():
    model, num = pixelcnn(2, 3, 2, scale=1.2), 20_000
    z = normal(7, 1, 2).expand(num, -1)
    noise = torch.rand(num, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    samples = model.sample(noise, z)
    counts = torch.bincount(
        (samples @ 2.0 ** torch.arange(5, -1, -1).double()).long(), minlength=64
    )
    expected = num * model.log_prob(all_images(6), z[:64]).exp()
    # Pearson's statistic needs about five in each cell; the rare ones make one cell together.
    often = expected >= 5
    counts = torch.cat([counts[often], counts[~often].sum()[None]])
    expected = torch.cat([expected[often], expected[~often].sum()[None]]).detach()
    assert len(counts) > 20
    statistic = ((counts - expected) ** 2 / expected.clamp(min=1e-9)).sum()
    assert statistic < chi2.isf(1e-6, len(counts) - 1)


@pytest.mark.parametrize("num_latents", [0, 3])
def test_sampling_within_reach_equals_whole_passes(num_latents):
    """What `sample` leaves out is what a pixel cannot see: whole passes draw the same image."""
    model = pixelcnn(6, 7, num_latents)
    z = normal(1, 5, 3) if num_latents else None
    noise = torch.rand(5, 42, dtype=torch.float64)
    x = model.sample(noise, z)
    assert torch.equal(x, (noise < torch.sigmoid(model(x, z))).double())
    assert 0 < x.mean() < 1


def test_samples_of_z_share_an_image():
    model, x, z = pixelcnn(3, 4, 2), (normal(1, 5, 12) > 0).double(), normal(2, 3, 2, 5, 2)
    log_prob = model.log_prob(x, z)
    assert log_prob.shape == (3, 2, 5)
    close(log_prob[1, 0], model.log_prob(x, z[1, 0]), 1e-12)
    close(log_prob[2, 1, 4:], model.log_prob(x[4:], z[2, 1, 4:]), 1e-12)


def test_every_parameter_gets_a_gradient():
    model = pixelcnn(4, 5, 2, num_layers=3)
    x = (normal(1, 8, 20) > 0).double()
    model.log_prob(x, normal(2, 8, 2)).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad != 0).any(), name


def test_extreme_latents_stay_finite():
    model = PixelCNN(4, 4, 2)
    log_prob = model.log_prob(torch.ones(3, 16), 1e6 * torch.randn(3, 2))
    log_prob.sum().backward()
    assert log_prob.isfinite().all() and log_prob.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    model, x = pixelcnn(3, 3), (normal(1, 4, 9) > 0).double()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    other = PixelCNN(3, 3, 0, 6, 2, 3).double()
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert torch.equal(other.log_prob(x), model.log_prob(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    model, x, z = pixelcnn(4, 4, 2), (normal(1, 4, 16) > 0).double(), normal(2, 4, 2)
    expected = model.log_prob(x, z)
    close(model.cuda().log_prob(x.cuda(), z.cuda()).cpu(), expected, 1e-9)
    assert model.sample(torch.rand(4, 16).double().cuda(), z.cuda()).is_cuda


def test_bad_input_is_named():
    model = PixelCNN(2, 3, 2)
    with pytest.raises(ValueError, match=r"x must have the shape \(B, num_dims\).*not \(4, 5\)"):
        model.log_prob(torch.zeros(4, 5), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"z must have the shape .* not \(3, 2\)"):
        model.log_prob(torch.zeros(4, 6), torch.zeros(3, 2))
    with pytest.raises(TypeError, match="z must be a tensor, not NoneType"):
        model.log_prob(torch.zeros(4, 6))
    with pytest.raises(ValueError, match="z must be None"):
        PixelCNN(2, 3).log_prob(torch.zeros(4, 6), torch.zeros(4, 2))
    with pytest.raises(TypeError, match=r"x must be floating point, not torch\.uint8"):
        model.log_prob(torch.zeros(4, 6, dtype=torch.uint8), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"z must have the shape .* not \(2, 4, 2\)"):
        model.sample(torch.zeros(4, 6), torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="kernel_size must be odd, not 4"):
        PixelCNN(2, 3, kernel_size=4)
    with pytest.raises(ValueError, match="height must be at least 1, not 0"):
        PixelCNN(0, 3)
