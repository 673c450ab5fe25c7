"""Start quickly: what a grading run begins before it imports anything large, and does without.

The command, the warm process of its sandbox, and the processes that execute notebooks each import
some seconds' worth of modules. They do so side by side, if this module comes first; so it imports
nothing that is large itself.
"""

import contextlib
import importlib
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Collection
from pathlib import Path

from nbjudge.inside import jail

# Bytes that a process which executes notebooks may take, beside its code.
WORKER_MEMORY = 2**31


def start_early(folder: str, assignments: Collection[str], jailed: bool = True) -> None:
    """Begin with what takes long, before it is known what the course is like.

    That is the sandbox of the first assignment that will be graded.

    Args:
        folder: the course's, or one inside it; if it is none, nothing is done, and that will be
            said.
        assignments: that will be graded; all, if none is named.
        jailed: whether student code will be shut in.

    Raises:
        SandboxError: when it cannot be.

    """
    course = os.path.realpath(folder)
    while not os.path.isfile(os.path.join(course, "nbgrader_config.py")):
        course, below = os.path.dirname(course), course
        if course == below:
            return
    sandbox = importlib.import_module(f"{__package__}.sandbox")
    sandbox.warm_up(jailed, (course,), _large_modules(course, assignments))


def _large_modules(course, assignments):
    """What is imported once for all notebooks, as far as can be told without the configuration."""
    found = (path for folder in _folders_in(course) for path in _folders_in(folder))
    for path in found:
        if not assignments or path.name in assignments:
            with contextlib.suppress(OSError):
                if any(b"torch" in notebook.read_bytes() for notebook in path.glob("*.ipynb")):
                    return ("torch",)
    return ()


def _folders_in(folder):
    try:
        return [path for path in Path(folder).iterdir() if path.is_dir()]
    except OSError:
        return []


def begin_worker() -> None:
    """What a process that executes notebooks does first.

    It imports what it will need, and sees to it that it ends with the process that started it, also
    when that is killed: a worker waits for work on a pipe whose other end it holds as well, so it
    would wait forever.
    """
    do_without()
    # Ctrl-C reaches this process too. It has nothing to put in order, and libraries that have may
    # be interrupted at it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()

    def watch():
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    importlib.import_module(f"{__package__}.execute")
    if sys.platform == "linux":
        # What a kernel sends is taken in by a library that ends the process when memory is over.
        most = jail.mapped() + WORKER_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def do_without() -> None:
    """Leave out what is large and of no use, before anything imports jsonschema.

    It would compile a grammar of internationalized addresses, for seconds, to check formats that no
    notebook has.
    """
    sys.modules.setdefault("rfc3987_syntax", None)
