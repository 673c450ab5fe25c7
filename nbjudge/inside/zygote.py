"""The warm process inside the sandbox: it has imported what notebooks need, and forks kernels.

`warm` starts it. A client connects to the socket and sends one line of JSON, `{"folder": where the
kernel's sockets shall be, "connection": {what Jupyter's connection file holds, the sockets' names
relative to the folder}, "limits": {…}}`. It gets lines back: `{"pid": …}`, now and then
`{"used": processor seconds of the kernel's whole tree}`, and, when the kernel has ended,
`{"exit": status, "why": what it had too much of, or nothing}`. A client that hangs up kills its
kernel, so that no kernel outlives whoever wanted it.

It may be started before it is known what the sandbox will hold: the tasks and the modules that the
notebook may import are there when the first client comes.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from os import _exit
from pathlib import Path
from typing import ClassVar

import ipykernel.ipkernel

# Imported here, once, for all the kernels to come.
import matplotlib.pyplot
import matplotlib_inline.backend_inline

from nbjudge.inside import jail
from nbjudge.inside.kernel import start_kernel
from nbjudge.inside.watch import Process, Usage, Watch

# The debugger takes longer to import than all else a kernel is made of, and nobody debugs here.
sys.modules["debugpy"] = None
WARM = (matplotlib.pyplot, matplotlib_inline.backend_inline)
# What IPython imports only when a kernel starts or runs its first cell.
LATE = (
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.logger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "ipykernel.debugger",
    "pydoc",
    "tornado.platform.asyncio",
    "zmq.utils.garbage",
)
# Seconds between two looks at what the kernels use, and how much more a client is told of.
LOOK, TOLD = 0.1, 0.2
# Files that lie beside the notebooks when they run; no package can be of this name.
COURSE = Path(jail.__file__).parents[2]
BESIDE = COURSE / ".beside"
# Private to each kernel, and in memory; a folder that holds Python itself must stay visible.
WRITABLE = {
    folder: size
    for folder, size in (("/tmp", "256m"), ("/home/student", "256m"), ("/dev/shm", "64m"))
    if not any(Path(prefix).is_relative_to(folder) for prefix in (sys.prefix, sys.base_prefix))
}


class _WithoutModules:
    """What ipykernel takes for `sys`: for the debugger it would go through all modules.

    In a fork that means a copy of each page that one of them lies on, half of all that are copied.
    """

    modules: ClassVar[dict] = {}

    def __getattr__(self, name):
        return getattr(sys, name)


ipykernel.ipkernel.sys = _WithoutModules()


@dataclass
class _Kernel:
    """A kernel that was forked: who wanted it, what it may use, and what it has used.

    Args:
        client: the connection.
        limits: as the client gave them.
        inherited: bytes that were mapped before it was forked; beside its limit on memory.

    """

    client: socket.socket
    limits: dict
    inherited: int
    usage: Usage
    told: float = 0.0
    why: str = ""

    def excess(self, processes: list[Process]) -> str:
        """What its tree has too much of; nothing if all is well."""
        limits = self.limits
        if sum(p.memory for p in processes) > limits["memory"] + self.inherited:
            return f"took more than {limits['memory'] / 2**30:g} GiB of memory"
        if sum(p.threads for p in processes) > limits["processes"]:
            return f"had more than {limits['processes']} processes and threads"
        if self.usage.used > limits["cpu_seconds"]:
            return f"took more than {limits['cpu_seconds']} seconds of processor time"
        return ""


class Zygote:
    """Listens on a Unix socket and forks a kernel for each client.

    Args:
        path: of the socket.
        tasks: path of what `wire.dump_tasks` made.
        jailed: whether kernels get namespaces and limits; if not, a kernel is a plain fork.

    """

    def __init__(self, path: str, tasks: str, jailed: bool):
        self._tasks, self._jailed = tasks, jailed
        self._watch, self._looked = Watch() if jailed else None, time.monotonic()
        self._kernels: dict[int, _Kernel] = {}
        self._selector = selectors.DefaultSelector()
        self._server = socket.socket(socket.AF_UNIX)
        # Whoever finds the socket connects at once.
        self._server.bind(path + ".new")
        self._server.listen(64)
        os.rename(path + ".new", path)
        self._wake, self._alarm = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._alarm)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._bury)

    def run(self) -> None:
        """Serve until killed, or until nobody is left to serve."""
        parent = os.getppid()
        # In a jail bubblewrap sees to that; elsewhere whoever started this may be killed unheard.
        while self._jailed or os.getppid() == parent:
            for key, _ in self._selector.select(LOOK if self._kernels else 1):
                key.data(key.fileobj)
            if self._jailed and time.monotonic() - self._looked >= LOOK:
                self._look()

    def _accept(self, server):
        client, _ = server.accept()
        with client.makefile("r") as lines:
            request = json.loads(lines.readline())
        if self._tasks:
            self._get_ready()
        inherited = jail.mapped() if self._jailed else 0
        pid = self._fork(request, inherited)
        limits = request["limits"]
        self._kernels[pid] = _Kernel(client, limits, inherited, Usage(limits["cores"]))
        self._selector.register(client, selectors.EVENT_READ, lambda _: self._hang_up(pid))
        _tell(client, pid=pid)

    def _get_ready(self):
        """What is the same for all kernels: the modules that they may import, and the tasks."""
        # Without checks there are none, and nothing needs torch.
        if os.path.getsize(self._tasks):
            # Their folder was looked at before they were there.
            importlib.invalidate_caches()
            for module in pkgutil.walk_packages([str(COURSE)]):
                importlib.import_module(module.name)
            _prepare_torch()
            importlib.import_module(f"{__package__}.check").load(self._tasks)
        # A collection of garbage in a kernel would copy every page that has an object on it.
        gc.collect()
        gc.freeze()
        self._tasks = None

    def _fork(self, request, inherited):
        """A kernel; its process id."""
        pid = jail.fork_apart() if self._jailed else os.fork()
        if pid:
            return pid
        # Nothing may return into the zygote's loop.
        try:
            signal.set_wakeup_fd(-1)
            self._close_all()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            home = "/home/student" if self._jailed else request["folder"]
            parent = 0 if self._jailed else os.getppid()
            os.chdir(request["folder"])
            if self._jailed:
                _shut_in(request["folder"], request["limits"], inherited)
            if BESIDE.is_dir():
                shutil.copytree(BESIDE, home, dirs_exist_ok=True)
            start_kernel(request["connection"], home, parent)
        except BaseException:
            traceback.print_exc()
        finally:
            # Python's own: see `kernel`.
            _exit(1)

    def _close_all(self):
        """In a kernel: keep nothing of the zygote's open.

        Through the selector, which a fork shares, student code could make the zygote believe that
        another student's client had hung up.
        """
        self._selector.close()
        self._server.close()
        for kernel in self._kernels.values():
            kernel.client.close()
        os.close(self._wake)
        os.close(self._alarm)

    def _hang_up(self, pid):
        # It may have ended at the same moment, and been heard of first.
        if kernel := self._kernels.get(pid):
            self._selector.unregister(kernel.client)
            # With the first process of a tree the others end.
            os.kill(pid, signal.SIGKILL)

    def _look(self):
        """End the kernels whose trees have too much, and slow down those that are too busy.

        Limits of the system are for one process, and the one on their number does not hold for
        root.
        """
        now = time.monotonic()
        elapsed, self._looked = now - self._looked, now
        try:
            found = self._watch.look() if self._kernels else {}
        except OSError as error:
            # Nobody knows whose it is; what cannot be watched is not let run.
            for pid in self._kernels:
                self._end(pid, f"could not be watched ({error})")
            return
        for pid, kernel in self._kernels.items():
            # It may have ended, and not be buried yet.
            processes = found.get(pid, {})
            kernel.usage.add(processes, elapsed, self._watch)
            if why := kernel.excess(processes.values()):
                self._end(pid, why)
            elif not kernel.usage.ration(processes):
                self._end(pid, "did not let itself be slowed down")
            if kernel.usage.used - kernel.told >= TOLD:
                kernel.told = kernel.usage.used
                _tell(kernel.client, used=round(kernel.told, 2))

    def _end(self, pid, why):
        kernel = self._kernels[pid]
        kernel.why = kernel.why or why
        os.kill(pid, signal.SIGKILL)

    def _bury(self, wake):
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                kernel = self._kernels.pop(pid)
                with contextlib.suppress(KeyError):
                    self._selector.unregister(kernel.client)
                used = round(kernel.usage.used, 2)
                exit_code = os.waitstatus_to_exitcode(status)
                _tell(kernel.client, used=used)
                _tell(kernel.client, exit=exit_code, why=kernel.why)
                kernel.client.close()


def _tell(client, **message):
    with contextlib.suppress(OSError):
        client.sendall(json.dumps(message).encode() + b"\n")


def _shut_in(folder, limits, inherited):
    """Leave everything behind but the working directory, as a process that will be a kernel."""
    jail.isolate(os.path.dirname(folder), WRITABLE, with_proc=jail.on_a_card())
    jail.die_with_parent()
    jail.give_up_rights(with_card=jail.on_a_card())
    # A share of the processor is not the system's to limit.
    own = {name: most for name, most in limits.items() if name != "cores"}
    own["memory"] += inherited
    jail.limit(**own, any_address=jail.on_a_card())
    # The log is a file outside, and all kernels share it.
    nowhere = os.open("/dev/null", os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _prepare_torch():
    # With a card in sight autograd starts threads, and refuses to work after a fork.
    if not jail.on_a_card():
        importlib.import_module(f"{__package__}.observe").prepare_torch()


def serve(path: str, tasks: str, jailed: bool) -> None:
    """Get ready and serve clients until killed.

    Args:
        path: of the socket.
        tasks: path of what `wire.dump_tasks` made.
        jailed: whether kernels get namespaces and limits.

    """
    if jailed:
        jail.lead(with_proc=jail.on_a_card())
    if "torch" in sys.modules:
        _prepare_torch()
    for name in LATE:
        importlib.import_module(name)
    Zygote(path, tasks, jailed).run()
