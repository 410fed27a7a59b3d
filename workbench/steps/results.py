"""What a walk over the steps gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import pandas as pd

from workbench.steps.names import STEPS

Status = Literal["same", "within", "differs", "absent"]
"""Exactly equal, equal within the tolerance, different, or not there on both sides."""

MARKS = {"same": "=", "within": "≈", "differs": "✗", "absent": "·"}
COLUMNS = (
    "uri", "baseline", "candidate", "step", "status", "max_abs_diff", "num_different", "num_values",
    "start", "end", "words",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StepDifference:
    """One step of one recording on two sides.

    Attributes
    ----------
    max_abs_diff : largest difference; of labels and turns the number or seconds that moved
    num_different, num_values : elements over the tolerance, and all
    index, values : the first element over the tolerance, and what both sides have there
    at : start and end (s) of that element
    start, end : s, from the first to the last element over the tolerance
    words : one sentence
    """

    step: str
    status: Status
    max_abs_diff: float | None = None
    num_different: int = 0
    num_values: int = 0
    index: tuple[int, ...] | None = None
    values: tuple[Any, Any] | None = None
    at: tuple[float, float] | None = None
    start: float | None = None
    end: float | None = None
    words: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class RecordingWalk:
    """All steps of one recording on two sides."""

    uri: str
    baseline: str
    candidate: str
    steps: tuple[StepDifference, ...]

    @property
    def first(self) -> StepDifference | None:
        """The first step that differs."""
        return next((step for step in self.steps if step.status == "differs"), None)


@dataclass(frozen=True, kw_only=True, eq=False)
class StepsWalk:
    """All recordings, for every two sides that were compared.

    Attributes
    ----------
    sides : their names, in the order given
    walks : one per recording and pair of sides
    failed : (uri, error)
    remarks : what was left out, in words
    """

    sides: tuple[str, ...]
    walks: tuple[RecordingWalk, ...]
    failed: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Which sides were compared with which."""
        return list(dict.fromkeys((walk.baseline, walk.candidate) for walk in self.walks))

    def of(self, baseline: str, candidate: str) -> list[RecordingWalk]:
        """The recordings of one pair."""
        return [w for w in self.walks if (w.baseline, w.candidate) == (baseline, candidate)]

    def first(self, baseline: str, candidate: str) -> tuple[str, StepDifference] | None:
        """Recording and difference of the earliest step that differs between two sides."""
        order = [step.name for step in STEPS]
        found = [(w.uri, w.first) for w in self.of(baseline, candidate) if w.first is not None]
        return min(found, key=lambda pair: order.index(pair[1].step), default=None)

    @property
    def agree(self) -> bool:
        """Whether something was compared and no step differs."""
        compared = [step for walk in self.walks for step in walk.steps if step.status != "absent"]
        return bool(compared) and not self.failed and all(step.status != "differs" for step in compared)

    @property
    def verdict(self) -> list[str]:
        """A sentence for every two sides."""
        lines = []
        for baseline, candidate in self.pairs:
            walks = self.of(baseline, candidate)
            compared = {s.step for w in walks for s in w.steps if s.status != "absent"}
            found = self.first(baseline, candidate)
            if not compared:
                lines.append(f"{baseline} and {candidate} have no step in common: nothing was compared.")
            elif found is None:
                exact = all(s.status in ("same", "absent") for w in walks for s in w.steps)
                how = "exactly" if exact else "within the tolerances"
                lines.append(
                    f"{candidate} agrees with {baseline} {how} in all {len(compared)} steps they share."
                )
            else:
                uri, step = found
                where = f" [{uri}]" if len(walks) > 1 else ""
                lines.append(
                    f"{candidate} first differs from {baseline} in step {step.step}{where}: {step.words}."
                )
        return lines or ["Nothing was compared."]

    def table(self) -> pd.DataFrame:
        """One row per recording, pair of sides and step; columns `COLUMNS`."""
        rows = [
            {"uri": walk.uri, "baseline": walk.baseline, "candidate": walk.candidate, **asdict(step)}
            for walk in self.walks
            for step in walk.steps
        ]
        return pd.DataFrame([{name: row[name] for name in COLUMNS} for row in rows], columns=list(COLUMNS))

    def values(self) -> pd.DataFrame:
        """The first element that differs in every step, as either side has it.

        Returns
        -------
        values : DataFrame
            `uri`, `candidate`, `step`, `element` (axes and numbers), `time` (s, its start; NaN where nobody
            knows), `baseline_value`, `candidate_value`, `num_different` (elements of the step).
        """
        axes = {step.name: step.axes for step in STEPS}
        rows = [
            (
                walk.uri,
                walk.candidate,
                step.step,
                ", ".join(f"{axis} {i}" for axis, i in zip(axes[step.step], step.index or (), strict=False)),
                step.at[0] if step.at is not None else float("nan"),
                *step.values,
                step.num_different,
            )
            for walk in self.walks
            if walk.baseline == self.sides[0]
            for step in walk.steps
            if step.values is not None
        ]
        columns = ("uri", "candidate", "step", "element", "time", "baseline_value", "candidate_value")
        return pd.DataFrame(rows, columns=[*columns, "num_different"])

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        return {
            "sides": list(self.sides),
            "agree": self.agree,
            "verdict": self.verdict,
            "first": [
                {"baseline": b, "candidate": c, "uri": found[0], **found[1].to_json()}
                for b, c in self.pairs
                if (found := self.first(b, c)) is not None
            ],
            "recordings": {
                uri: [
                    {
                        "baseline": walk.baseline,
                        "candidate": walk.candidate,
                        "steps": [step.to_json() for step in walk.steps],
                    }
                    for walk in self.walks
                    if walk.uri == uri
                ]
                for uri in dict.fromkeys(walk.uri for walk in self.walks)
            },
            "remarks": list(self.remarks),
            "failed": [{"uri": uri, "error": error} for uri, error in self.failed],
        }
