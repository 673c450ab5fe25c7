"""What the process trees of kernels use, seen from the process that forked them.

Linux limits single processes; here a tree is counted as a whole. Everything is read from
`/proc/PID/stat` and `/proc/PID/status`, which no process can close to others, and a process belongs
to the kernel that its chain of parents leads to: in a tree of its own there is no other way out.
"""

import contextlib
import os
import signal
from collections import defaultdict
from dataclasses import dataclass, field

_TICKS = os.sysconf("SC_CLK_TCK")
# What Linux lets wait in one socket by default; each open file might be one.
_WAITING = 212_992
# Processor seconds that a tree may have at once beyond its share.
BURST = 0.25
# So often a tree may be seen running on although it was stopped.
EVASIONS = 20


@dataclass
class Process:
    """What a process uses; its number is that which the watching process knows it by.

    Args:
        pid: the number.
        parent: number in `/proc` of its parent.
        born: when it was started, in ticks; with its number that makes a name.
        state: a letter, as in ps(1).
        own: processor seconds of all its threads, also those that have ended.
        waited: processor seconds of the children that it has waited for.
        threads: how many it has.
        memory: bytes in memory and swap, with what its open files may hold.

    """

    pid: int
    parent: int
    born: int
    state: str
    own: float
    waited: float
    threads: int
    memory: int


class Watch:
    """Looks at all processes below this one.

    To be made in the process that forks the kernels.
    """

    def __init__(self):
        self._self = int(os.readlink("/proc/self"))
        # How many of the numbers that a process has are those of trees around this one.
        self._around = len(_numbers(_status(self._self))) - 1

    def look(self) -> dict[int, dict[int, Process]]:
        """All processes of each kernel: by the kernel's number, then by that in `/proc`.

        Raises:
            OSError: when something is there that cannot be looked at.

        """
        # The elder first: when a process is found to be gone, what it has used is already with
        # whoever waited for it.
        numbers = sorted(map(int, filter(str.isdigit, os.listdir("/proc"))))
        found = {n: process for n in numbers if (process := self.read(n))}
        kernels = defaultdict(dict)
        for number, process in found.items():
            if kernel := self._kernel_of(number, found):
                kernels[kernel][number] = process
        return kernels

    def read(self, number: int) -> Process | None:
        """A process by its number in `/proc`; None when it has ended."""
        try:
            with open(f"/proc/{number}/stat", "rb") as file:
                # Its name may hold anything, also spaces and brackets.
                said = file.read().rpartition(b")")[2].split()
            status = _status(number)
            if said[0] == b"Z" and int(said[17]) > 1:
                # Its first thread has ended, and knows nothing of the memory any more.
                status |= _status_of_a_thread(number)
        except (FileNotFoundError, ProcessLookupError):
            return None
        own, waited = (sum(map(int, pair)) / _TICKS for pair in (said[11:13], said[13:15]))
        numbers = _numbers(status)
        return Process(
            # One of the trees around has no number here.
            pid=numbers[self._around] if len(numbers) > self._around else 0,
            parent=int(said[1]),
            born=int(said[19]),
            state=said[0].decode(),
            own=own,
            waited=waited,
            threads=int(said[17]),
            memory=1024 * sum(_number(status, name) for name in (b"VmRSS", b"VmSwap", b"VmPTE"))
            + _WAITING * _number(status, b"FDSize"),
        )

    def _kernel_of(self, number, found):
        """The kernel to which a process belongs, by its number here; None if to none."""
        while (process := found[number]).parent != self._self:
            if process.parent not in found:
                # Its parent has ended since: it has another one now, unless it has ended too.
                again = self.read(number) if process.parent else None
                if again is None or again.parent not in found:
                    return None
                found[number] = again
            number = found[number].parent
        return process.pid


@dataclass
class Usage:
    """What one tree has used so far, and what it is due.

    Args:
        cores: its share of the processor in the long run.
        used: processor seconds of all its processes, also those that have ended.

    """

    cores: float
    used: float = 0.0
    _last: dict = field(default_factory=dict)
    # Seconds of processes that ended without anybody waiting for them.
    _lost: float = 0.0
    # Seconds that it had beyond its share; what it left is kept for a moment only.
    _debt: float = 0.0
    _stopped: set = field(default_factory=set)
    _evasions: int = 0

    def add(self, processes: dict[int, Process], elapsed: float, watch: Watch) -> None:
        """Count what was used since the last look.

        Args:
            processes: of the tree, by number in `/proc`.
            elapsed: seconds since then.
            watch: what looked.

        """
        ended = {n: p for n, p in self._last.items() if not _same(p, processes.get(n))}
        self._lost += sum(self._unclaimed(ended, processes, watch))
        total = self._lost + sum(p.own + p.waited for p in processes.values())
        spent, self.used = max(total - self.used, 0.0), max(total, self.used)
        # What lives for a moment, and is waited for by nobody, is seen only while it runs.
        fresh = sum(
            p.state == "R" and not _same(p, self._last.get(n)) for n, p in processes.items()
        )
        spent = max(spent, min(fresh, len(os.sched_getaffinity(0))) * elapsed)
        if self._stopped and spent > elapsed / 2:
            self._evasions += 1
        self._debt = max(self._debt + spent - self.cores * elapsed, -BURST)
        self._last = processes

    def _unclaimed(self, ended, processes, watch):
        """Seconds that ended processes took and no process that lives has waited for."""
        claims = defaultdict(float)
        for process in ended.values():
            above = process.parent
            while above in ended:
                above = ended[above].parent
            claims[above] += process.own + process.waited
        for above, seconds in claims.items():
            before = self._last.get(above)
            # Read again, for it may have waited since.
            if before and (now := watch.read(above)) and _same(before, now):
                processes[above] = now
                seconds -= now.waited - before.waited
            yield max(seconds, 0.0)

    def ration(self, processes: dict[int, Process]) -> bool:
        """Stop a tree that had more than its share, and let it go on when that is made up for.

        Returns:
            False when it runs on in spite of that.

        """
        if self._debt > BURST or (self._stopped and self._debt > 0):
            for process in processes.values():
                if process.state not in "TtZX":
                    self._stopped.add(process.pid)
                    _signal(process.pid, signal.SIGSTOP)
            return self._evasions < EVASIONS
        if self._stopped:
            for process in processes.values():
                if process.pid in self._stopped:
                    _signal(process.pid, signal.SIGCONT)
            self._stopped, self._evasions = set(), 0
        return True


def _same(one, other):
    """Whether both are the same process, not another with its number."""
    return other is not None and one.born == other.born


def _signal(pid, number):
    # The first numbers stand for this process and for its whole group.
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _status(number, thread=""):
    with open(f"/proc/{number}{thread}/status", "rb") as file:
        return dict(line.split(b":", 1) for line in file.read().splitlines() if b":" in line)


def _status_of_a_thread(number):
    """Of one that still has memory, if there is one."""
    for thread in os.listdir(f"/proc/{number}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = _status(number, f"/task/{thread}")
            if b"VmRSS" in status:
                return {name: status[name] for name in status if name != b"NSpid"}
    return {}


def _numbers(status):
    """The numbers of a process, from that in `/proc` to that in its own tree."""
    return [int(number) for number in status[b"NSpid"].split()]


def _number(status, name):
    return int(status.get(name, b"0").split()[0])
