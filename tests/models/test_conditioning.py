import numpy as np
import pytest
import torch

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import (
    draw_noise,
    generator_input,
    input_width,
    make_bottleneck,
    noise_width,
    spatial_noise_width,
)

LATENT = 7
MEAN = torch.linspace(-2, 2, LATENT)
SD = torch.tensor([1.0, 0.5, 1e-9, 2.0, 0.8, 1e-9, 0.1])  # units 2 and 5 carry nothing
ACTIVE = torch.tensor([3, 0, 6, 4, 1])  # by falling KL


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def config(preset="faithful", **changes):
    return resolve(GANConfig, read_preset(GANConfig, preset), changes)


def bottleneck(gan_config):
    return make_bottleneck(gan_config, ACTIVE, MEAN, SD)


def test_bottleneck_standardises_active_units_with_fixed_statistics():
    mu = torch.randn(9, LATENT)
    layer = bottleneck(config(condition_units=3))
    expected = np.stack([(mu[:, unit] - MEAN[unit]) / SD[unit] for unit in (3, 0, 6)], axis=1)
    np.testing.assert_allclose(layer(mu).numpy(), expected, rtol=1e-5)
    assert layer.width == 3
    torch.testing.assert_close(layer(mu[:1]), layer(mu)[:1])  # nothing depends on the batch
    assert not list(layer.parameters()) and set(layer.state_dict()) == {"units", "mean", "sd"}


def test_inactive_units_are_left_out_and_never_divided():
    layer = bottleneck(config())
    assert layer.width == 5
    mu = torch.randn(4, LATENT)
    changed = mu.clone()
    changed[:, [2, 5]] += 100
    torch.testing.assert_close(layer(mu), layer(changed), rtol=0, atol=0)
    assert layer(mu).abs().max() < 1e3


def test_a_vae_without_active_units_is_refused():
    with pytest.raises(ValueError, match=r"The VAE has no active latent unit.*lower its beta"):
        make_bottleneck(config(), ACTIVE[:0], MEAN, SD)


def test_the_paper_passes_every_unit_as_it_is():
    mu = torch.randn(4, LATENT)
    torch.testing.assert_close(bottleneck(config("released"))(mu), mu, rtol=0, atol=0)


def inputs(gan_config, mu, start=0):
    c = bottleneck(gan_config)(mu).double()
    noise = draw_noise(gan_config, "noise", start, len(mu), c.shape[1], gan_config.seed)
    return generator_input(gan_config, c, noise)


def test_one_profile_a_batch_cancels_out_as_released_but_not_in_the_bottleneck():
    """DESIGN.md, "Conditioning", (1): two profiles give identical inputs where the batch holds one profile."""
    one, other = (torch.randn(1, LATENT).expand(16, -1) for _ in range(2))
    released, faithful, paper = config("released"), config(), config("released", batch_standardise=False)
    torch.testing.assert_close(inputs(released, one), inputs(released, other), rtol=0, atol=1e-6)
    assert inputs(released, one).std(dim=0).min() > 0.9  # what is left is the noise
    for kept in (faithful, paper):
        assert (inputs(kept, one) - inputs(kept, other)).abs().max() > 0.1
    mixed = torch.cat([one[:8], other[:8]])  # with two profiles in the batch, standardising keeps their difference
    code = inputs(released, mixed)
    assert (code[:8].mean(dim=0) - code[8:].mean(dim=0)).abs().max() > 0.5


def test_released_standardises_as_numpy_does():
    released, mu = config("released"), torch.randn(6, LATENT)
    code = mu.double().numpy() + draw_noise(released, "noise", 0, 6, LATENT, released.seed).numpy()
    expected = (code - code.mean(axis=0)) / code.std(axis=0, ddof=1)
    np.testing.assert_allclose(inputs(released, mu).numpy(), expected, rtol=1e-6)
    single = inputs(released, mu[:1])  # one tile has no spread to divide by
    assert single.isfinite().all() and single.abs().max() > 0


def test_faithful_input_is_condition_then_noise():
    faithful, mu = config(noise_units=4, resolution=32), torch.randn(3, LATENT)
    c = bottleneck(faithful)(mu).double()
    noise = draw_noise(faithful, "noise", 10, 3, 5, faithful.seed)
    assert noise.shape == (3, noise_width(faithful, 5)) == (3, 4 + 8 * 8 + 16 * 16)
    torch.testing.assert_close(inputs(faithful, mu, start=10), torch.cat([c, noise], dim=1), rtol=0, atol=0)


@pytest.mark.parametrize("generator", ["upsample", "residual", "dcgan"])
@pytest.mark.parametrize("mode", ["rnagan", "gan", "noise_only"])
@pytest.mark.parametrize("condition", ["bottleneck", "latent_plus_noise"])
def test_widths_agree(mode, condition, generator):
    gan_config = GANConfig(
        mode=mode,
        condition=condition,
        generator=generator,
        generator_norm="none",
        critic="image_only",
        resolution=32,
        noise_units=4,
    )
    width = 6 if mode == "rnagan" else 0
    noise = draw_noise(gan_config, "noise", 0, 3, width, 0)
    assert noise.shape == (3, noise_width(gan_config, width)) and noise.dtype == torch.float64
    code = generator_input(gan_config, torch.zeros(3, width).double() if width else None, noise)
    maps = spatial_noise_width(32, grain=False) if generator != "dcgan" else 0
    assert code.shape == (3, input_width(gan_config, width) + maps)
    if maps:
        torch.testing.assert_close(code[:, -maps:], noise[:, -maps:], rtol=0, atol=0)


def test_noise_is_addressed_by_image_number():
    gan_config = config(resolution=32)
    whole = draw_noise(gan_config, "noise", 5, 8, 3, 1)
    parts = [draw_noise(gan_config, "noise", start, 4, 3, 1) for start in (5, 9)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)
    for other in (draw_noise(gan_config, "other", 5, 8, 3, 1), draw_noise(gan_config, "noise", 5, 8, 3, 2)):
        assert not torch.allclose(other, whole)


@pytest.mark.parametrize(
    ("changes", "uniform"),
    [
        ({}, False),
        ({"mode": "gan"}, False),
        ({"mode": "noise_only"}, True),
        ({"condition": "latent_plus_noise", "critic": "image_only"}, True),
        ({"condition": "latent_plus_noise", "critic": "image_only", "mode": "gan"}, False),
    ],
)
def test_kind_of_noise(changes, uniform):
    draws = draw_noise(GANConfig(generator="dcgan", **changes), "noise", 0, 2000, 8, 0)
    if uniform:
        assert draws.abs().max() <= 0.3 and draws.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.03)
    else:
        assert draws.abs().max() > 3 and draws.std().item() == pytest.approx(1, rel=0.03)
