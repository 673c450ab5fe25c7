"""The sandbox: what student code can see, write and use up, and that nothing of it stays."""

import contextlib
import errno
import fcntl
import importlib
import inspect
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import EXERCISES_OF, JAILED, ROOT, TOPICS, needs_sandbox
from jupyter_client.provisioning import KernelProvisionerFactory

from dgm_utils import iwae
from nbjudge.errors import UserError
from nbjudge.mark import Marker
from nbjudge.running import folders, sandbox
from nbjudge.running.execute import Rules, execute
from nbjudge.running.kernel import Kernel
from nbjudge.running.provisioner import SandboxProvisioner
from nbjudge.running.sandbox import Contents, Sandbox, SandboxError

MARKER = "The kernel died"
# What no task is dumped as.
NOTHING = b"\x80\x04}."
# Where a kernel may write; not where Python itself lies.
PRIVATE = tuple(
    folder
    for folder in ("/tmp", "/home/student", "/dev/shm")
    if not any(Path(prefix).is_relative_to(folder) for prefix in (sys.prefix, sys.base_prefix))
)


@pytest.fixture(scope="module")
def box():
    if not JAILED:
        pytest.skip("bubblewrap is missing")
    before = os.environ.get("DGM_TEST_SECRET")
    os.environ["DGM_TEST_SECRET"] = "gradebook password"
    try:
        with Sandbox(Marker(ROOT / "solutions" / "iwae" / "iwae.ipynb").contents()) as made:
            made.idle = len(processes(made))
            yield made
    finally:
        os.environ.pop("DGM_TEST_SECRET")
        assert before is None


def run(box, *sources, seconds=20.0, **rules):
    """Execute cells; what each put out: its text, or `Kind: message` for an error."""
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(source)) for source in sources]
    rules = Rules(cell_seconds=seconds, notebook_seconds=120, **rules)
    done = execute(nbformat.v4.new_notebook(cells=cells), str(box.folder), rules=rules)
    return ["".join(map(_text, cell.outputs)) for cell in done.cells]


def _text(output):
    if output.output_type == "error":
        return f"{output.ename}: {output.evalue}"
    return output.get("text") or output.data.get("text/plain", "")


def data(box, source, **rules):
    """Execute a cell that prints JSON last; the JSON."""
    (said,) = run(box, source, **rules)
    return json.loads(said.splitlines()[-1])


def processes(box):
    """Every process that the sandbox holds, from outside."""
    return psutil.Process(box.pid).children(recursive=True)


def until(condition, what):
    """Wait for something that must come about, however slow the machine."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, f"never came about: {what}"
        time.sleep(0.02)


# What can be seen


def test_there_is_no_network(box):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), 5).close()
        said = data(
            box,
            f"""
            import json, socket
            said = []
            for host, port in (("127.0.0.1", {port}), ("1.1.1.1", 53)):
                try:
                    socket.create_connection((host, port), 2).close()
                    said.append("connected")
                except OSError as error:
                    said.append("refused")
            said.append([name for _, name in socket.if_nameindex()])
            print(json.dumps(said))
            """,
        )
    assert said == ["refused", "refused", ["lo"]]


@pytest.mark.parametrize(
    "module", ["dgm_utils.iwae", "dgm_utils.maf_vs_iaf", "nbjudge.judging.judge", "dgm_utils.cli"]
)
def test_what_holds_answers_or_judges_cannot_be_imported(box, module):
    importlib.import_module(module)
    (said,) = run(box, f"import {module}")
    assert said.startswith("ModuleNotFoundError")


# A walk over everything that is not an installed package; among those, only what is ours.
SEARCH = """
import json, os, sys
# On a merged system /lib is /usr/lib.
installed = {sys.prefix, sys.base_prefix, "/usr", "/bin", "/lib", "/lib32", "/lib64"}
found = {line: [] for line in LINES}
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in installed]
    for name in files:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    content = file.read()
            except OSError:
                continue
            for line in LINES:
                found[line] += [path] if line.encode() in content else []
packages = [os.path.join(folder, "dgm_utils") for folder in sys.path]
packages = [package for package in packages if os.path.isdir(package) and os.listdir(package)]
print(json.dumps([*found.values(), packages]))
"""


def test_no_file_holds_a_reference(box):
    line = inspect.getsource(iwae.iwae_bound).splitlines()[-1].strip()
    assert len(line) > 20 and line in Path(iwae.__file__).read_text()
    # The same walk finds a line that is there.
    present = "The `check` of the sandbox: it observes"
    answer, check, packages = data(box, f"LINES = {[line, present]}" + SEARCH, seconds=60)
    assert check == ["/course/nbjudge/inside/check.py"]
    assert answer == []
    assert packages == ["/course/dgm_utils"]


@pytest.mark.parametrize("topic", TOPICS)
def test_the_cases_carry_no_reference(topic):
    tasks = Marker(ROOT / "solutions" / topic / f"{topic}.ipynb").contents().tasks
    references = [inspect.unwrap(exercise.reference) for exercise in EXERCISES_OF[topic]]
    assert not [f.__name__ for f in references if f.__code__.co_code in tasks]
    # Code that does go along is found this way.
    if topic == "maf_vs_iaf":
        networks = importlib.import_module(f"dgm_utils.exercises.{topic}._networks")
        assert networks.Conditioner.forward.__code__.co_code in tasks


def test_neither_the_machine_nor_other_processes_are_visible(box):
    # Of the course's folder there is at most the path to the environment with the packages.
    outside = [str(ROOT / name) for name in ("solutions", "dgm_utils", "nbgrader_config.py")]
    assert all(map(os.path.exists, outside))
    outside += [str(box.folder), str(Path.home() / ".bashrc"), str(Path.home() / ".ssh")]
    seen = data(
        box,
        f"""
        import json, os, threading
        paths = [path for path in {outside} if os.path.exists(path)]
        alive = []
        for pid in range(1, 3000):
            try:
                os.kill(pid, 0)
                alive.append(pid)
            except OSError:
                pass
        # Threads that C libraries started are known to the system only.
        threads = list(range(1, max(t.native_id for t in threading.enumerate()) + 5))
        folders = {{name: os.listdir(name) for name in ("/proc", "/home", "/run", "/run/nbjudge")}}
        print(json.dumps([paths, alive, threads, os.getpid(), os.getppid(), folders]))
        """,
    )
    paths, alive, threads, pid, parent, folders = seen
    # Threads answer to a signal too, and those of process 1 are the only ones.
    assert (paths, pid, parent) == ([], 1, 0)
    assert set(alive) <= set(threads)
    assert folders == {"/proc": [], "/home": ["student"], "/run": ["nbjudge"], "/run/nbjudge": []}


def test_the_environment_is_scrubbed(box):
    assert os.environ["DGM_TEST_SECRET"] not in json.dumps(
        environment := data(box, "import json, os; print(json.dumps(dict(os.environ)))")
    )
    assert not {"DGM_TEST_SECRET", "USER", "LOGNAME", "SSH_AUTH_SOCK"} & set(environment)
    assert environment["HOME"] == "/home/student"


# What can be written

WRITABLE = """
import json, os
writable = set()
for folder, _, _ in os.walk("/"):
    try:
        with open(os.path.join(folder, "left-behind"), "x"):
            writable.add(folder)
    except OSError:
        pass
print(json.dumps(sorted(writable)))
"""


def test_nothing_can_be_written_but_private_folders(box):
    folders = data(box, WRITABLE, seconds=60)
    assert set(PRIVATE) <= set(folders)
    assert [folder for folder in folders if not folder.startswith(PRIVATE)] == []
    assert not list(box.folder.rglob("left-behind"))


def test_what_one_kernel_writes_the_next_does_not_see(box):
    data(box, WRITABLE, seconds=60)
    source = """
        import json, os
        left = [folder for folder, _, files in os.walk("/") if "left-behind" in files]
        print(json.dumps(left))
        """
    assert data(box, source, seconds=60) == []


def test_a_kernel_holds_nothing_of_the_zygotes(box):
    # An open file outside would be written to; through a shared selector one student's kernel
    # could have the zygote kill another's.
    said = data(
        box,
        """
        import json, os, stat
        regular = []
        for number in range(256):
            try:
                mode = os.fstat(number).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode):
                regular.append(number)
        for number in (1, 2):
            os.write(number, b"a line in the log")
        print(json.dumps([regular, os.lseek(1, 0, os.SEEK_CUR), os.lseek(2, 0, os.SEEK_CUR)]))
        """,
    )
    assert said == [[], 0, 0]
    assert "a line in the log" not in (box.folder / "log").read_text()


# Puts a pipe that is always readable into every selector it finds, under each number that the
# zygote may use for the connection of another kernel.
HANG_UP_ON_OTHERS = """
import ctypes, os, struct, time
libc = ctypes.CDLL(None, use_errno=True)
end, begin = os.pipe()
os.write(begin, b"x")
for selector in (3, 4):
    for number in range(5, 24):
        try:
            kept = os.dup(number)
        except OSError:
            kept = None
        os.dup2(end, number)
        libc.epoll_ctl(selector, 1, number, struct.pack("=IQ", 1, number))
        if kept is not None:
            os.dup2(kept, number)
            os.close(kept)
time.sleep(1)
"""


def test_no_kernel_can_end_another(box):
    said = []
    honest = "import time\nfor i in range(60): time.sleep(0.1)\nprint('to the end')"
    thread = threading.Thread(target=lambda: said.extend(run(box, honest)))
    thread.start()
    until(lambda: len(processes(box)) > box.idle, "the honest kernel")
    time.sleep(1)
    run(box, HANG_UP_ON_OTHERS, seconds=5)
    thread.join(60)
    assert said == ["to the end\n"]


@pytest.mark.parametrize(
    "call",
    [
        "unshare(0x10000000)",
        "unshare(0x00020000)",
        'mount(b"none", b"/tmp", b"tmpfs", 0, None)',
        'umount2(b"/proc", 2)',
        "ptrace(0, 0, 0, 0)",
        "setns(0, 0)",
        'chroot(b"/tmp")',
        "syscall(56, 0x10000011, 0, 0, 0, 0)",
        # A thread with open files of its own.
        "syscall(56, 0x10b00, 0, 0, 0, 0)",
        # Memory that belongs to no process.
        'memfd_create(b"x", 0)',
        "shmget(0, 1048576, 0o1600)",
        "semget(0, 1000, 0o1600)",
        "msgget(0, 0o1600)",
        # What all kernels share: the log of the system, and watches of files.
        "klogctl(3, bytes(100), 100)",
        "inotify_init1(0)",
        "fanotify_init(0, 0)",
        "syscall(206, 65536, bytes(8))",
        'fcntl(libc.open(b"/tasks", 0), 1024, 0)',
        'fcntl(libc.open(b"/usr", 0), 1026, 1)',
        'chmod(b"/dev/null", 0o777)',
        "name_to_handle_at(-100, b'/', bytes(200), bytes(8), 0)",
        "syscall(457, 0, 0, 0, 0, 0)",
    ],
)
def test_system_calls_that_reach_out_are_refused(box, call):
    number = data(
        box,
        f"""
        import ctypes, errno, json
        libc = ctypes.CDLL(None, use_errno=True)
        libc.{call}
        print(json.dumps(ctypes.get_errno()))
        """,
    )
    assert errno_name(number) in ("EPERM", "ENOSYS", "EROFS")


FAMILIES = """
import errno, json, socket
made = []
for family in range(64):
    for kind, protocol in ((socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, 0),
                           (socket.SOCK_STREAM, 132), (socket.SOCK_STREAM, 262),
                           (socket.SOCK_RAW, 15), (socket.SOCK_RAW, 9)):
        try:
            socket.socket(family, kind, protocol).close()
            made.append([family, protocol])
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
                made.append([family, errno.errorcode[error.errno]])
socket.socketpair()
print(json.dumps(made))
"""


def test_sockets_are_of_the_families_that_lead_nowhere(box):
    made = data(box, FAMILIES)
    known = {socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}
    assert {family for family, _ in made} <= known
    assert {said for _, said in made} <= {0, "EPERM", "ESOCKTNOSUPPORT"}


SHARING = """
import multiprocessing, subprocess, torch
from torch.utils.data import DataLoader, TensorDataset
fork = multiprocessing.get_context("fork")
print(fork.Value("i", 3).value)
with fork.Pool(2) as pool: print(pool.map(abs, [-1, -2]))
loader = DataLoader(TensorDataset(torch.ones(64)), batch_size=8, num_workers=2)
print(sum(batch[0].sum() for batch in loader).item())
print(torch.ones(10).share_memory_().sum().item())
print(subprocess.run("echo hello", shell=True, capture_output=True, text=True).stdout)
"""


def test_what_honest_notebooks_share_memory_with_works(box):
    (said,) = run(box, SHARING, seconds=60)
    assert said.split() == ["3", "[1,", "2]", "64.0", "10.0", "hello"]


SHARED_MEMORY = """
import json, mmap, os
said = []
try:
    said.append(len(mmap.mmap(-1, 4096)))
except OSError as error:
    said.append(error.strerror)
said.append(os.path.exists("/dev/zero"))
files = 0
for folder in FOLDERS:
    try:
        for number in range(100_000):
            os.close(os.open(f"{folder}/{number}", os.O_CREAT))
            files += 1
    except OSError as error:
        said.append(error.strerror)
print(json.dumps([*said, files < 60_000]))
"""


def test_memory_that_no_process_is_seen_to_have_cannot_be_had(box):
    source = f"FOLDERS = {PRIVATE}" + SHARED_MEMORY
    full = [os.strerror(errno.ENOSPC)] * len(PRIVATE)
    assert data(box, source, seconds=60) == [os.strerror(errno.ENOMEM), False, *full, True]


# Waits for a letter on a terminal of its own; the other writes into every terminal that it finds.
READING = """
import os, select, tty
end, own = os.openpty()
tty.setraw(own)
print(os.ttyname(own), sorted(os.listdir("/dev/pts")))
ready, _, _ = select.select([own, end], [], [], 4)
print("REACHED" if ready else "silence")
"""
WRITING = """
import os, time
for _ in range(30):
    for number in range(16):
        try:
            os.write(os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY), b"evil")
            print("REACHED")
        except OSError: pass
    time.sleep(0.1)
"""


def test_each_kernel_has_terminals_of_its_own(box):
    said = []
    thread = threading.Thread(target=lambda: said.extend(run(box, READING)))
    thread.start()
    until(lambda: len(processes(box)) > box.idle, "the reading kernel")
    assert run(box, WRITING) == [""]
    thread.join(60)
    assert said == ["/dev/pts/0 ['0', 'ptmx']\nsilence\n"]
    # IPython has commands write to a terminal.
    (printed,) = run(box, "!tty && echo hello")
    assert printed.split() == ["/dev/pts/0", "hello"]


def errno_name(number):
    """Name of an error number."""
    return errno.errorcode.get(number, str(number))


# What can be used up


def test_a_fork_bomb_is_bounded_and_leaves_no_process(box):
    most = []
    watching = threading.Event()

    def watch():
        while not watching.wait(0.05):
            most.append(len(processes(box)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        (said,) = run(
            box,
            """
            import os, time
            children = 0
            try:
                while children < 2000:
                    if os.fork() == 0:
                        os.setsid()
                        time.sleep(1000)
                        os._exit(0)
                    children += 1
            except OSError as error:
                print(type(error).__name__, children > 3, children < 200)
            time.sleep(0.5)
            """,
        )
    finally:
        watching.set()
        watcher.join()
    # The system's limit refuses a fork; for root it does not hold, and the watch ends the kernel.
    assert said == "BlockingIOError True True\n" or said.startswith("KernelDied")
    assert max(most) > box.idle + 10
    until(lambda: len(processes(box)) == box.idle, "the end of every child")


def test_too_much_memory_is_an_error_and_the_kernel_goes_on(box):
    big, after = run(box, "kept = 1\nbytearray(50 * 2**30)", "print(kept + 1)")
    assert big.startswith("MemoryError")
    assert after == "2\n"


def test_a_full_disk_is_an_error_and_nothing_grows_outside(box):
    def size():
        return sum(f.stat().st_size for f in box.folder.rglob("*") if f.is_file())

    before = size()
    said = data(
        box,
        f"""
        import json, os
        written = {{}}
        for folder in {PRIVATE}:
            written[folder] = []
            try:
                for number in range(100):
                    with open(os.path.join(folder, str(number)), "wb") as file:
                        for _ in range(2000):
                            written[folder].append(file.write(bytes(2**20)))
            except OSError as error:
                written[folder] = [sum(written[folder]) >> 20, os.strerror(error.errno)]
        print(json.dumps(written))
        """,
    )
    full = os.strerror(28), os.strerror(27)
    for mebibytes, reason in said.values():
        assert reason in full
        assert 30 < mebibytes <= 300
    assert size() < before + 2**20


def test_a_kernel_that_stops_itself_costs_only_its_cell(box):
    said = run(
        box,
        "import os, signal\nkept = 1",
        "os.kill(os.getpid(), signal.SIGSTOP)\nos.kill(0, signal.SIGSTOP)\nprint('went on')",
        "print(kept + 1)",
        seconds=5,
    )
    # Process 1 of a namespace ignores the signal; either way the next cell runs.
    assert said[1] == "went on\n" or said[1].startswith("KernelDied")
    assert said[2] == "2\n"
    until(lambda: len(processes(box)) == box.idle, "the end of the stopped kernel")


def test_a_kernel_that_ends_itself_costs_only_its_cell(box):
    said = run(
        box,
        "def f():\n    return 5",
        "import ctypes\nctypes.CDLL(None)._exit(0)",
        "print(f())",
        "print(f() + 1)",
    )
    assert said == ["", said[1], "5\n", "6\n"]
    assert said[1].startswith(f"KernelDied: {MARKER}")


def test_who_types_exit_loses_nothing(box):
    leaving = ("exit()", "quit()", "exit", "quit", "get_ipython().ask_exit()", "exit(0)")
    later = "import time\ntime.sleep(1)\nprint(kept)"
    said = run(box, "kept = 1", *leaving, later, "import sys\nsys.exit()", "print(kept + 1)")
    assert said[1:5] == [""] * 4
    assert "KernelDied" not in "".join(said)
    assert said[-3].endswith("1\n") and said[-2].startswith("SystemExit") and said[-1] == "2\n"


def test_what_is_compiled_answers_as_it_is_written(box):
    source = """
        import torch
        @torch.compile
        def f(x): return x.exp().sum()
        print(f(torch.zeros(3)).item(), "torch._inductor.compile_fx" in __import__("sys").modules)
        """
    assert run(box, source, seconds=60) == ["3.0 False\n"]


def test_a_loop_that_catches_everything_costs_only_its_cell(box):
    loop = """
        while True:
            try:
                while True: pass
            except BaseException: pass
        """
    said = run(box, "def f():\n    return 5", loop, "print(f())", seconds=3)
    assert said[1].startswith("KernelDied: This cell did not finish within 3 seconds")
    assert said[2] == "5\n"


@pytest.mark.parametrize(
    "flood", ["print('x' * 2_000_000)", "for _ in range(100_000): print('y' * 1000)"]
)
def test_a_flood_of_output_is_cut_with_the_reason(box, flood):
    said = run(box, flood, "print('dry')", output_limit=1_000_000)
    # A kernel collects what is printed in a short time into one message, which may be too large.
    reasons = ("more than 1,000,000 characters.", "more than 40,000,000 bytes at once", MARKER)
    assert any(reason in said[0] for reason in reasons)
    assert len(said[0]) < 2_000_000
    assert said[1] == "dry\n"


def test_a_message_that_is_too_large_is_not_even_taken_in(box, monkeypatch):
    """It would lie in the memory of whoever executes, which nothing limits."""
    monkeypatch.setattr("nbjudge.running.kernel.COMPLETE_SECONDS", 1)
    said = run(box, "print('x' * 100_000_000)", "print('dry')")
    assert said[0] == (
        "KernelDied: This cell put out more than 40,000,000 bytes at once, or what no kernel sends."
    )
    assert said[1] == "dry\n"


# Messages that no kernel sends: {what is sent}, as a kernel's own session would send it.
NONSENSE = {
    "a stream without text": 's.send(iopub, "stream", {}, parent=parent)',
    "data that is text": 's.send(iopub, "display_data", {"data": "abc"}, parent=parent)',
    "an error that is none": 's.send(iopub, "error", {"ename": 3}, parent=parent)',
    "a state without a state": 's.send(iopub, "status", {}, parent=parent)',
    "no frames": 'iopub.send_multipart([b"stream", b"x"])',
    "a false signature": 'iopub.send_multipart([b"stream", b"<IDS|MSG>", *[b"{}"] * 5])',
    "JSON without a bottom": 'raw(b"[" * 100_000 + b"]" * 100_000)',
    "an impossible date": 'raw(b"{}", date="9999-99-99T99:99:99.000Z")',
    "a reply that is no message": (
        "kernel.shell_stream.send_multipart("
        '[*kernel._get_shell_context_var(kernel._shell_parent_ident), b"reply"])'
    ),
}
SENDING = r"""
kernel = get_ipython().kernel
s, iopub, parent = kernel.session, kernel.iopub_socket, kernel.get_parent()

def raw(content, **header):
    message = s.msg("stream", {}, parent=parent)
    message["header"].update(header)
    parts = s.serialize(message)
    parts[-1] = content
    start = parts.index(b"<IDS|MSG>")
    parts[start + 1] = s.sign(parts[start + 2 :])
    iopub.send_multipart([b"stream", *parts])
"""


@pytest.mark.parametrize("sent", NONSENSE.values(), ids=NONSENSE)
def test_a_message_that_no_kernel_sends_costs_only_its_cell(box, sent):
    said = run(box, "kept = 1", SENDING + sent, "print(kept + 1)", seconds=5)
    assert said[1].startswith("KernelDied: ")
    assert said[2] == "2\n"


# What is left


def ask_for_a_kernel(box, name):
    """A connection to the zygote, and the request that makes it fork a kernel."""
    (box.folder / "kernels" / name).mkdir()
    ports = {f"{n}_port": i for i, n in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
    made = {**ports, "transport": "ipc", "ip": "k", "key": "k", "signature_scheme": "hmac-sha256"}
    request = {"folder": f"/run/nbjudge/{name}", "connection": made, "limits": sandbox.LIMITS}
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(box.folder / "kernels" / "zygote"))
    return client, json.dumps(request).encode() + b"\n"


def test_a_kernel_ends_when_its_client_hangs_up(box):
    until(lambda: len(processes(box)) == box.idle, "the end of earlier kernels")
    client, request = ask_for_a_kernel(box, "hung-up")
    with client:
        client.sendall(request)
        until(lambda: len(processes(box)) == box.idle + 1, "a kernel")
    until(lambda: len(processes(box)) == box.idle, "the end of the kernel")


def test_a_kernel_may_end_at_the_moment_its_client_hangs_up(box):
    until(lambda: len(processes(box)) == box.idle, "the end of earlier kernels")
    idle = set(processes(box))
    first, request = ask_for_a_kernel(box, "first")
    first.sendall(request)
    until(lambda: len(processes(box)) == box.idle + 1, "a kernel")
    (kernel,) = set(processes(box)) - idle
    # While the zygote waits for the rest of a request it hears of the end, then of the hanging up.
    second, request = ask_for_a_kernel(box, "second")
    with second:
        second.sendall(request[:-1])
        time.sleep(0.5)
        kernel.kill()
        until(lambda: kernel.status() == psutil.STATUS_ZOMBIE, "the end of the kernel")
        first.close()
        second.sendall(request[-1:])
        until(lambda: not kernel.is_running(), "its burial")
        until(lambda: len(processes(box)) == box.idle + 1, "the other kernel")
    assert run(box, "print('as before')") == ["as before\n"]


CHILD = """
import pickle, sys, time
from nbjudge.running.sandbox import Contents, Sandbox
box = Sandbox(Contents(pickle.dumps({{}}), "dgm_utils.exercises.iwae", (), {jailed}))
print(box.folder, flush=True)
time.sleep(1000)
"""


@pytest.mark.parametrize("jailed", [pytest.param(True, marks=needs_sandbox), False])
def test_nothing_runs_on_when_its_owner_is_killed(jailed):
    command = [sys.executable, "-c", CHILD.format(jailed=jailed)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = owner.stdout.readline().strip()
    try:
        assert folder, "no sandbox was started"
        family = psutil.Process(owner.pid).children(recursive=True)
        assert len(family) >= (2 if jailed else 1)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        until(lambda: not any(map(_runs, family)), "the end of the sandbox")
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
        shutil.rmtree(folder or "/nonexistent", ignore_errors=True)


def _runs(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _run_until_it_breaks(box):
    # What the client says when its sandbox goes away does not matter here.
    with contextlib.suppress(Exception):
        run(box, "while True: pass", seconds=30)


@needs_sandbox
def test_closing_ends_every_kernel_and_removes_the_folder():
    contents = Contents(NOTHING, "dgm_utils.exercises.iwae", ())
    with Sandbox(contents) as box:
        endless = threading.Thread(target=_run_until_it_breaks, args=(box,))
        endless.daemon = True
        before = len(processes(box))
        endless.start()
        until(lambda: len(processes(box)) == before + 1, "a kernel")
        family = [psutil.Process(box.pid), *processes(box)]
    until(lambda: not any(map(_runs, family)), "the end of the sandbox")
    assert not box.folder.exists()


LIMITED = """
import resource
from nbjudge.inside import jail
jail.limit(2**33, 60, 10_000, 100, 2**20, any_address={any_address})
print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("any_address", "said"), [(False, "8589934592 100"), (True, "-1 100")])
def test_addresses_are_limited_but_on_a_card(any_address, said):
    code = LIMITED.format(any_address=any_address)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == said, done.stderr


# What the driver of a card does when it starts; the last three must fail everywhere.
DRIVING = """
import os, threading

def name_it():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
        file.write("driver")

name_it()
thread = threading.Thread(target=name_it)
thread.start()
thread.join()
there = [os.path.exists(path) for path in (FILE, "/sys/devices")]
print(sorted(filter(str.isdigit, os.listdir("/proc"))), *there)
for path in ("/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_helper"):
    try:
        os.close(os.open(path, os.O_WRONLY))
        print("opened", path)
    except OSError:
        print("refused")
"""
# What bubblewrap makes itself.
PLAIN = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"}


@needs_sandbox
def test_on_a_card_its_driver_finds_what_it_needs_and_nothing_to_write_to(monkeypatch):
    """Without a card; a file of another device stands for those of one."""
    # Only looked at: there are devices that do something when they are opened.
    devices = [p for p in sorted(Path("/dev").iterdir()) if p.is_char_device()]
    other = next((p for p in devices if p.name not in PLAIN), None)
    if other is None:
        pytest.skip("/dev has no device that could stand for a card's")
    monkeypatch.setenv("DGM_DEVICE", "cuda")
    monkeypatch.setattr(sandbox, "_card_files", lambda: [other])
    with Sandbox(Contents(pickle.dumps({}), "dgm_utils.exercises.iwae", ())) as box:
        (said,) = run(box, DRIVING.replace("FILE", repr(str(other))))
    assert said == "['1'] True True\n" + "refused\n" * 3


LISTENING = """
import os, socket, sys
from nbjudge.inside.zygote import Zygote
path = sys.argv[1]
listen = socket.socket.listen
socket.socket.listen = lambda self, n: (print(os.path.exists(path)), listen(self, n))
zygote = Zygote(path, "", jailed=False)
with socket.socket(socket.AF_UNIX) as client:
    client.connect(path)
    print("connected")
"""


def test_the_socket_can_be_found_only_once_it_listens(tmp_path):
    command = [sys.executable, "-c", LISTENING, str(tmp_path / "zygote")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "connected"], done.stderr


# How it is found, and what is said where it is not


def test_without_bubblewrap_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(SandboxError, match=r"apt install bubblewrap.*--no-sandbox"):
        Sandbox(Contents(b"", "dgm_utils.exercises.iwae", ()))


def test_jupyter_finds_the_provisioner():
    Kernel("nowhere", True)
    found = KernelProvisionerFactory.provisioners["nbjudge-sandbox"]
    assert found.load() is SandboxProvisioner


def test_what_killed_owners_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lying = {name: tmp_path / f"nbj-{name}" for name in ("half", "empty", "in-use", "own")}
    for folder in lying.values():
        folder.mkdir()
    for name in ("half", "in-use"):
        (lying[name] / "lock").touch()
        (lying[name] / "course").mkdir()
    (lying["own"] / "notes").touch()

    with open(lying["in-use"] / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folders.sweep()

    assert sorted(path.name for path in tmp_path.iterdir()) == ["nbj-in-use", "nbj-own"]
    assert (lying["in-use"] / "course").is_dir()


def test_nothing_is_removed_through_a_link(tmp_path, monkeypatch):
    kept, folder = tmp_path / "kept", tmp_path / "temporary"
    for name in ("whole", "lock", "inner"):
        (kept / name).mkdir(parents=True)
        (kept / name / "notes").touch()
    (kept / "whole" / "lock").touch()
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    # The folder itself, its lock, and what lies in it.
    (folder / "nbj-whole").symlink_to(kept / "whole")
    for name in ("lock", "inner", "fifo"):
        (folder / f"nbj-{name}").mkdir()
    (folder / "nbj-lock" / "lock").symlink_to(kept / "lock" / "notes")
    (folder / "nbj-inner" / "lock").touch()
    (folder / "nbj-inner" / "course").symlink_to(kept / "inner")
    (folder / "nbj-inner" / "tasks").symlink_to(kept / "inner" / "notes")
    os.mkfifo(folder / "nbj-fifo" / "lock")
    before = sorted(kept.rglob("*"))

    folders.sweep()

    assert sorted(kept.rglob("*")) == before
    assert not (folder / "nbj-inner").exists()
    assert (folder / "nbj-whole").is_symlink() and (folder / "nbj-lock" / "lock").is_symlink()


def test_another_user_s_folder_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("empty", "full"):
        (tmp_path / f"nbj-{name}").mkdir()
    (tmp_path / "nbj-full" / "lock").touch()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    folders.sweep()
    assert len(list(tmp_path.iterdir())) == 2


@needs_sandbox
def test_the_temporary_folder_may_have_a_long_path(tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 75)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with Sandbox(Contents(NOTHING, "dgm_utils.exercises.iwae", ())) as box:
        assert run(box, "print('hello')") == ["hello\n"]
        assert not box.folder.is_relative_to(deep)


def test_where_no_short_folder_is_the_message_says_what_to_set(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 75)
    monkeypatch.setattr(os, "access", lambda *args: False)
    with pytest.raises(UserError, match=r"longer than 70 bytes: .*x; set TMPDIR to a shorter"):
        folders.short_folder()


def test_a_folder_that_is_being_removed_has_its_lock_until_the_end(tmp_path, monkeypatch):
    """So that a process killed on the way leaves what the next one removes."""
    (tmp_path / "lock").touch()
    (tmp_path / "course" / "deep").mkdir(parents=True)
    (tmp_path / "tasks").touch()
    seen, rmtree = [], shutil.rmtree
    monkeypatch.setattr(
        sandbox.shutil,
        "rmtree",
        lambda path, **options: (
            seen.append(sorted(p.name for p in tmp_path.iterdir())) or rmtree(path, **options)
        ),
    )
    folders.remove(tmp_path)
    assert seen[-1] == ["lock"]
    assert all("lock" in names for names in seen)
    assert not tmp_path.exists()
