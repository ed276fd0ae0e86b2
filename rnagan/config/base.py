"""The base of all settings: frozen dataclasses, one line of meaning and unit a field.

Defaults < preset or config YAML < flags. The resolved config is saved beside what it made.
"""

import dataclasses
import itertools
import operator
import typing
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import yaml

from rnagan.io.files import read_yaml, sha256_of, write_text

Role = Literal["result", "architecture", "resume", "speed"]


def setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple[str, ...] | None = None,
    low: float | None = None,
    high: float | None = None,
    role: Role = "result",
) -> Any:
    """A config field: its default, what it means with its unit, and the values it may take (bounds included).

    `role` says what a change of it does to a run that was begun with another value: `result` and `architecture` decide
    what is learnt, so a resumed run keeps them; `architecture` also decides what the networks are and what their inputs
    mean, so a run that starts from another one's networks keeps it too; `resume` may change when a run is resumed (how
    long it is, how often it writes); `speed` only decides how fast it is and how much memory it takes.
    """
    metadata = {"meaning": meaning, "choices": choices, "low": low, "high": high, "role": role}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """Base of all configs: checks every field's type, choices and bounds on construction."""

    # What a layer of settings takes back of the layers before it, by the setting that it gives.
    takes_back: ClassVar[dict[str, dict[str, Any]]] = {}
    # Names that settings had in earlier versions, and those that they have now: files of then still load.
    renamed: ClassVar[dict[str, str]] = {}
    # What settings that those files don't have yet were then, where it isn't today's default.
    before: ClassVar[dict[str, Any]] = {}
    # Where settings that a class adds to its base's stand among those: the first of each block, and the one before it.
    follows: ClassVar[dict[str, str]] = {}

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
        return {field.name: getattr(self, field.name) for field in settings_of(type(self))}

    def digest(self) -> str:
        """Hex digest of all values: two equal configs have equal digests."""
        return sha256_of(self.to_dict())

    def replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)

    def save(self, path: Path | str) -> None:
        write_text(path, yaml.safe_dump(self.to_dict(), sort_keys=False))


C = TypeVar("C", bound=Config)


def settings_of(kind: type[Config]) -> list[dataclasses.Field]:
    """The fields of a config in the order of the help and of files (`Config.follows`)."""
    of_base = {field.name for field in dataclasses.fields(kind.__mro__[1])}
    blocks, before = {"": list[dataclasses.Field]()}, ""
    for field in dataclasses.fields(kind):
        before = field.name if field.name in of_base else kind.follows.get(field.name, before)
        blocks.setdefault(before, []).append(field)
    return list(itertools.chain.from_iterable(blocks.values()))


def field_types(kind: type[Config]) -> dict[str, type]:
    """Plain type of each field (int, float, str or bool)."""
    return typing.get_type_hints(kind)


def may_change_on_resume(kind: type[Config]) -> tuple[str, ...]:
    """The settings that a resumed run may change, in the order of the fields."""
    return _with_role(kind, "resume", "speed")


def architecture(kind: type[Config]) -> tuple[str, ...]:
    """The settings that decide what the networks are and what their inputs mean, in the order of the fields."""
    return _with_role(kind, "architecture")


def _with_role(kind: type[Config], *roles: Role) -> tuple[str, ...]:
    return tuple(field.name for field in settings_of(kind) if field.metadata["role"] in roles)


_MOST = 1e100  # infinity and what is near it is a mistake


def _check_field(owner: str, field: dataclasses.Field, kind: type, value: Any) -> None:
    name, meta = field.name, field.metadata
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{name} must be a {kind.__name__}, not {value!r} ({owner}: {meta['meaning']}).")
    if kind in (int, float) and abs(value) > _MOST:
        raise ValueError(f"{name} must be a number within ±{_MOST:g} ({meta['meaning']}).")
    if meta["choices"] and value not in meta["choices"]:
        raise ValueError(f"{name} must be one of {', '.join(meta['choices'])}, not {value!r}.")
    for bound, kept in (("low", operator.ge), ("high", operator.le)):
        if meta[bound] is not None and not kept(value, meta[bound]):  # not a number keeps no bound
            word = "at least" if bound == "low" else "at most"
            raise ValueError(f"{name} must be {word} {meta[bound]}, not {value} ({meta['meaning']}).")


def resolve(kind: type[C], *layers: dict[str, Any]) -> C:
    """Build a config from layers of settings, later ones winning; an unknown name is refused with the nearest one.

    A name of an earlier version (`Config.renamed`) means the setting that it became.
    """
    import difflib

    names = [field.name for field in dataclasses.fields(kind)]
    merged: dict[str, Any] = {}
    for given in layers:
        layer = {kind.renamed.get(name, name): value for name, value in given.items()}
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
    """Read a saved resolved config; `ValueError` with the file's name."""
    settings = read_yaml(path)
    try:
        return resolve(kind, kind.before, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def preset_names(kind: type[Config]) -> list[str]:
    """Names of the presets shipped for a config class."""
    return sorted(path.stem.split(".", 1)[1] for path in _PRESETS.glob(f"{family(kind)}.*.yaml"))


def read_preset(kind: type[Config], name: str) -> dict[str, Any]:
    """The settings of a shipped preset, e.g. `read_preset(GANConfig, "released")`.

    A preset that begins with `base: NAME` has the settings of that preset, but for those that it gives itself.
    """
    if name not in preset_names(kind):
        raise ValueError(f"There is no preset {name!r}; choose one of {', '.join(preset_names(kind))}.")
    settings = read_yaml(_PRESETS / f"{family(kind)}.{name}.yaml")
    base = settings.pop("base", None)
    return (read_preset(kind, base) if base else {}) | settings


_PRESETS = Path(__file__).parent / "presets"


def family(kind: type[Config]) -> str:
    """The word for a class of settings, as in the names of its presets: `gan` of GANConfig."""
    return kind.__name__.removesuffix("Config").lower()


BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")  # of torchvision
NORMS = ("batch", "group")
