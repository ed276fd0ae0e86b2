import dataclasses
import errno
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from rnagan.commands.config_options import config_options, read_config
from rnagan.commands.options import plain_errors
from rnagan.config.base import Config, setting
from rnagan.config.vae import VAEConfig


@dataclasses.dataclass(frozen=True)
class Example(Config):
    batch_size: int = setting(3, "tiles a step", low=1)
    rate: float = setting(0.5, "share of something")
    kind: str = setting("a", "which", choices=("a", "b"))
    fast: bool = setting(True, "whether to hurry")


@click.command()
@click.option("--config", "config_file")
@config_options(Example, only=("batch_size", "kind", "fast"))
@plain_errors
def script(settings, config_file):
    """An example."""
    click.echo(repr((settings, read_config(Example, config_file, settings).to_dict())))


def run(*arguments, command=script):
    return CliRunner().invoke(command, list(map(str, arguments)))


def output(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return eval(result.output)


def test_only_options_that_were_given_are_settings():
    assert output()[0] == {}
    assert output("--batch-size", 7, "--no-fast", "--kind", "b")[0] == {"batch_size": 7, "fast": False, "kind": "b"}
    assert output("--fast")[0] == {"fast": True}


def test_help_tells_meaning_default_and_choices():
    text = " ".join(run("--help").output.split())
    for part in ("--batch-size INTEGER tiles a step [default: 3]", "--kind [a|b]", "--fast / --no-fast", "An example."):
        assert part in text
    assert "--rate" not in text
    assert text.index("--batch-size") < text.index("--kind") < text.index("--fast")  # in the order of the fields


def test_defaults_then_file_then_flags(tmp_path):
    (tmp_path / "c.yaml").write_text("batch_size: 8\nkind: b\n")
    resolved = output("--config", tmp_path / "c.yaml", "--batch-size", 9)[1]
    assert resolved == {"batch_size": 9, "rate": 0.5, "kind": "b", "fast": True}


def test_preset_comes_before_file(tmp_path):
    (tmp_path / "c.yaml").write_text("latent: 5\nnorm: layer\n")
    config = read_config(VAEConfig, str(tmp_path / "c.yaml"), {"latent": 6}, preset="released")
    assert (config.latent, config.norm, config.output) == (6, "layer", "tanh")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--batch-size", 0], 1, "Error: batch_size must be at least 1, not 0 (tiles a step)."),
        (["--kind", "c"], 2, "Invalid value for '--kind'"),
        (["--batch-size", "many"], 2, "Invalid value for '--batch-size'"),
        (["--config", "none.yaml"], 1, "Error: The config file none.yaml does not exist."),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, code, sentence):
    result = run(*arguments)
    assert result.exit_code == code and sentence in result.output and "Traceback" not in result.output


def failing(error):
    @click.command()
    @plain_errors
    def command():
        raise error

    return run(command=command)


def test_errors_of_ours_and_of_the_system_become_a_sentence():
    assert failing(ValueError("It is wrong.")).output == "Error: It is wrong.\n"
    assert failing(FileNotFoundError("x.csv does not exist.")).output == "Error: x.csv does not exist.\n"
    full = failing(OSError(errno.ENOSPC, "No space left on device", "big.tar"))
    assert full.exit_code == 1 and full.output == (
        "Error: the disk is full (big.tar); free space and start again, what is finished is kept.\n"
    )
    assert "(while writing)" in failing(OSError(errno.ENOSPC, "No space left on device")).output
    denied = failing(PermissionError(errno.EACCES, "Permission denied", "x")).output
    assert denied.startswith("Error: x can't be opened, permission is denied; ")


def test_a_mistake_of_ours_keeps_its_traceback():
    for error in (RuntimeError("shape"), AssertionError(), KeyError("x")):
        assert failing(error).exception is error


def test_the_commands_name_and_help_stay():
    @plain_errors
    def command():
        """What it does."""

    assert (command.__name__, command.__doc__) == ("command", "What it does.")


def test_a_warning_for_users_is_one_line_without_code() -> None:
    program = (
        "import warnings, click; from rnagan.commands.options import plain_errors\n"
        "@click.command()\n@plain_errors\ndef main():\n"
        "    warnings.warn('2 profiles are far.')\n    warnings.warn('old', FutureWarning)\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    shown = done.stderr.splitlines()
    assert shown[0] == "Warning: 2 profiles are far." and "<string>:6: FutureWarning: old" in shown[1]
