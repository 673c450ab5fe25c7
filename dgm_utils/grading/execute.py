"""Execute: a sanitized notebook in, an executed notebook with observations out.

No gradebook, no reference and no other submission is needed here, so it can run in any process or
on any machine that has a `Sandbox`.
"""

import atexit
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import nbformat
import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbformat import NotebookNode

from dgm_utils.grading.files import as_text
from dgm_utils.grading.sandbox import LIMITS, Contents, Sandbox

OUTPUT_LIMIT = 32_000_000
MESSAGE_LIMIT = 40_000_000
# A kernel has so long to start; to announce what it has answered already; and to say that a cell's
# outputs are complete when the cell is.
STARTUP_SECONDS, JOIN_SECONDS, COMPLETE_SECONDS = 60.0, 0.2, 10.0
# How often a silent kernel is asked whether it lives.
SILENCE = 1.0


@dataclass(frozen=True)
class Rules:
    """How long and how much; seconds of wall time.

    Args:
        cell_seconds: for one cell.
        notebook_seconds: for all cells and all restarts together.
        output_limit: characters that all cells together may put out.

    """

    cell_seconds: float = 60.0
    notebook_seconds: float = 900.0
    output_limit: int = OUTPUT_LIMIT


class Unfinished(Exception):
    """A notebook was not run to its end; the name marks the cells that were not reached."""


def execute(
    notebook: NotebookNode, folder: str, jailed: bool = True, rules: Rules | None = None
) -> NotebookNode:
    """Run all code cells in a kernel of a sandbox.

    A cell that kills the kernel, hangs, or floods gets an error output that says so. The others are
    then run in a new kernel: what came before runs again, except for graded cells, whose outputs
    are kept.

    Args:
        notebook: left as it is.
        folder: of a running `Sandbox`, on this machine.
        jailed: as in that sandbox.
        rules: limits.

    Returns:
        The notebook with outputs and execution counts.

    """
    return _execute(copy.deepcopy(notebook), folder, jailed, rules or Rules())


def execute_all(
    notebooks: list[NotebookNode], folder: str, jailed: bool = True, rules: Rules | None = None
) -> list[NotebookNode]:
    """`execute` for several notebooks at once, each in a kernel of its own."""
    copies = [copy.deepcopy(notebook) for notebook in notebooks]
    with ThreadPoolExecutor(len(copies)) as threads:
        done = [threads.submit(_execute, c, folder, jailed, rules or Rules()) for c in copies]
    return [future.result() for future in done]


def execute_text(
    text: str, contents: Contents, folder: str | None = None, rules: Rules | None = None
) -> str:
    """`execute` for another process or machine: text in, text out.

    Args:
        text: a notebook.
        contents: of the sandbox.
        folder: of a sandbox that is running on this machine; None starts one that lives as long as
            this process, for all notebooks that want the same contents.
        rules: limits.

    """
    # It was sanitized, and what is added is made by nbformat: there is nothing to validate.
    notebook = nbformat.v4.reads(text)
    folder = folder or str(_own_sandbox(contents).folder)
    return as_text(_execute(notebook, folder, contents.jailed, rules or Rules()))


_own: dict[Contents, Sandbox] = {}


def _own_sandbox(contents):
    """This process's one sandbox: a cluster's worker lives for many classes."""
    if contents not in _own:
        _close_own()
        _own[contents] = Sandbox(contents)
    return _own[contents]


@atexit.register
def _close_own():
    while _own:
        _own.popitem()[1].close()


def _execute(notebook, folder, jailed, rules):
    """`execute`, in the notebook itself."""
    end = time.monotonic() + rules.notebook_seconds
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    deadly, done = set(), 0
    while done < len(cells):
        # A copy of every cell that must run again; its outputs were kept the first time.
        again = [
            NotebookNode(copy.deepcopy(cell))
            for i, cell in enumerate(cells[:done])
            if i not in deadly and not is_graded(cell)
        ]
        todo = [*again, *cells[done:]]
        last, reason = _run(todo, folder, jailed, rules, end)
        done += max(last + 1 - len(again), 0)
        if reason is None:
            break
        if time.monotonic() > end:
            reason = f"The notebook did not finish within {rules.notebook_seconds:g} seconds."
            _give_up(cells[done:], reason)
            break
        if last < len(again):
            _give_up(cells[done:], f"An earlier cell ended the kernel when it ran again. {reason}")
            break
        deadly.add(done - 1)
        _fail(cells[done - 1], "KernelDied", reason)
    return notebook


def _run(cells, folder, jailed, rules, end):
    """Run cells in one kernel: index of the last one that was begun, and why it ended there."""
    number = 0
    try:
        with _Kernel(cells, folder, jailed, rules.output_limit) as kernel:
            for number in range(len(cells)):
                kernel.run(number, max(min(rules.cell_seconds, end - time.monotonic()), 0.1))
        return len(cells) - 1, None
    except _Ended as error:
        return number, str(error)


class _Ended(Exception):
    """Nothing more can be run in this kernel; the message says why."""


class _Kernel:
    """A kernel of the sandbox, asked cell by cell; it may be student code that answers.

    A context manager, at whose end the kernel is killed.

    Args:
        cells: code cells, which get their outputs and execution counts.
        folder: of the sandbox.
        jailed: as in that sandbox.
        output_limit: characters that all cells together may put out.

    """

    def __init__(self, cells, folder, jailed, output_limit):
        self._cells = cells
        self._limit = self._left = output_limit
        self._manager = _manager(folder, jailed)
        # Only to read messages: to wait for them it takes three tasks a cell, and twice the time.
        notebook = nbformat.v4.new_notebook(cells=cells)
        self._reader = NotebookClient(notebook, km=self._manager, record_timing=False)

    def __enter__(self):
        try:
            self._manager.start_kernel()
            self._client = self._manager.client(context=self._manager.context)
            self._client.start_channels(stdin=False, hb=False, control=False)
            self._shell = self._client.shell_channel.socket
            self._iopub = self._client.iopub_channel.socket
            self._poller = zmq.Poller()
            for socket in (self._shell, self._iopub):
                self._poller.register(socket, zmq.POLLIN)
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception):
        if self._manager.provisioner:
            run_sync(self._manager.provisioner.cleanup)()
        self._manager.context.destroy(linger=0)

    def _wait_until_ready(self):
        end = time.monotonic() + STARTUP_SECONDS
        while not self._answers(self._client.kernel_info()):
            if not self._manager.is_alive():
                raise RuntimeError("the kernel died before it was ready")
            if time.monotonic() > end:
                raise RuntimeError(f"the kernel was not ready within {STARTUP_SECONDS:g} seconds")

    def _answers(self, request):
        """Whether a request is answered, and announced to those who hear the kernel's outputs."""
        replied = idle = False
        end = time.monotonic() + SILENCE
        while not (replied and idle) and (left := end - time.monotonic()) > 0:
            for socket, message in self._messages(left):
                if message["parent_header"].get("msg_id") != request:
                    continue
                idle |= message["content"].get("execution_state") == "idle"
                if socket is self._shell:
                    # What it announced before anybody listened is lost.
                    replied, end = True, time.monotonic() + JOIN_SECONDS
        return replied and idle

    def run(self, number: int, seconds: float) -> None:
        """Run a cell.

        Args:
            number: which one.
            seconds: for it, of wall time.

        Raises:
            _Ended: when the kernel cannot go on after it.

        """
        try:
            self._run(number, seconds)
        except _Ended:
            raise
        except Exception as error:
            # Student code can write to the kernel's sockets itself.
            said = type(error).__name__
            raise _Ended(f"The kernel sent what no kernel sends: {said}.") from error

    def _run(self, number, seconds):
        cell = self._cells[number]
        cell.outputs, self._reader.clear_before_next_output = [], False
        request = self._client.execute(cell.source, allow_stdin=False, stop_on_error=False)
        end = time.monotonic() + seconds
        replied = complete = False
        while not (replied and complete):
            if (left := end - time.monotonic()) <= 0:
                if replied:
                    # A message that is too large closes the connection on which it came.
                    raise _Ended(
                        f"This cell put out more than {MESSAGE_LIMIT:,} bytes at once, or what no "
                        "kernel sends."
                    )
                raise _Ended(f"This cell did not finish within {seconds:g} seconds.")
            heard = self._messages(min(left, SILENCE))
            if not heard and not self._manager.is_alive():
                raise _Ended(
                    "The kernel died while this cell was running: it ended itself, or took too "
                    "much memory, too many processes or too much processor time."
                )
            for socket, message in heard:
                if message["parent_header"].get("msg_id") != request:
                    continue
                if socket is self._iopub:
                    complete |= self._read(message, number)
                elif not replied:
                    replied, end = True, time.monotonic() + COMPLETE_SECONDS

    def _messages(self, seconds):
        """What is heard next, each message with its socket; nothing after so many seconds."""
        ready = self._poller.poll(seconds * 1000)
        return [(socket, self._manager.session.recv(socket)[1]) for socket, _ in ready]

    def _read(self, message, number):
        """Write down what a message says of a cell; whether it says that the cell is complete."""
        content = message["content"]
        held = (content.get("text"), content.get("traceback"), *content.get("data", {}).values())
        self._left -= sum(len(str(item)) for item in held if item)
        if self._left < 0:
            raise _Ended(f"This cell put out more than {self._limit:,} characters.")
        try:
            self._reader.process_message(message, self._cells[number], number)
        except CellExecutionComplete:
            return True
        return False


def _manager(folder, jailed):
    context = zmq.Context()
    context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_LIMIT)
    context.setsockopt(zmq.LINGER, 0)
    # Messages that wait to be read take this process's memory, which nothing limits.
    context.setsockopt(zmq.RCVHWM, 4)
    manager = _Manager(context=context, kernel_name="dgm-sandbox")
    manager._kernel_spec = KernelSpec(
        argv=["zygote"],
        display_name="sandbox",
        language="python",
        metadata={
            "kernel_provisioner": {
                "provisioner_name": "dgm-sandbox",
                "config": {"folder": folder, "jailed": jailed, "limits": LIMITS},
            }
        },
    )
    return manager


class _Manager(KernelManager):
    """A manager of kernels that no kernelspec on disk describes."""

    @property
    def kernel_spec(self):
        return self._kernel_spec


def is_graded(cell: NotebookNode) -> bool:
    """Whether nbgrader gives points for a cell."""
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def _give_up(cells, reason):
    for cell in cells:
        _fail(cell, Unfinished.__name__, reason)


def _fail(cell, name, reason):
    cell.outputs = [
        *cell.get("outputs", []),
        nbformat.v4.new_output("error", ename=name, evalue=reason, traceback=[f"{name}: {reason}"]),
    ]


def wants_quiet(notebook: NotebookNode) -> bool:
    """Whether something in an executed notebook was ended by the clock on the wall."""
    return False
