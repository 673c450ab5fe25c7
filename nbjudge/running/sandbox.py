"""Where student code runs when a class is graded: in bubblewrap, in kernels forked on demand.

What is visible inside: the system and the installed packages, read-only, and of this package only
what a notebook may import. Neither the references, nor what judges, nor the gradebook, nor another
submission, nor a network is there. `Sandbox` starts it; the module `provisioner` is how Jupyter
asks it for a kernel.
"""

import atexit
import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from nbjudge.course.declared import device
from nbjudge.course.safe_files import write_whole
from nbjudge.errors import UserError
from nbjudge.inside.probe import SEEN
from nbjudge.running import answers, folders, mounts

_INSIDE = "nbjudge.inside"
# What the notebook imports there in the place of its assignment's `check`.
_SHIM = f'"""The check that observes."""\n\nfrom {_INSIDE}.check import check\n'

GIB = 2**30
# For one kernel and all its processes, memory beyond what the zygote has mapped; see `jail.limit`,
# and `watch` for the cores that it may have in the long run.
LIMITS = {
    "memory": 4 * GIB,
    # As long as a notebook may take in all; see `execute.Rules`.
    "cpu_seconds": 900,
    "cores": 1.1,
    "processes": 128,
    "open_files": 256,
    "file_size": GIB // 4,
}
STARTUP_SECONDS = 120


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
        checks: module from which the notebooks import `check`; nothing if none does.
        may_import: modules of the course's package that the notebook may import.
        jailed: False leaves the machine unprotected from student code.
        hidden: absolute paths that nothing inside may see, wherever they lie: the course's folder,
            and where the gradebook is.
        beside: files that lie beside the notebooks when they run: path, with `/`, and content.
        preloaded: large modules that the notebooks use, imported once for all kernels.

    """

    tasks: bytes
    checks: str
    may_import: tuple[str, ...]
    jailed: bool = True
    hidden: tuple[str, ...] = ()
    beside: tuple[tuple[str, bytes], ...] = ()
    preloaded: tuple[str, ...] = ()


class Sandbox:
    """A warm process that forks kernels for one assignment; a context manager.

    Args:
        contents: what is inside.

    Raises:
        SandboxError: when bubblewrap is missing or does not work here, or when student code would
            see answers inside.

    """

    def __init__(self, contents: Contents):
        self._warm = _take(contents)
        self.jailed, self.folder = contents.jailed, self._warm.folder
        try:
            _add_modules(self.folder / "course", contents.may_import)
            if contents.checks:
                _add_check(self.folder / "course", contents.checks)
            for name, content in contents.beside:
                write_whole(self.folder / "course" / ".beside" / name, content)
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


def warm_up(
    jailed: bool = True, hidden: tuple[str, ...] = (), preloaded: tuple[str, ...] = ()
) -> None:
    """Start the process of the next `Sandbox` now.

    It takes some seconds, in which the caller can do something else.

    Args:
        jailed: as in its `Contents`.
        hidden: as in its `Contents`; if more is hidden there, another process is started.
        preloaded: as in its `Contents`, as far as it is known; what is missing costs time only.

    Raises:
        SandboxError: when bubblewrap is missing or does not work here.

    """
    if jailed not in _spare:
        _spare[jailed] = _Warm(jailed, hidden, preloaded)


def _take(contents):
    """The spare process, if it is of the kind that is wanted, or another one."""
    packages = {contents.checks.partition(".")[0]} - {""}
    if spare := _spare.pop(contents.jailed, None):
        if not contents.jailed or spare.keeps(packages, contents.hidden):
            return spare
        spare.close()
    return _Warm(contents.jailed, contents.hidden, contents.preloaded, *packages)


def _found(package):
    """Where a package lies, and copies of it."""
    spec = importlib.util.find_spec(package)
    # One without an `__init__.py` may have several.
    folders = (spec and spec.submodule_search_locations) or ()
    found = (mounts.answers(package, Path(os.path.abspath(folder))) for folder in folders)
    return tuple(itertools.chain(*found))


class _Warm:
    """The process and its folder on disk, before it is known what will be inside."""

    def __init__(self, jailed, hidden, preloaded, *packages):
        if jailed and (reason := why_not()):
            raise SandboxError(
                f"{reason}; without the sandbox student code could read the answers and change the "
                "gradebook. Where it cannot be had (macOS), --no-sandbox grades without "
                "protection; on Windows, grade in the Windows Subsystem for Linux."
            )
        folders.sweep()
        self._packages = answers.declared().union(packages)
        # What judges holds no answers, but nothing inside has any business with it.
        covered = map(_found, (*self._packages, __package__.partition(".")[0]))
        self._hidden = {*hidden, *itertools.chain(*covered)}
        self.folder, self._lock = folders.make()
        try:
            for name in ("kernels", "course"):
                (self.folder / name).mkdir()
            _add_modules(self.folder / "course", _inside())
            (self.folder / "tasks").touch()
            self._start(jailed, preloaded)
        except BaseException:
            self.close()
            raise

    def keeps(self, packages, hidden):
        """Whether nothing inside may see these packages and these paths."""
        return self._packages.issuperset(packages) and self._hidden.issuperset(hidden)

    def _start(self, jailed, preloaded):
        kernels, course, tasks = (self.folder / name for name in ("kernels", "course", "tasks"))
        environment, command, unseen = _environment(course), [], {"places": [], "packages": []}
        if jailed:
            home, hidden = "/home/student", tuple(self._hidden)
            environment = _environment("/course") | {"HOME": home, "TMPDIR": home}
            command = _bubblewrap(
                {kernels: "/run/nbjudge", course: "/course", tasks: "/tasks"}, hidden
            )
            kernels, tasks = Path("/run/nbjudge"), "/tasks"
            unseen = {"places": mounts.places(hidden), "packages": sorted(self._packages)}
        command += [sys.executable, "-m", f"{_INSIDE}.warm", kernels / "zygote", tasks]
        command += ["jailed" if jailed else "free", json.dumps(unseen), *preloaded]
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
            SandboxError: when it ended instead, does not get that far, or has seen answers.

        """
        end = time.monotonic() + STARTUP_SECONDS
        while not (self.folder / "kernels" / "zygote").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                said = self._log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                if self.process.returncode == SEEN:
                    raise SandboxError(said[-1])
                raise SandboxError(f"the sandbox did not start; its last words: {said[-1]}")
            time.sleep(0.01)

    def close(self):
        """End the process and remove its folder."""
        process = getattr(self, "process", None)
        if process:
            process.kill()
            process.wait()
        folders.remove(self.folder)
        self._lock.close()


# Jailed or not → a process that no sandbox has taken yet.
_spare: dict[bool, _Warm] = {}


@atexit.register
def _close_spare():
    while _spare:
        _spare.popitem()[1].close()


def visible_modules(may_import: tuple[str, ...]) -> tuple[str, ...]:
    """Every module of the course's package that exists inside a sandbox."""
    return (*may_import, *_inside())


def _inside():
    """The half of this package that runs beside student code: one folder, and all of it."""
    (folder,) = importlib.util.find_spec(_INSIDE).submodule_search_locations
    names = sorted(path.stem for path in Path(folder).glob("*.py"))
    return tuple(f"{_INSIDE}.{name}" for name in names if name != "__init__")


def _add_modules(folder, names):
    """Copy modules that student code may see."""
    for name in names:
        shutil.copy(importlib.util.find_spec(name).origin, _place(folder, name))


def _add_check(folder, name):
    """Where the notebook imports `check` from, put one that observes."""
    _place(folder, name).write_text(_SHIM)


def _place(folder, name):
    """Path of a module's file, in packages that hold nothing else."""
    parents = name.split(".")[:-1]
    for depth in range(1, len(parents) + 1):
        package = folder.joinpath(*parents[:depth])
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
    return folder.joinpath(*name.split(".")).with_suffix(".py")


def _environment(course):
    # Inside, the variable has the same name in every course.
    kept = {"NBJUDGE_DEVICE": device(), "LANG": os.environ.get("LANG", "")}
    return {
        **{name: value for name, value in kept.items() if value},
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(course),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # Nothing is compiled: that takes longer than the answer is given.
        "TORCHDYNAMO_DISABLE": "1",
    }


def _card_files():
    return sorted(Path("/dev").glob("nvidia*"))


def _bubblewrap(inside, hidden):
    """Bubblewrap's command line: what is mounted where, and nothing else."""
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
    command += ["--uid", "1000", "--gid", "1000", "--hostname", "grading"]
    devices = None
    if device().startswith("cuda"):
        # The driver wants to know of the machine, and to name its threads in a /proc that numbers
        # them as they do themselves; for root bubblewrap covers parts of /proc, see `jail.lead`.
        devices = _card_files()
        if os.getuid() == 0:
            command += ["--uid", "0", "--gid", "0", "--cap-add", "CAP_SYS_ADMIN"]
    return [*command, *mounts.arguments(inside, hidden, devices), "--"]
