"""The console script `rnagan`."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from rnagan import __version__
from rnagan.commands.main import FOLDER, command_modules, main, short_help


def test_help_lists_every_command_with_its_sentence() -> None:
    done = CliRunner().invoke(main, ["--help"], terminal_width=200, max_content_width=200)
    listed = " ".join(done.output.split())
    assert done.exit_code == 0
    for module in command_modules():
        assert f"{module.replace('_', '-')} {short_help(module)}" in listed, module
    assert len(command_modules()) >= 26


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from rnagan.commands.main import main; "
        "CliRunner().invoke(main, ['--help']); CliRunner().invoke(main, ['sync-mlflow', '--help']); "
        "print(*sorted(name for name in sys.modules if name.startswith('rnagan.commands.') or name == 'torch'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [f"rnagan.commands.{name}" for name in ("main", "options", "sync_mlflow")]


def test_a_command_may_be_spelt_as_its_module() -> None:
    hyphens, underscores = (CliRunner().invoke(main, [name, "--help"]) for name in ("build-tiles", "build_tiles"))
    assert hyphens.exit_code == underscores.exit_code == 0
    assert hyphens.output.splitlines()[1:] == underscores.output.splitlines()[1:]
    assert hyphens.output.startswith("Usage: main build-tiles [OPTIONS]")


def test_an_unknown_command_is_refused() -> None:
    for name in ("mint-tiles", "options", "main", "__init__"):
        done = CliRunner().invoke(main, [name])
        assert done.exit_code == 2 and f"No such command '{name}'" in done.output


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"rnagan, version {__version__}\n"


def test_every_command_answers_errors_and_signals() -> None:
    """75, 130 and one sentence are `plain_errors`, over all that a command does."""
    for module in command_modules():
        text = (FOLDER / f"{module}.py").read_text(encoding="utf-8")
        commands = re.findall(r"^@(?:click|main)\.command\(.*\)\n(.*)\n", text, re.MULTILINE)
        assert commands and set(commands) == {"@options.plain_errors"}, module


@pytest.mark.attack(kind=6)
def test_ctrl_c_while_a_command_is_imported() -> None:
    program = (
        "import importlib, signal; from rnagan.commands.main import main; "
        "importlib.import_module = lambda name: signal.raise_signal(signal.SIGINT); main(['train-vae'])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "Interrupted; what is finished is kept, start again to go on.\n")
