import pytest
import torch
from torch import nn

from rnagan.config import GANConfig, read_preset, resolve
from rnagan.models.build import build_critic
from rnagan.models.critic import Critic


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


def test_projection_equals_the_formula():
    """Miyato & Koyama 2018, equation 3: φ(x)·(Vᵀy) + ψ(φ(x)), one tile at a time."""
    critic, x, c = small_critic(), tiles(), torch.randn(4, 5).double()
    for score, tile, condition in zip(critic(x, c), x, c, strict=True):
        h = critic.features(tile[None])[0].flatten(1).mean(dim=1)
        v = critic.projection.weight
        expected = h @ critic.score.weight[0] + critic.score.bias[0] + condition @ (v.T @ h)
        torch.testing.assert_close(score, expected)
    assert critic.projection.bias is None


def test_score_changes_with_the_profile_of_a_projection_critic_only():
    x, c = tiles(), torch.randn(4, 5).double()
    conditional, plain = small_critic(), small_critic(0)
    assert not torch.isclose(conditional(x, c), conditional(x, c.roll(1, 0))).any()
    torch.testing.assert_close(plain(x, c), plain(x), rtol=0, atol=0)
    with pytest.raises(AssertionError, match="called with the condition"):
        conditional(x)


def test_critics_of_the_presets():
    def build(preset, **changes):
        return build_critic(resolve(GANConfig, read_preset(GANConfig, preset), {"critic_width": 4} | changes), 5)

    def has_batch_norm(critic):
        return any(isinstance(module, nn.BatchNorm2d) for module in critic.modules())

    assert build("faithful").projection.in_features == 5 and not has_batch_norm(build("faithful"))
    assert build("released").projection is None and has_batch_norm(build("released"))
    assert build("faithful", mode="gan").projection is None  # without profiles there is nothing to show


def test_scores_do_not_depend_on_the_tiles_beside_them():
    critic, x, c = small_critic(), tiles(), torch.randn(4, 5).double()
    torch.testing.assert_close(critic(x, c)[1:2], critic(x[1:2], c[1:2]))
    with_norm = small_critic(norm="batch")
    assert not torch.allclose(with_norm(x, c)[1:2], with_norm(x[1:2], c[1:2]))


def test_channels_double_up_to_256():
    widths = [layer.out_channels for layer in Critic(256, 32, "none").features if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 64, 128, 256, 256, 256, 256, 256]
