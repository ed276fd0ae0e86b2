"""Rows of a table of generators: a name, a family, a preset and settings that differ from it."""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from rnagan.config.base import field_types, read_preset, resolve
from rnagan.config.families import CONFIGS, TileConfig
from rnagan.io.tables import first_few

DEFAULT_ROWS = {  # name: family and preset
    "wgan_gp": ("gan", "wgan_gp"),
    "relativistic": ("gan", "relativistic"),
    "features": ("gan", "features"),
    "two_critics": ("gan", "two_critics"),
    "flow": ("flow", "faithful"),
}
_NAME = re.compile(r"[A-Za-z0-9][\w-]{0,63}")
NEVER = 1_000_000_000  # images, which no budget reaches
# A run ends by its budget, so nothing else ends it or takes of it: no validations, no sample grids.
UNDER_A_BUDGET = {
    "images": NEVER,
    "threads": 1,
    "validate_every": 0,
    "sample_every": NEVER,
    "checkpoint_every": 20_000,
    "keep_checkpoints": 1,
}


@dataclasses.dataclass(frozen=True)
class GeneratorRow:
    """`name` in the table, `preset` of a `family`, and the whole `config` of its training, but for the seed."""

    name: str
    family: str
    preset: str
    config: TileConfig


def read_rows(named: Sequence[str], settings: Iterable[str]) -> list[GeneratorRow]:
    """The rows of a table. `named`: names of DEFAULT_ROWS, or NAME=FAMILY:PRESET; none: all of those.

    `settings`: SETTING=VALUE of each row whose family has it, FAMILY.SETTING=VALUE of the rows of a family, or
    NAME.SETTING=VALUE of a row; the nearer ones win. Raises `ValueError` with one sentence.
    """
    chosen = [_row(text) for text in named] or [(name, *own) for name, own in DEFAULT_ROWS.items()]
    names = [name for name, _, _ in chosen]
    if len(set(names)) < len(names):
        raise ValueError(f"Two rows have one name ({first_few(sorted(names))}); each needs its own.")
    scopes: dict[str, dict[str, str]] = {}
    for text in settings:
        path, equals, value = text.partition("=")
        scope, _, setting = path.rpartition(".")
        if not equals or not setting:
            raise ValueError(f"{text!r} is no setting: say SETTING=VALUE, FAMILY.SETTING=VALUE or ROW.SETTING=VALUE.")
        if scope and scope not in {*names, *CONFIGS, *DEFAULT_ROWS}:  # of rows that another call adds, too
            raise ValueError(f"{text!r}: there is no row and no family {scope} here, only {first_few(names)}.")
        scopes.setdefault(scope, {})[setting.replace("-", "_")] = value
    known = {name for _, family, _ in chosen for name in field_types(CONFIGS[family])}
    if unknown := sorted(set(scopes.get("", {})) - known):
        raise ValueError(f"No row has a setting {unknown[0]}.")
    return [
        GeneratorRow(name, family, preset, _config(name, family, preset, scopes)) for name, family, preset in chosen
    ]


def _row(text: str) -> tuple[str, str, str]:
    name, equals, what = text.partition("=")
    if not equals:
        if name not in DEFAULT_ROWS:
            raise ValueError(
                f"There is no row {name!r}; known are {', '.join(DEFAULT_ROWS)}, or say NAME=FAMILY:PRESET."
            )
        return (name, *DEFAULT_ROWS[name])
    family, colon, preset = what.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a row: use letters, digits, _ and -.")
    if family not in CONFIGS or not colon:
        raise ValueError(f"{text!r} is no row: say NAME=FAMILY:PRESET, of the families {' and '.join(CONFIGS)}.")
    if name in CONFIGS and name != family:
        raise ValueError(f"A row of family {family} can't be called {name}, as another family is.")
    read_preset(CONFIGS[family], preset)  # refuses one that isn't there
    return name, family, preset


def _config(name: str, family: str, preset: str, scopes: dict[str, dict[str, str]]) -> TileConfig:
    kind = CONFIGS[family]
    types = field_types(kind)
    of_all = {setting: value for setting, value in scopes.get("", {}).items() if setting in types}
    layers = [of_all, scopes.get(family, {}), {} if name == family else scopes.get(name, {})]
    budget = {setting: value for setting, value in UNDER_A_BUDGET.items() if setting in types}
    given = [{setting: _value(types.get(setting, str), value) for setting, value in own.items()} for own in layers]
    try:
        return resolve(kind, read_preset(kind, preset), budget, *given)
    except ValueError as error:
        raise ValueError(f"Row {name}: {error}") from None


def _value(kind: type, text: str) -> Any:
    """A value of a setting as it was said; one that isn't of its kind is left to the config's own check."""
    if kind is str:
        return text
    try:
        return yaml.safe_load(text) if kind is bool else kind(text)
    except (ValueError, yaml.YAMLError):
        return text
