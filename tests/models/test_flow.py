"""The flow's maths beside closed forms, and its stored network beside plain diffusers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file
from torch import Tensor, nn

from rnagan.config.base import read_preset, settings_of
from rnagan.config.flow import FlowConfig
from rnagan.models.flow import build_network, flow_loss, from_grid, guided, solve, times_of, to_grid
from rnagan.models.flow_generator import FlowGenerator
from rnagan.models.sampling import generate, to_uint8
from rnagan.models.tile_generator import SamplingOptions

TINY = FlowConfig(resolution=32, width=8, levels=2, layers=1, guidance=2.0, sampling_steps=3, solver="euler")
C = torch.tensor([[0.5, -1.0, 2.0]])


@pytest.fixture(scope="module")
def generator() -> FlowGenerator:
    torch.manual_seed(0)
    network = build_network(TINY, 3).eval()
    nn.init.normal_(network.projection.null)
    return FlowGenerator(TINY, network)


def shape(noise: Tensor) -> tuple[int, ...]:
    return len(noise), TINY.channels, TINY.grid, TINY.grid


def test_the_preset_leaves_nothing_of_a_model_to_the_defaults() -> None:
    names = [field.name for field in settings_of(FlowConfig)]
    learnt = set(names[names.index("condition_units") : names.index("shifts") + 1])
    assert len(learnt) == 20 and learnt < read_preset(FlowConfig, "faithful").keys()


def test_blocks_are_the_tile_s_own_pixels() -> None:
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    grid = to_grid(x, 2)
    assert grid.shape == (2, 12, 4, 4) and torch.equal(from_grid(grid, 2), x)
    assert grid[0, 4:8, 1, 2].tolist() == x[0, 1, 2:4, 4:6].flatten().tolist()


def test_times_are_logit_normal() -> None:
    draws = torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = torch.logit(times_of(draws, 0.5, 0.8))
    assert logits.mean().item() == pytest.approx(0.5, abs=0.01) and logits.std().item() == pytest.approx(0.8, abs=0.01)


def test_the_loss_is_the_velocity_s_of_the_straight_path() -> None:
    x, noise = torch.randn(2, 5, 3, 2, 2, dtype=torch.float64)
    t = torch.rand(5, dtype=torch.float64)
    seen = []

    def velocity(x_t: Tensor, at: Tensor) -> Tensor:
        seen.append((x_t, at))
        return torch.zeros_like(x_t)

    loss = flow_loss(velocity, x, noise, t)
    own = np.stack([(1 - s) * a + s * b for a, b, s in zip(x.numpy(), noise.numpy(), t.numpy(), strict=True)])
    np.testing.assert_allclose(seen[0][0].numpy(), own)
    assert loss.item() == pytest.approx(float(((noise - x) ** 2).mean()))
    assert flow_loss(lambda *_: noise - x, x, noise, t).item() == 0
    assert flow_loss(lambda *_: x - noise, x, noise, t).item() > 1  # the other way round


def gaussian_velocity(mean: Tensor, variance: Tensor) -> object:
    """E[ε − x | x_t] where x is normal with this mean and diagonal variance, in closed form."""

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        at = t[:, None, None, None]
        total = (1 - at) ** 2 * variance + at**2
        return ((at - (1 - at) * variance) * (x_t - (1 - at) * mean)) / total - mean

    return velocity


@pytest.mark.parametrize(("solver", "largest"), [("euler", 0.15), ("heun", 0.005)])
def test_solvers_carry_noise_to_a_known_gaussian(solver: str, largest: float) -> None:
    """For a diagonal Gaussian the flow's map is x = m + s ε, component by component."""
    mean, sd = torch.tensor([0.7, -0.3]).view(2, 1, 1).double(), torch.tensor([0.5, 1.5]).view(2, 1, 1).double()
    noise = torch.randn(64, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    velocity = gaussian_velocity(mean, sd**2)
    found = solve(velocity, noise, 50, solver)
    assert (found - (mean + sd * noise)).abs().max() < largest
    wrong = solve(lambda x, t: -velocity(x, t), noise, 50, solver)
    assert (wrong - (mean + sd * noise)).abs().max() > 0.5


@pytest.mark.slow
def test_training_recovers_a_known_gaussian() -> None:
    """A network of the loss alone, on two correlated numbers: mean and covariance of what it generates."""
    torch.manual_seed(0)
    mean, root = torch.tensor([0.5, -1.0]), torch.tensor([[0.8, 0.0], [0.6, 0.4]])
    network = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return network(torch.cat([x.flatten(1), t[:, None]], dim=1)).view_as(x)

    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        x = (mean + torch.randn(512, 2) @ root.T).view(-1, 2, 1, 1)
        loss = flow_loss(velocity, x, torch.randn_like(x), times_of(torch.randn(512), 0.0, 1.0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = solve(velocity, torch.randn(20_000, 2, 1, 1), 50, "heun").flatten(1)
    assert (found.mean(0) - mean).abs().max() < 0.05
    assert (found.T.cov() - root @ root.T).abs().max() < 0.06


def test_guidance_of_1_is_no_guidance_and_0_is_no_profile(generator: FlowGenerator) -> None:
    network, x, t = generator.network, torch.randn(shape(torch.empty(2))), torch.tensor([0.3, 0.8])
    c, dropped = C.expand(2, -1), torch.ones(2, dtype=torch.bool)

    def of(guidance: float) -> Tensor:
        return guided(lambda x, t: network(x, t, c), lambda x, t: network(x, t, c, dropped), guidance)(x, t)

    with torch.no_grad():
        own, none = network(x, t, c), network(x, t, -3 * c, dropped)
        assert torch.equal(of(1.0), own) and torch.equal(of(0.0), none) and not torch.allclose(own, none)
        torch.testing.assert_close(of(3.0), own + 2 * (own - none))


def test_sampling_is_a_plain_loop_over_diffusers_with_the_stored_network(
    generator: FlowGenerator, tmp_path: Path
) -> None:
    FlowGenerator.save(tmp_path, TINY, 3, generator.network.state_dict())
    unet = UNet2DModel.from_pretrained(tmp_path / "unet", use_safetensors=True).eval()
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(tmp_path / "scheduler")
    projection = load_file(tmp_path / "projection.safetensors")
    noise = generator.draw_noise("p", 0, 2, 5)
    x = noise.float().view(shape(noise))
    hidden = nn.functional.silu(C.expand(2, -1) @ projection["inner.weight"].T + projection["inner.bias"])
    shown = hidden @ projection["outer.weight"].T + projection["outer.bias"]
    scheduler.set_timesteps(sigmas=[1.0, 2 / 3, 1 / 3])
    with torch.no_grad():
        for t in scheduler.timesteps:
            plain = unet(x, t, projection["null"].expand(2, -1)).sample
            velocity = plain + 2.0 * (unet(x, t, shown).sample - plain)
            x = scheduler.step(velocity, t, x).prev_sample
    stored = FlowGenerator.load(tmp_path, TINY, 3)

    def velocity_of(x: Tensor, t: Tensor) -> Tensor:
        c, dropped = C.expand(2, -1), torch.ones(2, dtype=torch.bool)
        network = stored.network
        return guided(lambda x, t: network(x, t, c), lambda x, t: network(x, t, c, dropped), 2.0)(x, t)

    with torch.no_grad():
        own = solve(velocity_of, noise.float().view(shape(noise)), 3, "euler")
    assert (own - x).abs().max() < 1e-6
    expected = to_uint8(from_grid(x, TINY.block_px))
    assert np.abs(generate(stored, C, 2, 5, "p").astype(int) - expected).max() <= 1


def test_a_tile_depends_on_its_number_and_options(generator: FlowGenerator) -> None:
    many, few = generate(generator, C, 3, 0, "p"), generate(generator, C, 2, 0, "p", batch_size=1)
    assert many.shape == (3, 32, 32, 3) and np.abs(many[:2].astype(int) - few).max() <= 1
    for options in ({"guidance": 1.0}, {"steps": 4}, {"solver": "heun"}, {"truncation": 0.5}):
        assert not np.array_equal(generate(generator, C, 3, 0, "p", options=SamplingOptions(**options)), many)
    own = SamplingOptions(guidance=2.0, steps=3, solver="euler", truncation=1.0)
    np.testing.assert_array_equal(generate(generator, C, 3, 0, "p", options=own), many)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": -1.0}, "guidance must be from 0 to 20, not -1.0"),
        ({"guidance": float("nan")}, "guidance must be from 0 to 20, not nan"),
        ({"steps": 0}, "steps must be from 1 to 1,000, not 0"),
        ({"solver": "rk4"}, "solver must be one of euler, heun, not 'rk4'"),
    ],
)
def test_options_out_of_bounds(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SamplingOptions(**options)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resolution": 48}, "must be powers of two, not 48 and 2"),
        ({"block_px": 3}, "must be powers of two, not 64 and 3"),
        ({"levels": 5}, "levels 5 halve the grid of 32 blocks to fewer than 4"),
        ({"width": 12}, "width must be a multiple of 8, not 12"),
        ({"condition_dropout": 0.0, "guidance": 2.0}, "guidance 2 needs condition_dropout"),
    ],
)
def test_settings_that_make_no_network(settings: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FlowConfig(**settings)
