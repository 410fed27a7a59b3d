"""What a choice amounts to, in sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from workbench.scoring.significance import units_needed

if TYPE_CHECKING:
    from workbench.tuning.choice import Choice
    from workbench.tuning.plateau import StableCell

NEGLIGIBLE = 0.001
"""Share of the speech that may move under noise before it is worth a word."""


def choice_words(
    choice: Choice,
    plateaus: pd.DataFrame | None = None,
    stability: pd.DataFrame | None = None,
    stable: StableCell | None = None,
) -> str:
    """The verdict as people read it: the numbers first, then what to do.

    Parameters
    ----------
    choice : as `choose` returns it
    plateaus : as `find_plateaus` returns it: adds how wide the best cell's plateau is
    stability : as `summarise_stability` returns it: adds what noise does to the cell
    stable : as `choose_stable` returns it: what may be taken instead where the gain is not significant
    """
    sentences = [_numbers(choice), advice(choice)]
    if stable is not None and choice.verdict == "keep the default" and stable.worst_step < choice.der_default:
        sentences.append(
            f"If it must be another one: {choice.table.name(stable.cell)}, with {points(stable.der)} DER and "
            f"no neighbour above {points(stable.worst_step)}."
        )
    if plateaus is not None and not math.isnan(worst := float(plateaus["worst_step"].iloc[choice.best])):
        width = int(plateaus["width"].iloc[choice.best])
        sentences.append(
            f"The best cell's plateau is {width} {'cell' if width == 1 else 'cells'} wide; one step beside "
            f"it DER is {points(worst)} at worst."
        )
    if stability is not None:
        sentences += _under_noise(stability, choice.best)
    if choice.edges:
        sentences.append(
            f"The best cell lies on the grid's edge ({'; '.join(choice.edges)}): widen the grid."
        )
    return " ".join(sentences)


def _numbers(choice: Choice) -> str:
    is_best = choice.der_best <= choice.table.der[choice.admissible].min(initial=math.inf) + 1e-12
    number = "1 cell" if len(choice.table) == 1 else f"{len(choice.table)} cells"
    cells = f"{'Best' if is_best else 'Chosen'} of {number} on {_recordings(choice)}"
    text = f"{cells}: {points(choice.der_best)} DER"
    if not math.isnan(choice.der_default):
        text += f" against {points(choice.der_default)} of the default"
    if not math.isnan(choice.der_out_of_fold):
        text += f"; chosen without the recordings it is judged on {points(choice.der_out_of_fold)}"
    return f"{text}."


def advice(choice: Choice) -> str:
    """The verdict alone: what to do, and why."""
    name = choice.table.name(choice.best)
    test = choice.test
    if choice.verdict == "no default" or test is None:
        return (
            f"Lowest is {name}; whether that is a gain cannot be said without the default's results: add its "
            "values to the grid."
        )
    if choice.verdict == "nothing admissible":
        return (
            f"No cell loses at most {_loss(choice)} points on every recording against the default: keep the "
            "default, or allow more."
        )
    if choice.verdict == "default is best":
        return "No admissible cell is better than the default: keep it."
    if choice.verdict == "cannot tell":
        return (
            f"Cannot tell: from {_recordings(choice)} no p below {test.smallest_p:.3g} is possible; at least "
            f"{units_needed(test.alpha)} are needed. Keep the default."
        )
    significance = f"p = {choice.p:.2g}, corrected for {len(choice.table)} cells"
    if choice.verdict == "change":
        low, high = 100 * choice.gain.low, 100 * choice.gain.high
        return (
            f"The gain of {-100 * choice.gain.estimate:.2f} points is significant ({significance}; change "
            f"{low:+.2f} to {high:+.2f} points)"
            f"{'' if math.isnan(choice.der_out_of_fold) else ' and holds out of fold'}: take {name}."
        )
    if choice.p <= test.alpha:
        return (
            f"The gain is significant ({significance}), but choosing like this brings nothing out of fold: "
            "keep the default."
        )
    text = f"The gain is not significant ({significance}): keep the default"
    if math.isfinite(choice.minimum_detectable):
        text += f"; about {100 * choice.minimum_detectable:.1f} points could be found with these recordings"
    return f"{text}."


def _under_noise(stability: pd.DataFrame, cell: int) -> list[str]:
    """What noise does to a cell, if it was tested: how much it takes no notice of, and what comes then."""
    rows = stability[stability["cell"] == cell].sort_values("level")
    if rows.empty:
        return []
    moving = rows[rows["cross_der"] >= NEGLIGIBLE]
    if moving.empty:
        return [
            f"Embedding noise up to {rows['level'].max():g} moves less than {points(NEGLIGIBLE)} of "
            "the speech."
        ]
    first = moving.iloc[0]
    effect = (
        f"{points(first['cross_der'])} of the speech changes its speaker at {first['level']:g}, and DER by "
        f"up to {100 * first['der_change']:.2f} points."
    )
    quiet = rows.loc[rows["level"] < first["level"], "level"]
    if len(quiet):
        return [f"It survives embedding noise of {quiet.max():g}; {effect}"]
    return [f"It survives none of the embedding noise tried: {effect}"]


def points(rate: float) -> str:
    """A rate in percent with one decimal; two where one would read 0.

    Examples
    --------
    >>> points(0.1634), points(0.0004), points(0.00001), points(float("nan"))
    ('16.3 %', '0.04 %', '< 0.01 %', '–')
    """
    if math.isnan(rate):
        return "–"
    if 0 < abs(rate) < 0.00005:
        return "< 0.01 %"
    decimals = 1 if rate == 0 or abs(rate) >= 0.001 else 2
    return f"{100 * rate:.{decimals}f} %"


def _recordings(choice: Choice) -> str:
    count = len(choice.table.uris)
    return f"{count} recording" if count == 1 else f"{count} recordings"


def _loss(choice: Choice) -> str:
    return "any" if choice.max_loss is None else f"{100 * choice.max_loss:g}"
