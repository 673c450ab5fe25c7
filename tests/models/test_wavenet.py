"""WaveNet: what sees what, the two flows made of it, and distilling one into the other."""

import pytest
import torch
from statements import close, normal
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence

from dgm_utils.models.wavenet import (
    CausalConv1d,
    WaveNet,
    WaveNetStudent,
    WaveNetTeacher,
    distillation_terms,
)
from dgm_utils.training import Descent, fit

EPS = torch.finfo(torch.float64).eps
FLOWS = [WaveNetTeacher, WaveNetStudent]


def wavenet(channels=8, dilations=(1, 2, 4), kernel_size=2, scale=1.0):
    """A net with random weights, large enough for means and scales to vary."""
    net = WaveNet(channels, dilations, kernel_size).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):
            fan_in = parameter[0].numel()
            parameter.copy_(scale * normal(number, *parameter.shape) / fan_in**0.5)
    return net


class Counter(nn.Module):
    """A conditioner, or a WaveNet, that counts its whole passes and its single columns."""

    def __init__(self, net, has_steps=True):
        super().__init__()
        self.net, self.passes, self.columns = net, 0, 0
        if has_steps:
            self.start, self.step = net.start, self.count_column

    def forward(self, x):
        self.passes += 1
        return self.net(x)

    def count_column(self, previous, queues):
        self.columns += 1
        return self.net.step(previous, queues)


class Linear(nn.Module):
    """A linear conditioner: μ = A v with A strictly lower triangular, log σ constant in v."""

    def __init__(self, matrix, log_sigma):
        super().__init__()
        self.matrix, self.log_sigma = matrix.tril(-1), log_sigma

    def forward(self, v):
        return v @ self.matrix.T, self.log_sigma.expand_as(v)


# What sees what


@pytest.mark.parametrize("dilation", [1, 3])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_a_causal_convolution_is_the_sum_it_says(kernel_size, dilation):
    conv, x = CausalConv1d(2, 3, kernel_size, dilation).double(), normal(0, 4, 2, 9)
    expected = conv.bias[:, None].repeat(4, 1, 9)
    for t in range(9):
        for tap in range(kernel_size):
            past = t - (kernel_size - 1 - tap) * dilation
            if past >= 0:
                expected[:, :, t] += x[:, :, past] @ conv.weight[:, :, tap].T
    close(conv(x), expected, 1e-14)


@pytest.mark.parametrize("kernel_size", [2, 3])
@pytest.mark.parametrize("dilations", [(1,), (1, 2), (1, 2, 4), (2, 1)])
def test_each_step_sees_its_receptive_field_and_nothing_else(dilations, kernel_size):
    """Claim 3.9: dilated causal convolutions; R = 1 + (k−1) Σ d steps before t, and t not."""
    net, steps = wavenet(dilations=dilations, kernel_size=kernel_size), 20
    reach = net.receptive_field
    assert reach == 1 + (kernel_size - 1) * sum(dilations) < steps
    lag = torch.arange(steps)[:, None] - torch.arange(steps)
    # Dilations 2, 1 with two taps leave no gap: 0, 1, 2, 3 are all sums of taps. So do the others.
    expected = (lag >= 1) & (lag <= reach)
    for output in range(2):
        jacobian = torch.func.jacfwd(lambda x, output=output: net(x)[output][0])(
            normal(9, 1, steps)
        )
        torch.testing.assert_close(jacobian[:, 0] != 0, expected)


def test_doubled_dilations_reach_exponentially_far():
    """Claim 3.9: ten blocks of two taps with dilations 1 … 512 see 1024 steps, as in the paper."""
    assert WaveNet(1, [2**i for i in range(10)]).receptive_field == 1024
    assert WaveNet(1, [1] * 10).receptive_field == 11


def test_log_scales_are_bounded_and_far_inputs_stay_finite():
    torch.manual_seed(0)
    net, x = WaveNet(8, (1, 2), max_log_scale=3.0), 1e6 * torch.randn(5, 10)
    mu, log_sigma = net(x)
    assert 2.9 < log_sigma.abs().max() <= 3
    assert mu.isfinite().all()
    for flow in (WaveNetTeacher(net), WaveNetStudent(net)):
        loss = flow.log_prob(x).sum()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in net.parameters())


# Two flows of one network


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("flow", FLOWS)
def test_log_det_is_that_of_the_jacobian(flow, direction):
    flow, v = flow(wavenet()), normal(1, 3, 9)
    go = getattr(flow, direction)
    value, log_det = go(v)
    for row in range(3):
        jacobian = torch.func.jacfwd(lambda u: go(u[None])[0][0])(v[row])
        assert (jacobian.triu(1) == 0).all()
        # Products of 9 factors and their inverses: a few hundred roundings.
        close(log_det[row], torch.linalg.slogdet(jacobian).logabsdet, 1e3 * EPS)
        # Roundings grow with the values, which reach some hundreds.
        close(go(v[row : row + 1])[0][0], value[row], 1e2 * EPS * value.abs().max().item())


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("flow", FLOWS)
def test_round_trip_and_opposite_log_dets(flow, cached):
    flow, x = flow(wavenet()), normal(1, 5, 30)
    slow = {"cached": cached}
    teaches = isinstance(flow, WaveNetTeacher)
    z, log_det = flow.forward(x, **({} if teaches else slow))
    back, log_det_back = flow.inverse(z, **(slow if teaches else {}))
    close(back, x, 1e-12)
    close(log_det_back, -log_det, 1e-12)


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_cached_sampling_equals_whole_passes(kernel_size):
    net = wavenet(dilations=(1, 2, 4, 1, 2), kernel_size=kernel_size)
    teacher, z = WaveNetTeacher(net), normal(1, 4, 40)
    results = []
    for cached in (True, False):
        x, log_det = teacher.inverse(z, cached)
        gradients = torch.autograd.grad(x.square().sum() + log_det.sum(), list(net.parameters()))
        results.append((x, log_det, torch.cat([gradient.flatten() for gradient in gradients])))
    for fast, slow in zip(*results, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


def test_passes_each_way():
    """Claim 3.9: the teacher scores in 1 pass and samples in T; the student the other way round."""
    steps = 12
    v = normal(1, 2, steps)
    calls = {
        "teacher density": (lambda net: WaveNetTeacher(net).log_prob(v), 1, 0),
        "teacher sample": (lambda net: WaveNetTeacher(net).inverse(v, cached=False), steps, 0),
        "teacher sample, cached": (lambda net: WaveNetTeacher(net).inverse(v), 0, steps),
        "student sample": (lambda net: WaveNetStudent(net).rsample_with_log_prob(v), 1, 0),
        "student density": (lambda net: WaveNetStudent(net).forward(v, cached=False), steps, 0),
        "student density, cached": (lambda net: WaveNetStudent(net).log_prob(v), 0, steps),
    }
    for name, (call, passes, columns) in calls.items():
        net = Counter(wavenet())
        call(net)
        assert (net.passes, net.columns) == (passes, columns), name


def test_a_conditioner_without_queues_is_called_in_whole_passes():
    net = Counter(wavenet(), has_steps=False)
    x, _ = WaveNetTeacher(net).inverse(normal(1, 2, 7))
    assert net.passes == 7
    close(x, WaveNetTeacher(net.net).inverse(normal(1, 2, 7))[0], 1e-12)


def test_student_scores_its_own_samples_as_it_scores_data():
    student, z = WaveNetStudent(wavenet()), normal(1, 6, 15)
    x, log_prob = student.rsample_with_log_prob(z)
    close(student.log_prob(x), log_prob, 1e-10)


def test_linear_gaussian_flows_are_multivariate_normals():
    steps = 6
    matrix, log_sigma, x = (
        0.5 * normal(1, steps, steps),
        0.3 * normal(2, steps),
        normal(3, 4, steps),
    )
    teacher = WaveNetTeacher(Linear(matrix, log_sigma))
    student = WaveNetStudent(Linear(matrix, log_sigma))
    close(teacher.log_prob(x), exact_teacher(matrix, log_sigma).log_prob(x), 1e-12)
    close(student.log_prob(x), exact_student(matrix, log_sigma).log_prob(x), 1e-12)


def exact_teacher(matrix, log_sigma):
    """x = A x + diag(σ) z, so x = (I − A)⁻¹ diag(σ) z."""
    identity = torch.eye(len(matrix), dtype=torch.float64)
    scale = torch.linalg.solve(identity - matrix.tril(-1), torch.diag(log_sigma.exp()))
    return MultivariateNormal(torch.zeros_like(log_sigma), scale_tril=scale)


def exact_student(matrix, log_sigma):
    """x = A z + diag(σ) z."""
    scale = matrix.tril(-1) + torch.diag(log_sigma.exp())
    return MultivariateNormal(torch.zeros_like(log_sigma), scale_tril=scale)


def test_every_parameter_gets_a_gradient():
    for flow in FLOWS:
        net = wavenet()
        flow(net).log_prob(normal(1, 8, 20)).sum().backward()
        assert all((p.grad != 0).any() for p in net.parameters())


def test_saved_and_loaded_it_gives_the_same(tmp_path):
    x = normal(1, 3, 10)
    teacher = WaveNetTeacher(wavenet())
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    other = WaveNetTeacher(WaveNet(8, (1, 2, 4)).double())
    other.load_state_dict(torch.load(tmp_path / "teacher.pt", weights_only=True))
    assert torch.equal(other.log_prob(x), teacher.log_prob(x))


def test_dtype_is_kept():
    net, z = WaveNet(4, (1, 2)), torch.randn(2, 5)
    for flow in (WaveNetTeacher(net), WaveNetStudent(net)):
        for value in (*flow(z), *flow.inverse(z), flow.log_prob(z)):
            assert value.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda():
    net, z = wavenet(), normal(1, 3, 20)
    expected = WaveNetTeacher(net).inverse(z)[0]
    x, _ = WaveNetTeacher(net.cuda()).inverse(z.cuda())
    assert x.is_cuda
    close(x.cpu(), expected, 1e-10)


# Distillation


def ar1(coefficient, sigma, steps):
    """x_t = a x_{t−1} + σ z_t from x_0 = 0: matrix and log σ of the teacher's conditioner."""
    matrix = coefficient * torch.diag(torch.ones(steps - 1, dtype=torch.float64), -1)
    return matrix, torch.full((steps,), sigma, dtype=torch.float64).log()


def test_distillation_loss_is_the_exact_kl():
    """Claim 3.9: KL(p_s‖p_t) = H(p_s, p_t) − H(p_s), each term against its closed form.

    For linear conditioners the terms are quadratic in z, and the average over the 2T points
    ±√T e_i is their exact expectation under N(0, I): nothing is sampled.
    """
    steps = 7
    teacher_net, student_net = (
        ar1(0.8, 0.5, steps),
        (0.4 * normal(1, steps, steps), 0.2 * normal(2, steps)),
    )
    z = steps**0.5 * torch.eye(steps, dtype=torch.float64)
    terms = distillation_terms(
        WaveNetStudent(Linear(*student_net)),
        WaveNetTeacher(Linear(*teacher_net)),
        torch.cat([z, -z]),
    )
    cross_entropy, entropy = (term.mean() for term in terms)
    student, teacher = exact_student(*student_net), exact_teacher(*teacher_net)
    close(entropy, student.entropy(), 1e-12)
    close(cross_entropy - entropy, kl_divergence(student, teacher), 1e-11)


def test_a_student_equal_to_the_teacher_has_loss_zero():
    """AR(1) unrolled: x_t = σ Σ_j a^j z_{t−j}. The loss is then zero at every single z."""
    steps, sigma = 8, 0.5
    teacher = ar1(0.8, sigma, steps)
    unrolled = exact_teacher(*teacher).scale_tril
    student = WaveNetStudent(Linear(unrolled, teacher[1]))
    cross_entropy, entropy = distillation_terms(
        student, WaveNetTeacher(Linear(*teacher)), normal(1, 50, steps)
    )
    close(cross_entropy, entropy, 1e-12)


def test_each_sample_of_the_loss_is_a_sum_of_divergences():
    student, teacher = WaveNetStudent(wavenet()), WaveNetTeacher(wavenet(scale=0.5))
    cross_entropy, entropy = distillation_terms(student, teacher, normal(1, 100, 15))
    assert (cross_entropy - entropy > 0).all()


def test_exact_steps_agree_with_plain_sampling_and_vary_less():
    """The loss and `log p_s(x) − log p_t(x)` have one mean; the former knows half of it exactly."""
    student, teacher = WaveNetStudent(wavenet()), WaveNetTeacher(wavenet(scale=0.5))
    z = normal(1, 5000, 10)
    with torch.no_grad():
        cross_entropy, entropy = distillation_terms(student, teacher, z)
        x, log_prob = student.rsample_with_log_prob(z)
        plain = log_prob - teacher.log_prob(x)
    exact = cross_entropy - entropy
    # The same z: the standard error is that of the difference. 5 of them: 6e-7 by chance.
    difference = exact - plain
    assert difference.mean().abs() < 5 * difference.std() / len(z) ** 0.5
    assert exact.std() < 0.7 * plain.std()


def test_distillation_trains_the_student():
    """Claim 3.9: a student that never sees data comes near its teacher, here an AR(1)."""
    steps = 16
    teacher = WaveNetTeacher(Linear(*(v.float() for v in ar1(0.8, 0.5, steps))))
    torch.manual_seed(0)
    student = WaveNetStudent(WaveNet(16, (1, 2, 4)))

    def loss(z):
        cross_entropy, entropy = distillation_terms(student, teacher, z)
        return (cross_entropy - entropy).mean()

    held_out = normal(5, 2000, steps).float()
    with torch.no_grad():
        before = loss(held_out).item()
    fit(
        student,
        loss,
        lambda generator: torch.randn(64, steps, generator=generator),
        num_steps=150,
        descent=Descent(lambda parameters: torch.optim.Adam(parameters, lr=0.01)),
        progress=False,
    )
    with torch.no_grad():
        cross_entropy, entropy = distillation_terms(student, teacher, held_out)
    kl = cross_entropy - entropy
    upper_end = kl.mean() + 5 * kl.std() / len(kl) ** 0.5
    assert upper_end < before / 20


# Bad input


def test_bad_input_is_named():
    net = WaveNet(4)
    with pytest.raises(TypeError, match=r"x must be floating point, not torch\.int64"):
        WaveNetTeacher(net).log_prob(torch.zeros(2, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"x must have the shape \(B, T\), not \(2, 1, 5\)"):
        net(torch.zeros(2, 1, 5))
    with pytest.raises(ValueError, match="z must not be empty"):
        WaveNetTeacher(net).inverse(torch.zeros(0, 5))
    with pytest.raises(ValueError, match="number of dilations must be at least 1, not 0"):
        WaveNet(4, ())
    with pytest.raises(ValueError, match="kernel_size must be at least 1, not 0"):
        WaveNet(4, kernel_size=0)
    with pytest.raises(TypeError, match="channels must be a whole number"):
        WaveNet(4.0)
    with pytest.raises(ValueError, match="max_log_scale must be"):
        WaveNet(4, max_log_scale=0)
