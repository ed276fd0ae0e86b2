"""What every script shares: options made from a config dataclass, and one sentence for a user's mistake."""

import dataclasses
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

# Threads that spin while they wait starve one another on a shared machine (ten times slower, measured). It must be set
# before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from rnagan.config.base import C, Config, field_types, read_preset, resolve
from rnagan.io.files import read_yaml
from rnagan.runtime.workers import Workers


def config_options(kind: type[Config], only: tuple[str, ...] = ()) -> Callable:
    """Decorator: one `--option` for each field of a config dataclass, or for those in `only`, with its meaning as help.

    The command receives only the options that were given, as keyword `settings`: a dict of field values.
    """
    types = field_types(kind)
    fields = [field for field in dataclasses.fields(kind) if not only or field.name in only]

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, **kwargs: Any) -> Any:
            given = {field.name: kwargs.pop(field.name) for field in fields}
            settings = {name: value for name, value in given.items() if value is not None}
            return command(*args, settings=settings, **kwargs)

        for field in reversed(fields):
            gathered = _option(field, types[field.name])(gathered)
        return gathered

    return decorate


def _option(field: dataclasses.Field, kind: type) -> Callable:
    name = "--" + field.name.replace("_", "-")
    choices = field.metadata.get("choices")
    default = "" if field.default is dataclasses.MISSING else f"  [default: {field.default}]"
    text = field.metadata["meaning"] + default
    if kind is bool:
        return click.option(f"{name}/--no-{name[2:]}", field.name, default=None, help=text)
    return click.option(name, field.name, type=click.Choice(choices) if choices else kind, default=None, help=text)


def read_config(kind: type[C], config_file: str | None, settings: dict[str, Any], preset: str | None = None) -> C:
    """Defaults < preset < the YAML file < the flags, checked as a whole."""
    from_preset = read_preset(kind, preset) if preset else {}
    from_file = read_yaml(config_file) if config_file else {}
    return resolve(kind, from_preset, from_file, settings)


def run_tags(preset: str, sweep: str | None) -> dict[str, str]:
    """What a training script knows of a run beside its settings, for MLflow's filters."""
    return {"preset": preset} | ({"sweep": sweep} if sweep else {})


def worker_options(default_processes: int) -> Callable:
    """Decorator: the options that say where jobs run; the command receives them as keyword `workers`."""
    options = (
        click.option("--processes", type=click.IntRange(1), default=default_processes, help="Worker processes here."),
        click.option(
            "--scheduler", metavar="ADDRESS", help="A running Dask scheduler instead, such as tcp://node1:8786."
        ),
        click.option(
            "--slurm",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="SLURM jobs as workers instead: a YAML file of dask-jobqueue's SLURMCluster settings, and jobs: N.",
        ),
    )

    def decorate(command: Callable) -> Callable:
        @functools.wraps(command)
        def gathered(*args: Any, processes: int, scheduler: str | None, slurm: Path | None, **kwargs: Any) -> Any:
            return command(*args, workers=Workers(processes, scheduler, slurm), **kwargs)

        for option in reversed(options):
            gathered = option(gathered)
        return gathered

    return decorate


def plain_errors(command: Callable) -> Callable:
    """Decorator: `ValueError` and `OSError` become one sentence and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise click.ClickException(
                    f"the disk is full ({error.filename or 'while writing'}); free space and start again, "
                    "what is finished is kept."
                ) from None
            raise click.ClickException(str(error)) from None
        except ValueError as error:
            raise click.ClickException(str(error)) from None

    return wrapped
