"""Residual networks: against the same by hand, and what their first weights are for."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.models import critics, generators
from rnagan.models.conditioning import input_width, noise_width
from rnagan.models.critics import ResidualCritic, build_critic
from rnagan.models.generators import ResidualGenerator, build_generator
from rnagan.models.residual import ResidualBlock, pointwise

CONDITION = 6


def preset(**changes: object) -> GANConfig:
    return resolve(GANConfig, read_preset(GANConfig, "faithful_256"), {"backbone": "none"} | changes)


SMALL = preset(resolution=32, generator_width=4, critic_width=4, noise_units=5)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def codes(config: GANConfig, count: int = 2) -> Tensor:
    return torch.randn(count, CONDITION + noise_width(config, CONDITION))


def tiles(side: int, count: int = 2) -> Tensor:
    """In [-1, 1], with detail of all sizes, as tissue has."""
    sides = [2**k for k in range(2, int(math.log2(side)) + 1)]
    layers = [F.interpolate(torch.randn(count, 3, own, own), size=(side, side), mode="bilinear") for own in sides]
    return torch.tanh(torch.stack(layers).mean(dim=0))


def conditions(count: int = 2) -> Tensor:
    return torch.randn(count, CONDITION)


def pixels_of(config: GANConfig) -> ResidualCritic:
    critic = build_critic(config, CONDITION, None).pixels
    assert isinstance(critic, ResidualCritic)
    return critic


def generator_of(config: GANConfig) -> ResidualGenerator:
    generator = build_generator(config, CONDITION)
    assert isinstance(generator, ResidualGenerator)
    return generator


def spread(network: nn.Module) -> None:
    """Have each branch add something, as after some training."""
    for block in blocks_of(network):
        nn.init.normal_(block.second.weight, std=0.1)
        nn.init.normal_(block.second.bias, std=0.1)


def blocks_of(network: nn.Module) -> list[ResidualBlock]:
    return [module for module in network.modules() if isinstance(module, ResidualBlock)]


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def added(x: Tensor, block: ResidualBlock, code: Tensor | None = None) -> Tensor:
    h = F.conv2d(F.pad(x, (1, 1, 1, 1)), block.first.weight, block.first.bias)
    if code is not None and block.film is not None:
        scale, shift = (code @ block.film.weight.T + block.film.bias).split(x.shape[1], dim=1)
        h = h * (1 + scale)[:, :, None, None] + shift[:, :, None, None]
    return x + F.conv2d(F.pad(leaky(h), (1, 1, 1, 1)), block.second.weight, block.second.bias)


def mixed(x: Tensor, layer: nn.Conv2d | None) -> Tensor:
    if layer is None:
        return x
    return torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], x) + layer.bias[:, None, None]


def twice_as_wide(x: Tensor) -> Tensor:
    """Each pixel becomes two, of three quarters of it and a quarter of the neighbour on that side: [1, 3, 3, 1]."""
    before, after = torch.cat([x[..., :1], x[..., :-1]], dim=-1), torch.cat([x[..., 1:], x[..., -1:]], dim=-1)
    return torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], dim=-1).flatten(-2)


@pytest.mark.parametrize("grain", [False, True])
def test_the_generator_is_what_its_page_says(grain: bool) -> None:
    """Two blocks a side; a noise map where there is one; a 1 × 1 convolution, then [1, 3, 3, 1] in both directions."""
    config, sides = SMALL.replace(generator_turns=False, generator_grain=grain), (8, 16, 32) if grain else (8, 16)
    generator, code = generator_of(config).double(), codes(config).double()
    spread(generator)
    shown, *maps = code.split([input_width(config, CONDITION), *(side**2 for side in sides)], dim=1)
    x = (shown @ generator.start.weight.T + generator.start.bias).view(2, -1, 4, 4)
    noise = dict(zip(sides, maps, strict=True))
    for side, stage in zip((4, 8, 16, 32), generator.blocks, strict=True):
        x = mixed(x, stage.change)
        if side > 4:
            x = twice_as_wide(twice_as_wide(x).mT).mT
        if side in noise:
            x = x + stage.noise_strength * noise[side].view(2, 1, side, side)
        assert len(stage.blocks) == 2
        for block in stage.blocks:
            x = added(x, block, shown)
    torch.testing.assert_close(generator(code), torch.tanh(mixed(x, generator.to_rgb)))


def test_the_critic_is_what_its_page_says() -> None:
    """Means of LeakyReLU of the maps of each side but the full one, and their projection, one tile at a time."""
    critic, x, c = pixels_of(SMALL).double(), tiles(32).double(), conditions().double()
    spread(critic)
    for score, tile, condition in zip(critic(x, c), x, c, strict=True):
        maps, means = mixed(tile[None], critic.from_rgb), []
        for side, stage in zip((32, 16, 8, 4), critic.stages, strict=True):
            if side < 32:
                maps = mixed(maps.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5)), stage.change)
            assert maps.shape[2:] == (side, side) and len(stage.blocks) == 2
            for block in stage.blocks:
                maps = added(maps, block)
            if side < 32:
                means.append(leaky(maps)[0].flatten(1).mean(dim=1))
        h = torch.cat(means)
        inner = leaky(critic.embedding[0].weight @ condition + critic.embedding[0].bias)
        expected = h @ critic.score.weight[0] + critic.score.bias[0]
        expected += torch.cat([condition, inner]) @ (critic.projection.weight.T @ h)
        torch.testing.assert_close(score, expected)


class Sizes(NamedTuple):
    """Mean squares of the maps on the path after each block, and of what is in its branch, times blocks of the network
    and over what went into it."""

    path: list[float]
    branches: list[float]


def sizes(network: nn.Module, *given: Tensor) -> Sizes:
    found, blocks = Sizes([], []), blocks_of(network)

    def note(block: ResidualBlock, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0]
        found.path.append(float(output.square().mean()))
        found.branches.append(len(blocks) * float(block.first(x).square().mean() / x.square().mean()))

    for block in blocks:
        block.register_forward_hook(note)
    with torch.no_grad():
        network(*given)
    return found


def plain_last(network: nn.Module) -> None:
    """Known wrong: He's first weights in every layer, as if nothing were added up."""
    for block in blocks_of(network):
        nn.init.kaiming_normal_(block.second.weight, a=0.2)


def not_scaled_by_depth(network: nn.Module) -> None:
    """Known wrong: branches whose effect grows with their number."""
    for block in blocks_of(network):
        nn.init.kaiming_normal_(block.first.weight, a=0.2)


def pytorchs_own(network: nn.Module) -> None:
    """Known wrong: PyTorch's first weights, which make maps smaller layer by layer."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.reset_parameters()


def check_sizes(network: str, config: GANConfig, wrong: Callable[[nn.Module], None] | None = None) -> None:
    """Bilinear resampling averages, so it takes of what is fine; nothing else changes the size of maps, but for what
    the draw of some weights leaves to chance."""
    made = generator_of(config) if network == "generator" else pixels_of(config)
    if wrong is not None:
        wrong(made)
    x, least = tiles(config.resolution, 1), 0.1
    found = sizes(made, *((codes(config, 1),) if network == "generator" else (x, conditions(1))))
    path = found.path
    if network == "critic":  # beside the tile itself, averaged as its maps are
        shrunk = [F.avg_pool2d(x, 2 ** (k // 2)).square().mean() for k in range(len(path))]
        path, least = [own / float(other) for own, other in zip(path, shrunk, strict=True)], 0.4
    assert len(path) == 2 * int(math.log2(config.resolution // 2))
    assert min(path) >= least and max(path) <= 2, path
    assert all(0.5 <= own <= 4 for own in found.branches), found.branches  # He's is 2 / 1.04 for white maps


@pytest.mark.parametrize("network", ["generator", "critic"])
def test_maps_keep_their_size_through_the_depth_of_the_preset(network: str) -> None:
    """At 256 px with the widths of the preset, before the first step."""
    check_sizes(network, preset())


@pytest.mark.parametrize("wrong", [plain_last, not_scaled_by_depth, pytorchs_own])
@pytest.mark.parametrize("network", ["generator", "critic"])
def test_other_first_weights_are_found_out(network: str, wrong: Callable[[nn.Module], None]) -> None:
    small = preset(resolution=64, generator_width=16, critic_width=16)
    check_sizes(network, small)
    with pytest.raises(AssertionError):
        check_sizes(network, small, wrong)


def test_what_a_step_changes_does_not_grow_with_the_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The squared gradient by the last layers of all branches, which a step of gradient descent lowers the loss by."""

    def squared(network: str, count: int, wrong: Callable[[nn.Module], None] | None = None) -> float:
        torch.manual_seed(1)
        monkeypatch.setattr({"critic": critics, "generator": generators}[network], "BLOCKS", count)
        made = generator_of(SMALL) if network == "generator" else pixels_of(SMALL)
        if wrong is not None:
            wrong(made)
        given = (codes(SMALL),) if network == "generator" else (tiles(32), conditions())
        made(*given).sum().backward()
        return sum(float(block.second.weight.grad.square().sum()) for block in blocks_of(made))

    for network in ("critic", "generator"):
        right = squared(network, 8) / squared(network, 1)
        wrong = squared(network, 8, not_scaled_by_depth) / squared(network, 1, not_scaled_by_depth)
        assert 0.5 < right < 2 and 4 < wrong < 16, (network, right, wrong)


def test_a_wide_enough_1_x_1_convolution_keeps_the_mean_square() -> None:
    x = torch.randn(2, 256, 16, 16)
    assert pointwise(256, 512)(x).square().mean().item() == pytest.approx(1, rel=0.05)


def kept_maps(block: ResidualBlock, x: Tensor, *code: Tensor) -> int:
    """How many maps a block keeps for the backward pass, its input among them."""
    kept = {}

    def note(own: Tensor) -> Tensor:
        if own.shape == x.shape:
            kept[own.untyped_storage().data_ptr()] = own
        return own

    with torch.autograd.graph.saved_tensors_hooks(note, lambda own: own):
        block(x, *code).sum()
    return len(kept)


def test_a_block_keeps_few_maps_for_the_backward_pass() -> None:
    """What enters each convolution, and what FiLM scales: of LeakyReLU the result alone, which is the same map."""
    x, code = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(2, 3)
    plain, with_film = ResidualBlock(4, 1), ResidualBlock(4, 1, code_width=3)
    assert (kept_maps(plain, x), kept_maps(with_film, x, code)) == (2, 3)
    plain.activation = nn.LeakyReLU(0.2)
    assert kept_maps(plain, x) == 3


@pytest.mark.parametrize("network", ["generator", "critic"])
def test_bf16_is_finite_and_near_float32(network: str) -> None:
    made = (generator_of(SMALL) if network == "generator" else pixels_of(SMALL)).to(memory_format=torch.channels_last)
    spread(made)
    given = (codes(SMALL, 4),) if network == "generator" else (tiles(32, 4), conditions(4))
    exact = made(*given)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = made(*given).float()
    reduced.square().sum().backward()
    assert reduced.isfinite().all() and (reduced - exact).norm() < 0.05 * exact.norm()
    assert all(own.grad is not None and bool(own.grad.isfinite().all()) for own in made.parameters())


def test_the_condition_changes_the_whole_tile_and_the_score_before_the_first_step() -> None:
    config = SMALL.replace(generator_turns=False)
    generator, code, x, c = generator_of(config), codes(config), tiles(32), conditions()
    other = code.clone()
    other[:, 2] += 1
    with torch.no_grad():
        assert bool(((generator(other) - generator(code)).abs().amax(dim=1) > 0).all())
        critic = pixels_of(SMALL)
        assert not torch.isclose(critic(x, c), critic(x, c.roll(1, 0))).any()
    with pytest.raises(AssertionError, match="called with the condition"):
        critic(x)


@pytest.mark.parametrize("network", ["generator", "critic"])
def test_gradients_reach_every_parameter(network: str) -> None:
    """DDP waits for each. Before the first step what lies before a branch's last layer has gradients of 0."""
    made = generator_of(SMALL) if network == "generator" else pixels_of(SMALL)
    given = (codes(SMALL),) if network == "generator" else (tiles(32), conditions())
    optimizer = torch.optim.Adam(made.parameters(), 1e-3)
    reached = []
    for _ in range(2):
        optimizer.zero_grad()
        made(*given).square().sum().backward()
        gradients = {name: own.grad for name, own in made.named_parameters()}
        assert all(own is not None and bool(own.isfinite().all()) for own in gradients.values())
        reached.append({name for name, own in gradients.items() if own is not None and bool(own.any())})
        optimizer.step()
    assert reached[1] == {name for name, _ in made.named_parameters()}
    inner = {name for name in reached[1] if ".first." in name or ".film." in name}
    assert reached[0] == reached[1] - inner and inner


def test_channels_double_towards_4_px_up_to_256() -> None:
    config = preset(generator_width=32, critic_width=16)
    of_generator = [stage.blocks[0].first.out_channels for stage in generator_of(config).blocks]
    assert of_generator == [256, 256, 256, 256, 128, 64, 32]
    assert [stage.blocks[0].first.out_channels for stage in pixels_of(config).stages] == [
        16,
        32,
        64,
        128,
        256,
        256,
        256,
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"generator_norm": "group"}, "generator residual has no normalisation: set generator_norm none"),
        ({"backbone": "none", "critic_norm": "batch"}, "critic_layout residual has no normalisation: set critic_norm"),
    ],
)
def test_norms_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        preset(**changes)


def test_the_first_weights_are_drawn_from_the_seed() -> None:
    def first() -> np.ndarray:
        torch.manual_seed(3)
        return torch.cat([own.flatten() for own in generator_of(SMALL).parameters()]).detach().numpy()

    assert np.array_equal(first(), first())
