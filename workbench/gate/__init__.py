"""A report against a committed one: passes or fails, and fails wherever nothing was measured.

Works on the JSON reports of `parity`, `score`, `compare` and `benchmark`. A budget says how much worse each
number may be: by `max(abs, rel * baseline)`, never above `max`, and for error rates only if the confidence
bound of the paired difference says so. The gate reads both reports and writes neither: no baseline ever
promotes itself.
"""

from __future__ import annotations

from workbench.gate.check import Check, GateResult, check_report, gate_files
from workbench.gate.limits import DEFAULT, Budget, Limit, read_budget
from workbench.gate.pages import gate_html, junit_xml

__all__ = [
    "DEFAULT",
    "Budget",
    "Check",
    "GateResult",
    "Limit",
    "check_report",
    "gate_files",
    "gate_html",
    "junit_xml",
    "read_budget",
]
