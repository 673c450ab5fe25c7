"""What a fork of the warm process becomes: an IPython kernel, as a notebook expects it."""

import functools
import os
import sys

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from traitlets import Dict
from traitlets.config import Config


class _Kernel(IPythonKernel):
    """IPython's kernel, which answers every request, whatever became of Python's streams."""

    def start(self):
        """Begin to listen."""
        self._streams = {"stdout": sys.stdout, "stderr": sys.stderr}
        super().start()

    @functools.wraps(IPythonKernel.do_execute)
    async def do_execute(self, *args, **kwargs):
        """Run a cell."""
        self._mend_streams()
        try:
            return await super().do_execute(*args, **kwargs)
        except Exception as error:
            # What runs a cell shows its errors itself; this one came where they are shown.
            about = {"ename": type(error).__name__, "evalue": str(error), "traceback": []}
            return {"status": "error", "execution_count": self.shell.execution_count, **about}
        finally:
            self._mend_streams()

    def _mend_streams(self):
        """Without them nothing is shown any more, and no request is answered."""
        for name, stream in self._streams.items():
            try:
                getattr(sys, name).flush()
            except Exception:
                setattr(sys, name, stream)


class _App(IPKernelApp):
    """Jupyter's kernel, which is told what it would look for on a command line and in a file.

    For a command line's parser it would list all its options. Nobody listens to its heartbeat: a
    client hears of its end from the zygote.
    """

    connection = Dict()

    def parse_command_line(self, argv=None):
        """There is none."""

    def init_connection_file(self):
        """There is none."""
        self.load_connection_info(self.connection)

    def write_connection_file(self, **kwargs):
        """Nobody would read it."""

    def init_heartbeat(self):
        """It has none."""

    def init_code(self):
        """There is none to run; what IPython has put into the namespace is not the student's."""
        self.shell.user_ns_hidden.update(self.shell.user_ns)


def start_kernel(connection: dict, home: str, parent: int = 0) -> None:
    """Run an IPython kernel in this process until it is told to stop.

    Args:
        connection: what Jupyter's connection file holds, the sockets in the working directory.
        home: the working directory of the notebook.
        parent: process with which the kernel ends, if nothing else sees to that.

    """
    app = _App.instance(
        kernel_class=_Kernel,
        connection=connection,
        parent_handle=parent,
        capture_fd_output=False,
        no_stdout=True,
        no_stderr=True,
        config=Config(HistoryManager={"enabled": False}),
    )
    app.initialize()
    # Who types exit() wants to leave, not to lose what the cells below are worth.
    app.shell.ask_exit = lambda: None
    app.shell.unobserve_all("exit_now")
    # The sockets are there, and nothing of the student's runs yet. In a jail there is no way back:
    # connections work, but no file can be left beside them.
    os.chdir(home)
    if not parent:
        outlive()
    app.start()


def outlive() -> None:
    """Make of `os._exit` and `os.abort` what `sys.exit` is, but not in children of this process.

    In a thread they would end the kernel while some other cell runs, sooner on a busy machine.
    """
    kernel, leave = os.getpid(), os._exit

    def leave_the_cell(status=1):
        if os.getpid() != kernel:
            leave(status)
        raise SystemExit(status)

    os._exit = os.abort = leave_the_cell
