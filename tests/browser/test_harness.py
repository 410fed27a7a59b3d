"""The harness itself, on a notebook of four cells: what later tests rely on works."""

from __future__ import annotations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from workbench.report import write_page

CELLS = (
    "import ipywidgets as widgets, plotly.graph_objects as go",
    "figure = go.FigureWidget(go.Scatter(x=[0, 1, 2, 3], y=[0, 1, 4, 9], mode='markers'))\n"
    "figure.layout.title = 'nothing yet'\n"
    "figure.data[0].on_click(lambda trace, points, state:"
    " figure.update_layout(title=f'clicked {points.xs[0]}'))\n"
    "slider = widgets.FloatSlider(description='height', value=1, max=2, step=0.5)\n"
    "slider.observe(lambda change: figure.update_layout(title=f'height {change.new}'), names='value')\n"
    "choice = widgets.Dropdown(description='colour', options=['red', 'green'])\n"
    "choice.observe(lambda change: figure.update_layout(title=f'colour {change.new}'), names='value')\n"
    "widgets.VBox([slider, choice, figure])",
)


def write_notebook(folder, name, *sources):
    cells = [new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3"}  # without it, JupyterLab asks for one
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), folder / name)
    return name


@pytest.mark.timeout(180)
def test_sliders_menus_and_clicks_reach_the_kernel_and_come_back(lab):
    lab.open_notebook(write_notebook(lab.server.root, "gestures.ipynb", *CELLS))
    lab.run_all()
    lab.wait_plot()
    lab.drag_slider("height", 2)
    lab.wait_plot_until("gd.layout.title.text === 'height 2.0'")
    lab.choose("colour", "green")
    lab.wait_plot_until("gd.layout.title.text === 'colour green'")
    lab.click_plot(2, 4)
    lab.wait_plot_until("gd.layout.title.text === 'clicked 2'")
    assert lab.read_plot("gd.data[0].x.length") == 4


@pytest.mark.timeout(180)
def test_a_cell_that_fails_is_reported_with_its_message(lab):
    lab.open_notebook(write_notebook(lab.server.root, "broken.ipynb", "x = 1", "raise KeyError('speaker 7')"))
    with pytest.raises(AssertionError, match="speaker 7"):
        lab.run_all()


@pytest.mark.timeout(180)
def test_a_report_draws_its_figures_without_kernel_and_network(chromium, tmp_path):
    figure = (
        "import plotly.graph_objects as go; go.Figure(go.Scatter(y=[1, 3, 2]), {'title': {'text': 'static'}})"
    )
    notebook = tmp_path / write_notebook(tmp_path, "page.ipynb", figure)
    report = write_page(notebook, tmp_path / "pages", time_limit=60)
    context = chromium.new_context(offline=True)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(report.page.as_uri())
    page.wait_for_function("() => document.querySelector('.js-plotly-plot')?.calcdata")
    assert page.locator(".gtitle").text_content() == "static"
    assert requests == [report.page.as_uri()]
    assert complaints == []
    context.close()
