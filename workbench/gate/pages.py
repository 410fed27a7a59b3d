"""What a gate found, for continuous integration (JUnit XML) and for people (one small HTML page)."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree

from workbench.gate.check import Check, GateResult

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 22px; }
.verdict { padding: 12px 16px; border-left: 6px solid; background: rgba(125,133,144,.12); }
.pass { border-color: #009e73; } .fail { border-color: #d55e00; } .warn { border-color: #e69f00; }
table { border-collapse: collapse; font-size: 13px; width: 100%; }
td, th { padding: 4px 10px; text-align: left; vertical-align: top;
  border-bottom: 1px solid rgba(125,133,144,.3); }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.words { overflow-wrap: anywhere; } .scroll { overflow-x: auto; }
small { color: #7d8590; overflow-wrap: anywhere; }
"""
_MARKS = {"pass": "✓ pass", "fail": "✗ fail", "warn": "! look"}
_ORDER = ("fail", "warn", "pass")


def junit_xml(result: GateResult) -> bytes:
    """A test case per check; warnings are written to a case's output, for JUnit knows none."""
    verdict = Check(
        metric="verdict", where="overall", outcome="pass" if result.passed else "fail", words=result.verdict
    )
    checks = [*result.checks, *([verdict] if not result.passed and not result.failures else [])]
    suite = ElementTree.Element(
        "testsuite",
        name=f"workbench gate: {result.kind}",
        tests=str(len(checks)),
        failures=str(sum(check.outcome == "fail" for check in checks)),
        errors="0",
        skipped="0",
    )
    for check in checks:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=_clean(f"{result.kind}.{check.where}"),
            name=_clean(f"{check.metric} [{check.where}]"),
        )
        if check.outcome == "fail":
            ElementTree.SubElement(case, "failure", message=_clean(check.words)).text = _clean(check.words)
        elif check.outcome == "warn":
            ElementTree.SubElement(case, "system-out").text = _clean(f"warning: {check.words}")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def gate_html(result: GateResult) -> str:
    """One page: the verdict, then every check, failures first; no script, nothing loaded from elsewhere."""
    rows = "".join(
        f'<tr><td class="{check.outcome}">{_MARKS[check.outcome]}</td><td>{html.escape(check.metric)}</td>'
        f"<td>{html.escape(check.where)}</td>{_number(check.baseline)}{_number(check.current)}"
        f'{_number(check.limit)}<td class="words">{html.escape(check.words)}</td></tr>\n'
        for outcome in _ORDER
        for check in result.checks
        if check.outcome == outcome
    )
    state = "pass" if result.passed else "fail"
    title = f"Gate: {result.kind} {'passed' if result.passed else 'FAILED'}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="verdict {state}">{html.escape(result.verdict)}</p>\n'
        f"<p><small>report {html.escape(result.report)}<br>"
        f"baseline {html.escape(result.baseline)}</small></p>\n"
        '<div class="scroll"><table><tr><th></th><th>metric</th><th>where</th><th>baseline</th><th>now</th>'
        f"<th>allowed</th><th>in words</th></tr>\n{rows}</table></div>\n</body></html>\n"
    )


def _number(value: float | None) -> str:
    return f'<td class="number">{"" if value is None else f"{value:.6g}"}</td>'


def _clean(text: str) -> str:
    """Text without the characters that XML cannot hold."""
    return _FORBIDDEN.sub("�", text)
