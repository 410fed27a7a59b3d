"""What this machine and environment offer, and what is known to go wrong with them, with its fix.

Every check works where the thing it looks for is missing: a broken environment is what it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from workbench.doctor.checks import Check
from workbench.doctor.engines import examine_engines
from workbench.doctor.machine import examine_machine
from workbench.doctor.packages import examine_packages
from workbench.doctor.settings import examine_settings
from workbench.doctor.tools import examine_tools

__all__ = ["Check", "Diagnosis", "examine"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Everything that was looked at."""

    checks: tuple[Check, ...]

    @property
    def problems(self) -> tuple[Check, ...]:
        """Checks without which nothing works well."""
        return tuple(check for check in self.checks if check.status == "problem")

    def __getitem__(self, name: str) -> Check:
        """The check of a name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"ok": not self.problems, "checks": [asdict(check) for check in self.checks]}


def examine() -> Diagnosis:
    """Look at the machine, the packages, the engines, the tools and the settings.

    Examples
    --------
    >>> examine()["Python"].status
    'ok'
    """
    parts: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
        ("machine", examine_machine),
        ("packages", examine_packages),
        ("engines", examine_engines),
        ("tools", examine_tools),
        ("settings", examine_settings),
    )
    checks: list[Check] = []
    for section, part in parts:
        try:
            checks += part()
        except Exception as error:  # a diagnosis that ends in a traceback helps nobody
            text = f"{type(error).__name__}: {error}"
            fix = "please report this, with workbench doctor --json -"
            checks.append(Check(section=section, name="examination", value=text, status="warning", fix=fix))
    return Diagnosis(checks=tuple(checks))
