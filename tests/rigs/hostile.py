"""Hostile submissions as data: what each one tries, and the points that are due all the same.

Every notebook holds two exercises. `multi_sample_elbo` (1 point) is answered rightly unless said
otherwise; `iwae_bound` (2 points) is answered wrongly, and an attack wants its points.
"""

import base64
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.classroom import BOUND, WRONG
from nbjudge.asking.task import make_task
from nbjudge.inside.observe import observe_task

# Its gradient is missing; its numbers are right.
DETACHED = BOUND.replace("(log_w, 0)", "(log_w.detach(), 0)")


@dataclass(frozen=True)
class Hostile:
    """One submission.

    Args:
        name: also of the student.
        attack: code of a cell after the imports; `{course}`, `{other}` and `{port}` are filled in.
        bound: the answer to `iwae_bound`.
        points: that are due; None if it is to be refused, and several where each would do.
        says: what must stand in the reason, in what was mended, or in the verdict on `iwae_bound`.
        waits: whether a written task must wait for a person.
        slow: whether it takes gigabytes or minutes, and so is for `benchmarks.hostile` alone.
        hand_in: puts the files into a course, where they are the attack.

    """

    name: str
    attack: str = ""
    bound: str = WRONG
    points: float | tuple[float | None, ...] | None = 1.0
    says: str = ""
    waits: bool = False
    slow: bool = False
    hand_in: Callable | None = None

    @property
    def due(self) -> tuple[float | None, ...]:
        """Every number of points that would do."""
        return self.points if isinstance(self.points, tuple) else (self.points,)


# In `inside.check`'s place: publishes whatever `forged(observations, probe)` makes of a record.
_FORGE = """
from IPython.display import display
from nbjudge.inside import check as inside
from nbjudge.inside import wire
from nbjudge.inside.mime import OBSERVED_MIME
from nbjudge.inside.observe import observe_task
import dataclasses, sys
class Forger(type(check)):
    def __call__(self, function, seed=0):
        name = function.__name__
        seen, probe = observe_task(function, inside._tasks[name, seed])
        if name == "iwae_bound":
            {forge}
        else:
            display({OBSERVED_MIME: wire.dump_observations(seen, probe)}, raw=True)
check = Forger()
"""


def _forge(*lines):
    return _FORGE.replace("{forge}", "\n            ".join(lines))


def _published(record):
    return f"display({{OBSERVED_MIME: {record}}}, raw=True)"


def _returning(value):
    return f"def iwae_bound(log_w):\n    return {value}"


_DUMPED = "wire.dump_observations(seen, probe)"
_RAW = """
kernel = get_ipython().kernel
session, iopub, parent = kernel.session, kernel.iopub_socket, kernel.get_parent()
"""

_SHARED_MEMORY = """
import ctypes
libc, size = ctypes.CDLL(None), 200 * 2**20
libc.shmget.argtypes = [ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.shmdt.argtypes = [ctypes.c_void_p]
for _ in range(40):
    key = libc.shmget(0, size, 0o1600)
    place = libc.shmat(key, None, 0)
    if key < 0 or place in (None, 2**64 - 1):
        break
    libc.memset(place, 1, size)
    libc.shmdt(place)
else:
    print('REACHED')
"""
_HIDDEN_MEMORY = """
import ctypes, os, time
PR_SET_DUMPABLE = 4
ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
children = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        held = bytearray(b'x') * (700 * 2**20)
        time.sleep(100)
        os._exit(0)
    children.append(pid)
time.sleep(4)
if not any(os.waitpid(pid, os.WNOHANG)[0] for pid in children):
    print('REACHED')
"""
_TERMINALS = """
import glob, os
for path in glob.glob('/dev/pts/[0-9]*') + ['/dev/tty', '/dev/console']:
    try:
        os.write(os.open(path, os.O_WRONLY | os.O_NOCTTY), b'REACHED')
        print('REACHED', path)
    except OSError:
        pass
"""
# All families but UNIX, INET and INET6; of NETLINK (16), all but what asks for addresses.
_SOCKETS = """
import itertools, socket
for family, kind, protocol in itertools.product({*range(3, 46)} - {10}, (1, 2, 3, 5), range(20)):
    if (family, protocol) == (16, 0):
        continue
    try:
        socket.socket(family, kind, protocol)
        print('REACHED', family, kind, protocol)
    except OSError:
        pass
"""
_SCRIPTS = r"""
from IPython.display import HTML, SVG, Javascript, Latex, Markdown, display
display(
    HTML('<script>evil()</script><img src=x onerror=evil()><a href="javascript:evil()">x</a>'),
    Javascript('evil()'),
    SVG('<svg onload="evil()"><script>evil()</script></svg>'),
    Markdown('<iframe src=x></iframe>'),
    Latex(r'$$\href{javascript:evil()}{x}$$'),
)
"""

_MUTE = ("observe", "check", "publishing")


def _table():
    """Knows by heart what is due on two seeds, and is wrong on any other."""
    exercise = importlib.import_module("dgm_utils.exercises.iwae").check.exercises["iwae_bound"]
    known = []
    for seed in (0, 1):
        task = make_task(exercise, seed)
        for case, seen in zip(task.cases, observe_task(exercise.reference, task)[0], strict=True):
            known.append((case.args[0].detach(), seen.value, seen.gradients[0]))
    buffer = io.BytesIO()
    torch.save(known, buffer)
    return _KNOWN.replace("{known}", base64.b64encode(buffer.getvalue()).decode())


_KNOWN = """
import base64, io
known = torch.load(io.BytesIO(base64.b64decode('{known}')))
class Known(torch.autograd.Function):
    @staticmethod
    def forward(context, log_w, value, gradient):
        context.gradient = gradient
        return value.clone()
    @staticmethod
    def backward(context, direction):
        return context.gradient, None, None
def iwae_bound(log_w):
    for arg, value, gradient in known:
        if arg.dtype == log_w.dtype and arg.shape == log_w.shape and torch.equal(arg, log_w):
            return Known.apply(log_w, value, gradient)
    return log_w.mean(0)
"""

CODE = [
    # Ends, loops, floods
    Hostile("exit-at-top", "import os\nos._exit(0)"),
    Hostile("exit-in-function", bound="def iwae_bound(log_w):\n    import os\n    os._exit(0)"),
    Hostile("loop", bound="def iwae_bound(log_w):\n    while True:\n        pass"),
    Hostile(
        "loop-that-catches",
        bound="def iwae_bound(log_w):\n    while True:\n        try:\n"
        "            while True: pass\n        except BaseException: pass",
    ),
    Hostile("prints-100-MB", "print('x' * 100_000_000)"),
    Hostile("allocates-50-GB", "bytearray(50 * 2**30)"),
    Hostile(
        "fills-the-disk",
        "for folder in ('/tmp', '/dev', '/home/student'):\n    try:\n"
        "        for i in range(3):\n            with open(f'{folder}/{i}', 'wb') as file:\n"
        "                for _ in range(300): file.write(bytes(2**20))\n    except OSError: pass",
    ),
    Hostile(
        "fork-bomb",
        "import os, time\ntry:\n    for _ in range(200):\n        if os.fork() == 0:\n"
        "            time.sleep(1000)\n            os._exit(0)\nexcept OSError: pass",
    ),
    Hostile(
        "detached-child",
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        time.sleep(1000)\n    os._exit(0)",
    ),
    Hostile("stops-itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    Hostile("stops-its-group", "import os, signal\nos.kill(0, signal.SIGSTOP)"),
    Hostile(
        "warns",
        bound=BOUND.replace("\n", "\n    import warnings; warnings.warn('x')\n", 1)
        + "\nimport sys; print('to stderr', file=sys.stderr)",
        points=3.0,
    ),
    # Reaches out
    Hostile(
        "reads-the-notebook",
        "import glob, re\nfor path in glob.glob('/**/*.ipynb', recursive=True) + "
        "['{course}/solutions/iwae/iwae.ipynb', '{other}']:\n"
        "    try: print('REACHED', path, open(path).read())\n    except OSError: pass",
    ),
    Hostile(
        "writes-elsewhere",
        "for path in ['{other}', '{course}/evil', '{course}/grading/evil']:\n"
        "    try: open(path, 'w').write('evil'); print('REACHED')\n    except OSError: pass",
    ),
    Hostile(
        "updates-the-gradebook",
        "import sqlite3\ntry:\n    db = sqlite3.connect('{course}/grading/gradebook.db')\n"
        "    db.execute('UPDATE grade SET auto_score = 99, manual_score = 99')\n    db.commit()\n"
        "    print('REACHED')\nexcept sqlite3.Error: pass",
    ),
    Hostile(
        "calls-home",
        "import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}), 2)\n"
        "    print('REACHED')\nexcept OSError: pass",
    ),
    Hostile("imports-the-reference", bound="from dgm_utils.iwae import iwae_bound", points=1.0),
    # Patches
    *(
        # Who takes their own checks away gets nothing for them.
        Hostile(f"patches-{name}", source, points=0.0 if name in _MUTE else 1.0)
        for name, source in {
            "allclose": "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True\n"
            "torch.testing.assert_close = lambda *a, **k: None",
            "tensor-methods": "torch.Tensor.allclose = torch.Tensor.equal = lambda *a, **k: True\n"
            "torch.Tensor.__eq__ = lambda *a: True",
            "builtins": "import builtins\nbuiltins.isinstance = lambda *a: True\n"
            "builtins.sum = builtins.open = builtins.all = lambda *a, **k: True",
            "input-transformers": "get_ipython().input_transformers_post.append(\n"
            "    lambda lines: ['pass'] if any('check(iwae' in l for l in lines) else lines)",
            "cell-hooks": "def clean(*_):\n    sys.last_value = None\n"
            "get_ipython().events.register('post_run_cell', clean)\n"
            "get_ipython().showtraceback = lambda *a, **k: None",
            "setprofile": "def profile(frame, event, arg):\n"
            "    if 'raised' in frame.f_locals: frame.f_locals['raised'] = None\n"
            "sys.setprofile(profile)",
            "settrace": "def trace(frame, event, arg):\n    return trace\nsys.settrace(trace)",
            "observe": "from nbjudge.inside import observe, check as inside\n"
            "observe._gradients = lambda *a: ()\nobserve._changed = lambda *a: ()\n"
            "inside.observe_task = lambda *a: ([], None)",
            "check": "from nbjudge.inside import check as inside\n"
            "inside._Check.__call__ = lambda self, f, seed=0: None\n"
            "inside._Check.passed = lambda self, *f: True",
            "publishing": "get_ipython().display_pub.publish = lambda *a, **k: None",
        }.items()
    ),
    # Forges
    Hostile(
        "forges-numbers",
        _forge(
            "seen = [dataclasses.replace(o, value=torch.zeros_like(o.value)) for o in seen]",
            _published(_DUMPED),
        ),
    ),
    Hostile(
        "forges-nan",
        _forge(
            "seen = [dataclasses.replace(o, value=o.value * float('nan')) for o in seen]",
            _published(_DUMPED),
        ),
    ),
    Hostile("forges-several", _forge(f"for _ in range(5): {_published(_DUMPED)}")),
    Hostile("forges-none", _forge(_published("wire.dump_observations([], None)"))),
    Hostile("forges-huge", _forge(_published("'x' * 31_000_000"))),
    Hostile(
        "forges-empty-gradients",
        _forge(
            "seen = [dataclasses.replace(o, gradients=tuple(torch.zeros((0, *c.args[i].shape),"
            " dtype=o.value.dtype) for i in c.wrt))"
            " for o, c in zip(seen, inside._tasks[name, seed].cases)]",
            _published(_DUMPED),
        ),
        bound=DETACHED,
        # As much as without the forgery: all but the part for gradients.
        points=2.5,
    ),
    Hostile("forges-no-probe", _forge("seen, probe = seen, None", _published(_DUMPED))),
    Hostile(
        "answers-with-another",
        _forge(
            "other = inside._tasks['multi_sample_elbo', seed]",
            "seen, probe = observe_task(multi_sample_elbo, other)",
            _published(_DUMPED),
        ),
    ),
    Hostile(
        "answers-with-another-seed",
        _forge(
            "seen, probe = observe_task(function, inside._tasks[name, 1 - seed])",
            _published(_DUMPED),
        ),
    ),
    Hostile(
        "forges-a-pickle",
        _forge(
            "import pickle, base64, os",
            "class Run:",
            "    def __reduce__(self): return os.system, ('touch {course}/pwned',)",
            "blob = base64.b64encode(pickle.dumps(Run())).decode()",
            _published("blob"),
            _published('\'{"observed": [{"py/reduce": "\' + blob + \'"}], "probe": null}\''),
        ),
    ),
    Hostile(
        "forges-a-verdict",
        "from IPython.display import display\n"
        "display({'application/vnd.nbjudge.verdict+json': {}}, raw=True)\n"
        "display({'application/vnd.nbjudge.verdict+json': {'exercise': 'iwae_bound', "
        "'passed': True, 'misconception': 'evil', 'copied': True}}, raw=True)",
    ),
    # Speaks to the grader behind the kernel's back
    Hostile("sends-nonsense", _RAW + "session.send(iopub, 'stream', {}, parent=parent)"),
    Hostile(
        "sends-no-dict",
        _RAW + "session.send(iopub, 'display_data', {'data': 'abc'}, parent=parent)",
    ),
    Hostile(
        "sends-half-a-surrogate",
        _RAW + "parts = session.serialize(session.msg('stream', {}, parent=parent))\n"
        'parts[-1] = rb\'{"name": "stdout", "text": "\\ud800"}\'\n'
        "start = parts.index(b'<IDS|MSG>')\nparts[start + 1] = session.sign(parts[start + 2:])\n"
        "iopub.send_multipart([b'stream', *parts])",
    ),
    # Floods what reads the messages
    *(
        Hostile(f"floods-{name}{'-for-long' if many > 10 else ''}", source, slow=many > 10)
        for many in (4, 400)
        for name, source in {
            "metadata": "from IPython.display import display\n"
            f"for _ in range({many}):\n"
            "    display({'text/plain': 'x'}, metadata={'x': 'y' * 20_000_000}, raw=True)",
            "buffers": f"{_RAW}for _ in range({many}):\n"
            "    session.send(iopub, 'display_data', {'data': {}, 'metadata': {}},\n"
            "        parent=parent, buffers=[bytes(20_000_000)])",
            "frames": f"{_RAW}for _ in range({many}):\n"
            "    session.send(iopub, 'display_data', {'data': {}, 'metadata': {}},\n"
            "        parent=parent, buffers=[b'x'] * 200_000)",
            "outputs": "from IPython.display import display\n"
            f"for _ in range({many} * 10_000): display({{'text/plain': ''}}, raw=True)",
        }.items()
    ),
    # Gives the judge much to read
    Hostile("returns-a-million-numbers", bound=_returning("[0.0] * 1_000_000")),
    Hostile("returns-300000-keys", bound=_returning("{i: 0.0 for i in range(300_000)}")),
    Hostile("returns-a-long-text", bound=_returning("'x' * 10_000_000")),
    Hostile("returns-a-huge-tensor", bound=_returning("torch.zeros(4_000_000)")),
    Hostile(
        "returns-a-nest",
        bound="def iwae_bound(log_w):\n    x = 0.0\n"
        "    for _ in range(100_000): x = [x]\n    return x",
    ),
    Hostile(
        "raises-a-long-text", bound="def iwae_bound(log_w):\n    raise ValueError('x' * 10_000_000)"
    ),
    Hostile(
        "has-a-long-name", bound=BOUND + "\niwae_bound.__name__ = 'x' * 10_000_000", points=3.0
    ),
    Hostile(
        "forges-a-long-text",
        _forge(
            "text = 'x' * 10_000_000", _published('\'{"observed": [{"value": "\' + text + \'"}]}\'')
        ),
    ),
    Hostile(
        "forges-a-million-numbers",
        _forge(
            "seen = [dataclasses.replace(o, value=[0.5] * 1_000_000) for o in seen[:1]] + seen[1:]",
            _published(_DUMPED),
        ),
    ),
    Hostile(
        "forges-many-shapes",
        _forge(
            "import json",
            f"record = json.loads({_DUMPED})",
            "record['observed'][0]['value'] = {'tensor': 'float64', 'shape': [0] * 1_000_000,"
            " 'device': 'cpu', 'data': ''}",
            _published("json.dumps(record)"),
        ),
    ),
    Hostile(
        "forges-huge-numbers",
        _forge(
            "import json",
            f"record = json.loads({_DUMPED})",
            "record['observed'][0]['largest'] = int('9' * 4000)",
            "record['observed'][0]['seconds'] = 1e400",
            _published("json.dumps(record)"),
        ),
    ),
    Hostile("writes-4-MB-of-code", "x = 1\n" * 700_000),
    Hostile("writes-one-long-line", "x = " + "+".join(["1"] * 500_000)),
    Hostile("writes-deep-code", "x = " + "(" * 100_000 + ")" * 100_000),
    # Knows the cases by heart
    Hostile("looks-up-two-seeds", bound=_table()),
    # Takes more than its share
    Hostile(
        "runs-110-busy-shells",
        "import subprocess\nfor _ in range(110):\n"
        "    subprocess.Popen(['sh', '-c', 'while :; do :; done'])",
        slow=True,
    ),
    Hostile(
        "runs-60-busy-threads",
        "import threading\ndef spin():\n    while True: pass\n"
        "for _ in range(60): threading.Thread(target=spin, daemon=True).start()",
        points=(0.0, 1.0),
        slow=True,
    ),
    Hostile(
        "fills-memory-files",
        "import os\nheld, block = [], bytes(2**20)\nfor _ in range(40):\n"
        "    held.append(os.memfd_create('x'))\n"
        "    for _ in range(200): os.write(held[-1], block)\nprint('REACHED')",
        slow=True,
    ),
    Hostile(
        "fills-shared-memory",
        _SHARED_MEMORY,
        slow=True,
    ),
    Hostile(
        "hides-its-memory",
        _HIDDEN_MEMORY,
        slow=True,
    ),
    # Speaks to others on the machine
    Hostile(
        "writes-to-terminals",
        _TERMINALS,
    ),
    Hostile(
        "opens-strange-sockets",
        _SOCKETS,
    ),
    # Does not end when the cell does
    *(
        Hostile(name, source, bound=BOUND, points=3.0)
        for name, source in {
            "calls-exit": "exit()",
            "calls-quit-and-goes-on": "quit(keep_kernel=False)\nx = 1",
            "raises-system-exit": "raise SystemExit(3)",
            "ends-in-50-ms": "import os, threading\nthreading.Timer(0.05, os._exit, [0]).start()",
            "ends-in-200-ms": "import os, threading\nthreading.Timer(0.2, os._exit, [0]).start()",
            "has-an-alarm": "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)",
            "has-a-child-that-kills-it": "import os, time\nif os.fork() == 0:\n"
            "    time.sleep(0.05)\n    os.kill(os.getppid(), 9)\n    os._exit(0)",
        }.items()
    ),
    # Leaves torch, or Python, in another state; what the functions compute is right all the same.
    *(
        Hostile(f"leaves-{name}", source, bound=BOUND, points=3.0)
        for name, source in {
            "gradients-off": "torch.set_grad_enabled(False)",
            "inference-mode": "mode = torch.inference_mode()\nmode.__enter__()",
            "another-dtype": "torch.set_default_dtype(torch.float16)",
            "another-device": "torch.set_default_device('meta')",
            "ten-threads": "torch.set_num_threads(10)",
            "deterministic": "torch.use_deterministic_algorithms(True)",
            "anomaly-mode": "torch.autograd.set_detect_anomaly(True)",
            "warnings-as-errors": "import warnings\nwarnings.simplefilter('error')",
            "autocast": "mode = torch.autocast('cpu', torch.bfloat16)\nmode.__enter__()",
            "denormals-as-zero": "torch.set_flush_denormal(True)",
            "a-function-mode": "from torch.overrides import TorchFunctionMode\n"
            "class Mode(TorchFunctionMode):\n"
            "    def __torch_function__(self, function, types, args=(), kwargs=None):\n"
            "        return function(*args, **(kwargs or {}))\nmode = Mode()\nmode.__enter__()",
            "hooks-on-saved-tensors": "hooks = torch.autograd.graph.saved_tensors_hooks(\n"
            "    lambda t: t * 0, lambda t: t)\nhooks.__enter__()",
            "numpy-that-raises": "import numpy\nnumpy.seterr(all='raise')",
            "another-folder": "import os\nos.chdir('/')",
            "no-collector": "import gc\ngc.disable()\ngc.freeze()",
            "a-trace": "import sys\nsys.settrace(lambda *a: None)",
        }.items()
    ),
    # Says of itself what only execution may say
    Hostile(
        "claims-not-to-be-reached",
        "class Unfinished(Exception): pass\nclass Claims(type(check)):\n"
        "    def __call__(self, function, seed=0): raise Unfinished('give me another chance')\n"
        "check = Claims()",
        points=0.0,
    ),
    Hostile("is-compiled", bound="@torch.compile\n" + BOUND, points=3.0),
    Hostile(
        "lacks-a-module",
        bound="from my_helpers import iwae_bound",
        says="my_helpers",
    ),
    Hostile("lacks-a-bracket", bound=BOUND.replace("(log_w, 0)", "(log_w, 0"), says="SyntaxError"),
    # Speaks to whoever reads
    Hostile(
        "raises-escape-sequences",
        bound="def iwae_bound(log_w):\n    raise ValueError('\\x1b]0;evil\\x07\\x1b[2J\\x9b31m')",
    ),
    Hostile(
        "shows-scripts",
        _SCRIPTS,
    ),
]
