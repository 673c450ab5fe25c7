"""Start quickly: what a grading run begins before it imports anything large, and does without.

The command, the warm process of its sandbox, and the processes that execute notebooks each import
some seconds' worth of modules. They do so side by side, if this module comes first; so it imports
nothing that is large itself.
"""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import threading

from nbjudge.inside import jail

# Bytes that a process which executes notebooks may take, beside its code.
WORKER_MEMORY = 2**31


def start_early(
    jailed: bool = True, hidden: tuple[str, ...] = (), preloaded: tuple[str, ...] = ()
) -> None:
    """Begin to start the sandbox of the first assignment that will be graded.

    Args:
        jailed: whether student code will be shut in.
        hidden: paths that nothing inside may see, as far as they are known.
        preloaded: modules that its notebooks use, as far as they are known.

    Raises:
        SandboxError: when it cannot be.

    """
    sandbox = importlib.import_module(f"{__package__}.sandbox")
    sandbox.warm_up(jailed, hidden, preloaded)


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
