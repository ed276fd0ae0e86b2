"""Settings of a reproduction: those of each training, and the sizes of what is evaluated.

A YAML file of sections; each section is a mapping of settings, and may name a `preset` that it starts from. The shipped
ones are `rnagan/config/presets/reproduction.*.yaml`.
"""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, Self

from rnagan.config.base import Config, read_preset, resolve, setting
from rnagan.config.classifier import ClassifierConfig
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.io.files import read_yaml


@dataclasses.dataclass(frozen=True)
class ReproductionConfig(Config):
    """Sizes of the evaluations."""

    renamed: ClassVar = {"judged_tiles": "measured_tiles"}

    extractor: str = setting("inception_v3", "feature extractor of the scores (article: Inception-v3)")
    weights: str = setting("", "its weights: Inception's file, or DINOv2's folder")
    fid_tiles: int = setting(60_000, "generated tiles of a score (article: FID-60k)", low=2)
    map_tiles: int = setting(2000, "tiles of either kind on the UMAP of features; 0: none", low=0)
    shown_tiles: int = setting(8, "tiles a profile of the figure of generated tiles", low=1)
    measured_tiles: int = setting(12, "generated tiles a profile whose morphology is measured", low=1)
    nearest_tiles: int = setting(400, "generated tiles that are looked at for copies", low=3)
    external_tiles: int = setting(100, "tiles a tissue generated from an external cohort (article: 100)", low=2)
    reader_tiles: int = setting(3, "tiles of a source and tissue in the form for readers (article: 3)", low=1)
    pretraining_tiles: int = setting(10_000, "tiles generated for SimCLR, over all tissues (article: 10,000)", low=4)


@dataclasses.dataclass(frozen=True)
class Settings:
    """One section each."""

    vae: VAEConfig
    gan: GANConfig
    simclr: SimCLRConfig
    external: ClassifierConfig
    classifier: ClassifierConfig
    evaluation: ReproductionConfig

    @classmethod
    def read(cls, preset: str, config_file: Path | None = None) -> Self:
        """Those of a shipped preset, and of a file over it. Raises `ValueError` on a name that isn't known."""
        layers = [read_preset(ReproductionConfig, preset), read_yaml(config_file) if config_file else {}]
        kinds = {field.name: field.type for field in dataclasses.fields(cls)}
        for layer in layers:
            for name, section in layer.items():
                if name not in kinds or not isinstance(section, dict):
                    raise ValueError(f"{name!r} is no section of a reproduction; sections are {', '.join(kinds)}.")
        return cls(**{name: _section(kind, [layer.get(name, {}) for layer in layers]) for name, kind in kinds.items()})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All values, by section."""
        return {name: section.to_dict() for name, section in vars(self).items()}

    def save(self, folder: Path) -> None:
        """One resolved YAML a section, which the commands read."""
        for field in dataclasses.fields(self):
            getattr(self, field.name).save(folder / f"{field.name}.yaml")


def _section(kind: Any, layers: list[dict[str, Any]]) -> Any:
    """A config of its defaults, the last preset that a layer names, and the layers."""
    named = [layer["preset"] for layer in layers if "preset" in layer]
    own = [{name: value for name, value in layer.items() if name != "preset"} for layer in layers]
    return resolve(kind, read_preset(kind, named[-1]) if named else {}, *own)
