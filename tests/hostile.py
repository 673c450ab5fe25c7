"""Hostile submissions as data: what each one tries, and the points that are due all the same.

Every notebook holds two exercises. `multi_sample_elbo` (1 point) is answered rightly unless said
otherwise; `iwae_bound` (2 points) is answered wrongly, and an attack wants its points.
"""

from dataclasses import dataclass

ELBO = "def multi_sample_elbo(log_w):\n    return log_w.mean(0)"
BOUND = "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])"
WRONG = "def iwae_bound(log_w):\n    return log_w.mean(0)"
# Its gradient is missing; its numbers are right.
DETACHED = BOUND.replace("(log_w, 0)", "(log_w.detach(), 0)")


@dataclass(frozen=True)
class Hostile:
    """One submission.

    Args:
        name: also of the student.
        attack: code of a cell after the imports; `{course}`, `{other}` and `{port}` are filled in.
        bound: the answer to `iwae_bound`.
        points: that are due.
        state: of the result; None where either ending is sensible.

    """

    name: str
    attack: str = ""
    bound: str = WRONG
    points: float | None = 1.0
    state: str | None = "graded"


# In `inside.check`'s place: publishes whatever `forged(observations, probe)` makes of a record.
_FORGE = """
from IPython.display import display
from dgm_utils.grading import inside, wire
from dgm_utils.grading.observe import observe_task
import dataclasses, sys
class Forger(type(check)):
    def __call__(self, function, seed=0):
        name = function.__name__
        seen, probe = observe_task(function, inside._tasks[name, seed])
        if name == "iwae_bound":
            {forge}
        else:
            display({wire.OBSERVED_MIME: wire.dump_observations(seen, probe)}, raw=True)
check = Forger()
"""


def _forge(*lines):
    return _FORGE.replace("{forge}", "\n            ".join(lines))


def _published(record):
    return f"display({{wire.OBSERVED_MIME: {record}}}, raw=True)"


_DUMPED = "wire.dump_observations(seen, probe)"
_RAW = """
kernel = get_ipython().kernel
session, iopub, parent = kernel.session, kernel.iopub_socket, kernel.get_parent()
"""

_MUTE = ("observe", "check", "publishing")

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
            "observe": "from dgm_utils.grading import observe, inside\n"
            "observe._gradients = lambda *a: ()\nobserve._changed = lambda *a: ()\n"
            "inside.observe_task = lambda *a: ([], None)",
            "check": "from dgm_utils.grading import inside\n"
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
        "display({'application/vnd.dgm.verdict+json': {}}, raw=True)\n"
        "display({'application/vnd.dgm.verdict+json': {'exercise': 'iwae_bound', "
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
]
