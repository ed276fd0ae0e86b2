import numpy as np
import pytest
import torch

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import draw_noise, generator_input
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.models.sampling import generate, to_uint8
from rnagan.models.tile_generator import SamplingOptions


def model(preset="faithful", condition_width=3, **changes):
    settings = {"resolution": 32, "generator_width": 4, "noise_units": 4} | changes
    config = resolve(GANConfig, read_preset(GANConfig, preset), settings)
    torch.manual_seed(0)
    return GANGenerator(config, build_generator(config, condition_width).double().eval(), condition_width)


C = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64)


def test_tiles_are_the_generators_output():
    generator = model()
    tiles = generate(generator, C, 5, 3, "GTEX-1")
    assert tiles.shape == (5, 32, 32, 3) and tiles.dtype == np.uint8
    code = generator_input(generator.config, C.expand(5, -1), draw_noise(generator.config, "GTEX-1", 0, 5, 3, 3))
    np.testing.assert_array_equal(tiles, to_uint8(generator.network(code).detach().float()))
    assert not np.array_equal(tiles[0], tiles[1])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_tile_does_not_depend_on_the_batch_or_the_count(batch_size):
    generator = model()
    expected = generate(generator, C, 7, 0, "p")
    tiles = generate(generator, C, 5, 0, "p", batch_size)
    assert np.abs(tiles.astype(int) - expected[:5]).max() <= 1  # float64 convolutions may differ by a rounding
    assert (tiles == expected[:5]).mean() > 0.999


def test_profile_seed_and_purpose_all_matter():
    generator = model()
    base = generate(generator, C, 2, 0, "p")
    for other in (
        generate(generator, -C, 2, 0, "p"),
        generate(generator, C, 2, 1, "p"),
        generate(generator, C, 2, 0, "q"),
    ):
        assert not np.array_equal(base, other)
    np.testing.assert_array_equal(base, generate(generator, C, 2, 0, "p"))


def test_a_gan_without_profiles_generates_from_noise():
    generator = model(mode="gan", condition_width=0)
    assert generate(generator, None, 3, 0, "p").shape == (3, 32, 32, 3)


def test_released_generates_every_profile_alike():
    """The contrast: standardised over a batch of one profile, the profile is gone."""
    generator = model("released")
    np.testing.assert_array_equal(generate(generator, C, 8, 0, "p"), generate(generator, -C, 8, 0, "p"))


def test_truncation_scales_the_noise_and_leaves_the_condition_alone():
    generator = model()
    half = generate(generator, C, 5, 0, "p", options=SamplingOptions(truncation=0.5))
    code = generator_input(generator.config, C.expand(5, -1), 0.5 * draw_noise(generator.config, "p", 0, 5, 3, 0))
    np.testing.assert_array_equal(half, to_uint8(generator.network(code).detach().float()))
    both = generator_input(generator.config, C.expand(5, -1), draw_noise(generator.config, "p", 0, 5, 3, 0))
    wrong = 0.5 * both  # the profile, too
    assert not np.array_equal(half, to_uint8(generator.network(wrong).detach().float()))
    np.testing.assert_array_equal(
        generate(generator, C, 5, 0, "p", options=SamplingOptions(truncation=1.0)), generate(generator, C, 5, 0, "p")
    )

    def spread(truncation):
        return generate(generator, C, 16, 0, "p", options=SamplingOptions(truncation=truncation)).std(axis=0).mean()

    assert spread(1.0) > 1.2 * spread(0.5) > 1.2**2 * spread(0.1)
    other = generate(generator, -C, 5, 0, "p", options=SamplingOptions(truncation=0.1))
    assert (
        np.abs(other.astype(int) - generate(generator, C, 5, 0, "p", options=SamplingOptions(truncation=0.1))).max() > 3
    )


@pytest.mark.parametrize("truncation", [0.0, -0.5, 1.01, float("nan")])
def test_truncation_that_is_none(truncation):
    generator = model()
    with pytest.raises(ValueError, match=r"^truncation must be above 0 and at most 1, not "):
        generate(generator, C, 1, 0, "p", options=SamplingOptions(truncation=truncation))


def test_to_uint8_rounds_and_clips():
    values = np.array([-1.7, -1.0, -0.999, 0.0039, 0.9, 1.0, 1.2])
    x = np.broadcast_to(values[:, None, None, None], (7, 3, 2, 5))
    found = to_uint8(torch.tensor(x))
    assert found.shape == (7, 2, 5, 3) and found.dtype == np.uint8 and found.flags.c_contiguous
    # 127.5 (v + 1): −0.999 → 0.13, 0.0039 → 127.997 (truncating would give 127), 0.9 → 242.25
    assert found[:, 0, 0, 0].tolist() == [0, 0, 0, 128, 242, 255, 255]


def test_to_uint8_undoes_the_trainers_scaling():
    tile = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    for dtype in (np.float32, np.float64):
        scaled = torch.from_numpy(tile.astype(dtype) / dtype(127.5) - 1)
        np.testing.assert_array_equal(to_uint8(scaled), tile.transpose(0, 2, 3, 1))


def test_to_uint8_keeps_channels_and_axes():
    x = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 6))
    for n, c, row, column in ((0, 0, 1, 5), (1, 2, 3, 0)):
        assert to_uint8(torch.from_numpy(x))[n, row, column, c] == round((x[n, c, row, column] + 1) * 127.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_uint8_rounds_as_numpy_does(dtype):
    """Models of earlier versions were rounded so: the same tiles, bit for bit."""
    x = np.random.default_rng(1).normal(0, 0.8, (4, 3, 16, 16)).astype(dtype)
    x[0, 0, 0] = (np.arange(16) + 0.5) / 127.5 - 1  # halves, as near as they come
    expected = ((x.transpose(0, 2, 3, 1) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    x = torch.from_numpy(x)
    for layout in (torch.contiguous_format, torch.channels_last):
        np.testing.assert_array_equal(to_uint8(x.to(memory_format=layout)), expected)
