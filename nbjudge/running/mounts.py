"""What is visible inside a sandbox: what is bound there, and what is covered within that.

What nothing inside may see can lie in a folder that must be bound, and the other way round: a
course in `/usr/src/app`, with Python's own `.venv` in it. So everything is put in its place from
the outside in, wherever it appears.
"""

import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path

_SYSTEM = (
    *("/usr", "/bin", "/lib", "/lib64", "/lib32"),
    *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/localtime"),
)
# What Python needs of a folder that cannot be shown as a whole.
_PARTS = ("bin", "etc", "include", "lib", "lib64", "libexec", "share", "ssl", "pyvenv.cfg")
_PACKAGES = "lib*/python*/*-packages"
# A shared mapping of the device that is all zeros would be memory that no process is seen to have.
_DEVICES = ("null", "full", "random", "urandom", "tty")


def arguments(
    inside: dict, hidden: tuple[str, ...], devices: list[Path] | None = None
) -> list[str]:
    """Bubblewrap's arguments about the file system.

    Args:
        inside: path outside → path inside, for the sandbox's own; `/run/nbjudge` can be written to.
        hidden: paths that nothing inside may see.
        devices: more that are needed, those of a card; then there is a `/sys` as well.

    """
    command = ["--tmpfs", "/tmp", "--tmpfs", "/home/student"]
    steps = [("--ro-bind-try", source, place) for source, place in _binds(hidden)]
    covers = list(_covers(hidden))
    # A file has another file over it, which is empty.
    steps += [
        ("--ro-bind", "/dev/null", place) if os.path.isfile(path) else ("--tmpfs", place)
        for path, place in covers
    ]
    # What covers something comes after it, and before what is shown within it.
    for step in sorted(steps, key=lambda step: len(Path(step[-1]).parts)):
        command += step
    command += ["--remount-ro", "/tmp", "--proc", "/proc", "--tmpfs", "/dev"]
    shown = [Path("/dev", name) for name in _DEVICES]
    command += ["--dir", "/dev/pts", "--dir", "/dev/shm", "--symlink", "pts/ptmx", "/dev/ptmx"]
    for name, number in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        command += ["--symlink", f"/proc/self/fd{number}", f"/dev/{name}"]
    if devices is not None:
        command += ["--ro-bind", "/sys", "/sys"]
        shown += devices
    for path in shown:
        command += ["--dev-bind", path, path]
    # What could be written in /dev would be seen by all kernels, and fill the machine's memory.
    command += ["--remount-ro", "/dev"]
    for path, place in covers:
        command += [] if os.path.isfile(path) else ["--remount-ro", place]
    for outer, inner in inside.items():
        command += ["--bind" if inner == "/run/nbjudge" else "--ro-bind", outer, inner]
    return [*map(str, command), "--remount-ro", "/"]


def places(hidden: tuple[str, ...]) -> list[str]:
    """Every path at which something hidden could be seen inside."""
    return sorted({*hidden, *_real(hidden), *(place for _, place in _covers(hidden))})


def answers(package: str, folder: Path) -> tuple[str, ...]:
    """Where a package lies that holds answers, and copies of it where Python looks for packages.

    Args:
        package: its name.
        folder: that it is imported from.

    """
    checkout = folder.parent / "pyproject.toml"
    found = {folder, *([folder.parent] if checkout.is_file() else ())}
    for prefix in {"/usr", "/usr/local", sys.base_prefix, sys.prefix}:
        found.update(Path(prefix).glob(f"{_PACKAGES}/{package}"))
    found.update(Path(path) / package for path in (*sys.path, site.getusersitepackages()) if path)
    return tuple(sorted(str(path) for path in found if path.exists()))


def _binds(hidden) -> Iterator[tuple[str, str]]:
    """Paths outside, each with its path inside."""
    concealed = _real(hidden)
    # Python's folders also where they really lie: links lead there.
    pythons = (sys.base_prefix, sys.prefix)
    named = [path for path in pythons if not Path(path).is_relative_to("/usr")]
    for path in dict.fromkeys((*_SYSTEM, *named, *map(os.path.realpath, pythons))):
        if os.path.realpath(path) not in concealed:
            yield path, path
            continue
        for part in _PARTS:
            if os.path.exists(f"{path}/{part}"):
                yield f"{path}/{part}", f"{path}/{part}"


def _covers(hidden) -> Iterator[tuple[str, str]]:
    """Paths outside that are hidden, each with a path inside at which it would appear."""
    there = sorted(path for path in _real(hidden) if os.path.exists(path))
    for source, place in _binds(hidden):
        source, covered = os.path.realpath(source), ()
        for path in there:
            if _beneath(path, (source,)) and not _beneath(path, covered):
                covered += (path,)
                yield path, os.path.normpath(os.path.join(place, os.path.relpath(path, source)))


def _beneath(path, folders):
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _real(hidden):
    return {os.path.realpath(path) for path in hidden}
