import copy
import sys
from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.losses.wgan_gp import gradient_penalty
from rnagan.models.critics import Views, build_critic
from rnagan.models.generators import build_generator
from rnagan.runtime import rng
from rnagan.training.deepspeed import Prepared
from rnagan.training.gan import step as gan_step
from rnagan.training.gan.step import GANStep, StepRecord
from rnagan.training.op_counts import OpCounter

WIDTH, N = 3, 4
CONFIG = GANConfig(
    resolution=32, batch_size=8, generator_width=4, critic_width=4, noise_units=5, precision="float32", penalty_every=1
)
FROZEN = {"generator_lr": 0.0, "critic_lr": 0.0}


def make_step(config: GANConfig, precision: str = "no", dtype: torch.dtype = torch.float32) -> GANStep:
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    torch.manual_seed(1)
    generator, critic = build_generator(config, WIDTH).to(dtype), build_critic(config, WIDTH, None).to(dtype)
    prepared = [
        Prepared(*accelerator.prepare(network, torch.optim.Adam(network.parameters(), lr)), accelerator)
        for network, lr in ((generator, config.generator_lr), (critic, config.critic_lr))
    ]
    return GANStep(config, *prepared, None, WIDTH)


def test_a_step_does_without_deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import takes seconds, and prints that it found no GPU."""
    monkeypatch.setitem(sys.modules, "deepspeed", None)  # an import fails
    step = make_step(CONFIG)
    assert step.raw_generator is step.generator and step.raw_critic is step.critic


def batch(count: int = N) -> tuple[Tensor, Tensor]:
    """Tiles and their conditions."""
    draw = torch.Generator().manual_seed(2)
    return (
        torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=draw),
        torch.randn(count, WIDTH, generator=draw),
    )


def figures(record: StepRecord) -> list[Tensor]:
    """Those that there are: none of a critic on features, and none of the generator where it had no step."""
    assert record.feature_gap is None
    return [scalar for scalar in record if scalar is not None]


class Spy:
    """What the networks and the penalty were called with."""

    def __init__(self, step: GANStep, monkeypatch: pytest.MonkeyPatch) -> None:
        self.codes: list[Tensor] = []
        self.evaluated: list[tuple[Tensor, Tensor | None]] = []
        self.penalised: list[tuple[Tensor, Tensor | None]] = []
        self.dtypes: set[torch.dtype] = set()
        step.raw_generator.register_forward_pre_hook(lambda _, given: self.codes.append(given[0]))
        step.raw_critic.register_forward_pre_hook(lambda _, given: self.evaluated.append((given[0].pixels, given[1])))

        def penalty(score: Callable, x_hat: Tensor, c: Tensor | None, norm: str) -> Tensor:
            self.penalised.append((x_hat, c))
            with OpCounter() as counter:
                value = gradient_penalty(score, x_hat, c, norm)
            self.dtypes |= {getattr(torch, one.dtype) for one in counter.operations if "convolution" in one.name}
            assert x_hat.dtype == value.dtype == step.dtype
            return value

        monkeypatch.setattr(gan_step.wgan_gp, "gradient_penalty", penalty)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_penalty_has_its_own_precision_under_autocast(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(CONFIG.replace(penalty_precision=precision), "bf16")
    spy, features = Spy(step, monkeypatch), set()
    step.raw_critic.pixels.features[0].register_forward_hook(lambda _, __, out: features.add(out.dtype))
    record = step(0, *batch(), True)
    assert spy.dtypes == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert features == {torch.bfloat16}  # of the scores, in the same step
    assert record.penalty.dtype == torch.float32 and all(map(torch.isfinite, figures(record)))


@pytest.mark.parametrize("pixel_loss", ["wgan_gp", "relativistic"])
def test_a_penalty_in_bf16_moves_the_critic_as_one_in_float64_does(pixel_loss: str) -> None:
    """The step's own gradients, of scores in float32: at each layer."""
    found = []
    for precision, own in (("float64", "float32"), ("float32", "float32"), ("float32", "bf16")):
        config = CONFIG.replace(precision=precision, penalty_precision=own, pixel_loss=pixel_loss, penalty_weight=1e3)
        step = make_step(config, dtype=gan_step.dtype_of(precision))
        tiles, c = batch()
        step(0, tiles, c.to(step.dtype), False)
        found.append({name: own.grad for name, own in step.raw_critic.named_parameters()})
    exact, float32, bf16 = found
    for name, gradient in exact.items():
        assert (float32[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6, name
        assert (bf16[name] - gradient).norm() <= 0.1 * gradient.norm() + 1e-6, name
        assert not name.endswith("features.0.weight") or not torch.equal(bf16[name], float32[name])


@pytest.mark.parametrize("change", [{"penalty_step": "separate"}, {"critic_norm": "batch"}])
def test_what_is_not_linear_in_pieces_has_pytorchs_own_layers(change: dict[str, str]) -> None:
    step = make_step(CONFIG.replace(**change))
    with OpCounter() as counter:
        step(0, *batch(), False)
    with_zeros = sum("leaky_relu_backward" in one.name for one in counter.operations)
    assert with_zeros > 3 * sum(isinstance(layer, torch.nn.LeakyReLU) for layer in step.raw_critic.pixels.features)
    with pytest.raises(ValueError, match="penalty_precision bf16 needs penalty_step joint and critic_norm"):
        CONFIG.replace(penalty_precision="bf16", **change)


def test_naive_penalty_would_not_be_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrong variant: through the critic that Accelerate wrapped."""
    step = make_step(CONFIG, "bf16")
    spy = Spy(step, monkeypatch)
    step._penalty = lambda real, fake, c, start: gan_step.wgan_gp.gradient_penalty(
        lambda x, c: step.raw_critic(Views(x, None), c).pixels, real.pixels, c, "per_sample"
    )
    step(0, *batch(), False)
    assert torch.bfloat16 in spy.dtypes


def test_generator_step_leaves_the_critic_alone() -> None:
    gradients, weights = [], []
    for update_generator in (False, True):
        step = make_step(CONFIG)
        before = copy.deepcopy(step.raw_generator.state_dict())
        record = step(0, *batch(), update_generator)
        gradients.append([p.grad.clone() for p in step.raw_critic.parameters()])
        weights.append(step.raw_critic.state_dict())
        moved = any(not torch.equal(before[name], tensor) for name, tensor in step.raw_generator.state_dict().items())
        assert moved == update_generator == (record.generator is not None)
    assert all(map(torch.equal, *gradients))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    step(N, *batch(), False)  # and it learns on
    assert not torch.equal(
        weights[1]["pixels.score.weight"], make_step(CONFIG).raw_critic.state_dict()["pixels.score.weight"]
    )


def test_real_generated_and_interpolated_tiles_carry_the_same_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(CONFIG)
    spy, (tiles, c) = Spy(step, monkeypatch), batch()
    step(8, tiles, c, True)
    own = c + CONFIG.condition_noise * torch.from_numpy(rng.normal(0, "condition", 8, N, WIDTH)).float()
    assert torch.equal(spy.codes[0][:, :WIDTH], own)
    (both, shown), (_, shown_to_generator) = spy.evaluated
    assert both.shape[0] == 2 * N and torch.equal(shown, torch.cat([own, own]))
    assert torch.equal(spy.penalised[0][1], own) and torch.equal(shown_to_generator, own)


def test_one_epsilon_a_tile_between_real_and_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    step = make_step(CONFIG)
    spy = Spy(step, monkeypatch)
    step(8, *batch(), False)
    real, fake = spy.evaluated[0][0].chunk(2)
    epsilon = torch.from_numpy(rng.uniform(0, "epsilon", 8, N, 1)).float()[:, :, None, None]
    torch.testing.assert_close(spy.penalised[0][0], epsilon * real + (1 - epsilon) * fake)


def test_one_tile_in_so_many_pays_the_penalty_by_image_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the batches: the same images pay, with the epsilon and the profile that they would have had."""
    tiles, c = batch(8)
    paid, penalties = {}, []
    for every in (1, 2):
        step = make_step(CONFIG.replace(**FROZEN, penalty_every=every))
        spy = Spy(step, monkeypatch)
        penalties.append(step(16, tiles, c, False).penalty)
        step(17, tiles[1:], c[1:], False)
        paid[every] = spy.penalised
    for number, first in enumerate((0, 1)):
        for part in (0, 1):
            torch.testing.assert_close(paid[2][number][part], paid[1][number][part][first::2])
    step = make_step(CONFIG)
    by_tile = [gradient_penalty(step.raw_critic.pixels, x[None], one[None]) for x, one in zip(*paid[1][0], strict=True)]
    torch.testing.assert_close(penalties[0], torch.stack(by_tile).mean())
    torch.testing.assert_close(penalties[1], torch.stack(by_tile[::2]).mean())


def test_draws_belong_to_image_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes, or two halves of a batch, see the same noise, augmentation and epsilon as one."""
    config = CONFIG.replace(**FROZEN, colour_jitter=0.1)
    step = make_step(config)
    spy, (tiles, c) = Spy(step, monkeypatch), batch()
    step(16, tiles, c, True)
    step(16, tiles[:2], c[:2], True)
    step(18, tiles[2:], c[2:], True)
    torch.testing.assert_close(torch.cat(spy.codes[1:]), spy.codes[0])
    torch.testing.assert_close(torch.cat([x for x, _ in spy.penalised[1:]]), spy.penalised[0][0])
    whole, first, second = (spy.evaluated[k][0].chunk(2) for k in (0, 2, 4))
    for part in (0, 1):
        torch.testing.assert_close(torch.cat([first[part], second[part]]), whole[part])
    step(24, tiles, c, True)
    assert not torch.equal(spy.codes[-1], spy.codes[0])


def test_accumulated_gradients_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped = []
    for accumulate in (1, 4, 1):
        config = CONFIG.replace(accumulate=accumulate, precision="float64")
        step = make_step(config, dtype=torch.float64)
        spy, (tiles, c) = Spy(step, monkeypatch), batch(8)
        if len(stepped) == 2:  # what the mean of two halves of other sizes would be
            tiles, c = torch.cat([tiles, tiles[:4]]), torch.cat([c, c[:4]])
        records = [step(8 * k, tiles, c.double(), k == 1) for k in range(2)]
        gradients = [p.grad for net in (step.raw_generator, step.raw_critic) for p in net.parameters()]
        stepped.append((gradients, torch.stack([*figures(records[0]), *figures(records[1])])))
        assert max(len(x) for x, _ in spy.penalised) == len(tiles) // accumulate
    (whole, record), (parts, record_of_parts), (other, _) = stepped
    torch.testing.assert_close(parts, whole, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(record_of_parts, record, rtol=1e-6, atol=1e-7)  # scores are averaged in float32
    assert max((a - b).abs().max() for a, b in zip(whole, other, strict=True)) > 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"penalty_norm": "whole_batch"},
        {"penalty_step": "separate"},
        {"critic_norm": "batch"},
        {"generator_norm": "batch"},
    ],
)
def test_what_needs_a_batch_whole_is_not_accumulated(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="accumulate cuts a batch, and .* needs it whole; set accumulate 1"):
        CONFIG.replace(accumulate=2, **change)


@pytest.mark.slow  # compiling takes a minute
def test_compiled_networks_learn_the_same() -> None:
    stepped = []
    for compiled in (False, True):
        step = make_step(CONFIG)
        if compiled:
            step.raw_generator.compile()
            step.raw_critic.compile()
        for k in range(4):
            step(8 * k, *batch(), k % 2 == 1)
        stepped.append([p.grad for net in (step.raw_generator, step.raw_critic) for p in net.parameters()])
    torch.testing.assert_close(*stepped, rtol=1e-3, atol=1e-4)
    assert step.raw_critic._compiled_call_impl is not None


def test_released_preset_steps_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"resolution": 32, "generator_width": 4, "critic_width": 4}
    config = resolve(GANConfig, read_preset(GANConfig, "released"), small)
    step = make_step(config)
    descents = []
    descend = step._descend
    step._descend = lambda loss, optimizer, *part: (descents.append(optimizer), descend(loss, optimizer, *part))
    spy = Spy(step, monkeypatch)
    step(0, *batch(), True)
    assert descents == [step.critic_optimizer, step.critic_optimizer, step.generator_optimizer]
    assert [c for _, c in spy.penalised] == [None] and len(spy.evaluated) == 3  # real, generated, generator's
    torch.testing.assert_close(spy.codes[0].mean(dim=0), torch.zeros(WIDTH), atol=1e-6, rtol=0)


def test_critic_learns_on_real_against_generated() -> None:
    step = make_step(CONFIG.replace(critic_lr=1e-3))
    tiles, c = batch()
    records = [step(k * N, torch.full_like(tiles, 200), c, False) for k in range(40)]
    first, last = (sum(float(r.wasserstein) for r in part) for part in (records[:5], records[-5:]))
    assert last > first + 0.5
