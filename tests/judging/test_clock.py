"""Time is the processor's: what is busy is stopped by it, what waits is stopped by the wall's."""

import contextlib
import signal
import threading
import time

import pytest
import torch

from nbjudge.inside import clock
from nbjudge.inside.case import Case, Task
from nbjudge.inside.clock import TimeLimit, time_limit
from nbjudge.inside.observe import observe, observe_task, prepare_torch

ONE = Case("one", (torch.ones(3, requires_grad=True),), wrt=(0,))


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def busy(x):
    while True:
        pass


def waits(x):
    threading.Lock().acquire()
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


@pytest.fixture(scope="module", autouse=True)
def warm():
    """The first gradient takes longer than the limits here."""
    prepare_torch()


@pytest.fixture
def impatient(monkeypatch):
    """Waiting is noticed after a fraction of a second."""
    monkeypatch.setattr(clock, "IDLE_SECONDS", 0.3)


def test_a_loop_ends_by_the_processors_time():
    seen = observe(busy, ONE, seconds=0.2)
    assert (seen.timed_out, seen.hung) == (True, False)
    assert seen.seconds >= 0.2


@pytest.mark.parametrize("waiting", [waits, lambda x: time.sleep(1000)])
def test_what_waits_hangs_and_uses_no_time(impatient, waiting):
    seen = observe(waiting, ONE, seconds=5)
    assert (seen.timed_out, seen.hung) == (True, True)
    assert seen.seconds < 5


def test_time_that_others_use_does_not_count():
    """The processor is somebody else's for as long as the whole limit, and then some."""

    def slow(x):
        time.sleep(1.0)
        return x * 2

    seen = observe(slow, ONE, seconds=0.5)
    assert not seen.timed_out and seen.seconds < 0.5
    assert torch.equal(seen.value, torch.full((3,), 2.0))


def test_what_computes_and_waits_is_ended_by_the_wall_far_above(impatient):
    def starved(x):
        while True:
            burn(0.02)
            time.sleep(0.18)

    seen = observe(starved, ONE, seconds=0.2)
    assert seen.timed_out
    with pytest.raises(TimeLimit) as ended, time_limit(100.0, wall=1.0):
        starved(None)
    assert ended.value.hung


def test_the_cases_of_a_task_share_both_kinds_of_time():
    def third(x):
        burn(0.15)

    seen, probe = observe_task(third, Task((ONE,) * 9, None, 0.4))
    assert len(seen) == 3 and probe is None
    assert seen[-1].timed_out and not seen[-1].hung


def test_a_loop_that_catches_everything_twice_is_left():
    def stubborn(x):
        for _ in range(2):
            with contextlib.suppress(BaseException):
                busy(x)
        busy(x)

    assert observe(stubborn, ONE, seconds=0.1).timed_out


def test_timers_and_their_handlers_are_given_back():
    rung = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 500.0)
        assert not observe(lambda x: x, ONE, seconds=5).timed_out
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 400 < left <= 500
        assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)
        signal.raise_signal(signal.SIGALRM)
        assert rung == [1]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


def test_a_timer_that_rings_while_it_is_unset_stays_unset(monkeypatch):
    """The signal may come between the end of the body and the first thing that is done then."""
    unset = clock._Alarm.unset
    calls = []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 1:
            raise TimeLimit(hung=False)
        unset(self)

    monkeypatch.setattr(clock._Alarm, "unset", interrupted)
    with pytest.raises(TimeLimit), time_limit(5.0):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_in_another_thread_there_is_no_limit():
    seen = []
    thread = threading.Thread(
        target=lambda: seen.append(observe(lambda x: burn(0.3), ONE, seconds=0.1))
    )
    thread.start()
    thread.join()
    assert not seen[0].timed_out
