"""Imports point downwards, and heavy packages stay where they belong.

The levels and the packages' places are the two tables of CONTRIBUTING.md: one list, read by people
and by this test.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "workbench"


@dataclass(frozen=True)
class Import:
    importer: str  # dotted name below the package: `runtimes.torch_runtime`
    target: str  # dotted name: `workbench.audio`, `torch.nn`
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def table(contributing: Path, header: str) -> list[list[str]]:
    """The cells of the rows below the table header that starts with `header`."""
    lines = iter(contributing.read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(header))
    next(lines)  # | --- |
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def imports_of(folder: Path) -> Iterator[Import]:
    """Every import of the package in `folder`, inside functions too, names resolved to modules.

    Imports for type checkers alone are left out: they do not run.
    """
    files = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    for name, file in files.items():
        package = name if file.stem == "__init__" else name.rpartition(".")[0]
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
        for node in running_nodes(tree):
            if isinstance(node, ast.Import):
                yield from (Import(name, alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = [PACKAGE, *filter(None, package.split("."))]
                    above = above[: len(above) - node.level + 1]
                    base = ".".join([*above, *filter(None, [base])])
                for alias in node.names:
                    if (base, alias.name) == (PACKAGE, "__version__"):
                        continue  # defined in the package's own file, without further imports
                    inner = f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.")
                    is_module = base.split(".")[0] == PACKAGE and inner in files
                    yield Import(name, f"{base}.{alias.name}" if is_module else base, node.lineno)


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from running_nodes(node)


def find_violations(folder: Path, levels: dict[str, int], places: dict[str, list[str]]) -> list[str]:
    """Each import that breaks a rule, in words."""
    found: list[str] = []
    below: dict[str, set[str]] = {}
    for each in imports_of(folder):
        importer = each.importer.partition(".")[0]
        if importer == "":  # the package's face: lazy, above everything
            continue
        if importer not in levels:
            found.append(f"{importer} has no row in CONTRIBUTING.md")
            continue
        root, _, rest = each.target.partition(".")
        if root in places and not any(
            each.importer == place or each.importer.startswith(f"{place}.") for place in places[root]
        ):
            found.append(f"{each}, which only {', '.join(places[root])} may")
        if root != PACKAGE:
            continue
        imported = rest.partition(".")[0]
        if not imported:
            if importer not in ("cli", "__main__"):
                found.append(f"{each}: the package's face lies above every module")
        elif imported not in levels:
            found.append(f"{each}, which has no row in CONTRIBUTING.md")
        elif levels[imported] > levels[importer]:
            found.append(f"{each}: upward, from level {levels[importer]} to {levels[imported]}")
        elif imported != importer:
            below.setdefault(importer, set()).add(imported)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        found.append(f"imports form a circle: {' -> '.join(error.args[1])}")
    return sorted(set(found))


@pytest.fixture(scope="module")
def levels(repository) -> dict[str, int]:
    rows = table(repository / "CONTRIBUTING.md", "| level |")
    return {module.strip("`"): int(level) for level, module, _purpose in rows}


@pytest.fixture(scope="module")
def places(repository) -> dict[str, list[str]]:
    rows = table(repository / "CONTRIBUTING.md", "| package |")
    return {package.strip("`"): re.findall(r"`([\w.]+)`", modules) for package, modules in rows}


def test_imports_point_downwards_and_packages_stay_in_their_places(repository, levels, places):
    assert find_violations(repository / PACKAGE, levels, places) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("audio.py", "from workbench.pipeline import diarize", "upward, from level 1 to 4"),
        ("audio.py", "from . import pipeline", "upward, from level 1 to 4"),
        ("scoring.py", "def late():\n    from .explorers.start import explore", "upward, from level 2 to 5"),
        ("clustering/vbx.py", "from ..report import run", "upward, from level 2 to 5"),
        ("clustering/vbx.py", "import torch.nn", "torch.nn, which only models, checkpoints"),
        ("runtimes/onnx_runtime.py", "def run():\n    import torch", "imports torch, which only"),
        ("reconstruction.py", "import plotly.graph_objects as go", "which only plots, explorers, report"),
        ("scoring/counts.py", "from ipywidgets import VBox", "which only explorers"),
        ("plots/timeline.py", "import ipywidgets", "which only explorers"),
        ("scoring.py", "import workbench", "lies above every module"),
        ("stray.py", "import json", "stray has no row"),
        ("audio.py", "import workbench.rttm", None),
        ("runtimes/torch_runtime.py", "import torch", None),
        ("explorers/start.py", "import ipywidgets, plotly\nfrom ..plots import timeline", None),
        ("scoring.py", "if TYPE_CHECKING:\n    import torch", None),
    ],
)
def test_planted_imports_are_judged_rightly(tmp_path, levels, places, module, source, complaint):
    for name in ("pipeline.py", "rttm.py", "report.py", "plots/timeline.py", "explorers/start.py", module):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(source if name == module else "")
    violations = find_violations(tmp_path, levels, places)
    if complaint is None:
        assert violations == []
    else:
        assert len(violations) == 1
        assert complaint in violations[0]


def test_a_circle_within_a_level_is_found(tmp_path, levels, places):
    (tmp_path / "audio.py").write_text("from .rttm import read_rttm")
    (tmp_path / "rttm.py").write_text("def read():\n    from workbench.audio import read_audio")
    (violation,) = find_violations(tmp_path, levels, places)
    assert violation.startswith("imports form a circle")


def test_every_row_names_a_module_that_exists(repository, levels):
    folder = repository / PACKAGE
    missing = [m for m in levels if not (folder / f"{m}.py").is_file() and not (folder / m).is_dir()]
    assert missing == []


@pytest.mark.parametrize("module", ["workbench", "workbench.cli"])
def test_importing_costs_neither_torch_nor_widgets(module):
    """A command's `--help` must not wait for packages that it does not need."""
    heavy = ["torch", "onnxruntime", "pandas", "plotly", "ipywidgets"]
    code = f"import sys, {module}; print(*[name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
