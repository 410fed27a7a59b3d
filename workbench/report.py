"""Notebooks to self-contained HTML pages: executed headless, readable without kernel or network.

Explorers show their static twin (`to_html()`) while the environment variable `WORKBENCH_STATIC`
is 1, which is how the kernels of this module run: no page holds a control that would do nothing.
"""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import environ
from pathlib import Path
from typing import Any

from workbench.errors import InputError
from workbench.files import atomic_write

PLOTLY_FIGURE = "application/vnd.plotly.v1+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# Figures arrive as data and are drawn by the one copy of plotly.js in the page.
KERNEL_ENVIRONMENT = {"WORKBENCH_STATIC": "1", "PLOTLY_RENDERER": "plotly_mimetype"}

# nbconvert's "lab" page without what it loads from other hosts (require.js, MathJax, mermaid).
PLOTLY_HERE = "<!-- plotly.js -->"
TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
body.jp-Notebook { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px; overflow: auto; }
.workbench-note { margin: 0 0 16px; font: 13px/1.5 system-ui, sans-serif; color: #667085; }
.workbench-failed { margin: 0 0 16px; padding: 12px 16px; border-left: 4px solid #d55e00;
  background: #fdf1ea; color: #7a2e00; font: 14px/1.5 system-ui, sans-serif; white-space: pre-wrap; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
</style>
<!-- plotly.js -->
{%- endblock -%}
{%- block body_loop -%}
{{ resources.workbench_banner }}
{{ super() }}
{%- endblock -%}
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What became of one notebook."""

    notebook: Path
    page: Path
    seconds: float  # that the execution took
    num_bytes: int  # size of the page
    error: str | None = None  # the cell that failed and why; None if all ran


def find_notebooks(paths: Sequence[Path]) -> list[Path]:
    """The notebooks that `paths` name, folders searched one level deep; by default those of `notebooks/`."""
    found: list[Path] = []
    for path in paths or [Path("notebooks")]:
        inside = sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
        if not inside or not inside[0].is_file():
            raise InputError.at(path, "no notebook is here; name notebooks (.ipynb) or a folder of them")
        found += inside
    names = [path.stem for path in found]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"two notebooks are called {name!r}, and their pages would be one file; rename one"
            )
    return found


def write_page(notebook: Path, out: Path, time_limit: float) -> Page:
    """Execute `notebook` and write `out/<its name>.html`.

    A notebook that fails gets a page too, with the error on top and the outputs up to it.

    Parameters
    ----------
    notebook : path of an .ipynb file; it runs in its own folder and is not changed
    out : folder for the page, made if missing
    time_limit : seconds for the whole notebook

    Returns
    -------
    page : Page
        Where the page lies, its size, and why the notebook failed if it did.
    """
    content = read_notebook(notebook)
    started = time.monotonic()
    error = execute(content, notebook.parent, time_limit)
    seconds = time.monotonic() - started
    page = out / f"{notebook.stem}.html"
    text = render(content, notebook, seconds, error)
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Page(notebook=notebook, page=page, seconds=seconds, num_bytes=page.stat().st_size, error=error)


def read_notebook(path: Path) -> Any:
    """The notebook in `path` in nbformat's current form, its stored outputs dropped."""
    import nbformat

    try:
        content = nbformat.read(path, as_version=4)
    except OSError as error:
        raise InputError.at(path, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError) as error:
        raise InputError.at(path, f"is not a Jupyter notebook ({str(error).splitlines()[0]})") from None
    for cell in content.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return content


def execute(content: Any, folder: Path, time_limit: float) -> str | None:
    """Run all cells in a fresh kernel; outputs go into `content`.

    Returns
    -------
    error : str or None
        The first cell that failed and why; the cells below it did not run.
    """
    from jupyter_client.kernelspec import NoSuchKernel
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    deadline = time.monotonic() + time_limit
    position = 0

    def started(cell: Any, cell_index: int) -> None:
        nonlocal position
        position = cell_index + 1

    client = NotebookClient(
        content,
        resources={"metadata": {"path": str(folder.resolve())}},
        timeout_func=lambda _cell: max(1, round(deadline - time.monotonic())),
        store_widget_state=False,  # it holds every array that a widget was sent: megabytes
        shutdown_kernel="immediate",
        extra_arguments=["--log-level=ERROR"],  # a local kernel need not warn that it talks in clear
        on_cell_start=started,
    )
    try:
        client.execute(env=environ | KERNEL_ENVIRONMENT)
    except CellTimeoutError:
        return f"cell {position}: stopped, the notebook's time limit of {time_limit:g} s is over"
    except DeadKernelError:
        return f"cell {position}: the kernel died; was there enough memory?"
    except CellExecutionError as error:
        return f"cell {position}: {error.ename}: {error.evalue}"
    except NoSuchKernel as error:
        return f"the kernel {error.name!r} that the notebook asks for is not installed"
    return None


def render(content: Any, notebook: Path, seconds: float, error: str | None) -> str:
    """The executed notebook as one HTML page that needs no other file and no network."""
    from nbconvert.exporters import HTMLExporter
    from plotly.offline import get_plotlyjs

    plotly_js = get_plotlyjs()
    for cell in content.cells:
        for output in cell.get("outputs", ()):
            if "data" in output:
                output.data = static(output.data, plotly_js)
    exporter = HTMLExporter(template_name="lab", embed_images=True)
    exporter.raw_template = TEMPLATE
    metadata = {"path": str(notebook.parent.resolve()), "name": title_of(content, notebook.stem)}
    text, _ = exporter.from_notebook_node(
        content, {"metadata": metadata, "workbench_banner": banner(notebook, seconds, error)}
    )
    draws = "Plotly.newPlot" in text
    return text.replace(PLOTLY_HERE, f"<script>{plotly_js}</script>" if draws else "", 1)


def title_of(content: Any, default: str) -> str:
    """The first heading of the notebook."""
    for cell in content.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("# "):
            return str(cell.source.splitlines()[0].lstrip("# ").strip())
    return default


def banner(notebook: Path, seconds: float, error: str | None) -> str:
    """What stands above the first cell: where the page comes from, and that it failed if it did."""
    from workbench import __version__

    note = f"{notebook.name}, executed in {seconds:.0f} s by workbench {__version__}"
    lines = [f'<p class="workbench-note">{html.escape(note)}</p>']
    if error is not None:
        lines.append(f'<p class="workbench-failed"><b>This notebook failed.</b>\n{html.escape(error)}</p>')
    return "\n".join(lines)


def static(data: Any, plotly_js: str) -> Any:
    """An output's representations with figures as HTML and without controls that need a kernel."""
    from nbformat import from_dict
    from plotly.io import to_html

    data = dict(data)
    if PLOTLY_FIGURE in data:
        figure = data.pop(PLOTLY_FIGURE)
        config = figure.pop("config", {}) | {"responsive": True}
        # the kernel's plotly has checked the figure; checking again takes seconds on large ones
        data["text/html"] = to_html(
            {"data": figure["data"], "layout": figure.get("layout", {})},
            config=config,
            include_plotlyjs=False,
            full_html=False,
            validate=False,
        )
    elif WIDGET_VIEW in data:
        del data[WIDGET_VIEW]
        data.setdefault(
            "text/html", "<p><i>A control that needs a kernel: open the notebook to use it.</i></p>"
        )
    if "text/html" in data:  # figures that brought their own copy of plotly.js share the page's
        data["text/html"] = data["text/html"].replace(plotly_js, "")
    return from_dict(data)
