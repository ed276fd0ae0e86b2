"""The draws of a step, made at once, are those that each purpose and image number had one by one."""

import numpy as np
import pytest
import torch

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.data.augment import draw_diffaugment, draw_jitter, flip_and_turn, jittered, turned
from rnagan.models.conditioning import draw_noise
from rnagan.runtime import rng
from rnagan.training.gan.draws import StepDraws

WIDTH = 3
PRESETS = ("faithful", "paper", "released", "two_critics", "features")


def config_of(preset: str, **changes: object) -> GANConfig:
    small = {"resolution": 32, "noise_units": 5, "precision": "float32", "seed": 4}
    return resolve(GANConfig, read_preset(GANConfig, preset), small | changes)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_draw_is_addressed_by_image_number(preset: str) -> None:
    draws = StepDraws(config_of(preset), WIDTH)
    whole, first, second = (draws.packed(start, n) for start, n in ((40, 6), (40, 2), (42, 4)))
    for name in draws.rows:
        assert torch.equal(torch.cat([first.field(name), second.field(name)]), whole.field(name))


def test_draws_are_bit_for_bit_what_they_were() -> None:
    config = config_of("two_critics", colour_jitter=0.3, feature_diffaugment="translation,cutout")
    config = config.replace(pixel_loss="wgan_gp")
    draws = StepDraws(config, WIDTH)
    field = draws.packed(7, 5).field
    assert torch.equal(field("noise"), draw_noise(config, "noise", 7, 5, WIDTH, 4).float())
    assert torch.equal(field("condition"), torch.from_numpy(rng.normal(4, "condition", 7, 5, WIDTH)).float())
    assert torch.equal(field("epsilon"), torch.from_numpy(rng.uniform(4, "epsilon", 7, 5, 1)).float())
    for name in ("augment/real", "augment/fake", "augment/generator", "features/real", "features/fake"):
        np.testing.assert_array_equal(field(name), np.hstack(draw_diffaugment(4, name, 7, 5, 32)))
    x = torch.rand(5, 3, 32, 32) * 2 - 1
    assert torch.equal(
        turned(x, field("turns"), flips=True, turns=True), flip_and_turn(x, 4, 7, flips=True, turns=True)
    )
    drawn = torch.from_numpy(draw_jitter(4, 7, 5)).to(x)
    assert torch.equal(jittered(x, field("jitter"), 0.3), jittered(x, drawn, 0.3))


def test_only_what_a_step_uses_is_drawn() -> None:
    names = {preset: set(StepDraws(config_of(preset), WIDTH).rows) for preset in PRESETS}
    augment = {"augment/real", "augment/fake", "augment/generator"}
    assert names["released"] == {"noise", "epsilon"}
    assert names["paper"] == {"noise", "epsilon", "turns", "jitter"}
    assert names["faithful"] == {"noise", "condition", "epsilon", "turns"} | augment
    assert names["two_critics"] == {"noise", "condition", "turns"} | augment
    assert names["features"] == {"noise", "condition", "turns"}
