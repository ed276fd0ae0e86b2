import numpy as np
import pytest
import torch
import yaml
from torch import nn

from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.models.ema import ExponentialAverage


def constant(value):
    module = nn.Linear(2, 3).double()
    for parameter in module.parameters():
        nn.init.constant_(parameter, value)
    return module


def test_half_life_in_images():
    average, target, far = ExponentialAverage(constant(0.0), half_life=1000), constant(1.0), 10**9
    for step in range(8):
        average.update(target, 250, far)
        expected = 1 - 0.5 ** ((step + 1) * 250 / 1000)
        np.testing.assert_allclose(average.module.weight.numpy(), expected, rtol=1e-12)
    one_go = ExponentialAverage(constant(0.0), half_life=1000)
    one_go.update(target, 2000, far)  # the clock is images: one step of 2000 or eight of 250
    torch.testing.assert_close(one_go.module.bias, average.module.bias)


def test_converges_to_the_module():
    average, target = ExponentialAverage(constant(0.0), half_life=10), constant(0.3)
    for step in range(100):
        average.update(target, 10, 10**6 + 10 * step)
    torch.testing.assert_close(average.module.weight, target.weight, rtol=1e-12, atol=0)


def test_early_weights_do_not_linger():
    """Over the first images the half-life is a twentieth of the images seen."""
    average = ExponentialAverage(constant(0.0), half_life=1000)
    average.update(constant(1.0), 10, 400)
    np.testing.assert_allclose(average.module.weight.numpy(), 1 - 0.5 ** (10 / 20), rtol=1e-12)
    average = ExponentialAverage(constant(0.0), half_life=1000)
    average.update(constant(1.0), 64, 64)
    assert (average.module.weight > 0.999_99).all()
    average = ExponentialAverage(constant(0.0), half_life=1000)
    average.update(constant(1.0), 10, 20_000)  # from here on, the full half-life
    np.testing.assert_allclose(average.module.weight.numpy(), 1 - 0.5 ** (10 / 1000), rtol=1e-12)


def test_half_life_0_is_a_copy():
    average = ExponentialAverage(constant(0.0), half_life=0)
    average.update(constant(0.7), 1, 1)
    assert (average.module.weight == 0.7).all()


def test_buffers_are_copied():
    module = nn.BatchNorm1d(2)
    average = ExponentialAverage(module, half_life=10**9)
    module.train()(torch.tensor([[1.0, 2.0], [3.0, 8.0]]))
    average.update(module, 2, 10**12)
    torch.testing.assert_close(average.module.running_mean, module.running_mean, rtol=0, atol=0)
    assert average.module.num_batches_tracked == 1


def test_the_average_is_apart_from_the_module():
    module = constant(0.5).train()
    average = ExponentialAverage(module, half_life=10)
    with torch.no_grad():
        module.weight += 1
    assert (average.module.weight == 0.5).all()
    assert not average.module.training and not any(p.requires_grad for p in average.module.parameters())
    assert module.training and module.weight.requires_grad


@pytest.mark.parametrize(
    ("settings", "images"),
    [
        ({}, 20_000.0),  # the preset's own batch of 64
        ({"batch_size": 512}, 160_000.0),  # and not 39 steps
        ({"batch_size": 8}, 2_500.0),
        ({"batch_size": 512, "ema_batch": 0}, 20_000.0),
        ({"batch_size": 512, "ema_half_life": 0}, 0.0),
    ],
)
def test_the_half_life_is_as_many_steps_of_any_batch(settings, images):
    """StyleGAN2-ADA: a half-life of 10/32 thousand images for each image of a batch."""
    config = GANConfig(**settings)
    assert config.ema_images == images
    if config.ema_half_life and config.ema_batch:
        assert images == config.batch_size * 10_000 / 32


def test_an_earlier_run_keeps_its_half_life(tmp_path):
    settings = GANConfig(batch_size=8).to_dict()
    del settings["ema_batch"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    assert load_config(GANConfig, tmp_path / "config.yaml").ema_images == 20_000
