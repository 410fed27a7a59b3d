"""Times, names and rates as people read them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import numpy as np

from workbench.scoring import DiarizationCounts


def clock(seconds: float, decimals: int = 0) -> str:
    """`m:ss`, from one hour on `h:mm:ss`.

    Examples
    --------
    >>> clock(192), clock(75.0624, 3), clock(3661), clock(59.9996, 3)
    ('3:12', '1:15.062', '1:01:01', '1:00.000')
    """
    units = round(seconds * 10**decimals)  # rounded first, so that 59.9996 s becomes a minute
    whole, rest = divmod(units, 10**decimals)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
    return f"{text}.{rest:0{decimals}d}" if decimals else text


def clocks(seconds: np.ndarray) -> list[str]:
    """`clock` with milliseconds for many times."""
    return [clock(value, 3) for value in np.asarray(seconds, dtype=float)]


def speaker_name(speaker: Hashable) -> str:
    """A number alone is no name: 2 becomes spk2."""
    return f"spk{speaker}" if str(speaker).isdigit() else str(speaker)


def shortened(name: str, num_characters: int = 13) -> str:
    """`name`, its end left out where it is too long for its place."""
    return name if len(name) <= num_characters else name[: num_characters - 1] + "…"


def matched_name(speaker: Hashable, matching: Mapping[Hashable, Hashable], has_reference: bool) -> str:
    """A hypothesis speaker and who it is taken for."""
    name = speaker_name(speaker)
    if not has_reference:
        return name
    return f"{name} = {matching[speaker]}" if speaker in matching else f"{name} = nobody"


def count_of(number: int, noun: str) -> str:
    """`1 speaker`, `2 speakers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(fraction: float, decimals: int = 1) -> str:
    """`11.2 %`, with a no-break space."""
    return f"{100 * fraction:.{decimals}f} %"


def convention(collar: float, skip_overlap: bool) -> str:
    """How errors were counted; every rate is shown with it."""
    collars = f"collar {collar:g} s each side" if collar else "no collar"
    return f"{collars} · overlap {'left out' if skip_overlap else 'scored'}"


def rates(counts: DiarizationCounts) -> dict[str, float]:
    """DER components as fractions of the reference speech."""
    total = counts.total or 1.0
    return {kind: getattr(counts, kind) / total for kind in ("missed", "false_alarm", "confusion")}


def region(start: float, end: float) -> str:
    """`12.4–15.0 s`."""
    return f"{start:.1f}–{end:.1f} s"
