import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnagan.config.gan import GANConfig
from rnagan.models.backbones import Backbone, digest_of, make_backbone
from rnagan.models.critics import Views, build_critic
from rnagan.models.feature_critic import MIXED, FeatureHeads, FrozenFeatures
from rnagan.runtime import rng
from tests.models.test_backbones import plain_maps


class ToyMaps(Backbone):
    """Maps at strides 4 and 8."""

    channels = (5, 7)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 5, 4, stride=4), nn.Conv2d(5, 7, 2, stride=2)
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        fine = torch.tanh(self.first(x))
        return [fine, torch.tanh(self.second(fine))]


def tiles(n: int = 2, side: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, side, side, generator=draw, dtype=torch.float64) * 2 - 1


def weights_of(seed: int, k: int, channels: int) -> tuple[Tensor, Tensor]:
    """Mixing weights drawn anew: normal, of variance 1 / inputs."""
    of_channels = rng.generator(seed, f"mixing/channels/{k}").standard_normal((MIXED, channels, 1, 1))
    of_scales = rng.generator(seed, f"mixing/scales/{k}").standard_normal((MIXED, MIXED, 3, 3))
    drawn = of_channels / np.sqrt(channels), of_scales / np.sqrt(9 * MIXED)
    return tuple(torch.from_numpy(own).float().double() for own in drawn)


def plain_mixing(maps: list[Tensor], seed: int, top_down: bool = True) -> list[Tensor]:
    """Sauer et al. 2021, section 3.2, from the coarsest map on."""
    mixed, coarser = [], None
    for k in reversed(range(len(maps))):
        of_channels, of_scales = weights_of(seed, k, maps[k].shape[1])
        own = F.conv2d(maps[k], of_channels)
        if coarser is not None and top_down:
            own = own + F.interpolate(coarser, size=own.shape[-2:], mode="bilinear", align_corners=False)
        coarser = F.conv2d(own, of_scales, padding=1)
        mixed.append(coarser)
    return mixed[::-1]


def test_frozen_path_equals_a_plain_one_in_float64() -> None:
    """Tiles enlarged, EfficientNet-Lite0 with its BatchNorms, and the mixing."""
    frozen = FrozenFeatures(make_backbone("efficientnet_lite0"), 64, seed=3).double()
    x = tiles()
    maps = plain_maps(F.interpolate(x, size=(64, 64), mode="bilinear", align_corners=False))
    mixed = frozen(x)
    assert [own.shape for own in mixed] == [(2, MIXED, side, side) for side in (16, 8, 4, 2)]
    for own, plain in zip(mixed, plain_mixing(maps, 3), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-4, atol=1e-4 * plain.std().item())
    apart = plain_mixing(maps, 3, top_down=False)  # known wrong: scales not mixed
    assert (mixed[0] - apart[0]).abs().max() > 0.1 * mixed[0].std()


def test_mixing_alone_equals_a_plain_one_to_rounding() -> None:
    frozen, x = FrozenFeatures(ToyMaps(), 32, seed=1).double(), tiles()
    for own, plain in zip(frozen(x), plain_mixing(frozen.backbone(x), 1), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-10, atol=1e-12)


def test_tiles_are_brought_to_the_backbones_size() -> None:
    x = tiles(side=64)
    smaller = FrozenFeatures(ToyMaps(), 32, 0).double()
    means = x.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(-2, -1))
    shrunk = F.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)
    assert (shrunk - means).abs().mean() < (
        F.interpolate(x, size=(32, 32)) - means
    ).abs().mean() / 2  # no pixel is lost
    torch.testing.assert_close(smaller(x)[0], smaller(shrunk)[0])
    larger = FrozenFeatures(ToyMaps(), 128, 0).double()
    assert [own.shape[-1] for own in larger(x)] == [32, 16] == larger.sides
    torch.testing.assert_close(larger(x)[0], larger(F.interpolate(x, scale_factor=2, mode="bilinear"))[0])


def test_mixing_is_addressed_by_the_seed_and_saved() -> None:
    own, again, other = (FrozenFeatures(ToyMaps(), 32, seed) for seed in (0, 0, 1))
    names = {f"{kind}_{k}" for kind in ("channels", "scales") for k in (0, 1)}
    assert own.state_dict().keys() == names
    assert all(torch.equal(own.state_dict()[name], again.state_dict()[name]) for name in names)
    assert not any(torch.equal(own.state_dict()[name], other.state_dict()[name]) for name in names)
    x = tiles().float()
    assert not torch.allclose(own(x)[0], other(x)[0])
    other.load_state_dict(own.state_dict())
    assert torch.equal(own(x)[0], other(x)[0])
    torch.rand(3)  # torch's own generator has no part in it
    assert digest_of(FrozenFeatures(ToyMaps(), 32, 0)) == digest_of(own)


def test_backbone_is_no_part_of_what_is_trained_or_saved() -> None:
    frozen = FrozenFeatures(ToyMaps(), 32, 0)
    assert not list(frozen.parameters()) and not list(frozen.children())
    frozen.train().requires_grad_(True)
    assert not frozen.backbone.training and not any(own.requires_grad for own in frozen.backbone.parameters())
    x = tiles().float().requires_grad_(True)
    sum(own.square().sum() for own in frozen(x)).backward()
    assert x.grad is not None and all(own.grad is None for own in frozen.backbone.parameters())
    frozen.to(torch.float64)
    assert (
        {own.dtype for own in frozen.backbone.parameters()}
        == {torch.float64}
        == {own.dtype for own in frozen.buffers()}
    )
    config = GANConfig(resolution=32, critic_width=4, backbone="efficientnet_lite0", backbone_px=64)
    critic = build_critic(config, 3, frozen)
    assert not any("backbone" in name or "first" in name for name in critic.state_dict())


class Unfit(ToyMaps):
    """Maps that the heads can't take."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "channels":
            self.channels = (5, 8)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = super().forward(x)
        if self.kind == "missing":
            return maps[:1]
        return maps[::-1] if self.kind == "order" else maps


@pytest.mark.parametrize(
    ("backbone", "px", "sentence"),
    [
        ("efficientnet_lite0", 32, r"maps of 32 px have sides \[8, 4, 2, 1\]; .* choose another backbone_px\.$"),
        ("efficientnet_lite0", 96, r"maps of 96 px have sides \[24, 12, 6, 3\]; they must be powers of two"),
        (ToyMaps(), 3, r"can't take tiles of 3 px \(.*\); choose another backbone_px\.$"),
        (Unfit("channels"), 32, r"maps have \[5, 7\] channels, and it says \[5, 8\]\.$"),
        (Unfit("missing"), 32, r"maps have \[5\] channels, and it says \[5, 7\]\.$"),
        (Unfit("order"), 32, r"maps have \[7, 5\] channels, and it says \[5, 7\]\.$"),
    ],
)
def test_maps_that_do_not_fit_are_refused_in_one_sentence(backbone: str | Backbone, px: int, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FrozenFeatures(make_backbone(backbone) if isinstance(backbone, str) else backbone, px, 0)


SIDES = [16, 8, 4, 2]


def maps_of(n: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(n, MIXED, side, side, generator=draw, dtype=torch.float64).to(dtype) for side in SIDES]


def heads(condition_width: int) -> FeatureHeads:
    torch.manual_seed(0)
    return FeatureHeads(SIDES, condition_width).double().eval()


def test_heads_give_a_score_a_place_of_at_most_4_px() -> None:
    assert heads(0)(maps_of(), None).shape == (3, 16 + 16 + 16 + 4)
    assert [sum(isinstance(layer, nn.Conv2d) for layer in head.features) for head in heads(0).heads] == [3, 2, 1, 1]


def test_score_equals_the_formula() -> None:
    """Miyato & Koyama 2018, equation 3, at each place: φ·(V y) + ψ(φ), where y is the condition and a layer of it."""
    network, maps, c = heads(5), maps_of(), torch.randn(3, 5).double()
    scores = network(maps, c)
    first = 0
    for head, own in zip(network.heads, maps, strict=True):
        h = head.features(own)
        assert h.shape[-1] <= 4
        for tile in range(3):
            inner = head.embedding[0](c[tile])
            y = torch.cat([c[tile], torch.where(inner > 0, inner, 0.2 * inner)])
            phi = h[tile].flatten(1).T  # places × channels
            expected = phi @ head.score.weight[0, :, 0, 0] + head.score.bias + phi @ (head.projection.weight @ y)
            torch.testing.assert_close(scores[tile, first : first + len(phi)], expected)
        first += len(phi)
    assert first == scores.shape[1]


def test_the_condition_changes_the_score_of_conditional_heads_only() -> None:
    conditional, plain, maps, c = heads(5), heads(0), maps_of(), torch.randn(3, 5).double()
    assert not torch.isclose(conditional(maps, c), conditional(maps, c.roll(1, 0))).any()
    torch.testing.assert_close(plain(maps, c), plain(maps, None), rtol=0, atol=0)
    assert not any("projection" in name or "embedding" in name for name in plain.state_dict())
    with pytest.raises(AssertionError, match="called with the condition"):
        conditional(maps, None)
    frozen = FrozenFeatures(ToyMaps(), 32, 0)
    base = GANConfig(resolution=32, critic_width=4, backbone="efficientnet_lite0", backbone_px=64)
    for config, width in ((base, 5), (base.replace(mode="gan"), 5), (base.replace(critic="image_only"), 5)):
        critic = build_critic(config, width, frozen)
        shown = [head.projection is not None for head in critic.features.heads]
        assert shown == [config.conditional] * 2 == [critic.pixels.projection is not None] * 2


def test_scores_do_not_depend_on_the_tiles_beside_them() -> None:
    network, maps, c = heads(5), maps_of(), torch.randn(3, 5).double()
    torch.testing.assert_close(network(maps, c)[1:2], network([own[1:2] for own in maps], c[1:2]))


def test_every_layer_but_the_embedding_has_spectral_norm_1() -> None:
    network, maps, c = heads(5), maps_of(), torch.randn(3, 5).double()
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    network.train()
    for _ in range(15):
        optimizer.zero_grad()
        network(maps, c).square().mean().backward()
        optimizer.step()
    network.train()
    for _ in range(30):  # of the power iteration, at the weights that are there now
        network(maps, c)
    network.eval()
    found, normed = [], 0
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item()
            raw = getattr(getattr(layer, "parametrizations", None), "weight", None)
            if raw is None:
                assert "embedding" in name
            else:
                normed += 1
                found.append((name, largest))
                assert abs(torch.linalg.matrix_norm(raw.original.flatten(1), ord=2).item() - 1) > 1e-3, name
    assert normed == (3 + 2 + 1 + 1) + 2 * 4
    assert all(value == pytest.approx(1, abs=0.03) for _, value in found), found


def test_in_evaluation_the_estimates_stay() -> None:
    network, maps = heads(0), maps_of()
    before = {name: own.clone() for name, own in network.state_dict().items()}
    network(maps, None)
    assert all(torch.equal(before[name], own) for name, own in network.state_dict().items())
    network.train()
    network(maps, None)
    assert any(not torch.equal(before[name], own) for name, own in network.state_dict().items())


def test_either_half_may_be_missing() -> None:
    frozen = FrozenFeatures(ToyMaps(), 32, 0)
    base = GANConfig(resolution=32, critic_width=4, backbone="efficientnet_lite0", backbone_px=64)
    x, c = tiles().float(), torch.randn(2, 5)
    for config, own, has in (
        (base, frozen, (True, True)),
        (base.replace(pixel_loss="none"), frozen, (False, True)),
        (base.replace(backbone="none"), None, (True, False)),
    ):
        critic = build_critic(config, 5, own)
        scores = critic(Views(x, frozen(x)), c)
        assert (scores.pixels is not None, scores.features is not None) == has
        assert [name for name, _ in critic.named_children()] == [
            name for name, there in zip(("pixels", "features"), has, strict=True) if there
        ]
        assert scores.pixels is None or scores.pixels.shape == (2,)
        assert scores.features is None or scores.features.shape == (2, 32)
