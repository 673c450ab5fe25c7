"""Where student code runs when a class is graded: in bubblewrap, in kernels forked on demand.

What is visible inside: the system and the installed packages, read-only, and of this package only
what a notebook may import. Neither the references, nor what judges, nor the gradebook, nor another
submission, nor a network is there. `Sandbox` starts it; `SandboxProvisioner` is how Jupyter asks it
for a kernel.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import site
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Bool, Dict, Unicode

# The half of this package that runs beside student code.
_INSIDE = ("calls", "exercise", "inside", "jail", "observe", "wire", "zygote")
_SHIM = '"""The check that observes."""\n\nfrom {inside} import check\n'

GIB = 2**30
# For one kernel, memory beyond what the zygote has mapped; see `jail.limit`.
LIMITS = {
    "memory": 4 * GIB,
    "cpu_seconds": 300,
    "processes": 128,
    "open_files": 256,
    "file_size": GIB // 4,
}
STARTUP_SECONDS = 120
_PREFIX = "dgm-"


class SandboxError(Exception):
    """The sandbox cannot be had; the message says why and what to do."""


def why_not() -> str:
    """What keeps this machine from having a sandbox; empty when nothing does."""
    if not shutil.which("bwrap"):
        return "bubblewrap is not installed (on Debian or Ubuntu: apt install bubblewrap)"
    trial = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    outcome = subprocess.run(trial, capture_output=True, text=True)
    if outcome.returncode != 0:
        said = outcome.stderr.strip() or f"exit code {outcome.returncode}"
        return f"bubblewrap does not work here ({said}); it needs unprivileged user namespaces"
    return ""


@dataclass(frozen=True)
class Contents:
    """What a sandbox holds, and whether it is one.

    Args:
        tasks: what `wire.dump_tasks` made: the arguments for every check of the assignment.
        checks: module from which the notebook imports `check`.
        may_import: modules of the course's package that the notebook may import.
        jailed: False leaves the machine unprotected from student code.

    """

    tasks: bytes
    checks: str
    may_import: tuple[str, ...]
    jailed: bool = True


class Sandbox:
    """A warm process that forks kernels for one assignment; a context manager.

    Args:
        contents: what is inside.

    Raises:
        SandboxError: when bubblewrap is missing or does not work here.

    """

    def __init__(self, contents: Contents):
        if contents.jailed and (reason := why_not()):
            raise SandboxError(
                f"{reason}; without the sandbox student code could read the answers and change the "
                "gradebook. Where it cannot be had (macOS, Windows), --no-sandbox grades without "
                "protection."
            )
        self.jailed = contents.jailed
        _sweep()
        # Short, because the path of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            (self.folder / "owner").write_text(str(os.getpid()))
            for name in ("kernels", "course"):
                (self.folder / name).mkdir()
            _make_package(self.folder / "course", contents)
            (self.folder / "tasks").write_bytes(contents.tasks)
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """End the warm process and every kernel with it, and remove what lay on disk."""
        process = getattr(self, "_process", None)
        if process:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self):
        kernels, course = self.folder / "kernels", self.folder / "course"
        zygote = f"{__package__}.zygote"
        arguments = [kernels / "zygote", self.folder / "tasks", "jailed" if self.jailed else "free"]
        environment = _environment(course)
        command = [sys.executable, "-m", zygote, *arguments]
        if self.jailed:
            inside = {kernels: "/run/dgm", course: "/course", self.folder / "tasks": "/tasks"}
            home = "/home/student"
            environment = _environment("/course") | {"HOME": home, "TMPDIR": home}
            arguments = ["/run/dgm/zygote", "/tasks", "jailed"]
            command = [*_bubblewrap(inside), sys.executable, "-m", zygote, *arguments]
        self._log = self.folder / "log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                list(map(str, command)),
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_it_listens()

    def _wait_until_it_listens(self):
        end = time.monotonic() + STARTUP_SECONDS
        while not (self.folder / "kernels" / "zygote").exists():
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise SandboxError(f"the sandbox did not start; its last words: {said[-1]}")
            time.sleep(0.01)


def _sweep():
    """Remove the folders of sandboxes whose owner was killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            os.kill(int((folder / "owner").read_text()), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, ValueError):
            # Somebody else's, or just being made.
            continue


def visible_modules(may_import: tuple[str, ...]) -> tuple[str, ...]:
    """Every module of the course's package that exists inside a sandbox."""
    return (*may_import, *(f"{__package__}.{name}" for name in _INSIDE))


def _make_package(folder, contents):
    """The modules that student code may see, copied into a folder; that of `check` is a shim."""
    modules = visible_modules(contents.may_import)
    for name in (*modules, contents.checks):
        parents = name.split(".")[:-1]
        for depth in range(1, len(parents) + 1):
            package = folder.joinpath(*parents[:depth])
            package.mkdir(exist_ok=True)
            (package / "__init__.py").touch()
    for name in modules:
        source = importlib.util.find_spec(name).origin
        shutil.copy(source, folder.joinpath(*name.split(".")).with_suffix(".py"))
    shim = folder.joinpath(*contents.checks.split(".")).with_suffix(".py")
    shim.write_text(_SHIM.format(inside=f"{__package__}.inside"))


def _environment(course):
    kept = {name: os.environ[name] for name in ("DGM_DEVICE", "LANG") if name in os.environ}
    return {
        **kept,
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(course),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }


def _bubblewrap(inside):
    """Bubblewrap's command line: what is mounted where, and nothing else."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--uid", "1000", "--gid", "1000", "--hostname", "grading"]
    command += ["--tmpfs", "/tmp", "--tmpfs", "/home/student", "--dir", "/sockets"]
    for path in ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/etc/alternatives", "/etc/fonts"):
        command += ["--ro-bind-try", path, path]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    command += ["--ro-bind-try", "/etc/localtime", "/etc/localtime"]
    # After /tmp, for Python's own folder may lie in there; a kernel then gets no /tmp of its own.
    for path in dict.fromkeys((sys.base_prefix, sys.prefix)):
        command += ["--ro-bind", path, path]
    command += ["--remount-ro", "/tmp"]
    # An installed copy of the course's package would hold the answers.
    package = Path(__file__).resolve().parent.parent
    if any(package.is_relative_to(path) for path in site.getsitepackages()):
        command += ["--tmpfs", package, "--remount-ro", package]
    # What could be written in /dev would be seen by all kernels, and fill the machine's memory.
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    if os.environ.get("DGM_DEVICE", "").startswith("cuda"):
        for path in sorted(Path("/dev").glob("nvidia*")):
            command += ["--dev-bind-try", path, path]
    for outer, inner in inside.items():
        command += ["--bind" if inner == "/run/dgm" else "--ro-bind", outer, inner]
    return [*command, "--remount-ro", "/", "--"]


class SandboxProvisioner(KernelProvisionerBase):
    """Has a `Sandbox` fork a kernel; registered with Jupyter as `dgm-sandbox`."""

    folder = Unicode(help="the sandbox's folder").tag(config=True)
    jailed = Bool(True, help="whether kernels are jailed").tag(config=True)
    limits = Dict(LIMITS, help="what one kernel may use; see jail.limit").tag(config=True)

    _client = None
    _exit = None

    @property
    def has_process(self):
        """Whether there is a kernel, running or not yet buried."""
        return self._client is not None

    async def pre_launch(self, **kwargs):
        """Choose the folder of the kernel's sockets before the connection is written down."""
        self._home = Path(tempfile.mkdtemp(dir=Path(self.folder) / "kernels"))
        manager = self.parent
        manager.transport, manager.ip = "ipc", str(self._home / "k")
        for number, name in enumerate(("shell", "iopub", "stdin", "hb", "control"), 1):
            setattr(manager, f"{name}_port", number)
        kwargs = await super().pre_launch(cmd=["zygote"], **kwargs)
        # By default it would lie in the system's temporary folder, and stay there.
        manager.connection_file = str(self._home / "outside.json")
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return kwargs

    async def launch_kernel(self, cmd, **kwargs):
        """Ask the zygote for a kernel."""
        inner = "/run/dgm" if self.jailed else f"{self.folder}/kernels"
        seen = "/sockets/k" if self.jailed else str(self._home / "k")
        session = self.parent.session
        connection = {
            **{f"{name}_port": n for n, name in enumerate(("shell", "iopub", "stdin", "hb"), 1)},
            "control_port": 5,
            "transport": "ipc",
            "ip": seen,
            "key": session.key.decode(),
            "signature_scheme": session.signature_scheme,
        }
        file = self._home / "connection.json"
        file.write_text(json.dumps(connection))
        request = {"connection": f"{inner}/{self._home.name}/{file.name}", "limits": self.limits}
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(30)
        self._client.connect(str(Path(self.folder) / "kernels" / "zygote"))
        self._lines = self._client.makefile("rwb")
        self._lines.write(json.dumps(request).encode() + b"\n")
        self._lines.flush()
        self.pid = json.loads(self._lines.readline())["pid"]
        self._client.setblocking(False)
        return self.connection_info

    async def poll(self):
        """None while the kernel runs, its exit status afterwards."""
        if self._exit is None and self._client:
            with contextlib.suppress(BlockingIOError):
                said = self._client.recv(4096)
                self._exit = json.loads(said)["exit"] if said else 1
        return self._exit

    async def wait(self):
        """Wait for the end of the kernel."""
        while await self.poll() is None:
            await asyncio.sleep(0.01)
        self._hang_up()
        return self._exit

    async def send_signal(self, signum):
        """Only SIGKILL reaches a kernel; interruptions travel as messages."""
        if signum == signal.SIGKILL:
            self._hang_up()

    async def kill(self, restart=False):
        """End the kernel and everything it started."""
        self._hang_up()

    async def terminate(self, restart=False):
        """End the kernel and everything it started."""
        self._hang_up()

    async def cleanup(self, restart=False):
        """Remove the kernel's sockets."""
        self._hang_up()
        shutil.rmtree(self._home, ignore_errors=True)

    def _hang_up(self):
        if self._client:
            # Closing alone would wait for the file that was made of the socket; the kernel would
            # live on.
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
            self._lines.close()
            self._client.close()
            self._client, self._exit = None, -signal.SIGKILL if self._exit is None else self._exit
