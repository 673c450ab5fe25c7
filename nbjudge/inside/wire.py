"""What passes between the two halves of a check when a sandbox lies between them.

Inwards go cases, pickled by the grader: code travels with them, so that a network handed to the
student needs no module inside that also holds answers. Outwards come observations as JSON text:
tensors and plain values, read by a loader that can make nothing else.
"""

import base64
import binascii
import dataclasses
import io
import json
import math
import sys

import cloudpickle
import torch

from nbjudge.inside.case import Task
from nbjudge.inside.observe import Observation, Raised
from nbjudge.inside.plain import (
    DEPTH_LIMIT,
    DIGITS_LIMIT,
    LINE_LIMIT,
    MESSAGE_LIMIT,
    NAME_LIMIT,
    PARTS_LIMIT,
    PRINTED_LIMIT,
)
from nbjudge.inside.tensors import tensors

# Of one check's observations: characters, of which the largest right ones have 3 million; what
# separates one thing from the next, of which they have 2,000.
SIZE_LIMIT = 16_000_000
SEPARATORS_LIMIT = 50_000
# Bytes of all results together; of what is larger only the shape travels.
RESULTS_LIMIT = 6_000_000
AXES_LIMIT, AXIS_LIMIT = 16, 2**40

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex128,
        torch.complex64,
    )
}


class WireError(ValueError):
    """What came out of the sandbox is no list of observations; the message says why."""


def dump_tasks(
    tasks: dict[tuple[str, int], Task], visible: tuple[str, ...], packages: tuple[str, ...]
) -> bytes:
    """Pickle tasks, without what only a judge may know.

    Args:
        tasks: (name of the exercise, seed) → task.
        visible: modules that exist inside the sandbox; code of all others goes along by value.
        packages: those that hold the others.

    """
    stripped = {
        key: dataclasses.replace(
            task,
            cases=tuple(map(_strip, task.cases)),
            probe=task.probe and _strip(task.probe),
        )
        for key, task in tasks.items()
    }
    # Packages are left out: one that is registered stands for all its modules, visible ones too.
    hidden = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages
        and name not in visible
        and not hasattr(module, "__path__")
    ]
    buffer = io.BytesIO()
    for module in hidden:
        cloudpickle.register_pickle_by_value(module)
    try:
        cloudpickle.dump(stripped, buffer)
    finally:
        for module in hidden:
            cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()


def _strip(case):
    return dataclasses.replace(case, facts={}, project={})


def dump_observations(observations: list[Observation], probe: Observation | None) -> str:
    """Observations as JSON text, without the code that ran.

    A result that is much larger than any right one travels as if it were on the meta device: its
    shape is wrong, and says so.
    """
    left = RESULTS_LIMIT
    encoded = []
    for seen in [*observations, *([probe] if probe else [])]:
        left -= sum(tensor.nbytes for tensor in tensors(seen.value))
        encoded.append(_encode(seen, whole=left >= 0))
    found = {"observed": encoded[: len(observations)], "probe": probe and encoded[-1]}
    return json.dumps(found)


def load_observations(text: str) -> tuple[list[Observation], Observation | None]:
    """Read what `dump_observations` wrote, or what someone wants us to take for it.

    Raises:
        WireError: for anything else.

    """
    if not isinstance(text, str):
        raise WireError(f"observations come as text, not as {type(text).__name__}")
    if len(text) > SIZE_LIMIT:
        raise WireError(f"{len(text):,} characters of observations; {SIZE_LIMIT:,} are allowed")
    # Asked before anything is made of it, which takes many times as long and as much memory.
    if sum(map(text.count, ",[{")) > SEPARATORS_LIMIT:
        raise WireError("more parts than any observations have")
    try:
        found = json.loads(text)
        observed = [_decode(item) for item in found["observed"]]
        return observed, found["probe"] and _decode(found["probe"])
    except WireError:
        raise
    except Exception as error:
        raise WireError(f"not what a check writes: {type(error).__name__}: {error}"[:200]) from None


def _encode(seen, whole):
    return {
        "value": _to_json(seen.value, whole),
        "foreign": seen.foreign,
        "gradients": [_to_json(gradient) for gradient in seen.gradients],
        "changed": list(seen.changed),
        "raised": seen.raised and dataclasses.astuple(seen.raised),
        "timed_out": seen.timed_out,
        "hung": seen.hung,
        "drew": seen.drew,
        "seconds": seen.seconds,
        "printed": seen.printed,
        "passes": [list(pair) for pair in seen.passes],
        "largest": seen.largest,
    }


def _decode(item):
    gradients = [_Value().read(gradient) for gradient in item["gradients"]]
    if not all(gradient is None or isinstance(gradient, torch.Tensor) for gradient in gradients):
        raise WireError("a gradient that is no tensor")
    return Observation(
        value=_Value().read(item["value"]),
        foreign=None if item["foreign"] is None else _text(item["foreign"], NAME_LIMIT),
        gradients=tuple(gradients),
        changed=tuple(map(_whole, item["changed"])),
        raised=None if item["raised"] is None else _raised(*item["raised"]),
        timed_out=item["timed_out"] is True,
        hung=item["hung"] is True,
        drew=item["drew"] is True,
        seconds=_number(item["seconds"]),
        printed=_text(item["printed"], PRINTED_LIMIT),
        passes=tuple((_whole(i), _whole(count)) for i, count in item["passes"]),
        largest=_whole(item["largest"]),
    )


def _raised(kind, message, line):
    return Raised(_text(kind, NAME_LIMIT), _text(message, MESSAGE_LIMIT), _text(line, LINE_LIMIT))


def _to_json(value, whole=True):
    """A value for JSON; unless it is whole, without the numbers of its tensors."""
    if isinstance(value, torch.Tensor):
        data, device = b"", str(value.device) if whole else "meta"
        if device != "meta":
            # A copy in memory order: what was expanded or transposed cannot be read as bytes.
            dense = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
            data = dense.flatten().view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        return {
            "tensor": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "device": device,
            "data": base64.b64encode(data).decode(),
        }
    if isinstance(value, dict):
        return {"dict": [[key, _to_json(item, whole)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_to_json(item, whole) for item in value]}
    if isinstance(value, float):
        return {"float": value.hex()}
    return value


class _Value:
    """Reads one value, of no more parts than an observation has."""

    def __init__(self):
        self._left = PARTS_LIMIT

    def read(self, item, depth=0):
        """The value that JSON stands for."""
        self._left -= 1
        if self._left < 0 or depth > DEPTH_LIMIT:
            raise WireError("values in more parts than any answer has, or nested deeper")
        if item is None or isinstance(item, bool):
            return item
        if isinstance(item, str):
            return _text(item, PRINTED_LIMIT)
        if isinstance(item, int):
            if abs(item) >= 10**DIGITS_LIMIT:
                raise WireError(f"a whole number of more than {DIGITS_LIMIT} digits")
            return item
        if "tensor" in item:
            return _tensor(item)
        ((kind, content),) = item.items()
        if kind == "float":
            return float.fromhex(_text(content, NAME_LIMIT))
        if kind == "dict":
            return {_text(key, NAME_LIMIT): self.read(part, depth + 1) for key, part in content}
        return {"list": list, "tuple": tuple}[kind](self.read(part, depth + 1) for part in content)


def _tensor(item):
    dtype, shape = _DTYPES[item["tensor"]], [_whole(size) for size in item["shape"]]
    if len(shape) > AXES_LIMIT or max(shape, default=0) > AXIS_LIMIT:
        raise WireError("a tensor of more axes than any has, or a longer one")
    place = _text(item["device"], NAME_LIMIT)
    try:
        device = torch.device(place)
    except RuntimeError:
        raise WireError(f"a tensor on {place}, which does not exist") from None
    if device.type == "meta":
        return torch.empty(shape, dtype=dtype, device="meta")
    try:
        data = base64.b64decode(item["data"], validate=True)
    except binascii.Error as error:
        raise WireError(f"a tensor whose data is not base64: {error}") from None
    if len(data) != math.prod(shape) * dtype.itemsize:
        raise WireError(f"a tensor of shape {shape} with {len(data)} bytes")
    if not data:
        return torch.empty(shape, dtype=dtype)
    try:
        return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape).to(device)
    except (RuntimeError, AssertionError) as error:
        raise WireError(f"a tensor on {device}, which is not here") from error


def _text(value, limit):
    if not isinstance(value, str) or len(value) > limit:
        what = f"{len(value):,} characters" if isinstance(value, str) else type(value).__name__
        raise WireError(f"text of at most {limit:,} characters expected, got {what}")
    # Half of a surrogate pair is text in JSON, but no file can hold it.
    return value.encode("utf-8", "replace").decode()


def _number(value):
    if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise WireError("seconds that are no number")
    return float(value)


def _whole(value):
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise WireError(f"a whole number expected, got {value!r}"[:100])
    return value
