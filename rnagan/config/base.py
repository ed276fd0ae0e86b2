"""The base of all settings: frozen dataclasses, one line of meaning and unit a field.

Defaults < preset or config YAML < flags. The resolved config is saved beside what it made.
"""

import dataclasses
import operator
import typing
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import yaml

from rnagan.io.files import read_yaml, sha256_of, write_text


def setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A config field: its default, what it means with its unit, and the values it may take (bounds included)."""
    metadata = {"meaning": meaning, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all configs: checks every field's type, choices and bounds on construction."""

    # What a layer of settings takes back of the layers before it, by the setting that it gives.
    takes_back: ClassVar[dict[str, dict[str, Any]]] = {}

    def __post_init__(self) -> None:
        types = field_types(type(self))
        for field in dataclasses.fields(self):
            kind, value = types[field.name], getattr(self, field.name)
            _check_field(type(self).__name__, field, kind, value)
            object.__setattr__(self, field.name, kind(value))  # 10 and 10.0 are the same setting, with the same digest
        self.check()

    def check(self) -> None:
        """Checks across fields; raises `ValueError` with one sentence."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Hex digest of all values: two equal configs have equal digests."""
        return sha256_of(self.to_dict())

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def save(self, path: Path | str) -> None:
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False))


C = TypeVar("C", bound=Config)


def field_types(kind: type[Config]) -> dict[str, type]:
    """Plain type of each field (int, float, str or bool)."""
    return typing.get_type_hints(kind)


def _check_field(owner: str, field: dataclasses.Field, kind: type, value: Any) -> None:
    name, meta = field.name, field.metadata
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{name} must be a {kind.__name__}, not {value!r} ({owner}: {meta['meaning']}).")
    if meta["choices"] and value not in meta["choices"]:
        raise ValueError(f"{name} must be one of {', '.join(meta['choices'])}, not {value!r}.")
    for bound, kept in (("low", operator.ge), ("high", operator.le)):
        if meta[bound] is not None and not kept(value, meta[bound]):  # not a number keeps no bound
            word = "at least" if bound == "low" else "at most"
            raise ValueError(f"{name} must be {word} {meta[bound]}, not {value} ({meta['meaning']}).")


def resolve(kind: type[C], *layers: dict[str, Any]) -> C:
    """Build a config from layers of settings, later ones winning; an unknown name is refused with the nearest one."""
    import difflib

    names = [field.name for field in dataclasses.fields(kind)]
    merged: dict[str, Any] = {}
    for layer in layers:
        for name in layer.keys() & kind.takes_back.keys():
            merged |= kind.takes_back[name]
        for name, value in layer.items():
            if name not in names:
                near = difflib.get_close_matches(str(name), names, n=1)
                hint = f"; did you mean {near[0]}?" if near else "."
                raise ValueError(f"{name!r} is no setting of {kind.__name__}{hint}")
            merged[name] = value
    return kind(**merged)


def load_config(kind: type[C], path: Path | str) -> C:
    """Read a saved resolved config."""
    return resolve(kind, read_yaml(path))


def preset_names(kind: type[Config]) -> list[str]:
    """Names of the presets shipped for a config class."""
    return sorted(path.stem.split(".", 1)[1] for path in _PRESETS.glob(f"{_preset_family(kind)}.*.yaml"))


def read_preset(kind: type[Config], name: str) -> dict[str, Any]:
    """The settings of a shipped preset, e.g. `read_preset(GANConfig, "released")`."""
    if name not in preset_names(kind):
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(preset_names(kind))}.")
    return read_yaml(_PRESETS / f"{_preset_family(kind)}.{name}.yaml")


_PRESETS = Path(__file__).parent / "presets"


def _preset_family(kind: type[Config]) -> str:
    return kind.__name__.removesuffix("Config").lower()


BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # of torchvision
NORMS = ("batch", "group")
