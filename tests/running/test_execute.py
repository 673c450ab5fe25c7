"""Executing a notebook: what its cells leave, send, use up or kill costs nobody else anything."""

import multiprocessing
import re
import textwrap
from concurrent.futures import ProcessPoolExecutor

import nbformat
import pytest
from conftest import JAILED, ROOT

from nbjudge.course.safe_files import as_text
from nbjudge.mark import Marker
from nbjudge.running import kernel, outputs
from nbjudge.running.execute import Rules, execute, wants_quiet
from nbjudge.running.sandbox import Sandbox
from nbjudge.running.startup import begin_worker

SOLUTION = ROOT / "solutions" / "iwae" / "iwae.ipynb"
# Two exercises of one point and two, and one of two that needs nothing of theirs.
ANSWERS = {
    "multi_sample_elbo": "def multi_sample_elbo(log_w):\n    return log_w.mean(0)",
    "iwae_bound": (
        "def iwae_bound(log_w):\n    return torch.logsumexp(log_w, 0) - math.log(log_w.shape[0])"
    ),
}


@pytest.fixture(scope="module")
def marker():
    return Marker(SOLUTION)


@pytest.fixture(scope="module")
def box(marker):
    if not JAILED:
        pytest.skip("bubblewrap is missing")
    with Sandbox(marker.contents()) as made:
        yield made


def small(before=(), after=(), **answers):
    """The imports, two exercises with their checks, and cells before and after the answers."""
    source = nbformat.read(SOLUTION, as_version=4)
    found = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in source.cells}
    cells = [found["imports"], *map(code, before)]
    for name, answer in (ANSWERS | answers).items():
        cells += [code(answer), *(map(code, after) if name == "multi_sample_elbo" else ())]
        cells.append(found[f"{name}-check"])
    return nbformat.v4.new_notebook(cells=cells)


def code(source):
    return nbformat.v4.new_code_cell(textwrap.dedent(source).strip())


def points(marker, done):
    """Points of each check, by its name."""
    given = {}
    for cell in done.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade"):
            alone = nbformat.v4.new_notebook(cells=[cell])
            given[about["grade_id"].removesuffix("-check")] = marker.mark(alone).points
    return given


def run(box, notebook, seconds=20.0, **rules):
    rules = Rules(cell_seconds=seconds, notebook_seconds=120, **rules)
    return execute(notebook, str(box.folder), rules=rules)


RIGHT = {"multi_sample_elbo": 1.0, "iwae_bound": 2.0}

STATES = {
    "gradients off": "torch.set_grad_enabled(False)",
    "inference mode": "torch.inference_mode().__enter__()",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "default device": "torch.set_default_device('meta')",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "anomaly": "torch.autograd.set_detect_anomaly(True)",
    "warnings": "import warnings; warnings.simplefilter('error')",
    "autocast": "torch.autocast('cpu', torch.bfloat16).__enter__()",
    "numpy": "import numpy; numpy.seterr(all='raise')",
    "output": "import sys, io; sys.stdout = sys.stderr = io.StringIO()",
    "folder": "import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')",
    "a mode": """
        from torch.overrides import TorchFunctionMode
        class Zeros(TorchFunctionMode):
            def __torch_function__(self, func, types, args=(), kwargs=None):
                return torch.Tensor([0.0])
        Zeros().__enter__()
        """,
}


def test_the_state_that_cells_leave_is_not_the_functions(box, marker):
    """One after the other, each on top of those before."""
    done = run(box, small(after=STATES.values()))
    assert points(marker, done) == RIGHT


@pytest.mark.parametrize(
    "lines", ["sys.stdout = None", "sys.stdout = sys.stderr = 3", "sys.stdout.close()"]
)
def test_streams_that_a_cell_takes_away_cost_nobody_anything(box, marker, lines):
    """Neither a point, nor the time after which a kernel that does not answer is given up."""
    done = run(box, small(after=[f"import sys\n{lines}\n1", "print(2)", "3"]))
    assert points(marker, done) == RIGHT
    assert not wants_quiet(done)
    assert "KernelDied" not in nbformat.writes(done)


def test_a_compiled_answer_is_graded_as_it_is_written(box, marker):
    inside = "def iwae_bound(log_w):\n    f = torch.compile(lambda w: w.logsumexp(0))\n"
    done = run(
        box,
        small(
            multi_sample_elbo=f"@torch.compile\n{ANSWERS['multi_sample_elbo']}",
            iwae_bound=inside + "    return f(log_w) - math.log(log_w.shape[0])",
        ),
    )
    assert points(marker, done) == RIGHT


# Floods

SENDING = """
from IPython.display import display, update_display, clear_output
kernel = get_ipython().kernel
session, iopub, parent = kernel.session, kernel.iopub_socket, kernel.get_parent()

def send(kind, content, metadata=None, buffers=None, parent=parent, **header):
    message = session.msg(kind, content, parent=parent, metadata=metadata)
    message["header"].update(header)
    session.send(iopub, message, buffers=buffers)
"""
DATA = '{"data": {}, "metadata": {}, "transient": {}}'
# What is sent, again and again or at once, and what is said of it.
FLOODS = {
    "metadata": (
        f"while True: send('display_data', {DATA}, metadata=dict(x='x' * 10**6))",
        "characters",
    ),
    "metadata of outputs": (
        "while True: send('display_data', dict(data={}, metadata=dict(x='x' * 10**6)))",
        "characters",
    ),
    "buffers": (f"while True: send('display_data', {DATA}, buffers=[bytes(10**6)] * 3)", "char"),
    "headers": (f"while True: send('display_data', {DATA}, username='x' * 10**6)", "characters"),
    "kinds of messages": ("while True: send('x' * 10**6, {})", "characters"),
    "comms": (
        "while True: send('comm_open', dict(comm_id='1', target_name='x', data='x' * 10**6))",
        "characters",
    ),
    "other parents": (
        f"while True: send('stream', {DATA}, parent=dict(header=dict(msg_id='x' * 10**6)))",
        "char",
    ),
    "answers": (
        "while True: session.send(kernel.shell_stream, 'execute_reply', dict(x='x' * 10**6),"
        " ident=kernel._get_shell_context_var(kernel._shell_parent_ident), parent=parent)",
        "characters",
    ),
    "many frames": (
        "import zmq\niopub = getattr(kernel.iopub_thread, 'socket', iopub)\n"
        "for _ in range(10**6): iopub.send(b'', zmq.SNDMORE)\niopub.send(b'')",
        # What the kernel itself says meanwhile may end the message before it is too long.
        "parts|ValueError",
    ),
    "outputs": ("for i in range(100_000): display(i)", "2,000 outputs"),
    "lists": (
        "display({'application/json': [[]] * 50_000}, raw=True)",
        "more than 20,000 parts",
    ),
    "kinds of data": ("display({f'text/{i}': '' for i in range(100)}, raw=True)", "ValueError"),
    "a long kind": ("display({'x' * 10**6: ''}, raw=True)", "TypeError"),
    "clearing": ("while True: send('clear_output', dict(wait=False))", "messages"),
    "updates": (
        "for i in range(100): display(i, display_id='one')\n"
        "while True: update_display(2, display_id='one')",
        "messages",
    ),
}


@pytest.mark.parametrize(("flood", "says"), FLOODS.values(), ids=FLOODS)
def test_a_flood_costs_only_its_cell_and_no_memory(box, marker, flood, says, monkeypatch):
    monkeypatch.setattr(outputs, "MESSAGES", 6_000)
    before = kernel._memory()
    done = run(box, small(before=[SENDING + flood]), seconds=60)
    assert points(marker, done) == RIGHT
    (error,) = [o for o in done.cells[1].outputs if o.output_type == "error"]
    assert error.ename == "KernelDied" and re.search(says, error.evalue)
    assert len(as_text(done)) < 10**5
    assert kernel._memory() - before < 2 * kernel.MEMORY_LIMIT


def test_questions_to_nobody_are_no_matter(box, marker):
    ask = "for _ in range(1_000): session.send(kernel.stdin_socket, 'input_request', {})"
    assert points(marker, run(box, small(before=[SENDING + ask]))) == RIGHT


def test_what_is_kept_of_errors_and_texts_is_what_was_said(box):
    cells = [
        "print('a', flush=True); print('b')\nimport sys; print('c', file=sys.stderr)",
        "def f(:\n    pass",
        "import not_there",
        "raise ValueError('x' * 10**6)",
        "def f(n): return n and g(n - 1)\ndef g(n): return f(n - 1) or 1 / 0\nf(60)",
    ]
    made = nbformat.v4.new_notebook(cells=[code(cell) for cell in cells])
    done = run(box, made)
    nbformat.validate(done)
    texts, *errors = [cell.outputs for cell in done.cells]
    assert [(o.name, o.text) for o in texts] == [("stdout", "a\nb\n"), ("stderr", "c\n")]
    said = [(o.ename, o.evalue, o.traceback) for (o,) in errors]
    assert [name for name, _, _ in said] == [
        "SyntaxError",
        "ModuleNotFoundError",
        "ValueError",
        "ZeroDivisionError",
    ]
    assert "line 1" in said[0][1] and "not_there" in said[1][1]
    assert len(said[2][1]) == outputs.MESSAGE
    assert all(len("".join(trace)) < 300_000 for _, _, trace in said)


def test_outputs_are_cleared_and_changed_as_in_a_notebook(box):
    done = run(
        box,
        nbformat.v4.new_notebook(
            cells=[
                code("from IPython.display import display, clear_output\nprint(1)\ndisplay(2)"),
                code("print(1)\nclear_output()\nprint(2)"),
                code("print(1)\nclear_output(wait=True)\nprint(2)\nprint(3)"),
                code("h = display(1, display_id=True)"),
                code("h.update(5)\n7"),
            ]
        ),
    )
    nbformat.validate(done)

    def text(output):
        return output.get("text") or output.data["text/plain"]

    said = [list(map(text, cell.outputs)) for cell in done.cells]
    assert said == [["1\n", "2"], ["2\n"], ["2\n3\n"], ["5"], ["7"]]
    assert [cell.execution_count for cell in done.cells] == [1, 2, 3, 4, 5]


# Deaths

# Ends the process, past all that Python could put in between.
END = "import ctypes, threading\nend = lambda: ctypes.CDLL(None)._exit(3)\n"
LATE = END + "timer = threading.Timer({seconds}, end)\ntimer.start()"
WORK = "import time\ntime.sleep(0.3)"


def errors(done):
    """Name and message of each cell's errors, by the cell's number, but not those of checks."""
    return {
        number: [(o.ename, o.evalue) for o in cell.outputs if o.output_type == "error"]
        for number, cell in enumerate(done.cells)
        if not cell.metadata.get("nbgrader", {}).get("grade")
        and any(o.output_type == "error" for o in cell.outputs)
    }


@pytest.mark.parametrize("seconds", [0.05, 0.3, 1.0])
def test_who_ends_the_kernel_later_is_found_and_costs_nobody_else(box, marker, seconds):
    cells = ["kept = 1", LATE.format(seconds=seconds), *[WORK] * 4, "assert kept == 1"]
    for _ in range(2):
        done = run(box, small(before=cells))
        assert points(marker, done) == RIGHT
        assert list(errors(done)) == [2]
        assert "a moment after it ran" in errors(done)[2][0][1]


def test_several_culprits_are_found_one_after_the_other(box, marker):
    late = [LATE.format(seconds=0.05), WORK, LATE.format(seconds=0.4), WORK, WORK, WORK]
    done = run(box, small(before=late))
    assert points(marker, done) == RIGHT
    assert list(errors(done)) == [1, 3]


def test_an_answer_that_ends_the_kernel_later_loses_its_own_points(box, marker):
    answer = f"{ANSWERS['multi_sample_elbo']}\n{LATE.format(seconds=0.05)}"
    done = run(box, small(multi_sample_elbo=answer, after=[WORK, WORK]))
    assert points(marker, done) == {"multi_sample_elbo": 0.0, "iwae_bound": 2.0}


def test_a_function_that_ends_the_kernel_loses_its_own_points(box, marker):
    answer = END + "def multi_sample_elbo(log_w):\n    end()"
    done = run(box, small(before=["kept = 1"], multi_sample_elbo=answer, after=["assert kept"]))
    assert points(marker, done) == {"multi_sample_elbo": 0.0, "iwae_bound": 2.0}
    assert errors(done) == {}


def test_a_kernel_that_dies_once_by_chance_costs_nothing(box, marker, monkeypatch):
    """As when the machine has no memory for a moment: the cell is run again, and lives."""
    died = []
    begun = kernel.Kernel._run

    def dies_once(self, cell, limits, outputs):
        if "iwae_bound" in cell.source and not died:
            died.append(cell)
            raise kernel.Ended("by chance")
        return begun(self, cell, limits, outputs)

    monkeypatch.setattr(kernel.Kernel, "_run", dies_once)
    done = run(box, small(before=["x = 1"]))
    assert died and points(marker, done) == RIGHT and errors(done) == {}


# As people write it, in one notebook; on a busy machine each would end the kernel at another cell.
TIMERS = [
    f"import threading, os\nthreading.Timer({seconds}, os._exit, [0]).start()"
    for seconds in (0.05, 0.3, 1, 4)
]
THREAD = "threading.Thread(target=exit).start()\nthreading.Thread(target=os.abort).start()"


def test_the_same_notebook_has_the_same_grade_every_time(box, marker):
    answer = "def iwae_bound(log_w):\n    import os; os._exit(0)"
    made = small(before=[*TIMERS, THREAD, WORK], after=["os._exit(0)", "exit()"], iwae_bound=answer)
    for _ in range(5):
        done = run(box, made)
        assert points(marker, done) == {"multi_sample_elbo": 1.0, "iwae_bound": 0.0}


def test_a_child_ends_as_ever(box):
    source = """
        import os
        if not (child := os.fork()):
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    done = run(box, nbformat.v4.new_notebook(cells=[code(source)]))
    assert done.cells[0].outputs[0].text == "7\n"


def _memory_of_a_worker(gibibytes):
    return len(bytearray(gibibytes * 2**30))


def test_a_worker_has_a_limit_on_memory():
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, begin_worker) as executor:
        assert executor.submit(_memory_of_a_worker, 1).result() == 2**30
        with pytest.raises(MemoryError):
            executor.submit(_memory_of_a_worker, 3).result()


# Time


def test_what_wall_time_ended_is_run_again_when_it_is_quiet(box, marker):
    done = run(box, small(after=["import time; time.sleep(1000)"]), seconds=3)
    assert points(marker, done) == RIGHT
    assert wants_quiet(done) and wants_quiet(nbformat.v4.reads(as_text(done)))
    claimed = small()
    claimed.metadata["dgm_execution"] = {"by_wall": True}
    assert not wants_quiet(run(box, claimed))


def test_a_check_that_hangs_is_run_again_when_it_is_quiet(box, marker):
    """And it is the check that ends it, so that the kernel lives on."""
    answer = "def iwae_bound(log_w):\n    import time; time.sleep(1000)"
    done = run(box, small(iwae_bound=answer))
    assert points(marker, done) == {"multi_sample_elbo": 1.0, "iwae_bound": 0.0}
    assert wants_quiet(done) and errors(done) == {}


def test_a_notebook_that_claims_anything_is_executed(box):
    made = nbformat.v4.new_notebook(cells=[])
    made.metadata["dgm_execution"] = 5
    assert not wants_quiet(run(box, made))
