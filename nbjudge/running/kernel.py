"""A kernel of the sandbox, asked cell by cell; it may be student code that answers."""

import contextlib
import resource
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory
from jupyter_core.utils import run_sync
from nbformat import NotebookNode

from nbjudge.running.outputs import Account, Flood, Outputs
from nbjudge.running.sandbox import LIMITS

# Bytes of one frame of a message, frames of one message, and what unread ones may take of memory.
MESSAGE_LIMIT = 40_000_000
FRAMES_LIMIT = 1_000
MEMORY_LIMIT = 2**30
# A kernel has so long to start; to announce what it has answered already; and, unless it is at
# work, to say that a cell's outputs are complete when the cell is.
STARTUP_SECONDS, JOIN_SECONDS, COMPLETE_SECONDS = 300.0, 0.2, 10.0
# How often a silent kernel is looked after.
SILENCE = 0.1
# Who used less than this share of the wall time for long enough waits for something.
IDLE_SHARE = 0.01
_PROVISIONER = "nbjudge-sandbox"


class Ended(Exception):
    """Nothing more can be run in this kernel; the message says why.

    Args:
        reason: in a sentence.
        own: whether it was surely the cell that ran.
        by_wall: whether wall time decided, which is also others'.

    """

    def __init__(self, reason: str, own: bool = False, by_wall: bool = False):
        super().__init__(reason)
        self.own, self.by_wall = own, by_wall


@dataclass(frozen=True)
class Limits:
    """For one cell.

    Args:
        seconds: of the processor's time, of everything that the kernel has started; also the wall
            time in which a cell must use some.
        wall: seconds of wall time.
        characters: that it may put out.

    """

    seconds: float
    wall: float
    characters: int


class Kernel:
    """A kernel, for as long as the context lasts; it is killed at the end.

    Args:
        folder: of the sandbox.
        jailed: as in that sandbox.

    """

    def __init__(self, folder: str, jailed: bool):
        self._manager = _manager(folder, jailed)
        self._displayed = {}
        self._account = Account(MESSAGE_LIMIT)
        self._born, self._memory = time.monotonic(), _memory()
        self._asked, self._dead = self._born, False

    @property
    def age(self) -> float:
        """Seconds of wall time since it was asked for."""
        return time.monotonic() - self._born

    @property
    def used(self) -> float:
        """Seconds of processor time, of everything that it has started."""
        return self._manager.provisioner.used

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
        while not self._is_answered(self._client.kernel_info()):
            if not self._manager.is_alive():
                raise RuntimeError("the kernel died before it was ready")
            if time.monotonic() > end:
                raise RuntimeError(f"the kernel was not ready within {STARTUP_SECONDS:g} seconds")

    def _is_answered(self, request):
        """Whether a request is answered, and announced to those who hear the kernel's outputs."""
        replied = idle = False
        end = time.monotonic() + 1
        while not (replied and idle) and (left := end - time.monotonic()) > 0:
            for socket, message in self._messages(left):
                if message["parent_header"].get("msg_id") != request:
                    continue
                idle |= message["content"].get("execution_state") == "idle"
                if socket is self._shell:
                    # What it announced before anybody listened is lost.
                    replied, end = True, time.monotonic() + JOIN_SECONDS
        return replied and idle

    def run(self, cell: NotebookNode, limits: Limits) -> int:
        """Run a cell, which gets its outputs and execution count.

        Args:
            cell: of code.
            limits: for it.

        Returns:
            How much of its characters it has used up.

        Raises:
            Ended: when the kernel cannot go on after it.

        """
        self._account = Account(limits.characters)
        outputs = Outputs(cell, self._account, self._displayed)
        try:
            self._run(cell, limits, outputs)
            return self._account.spent
        except Flood as error:
            outputs.cut()
            raise Ended(str(error)) from error
        except Ended:
            raise
        except Exception as error:
            # Student code can write to the kernel's sockets itself.
            said = type(error).__name__
            raise Ended(f"The kernel sent what no kernel sends: {said}.") from error
        finally:
            outputs.finish()

    def _run(self, cell, limits, outputs):
        request = self._client.execute(cell.source, allow_stdin=False, stop_on_error=False)
        watch = _Watch(self, limits)
        replied, complete = None, False
        while not (replied and complete):
            heard = self._messages(SILENCE)
            for socket, message in heard:
                if message["parent_header"].get("msg_id") != request:
                    continue
                if socket is self._iopub:
                    kind, content = message["msg_type"], message["content"]
                    outputs.read(kind, content)
                    complete |= kind == "status" and content["execution_state"] == "idle"
                elif not replied:
                    replied = message["content"]
                    watch.replied()
            self._look(heard)
            watch.look()
        if replied["status"] == "error":
            outputs.must_tell(replied)

    def settle(self, seconds: float) -> None:
        """Wait, in case something that a cell has left behind is about to end the kernel.

        Raises:
            Ended: when it did.

        """
        end = time.monotonic() + seconds
        try:
            while (left := end - time.monotonic()) > 0:
                self._look(self._messages(min(left, SILENCE)))
        except Ended:
            raise
        except Exception as error:
            raise Ended(f"The kernel sent what no kernel sends: {type(error).__name__}.") from error

    def _look(self, heard):
        """Look after it: raise `Ended` when it is dead, or sends more than can be read."""
        if _memory() - self._memory > MEMORY_LIMIT:
            raise Ended("The kernel sent messages that take more memory than there is for them.")
        # The dead may have left messages, which come first.
        if self._dead and not heard:
            why = self._manager.provisioner.why or "ended itself, or took too much memory"
            raise Ended(f"The kernel died while this cell was running: it {why}.")
        if time.monotonic() - self._asked >= SILENCE:
            self._dead, self._asked = not self._manager.is_alive(), time.monotonic()

    def _messages(self, seconds):
        """What is heard next, each message with its socket; nothing after so many seconds."""
        ready = self._poller.poll(seconds * 1000)
        return [(socket, self._receive(socket)) for socket, _ in ready]

    def _receive(self, socket):
        """The next message; its parts are charged one by one, for they may be many."""
        self._account.charge(messages=1)
        frames = [socket.recv()]
        self._account.charge(len(frames[0]))
        while socket.getsockopt(zmq.RCVMORE):
            frames.append(socket.recv())
            self._account.charge(len(frames[-1]))
            if len(frames) > FRAMES_LIMIT:
                raise Flood(f"This cell put out a message of more than {FRAMES_LIMIT:,} parts.")
        _, message = self._manager.session.feed_identities(frames, copy=True)
        return self._manager.session.deserialize(message, content=True, copy=True)


class _Watch:
    """Whether a cell has used up what it may; wall time ends what waits, and is far above."""

    def __init__(self, kernel, limits):
        self._kernel, self._limits = kernel, limits
        self._begun = self._last = time.monotonic()
        self._used = self._seen = kernel.used
        self._replied = False

    def replied(self):
        """The cell is done; the rest of its outputs are on their way."""
        self._replied = True
        self._last, self._seen = time.monotonic(), self._kernel.used

    def look(self):
        """Raise `Ended` when the time is over."""
        now, used, limits = time.monotonic(), self._kernel.used, self._limits
        if used - self._used > limits.seconds:
            raise Ended(
                f"This cell did not finish within {limits.seconds:g} seconds of processor time.",
                own=True,
            )
        if now - self._begun > limits.wall:
            raise Ended(
                f"This cell did not finish within {limits.wall:g} seconds.", own=True, by_wall=True
            )
        pause = COMPLETE_SECONDS if self._replied else limits.seconds
        if used - self._seen > IDLE_SHARE * pause:
            self._last, self._seen = now, used
        if now - self._last > pause:
            said = f"This cell did not finish within {limits.seconds:g} seconds."
            if self._replied:
                # A message that is too large closes the connection on which it came.
                said = (
                    f"This cell put out more than {MESSAGE_LIMIT:,} bytes at once, or what no "
                    "kernel sends."
                )
            raise Ended(said, own=True, by_wall=True)


def _memory():
    """Bytes of memory that this process takes; 0 where that cannot be asked."""
    with contextlib.suppress(OSError), open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
    return 0


def _manager(folder, jailed):
    context = zmq.Context()
    context.setsockopt(zmq.MAXMSGSIZE, MESSAGE_LIMIT)
    context.setsockopt(zmq.LINGER, 0)
    # Messages that wait to be read take this process's memory.
    context.setsockopt(zmq.RCVHWM, 4)
    # Jupyter looks among what is installed, and there it would be out of date after `git pull`.
    KernelProvisionerFactory.provisioners[_PROVISIONER] = EntryPoint(
        _PROVISIONER,
        "nbjudge.running.provisioner:SandboxProvisioner",
        KernelProvisionerFactory.GROUP_NAME,
    )
    manager = _Manager(context=context, kernel_name=_PROVISIONER)
    manager._kernel_spec = KernelSpec(
        argv=["zygote"],
        display_name="sandbox",
        language="python",
        metadata={
            "kernel_provisioner": {
                "provisioner_name": _PROVISIONER,
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
