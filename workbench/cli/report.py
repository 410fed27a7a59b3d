"""`workbench report`: notebooks to self-contained HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from workbench.cli import options as o
from workbench.cli.output import Progress, check_outputs, print_json

EXAMPLES = (
    "workbench report --out reports",
    "workbench report notebooks/00_start_here.ipynb --out reports --time-limit 120",
)


def report(
    notebooks: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[NOTEBOOK...]",
            show_default=False,
            help="Notebooks, or folders of them; those in notebooks/ if none is named.",
        ),
    ] = None,
    out: o.Out = Path("reports"),
    time_limit: Annotated[
        float, typer.Option("--time-limit", metavar="SECONDS", min=1, help="For each notebook as a whole.")
    ] = 600.0,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Run notebooks headless into self-contained HTML.

    Each page stands alone: figures zoom, images and sound are inside, nothing is loaded from elsewhere.
    A notebook that fails is reported and its page says so; the others go on, and the exit code is 1.
    """
    from workbench.report import find_notebooks, write_page

    found = find_notebooks(notebooks or [])
    check_outputs(folders=[out], files=[json])
    pages = []
    with Progress(len(found), "notebooks", quiet) as progress:
        for notebook in found:
            progress.start(notebook.name)
            page = write_page(notebook, out, time_limit)
            pages.append(page)
            size = f"{page.seconds:.0f} s, {page.num_bytes / 1e6:.1f} MB"
            if page.error is None:
                progress.say(f"{page.page} ({size})")
            else:
                progress.always(f"FAILED {notebook}: {page.error} (see {page.page})", colour="red")
            progress.advance(1)
    failed = [{"uri": str(page.notebook), "error": page.error} for page in pages if page.error is not None]
    print_json(
        json,
        {
            "notebooks": {
                str(page.notebook): {"page": page.page, "seconds": page.seconds, "bytes": page.num_bytes}
                for page in pages
            },
            "failed": failed,
        },
    )
    if failed:
        typer.secho(f"{len(failed)} of {len(pages)} notebooks failed", err=True, fg="red")
        raise typer.Exit(1)
