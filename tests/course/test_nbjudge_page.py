"""docs/nbjudge.md leads from an empty folder to a graded class: what it says is done here."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, needs_sandbox

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "docs" / "nbjudge.md").read_text(encoding="utf-8"))


@pytest.fixture
def environment(tmp_path):
    """That of somebody who has installed nbjudge."""
    command = tmp_path / "bin" / "nbjudge"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m nbjudge.cli "$@"\n')
    command.chmod(0o755)
    path = [command.parent, os.path.dirname(sys.executable), os.environ["PATH"]]
    return os.environ | {
        "PATH": os.pathsep.join(map(str, path)),
        # In place of an installation, which the blocks replace by a folder of their own.
        "PYTHONPATH": str(ROOT),
    }


@needs_sandbox
def test_the_page_leads_to_a_graded_class(tmp_path, environment):
    folder = tmp_path / "course"
    folder.mkdir()
    said = ""
    for kind, block in BLOCKS:
        if kind == "python":
            name = block.partition("\n")[0].removeprefix("# ")
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block)
        elif kind == "text":
            assert sorted(block.splitlines()) == sorted(said.splitlines()[: block.count("\n")])
        elif kind == "" and not block.startswith("pip"):
            done = subprocess.run(
                ["sh", "-e"],
                input=block,
                cwd=folder,
                env=environment,
                text=True,
                capture_output=True,
            )
            said = done.stdout
            assert done.returncode == 0, said + done.stderr
