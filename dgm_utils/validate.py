"""Argument checks, shared by all: say which argument is wrong, what came and what was expected.

`@takes(x="N D", weights="C", means="C D")` above a function is both its documentation and its
check. Only dtypes, shapes and devices are looked at, so a check costs microseconds, waits for no
GPU and works on the meta device.
"""

import functools
import inspect
import numbers

import torch


def takes(**specs):
    """Check tensor arguments before a call.

    A spec lists the axes: the same letter means the same size, `...` at the start any leading axes,
    `.name` the size `self.name`, and the empty string a single number. Tensors must be floating;
    a spec that begins with `int` asks for integers, one that begins with `any` for either.

    The decorated function raises:
        TypeError: for what is not a tensor, or has the wrong kind of numbers.
        ValueError: for a wrong shape, an empty tensor, or tensors on different devices.

    """
    specs = {name: _Spec(spec) for name, spec in specs.items()}

    def decorate(function):
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args, **kwargs):
            given = dict(zip(names, args, strict=False), **kwargs)
            _check(given, specs)
            return function(*args, **kwargs)

        return checked

    return decorate


def whole_number(name, value, low, high=None):
    """Check a count: an integer, at least `low` and, unless None, at most `high`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    _check_bounds(name, value, low, high)


def number(name, value, low, high):
    """Check a Python number: `low ≤ value < high`."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not low <= value < high:
        raise ValueError(f"{name} must be at least {low} and less than {high}, not {value}")


def levels(name, x, num_levels=None):
    """Check that x holds the whole numbers 0 … num_levels − 1; None sets no upper end."""
    if x.is_meta:
        return
    if x.is_floating_point() and not torch.equal(x, x.round()):
        raise ValueError(f"{name} must hold whole grey levels; was it rescaled before?")
    high = None if num_levels is None else num_levels - 1
    low_found, high_found = (extreme.item() for extreme in torch.aminmax(x))
    _check_bounds(name, low_found, 0, None)
    _check_bounds(name, high_found, 0, high)


def within(name, x, low, high):
    """Check that every entry of a tensor lies in `[low, high]`; NaN does not."""
    if not x.is_meta and not ((x >= low) & (x <= high)).all():
        low_found, high_found = (extreme.item() for extreme in torch.aminmax(x))
        found = f"it reaches from {low_found:g} to {high_found:g}"
        raise ValueError(f"{name} must lie between {low:g} and {high:g}, but {found}")


def _check_bounds(name, value, low, high):
    if value < low or (high is not None and value > high):
        expected = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"{name} must be {expected}, not {value:g}")


class _Spec:
    """One parsed spec: the kind of numbers, whether there are free leading axes, and the axes."""

    def __init__(self, text):
        axes = text.split()
        self.kind = axes.pop(0) if axes and axes[0] in ("int", "any") else "float"
        self.leading = bool(axes) and axes[0] == "..."
        self.axes = axes[self.leading :]

    def __str__(self):
        axes = ["...", *self.axes] if self.leading else self.axes
        return f"({', '.join(axis.lstrip('.') or axis for axis in axes)})"


def _check(given, specs):
    known = {}
    owner = given.get("self")
    first = _weights(owner)
    for name, spec in specs.items():
        if name not in given:
            continue  # a missing argument is the function's own error, a default needs no check
        value = given[name]
        _check_kind(name, value, spec.kind)
        known = _check_shape(name, value, spec, known, owner)
        if value.numel() == 0:
            raise ValueError(f"{name} must not be empty, but its shape is {tuple(value.shape)}")
        if first and value.device != first[1].device:
            devices = f"{name} is on {value.device}, {first[0]} on {first[1].device}"
            raise ValueError(f"all tensors must be on one device, but {devices}")
        first = first or (name, value)


def _weights(owner):
    """A module's first parameter, to whose device its arguments belong."""
    parameter = next(owner.parameters(), None) if isinstance(owner, torch.nn.Module) else None
    return None if parameter is None else ("the weights", parameter)


def _check_kind(name, value, kind):
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    if kind == "float" and not value.is_floating_point():
        raise TypeError(f"{name} must be floating point, not {value.dtype}")
    if kind == "int" and (value.is_floating_point() or value.dtype == torch.bool):
        raise TypeError(f"{name} must hold integers, not {value.dtype}")


def _check_shape(name, value, spec, known, owner):
    """The axes known from here on: those known so far, which must fit, and this argument's.

    Each with its size and the argument that it was found in, None for a size of the module itself.
    """
    shape = tuple(value.shape)
    known = known | {axis: (getattr(owner, axis[1:]), None) for axis in spec.axes if axis[0] == "."}
    found = dict(known)
    pairs = zip(reversed(spec.axes), reversed(shape), strict=False)
    enough = len(shape) >= len(spec.axes) if spec.leading else len(shape) == len(spec.axes)
    # setdefault: a letter that is new stands for this size from here on.
    if not enough or any(found.setdefault(axis, (size, name))[0] != size for axis, size in pairs):
        wanted = [_axis(axis, *known[axis]) for axis in dict.fromkeys(spec.axes) if axis in known]
        where = f" with {', '.join(wanted)}" if wanted else ""
        raise ValueError(f"{name} must have the shape {spec}{where}, not {shape}")
    return found


def _axis(axis, size, argument):
    return f"{axis} = {size} as in {argument}" if argument else f"{axis.lstrip('.')} = {size}"
