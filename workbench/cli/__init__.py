"""The command `workbench`: every command parses, calls one function and prints.

Command modules import what they need when they run, so that `workbench infer` works where torch,
scipy and pandas are not installed, and `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from workbench import __version__
from workbench.cli import (
    benchmark,
    checkpoints,
    cluster,
    compare,
    compare_models,
    diarize,
    diff_checkpoints,
    doctor,
    embed,
    export,
    gate,
    infer,
    inspect,
    parity,
    plda,
    record,
    report,
    score,
    steps,
    swap,
    sweep,
    verify,
)
from workbench.cli.stopping import Interruption, full_words, is_full
from workbench.errors import InputError, RecordingError

UNUSABLE = 2  # exit code: the call or an input as a whole
PIPE_CLOSED = 141  # exit code, as shells have it for SIGPIPE


class Commands(TyperGroup):
    """Runs a command and turns what goes wrong into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """The command's result; errors never get past here as tracebacks, unless `--debug` asks for them."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = show_warning
                # addressed to whoever calls these libraries, not to whoever calls us
                warnings.filterwarnings("ignore", module=r"(torch|onnx|onnxruntime|onnxscript|sklearn)(\.|$)")
                return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise  # wrong options: Typer explains them and exits with code 2
        except BrokenPipeError:
            # The reader of our output went away (`workbench score ... | head`); what is still
            # buffered goes nowhere, otherwise Python complains while it shuts down.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt:
            raise typer.Exit(Interruption.exit_code()) from None
        except Exception as error:
            if Interruption.seen:
                # A library that was just being imported can turn the interrupt into an error of its own.
                raise typer.Exit(Interruption.exit_code()) from None
            if ctx.meta.get("debug", False):
                traceback.print_exc()
            else:
                typer.secho(message_of(error, ctx.meta.get("out")), err=True, fg="red")
            raise typer.Exit(UNUSABLE) from None


def message_of(error: Exception, out: Path | None = None) -> str:
    """What the user is told: our own errors speak for themselves, others are named.

    Parameters
    ----------
    out : folder that results go to, where the command has one
    """
    if isinstance(error, InputError | RecordingError):
        return str(error)
    if isinstance(error, OSError) and is_full(error):
        return full_words(error, out)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror or error}"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the package {error.name} is not installed, and this command needs it: pip install {error.name}"
        )
    return f"unexpected {type(error).__name__}: {error} (--debug shows where)"


def show_warning(message: Warning | str, *_where: object, **_also: object) -> None:
    """A warning as one line, without the place in our code that Python would add."""
    typer.secho(f"warning: {message}", err=True, fg="yellow")


def show_version(value: bool) -> None:
    """Print the version and leave."""
    if value:
        typer.echo(f"workbench {__version__}")
        raise typer.Exit


def examples(lines: Sequence[str]) -> str | None:
    """Commands to copy, as they stand at the end of a help page."""
    return (
        "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  [cyan]{line}[/cyan]" for line in lines)
        if lines
        else None
    )


def reflow(text: str | None) -> str:
    """Paragraphs as single lines, so that the terminal's width decides where they break."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


app = typer.Typer(
    name="workbench",
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        [
            "workbench diarize meeting.wav --hub models/demo --out hypothesis",
            "workbench score reference.rttm hypothesis",
        ]
    ),
)


ABOUT = """[bold]Diarization Workbench[/bold]: who spoke when, and why the system thinks so.

A model is named by one string everywhere: [cyan]torch:PATH@CHECKPOINT[/cyan], [cyan]onnx:FILE.onnx[/cyan] or
[cyan]recorded:DIR[/cyan], with options as in a web address ([cyan]?device=cuda&threads=1[/cyan])."""


@app.callback(help=reflow(ABOUT))
def workbench(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `workbench` itself; its help is `ABOUT`."""


RECORDINGS, MODELS, RESULTS = "Recordings", "Models", "Results"
PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    RECORDINGS: (diarize.diarize, infer.infer, record.record, embed.embed, cluster.cluster, sweep.sweep),
    MODELS: (
        inspect.inspect,
        export.export,
        checkpoints.checkpoints,
        compare_models.compare_models,
        diff_checkpoints.diff_checkpoints,
        benchmark.benchmark,
        doctor.doctor,
    ),
    RESULTS: (
        score.score,
        parity.parity,
        steps.steps,
        swap.swap,
        compare.compare,
        gate.gate,
        verify.verify,
        plda.plda,
        report.report,
    ),
}
for panel, commands in PANELS.items():
    for command in commands:
        module = sys.modules[command.__module__]
        app.command(
            cls=getattr(module, "PARSER", None),
            rich_help_panel=panel,
            help=reflow(command.__doc__),
            epilog=examples(getattr(module, "EXAMPLES", ())),
        )(command)


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no error
    signal.signal(signal.SIGINT, Interruption.handle)
    try:
        app()
    except SystemExit:
        if Interruption.seen:
            with suppress(OSError):  # the terminal is gone after SIGHUP
                typer.secho(Interruption.word(), err=True, fg="red")
            raise SystemExit(Interruption.exit_code()) from None
        raise
