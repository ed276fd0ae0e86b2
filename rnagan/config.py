"""Typed settings of every step: frozen dataclasses, one line of meaning and unit a field.

Defaults < preset or config YAML < flags. The resolved config is saved beside what it made.
"""

import dataclasses
import operator
import typing
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import yaml

from rnagan.files import sha256_of, write_text


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


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read a YAML mapping; anything else raises with the file's name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The config file {path} does not exist.")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({error}).".replace("\n", " ")) from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold `name: value` lines.")
    return value


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


@dataclasses.dataclass(frozen=True)
class TilingConfig(Config):
    """Slides to tiles (paper: STAR Methods, WSI data preprocessing)."""

    tile_px: int = setting(256, "width and height of a stored tile, px (article: 256)", low=16, high=4096)
    mpp: float = setting(0.5, "resolution of a stored tile, µm per px (article: 0.5, 20×)", low=0.05, high=32.0)
    max_tiles: int = setting(4000, "tiles kept of a slide at most (article: 4000)", low=1)
    max_background: float = setting(
        0.6, "a tile with a larger share of background is dropped (article: 0.6)", low=0.0, high=1.0
    )
    min_contrast: float = setting(
        0.05,
        "a tile whose 1st to 99th grey percentile spans less of the range is dropped (article: 'low contrast')",
        low=0.0,
        high=1.0,
    )
    min_sharpness: float = setting(
        20.0,
        "a tile whose steepest hundredth bends less within 2 px is out of focus and dropped, grey levels",
        low=0.0,
        high=255.0,
    )
    thumbnail_mpp: float = setting(8.0, "resolution at which tissue is found, µm per px", low=0.25, high=64.0)
    otsu_low: float = setting(
        12.0,
        "lowest Otsu threshold of chroma (largest less smallest colour channel, 0 to 255); glass lies below",
        low=0.0,
        high=255.0,
    )
    otsu_high: float = setting(
        20.0, "highest Otsu threshold of chroma (0 to 255); pale tissue lies above", low=0.0, high=255.0
    )
    glass_level: float = setting(
        160.0, "colours are balanced by the glass where it is at least this bright, grey level", low=0.0, high=255.0
    )
    ink: bool = setting(True, "pen marks, glue, dirt and black areas are no tissue")
    max_ink: float = setting(0.1, "a tile with a larger share of ink is dropped", low=0.0, high=1.0)
    ink_width_um: float = setting(100.0, "width that ink has at least, µm; narrower marks are left", low=1.0)
    ink_density: float = setting(0.1, "optical density that ink has at least", low=0.0, high=3.0)
    ink_red_ratio: float = setting(
        1.1, "ink is what absorbs more of red than this share of green (blue, green pen; H&E: to 0.95)", low=0.0
    )
    ink_blue_ratio: float = setting(
        0.6, "ink is what absorbs more of blue, less of red, than this share of green (red pen, brown, yellow)", low=0.0
    )
    black_level: float = setting(
        80.0, "what is darker in all colours over ink_width_um is black pen or border, grey level", low=0.0, high=255.0
    )
    jpeg_quality: int = setting(90, "JPEG quality of a stored tile", low=50, high=100)
    keep_jpeg: bool = setting(
        True, "a tile that is exactly one of the slide's own JPEG tiles is stored as it is, without a second loss"
    )
    seed: int = setting(0, "seed of the order of tiles within a shard", low=0)
    missing_mpp: str = setting(
        "error", "a slide that says no resolution: 'error', 'skip', or its µm per px as a number"
    )
    mpp_tolerance: float = setting(
        0.02, "share by which a level may differ from a whole fraction of mpp and be read as it is", low=0.0, high=0.2
    )
    max_upsampling: float = setting(
        0.05, "share by which a slide may be coarser than mpp and is enlarged; coarser ones fail", low=0.0, high=4.0
    )

    def check(self) -> None:
        if self.otsu_low > self.otsu_high:
            raise ValueError(f"otsu_low ({self.otsu_low:g}) can't be more than otsu_high ({self.otsu_high:g}).")
        if self.missing_mpp not in ("error", "skip"):
            try:
                usable = 0 < float(self.missing_mpp) < 1000
            except ValueError:
                usable = False
            if not usable:
                raise ValueError(f"missing_mpp must be error, skip or a positive number, not {self.missing_mpp!r}.")

    @property
    def fallback_mpp(self) -> float | None:
        """The resolution to assume where a slide says none, if any."""
        return None if self.missing_mpp in ("error", "skip") else float(self.missing_mpp)


@dataclasses.dataclass(frozen=True)
class GANConfig(Config):
    """GAN and RNA-GAN training. Defaults are the preset `faithful`; presets/gan.*.yaml say where each value is from."""

    takes_back: ClassVar = {"images": {"epochs": 0}}  # --images shortens a preset that counts in epochs

    mode: str = setting(
        "rnagan",
        "what the generator sees: a profile and noise; normal noise; uniform noise in ±noise_range (article, 4C)",
        choices=("rnagan", "gan", "noise_only"),
    )
    resolution: int = setting(256, "side of a painted tile, px; a power of two (article: 256)", low=32, high=512)
    images: int = setting(2_000_000, "real tiles shown to the critic in the whole run", low=1)
    epochs: int = setting(0, "instead of images: passes of the tiles in use; 0: as many images as images says", low=0)
    batch_size: int = setting(64, "real tiles a critic step, over all processes", low=2)
    accumulate: int = setting(
        1, "parts of a process's batch that pass the networks one after another, to need less memory", low=1
    )
    seed: int = setting(0, "seed of the order of tiles, of all noise and of the first weights", low=0)

    condition: str = setting(
        "bottleneck",
        "what is made of a profile: active latent units beside the noise, or latent + noise as in the paper",
        choices=("bottleneck", "latent_plus_noise"),
    )
    condition_units: int = setting(64, "active latent units that pass the bottleneck at most", low=1)
    condition_noise: float = setting(
        0.15, "SD of the normal noise on the condition in training, in SDs of the training split", low=0.0
    )
    noise_units: int = setting(
        64, "width of the generator's own noise; where it is added to a latent, it has the latent's", low=1
    )
    noise_range: float = setting(0.3, "half-range of the uniform noise of latent_plus_noise and noise_only", low=0.0)
    batch_standardise: bool = setting(
        False, "standardise the generator's input over the batch: cancels the profile, as released"
    )
    tile_order: str = setting("mixed", "donors mixed in every batch, or slide by slide", choices=("mixed", "by_slide"))

    generator: str = setting(
        "upsample", "up-sample and convolve, or DCGAN's transposed convolutions", choices=("upsample", "dcgan")
    )
    generator_width: int = setting(32, "channels of the generator's last feature map", low=4)
    generator_norm: str = setting("group", "normalisation in the generator", choices=("group", "batch", "none"))
    critic: str = setting(
        "projection",
        "critic that is shown the condition, or one that sees the image alone",
        choices=("projection", "image_only"),
    )
    critic_width: int = setting(32, "channels of the critic's first feature map", low=4)
    critic_norm: str = setting("none", "normalisation in the critic", choices=("none", "batch"))
    critic_layout: str = setting(
        "all_scales",
        "a score from the means of all scales' features, or DCGAN's convolutions down to a score",
        choices=("all_scales", "dcgan"),
    )

    penalty_weight: float = setting(10.0, "weight of the gradient penalty", low=0.0)
    penalty_every: int = setting(
        4, "one tile in so many pays the gradient penalty, which is half of a step's cost", low=1, high=64
    )
    penalty_norm: str = setting(
        "per_sample",
        "one gradient norm a sample, or one over the whole batch as released",
        choices=("per_sample", "whole_batch"),
    )
    penalty_step: str = setting(
        "joint",
        "penalty in one backward with the scores, or a step of its own as released",
        choices=("joint", "separate"),
    )
    critic_steps: int = setting(1, "critic steps for one generator step", low=1)
    generator_lr: float = setting(4e-4, "Adam's learning rate of the generator", low=0.0)
    critic_lr: float = setting(4e-4, "Adam's learning rate of the critic", low=0.0)
    beta1: float = setting(0.0, "Adam's first beta", low=0.0, high=0.999)
    beta2: float = setting(0.99, "Adam's second beta", low=0.0, high=0.9999)
    ema_half_life: int = setting(20_000, "half-life of the averaged generator, in images; 0 keeps no average", low=0)

    flips: bool = setting(True, "random horizontal and vertical flips of real tiles")
    quarter_turns: bool = setting(True, "random quarter turns of real tiles")
    colour_jitter: float = setting(
        0.0, "strength of brightness, contrast, saturation and hue jitter of real tiles", low=0.0, high=1.0
    )
    diffaugment: str = setting(
        "translation,cutout",
        "what the critic's real and painted tiles both go through, or none",
        choices=("translation,cutout", "none"),
    )

    shuffle_profiles: bool = setting(
        False, "give each slide the profile of another donor of its tissue: the null of every claim"
    )
    tiles_per_slide: int = setting(600, "first tiles of each shard that are used (article: 600)", low=1)
    window_slides: int = setting(1024, "shards that are open at a time, and so can meet in a batch", low=1, high=4096)
    where: str = setting("", "slides to use, by any column of the cohort table: 'tissue=Lung,Colon; age>=50'")
    tissue_weights: str = setting(
        "balanced", "balanced: every tissue alike; natural: every tile alike; Lung=2,Colon=1; or a table tissue,weight"
    )
    loader_threads: int = setting(
        0, "threads a process that read and decode tiles; 0: its cores, at most 8, or 32 for a remote set", low=0
    )
    loader_workers: int = setting(
        0, "processes a process that do it instead; 0 is faster unless transforms are heavy", low=0
    )
    prefetch_batches: int = setting(2, "batches made ahead (of each worker process)", low=1, high=64)
    on_corrupt: str = setting(
        "refuse", "a damaged tile stops the run, or a neighbour stands in and it is listed", choices=("refuse", "skip")
    )
    max_corrupt: float = setting(
        0.001, "with skip: the share of damaged tiles at which the run stops all the same", low=0.0, high=1.0
    )
    precision: str = setting(
        "auto",
        "bf16 where the machine computes in it, else float32; fp16, on GPUs only, is experimental",
        choices=("auto", "float64", "float32", "bf16", "fp16"),
    )
    compile: bool = setting(False, "networks compiled by torch.compile at the start, but for the gradient penalty")
    threads: int = setting(0, "CPU threads a process; 0 shares the cores", low=0)
    log_every: int = setting(4_000, "images between rows of metrics", low=1)
    sample_every: int = setting(40_000, "images between sample grids", low=1)
    checkpoint_every: int = setting(40_000, "images between checkpoints", low=1)
    keep_checkpoints: int = setting(2, "newest checkpoints that are kept", low=1)
    validate_every: int = setting(200_000, "images between validations on the validation donors; 0: never", low=0)
    validation_tiles: int = setting(
        2_000, "real tiles, and as many painted ones, in a validation; its names tell the count", low=16
    )
    best_by: str = setting(
        "frechet",
        "whose best validation is kept as checkpoint and as model-best: lowest Fréchet distance, highest faithfulness",
        choices=("frechet", "faithfulness", "none"),
    )

    def check(self) -> None:
        if self.best_by == "faithfulness" and self.mode != "rnagan":
            raise ValueError(f"best_by faithfulness needs mode rnagan, not {self.mode}; choose frechet or none.")
        if self.resolution & (self.resolution - 1):
            raise ValueError(f"resolution must be a power of two from 32 to 512, not {self.resolution}.")
        if self.critic == "projection" and self.condition == "latent_plus_noise":
            raise ValueError(
                "critic projection needs condition bottleneck; choose critic image_only for latent_plus_noise."
            )
        if self.critic == "projection" and self.critic_layout == "dcgan":
            raise ValueError("critic projection needs critic_layout all_scales; DCGAN's critic sees the image alone.")
        if self.batch_size % self.penalty_every:
            raise ValueError(f"penalty_every ({self.penalty_every}) must divide batch_size ({self.batch_size}).")
        if self.batch_standardise and self.condition != "latent_plus_noise":
            raise ValueError("batch_standardise belongs to condition latent_plus_noise.")
        if self.shuffle_profiles and self.mode != "rnagan":
            raise ValueError(f"shuffle_profiles needs mode rnagan; mode {self.mode} sees no profiles.")
        if self.accumulate > 1 and self.batch_wide:
            raise ValueError(f"accumulate cuts a batch, and {self.batch_wide[0]} needs it whole; set accumulate 1.")

    @property
    def batch_wide(self) -> list[str]:
        """Settings that make a tile's gradient depend on the tiles beside it, so that no batch can be cut in parts."""
        wide = {
            "batch_standardise": self.batch_standardise,
            "penalty_step separate": self.penalty_step == "separate",
            "penalty_norm whole_batch": self.penalty_norm == "whole_batch",
            "critic_norm batch": self.critic_norm == "batch",
            "generator_norm batch": self.generator_norm == "batch",
        }
        return [name for name, is_so in wide.items() if is_so]

    def counted_in_images(self, epoch_length: int) -> Self:
        """With the images that `epochs` passes of so many tiles are, where epochs are given: the clock is images."""
        return self.replace(images=self.epochs * epoch_length) if self.epochs else self

    @property
    def conditional(self) -> bool:
        """Whether the critic is shown the condition."""
        return self.mode == "rnagan" and self.critic == "projection"


@dataclasses.dataclass(frozen=True)
class VAEConfig(Config):
    """β-VAE training. Defaults are the preset `faithful`; presets/vae.*.yaml say where each value is from."""

    hidden: str = setting("6000,4096", "widths of the encoder's hidden layers, in order")
    decoder_hidden: str = setting("", "widths of the decoder's hidden layers; empty: the encoder's in reverse")
    latent: int = setting(2048, "latent units", low=1)
    norm: str = setting("layer", "normalisation between the layers", choices=("layer", "batch"))
    output: str = setting(
        "linear", "last step of the decoder; tanh can't reach Z scores beyond 1", choices=("linear", "tanh")
    )
    input_dropout: float = setting(
        0.0, "share of genes set to 0 at the encoder's input in training, as nn.Dropout does", low=0.0, high=0.95
    )
    gene_dropout: float = setting(
        0.5,
        "largest share of genes hidden from the encoder in training; each profile's own is drawn from 0 to it",
        low=0.0,
        high=0.95,
    )
    missing_genes: str = setting(
        "impute",
        "what the encoder sees of a gene that a profile lacks: its expectation given the others, or its training mean",
        choices=("impute", "mean"),
    )
    logarithm: str = setting(
        "log1p",
        "logarithm of tpm and counts: ln(1 + x), or ln(x) with zeros kept; log2 data stay as they are",
        choices=("log1p", "paper"),
    )
    beta: float = setting(0.005, "weight of the KL term, a sum over latents and mean over samples", low=0.0)
    kl_warmup_share: float = setting(0.0, "share of all steps in which beta rises from 0", low=0.0, high=1.0)
    free_bits: float = setting(0.0, "KL of a latent unit that costs nothing, nats over the batch", low=0.0)
    lr: float = setting(5e-5, "Adam's highest learning rate", low=0.0)
    warmup_share: float = setting(
        0.1, "share of all steps in which the learning rate rises; then it falls as a cosine", low=0.0, high=1.0
    )
    epochs: int = setting(250, "passes of the training split, at most", low=1)
    patience_epochs: int = setting(25, "epochs without a lower validation loss before training stops", low=1)
    batch_size: int = setting(128, "profiles a step, over all processes", low=2)
    where: str = setting("", "profiles to use, by tissue or donor: 'tissue=Lung,Liver'")
    seed: int = setting(0, "seed of the first weights, the order of profiles and all noise", low=0)
    precision: str = setting(
        "float32", "arithmetic; float64 is for equality tests", choices=("auto", "float64", "float32", "bf16")
    )
    threads: int = setting(0, "CPU threads a process; 0 shares the cores", low=0)
    checkpoint_epochs: int = setting(25, "epochs between checkpoints", low=1)

    def check(self) -> None:
        for name in ("hidden", "decoder_hidden"):
            words = [word for word in getattr(self, name).split(",") if word.strip()]
            if not all(word.strip().isdigit() and int(word) > 0 for word in words) or (name == "hidden" and not words):
                raise ValueError(f"{name} must list widths, like 6000,4096, not {getattr(self, name)!r}.")

    @property
    def encoder_widths(self) -> tuple[int, ...]:
        return tuple(int(word) for word in self.hidden.split(",") if word.strip())

    @property
    def decoder_widths(self) -> tuple[int, ...]:
        if not self.decoder_hidden.strip():
            return self.encoder_widths[::-1]
        return tuple(int(word) for word in self.decoder_hidden.split(",") if word.strip())
