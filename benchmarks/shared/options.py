"""Options that all benchmarks have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def common_options(rounds: int, quick: dict[str, Any]) -> Callable[[Callable], Callable]:
    """`--cache`, `--rounds` and `--quick`, which gives other options the values in `quick` where they aren't given."""

    def shrink(context: click.Context, _: click.Parameter, asked: bool) -> bool:
        if asked:
            context.default_map = {"cache": "runs/bench-quick", "rounds": 1} | quick
        return asked

    options = (
        click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True),
        click.option("--rounds", default=rounds, show_default=True),
        click.option(
            "--quick",
            is_flag=True,
            is_eager=True,
            callback=shrink,
            help="Whether ours runs at all, in seconds: small sizes, no competitors; figures mean nothing.",
        ),
    )

    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
