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
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy
import torch

from dgm_utils.data import NPZ_SHA256, Images, load
from dgm_utils.training import fit

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
            config: with `epochs`, `batch_size`, `learning_rate`, and `compile` where the loss may
                be compiled: it is if that is faster here.
            part: of the row, where more than one model is trained.

        """
        name = f"{self.name}-{part}" if part else self.name
        model.to(self.device)
        batch_size = config["batch_size"]
        epoch = -(-len(data) // batch_size)
        compiled = torch.compile(loss) if config.get("compile") else loss
        plan = self._plan(name, model, {"plain": loss, "compiled": compiled}, data, config)
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
                compiled if plan["loss"] == "compiled" else loss,
                data,
                steps,
                batch_size=batch_size,
                every=epoch,
                optimizer=lambda parameters: torch.optim.Adam(parameters, lr=rate),
                max_norm=config.get("max_norm", math.inf),
                before_step=anneal,
                seed=self.seed,
                checkpoint=self.folder / f"{name}.pt",
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
            "examples_per_second_of_a_plain_loop": round(plan["speeds"]["plain"] * batch_size),
        }

    def _plan(self, name, model, losses, data, config):
        """Which loss, and how many steps: the learning rate depends on it, so it stays as it is."""
        path = self.folder / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text())
        self.folder.mkdir(parents=True, exist_ok=True)
        batch_size = config["batch_size"]
        speeds = {"plain": steps_per_second(model, losses["plain"], data[:batch_size])}
        if losses["compiled"] is not losses["plain"]:
            speeds["compiled"] = steps_per_second(model, losses["compiled"], data[:batch_size])
        loss = max(speeds, key=speeds.get)
        steps = config["epochs"] * -(-len(data) // batch_size)
        if self.budget is not None:
            steps = max(1, min(steps, int(60 * self.budget * speeds[loss])))
        return {"steps": steps, "done": 0, "seconds": 0.0, "loss": loss, "speeds": speeds}

    def _is_over(self, plan):
        # The speed that the plan was made of may have been another one.
        return self.budget is not None and plan["seconds"] > 1.2 * 60 * self.budget


def steps_per_second(model, loss, batch) -> float:
    """Steps of training that fit into a second; the model stays as it is."""
    state = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0)

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
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, sorted([*rows, row], key=lambda one: (one["row"], one["seed"])))


def _write(path, content):
    """A reader finds the old file or the new one, never half of one."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


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
