"""Notebooks become pages that stand alone, and one that fails does not stop the others."""

from __future__ import annotations

import json
import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from typer.testing import CliRunner

from workbench.cli import app
from workbench.errors import InputError
from workbench.report import find_notebooks, read_notebook, write_page

pytestmark = pytest.mark.notebook

# addresses that a browser would fetch while it shows the page
FETCHED = re.compile(r"""<(?:(?:script|img|audio|source|iframe)\s[^>]*src|link\s[^>]*href)=["'](?!data:)""")


def write_notebook(path, *sources, title="A small question"):
    cells = [new_markdown_cell(f"# {title}"), *map(new_code_cell, sources)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def figure_page(tmp_path_factory):
    """The page of a notebook with two figures, sound, a picture, a widget and a table."""
    folder = tmp_path_factory.mktemp("with a blank")
    notebook = write_notebook(
        folder / "figures.ipynb",
        "import os, numpy as np, plotly.graph_objects as go\n"
        "go.Figure(go.Scatter(y=[1, 3, 2]), layout={'title': {'text': 'first </script> figure'}})",
        "from IPython.display import Audio, HTML, Image\nAudio(np.zeros(800, dtype='float32'), rate=8000)",
        "HTML(go.Figure(go.Bar(y=[1, 2])).to_html(include_plotlyjs=True))",
        "import ipywidgets; ipywidgets.IntSlider()",
        "print('static:', os.environ['WORKBENCH_STATIC'], os.getcwd())",
    )
    before = notebook.read_bytes()
    page = write_page(notebook, folder / "pages", time_limit=100)
    assert notebook.read_bytes() == before
    return page


def test_page_loads_nothing_from_elsewhere(figure_page):
    text = figure_page.page.read_text(encoding="utf-8")
    assert FETCHED.findall(text) == []
    assert "import(" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


def test_page_holds_figures_sound_and_one_copy_of_plotly(figure_page):
    text = figure_page.page.read_text(encoding="utf-8")
    assert text.count("Plotly.newPlot(") >= 2
    assert "first \\u003c" in text or "first <\\/script" in text  # a title cannot end the script
    assert 'src="data:audio/wav;base64,' in text
    assert text.count("plotly.js v") == 1
    assert figure_page.num_bytes == figure_page.page.stat().st_size < 6e6


def test_controls_that_need_a_kernel_are_replaced_by_words(figure_page):
    text = figure_page.page.read_text(encoding="utf-8")
    assert "A control that needs a kernel" in text
    assert "IntSlider(" not in re.sub(r"<div class=\"highlight.*?</div>", "", text, flags=re.DOTALL)
    assert "application/vnd.jupyter.widget-state" not in text


def test_notebook_runs_in_its_own_folder_and_knows_that_it_is_static(figure_page):
    assert f"static: 1 {figure_page.notebook.parent}" in figure_page.page.read_text(encoding="utf-8")


def test_page_is_titled_by_its_first_heading(figure_page):
    assert "<title>A small question</title>" in figure_page.page.read_text(encoding="utf-8")


def test_one_failing_notebook_is_reported_and_the_others_go_on(tmp_path):
    bad = write_notebook(
        tmp_path / "a_bad.ipynb", "x = 1", "raise ValueError('<no> speakers')", "print('never')"
    )
    slow = write_notebook(tmp_path / "b_slow.ipynb", "import time; time.sleep(60)")
    good = write_notebook(tmp_path / "c_good.ipynb", "print('six times seven is', 6 * 7)")
    out = tmp_path / "pages"
    arguments = [
        "report",
        *map(str, (bad, slow, good)),
        "--out",
        str(out),
        "--time-limit",
        "6",
        "--json",
        "-",
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    failed = {entry["uri"]: entry["error"] for entry in json.loads(result.stdout)["failed"]}
    assert failed == {
        str(bad): "cell 3: ValueError: <no> speakers",
        str(slow): "cell 2: stopped, the notebook's time limit of 6 s is over",
    }
    assert "c_good.html" in result.stderr
    assert "six times seven is 42" in (out / "c_good.html").read_text(encoding="utf-8")
    failed_page = (out / "a_bad.html").read_text(encoding="utf-8")
    assert "This notebook failed" in failed_page
    assert "ValueError: &lt;no&gt; speakers" in failed_page
    assert "newPlot" not in failed_page  # no figure, no copy of plotly.js
    assert (out / "a_bad.html").stat().st_size < 1e6


def test_what_is_not_a_notebook_ends_the_call(tmp_path):
    broken = tmp_path / "broken.ipynb"
    broken.write_text("{}")
    for name, complaint in (
        (broken, "is not a Jupyter notebook"),
        (tmp_path / "none.ipynb", "no notebook is here"),
    ):
        result = CliRunner().invoke(app, ["report", str(name), "--out", str(tmp_path)])
        assert result.exit_code == 2
        assert f"{name}: {complaint}" in result.stderr.replace("\n", "")


def test_two_notebooks_of_one_name_are_refused(tmp_path):
    first = write_notebook(tmp_path / "a" / "same.ipynb")
    second = write_notebook(tmp_path / "b" / "same.ipynb")
    with pytest.raises(InputError, match="two notebooks are called 'same'"):
        find_notebooks([first, second])


def test_a_folder_stands_for_its_notebooks(tmp_path):
    paths = [write_notebook(tmp_path / name) for name in ("b.ipynb", "a.ipynb")]
    assert find_notebooks([tmp_path]) == sorted(paths)
    shutil.rmtree(tmp_path)
    with pytest.raises(InputError, match="no notebook is here"):
        find_notebooks([tmp_path])


def test_stored_outputs_do_not_reach_the_page(tmp_path):
    notebook = write_notebook(tmp_path / "stale.ipynb", "1")
    content = nbformat.read(notebook, as_version=4)
    content.cells[1].outputs = [nbformat.v4.new_output("stream", text="stale")]
    nbformat.write(content, notebook)
    assert read_notebook(notebook).cells[1].outputs == []
