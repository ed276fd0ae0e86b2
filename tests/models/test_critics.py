import pytest
import torch
from torch import nn

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.io.weights import load_weights, save_weights
from rnagan.models.critics import Critic, DCCritic, ResidualCritic, build_critic


def tiles(n=4, side=32):
    torch.manual_seed(1)
    return torch.rand(n, 3, side, side, dtype=torch.float64) * 2 - 1


def small_critic(condition_width=5, norm="none", side=32):
    torch.manual_seed(0)
    return Critic(side, 4, norm, condition_width).double()


@pytest.mark.parametrize("side", [32, 64, 128])
@pytest.mark.parametrize("width", [0, 5])
def test_one_score_a_tile_from_features_of_4_px(side, width):
    critic, x = small_critic(width, side=side), tiles(side=side)
    assert critic(x, torch.randn(4, 5).double() if width else None).shape == (4,)
    assert critic.features(x).shape[2:] == (4, 4)


def means_of_scales(critic, tile):
    """Of every feature map but those of full size, one tile at a time."""
    means, x = [], tile[None]
    for layer in critic.features:
        x = layer(x)
        if isinstance(layer, nn.LeakyReLU) and x.shape[-1] < tile.shape[-1]:
            means.append(x[0].flatten(1).mean(dim=1))
    return torch.cat(means)


def test_projection_equals_the_formula():
    """Miyato & Koyama 2018, equation 3: φ(x)·(Vᵀy) + ψ(φ(x)), where y is the condition and a layer of it."""
    critic, x, c = small_critic(), tiles(), torch.randn(4, 5).double()
    for score, tile, condition in zip(critic(x, c), x, c, strict=True):
        h = means_of_scales(critic, tile)
        assert len(h) == 8 + 16 + 32 + 32  # of 16, 8 and 4 px, and of 4 px again
        first = critic.embedding[0]
        inner = first.weight @ condition + first.bias
        y = torch.cat([condition, torch.where(inner > 0, inner, 0.2 * inner)])
        ours = h @ critic.score.weight[0] + critic.score.bias[0] + y @ (critic.projection.weight.T @ h)
        torch.testing.assert_close(score, ours)
        without_embedding = ours - y[5:] @ (critic.projection.weight.T @ h)[5:]
        assert not torch.isclose(score, without_embedding)
    assert critic.projection.bias is None


def test_dcgans_critic_is_torchgans():
    """torchgan 0.1.0, models/dcgan.py, with 32 channels at 256 px: five doublings, then 4 × 4 px to one score."""
    shapes = [tuple(layer.weight.shape) for layer in DCCritic(256, 32, "batch").modules() if hasattr(layer, "stride")]
    doubling = [(2 * n, n, 4, 4) for n in (32, 64, 128, 256, 512)]
    assert shapes == [(32, 3, 4, 4), *doubling, (1, 1024, 4, 4)]
    critic, x = DCCritic(32, 4, "none").double(), tiles()
    inner = critic.score[0](critic.features(x)).flatten()
    torch.testing.assert_close(critic(x), torch.where(inner > 0, inner, 0.2 * inner))
    assert critic(x).shape == (4,) and critic.features(x).shape[2:] == (4, 4)


def test_score_changes_with_the_profile_of_a_projection_critic_only():
    x, c = tiles(), torch.randn(4, 5).double()
    conditional, plain = small_critic(), small_critic(0)
    assert not torch.isclose(conditional(x, c), conditional(x, c.roll(1, 0))).any()
    torch.testing.assert_close(plain(x, c), plain(x), rtol=0, atol=0)
    with pytest.raises(AssertionError, match="called with the condition"):
        conditional(x)


def test_critics_of_the_presets():
    def build(preset, **changes):
        config = resolve(GANConfig, read_preset(GANConfig, preset), {"critic_width": 4} | changes)
        return build_critic(config, 5, None).pixels

    def has_batch_norm(critic):
        return any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())

    assert build("faithful").embedding[0].in_features == 5 and not has_batch_norm(build("faithful"))
    assert isinstance(build("released"), DCCritic) and has_batch_norm(build("released"))
    assert isinstance(build("faithful_256"), ResidualCritic) and not has_batch_norm(build("faithful_256"))
    assert build("faithful", mode="gan").projection is None  # without profiles there is nothing to show


def test_scores_do_not_depend_on_the_tiles_beside_them():
    critic, x, c = small_critic(), tiles(), torch.randn(4, 5).double()
    torch.testing.assert_close(critic(x, c)[1:2], critic(x[1:2], c[1:2]))
    with_norm = small_critic(norm="batch")
    assert not torch.allclose(with_norm(x, c)[1:2], with_norm(x[1:2], c[1:2]))


def test_channels_double_up_to_256():
    widths = [layer.out_channels for layer in Critic(256, 32, "none").features if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 64, 128, 256, 256, 256, 256, 256]


@pytest.mark.parametrize("preset", ["faithful", "paper", "released"])
def test_weights_from_before_there_were_two_critics_are_those_of_the_critic_on_pixels(preset, tmp_path):
    changes = {"critic_width": 4, "pixel_loss": "wgan_gp", "backbone": "none"}
    config = resolve(GANConfig, read_preset(GANConfig, preset), changes)
    torch.manual_seed(0)
    stored = build_critic(config, 5, None)
    save_weights(tmp_path / "today.safetensors", stored)
    save_weights(tmp_path / "earlier.safetensors", stored.pixels)  # which was the whole
    for name in ("today", "earlier"):
        critic = build_critic(config, 5, None)
        assert any(not torch.equal(own, stored.state_dict()[key]) for key, own in critic.state_dict().items())
        load_weights(tmp_path / f"{name}.safetensors", critic)
        torch.testing.assert_close(dict(critic.state_dict()), dict(stored.state_dict()), rtol=0, atol=0)
    other = build_critic(config.replace(critic_width=8), 5, None)
    with pytest.raises(ValueError, match="belongs to another architecture"):
        load_weights(tmp_path / "earlier.safetensors", other)
