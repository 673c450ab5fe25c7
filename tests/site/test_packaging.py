"""pyproject.toml, requirements.txt and environment.yml name one and the same environment."""

import tomllib

import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = (ROOT / "requirements.txt").read_text().splitlines()
TESTED = {
    r.name.lower().replace("_", "-"): r
    for r in (Requirement(line) for line in LINES if line and not line.startswith("#"))
}


def test_every_tested_version_is_pinned():
    for requirement in TESTED.values():
        assert str(requirement.specifier).startswith("=="), requirement


def test_tested_versions_satisfy_what_the_package_asks_for():
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["dev"] + extras["book"] + extras["cluster"]
    for requirement in map(Requirement, wanted):
        (pin,) = TESTED[requirement.name.lower().replace("_", "-")].specifier
        assert pin.version in requirement.specifier, f"{requirement}, tested with {pin}"


def test_conda_installs_the_tested_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, from_pip = environment["dependencies"]
    assert (python, pip) == (f"python{PROJECT['requires-python']}", "pip")
    assert from_pip == {"pip": ["--requirement requirements.txt", "--editable ."]}
    assert "3.11" in SpecifierSet(PROJECT["requires-python"])


def test_make_installs_the_tested_versions():
    makefile = (ROOT / "Makefile").read_text()
    assert "pip install --progress-bar off --requirement requirements.txt" in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text()
