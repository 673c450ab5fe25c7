"""Time several implementations of the same work, and write down who was how fast.

All run in one process, on one thread, by turns: a disturbance hits all of them alike. What counts
is the ratio of their times in one run; the milliseconds themselves belong to the machine.

- **Time** is the process's CPU time (user and system): another program on the machine does not
  count, though it still takes its share of the caches. The table shows the minimum and the median;
  the ratio is that of the minima, since a disturbance can only add.
- **Memory** is the most bytes that tensors held at once beyond those that were there before the
  call, from the allocations that torch's profiler writes down. It does not see Python objects or
  the scratch space of the matrix products, and is the same in every run. (tracemalloc does not see
  tensors at all, and a process's resident memory hides whatever the allocator had kept back.)

A benchmark is a list of tasks and a call of `main`:

    def ours():
        flow = MAF(64)
        return lambda: flow.log_prob(x), flow

    TASKS = [Task("MAF log_prob", "256 points", {"ours": ours, "zuko": zuko}, target=1 / 1.1)]

    if __name__ == "__main__":
        main(TASKS, "benchmarks/flows.md", packages=["zuko"])
"""

import argparse
import gc
import importlib.metadata
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

OURS = "ours"
MIB = 2**20


@dataclass
class Task:
    """One piece of work, and everyone who does it.

    Attributes:
        name: a few words, the row's title.
        work: sizes, and what is computed, in words.
        makers: name → function without arguments that builds one implementation and returns
            `(run, module)`: `run()` does the work once, `module` has its parameters, or is None.
            The name "ours" is ours; a name that begins with "limit" is a yardstick and no peer.
            One that raises ImportError is left out, with its reason in the table.
        target: the least ratio of the fastest peer's time to ours, or None.
        tolerance: when not None, every `run()` must return the numbers that ours returns, within
            this absolute difference.

    """

    name: str
    work: str
    makers: dict
    target: float | None = None
    tolerance: float | None = None


@dataclass
class Row:
    """What was measured of one implementation; times in seconds, memory in bytes."""

    name: str
    times: list
    memory: int
    num_parameters: int
    skipped: str = ""

    @property
    def fastest(self):
        """The least CPU time of one call, in seconds."""
        return min(self.times)


def measure(task, repeats=7, least_time=0.05):
    """Measure a task's implementations by turns.

    Args:
        task: the `Task`.
        repeats: rounds; in each one everybody is timed once.
        least_time: seconds of CPU time of one timing; a shorter run is called several times.

    Returns:
        list of `Row`, one for each implementation.

    Raises:
        ValueError: when an implementation's numbers differ from ours by more than the tolerance.

    """
    torch.set_num_threads(1)
    rows, runs, calls = {}, {}, {}
    expected = None
    for name, make in task.makers.items():
        try:
            run, module = make()
        except ImportError as error:
            rows[name] = Row(name, [], 0, 0, skipped=f"{type(error).__name__}: {error}")
            continue
        value = run()  # the first call may compile, allocate or import
        if task.tolerance is not None:
            expected = value if expected is None else expected
            _compare(task, name, value, expected)
        del value
        runs[name] = run
        rows[name] = Row(name, [], peak_memory(run), count_parameters(module))
        calls[name] = 1 + int(least_time / max(cpu_time(run), 1e-6))
    names = list(runs)
    for turn in range(repeats):
        # Who comes first changes from round to round.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rows[name].times.append(cpu_time(runs[name], calls[name]))
    return list(rows.values())


def cpu_time(run, calls=1):
    """CPU time of one call of `run`, in seconds, the average over `calls` of them."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(calls):
            run()
        return (time.process_time() - start) / calls
    finally:
        gc.enable()


def peak_memory(run):
    """The most bytes that tensors held at once during `run()`, beyond those held before."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    records = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for record in sorted(records, key=lambda record: record.start_ns()):
        held += record.nbytes()
        peak = max(peak, held)
    return peak


def count_parameters(module):
    """Numbers that training would change, 0 for None."""
    return sum(p.numel() for p in module.parameters()) if module is not None else 0


def reached(task, rows):
    """`(ratio, name)` of the fastest peer against ours, or None when there is no peer."""
    peers = [row for row in rows if row.times and row.name != OURS and not _is_limit(row.name)]
    ours = next(row for row in rows if row.name == OURS)
    if not peers:
        return None
    peer = min(peers, key=lambda row: row.fastest)
    return peer.fastest / ours.fastest, peer.name


def table(task, rows):
    """The task's section of the report, in markdown."""
    ours = next(row for row in rows if row.name == OURS)
    lines = [
        f"## {task.name}",
        "",
        task.work,
        "",
        "| | CPU time, min (median) | time / ours | peak memory | parameters |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        if row.skipped:
            lines.append(f"| {row.name} | skipped: {row.skipped} | | | |")
            continue
        least, median = 1e3 * row.fastest, 1e3 * statistics.median(row.times)
        lines.append(
            f"| {row.name} | {least:,.2f} ms ({median:,.2f}) | {row.fastest / ours.fastest:.2f} "
            f"| {row.memory / MIB:,.2f} MiB | {row.num_parameters:,} |"
        )
    best = reached(task, rows)
    if best and task.target is not None:
        verdict = "reached" if best[0] >= task.target else "**missed**"
        lines += [
            "",
            f"Fastest peer: {best[1]}, {best[0]:.2f} × our time; "
            f"target at least {task.target:.2f}: {verdict}.",
        ]
    return "\n".join([*lines, ""])


def main(tasks, path, packages=(), command=None):
    """Measure the tasks chosen on the command line, print their tables and write them to `path`.

    Args:
        tasks: list of `Task`.
        path: markdown file to write, only when every task has run.
        packages: distributions whose versions the report names.
        command: how the report was made; by default `python -m` and this module.

    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--only", default="", help="run tasks whose name holds this; writes no file"
    )
    options = parser.parse_args()
    command = command or f"python -m benchmarks.{Path(sys.argv[0]).stem}"
    command += f" --repeats {options.repeats}"
    sections = [_header(command, packages)]
    print(sections[0])
    for task in tasks:
        if options.only in task.name:
            sections.append(table(task, measure(task, options.repeats)))
            print(sections[-1], flush=True)
    if not options.only:
        Path(path).write_text("\n".join(sections))


def _header(command, packages):
    versions = [f"torch {torch.__version__}"]
    for name in packages:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} not installed")
    return "\n".join(
        [
            f"Made by `{command}` on one thread, Python {platform.python_version()}, "
            f"{_processor()}.",
            f"Versions: {', '.join(versions)}.",
            "",
            "Only the ratios carry over to another machine; expect ±15 %.",
            "",
        ]
    )


def _processor():
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if "model name" in line]
        if (info.exists())
        else []
    )
    return names[0].split(":")[1].strip() if names else platform.processor()


def _is_limit(name):
    return name.startswith("limit")


def _compare(task, name, value, expected):
    error = (torch.as_tensor(value) - torch.as_tensor(expected)).abs().max().item()
    if not error <= task.tolerance:
        raise ValueError(f"{task.name}: {name} differs from ours by {error}")
