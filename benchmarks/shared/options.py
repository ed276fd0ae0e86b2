"""The commands of the benchmarks, which have their options alike."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

CACHE, QUICK_CACHE = "runs/bench", "runs/bench-quick"
_PATH = click.Path(path_type=Path)

takes_data = click.option("--data", type=_PATH, default="../shared/data", show_default=True, help="Real data.")


def benchmark(*options: Callable, **sizes: tuple[Any, Any, str]) -> Callable[[Callable], click.Command]:
    """A command of a function that takes the values of all options; its help is the module's docstring.

    `sizes`: of an option its usual value, the one with `--quick`, and its help.
    """

    def shrink(context: click.Context, _: click.Parameter, quick: bool) -> bool:
        if quick:
            context.default_map = {"cache": QUICK_CACHE} | {name: small for name, (_, small, _) in sizes.items()}
        return quick

    def option(name: str, usual: Any, text: str) -> Callable:
        name, count = name.replace("_", "-"), len(usual) if isinstance(usual, tuple) else 1
        names = f"--{name}/--no-{name}" if isinstance(usual, bool) else f"--{name}"
        return click.option(names, default=usual, nargs=count, show_default=True, help=text)

    def decorate(function: Callable[[SimpleNamespace], None]) -> click.Command:
        def command(**given: Any) -> None:
            function(SimpleNamespace(**given))

        about = "Whether ours runs at all, in seconds: small sizes, no competitors. Its figures mean nothing."
        for each in (
            *(option(name, usual, text) for name, (usual, _, text) in reversed(sizes.items())),
            *options,
            click.option("--quick", is_flag=True, is_eager=True, callback=shrink, help=about),
            click.option("--cache", type=_PATH, default=CACHE, show_default=True),
        ):
            command = each(command)
        return click.command(help=sys.modules[function.__module__].__doc__)(command)

    return decorate
