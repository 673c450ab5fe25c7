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

from dgm_utils.grading.exercise import Task
from dgm_utils.grading.observe import Observation, Raised

OBSERVED_MIME = "application/vnd.dgm.observed+json"
# Characters of one check's observations; the largest right ones have some hundred thousand.
SIZE_LIMIT = 64_000_000
DEPTH_LIMIT = 8

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


def dump_tasks(tasks: dict[tuple[str, int], Task], visible: tuple[str, ...], package: str) -> bytes:
    """Pickle tasks, without what only a judge may know.

    Args:
        tasks: (name of the exercise, seed) → task.
        visible: modules that exist inside the sandbox; code of all others goes along by value.
        package: the course's package, which holds the others.

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
        if name.startswith(f"{package}.")
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
    """Observations as JSON text, without the code that ran."""
    found = {"observed": list(map(_encode, observations)), "probe": probe and _encode(probe)}
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
    try:
        found = json.loads(text)
        observed = [_decode(item) for item in found["observed"]]
        return observed, found["probe"] and _decode(found["probe"])
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WireError(f"not what a check writes: {type(error).__name__}: {error}"[:200]) from None


def _encode(seen):
    return {
        "value": _to_json(seen.value),
        "foreign": seen.foreign,
        "gradients": [_to_json(gradient) for gradient in seen.gradients],
        "changed": list(seen.changed),
        "raised": seen.raised and dataclasses.astuple(seen.raised),
        "timed_out": seen.timed_out,
        "hung": seen.hung,
        "seconds": seen.seconds,
        "printed": seen.printed,
        "counts": [list(pair) for pair in seen.counts],
        "largest": seen.largest,
    }


def _decode(item):
    gradients = [_from_json(gradient) for gradient in item["gradients"]]
    if not all(gradient is None or isinstance(gradient, torch.Tensor) for gradient in gradients):
        raise WireError("a gradient that is no tensor")
    return Observation(
        value=_from_json(item["value"]),
        foreign=None if item["foreign"] is None else _text(item["foreign"]),
        gradients=tuple(gradients),
        changed=tuple(map(_whole, item["changed"])),
        raised=None if item["raised"] is None else Raised(*map(_text, item["raised"])),
        timed_out=item["timed_out"] is True,
        hung=item["hung"] is True,
        seconds=float(item["seconds"]),
        printed=_text(item["printed"]),
        counts=tuple((_whole(i), _whole(count)) for i, count in item["counts"]),
        largest=_whole(item["largest"]),
    )


def _to_json(value):
    if isinstance(value, torch.Tensor):
        data = b""
        if not value.is_meta:
            # A copy in memory order: what was expanded or transposed cannot be read as bytes.
            dense = torch.empty(value.shape, dtype=value.dtype).copy_(value.detach())
            data = dense.flatten().view(torch.uint8).numpy().tobytes() if dense.numel() else b""
        return {
            "tensor": str(value.dtype).removeprefix("torch."),
            "shape": list(value.shape),
            "device": str(value.device),
            "data": base64.b64encode(data).decode(),
        }
    if isinstance(value, dict):
        return {"dict": [[key, _to_json(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_to_json(item) for item in value]}
    if isinstance(value, float):
        return {"float": value.hex()}
    return value


def _from_json(item, depth=0):
    if depth > DEPTH_LIMIT:
        raise WireError(f"values nested more than {DEPTH_LIMIT} deep")
    if item is None or isinstance(item, (bool, int, str)):
        return item
    if "tensor" in item:
        return _tensor(item)
    ((kind, content),) = item.items()
    if kind == "float":
        return float.fromhex(content)
    if kind == "dict":
        return {_key(key): _from_json(part, depth + 1) for key, part in content}
    return {"list": list, "tuple": tuple}[kind](_from_json(part, depth + 1) for part in content)


def _tensor(item):
    dtype, shape = _DTYPES[item["tensor"]], [_whole(size) for size in item["shape"]]
    try:
        device = torch.device(_text(item["device"]))
    except RuntimeError:
        raise WireError(f"a tensor on {item['device']}, which does not exist"[:200]) from None
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


def _key(key):
    return key if isinstance(key, int) else _text(key)


def _text(value):
    if not isinstance(value, str):
        raise WireError(f"text expected, got {type(value).__name__}")
    # Half of a surrogate pair is text in JSON, but no file can hold it.
    return value.encode("utf-8", "replace").decode()


def _whole(value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise WireError(f"a whole number expected, got {value!r}"[:100])
    return value
