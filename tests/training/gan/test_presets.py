"""Modes and presets: each says what it should, and every combination trains and generates."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from rnagan import RNAGAN
from rnagan.cohort.table import read_cohort
from rnagan.commands.config_options import read_config
from rnagan.config.base import load_config, preset_names, read_preset, resolve, settings_of
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import make_order, select
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json
from rnagan.models.conditioning import draw_noise, noise_width
from rnagan.models.critics import build_critic
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.models.sampling import generate
from rnagan.tracking.run_folder import latest_checkpoint
from rnagan.tracking.run_log import read_metrics
from rnagan.training.deepspeed import Prepared
from rnagan.training.gan.step import GANStep
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs

pytestmark = pytest.mark.usefixtures("no_mlflow")
FAMILIES = ("faithful", "paper", "released")
MODES = ("rnagan", "gan", "noise_only")
TINY = {
    "resolution": 32,
    "images": 16,
    "batch_size": 8,
    "generator_width": 4,
    "critic_width": 4,
    "precision": "float32",
    "threads": 1,
}
EPOCHS = {("cortex", "gan"): 39, ("lung", "gan"): 91, ("cortex", "rnagan"): 24, ("lung", "rnagan"): 11}


def preset(name: str, **changes: object) -> GANConfig:
    return resolve(GANConfig, read_preset(GANConfig, name), changes)


def test_the_article_s_text() -> None:
    """STAR Methods, "DCGAN" and "RNA-GAN", read again: not what the code does."""
    config = preset("paper")
    assert (config.generator_lr, config.critic_lr, config.beta1, config.beta2) == (1e-3, 4e-3, 0.5, 0.999)
    assert (config.resolution, config.tiles_per_slide, config.noise_units, config.noise_range) == (256, 600, 2048, 0.3)
    assert (config.generator, config.critic, config.condition) == ("dcgan", "image_only", "latent_plus_noise")
    assert config.flips and config.colour_jitter > 0 and not config.batch_standardise
    assert (config.penalty_norm, config.penalty_step) == ("per_sample", "joint")


def test_what_the_released_code_does_differently() -> None:
    paper, released = preset("paper").to_dict(), preset("released").to_dict()
    assert {name: value for name, value in released.items() if paper[name] != value} == {
        "batch_standardise": True,
        "tile_order": "by_slide",
        "critic_norm": "batch",
        "penalty_norm": "whole_batch",
        "penalty_step": "separate",
        "generator_lr": 1e-4,
        "critic_lr": 4e-4,
        "flips": False,
        "colour_jitter": 0.0,
    }


def test_a_preset_leaves_nothing_of_a_model_to_the_defaults() -> None:
    """Settings of what is learnt, from the class's first such field to its last; the others are the user's."""
    names = [field.name for field in settings_of(GANConfig)]
    learnt = set(names[names.index("condition") : names.index("diffaugment") + 1])
    for family in FAMILIES:
        given = set(read_preset(GANConfig, family))
        assert learnt <= given, learnt - given
        assert given - learnt == {"resolution", "batch_size", "tiles_per_slide", "window_slides", "tissue_weights"}


@pytest.mark.parametrize(("tissue", "mode"), EPOCHS)
def test_the_article_s_models(tissue: str, mode: str) -> None:
    own, paper = read_preset(GANConfig, f"paper_{tissue}_{mode}"), read_preset(GANConfig, "paper")
    where = {"cortex": "tissue=Brain - Cortex", "lung": "tissue=Lung"}[tissue]
    assert own == paper | {"mode": mode, "where": where, "epochs": EPOCHS[tissue, mode]}
    of_article = {f"paper_{'_'.join(key)}" for key in EPOCHS}
    assert set(preset_names(GANConfig)) == {
        *FAMILIES,
        *of_article,
        "two_critics",
        "faithful_256",
        "relativistic",
        "features",
        "wgan_gp",
    }


OF_SMALLER_NETWORKS = {
    "generator": "upsample",
    "generator_norm": "group",
    "generator_width": 32,
    "critic_layout": "all_scales",
    "critic_width": 32,
}
OF_WGAN_GP = {
    "pixel_loss": "wgan_gp",
    "backbone": "none",
    "penalty_weight": 10.0,
    "generator_turns": False,
    "feature_diffaugment": "translation,cutout",
}


def test_presets_of_critics_differ_in_what_belongs_to_the_critics_alone() -> None:
    both = preset("two_critics")
    assert both.pixel_loss == "relativistic" and both.backbone == "efficientnet_lite0"
    assert both.generator_turns and preset("features") == both.replace(pixel_loss="none")
    assert both.replace(backbone="none") == preset("relativistic")
    assert preset("faithful_256").replace(**OF_SMALLER_NETWORKS) == both
    assert preset("wgan_gp") == GANConfig() == resolve(GANConfig, both.to_dict(), OF_WGAN_GP)


@pytest.mark.parametrize("family", [*FAMILIES, "faithful_256"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_every_preset_trains_and_generates(
    inputs: TileInputs, tmp_path: Path, family: str, mode: str
) -> None:
    config = preset(family, mode=mode, **TINY, backbone="none")
    given = inputs if mode == "rnagan" else TileInputs(inputs.shards, inputs.cohort)
    assert train_gan(config, given, tmp_path)
    row = read_metrics(tmp_path)[-1]
    assert row["images"] == 16 and all(np.isfinite(row[name]) for name in ("wasserstein", "penalty", "generator"))
    model = RNAGAN.from_pretrained(tmp_path)
    assert model.config == config
    latent = None
    if mode == "rnagan":
        latent = model.encode(open_profiles(inputs.expression)[:1].copy()).obsm["X_rnagan"][0]
    tiles = model.generate_tiles(latent, 4, 0, "any")
    assert tiles.shape == (4, 32, 32, 3) and tiles.std() > 0 and (tiles[0] != tiles[1]).any()


@pytest.mark.slow
def test_residual_networks_learn(inputs: TileInputs, tmp_path: Path) -> None:
    """The Fréchet distance of validation falls, on the toy cohort; with a generator that stays it doesn't."""
    validated = {"validate_every": 400, "validation_tiles": 48, "best_by": "none", "ema_half_life": 300}
    changes = TINY | validated | {"images": 1600, "batch_size": 16, "generator_width": 8, "critic_width": 8}
    fell = {}
    for name, lr in (("learns", 4e-4), ("stays", 0.0)):
        config = preset("faithful_256", **changes, backbone="none", generator_lr=lr)
        assert train_gan(config, inputs, tmp_path / name)
        rows = [row for row in read_metrics(tmp_path / name) if any("frechet" in key for key in row)]
        first, last = (next(own for key, own in row.items() if "/all" in key) for row in (rows[0], rows[-1]))
        fell[name] = last / first
    assert fell["learns"] < 0.93 and fell["stays"] == pytest.approx(1, abs=0.02), fell


def test_noise_of_the_modes() -> None:
    """N(0, 1) without profiles; in ±0.3 for figure 4C, and beside a latent in the article's way."""
    for family in FAMILIES:
        for mode in MODES:
            config = preset(family, mode=mode)
            noise = draw_noise(config, "noise", 0, 16, 2048 if mode == "rnagan" else 0, seed=0)
            narrow = mode == "noise_only" or (mode == "rnagan" and family != "faithful")
            assert noise.shape[1] == noise_width(config, 2048 if mode == "rnagan" else 0)
            assert float(noise.abs().max()) <= 0.3 if narrow else float(noise.std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("family", "resolution"), [*(("faithful", 2**k) for k in range(5, 10)), ("faithful_256", 64), ("faithful_256", 128)]
)
def test_every_resolution_builds_steps_and_generates(family: str, resolution: int) -> None:
    sizes = {"resolution": resolution, "generator_width": 4, "critic_width": 4, "noise_units": 4}
    config = preset(family, **sizes, backbone="none")
    generator, critic = build_generator(config, 3), build_critic(config, 3, None)
    accelerator = Accelerator(cpu=True)
    prepared = [
        Prepared(network, torch.optim.Adam(network.parameters(), lr=1e-4), accelerator)
        for network in (generator, critic)
    ]
    step = GANStep(config, *prepared, None, 3)
    tiles = torch.randint(0, 256, (2, 3, resolution, resolution), dtype=torch.uint8)
    before = [next(module.parameters()).clone() for module in (generator, critic)]
    record = step(0, tiles, torch.randn(2, 3), True)
    assert record.feature_gap is None  # there is no critic on features
    assert all(bool(torch.isfinite(scalar)) for scalar in record if scalar is not None)
    assert all(not torch.equal(next(m.parameters()), old) for m, old in zip((generator, critic), before, strict=True))
    tiles = generate(GANGenerator(config, generator.eval(), 3), torch.randn(1, 3), 1, 0, "p")
    assert tiles.shape == (1, resolution, resolution, 3)


def test_epochs_become_images_once_the_tiles_are_known(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = small.replace(epochs=2, where="tissue=lung", checkpoint_every=1000, sample_every=1000)
    selection = select(open_dataset(inputs.shards), read_cohort(inputs.cohort), "train", 600, "tissue=lung")
    images = 2 * int(selection.counts.sum())
    order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
    assert order.epoch_length * 2 == images and images % 8
    train_gan(config, inputs, tmp_path)
    steps = -(-images // 8)
    assert f"{images:,} images in {steps} critic steps of 8 (1 × 8), 2.0 epochs." in capsys.readouterr().out
    saved = load_config(GANConfig, tmp_path / "model/config.yaml")
    assert (saved.images, saved.epochs) == (images, 2)
    assert read_json(tmp_path / "model/model.json")["images"] == 8 * steps
    train_gan(config, inputs, tmp_path)
    assert capsys.readouterr().out.endswith(f"is up to date ({images:,} images).\n")
    train_gan(config.replace(epochs=3), inputs, tmp_path)  # longer: goes on
    printed = capsys.readouterr().out
    assert re.search(rf"Finished at {8 * -(-images * 3 // 2 // 8)} images", printed)
    assert latest_checkpoint(tmp_path).name == f"{8 * -(-images * 3 // 2 // 8):012d}"


def test_images_asked_for_win_over_the_epochs_of_a_preset(tmp_path: Path) -> None:
    assert read_config(GANConfig, None, {}, "paper_lung_gan").epochs == 91
    short = read_config(GANConfig, None, {"images": 1000}, "paper_lung_gan")
    assert (short.images, short.epochs) == (1000, 0) and short.counted_in_images(50) == short
    both = read_config(GANConfig, None, {"images": 1000, "epochs": 2}, "paper_lung_gan")
    assert both.counted_in_images(50).images == 100
    both.save(tmp_path / "config.yaml")
    assert read_config(GANConfig, str(tmp_path / "config.yaml"), {}) == both
    (tmp_path / "short.yaml").write_text("images: 500\n")
    assert read_config(GANConfig, str(tmp_path / "short.yaml"), {}, "paper_lung_gan").epochs == 0
    assert read_config(GANConfig, str(tmp_path / "short.yaml"), {"epochs": 3}, "paper_lung_gan").epochs == 3
