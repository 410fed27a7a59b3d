from __future__ import annotations

import subprocess
import sys

import pytest
from command import run

import workbench

COMMANDS = ("diarize", "infer", "cluster", "export", "score", "report")


def test_help_names_every_command():
    text = run("--help").stdout
    assert all(f" {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"workbench {command} " in result.stdout.split("Usage:")[1].split("\n", 1)[1]
    for option in ("--json", "--quiet", "--debug"):
        assert option in result.stdout


def test_the_module_is_the_script():
    shown = subprocess.run(
        [sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"workbench {workbench.__version__}\n"


def test_an_unknown_command_ends_with_code_2():
    result = run("diarise")
    assert result.exit_code == 2
    assert "diarise" in result.stderr


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from workbench.cli import app\n"
        "print(*{'torch', 'scipy', 'pandas', 'onnxruntime', 'pyannote', 'plotly'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == ""
