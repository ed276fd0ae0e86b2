import dataclasses
import re
import typing
from pathlib import Path

import pytest

import rnagan
from rnagan.config.base import (
    Config,
    architecture,
    load_config,
    may_change_on_resume,
    preset_names,
    read_preset,
    resolve,
    setting,
    settings_of,
)
from rnagan.config.classifier import ClassifierConfig
from rnagan.config.flow import FlowConfig
from rnagan.config.gan import GANConfig
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.simulation import SimulationConfig
from rnagan.config.tile_training import TileTrainingConfig
from rnagan.config.tiling import TilingConfig
from rnagan.config.vae import VAEConfig
from rnagan.io.files import read_yaml, sha256_of

KINDS = [GANConfig, FlowConfig, VAEConfig, TilingConfig, SimulationConfig, SimCLRConfig, ClassifierConfig]
PRESETS = sorted(
    path
    for path in (Path(rnagan.__file__).parent / "config/presets").glob("*.yaml")
    if not path.name.startswith("reproduction.")  # of several classes: tests/config/test_reproduction.py
)
FAMILIES = {
    "gan": GANConfig,
    "flow": FlowConfig,
    "vae": VAEConfig,
    "simclr": SimCLRConfig,
    "classifier": ClassifierConfig,
}
# Digests of the settings of presets with a base, from the time when each of them gave all of its settings itself.
WITH_A_BASE = {
    ("classifier", "paper_gbm_luad"): "31b69cfc8dedf8da",
    ("gan", "paper_cortex_gan"): "3b82429e742d20a4",
    ("gan", "paper_cortex_rnagan"): "61e4882f5e41a1e3",
    ("gan", "paper_lung_gan"): "41e3e5f46185f93d",
    ("gan", "paper_lung_rnagan"): "0c3cc4fb6e5b0c28",
    ("vae", "paper_five_tissues"): "dcf4520c034dd536",
    ("vae", "paper_lung_cortex"): "368fd927160537b3",
}
LATER = {  # settings that came after that time
    "gan": [
        *("pixel_loss", "pixel_weight", "backbone", "backbone_px"),
        *("feature_weight", "feature_lr", "feature_diffaugment", "generator_turns", "generator_grain", "ema_batch"),
        *("nuisance", "shifts"),
    ],
    "vae": ["architecture", "transform", "augment_library", "augment_genes", "augment_shift"],
}
DEFAULTS = {"gan": "faithful", "flow": "faithful", "vae": "faithful", "simclr": "paper", "classifier": "paper"}


@dataclasses.dataclass(frozen=True)
class Example(Config):
    steps: int = setting(3, "steps to take", low=1, high=10)
    rate: float = setting(0.5, "share of something", low=0.0, high=1.0)
    kind: str = setting("a", "which", choices=("a", "b"))
    fast: bool = setting(True, "whether to hurry")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step": 3}, "'step' is no setting of Example; did you mean steps?"),
        ({"zzzz": 3}, "'zzzz' is no setting of Example."),
        ({7: 3}, "7 is no setting of Example."),
        ({"steps": "3"}, "steps must be a int, not '3' (Example: steps to take)."),
        ({"steps": 3.0}, "steps must be a int, not 3.0 (Example: steps to take)."),
        ({"steps": True}, "steps must be a int, not True (Example: steps to take)."),
        ({"steps": None}, "steps must be a int, not None (Example: steps to take)."),
        ({"rate": "4e-4"}, "rate must be a float, not '4e-4' (Example: share of something)."),
        ({"rate": True}, "rate must be a float, not True (Example: share of something)."),
        ({"fast": 1}, "fast must be a bool, not 1 (Example: whether to hurry)."),
        ({"kind": 1}, "kind must be a str, not 1 (Example: which)."),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'."),
        ({"steps": 0}, "steps must be at least 1, not 0 (steps to take)."),
        ({"steps": 11}, "steps must be at most 10, not 11 (steps to take)."),
        ({"rate": -0.1}, "rate must be at least 0.0, not -0.1 (share of something)."),
        ({"rate": float("nan")}, "rate must be at least 0.0, not nan (share of something)."),
    ],
)
def test_mistakes_are_named_in_one_sentence(settings, sentence):
    with pytest.raises(ValueError) as error:
        resolve(Example, settings)
    assert str(error.value) == sentence


def test_bounds_belong_to_the_range():
    for steps, rate in ((1, 0.0), (10, 1.0), (5, 1)):
        assert (Example(steps=steps, rate=rate).steps, Example(rate=rate).rate) == (steps, rate)


@pytest.mark.parametrize("kind", [GANConfig, FlowConfig])
def test_a_family_s_own_settings_stand_among_those_that_it_shares(kind):
    names, of_base = list(kind().to_dict()), [field.name for field in settings_of(TileTrainingConfig)]
    assert [name for name in names if name in of_base] == of_base
    assert kind.follows.keys() <= set(names) - set(of_base) and set(kind.follows.values()) <= {"", *of_base}
    for own, before in kind.follows.items():
        assert names[names.index(own) - 1] == before if before else names[0] == own
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(kind))


def test_later_layers_win():
    config = resolve(Example, {"steps": 4, "kind": "b"}, {"steps": 5}, {})
    assert config == Example(steps=5, kind="b")


@pytest.mark.parametrize("kind", [*KINDS, Example])
def test_save_and_load(kind, tmp_path):
    config = kind(seed=7) if kind is not Example else Example(rate=1e-05, fast=False)
    config.save(tmp_path / "config.yaml")
    assert load_config(kind, tmp_path / "config.yaml") == config
    assert load_config(kind, tmp_path / "config.yaml").digest() == config.digest()


def test_digest_follows_the_values():
    assert Example(rate=1).digest() == Example(rate=1.0).digest()  # equal configs, equal digests
    assert len({Example().digest(), Example(steps=4).digest(), Example(fast=False).digest()}) == 3
    assert Example().replace(steps=4) == Example(steps=4)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        Example().replace(steps=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_says_what_it_means_and_has_a_good_default(kind):
    config = kind()
    for field in dataclasses.fields(kind):
        meta = field.metadata
        assert len(meta["meaning"]) > 3 and not meta["meaning"].endswith("."), field.name
        assert not meta["choices"] or getattr(config, field.name) in meta["choices"]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_loads_for_its_class_and_says_where_values_are_from(path):
    family, name = path.stem.split(".")
    kind = FAMILIES[family]
    settings = read_preset(kind, name)
    assert resolve(kind, settings).to_dict() | settings == resolve(kind, settings).to_dict()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            assert re.search(r"# .*(article|code|ours|et al\. \d{4})", line), f"{line!r} doesn't say where it is from"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_preset_is_the_default(family):
    kind, name = FAMILIES[family], DEFAULTS[family]
    assert name in preset_names(kind) and resolve(kind, read_preset(kind, name)) == kind()
    with pytest.raises(ValueError, match=rf"There is no preset 'faithfull'; choose one of {name}"):
        read_preset(kind, "faithfull")


@pytest.mark.parametrize(("family", "name"), WITH_A_BASE)
def test_a_preset_with_a_base_has_the_settings_that_it_had_without(family, name):
    settings = read_preset(FAMILIES[family], name)
    of_then = {key: value for key, value in settings.items() if key not in LATER.get(family, [])}
    assert sha256_of(of_then).startswith(WITH_A_BASE[family, name])
    written = read_yaml(Path(rnagan.__file__).parent / f"config/presets/{family}.{name}.yaml")
    own = {key: value for key, value in written.items() if key != "base"}
    assert settings == read_preset(FAMILIES[family], written["base"]) | own and len(own) < 4


def test_what_a_resumed_run_may_change():
    assert set(may_change_on_resume(GANConfig)) == {
        *("images", "epochs", "batch_size", "accumulate", "compile", "precision", "threads", "log_every"),
        *("sample_every", "checkpoint_every", "keep_checkpoints", "validate_every", "loader_threads"),
        *("loader_workers", "prefetch_batches", "on_corrupt", "max_corrupt", "wait_minutes", "ema_batch"),
        "penalty_precision",
    }
    assert set(may_change_on_resume(VAEConfig)) == {"threads", "wait_minutes", "checkpoint_epochs"}
    of_simclr = {"threads", "wait_minutes", "loader_workers", "log_every", "checkpoint_every"}
    assert set(may_change_on_resume(SimCLRConfig)) == of_simclr


def test_what_the_networks_of_a_gan_are():
    assert architecture(GANConfig) == (
        *(
            "mode",
            "resolution",
            "condition",
            "condition_units",
            "nuisance",
            "noise_units",
            "noise_range",
            "batch_standardise",
        ),
        *("generator", "generator_width", "generator_norm", "generator_turns", "generator_grain"),
        *("critic", "critic_width", "critic_norm", "critic_layout"),
        *("pixel_loss", "backbone", "backbone_px"),
    )


def test_a_setting_keeps_loading_under_its_earlier_name(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Renamed(Example):
        renamed: typing.ClassVar = {"pace": "steps"}

    (tmp_path / "old.yaml").write_text("pace: 7\nrate: 0.25\n")
    config = load_config(Renamed, tmp_path / "old.yaml")
    assert config == Renamed(steps=7, rate=0.25)
    assert resolve(Renamed, {"steps": 2}, {"pace": 4}).steps == 4  # a later layer wins under either name
    config.save(tmp_path / "new.yaml")
    assert "pace" not in read_yaml(tmp_path / "new.yaml") and load_config(Renamed, tmp_path / "new.yaml") == config
    with pytest.raises(ValueError, match="'pace' is no setting of Example"):
        resolve(Example, {"pace": 4})


def test_every_preset_file_belongs_to_a_class():
    assert {path.stem for path in PRESETS} == {
        f"{family}.{name}" for family, kind in FAMILIES.items() for name in preset_names(kind)
    }


@pytest.mark.parametrize("content", ["", "- a\n- b\n", "just text", "42"])
def test_yaml_that_is_no_mapping(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"a\.yaml must hold `name: value` lines\.$"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("content", [b"a: [1", b"a: b: c", b"a: \xff\xfe", b"a: !!python/object/apply:os.getcwd []"])
def test_broken_or_dangerous_yaml_names_the_file_on_one_line(tmp_path, content):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.yaml is not valid YAML") as error:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"The config file .*none\.yaml does not exist\.$"):
        read_yaml(tmp_path / "none.yaml")


@pytest.mark.parametrize("resolution", [48, 65, 96, 500])
def test_resolution_must_be_a_power_of_two(resolution):
    with pytest.raises(ValueError, match=f"resolution must be a power of two from 32 to 512, not {resolution}"):
        GANConfig(resolution=resolution)
    assert [GANConfig(resolution=2**k).resolution for k in range(5, 10)] == [32, 64, 128, 256, 512]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"precision": "float64", "penalty_precision": "bf16"},
            "penalty_precision bf16 rounds float64; choose float32",
        ),
        ({"condition": "latent_plus_noise"}, "critic projection needs condition bottleneck"),
        ({"batch_standardise": True}, "batch_standardise belongs to condition latent_plus_noise"),
        ({"resolution": 16}, "resolution must be at least 32"),
    ],
)
def test_gan_settings_that_contradict_each_other(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        GANConfig(**settings)


def test_the_critic_sees_the_profile_only_where_there_is_one():
    assert GANConfig().conditional
    assert not GANConfig(mode="gan").conditional and not GANConfig(critic="image_only").conditional


@pytest.mark.parametrize(("value", "fallback"), [("error", None), ("skip", None), ("0.25", 0.25), ("1e-1", 0.1)])
def test_missing_mpp(value, fallback):
    assert TilingConfig(missing_mpp=value).fallback_mpp == fallback


@pytest.mark.parametrize("value", ["", "-1", "0", "nan", "inf", "half"])
def test_missing_mpp_that_means_nothing(value):
    with pytest.raises(ValueError, match="missing_mpp must be error, skip or a positive number"):
        TilingConfig(missing_mpp=value)


def test_the_articles_classifiers_are_the_articles():
    gbm_luad = resolve(ClassifierConfig, read_preset(ClassifierConfig, "paper_gbm_luad"))
    assert gbm_luad == ClassifierConfig(where="tissue=TCGA-GBM,TCGA-LUAD")
    assert (gbm_luad.per_class, gbm_luad.folds, gbm_luad.epochs, gbm_luad.batch_size) == (1000, 5, 40, 4)
    assert (gbm_luad.lr, gbm_luad.weight_decay, gbm_luad.backbone) == (3e-5, 0.01, "resnet50")
    external = resolve(ClassifierConfig, read_preset(ClassifierConfig, "paper_external"))
    assert (external.backbone, external.epochs, external.lr, external.validation_share) == ("resnet18", 10, 3e-5, 0.2)
    simclr = resolve(SimCLRConfig, read_preset(SimCLRConfig, "paper"))
    assert (simclr.epochs, simclr.lr, simclr.momentum, simclr.weight_decay) == (100, 6e-2, 0.9, 5e-4)
