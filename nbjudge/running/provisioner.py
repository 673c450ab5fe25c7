"""How Jupyter asks a sandbox for a kernel; `kernel` tells it of this one."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import tempfile
from pathlib import Path

from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Bool, Dict, Unicode

from nbjudge.running.sandbox import LIMITS, SandboxError

# A kernel is forked in a moment, but the first waits for what all of them share to be imported.
ANSWER_SECONDS = 300
# The sockets of a kernel, in the order of their numbers; for the heartbeat there is none.
_SOCKETS = ("shell", "iopub", "stdin", "control", "hb")


class SandboxProvisioner(KernelProvisionerBase):
    """Has a `Sandbox` fork a kernel."""

    folder = Unicode(help="the sandbox's folder").tag(config=True)
    jailed = Bool(True, help="whether kernels are jailed").tag(config=True)
    limits = Dict(LIMITS, help="what one kernel may use; see jail.limit").tag(config=True)

    used: float = 0.0
    """Processor seconds that the kernel's whole tree has used, as far as it was told."""
    why: str = ""
    """What the kernel had too much of when it was ended, in words; nothing if it ended itself."""

    pid = None
    _client = None
    _exit = None
    # The beginning of a line whose rest has not come yet.
    _heard = b""

    @property
    def has_process(self):
        """Whether there is a kernel, running or not yet buried."""
        return self._client is not None

    async def pre_launch(self, **kwargs):
        """Choose the folder of the kernel's sockets before the connection is written down."""
        self._home = Path(tempfile.mkdtemp(dir=Path(self.folder) / "kernels"))
        manager = self.parent
        manager.transport, manager.ip = "ipc", str(self._home / "k")
        for number, name in enumerate(_SOCKETS, 1):
            setattr(manager, f"{name}_port", number)
        kwargs = await super().pre_launch(cmd=["zygote"], **kwargs)
        # By default it would lie in the system's temporary folder, and stay there.
        manager.connection_file = str(self._home / "outside.json")
        manager.write_connection_file()
        self.connection_info = manager.get_connection_info()
        return kwargs

    async def launch_kernel(self, cmd, **kwargs):
        """Ask the zygote for a kernel."""
        inner = "/run/nbjudge" if self.jailed else f"{self.folder}/kernels"
        # A kernel finds its sockets by their names alone.
        connection = {
            **self.connection_info,
            "ip": Path(self.parent.ip).name,
            "key": self.connection_info["key"].decode(),
        }
        request = {
            "folder": f"{inner}/{self._home.name}",
            "connection": connection,
            "limits": self.limits,
        }
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(ANSWER_SECONDS)
        self._client.connect(str(Path(self.folder) / "kernels" / "zygote"))
        self._client.sendall(json.dumps(request).encode() + b"\n")
        self._heard, self.pid, self.used, self.why, self._exit = b"", None, 0.0, "", None
        while self.pid is None and self._exit is None:
            self._listen()
        self._client.setblocking(False)
        # A client that finds no socket tries again only after a tenth of a second.
        while not all((self._home / f"k-{n}").exists() for n in range(1, len(_SOCKETS))):
            if await self.poll() is not None:
                break
            await asyncio.sleep(0.005)
        return self.connection_info

    async def poll(self):
        """None while the kernel runs, its exit status afterwards."""
        if self._exit is None and self._client:
            with contextlib.suppress(BlockingIOError):
                while self._exit is None:
                    self._listen()
        return self._exit

    def _listen(self):
        """Take in what the zygote says next: any number of lines, and a part of one."""
        try:
            said = self._client.recv(65536)
        except TimeoutError:
            raise SandboxError(
                f"the sandbox did not answer within {ANSWER_SECONDS} seconds: the machine may be "
                "too busy; run the command again"
            ) from None
        if not said:
            self._exit = 1
        *lines, self._heard = (self._heard + said).split(b"\n")
        for message in map(json.loads, lines):
            self.pid = message.get("pid", self.pid)
            self.used = message.get("used", self.used)
            self.why = message.get("why", self.why)
            self._exit = message.get("exit", self._exit)

    async def wait(self):
        """Wait for the end of the kernel."""
        while await self.poll() is None:
            await asyncio.sleep(0.01)
        self._hang_up()
        return self._exit

    async def send_signal(self, signum):
        """Only SIGKILL reaches a kernel; interruptions travel as messages."""
        if signum == signal.SIGKILL:
            self._hang_up()

    async def kill(self, restart=False):
        """End the kernel and everything it started."""
        self._hang_up()

    async def terminate(self, restart=False):
        """End the kernel and everything it started."""
        self._hang_up()

    async def cleanup(self, restart=False):
        """Remove the kernel's sockets."""
        self._hang_up()
        shutil.rmtree(self._home, ignore_errors=True)

    def _hang_up(self):
        if self._client:
            with contextlib.suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
            self._client.close()
            self._client, self._exit = None, -signal.SIGKILL if self._exit is None else self._exit
