"""The tensors of arguments and results: those inside containers too, in a fixed order."""

import functools

import torch

from nbjudge.inside.case import Case


class Counted(torch.nn.Module):
    """A network that counts how often it is passed through."""

    def __init__(self, net: torch.nn.Module):
        super().__init__()
        self.net = net
        self.count = 0

    def forward(self, *args):
        """Call the network."""
        self.count += 1
        return self.net(*args)


def tensors(value) -> list[torch.Tensor]:
    """All tensors of a value, in order: of a tensor itself, a tuple, a list or a dict."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for key in sorted(value, key=str) for t in tensors(value[key])]
    if isinstance(value, (tuple, list)):
        return [t for item in value for t in tensors(item)]
    return []


def placed(arg) -> bool:
    """Whether an argument is somewhere, on the CPU or on a card, as a plain number is not."""
    return isinstance(arg, torch.nn.Module) or bool(tensors(arg))


def differentiated(case: Case, args) -> list[tuple[int, torch.Tensor]]:
    """The tensors whose gradients are taken, each with the position of its argument."""
    return [
        (i, tensor)
        for i in case.wrt
        for tensor in (
            args[i].parameters() if isinstance(args[i], torch.nn.Module) else tensors(args[i])
        )
    ]


def like(container: list | tuple, items: list) -> list | tuple:
    """A list or tuple of the same type with other items; a named tuple takes them one by one."""
    make = getattr(container, "_make", type(container))
    return make(items)


def cotangent(output: torch.Tensor, position: int = 0) -> torch.Tensor:
    """The fixed direction in which the output at this position is differentiated.

    Every position has its own: in a sum of all outputs, gradients might cancel.
    """
    direction = _direction(output.shape, position)
    return direction.to(output.device, output.dtype, copy=True)


@functools.lru_cache(maxsize=256)
def _direction(shape, position):
    generator = torch.Generator().manual_seed(1000 * position + shape.numel())
    return torch.randn(shape, generator=generator, dtype=torch.float64)
