"""CPU, memory, disk and GPU."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from workbench.doctor.checks import Check, said

_LITTLE_MEMORY, _LITTLE_DISK = 4 * 2**30, 2 * 2**30


def examine_machine() -> Iterator[Check]:
    """CPU, memory, disk and GPU."""
    yield Check(section="machine", name="system", value=f"{platform.platform()}, {platform.machine()}")
    model, flags = _cpu()
    shown = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    slow = bool(flags) and platform.machine() == "x86_64" and "avx2" not in flags
    yield Check(
        section="machine",
        name="CPU",
        value=f"{model or platform.processor() or 'unknown'}{' (' + ' '.join(shown) + ')' if shown else ''}",
        status="warning" if slow else "ok",
        fix="without AVX2 models run several times slower; use another machine" if slow else "",
    )
    usable, reason = usable_cores()
    total = os.cpu_count() or 1
    yield Check(
        section="machine",
        name="cores",
        value=f"{usable:g} usable of {total}{reason}",
        status="note" if usable < total else "ok",
        fix=f"libraries may start {total} threads: say threads={max(1, int(usable))} in runtime strings, and "
        f"OMP_NUM_THREADS={max(1, int(usable))}"
        if usable < total
        else "",
    )
    memory = usable_memory()
    if memory is not None:
        little = memory < _LITTLE_MEMORY
        yield Check(
            section="machine",
            name="memory",
            value=f"{memory / 2**30:.1f} GiB usable",
            status="warning" if little else "ok",
            fix="use --batch-size 1 and short recordings" if little else "",
        )
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    yield Check(
        section="machine",
        name="temporary files",
        value=f"{free / 2**30:.1f} GiB free in {folder}",
        status="warning" if free < _LITTLE_DISK else "ok",
        fix="set TMPDIR to a folder with more space" if free < _LITTLE_DISK else "",
    )
    gpus = find_gpus()
    yield Check(section="machine", name="GPU", value="; ".join(gpus) or "none found")


def _cpu() -> tuple[str, set[str]]:
    """Model and abilities, as Linux says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "", set()
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    return found.get("model name", ""), set(found.get("flags", found.get("Features", "")).split())


def usable_cores() -> tuple[float, str]:
    """Cores that this process may use, and what limits them, in words."""
    total = os.cpu_count() or 1
    usable: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    reason = " (the process is bound to them)" if usable < total else ""
    quota = cpu_quota()
    if quota is not None and quota < usable:
        return quota, " (limit of the container)"
    return usable, reason


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores' worth of time that a container grants, None without a limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()[:2]
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu/cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return None
    return quota / period_us if quota > 0 else None


def usable_memory(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes of memory: the machine's, or the container's limit where that is lower."""
    sizes = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            sizes.append(int((root / name).read_text()))
        except (OSError, ValueError):
            continue
    return min(sizes, default=None)


def find_gpus() -> list[str]:
    """NVIDIA devices by name, memory and driver; empty without a driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    text = said([program, *query])
    return [line.strip() for line in text.splitlines() if line.count(",") == 2]
