"""Execute: a sanitized notebook in, an executed notebook with observations out.

No gradebook, no reference and no other submission is needed here, so it can run in any process or
on any machine that has a `Sandbox`.
"""

import asyncio
import atexit
import copy
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty

import nbformat
import zmq.asyncio
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from dgm_utils.grading.sandbox import LIMITS, Contents, Sandbox

OUTPUT_LIMIT = 32_000_000
MESSAGE_LIMIT = 40_000_000


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
    return execute_all([notebook], folder, jailed, rules)[0]


def execute_all(
    notebooks: list[NotebookNode], folder: str, jailed: bool = True, rules: Rules | None = None
) -> list[NotebookNode]:
    """`execute` for several notebooks at once, each in a kernel of its own."""

    async def run():
        done = (
            _execute(copy.deepcopy(notebook), folder, jailed, rules or Rules())
            for notebook in notebooks
        )
        return await asyncio.gather(*done)

    return _run_to_end(run())


def _run_to_end(work):
    """`asyncio.run`, also where a loop runs already: formgrader's button calls from Jupyter's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    # Nothing but `work` in there: a sandbox would end with the thread that started it.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


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
    done = nbformat.v4.writes(execute(notebook, folder, contents.jailed, rules))
    # A kernel may send half a surrogate pair, which no file can hold.
    return done.encode("utf-8", "replace").decode("utf-8")


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


async def _execute(notebook, folder, jailed, rules):
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
        last, reason = await _run(todo, folder, jailed, rules, end)
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


async def _run(cells, folder, jailed, rules, end):
    """Run cells in one kernel: index of the last one that was begun, and why it ended there."""
    notebook = nbformat.v4.new_notebook(cells=cells)
    manager = _manager(folder, jailed)
    client = _Client(notebook, manager, rules)
    number = 0
    try:
        async with client.async_setup_kernel():
            for number, cell in enumerate(cells):
                client.timeout = max(min(rules.cell_seconds, end - time.monotonic()), 0.1)
                try:
                    await client.async_execute_cell(cell, number)
                except (DeadKernelError, CellTimeoutError):
                    raise
                except Exception as error:
                    # Student code can write to the kernel's sockets itself.
                    raise _Nonsense(type(error).__name__) from error
        return len(cells) - 1, None
    except DeadKernelError:
        if client.flooded:
            return number, f"This cell put out more than {rules.output_limit:,} characters."
        return number, (
            "The kernel died while this cell was running: it ended itself, or took too much "
            "memory, too many processes or too much processor time."
        )
    except CellTimeoutError:
        return number, f"This cell did not finish within {client.timeout:g} seconds."
    except _Nonsense as error:
        return number, f"The kernel sent what no kernel sends: {error}."
    finally:
        # nbclient would clean up again when the interpreter ends.
        atexit.unregister(client._cleanup_kernel)
        if manager.provisioner:
            await manager.provisioner.cleanup()
        # nbclient ends only what it has started; the rest would keep files and threads open.
        if client.kc:
            client.kc.stop_channels()
        manager.context.destroy(linger=0)


class _Nonsense(Exception):
    """A message that breaks whoever reads it."""


class _Client(NotebookClient):
    """nbclient that counts what it is given to read."""

    def __init__(self, notebook, manager, rules):
        super().__init__(
            notebook,
            km=manager,
            allow_errors=True,
            store_widget_state=False,
            record_timing=False,
            shutdown_kernel="immediate",
            startup_timeout=60,
            iopub_timeout=10,
        )
        self._left = rules.output_limit
        self.flooded = False

    def process_message(self, msg, cell, cell_index):
        if self.flooded:
            return None
        content = msg["content"]
        held = (content.get("text"), content.get("traceback"), *content.get("data", {}).values())
        self._left -= sum(len(str(item)) for item in held if item)
        if self._left < 0:
            self.flooded = True
            self._killing = asyncio.ensure_future(self.km.provisioner.kill())
            return None
        return super().process_message(msg, cell, cell_index)


def _manager(folder, jailed):
    context = zmq.asyncio.Context()
    context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_LIMIT)
    context.setsockopt(zmq.LINGER, 0)
    # Messages that wait to be read take this process's memory, which nothing limits.
    context.setsockopt(zmq.RCVHWM, 4)
    manager = _Manager(context=context, kernel_name="dgm-sandbox")
    manager._kernel_spec = KernelSpec(
        argv=["zygote"],
        display_name="sandbox",
        language="python",
        interrupt_mode="message",
        metadata={
            "kernel_provisioner": {
                "provisioner_name": "dgm-sandbox",
                "config": {"folder": folder, "jailed": jailed, "limits": LIMITS},
            }
        },
    )
    return manager


class _KernelClient(AsyncKernelClient):
    """A client that knows a kernel is ready by its word; Jupyter's own waits 0.2 s for silence."""

    def start_channels(self, **kwargs):
        """Without a heartbeat, whose thread is slow to end: the manager sees a kernel's end."""
        super().start_channels(**kwargs | {"hb": False})

    async def wait_for_ready(self, timeout=None):
        """Wait until the kernel answers, and its outputs are heard."""
        try:
            async with asyncio.timeout(timeout):
                while not await self._answers():
                    if not await self.is_alive():
                        raise RuntimeError("the kernel died before it was ready")
        except TimeoutError:
            raise RuntimeError(f"the kernel was not ready within {timeout:g} seconds") from None

    async def _answers(self):
        """Whether a request is answered, and announced to those who hear the kernel's outputs."""
        request = self.kernel_info()
        try:
            await self.shell_channel.get_msg(timeout=1)
            while True:
                heard = await self.iopub_channel.get_msg(timeout=0.2)
                state = heard["content"].get("execution_state")
                if heard["parent_header"].get("msg_id") == request and state == "idle":
                    return True
        except Empty:
            return False


class _Manager(AsyncKernelManager):
    """A manager of kernels that no kernelspec on disk describes."""

    client_factory = _KernelClient

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
