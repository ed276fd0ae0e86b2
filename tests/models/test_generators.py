import itertools

import pytest
import torch
from torch import nn

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.models.conditioning import input_width, noise_maps, noise_width, spatial_noise_width
from rnagan.models.generators import build_generator, interleaved


def small(preset="faithful", **changes):
    return resolve(GANConfig, read_preset(GANConfig, preset), {"generator_width": 4, "noise_units": 5} | changes)


def codes(config, condition_width, n=3):
    maps = noise_width(config, condition_width) - noise_width(
        config.replace(generator="dcgan", generator_turns=False, generator_grain=False), condition_width
    )
    return torch.randn(n, input_width(config, condition_width) + maps)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize("preset", ["faithful", "faithful_256", "released"])
def test_shape_and_range(preset, resolution):
    config = small(preset, resolution=resolution)
    tiles = build_generator(config, 6)(3 * codes(config, 6))
    assert tiles.shape == (3, 3, resolution, resolution)
    assert tiles.min() >= -1 and tiles.max() <= 1 and tiles.std() > 0.01


@pytest.mark.parametrize("preset", ["faithful", "faithful_256", "released"])
@pytest.mark.parametrize("mode", ["gan", "noise_only"])
def test_modes_without_profiles_take_noise_alone(preset, mode):
    config = small(preset, mode=mode, resolution=32)
    assert input_width(config, 0) == 5
    assert build_generator(config, 0)(codes(config, 0)).shape == (3, 3, 32, 32)


def test_noise_maps_and_their_widths():
    assert [noise_maps(resolution, grain=False) for resolution in (32, 64, 128, 512)] == [
        [8, 16],
        [8, 16, 32],
        [8, 16, 32, 64],
        [8, 16, 32, 64],
    ]
    assert [noise_maps(resolution, grain=True) for resolution in (32, 64, 512)] == [
        [8, 16, 32],
        [8, 16, 32, 64],
        [8, 16, 32, 64],
    ]
    assert spatial_noise_width(64, grain=False) == 8**2 + 16**2 + 32**2
    assert spatial_noise_width(64, grain=True) == 8**2 + 16**2 + 32**2 + 64**2


@pytest.mark.parametrize("resolution", [64, 256])
@pytest.mark.parametrize("preset", ["faithful", "faithful_256"])
def test_grain_gives_every_pixel_a_noise_of_its_own(preset, resolution):
    config = small(preset, resolution=resolution, generator_norm="none", generator_turns=False, generator_grain=True)
    generator, sides = build_generator(config, 6), [side for side in (8, 16, 32, 64, 128, 256) if side <= resolution]
    strengths = [own for name, own in generator.named_parameters() if name.endswith("noise_strength")]
    assert generator.noise.sides == sides and len(strengths) == len(sides)
    for own in generator.parameters():  # a branch's last layer starts at 0
        if not own.any():
            torch.nn.init.normal_(own, std=0.1)
    for own in strengths[:-1]:  # what is left is the map of the tile's own side
        torch.nn.init.zeros_(own)
    code = codes(config, 6, n=1)
    changed = code.clone()
    changed[0, -1 - 20 * 64 - 20] += 1  # of the map of 64 px
    moved = ((generator(changed) - generator(code)).abs().amax(dim=(0, 1)) > 0).sum()
    assert 0 < moved <= (resolution // 64) ** 2 * 9**2  # as far as the convolutions after it reach


@pytest.mark.parametrize("times", [2, 4, 8])
def test_interleaved_noise_is_white_at_close_range(times):
    noise = torch.randn(1, 1, 64, 64)
    fine = interleaved(noise, 64 * times)
    assert fine.shape == (1, 1, 64 * times, 64 * times)
    assert torch.equal(fine.flatten().sort().values, noise.flatten().repeat(times**2).sort().values)
    window, own = 4 * times, fine[0, 0]
    for row in range(-window, window + 1):
        for column in range(-window, window + 1):
            same = (own == own.roll((row, column), (0, 1))).float().mean()
            assert same == (1 if row == column == 0 else 0), (row, column)


def test_norms_of_the_presets():
    def norms(preset):
        return {type(module) for module in build_generator(small(preset), 6).modules() if hasattr(module, "eps")}

    assert norms("faithful") == {nn.GroupNorm}
    assert norms("released") == {nn.BatchNorm2d}


def test_faithful_tiles_do_not_depend_on_the_tiles_beside_them():
    for preset in ("faithful", "faithful_256"):
        config = small(preset, resolution=32)
        generator, code = build_generator(config, 6).double(), codes(config, 6).double()
        torch.testing.assert_close(generator(code)[1:2], generator(code[1:2]))
    released = small("released", resolution=32)
    generator, code = build_generator(released, 6).double(), codes(released, 6).double()
    assert not torch.allclose(generator(code)[1:2], generator(code[1:2] + 0 * code[:1]).detach(), atol=1e-4)


def test_a_noise_map_changes_the_tile_where_it_lies():
    config = small(generator_norm="none", resolution=64)
    generator, code = build_generator(config, 6), codes(config, 6, n=1)
    changed, row, column = code.clone(), 5, 11
    changed[0, input_width(config, 6) + 8 * 8 + row * 16 + column] += 1  # of the map of 16 px: 4 px of the tile
    difference = (generator(changed) - generator(code)).abs().amax(dim=(0, 1))
    rows, columns = (difference > 0).nonzero().T
    for places, first in ((rows, 4 * row), (columns, 4 * column)):  # and what convolutions carry on, some px more
        assert first - 8 <= places.min() <= first and first + 3 <= places.max() < first + 12


def test_the_code_changes_the_tile_everywhere():
    config = small()
    generator, code = build_generator(config, 6), codes(config, 6, n=1)
    changed = code.clone()
    changed[0, 2] += 1
    assert ((generator(changed) - generator(code)).abs().amax(dim=(0, 1)) > 0).all()


def test_film_scales_and_shifts():
    """norm(x) · (1 + scale) + shift with (scale, shift) = film(code), by hand for one block."""
    block = build_generator(small(generator_norm="none"), 6).blocks[0]
    x, code = torch.randn(2, block.convolution.in_channels, 1, 1), torch.randn(2, block.film.in_features)
    noise = torch.randn(2, 1, 8, 8)
    h = block.convolution(x.expand(-1, -1, 8, 8)) + block.noise_strength * noise
    scale, shift = (code @ block.film.weight.T + block.film.bias).split(block.convolution.out_channels, dim=1)
    expected = h * (1 + scale)[:, :, None, None] + shift[:, :, None, None]
    expected = torch.where(expected > 0, expected, 0.2 * expected)
    torch.testing.assert_close(block(x.expand(-1, -1, 4, 4), code, noise), expected)


@pytest.mark.parametrize("preset", ["faithful", "faithful_256"])
def test_turned_tiles_are_the_eight_views_of_one(preset):
    config = small(preset, resolution=32)
    plain, turned = (build_generator(config.replace(generator_turns=turns), 6) for turns in (False, True))
    turned.load_state_dict(plain.state_dict())
    code, views = codes(config, 6, n=1), []
    for signs in itertools.product((-1.0, 1.0), repeat=3):  # of the first numbers of the map of 8 px
        code[:, input_width(config, 6) :][:, :3] = torch.tensor(signs)
        expected = plain(code)
        for is_turned, way in zip(signs, (lambda x: x.flip(2), lambda x: x.flip(3), lambda x: x.mT), strict=True):
            expected = way(expected) if is_turned > 0 else expected
        assert torch.equal(turned(code), expected)
        views.append(expected)
    assert all((one - other).abs().max() > 0.01 for one, other in itertools.combinations(views, 2))


def test_only_tiles_without_an_upper_side_are_turned():
    for changes in ({"flips": False}, {"quarter_turns": False}, {"generator": "dcgan"}):
        with pytest.raises(ValueError, match="generator_turns needs generator upsample or residual, flips"):
            small(generator_turns=True, **changes)


def test_channels_double_towards_4_px_up_to_256():
    config = small(generator_width=32, resolution=256)
    channels = [block.convolution.out_channels for block in build_generator(config, 6).blocks]
    assert channels == [256, 256, 256, 128, 64, 32]
    dcgan = build_generator(small("released", generator_width=4, resolution=64), 6).layers
    assert [layer.in_channels for layer in dcgan if isinstance(layer, nn.ConvTranspose2d)] == [6, 32, 16, 8, 4]


def test_every_parameter_learns():
    for preset in ("faithful", "released"):
        config = small(preset, resolution=32)
        generator = build_generator(config, 6)
        (generator(codes(config, 6)) ** 2).sum().backward()
        for name, parameter in generator.named_parameters():  # one without a gradient would stop DDP
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
