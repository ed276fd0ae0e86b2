"""Steps on made-up data, as the doctor and a reproduction measure them."""

import pytest
import torch

from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.training.step_rate import (
    TrainingStep,
    backbone_step,
    condition_width,
    items_a_second,
    measure,
    vae_step,
)

SMALL = {"resolution": 32, "batch_size": 16, "generator_width": 4, "critic_width": 4, "threads": 1}


pytestmark = pytest.mark.usefixtures("short_rates")


def test_time_decides_how_large_the_batches_are() -> None:
    step = TrainingStep(GANConfig(**SMALL, mode="gan"), 0)
    assert measure(step, 0)[0] == 2
    assert measure(step, 60)[0] == 16


def test_a_round_trains_both_networks() -> None:
    config = GANConfig(**SMALL, critic_steps=3)
    step = TrainingStep(config, condition_width(config))
    before = [[p.clone() for p in net.parameters()] for net in (step._step.raw_generator, step._step.raw_critic)]
    step.seconds(4)
    after = (step._step.raw_generator.parameters(), step._step.raw_critic.parameters())
    for old, new in zip(before, after, strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))


def test_steps_of_the_other_networks_say_what_went_through_them() -> None:
    device = torch.device("cpu")
    profiles = vae_step(VAEConfig(hidden="8", latent=3, batch_size=6), 20, device)
    tiles = backbone_step("resnet18", "batch", 32, 2, device)
    assert (profiles(), tiles()) == (6, 2)
    assert items_a_second(profiles, 0.05) > items_a_second(tiles, 0.05) > 0
