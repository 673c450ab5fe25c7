"""What a kernel's whole tree may use: counted and rationed, and said when there was too much."""

import asyncio
import socket

import pytest
from conftest import needs_sandbox
from test_sandbox import NOTHING, run

from nbjudge.inside import watch
from nbjudge.inside.watch import Process, Usage
from nbjudge.running import kernel
from nbjudge.running.provisioner import SandboxProvisioner
from nbjudge.running.sandbox import GIB, LIMITS, Contents, Sandbox

CORES = 1.1
LOOK = 0.1


def process(pid, own=0.0, waited=0.0, state="S", parent=1, born=None):
    born = pid if born is None else born
    return Process(pid, parent, born, state, own, waited, threads=1, memory=0)


class World:
    """Processes that run whenever nobody has stopped them, on as many cores as there are."""

    def __init__(self, monkeypatch, *processes):
        self.now = {p.pid: p for p in processes}
        self.usage = Usage(CORES)
        self.stops = 0
        monkeypatch.setattr(watch, "_signal", self._signal)

    def _signal(self, pid, number):
        self.now[pid].state = "T" if number == watch.signal.SIGSTOP else "R"
        self.stops += number == watch.signal.SIGSTOP

    def read(self, number):
        return self.now.get(number)

    def look(self, busy=(), seconds=LOOK):
        now = {}
        for pid, p in self.now.items():
            runs = pid in busy and p.state != "T"
            own = p.own + (seconds if runs else 0)
            now[pid] = process(pid, own, p.waited, p.state, p.parent, p.born)
        self.now = now
        seen = dict(now)
        self.usage.add(seen, seconds, self)
        return self.usage.ration(seen)


def test_one_busy_process_is_never_stopped(monkeypatch):
    world = World(monkeypatch, process(1), process(2))
    assert all(world.look(busy={1}) for _ in range(100))
    assert (world.stops, world.usage.used) == (0, pytest.approx(10))


@pytest.mark.parametrize("busy", [2, 4, 100])
def test_a_busy_tree_gets_its_share_in_the_long_run_and_no_less(monkeypatch, busy):
    world = World(monkeypatch, *(process(n) for n in range(1, busy + 1)))
    looks = 4000
    assert all(world.look(busy=set(range(1, busy + 1))) for _ in range(looks))
    # What it has beyond its share, or has left, is never more than a burst and what one look adds.
    assert abs(world.usage.used - CORES * LOOK * looks) <= watch.BURST + busy * LOOK


def test_who_was_stopped_by_itself_stays_so(monkeypatch):
    world = World(monkeypatch, process(1), process(2), process(3, state="T"))
    for _ in range(200):
        world.look(busy={1, 2})
    assert world.stops > 2 and world.now[3].state == "T"


def test_who_runs_on_when_stopped_is_reported(monkeypatch):
    world = World(monkeypatch, *(process(n) for n in range(1, 5)))
    monkeypatch.setattr(watch, "_signal", lambda pid, number: None)
    assert False in [world.look(busy={1, 2, 3, 4}) for _ in range(watch.EVASIONS + 10)]


def test_a_child_that_was_waited_for_is_counted_once(monkeypatch):
    world = World(monkeypatch, process(1), process(2, own=5.0))
    world.look()
    world.now = {1: process(1, waited=5.0)}
    world.look()
    assert world.usage.used == pytest.approx(5)


def test_a_child_whose_parent_waits_only_now_is_counted_once(monkeypatch):
    world = World(monkeypatch, process(1), process(2, own=5.0))
    world.look()
    # Looked at before its child was gone; looked at again, it has waited for it.
    later = process(1, waited=5.0)
    monkeypatch.setattr(world, "read", lambda number: later)
    world.now = {1: process(1)}
    world.look()
    assert world.usage.used == pytest.approx(5)


def test_a_grandchild_is_counted_once_when_both_are_waited_for(monkeypatch):
    world = World(monkeypatch, process(1), process(2, own=2.0), process(3, own=5.0, parent=2))
    world.look()
    world.now = {1: process(1, waited=7.0)}
    world.look()
    assert world.usage.used == pytest.approx(7)


def test_a_child_that_nobody_waited_for_is_counted_too(monkeypatch):
    world = World(monkeypatch, process(1), process(2, own=5.0))
    world.look()
    world.now = {1: process(1)}
    world.look()
    # Another process has its number now.
    world.now = {1: process(1), 2: process(2, own=3.0, born=77)}
    world.look()
    world.now = {1: process(1)}
    world.look()
    assert world.usage.used == pytest.approx(8)


def test_what_lives_for_a_moment_only_is_rationed_too(monkeypatch):
    monkeypatch.setattr(watch.os, "sched_getaffinity", lambda pid: range(4))
    world, stopped = World(monkeypatch, process(1)), 0
    for n in range(100):
        world.now = {1: world.now[1]} | {
            pid: process(pid, state="R") for pid in range(10 * n + 2, 10 * n + 6)
        }
        world.look()
        stopped += world.now[1].state == "T"
    # Four at a time, and none with a tick on its clock: they had four cores at most.
    assert stopped > 60


# In a sandbox


@pytest.fixture(scope="module")
def box():
    with Sandbox(Contents(NOTHING, "dgm_utils.exercises.iwae", ())) as made:
        yield made


@pytest.fixture
def ended(monkeypatch):
    """What each kernel is said to have used, and why it was ended."""
    seen, cleanup = [], SandboxProvisioner.cleanup

    async def clean(self, restart=False):
        await self.poll()
        seen.append((self.used, self.why))
        await cleanup(self, restart)

    monkeypatch.setattr(SandboxProvisioner, "cleanup", clean)
    return seen


def limited(monkeypatch, **limits):
    monkeypatch.setattr(kernel, "LIMITS", LIMITS | limits)


BUSY = """
import subprocess, time
shells = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range({number})]
time.sleep({seconds})
for shell in shells: shell.kill()
print("to the end")
"""


@needs_sandbox
def test_busy_shells_are_slowed_down_and_not_ended(box, monkeypatch, ended):
    limited(monkeypatch, cores=0.2)
    (said,) = run(box, BUSY.format(number=30, seconds=3), seconds=60)
    assert said == "to the end\n"
    ((used, why),) = ended
    assert used > 0.2 and why == ""


@needs_sandbox
def test_the_seconds_of_all_processes_together_are_limited(box, monkeypatch, ended):
    limited(monkeypatch, cpu_seconds=2)
    said, after = run(box, BUSY.format(number=8, seconds=60), "print('after')", seconds=60)
    assert said.startswith("KernelDied") and after == "after\n"
    # A kernel that died is tried once more before its cell is blamed.
    (used, why), (_, again), (_, nothing) = ended
    assert again == why
    assert why == "took more than 2 seconds of processor time" and nothing == ""
    assert used > 2


# Each in a child of its own: {hide} is what it does so that nobody shall see it.
HOARD = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None)

def hoard():
    kept.append(bytearray(b"x") * (400 << 20))
    time.sleep(100)

kept = []
for _ in range(4):
    if os.fork() == 0:
        {hide}
        hoard()
        os._exit(0)
time.sleep(60)
print("REACHED")
"""
HIDING = {
    "in the open": "pass",
    "not dumpable": "libc.prctl(4, 0, 0, 0, 0)",
    "as an orphan": "os.setsid()\n        if os.fork(): os._exit(0)",
    "without its first thread": (
        "threading.Thread(target=hoard).start(); libc.syscall({'x86_64': 60}.get("
        "os.uname().machine, 93), 0)"
    ),
    "with an odd name": "libc.prctl(15, b') Z 1 1 (', 0, 0, 0)",
}


@needs_sandbox
@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
def test_no_process_hides_its_memory(box, monkeypatch, ended, hide):
    limited(monkeypatch, memory=GIB)
    (said,) = run(box, HOARD.format(hide=hide), seconds=60)
    assert said.startswith("KernelDied")
    assert ended[0][1] == "took more than 1 GiB of memory"


@needs_sandbox
def test_sockets_full_of_bytes_are_memory_too(box, monkeypatch, ended):
    limited(monkeypatch, memory=GIB // 2)
    source = """
        import os, socket, time
        for _ in range(60):
            if os.fork() == 0:
                kept = [socket.socketpair() for _ in range(25)]
                for pair in kept:
                    for end in pair:
                        end.setblocking(False)
                        try:
                            while True: end.send(bytes(65536))
                        except OSError: pass
                time.sleep(100)
                os._exit(0)
        time.sleep(60)
        print("REACHED")
        """
    (said,) = run(box, source, seconds=60)
    assert said.startswith("KernelDied")
    assert ended[0][1] == "took more than 0.5 GiB of memory"


@needs_sandbox
def test_threads_are_counted_with_the_processes(box, monkeypatch, ended):
    limited(monkeypatch, processes=40)
    source = """
        import threading, time
        try:
            for _ in range(100): threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError: raise SystemExit("refused")
        time.sleep(60)
        """
    (said,) = run(box, source, seconds=60)
    # For root the system's own limit does not hold.
    refused = "refused" in said
    assert refused or ended[0][1] == "had more than 40 processes and threads"


# What the client hears


def heard(*pieces):
    """A provisioner that is told this, in these pieces."""
    made = SandboxProvisioner()
    made._client, zygote = socket.socketpair()
    made._client.setblocking(False)
    with made._client, zygote:
        seen = []
        for piece in pieces:
            zygote.sendall(piece)
            seen.append((asyncio.run(made.poll()), made.used, made.why))
        return seen


def test_lines_come_in_any_number_and_in_halves():
    assert heard(b'{"us', b'ed": 0.5}\n{"used": 1.5}\n{"used": 2', b".25}\n") == [
        (None, 0.0, ""),
        (None, 1.5, ""),
        (None, 2.25, ""),
    ]
    assert heard(b'{"used": 3}\n{"exit": -9, "why": "took', b' too much"}\n') == [
        (None, 3, ""),
        (-9, 3, "took too much"),
    ]
    assert heard(b'{"used": 1}\n{"exit": 0, "why": ""}\n') == [(0, 1, "")]
