"""The console script `rnagan`: each module of this folder is a sub-command, imported when it is asked for."""

import ast
import importlib
from pathlib import Path
from typing import Any

import click

from rnagan import __version__
from rnagan.runtime.ends import answered_signals

FOLDER = Path(__file__).parent
NO_COMMANDS = ("__init__", "build_report", "config_options", "main", "options", "serving_options")


def command_modules() -> list[str]:
    """Names of the modules that are commands, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem not in NO_COMMANDS)


def short_help(module: str) -> str:
    """The first sentence of a module's docstring; the module is not imported."""
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split()).partition(". ")[0].rstrip(".")


class Commands(click.Group):
    """A group that imports no command but the one that is started."""

    def invoke(self, ctx: click.Context) -> Any:
        """Import and run a command; a signal is answered while it is still being imported."""
        with answered_signals():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [module.replace("_", "-") for module in command_modules()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, which may also be written with underscores."""
        module = cmd_name.replace("-", "_")
        return importlib.import_module(f"rnagan.commands.{module}").main if module in command_modules() else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(module.replace("_", "-"), short_help(module)) for module in command_modules()])


@click.group(cls=Commands)
@click.version_option(__version__, prog_name="rnagan")
def main() -> None:
    """Generate H&E tissue tiles from gene expression, train on many GPUs, and prove what is claimed.

    `rnagan NAME --help` lists the options of a command.
    """
