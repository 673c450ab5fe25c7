"""One training loop for all lectures: `fit`.

It shows a bar, keeps the best weights on held-out data and stops when they no longer improve, stops
with a reason when the loss is not a number, and goes on from a checkpoint as if nothing had
happened. All that is random at step k follows from `(seed, k)` alone, so a checkpoint needs no
state of a random generator, and the caller's own generator is left as it was.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dgm_utils.validate import whole_number


@dataclass
class History:
    """What happened in a run.

    Attributes:
        loss: training loss of each step.
        held_out: `[steps taken, held-out loss]` of each evaluation.
        best_step: steps taken when the held-out loss was lowest; None without held-out data.
        stopped: True when patience ran out before the last step.

    """

    loss: list = field(default_factory=list)
    held_out: list = field(default_factory=list)
    best_step: int | None = None
    stopped: bool = False


@dataclass(frozen=True)
class Descent:
    """How a step is made.

    Attributes:
        optimizer: `optimizer(parameters) →` torch optimizer; None is Adam with its defaults.
        max_norm: the gradient is shortened to this length.
        before_step: `before_step(step, optimizer)`, called at every step, for schedules: of the
            learning rate, or of a weight in the loss.

    """

    optimizer: Callable | None = None
    max_norm: float = float("inf")
    before_step: Callable | None = None


@dataclass(frozen=True, eq=False)
class Watch:
    """What is looked at and kept on the way.

    Attributes:
        held_out: tensor or tuple like `data`, or a function `() → number`. The noise in it is the
            same at every evaluation. The best weights seen are the ones the model ends with.
        every: steps between evaluations, and between checkpoints.
        patience: evaluations without improvement before the run stops; None never stops.
        checkpoint: path of a file to write to, and to go on from when it exists; its folder is made
            when there is none.

    """

    held_out: torch.Tensor | tuple | Callable | None = None
    every: int = 100
    patience: int | None = None
    checkpoint: Path | str | None = None


def fit(
    model,
    loss,
    data,
    num_steps,
    batch_size=100,
    *,
    descent=Descent(),
    watch=Watch(),
    seed=0,
    device=None,
    progress=True,
):
    """Minimize `loss(batch)` over the model's parameters; they are changed in place.

    Args:
        model: module, or a list of `nn.Parameter`.
        loss: `loss(batch) →` scalar, a mean over the batch, so that batches can be averaged.
        data: tensor `(N, …)`, or a tuple of such, walked through in a new random order each epoch;
            or a function `data(generator) → batch` that draws each batch afresh.
        num_steps: gradient steps in all; a resumed run counts those before.
        batch_size: rows of a batch; the last one of an epoch may be smaller.
        descent: optimizer, schedule and longest gradient.
        watch: held-out data and checkpoints.
        seed: of the order of the data and of the noise within loss; not of the model's weights.
        device: where model and batches go; None leaves the model where it is.
        progress: show a bar.

    Returns:
        `History`.

    Raises:
        FloatingPointError: when a loss or gradient is infinite or NaN; the weights are those
            before that step.
        TypeError, ValueError: when an argument does not fit, or the checkpoint is of another run
            or cannot be written; before the first step.

    """
    model = model if isinstance(model, nn.Module) else _Loose(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError("model has no parameter that requires a gradient")
    whole_number("num_steps", num_steps, 1)
    whole_number("batch_size", batch_size, 1)
    _check_data("data", data)
    _check_watch(watch)
    device = parameters[0].device if device is None else torch.device(device)
    model.to(device)
    optimizer = (descent.optimizer or torch.optim.Adam)(parameters)
    history, best = History(), None
    checkpoint = None if watch.checkpoint is None else Path(watch.checkpoint)
    if checkpoint is not None:
        if checkpoint.exists():
            history, best = _read(checkpoint, model, optimizer, seed, device)
        if len(history.loss) < num_steps:
            _check_writable(checkpoint)

    def evaluate():
        nonlocal best
        training = model.training
        model.eval()
        with torch.no_grad():
            torch.manual_seed(_seed(seed, 0, 2))
            value = _held_out_loss(watch.held_out, loss, batch_size, device)
        model.train(training)
        _check_finite("the held-out loss", value, len(history.loss), history)
        if not history.held_out or value < min(number for _, number in history.held_out):
            history.best_step = len(history.loss)
            best = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        history.held_out.append([len(history.loss), value])
        waited = len(history.loss) - history.best_step
        history.stopped = watch.patience is not None and waited >= watch.patience * watch.every

    first = len(history.loss)
    devices = [device] if device.type == "cuda" else []
    # Frequent redrawing would fill a notebook with outputs.
    bar = tqdm(
        total=num_steps,
        initial=first,
        leave=False,
        file=sys.stdout,
        mininterval=0.5,
        disable=not progress,
    )
    with torch.random.fork_rng(devices), bar:
        for step in range(first, num_steps):
            if history.stopped:
                break
            if descent.before_step is not None:
                descent.before_step(step, optimizer)
            batch = _batch(data, step, batch_size, seed, device)
            torch.manual_seed(_seed(seed, step, 1))
            optimizer.zero_grad()
            value = loss(batch)
            number = value.item()
            _check_finite("the loss", number, step, history)
            value.backward()
            norm = nn.utils.clip_grad_norm_(parameters, descent.max_norm).item()
            _check_finite("the gradient's length", norm, step, history)
            optimizer.step()
            history.loss.append(number)
            bar.update()
            if (step + 1) % watch.every == 0 or step + 1 == num_steps:
                if watch.held_out is not None:
                    evaluate()
                    bar.set_postfix(loss=f"{number:.4g}", held_out=f"{history.held_out[-1][1]:.4g}")
                if checkpoint is not None:
                    _write(checkpoint, model, optimizer, seed, history, best)
    if best is not None:
        model.load_state_dict(best)
    return history


class _Loose(nn.Module):
    """Parameters that belong to no module."""

    def __init__(self, parameters):
        super().__init__()
        for number, parameter in enumerate(parameters):
            if not isinstance(parameter, nn.Parameter):
                raise TypeError(
                    "model must be a module or a list of nn.Parameter; "
                    f"entry {number} is a {type(parameter).__name__}"
                )
            self.register_parameter(str(number), parameter)


def _seed(seed, index, purpose):
    # Order, noise and evaluation of every step have streams of their own.
    return int(np.random.SeedSequence([seed, index, purpose]).generate_state(1)[0])


def _batch(data, step, batch_size, seed, device):
    generator = torch.Generator()
    if callable(data):
        return _pick(data(generator.manual_seed(_seed(seed, step, 0))), ..., device)
    num = _num_rows(data)
    epoch, number = divmod(step, -(-num // batch_size))
    order = _order(num, _seed(seed, epoch, 0))
    return _pick(data, order[number * batch_size : (number + 1) * batch_size], device)


@lru_cache(maxsize=1)
def _order(num, seed):
    """The rows of an epoch in random order, drawn once for all its steps."""
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))


def _held_out_loss(held_out, loss, batch_size, device):
    """Mean over the rows, not over batches: the last batch may be smaller."""
    if callable(held_out):
        return float(held_out())
    num, total = _num_rows(held_out), 0.0
    for rows in torch.arange(num).split(batch_size):
        total += loss(_pick(held_out, rows, device)).item() * len(rows)
    return total / num


def _num_rows(data):
    return len(data) if torch.is_tensor(data) else len(data[0])


def _pick(data, rows, device):
    if torch.is_tensor(data):
        return data[rows].to(device)
    return tuple(_pick(part, rows, device) for part in data)


def _write(path, model, optimizer, seed, history, best):
    """A reader finds the old file or the new one, never half of one."""
    partial = _partial(path)
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "seed": seed,
        "history": asdict(history),
        "best": best,
    }
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(path):
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _check_writable(path):
    """What would fail at the first save fails before the first step."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _partial(path).touch()
        _partial(path).unlink()
    except OSError as error:
        raise ValueError(
            f"checkpoint {path} cannot be written ({error.strerror}); give the path of a file in a "
            "folder that you may write to"
        ) from error


def _read(path, model, optimizer, seed, device):
    if not path.is_file():
        raise ValueError(f"checkpoint must be the path of a file, but {path} is a folder or device")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        found = content["seed"]
        if found == seed:
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
    except Exception as error:
        raise ValueError(
            f"checkpoint {path} is damaged, or of another model; delete it to start anew: {error}"
        ) from error
    if found != seed:
        raise ValueError(f"checkpoint {path} is of a run with seed {found}, not {seed}")
    return History(**content["history"]), content["best"]


def _check_finite(what, number, step, history):
    if not np.isfinite(number):
        before = ", ".join(f"{value:.4g}" for value in history.loss[-3:]) or "none"
        raise FloatingPointError(
            f"{what} is {number} at step {step} (losses before: {before}). Try a smaller learning "
            "rate, Descent(max_norm=1) to shorten gradients, or a bound on log-scales; then look "
            "for a log, a division or an exp of something unbounded in the loss"
        )


def _check_watch(watch):
    whole_number("every", watch.every, 1)
    if watch.held_out is not None:
        _check_data("held_out", watch.held_out)
    if watch.patience is not None:
        whole_number("patience", watch.patience, 1)
        if watch.held_out is None:
            raise ValueError("patience needs held_out, which is None")


def _check_data(name, data):
    if callable(data):
        return
    tensors = data if isinstance(data, tuple) else (data,)
    if not tensors or not all(torch.is_tensor(tensor) for tensor in tensors):
        found = type(data).__name__
        raise TypeError(f"{name} must be a tensor, a tuple of tensors or a function, not {found}")
    sizes = sorted({len(tensor) for tensor in tensors})
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"{name} must have rows, and all its tensors as many, not {sizes}")
