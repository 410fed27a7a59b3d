"""Aligned text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def align(heading: Sequence[str], rows: Sequence[Sequence[str]], num_left: int = 1) -> str:
    """A table: the first `num_left` columns aligned left, the others right, a rule below the heading.

    Examples
    --------
    >>> print(align(["epoch", "DER"], [["1", "44.10"], ["10", "8.80"]]))
    epoch    DER
    ------------
    1      44.10
    10      8.80
    """
    lines = [list(heading), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
    text = [
        "  ".join(
            cell.ljust(width) if column < num_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([text[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *text[1:]])


def number(value: object, digits: int = 2, factor: float = 1.0) -> str:
    """A number with `digits` decimals, a dash where there is none."""
    if not isinstance(value, int | float) or value != value:
        return "-"
    return f"{value * factor:.{digits}f}"
