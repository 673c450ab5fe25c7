"""Whether a notebook and the installed package fit together, and what to do if they do not."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Edition:
    """A course's package as it is installed.

    Args:
        package: its name.
        installed: its version.
        oldest: version of the oldest notebooks that it still checks.
        update: how it is brought up to date, in a line.

    """

    package: str
    installed: str
    oldest: str
    update: str = "ask your instructor how"


def misfit(made_with: str, edition: Edition) -> str:
    """What is wrong between a notebook and the package, and what to do; empty if all is well.

    Args:
        made_with: version for which the notebook was last changed.
        edition: of the package.

    """
    package, installed, oldest = edition.package, edition.installed, edition.oldest
    wheel = f"%pip install --no-deps {package}-{{}}-py3-none-any.whl".format
    if _numbers(made_with) is None:
        return f"""\
check.made_with takes a version, as in "{installed}"; got {made_with!r}.
The line is part of the released notebook, and no student has to change it.
Copy the cell with the imports from there, and run it again."""
    if _numbers(made_with) > _numbers(installed):
        return f"""\
This notebook was made with {package} {made_with}, and {installed} is installed.
The older one may not know its exercises, or check them by other rules.
Update {package}, restart the kernel, and run the cells again:
- {edition.update}
- with a wheel beside this notebook, in a cell of its own:
  {wheel(made_with)}"""
    if _numbers(made_with) < _numbers(oldest):
        return f"""\
This notebook was made with {package} {made_with}, and {installed} is installed.
Exercises have changed since: it checks notebooks made with {oldest} or newer.
Either get the newest release of the assignment, and copy your answers into it;
or go back to {made_with}, restart the kernel, and run the cells again:
  {wheel(made_with)}"""
    return ""


def _numbers(version):
    """A version as numbers that can be compared, or None if it is none."""
    found = isinstance(version, str) and re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else None
