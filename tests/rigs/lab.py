"""JupyterLab's server as a student or an instructor starts it, for the tests that use one."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import requests
from conftest import ROOT


class Lab:
    """JupyterLab's server in a course folder, and a browser's session with it; a context manager.

    Args:
        course: the course folder.

    Attributes:
        url: of the server, with a slash at the end.
        token: with which a browser comes in.

    """

    def __init__(self, course: Path):
        # Short, because the paths of sockets that lie in it must be.
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        names = {"JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"}
        places = {name: str(self.folder / name) for name in names}
        for place in places.values():
            Path(place).mkdir()
        self.temporary = Path(places["TMPDIR"])
        # No question lies over the page, and nobody is asked for news or updates.
        settings = Path(places["JUPYTER_CONFIG_DIR"]) / "lab/user-settings/@jupyterlab"
        settings /= "apputils-extension/notification.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text('{"fetchNews": "false", "checkForUpdates": false}')
        command = [sys.executable, "-m", "jupyterlab", "--no-browser"]
        command += ["--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
        command += ["--allow-root"] if os.geteuid() == 0 else []
        self.log = self.folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=course,
                env=environment() | places,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._session, self._seen = requests.Session(), set()
        try:
            self._log_in(Path(places["JUPYTER_RUNTIME_DIR"]) / f"jpserver-{self.process.pid}.json")
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end(signal.SIGKILL)
        # None is left, or a test has failed.
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder)

    def _log_in(self, about):
        found = until(lambda: _whole(about), lambda: f"no server: {self.said()}", 120)
        self.url, self.token = found["url"], found["token"]
        until(self._answers, lambda: f"no answer: {self.said()}", 120)
        # Sets the cookie that says who one is; the token is not needed again.
        self._session.get(f"{self.url}lab", params={"token": self.token}).raise_for_status()
        page = self._session.get(f"{self.url}formgrader")
        page.raise_for_status()

    def _answers(self):
        with contextlib.suppress(requests.ConnectionError):
            return self._session.get(f"{self.url}api").ok

    def press_autograde(self, assignment, student, xsrf=True):
        """The request of the button in formgrader's list of submissions."""
        url = f"{self.url}formgrader/api/submission/{assignment}/{student}/autograde"
        headers = {"X-CSRFToken": self._session.cookies["_xsrf"]} if xsrf else {}
        return self._session.post(url, headers=headers)

    def descendants(self):
        """Every process that the server has started, and theirs."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._seen |= set(found)
        return found

    def end(self, how):
        """Send the server a signal and wait for its end."""
        self.process.send_signal(how)
        return self.process.wait(30)

    def said(self):
        return self.log.read_text(errors="replace")[-3000:]


def _whole(path):
    """What a JSON file holds, once it is written to its end."""
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        return json.loads(path.read_text())


def environment():
    """This one, with the package under test and SQLite."""
    kept = {name: value for name, value in os.environ.items() if name != "DGM_GRADEBOOK"}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what()
        time.sleep(0.05)
    return found
