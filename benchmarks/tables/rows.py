"""What all tables share: a row is trained within a budget, evaluated, and written down.

A table is a module with

- `ROWS`: name → configuration: plain values that JSON can hold, all that decides the numbers;
- `run(config, work) → numbers`: trains with `work.fit`, evaluates, returns plain numbers.

A run leaves a checkpoint in `_build/tables/` and goes on from it. A row is written when its numbers
are there, and not before: whoever reads the file reads numbers that were run.
"""

import copy
import hashlib
import json
import math
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch

from dgm_utils.data import NPZ_SHA256, Images, load
from dgm_utils.training import Descent, Watch, fit
from nbjudge.course.safe_files import write_whole

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "lectures" / "results"
RUNS = ROOT / "_build" / "tables"
# Steps that are timed, after as many that are not.
TIMED = 20


@dataclass
class Work:
    """One row at work: its data, its device, its budget, and what it did.

    Args:
        name: of the run; names the checkpoint.
        seed: of weights, batches and noise.
        device: where the tensors are.
        budget: minutes that training may take; None trains to the end.
        epochs: of training at most; None trains to the end.
        folder: of checkpoints.
        progress: show bars.

    Attributes:
        about: what the row says about how it was run.

    """

    name: str
    seed: int
    device: torch.device
    budget: float | None
    folder: Path = RUNS
    epochs: int | None = None
    progress: bool = True
    about: dict = field(default_factory=dict)

    def images(self, name: str, split: str) -> Images:
        """A split of a data set; the row tells the hash of its file."""
        self.about.setdefault("data", {})[name] = NPZ_SHA256.get(name, "with scikit-learn")
        return load(name, split)

    def grey(self, name: str, split: str) -> torch.Tensor:
        """Its grey values in [0, 1], `(N, D)`, on the device."""
        return self.images(name, split).flat().to(self.device)

    def generator(self, purpose: int) -> torch.Generator:
        """A generator on the device, another one for each purpose."""
        return torch.Generator(self.device).manual_seed(1000 * self.seed + purpose)

    def fit(self, model, loss, data, config: dict, part: str = ""):
        """Train for `config["epochs"]`, or as far as the budget goes; changes the model in place.

        Args:
            model: a module, on the device when this returns.
            loss: `loss(batch) →` scalar.
            data: `(N, …)`, on the device.
            config: with `epochs`, `batch_size`, `learning_rate`; `compile` where the loss may be
                compiled: it is if that is faster here; `optimizer` where it is not Adam.
            part: of the row, where more than one model is trained.

        """
        name = f"{self.name}-{part}" if part else self.name
        model.to(self.device)
        batch_size = config["batch_size"]
        epoch = -(-len(data) // batch_size)
        losses = {"plain": loss}
        if config.get("compile"):
            losses["compiled"] = torch.compile(loss)
        plan = self._plan(name, model, losses, data, config)
        rate, last = config["learning_rate"], config.get("last_rate", 0.1)

        def anneal(step, optimizer):
            # Half of the way at the full rate, then down to `last` times as much.
            way = max(0.0, 2 * step / plan["steps"] - 1)
            for group in optimizer.param_groups:
                group["lr"] = rate * last**way

        ended = False
        while not ended:
            # Once at least, which reads the checkpoint.
            steps = min(plan["steps"], plan["done"] + epoch)
            if self._is_over(plan):
                steps = plan["done"]
            start = time.monotonic()
            fit(
                model,
                losses[plan["loss"]],
                data,
                steps,
                batch_size,
                descent=Descent(
                    lambda parameters: optimizer_of(model, parameters, rate, config),
                    config.get("max_norm", math.inf),
                    anneal,
                ),
                watch=Watch(every=epoch, checkpoint=self.folder / f"{name}.pt"),
                seed=self.seed,
                progress=self.progress,
            )
            plan["seconds"] += time.monotonic() - start
            plan["done"] = steps
            _write(self.folder / f"{name}.json", plan)
            ended = steps == plan["steps"] or self._is_over(plan)
        self.about.setdefault("training", {})[part or "model"] = {
            "epochs": round(plan["done"] / epoch, 2),
            "of_epochs": config["epochs"],
            "minutes": round(plan["seconds"] / 60, 2),
            "loss": plan["loss"],
            "examples_per_second": round(plan["done"] * batch_size / plan["seconds"]),
            "examples_per_second_of_a_plain_loop": round(plan["speeds"]["plain loop"] * batch_size),
        }

    def _plan(self, name, model, losses, data, config):
        """Which loss, and how many steps: the learning rate depends on it, so it stays as it is."""
        path = self.folder / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text())
        self.folder.mkdir(parents=True, exist_ok=True)
        batch_size = config["batch_size"]
        batch = data[:batch_size]
        speeds = {
            name: steps_per_second(
                model, loss, batch, lambda parameters: optimizer_of(model, parameters, 0.0, config)
            )
            for name, loss in losses.items()
        }
        loss = max(speeds, key=speeds.get)
        speeds["plain loop"] = steps_per_second(model, losses["plain"], batch, torch.optim.Adam)
        steps = min(config["epochs"], self.epochs or math.inf) * -(-len(data) // batch_size)
        if self.budget is not None:
            steps = max(1, min(steps, int(60 * self.budget * speeds[loss])))
        return {"steps": steps, "done": 0, "seconds": 0.0, "loss": loss, "speeds": speeds}

    def _is_over(self, plan):
        # The speed that the plan was made of may have been another one.
        return self.budget is not None and plan["seconds"] > 1.2 * 60 * self.budget


def optimizer_of(model, parameters, rate: float, config: dict):
    """Adam, or Muon with Adam for what is not a linear layer's weights.

    Muon orthogonalizes the step of a matrix: a step takes longer, and far fewer are needed. Fused,
    Adam goes over the parameters once, and not once for each of its operations.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    if config.get("optimizer", "Adam") == "Adam":
        return torch.optim.Adam(parameters, lr=rate, fused=True)
    weights = {layer.weight for layer in model.modules() if type(layer) is torch.nn.Linear}
    return Both(
        # Steps as large as Adam's would be, so that one rate serves both.
        torch.optim.Muon(
            [p for p in parameters if p in weights],
            lr=rate,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.Adam([p for p in parameters if p not in weights], lr=rate, fused=True),
    )


class Both:
    """Optimizers of different parameters, used as one."""

    def __init__(self, *optimizers):
        self.optimizers = optimizers

    @property
    def param_groups(self):
        """Those of all; loading a state replaces them."""
        return [group for one in self.optimizers for group in one.param_groups]

    def zero_grad(self):
        """As of an optimizer."""
        for one in self.optimizers:
            one.zero_grad()

    def step(self):
        """As of an optimizer."""
        for one in self.optimizers:
            one.step()

    def state_dict(self):
        """The states of all, by number."""
        return {number: one.state_dict() for number, one in enumerate(self.optimizers)}

    def load_state_dict(self, state):
        """Go on from `state_dict`."""
        for number, one in enumerate(self.optimizers):
            one.load_state_dict(state[number])


def steps_per_second(model, loss, batch, optimizer) -> float:
    """Steps of training that fit into a second, with `optimizer(parameters)`.

    The model is as it was afterwards.
    """
    state = copy.deepcopy(model.state_dict())
    optimizer = optimizer([p for p in model.parameters() if p.requires_grad])

    def run():
        for _ in range(TIMED):
            optimizer.zero_grad()
            loss(batch).backward()
            optimizer.step()
        if batch.device.type == "cuda":
            torch.cuda.synchronize()

    with torch.random.fork_rng([batch.device] if batch.device.type == "cuda" else []):
        run()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
    model.load_state_dict(state)
    return TIMED / seconds


def make_row(table, name: str, config: dict, work: Work) -> dict:
    """Run one row of a table: what it is, how it was run, and its numbers."""
    torch.manual_seed(work.seed)
    start = time.monotonic()
    numbers = table.run(config, work)
    return {
        "row": name,
        "seed": work.seed,
        "numbers": numbers,
        "config": config,
        **work.about,
        "device": _device(work.device),
        "minutes": round((time.monotonic() - start) / 60, 2),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "code": _code(table),
    }


def record(path: Path, row: dict) -> None:
    """Put a row into a file of results, in the place of an earlier one with its name and seed."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    key = row["row"], row["seed"]
    rows = [old for old in rows if (old["row"], old["seed"]) != key]
    _write(path, sorted([*rows, row], key=lambda one: (one["row"], one["seed"])))


def _write(path, content):
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _device(device):
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} thread(s)"


def _code(table):
    """The commit, and a digest of the modules that a row was made with."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    folders = ("benchmarks/tables", "dgm_utils/models")
    digest = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (ROOT / folder).glob("*.py")):
        digest.update(path.read_bytes())
    return {"commit": commit, "table": Path(sys.modules[table.__name__].__file__).name} | {
        "sha256": digest.hexdigest()[:16]
    }
