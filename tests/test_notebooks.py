"""Every notebook is committed clean, stays short, and runs from top to bottom."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from workbench.report import write_page

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TIME_LIMIT = 120.0  # seconds
MOST_LINES = 15  # in a code cell; longer logic belongs into the package

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_first_notebook_is_the_one_that_make_lab_opens():
    assert NOTEBOOKS[0].name == "00_start_here.ipynb"


@each_notebook
def test_notebook_is_committed_without_outputs_and_widget_state(path):
    content = nbformat.read(path, as_version=4)
    assert [cell.outputs for cell in code_cells(path) if cell.outputs] == []
    assert [cell.execution_count for cell in code_cells(path) if cell.execution_count is not None] == []
    assert "widgets" not in content.metadata


@each_notebook
def test_notebook_names_the_kernel_that_every_environment_has(path):
    """JupyterLab would ask the user for a kernel otherwise."""
    assert nbformat.read(path, as_version=4).metadata.kernelspec.name == "python3"


@each_notebook
def test_notebook_asks_in_prose_and_keeps_its_cells_short(path):
    content = nbformat.read(path, as_version=4)
    assert content.cells[0].cell_type == "markdown"
    assert content.cells[0].source.startswith("# ")
    lines = [[line for line in cell.source.splitlines() if line.strip()] for cell in code_cells(path)]
    assert max(map(len, lines)) <= MOST_LINES


@pytest.mark.notebook
@pytest.mark.timeout(TIME_LIMIT + 60)
@each_notebook
def test_notebook_runs_without_a_screen_and_makes_a_page(path, tmp_path):
    page = write_page(path, tmp_path, TIME_LIMIT)
    assert page.error is None
    assert page.seconds < TIME_LIMIT
    assert page.num_bytes < 25e6
    warned = 'jp-OutputArea-output" data-mime-type="application/vnd.jupyter.stderr"'
    assert warned not in page.page.read_text(encoding="utf-8")
