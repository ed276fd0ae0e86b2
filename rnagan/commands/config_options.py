"""Options made from a config: one for each of its fields, its presets, and the config that they make."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rnagan.commands.options import PATH, group
from rnagan.config.base import C, Config, field_types, preset_names, read_preset, resolve, settings_of
from rnagan.io.files import read_yaml


def preset(kind: type[Config], default: str) -> Callable:
    """--preset and, as `config_file`, --config."""
    choice = click.Choice(preset_names(kind))
    return group(
        click.option("--preset", type=choice, default=default, show_default=True, help="Settings to start from."),
        click.option("--config", "config_file", type=PATH, help="YAML of settings: over the preset, under the flags."),
    )


def config_of(kind: type[Config], default: str, only: tuple[str, ...] = (), tagged: bool = False) -> Callable:
    """Decorator: --preset, --config and an option for each field (or each in `only`); the command receives `config`.

    `tagged` adds --sweep, and the command receives `tags` too: what MLflow's filters know of a run beside its settings.
    """
    sweep = click.option(
        "--sweep", envvar="RNAGAN_SWEEP", help="Runs of one name are one sweep's in MLflow. [env: RNAGAN_SWEEP]"
    )

    def decorate(command: Callable) -> Callable:
        @config_options(kind, only)
        @functools.wraps(command)
        def gathered(*args: Any, preset: str, config_file: Path | None, settings: dict, **kwargs: Any) -> Any:
            if tagged:
                given = {"preset": preset, "sweep": kwargs.pop("sweep")}
                kwargs["tags"] = {name: value for name, value in given.items() if value}
            return command(*args, config=read_config(kind, config_file, settings, preset), **kwargs)

        return group(preset(kind, default), *((sweep,) if tagged else ()))(gathered)

    return decorate


def config_options(kind: type[Config], only: tuple[str, ...] = ()) -> Callable:
    """Decorator: one `--option` for each field of a config dataclass, or for those in `only`, with its meaning as help.

    The command receives only the options that were given, as keyword `settings`: a dict of field values.
    """
    types = field_types(kind)
    fields = [field for field in settings_of(kind) if not only or field.name in only]

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


def read_config(
    kind: type[C], config_file: Path | str | None, settings: dict[str, Any], preset: str | None = None
) -> C:
    """Defaults < preset < the YAML file < the flags, checked as a whole."""
    from_preset = read_preset(kind, preset) if preset else {}
    from_file = read_yaml(config_file) if config_file else {}
    return resolve(kind, from_preset, from_file, settings)
