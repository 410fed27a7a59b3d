"""What a check found, in words and with a name that programs can look for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["note", "warning", "fault"]
"""`note`: worth knowing; `warning`: the comparison means less than it seems; `fault`: a side is wrong."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing found.

    Examples
    --------
    >>> print(Finding(kind="frame_shift", words="candidate is late by 3 frames (60.0 ms)"))
    candidate is late by 3 frames (60.0 ms)
    """

    kind: str  # such as `frame_shift`, `class_order`, `state_leak`
    words: str  # for people
    severity: Severity = "fault"
    side: str = ""  # `baseline`, `candidate`, or empty where both are meant
    details: Mapping[str, Any] = field(default_factory=dict)  # the numbers behind the words

    def __str__(self) -> str:
        return self.words

    def to_json(self) -> dict[str, Any]:
        """As reports have it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "side": self.side,
            "words": self.words,
            "details": dict(self.details),
        }


def unique(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Every finding once, by its words."""
    return tuple({finding.words: finding for finding in findings}.values())
