"""Where student code runs when a class is graded: in bubblewrap, in kernels forked on demand.

What is visible inside: the system and the installed packages, read-only, and of this package only
what a notebook may import. Neither the references, nor what judges, nor the gradebook, nor another
submission, nor a network is there. `Sandbox` starts it; the module `provisioner` is how Jupyter
asks it for a kernel.
"""

import atexit
import contextlib
import fcntl
import importlib.util
import os
import shutil
import site
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from dgm_utils.grading.errors import UserError

# The half of this package that runs beside student code.
_INSIDE = (
    "calls",
    "clock",
    "exercise",
    "inside",
    "jail",
    "neutral",
    "observe",
    "wire",
    "zygote",
)
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


class SandboxError(UserError):
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
    hidden: tuple[str, ...] = ()


class Sandbox:
    """A warm process that forks kernels for one assignment; a context manager.

    Args:
        contents: what is inside.

    Raises:
        SandboxError: when bubblewrap is missing or does not work here.

    """

    def __init__(self, contents: Contents):
        self._warm = _spare.pop(contents.jailed, None) or _Warm(contents.jailed)
        self.jailed, self.folder = contents.jailed, self._warm.folder
        try:
            _add_modules(self.folder / "course", contents.may_import)
            _add_check(self.folder / "course", contents.checks)
            (self.folder / "tasks").write_bytes(contents.tasks)
            self._warm.wait()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process that was started: bubblewrap, or the warm process itself."""
        return self._warm.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()

    def close(self) -> None:
        """End the warm process and every kernel with it, and remove what lay on disk."""
        self._warm.close()


def warm_up(jailed: bool = True, hidden=()) -> None:
    """Start the process of the next `Sandbox` now.

    It takes some seconds, in which the caller can do something else.

    Raises:
        SandboxError: when bubblewrap is missing or does not work here.

    """
    if jailed not in _spare:
        _spare[jailed] = _Warm(jailed)


class _Warm:
    """The process and its folder on disk, before it is known what will be inside."""

    def __init__(self, jailed):
        if jailed and (reason := why_not()):
            raise SandboxError(
                f"{reason}; without the sandbox student code could read the answers and change the "
                "gradebook. Where it cannot be had (macOS), --no-sandbox grades without "
                "protection; on Windows, grade in the Windows Subsystem for Linux."
            )
        _sweep()
        self._make_folder()
        try:
            for name in ("kernels", "course"):
                (self.folder / name).mkdir()
            _add_modules(self.folder / "course", _inside())
            (self.folder / "tasks").touch()
            self._start(jailed)
        except BaseException:
            self.close()
            raise

    def _make_folder(self):
        # Another process's `_sweep` may take it for a leftover until it is locked; then there is a
        # next one. Its name is short, because the path of a Unix socket has at most 107 bytes.
        lock = None
        while lock is None:
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = _lock(self.folder, "xb")
        self._lock = lock

    def _start(self, jailed):
        kernels, course = self.folder / "kernels", self.folder / "course"
        zygote = f"{__package__}.zygote"
        arguments = [kernels / "zygote", self.folder / "tasks", "jailed" if jailed else "free"]
        environment = _environment(course)
        command = [sys.executable, "-m", zygote, *arguments]
        if jailed:
            inside = {kernels: "/run/dgm", course: "/course", self.folder / "tasks": "/tasks"}
            home = "/home/student"
            environment = _environment("/course") | {"HOME": home, "TMPDIR": home}
            arguments = ["/run/dgm/zygote", "/tasks", "jailed"]
            command = [*_bubblewrap(inside), sys.executable, "-m", zygote, *arguments]
        self._log = self.folder / "log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self):
        """Wait until it listens.

        Raises:
            SandboxError: when it ended instead, or does not get that far.

        """
        end = time.monotonic() + STARTUP_SECONDS
        while not (self.folder / "kernels" / "zygote").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                said = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise SandboxError(f"the sandbox did not start; its last words: {said[-1]}")
            time.sleep(0.01)

    def close(self):
        """End the process and remove its folder."""
        process = getattr(self, "process", None)
        if process:
            process.kill()
            process.wait()
        _remove(self.folder)
        self._lock.close()


# Jailed or not → a process that no sandbox has taken yet.
_spare: dict[bool, _Warm] = {}


@atexit.register
def _close_spare():
    while _spare:
        _spare.popitem()[1].close()


def _sweep():
    """Remove the folders of sandboxes whose owner was killed: the system has dropped their locks.

    A process id would not do, for another container that shares the folder has its own.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if lock := _lock(folder, "rb+"):
            with lock:
                _remove(folder)
        else:
            # In use, somebody else's, or empty: its owner was killed before the lock, or after.
            with contextlib.suppress(OSError):
                folder.rmdir()


def _lock(folder, mode):
    """The folder's lock as an open file, or None if it cannot be had."""
    with contextlib.ExitStack() as undo:
        try:
            file = undo.enter_context(open(folder / "lock", mode))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been removed since it was opened.
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(folder / "lock")):
                return None
        except OSError:
            return None
        undo.pop_all()
        return file


def _remove(folder):
    """Remove a sandbox's folder, its lock last, so that `_sweep` finds what a kill has left."""
    for path in folder.glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def visible_modules(may_import: tuple[str, ...]) -> tuple[str, ...]:
    """Every module of the course's package that exists inside a sandbox."""
    return (*may_import, *_inside())


def _inside():
    return tuple(f"{__package__}.{name}" for name in _INSIDE)


def _add_modules(folder, names):
    """Copy modules that student code may see."""
    for name in names:
        shutil.copy(importlib.util.find_spec(name).origin, _place(folder, name))


def _add_check(folder, name):
    """Where the notebook imports `check` from, put one that observes."""
    _place(folder, name).write_text(_SHIM.format(inside=f"{__package__}.inside"))


def _place(folder, name):
    """Path of a module's file, in packages that hold nothing else."""
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        package = folder.joinpath(*parents[:depth])
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
    return folder.joinpath(*name.split(".")).with_suffix(".py")


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


def _card_files():
    return sorted(Path("/dev").glob("nvidia*"))


def _bubblewrap(inside):
    """Bubblewrap's command line: what is mounted where, and nothing else."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--uid", "1000", "--gid", "1000", "--hostname", "grading"]
    command += ["--tmpfs", "/tmp", "--tmpfs", "/home/student"]
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
    command += ["--proc", "/proc", "--dev", "/dev"]
    if os.environ.get("DGM_DEVICE", "").startswith("cuda"):
        # The driver wants to know of the machine, and to name its threads in a /proc that numbers
        # them as they do themselves; for root bubblewrap covers parts of /proc, see `jail.lead`.
        command += ["--ro-bind", "/sys", "/sys"]
        if os.getuid() == 0:
            command += ["--uid", "0", "--gid", "0", "--cap-add", "CAP_SYS_ADMIN"]
        for path in _card_files():
            command += ["--dev-bind-try", path, path]
    # What could be written in /dev would be seen by all kernels, and fill the machine's memory.
    command += ["--remount-ro", "/dev"]
    for outer, inner in inside.items():
        command += ["--bind" if inner == "/run/dgm" else "--ro-bind", outer, inner]
    return [*command, "--remount-ro", "/", "--"]
