"""Time as a function uses it: of the processor, so that a busy machine takes nothing from anybody.

Wall time ends only what hangs: it sleeps, or waits for a lock, and would use no processor time for
ever.
"""

import contextlib
import signal
import threading
import time

# Wall time is so many times what is allowed of the processor's: a busy machine has many to serve.
WALL = 10
# Whoever used less than this share of so many seconds of wall time waits for something.
IDLE_SECONDS, IDLE_SHARE = 10.0, 0.01
# After the first time, until the function is left.
AGAIN = 0.5


class TimeLimit(BaseException):
    """The time is used up; not an Exception, so that `except Exception` misses it.

    Args:
        hung: whether it was wall time.

    """

    def __init__(self, hung: bool):
        super().__init__(hung)
        self.hung = hung


class _Alarm:
    """Two of the system's timers, one for each kind of time; both raise `TimeLimit`."""

    def __init__(self, seconds, wall):
        self._seconds, self._end = seconds, time.monotonic() + wall
        self._rings = True
        self._look()
        self._begun = self._used

    def set(self):
        """Set both, and remember what was set before."""
        self._before = [
            (number, timer, signal.signal(number, handler), signal.setitimer(timer, first, AGAIN))
            for number, timer, handler, first in (
                (signal.SIGPROF, signal.ITIMER_PROF, self._used_up, max(self._seconds, 1e-3)),
                (signal.SIGALRM, signal.ITIMER_REAL, self._waited, self._pause()),
            )
        ]

    def unset(self):
        """Give back what was set before; may be called again when it was interrupted."""
        self._rings = False
        while self._before:
            number, timer, handler, (first, again) = self._before[-1]
            signal.setitimer(timer, 0)
            # One that C code had set cannot be asked for.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            if first:
                signal.setitimer(timer, first, again)
            self._before.pop()

    def _used_up(self, signum, frame):
        if not self._rings:
            return
        # The timer counts the system's ticks, and may ring some of them too early.
        left = self._begun + self._seconds - time.process_time()
        if left > 0:
            signal.setitimer(signal.ITIMER_PROF, max(left, 1e-3), AGAIN)
            return
        raise TimeLimit(hung=False)

    def _waited(self, signum, frame):
        if not self._rings:
            return
        used = time.process_time() - self._used
        if time.monotonic() >= self._end or used < IDLE_SHARE * IDLE_SECONDS:
            raise TimeLimit(hung=True)
        self._look()
        signal.setitimer(signal.ITIMER_REAL, self._pause(), AGAIN)

    def _look(self):
        self._used = time.process_time()

    def _pause(self):
        return min(max(self._end - time.monotonic(), 1e-3), IDLE_SECONDS)


@contextlib.contextmanager
def time_limit(seconds: float | None, wall: float | None = None):
    """Raise `TimeLimit` in the body when its time is used up, again and again until it leaves.

    In the main thread of a POSIX system; elsewhere there is no limit.

    Args:
        seconds: of the processor's time, of all threads together; None sets no limit.
        wall: seconds of wall time; None is many times the other.

    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if seconds is None or not hasattr(signal, "SIGPROF") or not on_main_thread:
        yield
        return
    alarm = _Alarm(seconds, WALL * seconds if wall is None else wall)
    try:
        alarm.set()
        try:
            yield
        finally:
            alarm.unset()
    finally:
        # It may have rung at the very moment at which it was being unset.
        alarm.unset()
