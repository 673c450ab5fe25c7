"""Look for answers inside a sandbox, before anybody is let in.

What is covered and what is bound is decided outside, from what is known there. Here it is looked
at from within: the places that nothing may see, and every folder that student code could read.
"""

import os
import re
import sys
from collections.abc import Iterator

# How a process ends that has seen something.
SEEN = 3
# What the sandbox is made of itself.
_OWN = ("/course", "/dev", "/proc", "/run/nbjudge", "/sys", "/tasks")
# Large, and never a place for a course.
_SKIPPED = {"__pycache__", "doc", "icons", "include", "locale", "man", "node_modules", "zoneinfo"}
# Packages of Python; none has another's modules in it.
_FLAT = {"site-packages", "dist-packages"}
_ARCHIVES = (".whl", ".zip", ".egg", ".tar.gz", ".pyz")


def begin(places: list[str], packages: list[str]) -> tuple[int, int]:
    """Start to look, in a process of its own.

    Args:
        places: paths where nothing may be.
        packages: names of those that hold answers.

    Returns:
        What `end` wants: the process and the pipe on which it answers.

    """
    answer, said = os.pipe()
    if process := os.fork():
        os.close(said)
        return process, answer
    # Nothing may return from here.
    status = 1
    try:
        os.nice(5)
        found = next(search(places, packages), "")
        os.write(said, found.encode(errors="replace")[:1000])
        status = 0
    finally:
        os._exit(status)


def end(search: tuple[int, int]) -> str:
    """Wait for what `begin` started.

    Returns:
        What was seen, in a sentence; nothing if all is well.

    """
    process, answer = search
    with open(answer, encoding="utf-8", errors="replace") as file:
        found = file.read()
    _, status = os.waitpid(process, 0)
    if status:
        return "It could not be looked at what student code would see inside the sandbox."
    if not found:
        return ""
    return (
        f"Student code would see {found} inside the sandbox, so nobody is graded; move it out of "
        f"/usr and of {sys.prefix}, or remove it."
    )


def search(places: list[str], packages: list[str], top: str = "/") -> Iterator[str]:
    """Everything that should not be there, in words.

    Args:
        places: paths where nothing may be but what is mounted there.
        packages: names of those that hold answers.
        top: where to begin to look for answers that nobody has named.

    """
    mounted = _mounted()
    for place in places:
        if not _beneath(place, _OWN):
            yield from (f"{path}, which belongs to the course" for path in _files(place, mounted))
    for folder, names, files in _walk(top):
        yield from (
            f"another copy of {name}, which holds answers, in {folder}/{name}"
            for name in names
            if name in packages and any(_files(f"{folder}/{name}", ()))
        )
        yield from (
            f"a packed copy of {package}, which holds answers, in {folder}/{name}"
            for name in files
            for package in packages
            if name.replace("-", "_").startswith(package) and name.endswith(_ARCHIVES)
        )
        if "nbgrader_config.py" in files and {"solutions", "source", "grading"} & set(names):
            yield f"the folder of a course, in {folder}"


def _walk(top):
    """Folders with the names in them; none twice, though it is mounted in two places."""
    waiting, known = [top.rstrip("/")], set()
    while waiting:
        folder = waiting.pop()
        try:
            found = os.stat(folder or "/")
            if (found.st_dev, found.st_ino) in known:
                continue
            known.add((found.st_dev, found.st_ino))
            with os.scandir(folder or "/") as entries:
                entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            # Whom it is closed to here, it is closed to in a kernel.
            continue
        names = [name for name, is_folder in entries if is_folder]
        yield folder, names, [name for name, is_folder in entries if not is_folder]
        flat = os.path.basename(folder) in _FLAT
        deeper = [n for n in names if n not in _SKIPPED and (not flat or n.endswith(".egg"))]
        waiting += [path for name in deeper if (path := f"{folder}/{name}") not in _OWN]


def _files(place, mounted):
    """Whatever is in a place that is no folder, but for what is mounted there on purpose."""
    if not os.path.isdir(place):
        return [place] if os.path.isfile(place) else []
    found = []
    for folder, names, files in os.walk(place):
        names[:] = [name for name in names if os.path.join(folder, name) not in mounted]
        found += [p for name in files if (p := os.path.join(folder, name)) not in mounted]
    return found


def _mounted():
    """Where something is mounted."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        # Blanks and the like are written as octal numbers.
        return {re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), line.split()[4]) for line in file}


def _beneath(path, folders):
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)
