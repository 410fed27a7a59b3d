"""What the commands say: results on standard output, everything else on standard error."""

from __future__ import annotations

import math
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from workbench.errors import InputError, RecordingError
from workbench.files import atomic_write, json_bytes


class Progress:
    """A bar over the work of all recordings on a terminal, one plain line per recording elsewhere.

    Parameters
    ----------
    total : amount of work, in `unit`
    unit : what is counted
    quiet : show nothing but failures
    """

    def __init__(self, total: float, unit: str, quiet: bool = False):
        self.quiet = quiet
        self._bar = None if quiet or not sys.stderr.isatty() else make_bar(total, unit)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, name: str) -> None:
        """Name what is being worked on."""
        if self._bar is not None:
            self._bar.set_description_str(name)

    def advance(self, amount: float) -> None:
        """Count `amount` of the work as done."""
        if self._bar is not None:
            self._bar.update(amount)

    def say(self, line: str) -> None:
        """A line that stays, unless quiet."""
        if not self.quiet:
            self.always(line)

    def always(self, line: str, colour: str | None = None) -> None:
        """A line that stays, above the bar if there is one."""
        if self._bar is not None:
            self._bar.clear()
        typer.secho(line, err=True, fg=colour)
        if self._bar is not None:
            self._bar.refresh()


def make_bar(total: float, unit: str) -> Any:
    """A tqdm bar; None where tqdm is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    shape = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed} < {remaining}]"
    return tqdm(total=total, unit=unit, bar_format=shape, dynamic_ncols=True, leave=False, file=sys.stderr)


def work_through(
    uris: Iterable[str], work: Callable[[str], None], progress: Progress, *, debug: bool = False
) -> list[dict[str, str]]:
    """Call `work` for every recording; one that fails is named, and the others go on.

    Returns
    -------
    failed : list of ``{"uri", "error"}``, as every command's JSON has it
    """
    failed: list[dict[str, str]] = []
    for uri in uris:
        progress.start(uri)
        try:
            work(uri)
        except InputError:
            raise  # a model, an option or the output folder: it would fail for every recording
        except Exception as error:  # one recording must not lose the others, whatever is wrong with it
            expected = isinstance(error, RecordingError)
            reason = str(error) if expected else f"{type(error).__name__}: {error}"
            if debug and not expected:
                progress.always(traceback.format_exc())
            failed.append({"uri": uri, "error": reason})
            progress.always(f"FAILED {uri}: {reason}", colour="red")
    return failed


def finish(failed: list[dict[str, str]], num_recordings: int) -> None:
    """Leave with exit code 1 if any recording failed, after a closing line."""
    if failed:
        typer.secho(f"{len(failed)} of {num_recordings} recordings failed", err=True, fg="red")
        raise typer.Exit(1)


def print_json(target: Path | None, report: dict[str, Any]) -> None:
    """Write `report` to the file `target`, or to standard output if that is `-`; None: nowhere."""
    if target is None:
        return
    content = json_bytes(finite(report))
    if str(target) == "-":
        typer.echo(content, nl=False)  # bytes: JSON is UTF-8, whatever the terminal is
        return
    with atomic_write(target) as temporary:
        temporary.write_bytes(content)


def finite(value: Any) -> Any:
    """`value` with null for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        value = value.item()  # a numpy scalar
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def check_outputs(folders: Iterable[Path | None] = (), files: Iterable[Path | None] = ()) -> None:
    """Make the folders that results go to; fail now, not after hours of work, if that is impossible."""
    for folder in folders:
        if folder is not None:
            check_folder(folder)
    for file in files:
        if file is None or str(file) == "-":
            continue
        if file.is_dir():
            raise InputError.at(file, "is a folder, but a file is to be written there; name a file in it")
        check_folder(file.parent)


def check_folder(folder: Path) -> None:
    """Create `folder` if need be, and try to write into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError.at(
            folder, f"cannot be written to ({error.strerror or error}); choose another output folder"
        ) from None


def plural(number: int, noun: str) -> str:
    """`number` with `noun`, which gets an s unless there is one of it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
