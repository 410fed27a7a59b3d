"""Waveforms of 0.5 s to 10 min: which lengths a model takes, and up to which it still computes the same."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench.agreement.findings import Finding
from workbench.agreement.flips import NEAR_TIE, powerset_margin
from workbench.runtimes import Runtime

LENGTHS = (0.5, 1.0, 2.0, 5.0, 7.77, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds; one of them is no multiple of anything, to show shapes that only fit round numbers."""

_MEMORY_SHARE = 0.6  # of what is free, that a rung may be expected to take
_ROUNDING = 1e-3  # relative difference between two runtimes that grows no alarm on long inputs


@dataclass(frozen=True, kw_only=True)
class LengthLadder:
    """What became of every length.

    Attributes
    ----------
    table : DataFrame
        `seconds`, `num_samples`; for one runtime `frames` and `error`, for two `frames_baseline`,
        `frames_candidate`, `error_baseline`, `error_candidate`, `max_abs_diff`, `flips`, `real_flips`; `ok`.
    findings : lengths that are baked in, in words
    stopped : why the ladder ended before its longest rung; empty if it did not
    """

    table: pd.DataFrame
    findings: tuple[Finding, ...]
    stopped: str = ""

    @property
    def largest_safe(self) -> float | None:
        """Longest length (s) up to which every rung is fine; None where the shortest fails."""
        safe = None
        for seconds, ok in zip(self.table["seconds"], self.table["ok"], strict=True):
            if not ok:
                if safe is not None:
                    break
                continue
            safe = float(seconds)
        return safe

    def to_json(self) -> dict[str, object]:
        """As reports have it."""
        return {
            "largest_safe_seconds": self.largest_safe,
            "stopped": self.stopped,
            "rungs": self.table.to_dict("records"),
            "findings": [finding.to_json() for finding in self.findings],
        }


def climb(
    baseline: Runtime,
    candidate: Runtime | None = None,
    audio: np.ndarray | None = None,
    *,
    lengths: Sequence[float] = LENGTHS,
    sample_rate: int = 16000,
    seed: int = 0,
) -> LengthLadder:
    """Run one model, or two side by side, on waveforms of growing length.

    Parameters
    ----------
    baseline : the model, or what the candidate is compared with
    candidate : optional
    audio : float array, shape (num_samples,), optional
        Repeated where it is too short; noise without it.
    lengths : seconds
    sample_rate : Hz
    """
    if audio is None or not len(audio):
        audio = 0.1 * np.random.default_rng(seed).standard_normal(10 * sample_rate)
    audio = np.asarray(audio, dtype=np.float32)
    rows, stopped, before, usage = [], "", 0.0, _peak_memory()
    for seconds in sorted(lengths):
        num_samples = round(seconds * sample_rate)
        needed = usage * (seconds / before) ** 2 if before and usage > 200e6 else 0.0
        free = _free_memory()
        if needed > _MEMORY_SHARE * free:
            stopped = (
                f"stopped before {seconds:g} s, which may take {needed / 1e9:.1f} GB of the "
                f"{free / 1e9:.1f} GB free"
            )
            break
        waveform = np.resize(audio, num_samples)[None]
        start = _peak_memory()
        rows.append(_rung(seconds, waveform, baseline, candidate))
        usage, before = max(_peak_memory() - start, usage * (before / seconds)), seconds
    table = pd.DataFrame(rows)
    findings = _compared(table) if candidate is not None else _alone(table, str(baseline), "runtime", "")
    return LengthLadder(table=table, findings=tuple(findings), stopped=stopped)


def _rung(
    seconds: float, waveform: np.ndarray, baseline: Runtime, candidate: Runtime | None
) -> dict[str, object]:
    row: dict[str, object] = {"seconds": seconds, "num_samples": waveform.shape[1]}
    first, error = _run(baseline, waveform)
    if candidate is None:
        return row | {"frames": _frames(first), "error": error, "ok": not error}
    second, other_error = _run(candidate, waveform)
    row |= {
        "frames_baseline": _frames(first),
        "frames_candidate": _frames(second),
        "error_baseline": error,
        "error_candidate": other_error,
        "max_abs_diff": None,
        "flips": None,
        "real_flips": None,
        "ok": False,
    }
    if first is None or second is None or first.shape != second.shape:
        return row | {"ok": bool(error) and error == "too short" and other_error == "too short"}
    with np.errstate(invalid="ignore"):
        largest = float(np.abs(first.astype(np.float64) - second).max(initial=0.0))
    row["max_abs_diff"] = largest if np.isfinite(largest) else float("inf")
    if first.ndim == 3:
        flipped = first.argmax(axis=-1) != second.argmax(axis=-1)
        row["flips"] = int(flipped.sum())
        row["real_flips"] = int((powerset_margin(first)[flipped] > NEAR_TIE).sum())
    return row | {"ok": bool(np.isfinite(largest))}


def _run(runtime: Runtime, waveform: np.ndarray) -> tuple[np.ndarray | None, str]:
    """The output, or what went wrong in one line."""
    if waveform.shape[1] < runtime.min_num_samples:
        return None, "too short"
    try:
        output = runtime.segment(waveform) if runtime.kind == "segmentation" else runtime.embed(waveform)
    except Exception as error:  # whatever a runtime raises on a length is what is looked for
        lines = str(error).strip().splitlines()
        return None, (lines[0] if lines else type(error).__name__)[:300]
    output = np.asarray(output)
    return output, "" if np.isfinite(output).any() else "no finite value"


def _alone(table: pd.DataFrame, name: str, side: str, suffix: str) -> list[Finding]:
    """Failures, and frame counts that do not grow with the length, on one side."""
    found = []
    errors, frames = table[f"error{suffix}"], table[f"frames{suffix}"]
    failed = table[(errors != "") & (errors != "too short")]
    works = table[errors == ""]
    if len(failed) and len(works):
        lengths = ", ".join(f"{s:g}" for s in failed["seconds"])
        fine = ", ".join(f"{s:g}" for s in works["seconds"])
        found.append(
            Finding(
                kind="baked_in_length",
                words=f"{name} fails on {lengths} s and works on {fine} s: a length is baked in "
                f"({failed[f'error{suffix}'].iloc[0]})",
                side=side,
                details={"fails": failed["seconds"].tolist(), "works": works["seconds"].tolist()},
            )
        )
    elif len(failed):
        words = f"{name} fails on every length: {failed[f'error{suffix}'].iloc[0]}"
        found.append(Finding(kind="baked_in_length", words=words, side=side, details={"works": []}))
    counts = frames[errors == ""].dropna().to_numpy(dtype=np.float64)
    seconds = works["seconds"].to_numpy()[: len(counts)]
    if len(counts) > 1 and counts.max() > 1:
        stuck = [(seconds[i], seconds[i + 1]) for i in range(len(counts) - 1) if counts[i + 1] <= counts[i]]
        if stuck:
            low, high = stuck[0]
            found.append(
                Finding(
                    kind="baked_in_length",
                    words=f"{name} gives as many frames for {high:g} s as for {low:g} s: a length is baked "
                    "in",
                    side=side,
                    details={"same_frames": [list(pair) for pair in stuck]},
                )
            )
    return found


def _compared(table: pd.DataFrame) -> list[Finding]:
    """What two sides do differently from some length on."""
    found = _alone(table, "the baseline", "baseline", "_baseline")
    found += _alone(table, "the candidate", "candidate", "_candidate")
    both = table[table["max_abs_diff"].notna()]
    counts = table[(table["error_baseline"] == "") & (table["error_candidate"] == "")]
    other = counts[counts["frames_baseline"] != counts["frames_candidate"]]
    if len(other):
        row = other.iloc[0]
        found.append(
            Finding(
                kind="frame_count_by_length",
                words=f"at {row['seconds']:g} s the candidate gives {row['frames_candidate']:.0f} frames, "
                f"the baseline {row['frames_baseline']:.0f}",
                side="candidate",
                details={"seconds": other["seconds"].tolist()},
            )
        )
    if len(both) > 1:
        difference = both["max_abs_diff"].to_numpy(dtype=np.float64)
        least = float(difference.min())
        far = difference > max(_ROUNDING, 100 * least)
        if far.any() and not far.all():
            bad, good = both["seconds"].to_numpy()[far], both["seconds"].to_numpy()[~far]
            found.append(
                Finding(
                    kind="baked_in_length",
                    words=f"the sides agree at {', '.join(f'{s:g}' for s in good)} s (within "
                    f"{difference[~far].max():.1e}) and not at {', '.join(f'{s:g}' for s in bad)} s (up to "
                    f"{difference[far].max():.2g}): the candidate has a length baked in",
                    side="candidate",
                    details={"agree": good.tolist(), "differ": bad.tolist()},
                )
            )
            table.loc[both.index[far], "ok"] = False
    return found


def _frames(output: np.ndarray | None) -> int | None:
    if output is None:
        return None
    return output.shape[1] if output.ndim == 3 else 1


def _peak_memory() -> float:
    """Most memory this process has held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)


def _free_memory() -> float:
    """Memory that a process may still take, in bytes; unlimited where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return float("inf")
