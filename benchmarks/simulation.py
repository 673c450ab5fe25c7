"""How long a class of any size takes on any number of workers, from measured service times.

It plays the loop of `grade_class`: one process sanitizes notebooks, hands them to workers, a few
ahead for each, and marks and records what comes back, one at a time.
"""

import heapq
import random
from dataclasses import dataclass

# Notebooks handed out at once for each worker, as in `grade_class`.
AHEAD = 4


@dataclass(frozen=True)
class Service:
    """Measured seconds, one for each submission that was measured.

    Args:
        execute: by a worker.
        sanitize: by the recording process, before.
        record: by the recording process, after; marking included.

    """

    execute: list[float]
    sanitize: list[float]
    record: list[float]


@dataclass(frozen=True)
class Outcome:
    """What a simulated run came to.

    Args:
        makespan: seconds from the first submission to the last.
        bound: seconds that no schedule can do without.
        workers_busy: the part of the workers' time in which they execute.
        recorder_busy: the same for the recording process.

    """

    makespan: float
    bound: float
    workers_busy: float
    recorder_busy: float


def simulate(service: Service, submissions: int, workers: int, rng: random.Random) -> Outcome:
    """One run, with times drawn from the measured ones.

    Args:
        service: measured times.
        submissions: how many there are.
        workers: processes that execute, each on a core of its own.
        rng: the source of the draws.

    """
    now = recording = executing = 0.0
    free, running = [0.0] * workers, []
    todo = submissions
    while todo or running:
        while todo and len(running) < AHEAD * workers:
            todo -= 1
            took = rng.choice(service.sanitize)
            now, recording = now + took, recording + took
            # The notebook waits for the first worker that is free.
            took = rng.choice(service.execute)
            end = max(now, heapq.heappop(free)) + took
            executing += took
            heapq.heappush(free, end)
            heapq.heappush(running, end)
        now = max(now, running[0])
        # What ends while these are recorded is met the next time.
        done = [heapq.heappop(running) for _ in range(_ended(running, now))]
        for _ in done:
            took = rng.choice(service.record)
            now, recording = now + took, recording + took
    bound = max(recording, executing / workers)
    return Outcome(now, bound, executing / workers / now, recording / now)


def _ended(running, now):
    return sum(end <= now for end in running)
