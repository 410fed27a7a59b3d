"""pyproject.toml, environment.yml and constraints.txt name the same packages at the same versions."""

from __future__ import annotations

import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name


@pytest.fixture(scope="module")
def project(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment(repository):
    return yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]


@pytest.fixture(scope="module")
def constraints(repository):
    lines = (repository / "constraints.txt").read_text().splitlines()
    return {
        canonicalize_name(wanted.name): wanted.specifier
        for wanted in (Requirement(line) for line in lines if line and not line.startswith("#"))
    }


def specifiers(requirements):
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, requirements)}


def test_conda_users_get_what_pip_users_get(project, environment):
    extras = project["optional-dependencies"]
    everything = project["dependencies"] + extras["dev"] + extras["distributed"]
    (pip,) = [entry["pip"] for entry in environment if isinstance(entry, dict)]
    options = [line for line in pip if line.startswith("-")]
    assert specifiers(line for line in pip if not line.startswith("-")) == specifiers(everything)
    assert options == ["--constraint constraints.txt", "--editable ."]


def test_conda_python_is_one_the_package_admits(project, environment):
    (python,) = [entry for entry in environment if str(entry).startswith("python=")]
    assert python == "python=3.11"
    assert SpecifierSet(project["requires-python"]).contains("3.11.0")


def test_every_requirement_starts_at_the_version_that_constraints_pin(project, constraints):
    direct = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    for requirement in map(Requirement, direct):
        (asked,) = requirement.specifier
        (pinned,) = constraints[canonicalize_name(requirement.name)]
        assert asked.version == pinned.version, requirement.name


def test_constraints_are_exact_and_fit_any_build(constraints):
    for name, specifier in constraints.items():
        (pin,) = specifier
        assert pin.operator == "==", name
        assert "+" not in pin.version, f"{name}: a local suffix such as +cpu fits one build only"
        assert not name.startswith("nvidia"), name


def test_torch_is_the_version_that_installs_without_gigabytes_of_libraries(project):
    assert specifiers(project["dependencies"])["torch"] == "==2.13.0"


def test_constraints_cover_every_package_that_is_installed(project, constraints):
    """Walks the installed packages from the project down, extras included."""
    extras = project["optional-dependencies"]
    todo = [Requirement(line) for line in project["dependencies"] + extras["dev"] + extras["distributed"]]
    seen: set[str] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.distribution(name).requires or ():
            below = Requirement(line)
            wanted_for = [{"extra": extra} for extra in (*requirement.extras, "")]
            if below.marker is None or any(below.marker.evaluate(extra) for extra in wanted_for):
                todo.append(below)
    assert len(seen) > 100  # the walk went all the way down
    assert seen - set(constraints) <= {"pip"}
