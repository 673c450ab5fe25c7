"""How a test states a fact: to rounding, or to five standard errors of the average under test."""

import pytest
import torch

# Sums of thousands of terms of size one lose some thousand float64 eps.
ROUNDING = 1e-12
# A correct estimate is off by more than this once in two million draws; the seeds are fixed.
SIGMAS = 5

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    ),
]


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(seed, *shape, dtype=torch.float64):
    """Standard normal numbers, from a seed or from a generator that goes on."""
    source = seed if isinstance(seed, torch.Generator) else generator(seed)
    return torch.randn(shape, generator=source, dtype=dtype)


def uniform(seed, *shape):
    return torch.rand(shape, generator=generator(seed), dtype=torch.float64)


def binary(seed, *shape):
    return (uniform(seed, *shape) < 0.5).double()


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def assert_close(actual, expected, tolerance=ROUNDING):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=tolerance, atol=tolerance)


def close(actual, expected, tolerance):
    """Equal to an absolute tolerance in every entry."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def assert_mean(samples, expected):
    """The average over the first axis is `expected`, to SIGMAS standard errors."""
    standard_error = samples.std(0) / len(samples) ** 0.5
    distance = (samples.mean(0) - expected).abs()
    assert (distance <= SIGMAS * standard_error).all(), distance / standard_error


def gradients(function, arguments, positions):
    """The result and the gradients of a weighted sum of all outputs, at those positions."""
    arguments = [
        a.clone().requires_grad_() if i in positions else a for i, a in enumerate(arguments)
    ]
    result = function(*arguments)
    outputs = result.values() if isinstance(result, dict) else result
    outputs = [result] if isinstance(result, torch.Tensor) else list(outputs)
    outputs = [o for o in outputs if o.requires_grad]
    # Weighted, so that what sums to a constant has a gradient too.
    total = sum(
        (o.flatten() * torch.linspace(0.5, i + 2, o.numel() + 1)[1:].to(o)).sum()
        for i, o in enumerate(outputs)
    )
    return result, torch.autograd.grad(total, [arguments[i] for i in positions])


def keeps_dtype_device_and_gradients(function, arguments, positions, dtype, device):
    """The result has the arguments' dtype and device, and its gradients are finite, not all zero.

    The numbers are those of float64 on the CPU, to some ten thousand eps.
    """
    moved = [
        a.to(device, dtype if a.is_floating_point() else None) if isinstance(a, torch.Tensor) else a
        for a in arguments
    ]
    result, found = gradients(function, moved, positions)
    expected, expected_gradients = gradients(function, arguments, positions)
    if isinstance(result, dict):
        result, expected = list(result.values()), list(expected.values())
    if isinstance(result, torch.Tensor):
        result, expected = [result], [expected]
    tolerance = 1e4 * torch.finfo(dtype).eps
    for value, exact in zip(result, expected, strict=True):
        assert (value.dtype, value.device.type) == (dtype, device)
        assert_close(value.cpu(), exact, tolerance)
    for gradient, exact in zip(found, expected_gradients, strict=True):
        assert gradient.isfinite().all()
        assert gradient.any()
        assert_close(gradient.cpu(), exact, 10 * tolerance)


def makes_no_tensor_of(limit, function):
    """Run it; every tensor made on the way, backward included, has fewer numbers than `limit`."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            result = operation(*args, **(kwargs or {}))
            for value in result if isinstance(result, (tuple, list)) else (result,):
                if isinstance(value, torch.Tensor):
                    # An expanded view holds no more than what it was expanded from.
                    Largest.found = max(
                        Largest.found, value.untyped_storage().nbytes() // value.itemsize
                    )
            return result

    with Largest():
        function()
    assert Largest.found < limit, Largest.found
