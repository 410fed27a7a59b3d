"""`workbench diff-checkpoints`: which tensors of two checkpoints differ, and by how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workbench.cli import options as o
from workbench.cli.output import check_outputs, plural, print_json
from workbench.cli.tables import align

if TYPE_CHECKING:
    from workbench.checkpoints.difference import WeightDifference

WHAT_IT_IS = (
    "a weight file (.bin, .pt), a model folder, or an experiment with \\[@best|@epoch_0010|@avg:5] behind it"
)

EXAMPLES = (
    "workbench diff-checkpoints exp@epoch_0009 exp@epoch_0010",
    "workbench diff-checkpoints models/demo exp@avg:5 --limit 50 --json differences.json",
    "workbench diff-checkpoints original.bin converted.pt --max-diff 0",
)


def diff_checkpoints(
    a: Annotated[str, typer.Argument(metavar="A", show_default=False, help=f"{WHAT_IT_IS.capitalize()}.")],
    b: Annotated[str, typer.Argument(metavar="B", show_default=False, help="What to compare it with.")],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="Tensors shown; 0 shows all that differ.")
    ] = 20,
    max_diff: Annotated[
        float | None,
        typer.Option(
            "--max-diff",
            metavar="X",
            min=0.0,
            help="Exit with code 1 if a value differs by more, or a tensor is missing or has another shape.",
        ),
    ] = None,
    json: o.Json = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Compare the weights of two checkpoints, tensor by tensor, the worst first.

    Missing tensors and other shapes come first, then what changed, by the norm of the change relative to that
    of A. No network is built and nothing from the files is run; any two state dicts can be compared.
    """
    from workbench.checkpoints.difference import diff_checkpoints as compare

    check_outputs(files=[json])
    difference = compare(a, b)
    if str(json) != "-" and not quiet:
        typer.echo(format_difference(difference, limit))
    exceeded = max_diff is not None and not difference.max_abs <= max_diff
    table = difference.table.astype(object)
    print_json(
        json,
        {
            "a": a,
            "b": b,
            "identical": difference.identical,
            "tensors": len(table),
            "counts": difference.counts(),
            "max_abs": difference.max_abs,
            "differences": table.where(table.notna(), None)[table["status"] != "identical"].to_dict(
                "records"
            ),
            "failed": [],
        },
    )
    if exceeded:
        found = (
            "tensors are missing or cannot be compared"
            if difference.max_abs == float("inf")
            else f"values differ by {difference.max_abs:.3g}"
        )
        typer.secho(f"{found}; --max-diff allows {max_diff:g}", err=True, fg="red")
        raise typer.Exit(1)


def format_difference(difference: WeightDifference, limit: int) -> str:
    """What differs as aligned text, under a line of counts."""
    if difference.identical:
        return f"identical: all {plural(len(difference.table), 'tensor')}, bit by bit"
    counts = ", ".join(f"{number} {status}" for status, number in difference.counts().items())
    differing = difference.table[difference.table["status"] != "identical"]
    shown = differing.head(limit) if limit else differing
    rows = []
    for row in shown.to_dict("records"):
        shape = " → ".join(
            dict.fromkeys(words(row, side) for side in ("a", "b") if isinstance(row[f"dtype_{side}"], str))
        )
        figures = [f"{row[name]:.3g}" if row[name] == row[name] else "-" for name in ("max_abs", "relative")]
        cosine = f"{row['cosine']:.6f}" if row["cosine"] == row["cosine"] else "-"
        changed = (
            f"{row['fraction_changed']:.1%}" if row["fraction_changed"] == row["fraction_changed"] else "-"
        )
        rows.append([printable(row["tensor"]), row["status"], shape, *figures, cosine, changed])
    heading = ["tensor", "", "shape", "max |a-b|", "relative", "cosine", "changed"]
    more = len(differing) - len(shown)
    rest = [f"and {plural(more, 'tensor')} more (--limit 0 shows all)"] if more else []
    return "\n".join(
        [f"{plural(len(difference.table), 'tensor')}: {counts}", "", align(heading, rows, num_left=3), *rest]
    )


def words(row: Mapping[Any, Any], side: str) -> str:
    """Shape and dtype of one side, such as `256x80 float32`."""
    shape = row[f"shape_{side}"]
    sizes = "x".join(str(size) for size in shape) if isinstance(shape, tuple) and shape else "scalar"
    return f"{sizes} {row[f'dtype_{side}']}"


def printable(name: str) -> str:
    """A tensor's name without what a terminal would obey."""
    return "".join(character if character.isprintable() else "�" for character in name)
