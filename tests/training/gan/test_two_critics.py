"""The step with a critic on pixels and one on the maps of a frozen network: real EfficientNet-Lite0, tiny networks."""

import copy
from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from rnagan.config.gan import GANConfig
from rnagan.data.augment import draw_diffaugment
from rnagan.losses import hinge, relativistic
from rnagan.models.backbones import digest_of
from rnagan.models.critics import Views
from rnagan.runtime import rng
from rnagan.training.gan import step as gan_step
from rnagan.training.gan.step import GANStep, build_networks, build_step
from rnagan.training.op_counts import OpCounter

WIDTH, N = 3, 4
PAIR = GANConfig(
    resolution=32,
    batch_size=8,
    generator_width=4,
    critic_width=4,
    noise_units=5,
    precision="float32",
    pixel_loss="relativistic",
    backbone="efficientnet_lite0",
    backbone_px=64,
    penalty_weight=1.0,
    penalty_every=1,
    threads=1,
)
STILL = {"generator_lr": 0.0, "critic_lr": 0.0, "feature_lr": 0.0}
COMBINATIONS = {
    "wgan_gp": {"pixel_loss": "wgan_gp", "backbone": "none"},
    "relativistic": {"backbone": "none"},
    "features alone": {"pixel_loss": "none"},
    "both": {},
    "wgan_gp and features": {"pixel_loss": "wgan_gp"},
}


def make_step(config: GANConfig, precision: str = "no") -> GANStep:
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    torch.manual_seed(1)
    return build_step(config, WIDTH, accelerator, build_networks(config, WIDTH, accelerator))


def batch(count: int = N, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Tiles and their conditions."""
    draw = torch.Generator().manual_seed(2)
    tiles = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=draw)
    return tiles, torch.randn(count, WIDTH, generator=draw).to(dtype)


def copies(module: torch.nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(dict(module.state_dict()))


def gradients(module: torch.nn.Module | None) -> list[Tensor]:
    assert module is not None
    return [own.grad.clone() for own in module.parameters()]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_each_combination_is_one_step(name: str) -> None:
    config = PAIR.replace(**COMBINATIONS[name])
    step = make_step(config)
    before = [copies(network) for network in (step.raw_generator, step.raw_critic)]
    record = step(0, *batch(), True)
    has_pixels, has_features = config.pixel_loss != "none", config.backbone != "none"
    assert (record.wasserstein is not None) == (record.penalty is not None) == has_pixels
    assert (record.feature_gap is not None) == has_features == (step.frozen is not None)
    assert all(bool(scalar.isfinite()) for scalar in record if scalar is not None)
    for network, old in zip((step.raw_generator, step.raw_critic), before, strict=True):
        # All weights but the score's bias, of whose gradient real and generated tiles leave nothing.
        still = [name for name, own in network.named_parameters() if torch.equal(old[name], own)]
        assert all(name.endswith("score.bias") for name in still), still
    rates = {"pixels": config.critic_lr, "features": config.feature_lr}
    there = [half for half, has in (("pixels", has_pixels), ("features", has_features)) if has]
    assert [group["lr"] for group in step.critic_optimizer.param_groups] == [rates[half] for half in there]


def backbone_stays(config: GANConfig, steps: int) -> None:
    step = make_step(config)
    backbone, (tiles, c) = step.frozen.backbone, batch(config.batch_size)
    before, mixing = digest_of(backbone), digest_of(step.frozen)
    for k in range(steps):
        step(k * len(tiles), tiles, c, True)
    assert digest_of(backbone) == before and digest_of(step.frozen) == mixing
    assert not backbone.training and all(own.grad is None for own in backbone.parameters())
    assert not any(own.requires_grad for own in backbone.parameters())


@pytest.mark.slow
@pytest.mark.guard
def test_the_backbones_bytes_stay() -> None:
    backbone_stays(PAIR.replace(batch_size=4), 20)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_backbones_bytes_stay_over_a_thousand_steps() -> None:
    backbone_stays(PAIR.replace(batch_size=2), 1000)


def test_switching_gradients_on_for_everything_cannot_train_the_backbone() -> None:
    """The trap: a critic that holds its backbone trains it, with no error, once its gradients are switched on."""
    step = make_step(PAIR)
    backbone, before = step.frozen.backbone, digest_of(step.frozen.backbone)
    for module in (step.raw_generator, step.raw_critic, step.frozen):
        module.requires_grad_(True).train()
    step(0, *batch(), True)
    assert not backbone.training and not any(own.requires_grad for own in backbone.parameters())
    groups = [*step.critic_optimizer.param_groups, *step.generator_optimizer.param_groups]
    trained = {own.data_ptr() for group in groups for own in group["params"]}
    assert trained.isdisjoint(own.data_ptr() for own in backbone.parameters())
    backbone.requires_grad_(True)  # even so
    step(N, *batch(), True)
    assert digest_of(backbone) == before


def test_the_generators_gradient_is_the_weighted_sum_of_both() -> None:
    found = {}
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.7), (1.0, 1.0)):
        config = PAIR.replace(**STILL, precision="float64", pixel_weight=weights[0], feature_weight=weights[1])
        step = make_step(config)
        loss = step(8, *batch(dtype=torch.float64), True).generator
        found[weights] = [loss, *gradients(step.raw_generator)]
    for weights in ((0.3, 0.7), (1.0, 1.0)):
        expected = [weights[0] * a + weights[1] * b for a, b in zip(found[1.0, 0.0], found[0.0, 1.0], strict=True)]
        # Scores are compared in float32.
        torch.testing.assert_close(found[weights], expected, rtol=1e-5, atol=1e-8)
    assert max((a - b).abs().max() for a, b in zip(found[0.3, 0.7], found[1.0, 1.0], strict=True)) > 1e-3


@pytest.mark.parametrize("half", ["pixels", "features"])
def test_a_half_without_weight_leaves_the_other_as_if_alone(half: str) -> None:
    """The generator's gradient, and that of the half that stays; each half's own gradient never has a weight."""
    without, weight = {
        "pixels": (COMBINATIONS["relativistic"], {"feature_weight": 0.0}),
        "features": (COMBINATIONS["features alone"], {"pixel_weight": 0.0}),
    }[half]
    still = PAIR.replace(**STILL, precision="float64")
    both, alone = make_step(still.replace(**weight)), make_step(still.replace(**without))
    getattr(alone.raw_critic, half).load_state_dict(copies(getattr(both.raw_critic, half)))
    alone.raw_generator.load_state_dict(copies(both.raw_generator))
    for step in (both, alone):
        step(8, *batch(dtype=torch.float64), True)
    for network in (lambda step: step.raw_generator, lambda step: getattr(step.raw_critic, half)):
        torch.testing.assert_close(gradients(network(both)), gradients(network(alone)), rtol=1e-9, atol=1e-12)
    other = {"pixels": "features", "features": "pixels"}[half]
    assert max(own.abs().max() for own in gradients(getattr(both.raw_critic, other))) > 1e-6  # it learns all the same


def test_the_generators_step_leaves_the_critic_alone() -> None:
    found, states = [], []
    for update_generator in (False, True):
        step = make_step(PAIR)
        record = step(0, *batch(), update_generator)
        assert (record.generator is not None) == update_generator
        found.append(gradients(step.raw_critic))
        states.append(copies(step.raw_critic))
    assert all(map(torch.equal, *found))
    assert all(torch.equal(states[0][name], own) for name, own in states[1].items())  # estimates of norms too


def accumulated(accumulate: int, spoil: Callable[[GANStep], None] = lambda step: None) -> tuple[list, dict, list]:
    """Gradients, state and figures after two steps of four tiles, the second with the generator."""
    step = make_step(PAIR.replace(accumulate=accumulate, precision="float64", penalty_every=2))
    spoil(step)
    records = [step(N * k, *batch(dtype=torch.float64), k > 0) for k in range(2)]
    state = {name: own for net in (step.raw_generator, step.raw_critic) for name, own in copies(net).items()}
    return gradients(step.raw_generator) + gradients(step.raw_critic), state, list(records[1])


def estimates(state: dict[str, Tensor]) -> Tensor:
    """Of the layers' largest singular vectors, which the power iteration moves."""
    return torch.cat([own.flatten() for name, own in sorted(state.items()) if name.endswith(("._u", "._v"))])


@pytest.mark.slow
@pytest.mark.guard
def test_accumulated_gradients_are_those_of_the_whole_batch() -> None:
    def moves_with_every_part(step: GANStep) -> None:
        train = step.raw_critic.features.train
        step.raw_critic.features.train = lambda mode=True: train(True)

    whole, parts, wrong = accumulated(1), accumulated(2), accumulated(2, moves_with_every_part)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-7)  # scores are compared in float32
    torch.testing.assert_close(estimates(parts[1]), estimates(whole[1]), rtol=1e-5, atol=1e-6)
    # Known wrong: a power iteration with every part, and so other weights in each.
    assert (estimates(wrong[1]) - estimates(whole[1])).abs().max() > 1e-3


class Spy:
    """What the critic on pixels was given, in order, and what pairs and penalties were made of."""

    def __init__(self, step: GANStep, monkeypatch: pytest.MonkeyPatch) -> None:
        self.evaluated: list[tuple[Tensor, Tensor]] = []
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.penalised: list[tuple[Tensor, Tensor, Tensor]] = []
        step.raw_critic.pixels.register_forward_pre_hook(lambda _, given: self.evaluated.append(given[:2]))
        critic_loss, penalty = relativistic.critic_loss, relativistic.zero_centred_penalty

        def paired(score_real: Tensor, score_fake: Tensor) -> Tensor:
            self.pairs.append((score_real.detach(), score_fake.detach()))
            return critic_loss(score_real, score_fake)

        def penalised(score: Callable, x: Tensor, c: Tensor) -> Tensor:
            self.penalised.append((x, c, penalty(score, x, c)))
            return self.penalised[-1][2]

        monkeypatch.setattr(gan_step.relativistic, "critic_loss", paired)
        monkeypatch.setattr(gan_step.relativistic, "zero_centred_penalty", penalised)


def test_a_pair_shares_its_condition_and_the_generator_sees_the_pairs_of_the_critic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step, (tiles, c) = make_step(PAIR.replace(**STILL)), batch()
    spy = Spy(step, monkeypatch)
    record = step(8, tiles, c, True)
    own = c + PAIR.condition_noise * torch.from_numpy(rng.normal(0, "condition", 8, N, WIDTH)).float()
    (both, shown), (_, penalised), (fake, with_fake), (real, with_real) = spy.evaluated
    assert torch.equal(shown, torch.cat([own, own])) and torch.equal(penalised, shown)
    assert torch.equal(with_fake, own) and torch.equal(with_real, own)
    assert torch.equal(real, both[:N])  # with the critic's augmentation, so that nothing is computed twice over
    assert not torch.equal(fake, both[N:])  # with an augmentation of its own
    by_pair = [step.raw_critic.pixels(x[None], one[None]) for x, one in zip(both, shown, strict=True)]
    torch.testing.assert_close(torch.cat(spy.pairs[0]), torch.cat(by_pair).detach(), rtol=1e-4, atol=1e-6)
    score_real, score_fake = (step.raw_critic.pixels(x, own).detach() for x in (real, fake))
    maps = step.frozen(draw_diffaugment(0, "features/fake", 8, N, 32)(step.raw_generator(code(step, tiles, c))))
    of_features = hinge.generator_loss(step.raw_critic.features(maps, own))
    expected = torch.nn.functional.softplus(score_real - score_fake).mean() + of_features
    torch.testing.assert_close(record.generator, expected.detach(), rtol=1e-4, atol=1e-6)


def code(step: GANStep, tiles: Tensor, c: Tensor) -> Tensor:
    return step._micro_batches(8, tiles, c)[0].code


def test_paying_tiles_alone_pay_the_penalty_real_and_generated_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PAIR.replace(**STILL, penalty_every=2)
    step, (tiles, c) = make_step(config), batch()
    spy = Spy(step, monkeypatch)
    record = step(9, tiles, c, False)
    (both, shown), _ = spy.evaluated
    x, given, value = spy.penalised[0]
    paying = [1, 3]  # images 10 and 12
    assert torch.equal(x, torch.cat([both[paying], both[[N + k for k in paying]]]))
    assert torch.equal(given, torch.cat([shown[paying], shown[paying]]))
    assert record.penalty == value
    # (R1 + R2) / 2, a tile at a time
    norms = []
    for tile, one in zip(x, given, strict=True):
        tile = tile[None].requires_grad_(True)
        (slope,) = torch.autograd.grad(step.raw_critic.pixels(tile, one[None]).sum(), tile)
        norms.append(slope.square().sum())
    torch.testing.assert_close(record.penalty, torch.stack(norms).mean(), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_scores_follow_the_precision_and_the_penalty_is_float32(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = make_step(PAIR.replace(precision=precision), "bf16" if precision == "bf16" else "no")
    of_layer: dict[str, set[torch.dtype]] = {}

    def note(name: str, layer: torch.nn.Module) -> None:
        layer.register_forward_hook(lambda _, __, out: of_layer.setdefault(name, set()).add(out.dtype))

    note("features", step.raw_critic.features.heads[0].features[0])
    note("backbone", step.frozen.backbone.stem)
    penalty, in_penalty = relativistic.zero_centred_penalty, set()

    def penalised(score: Callable, x: Tensor, c: Tensor) -> Tensor:
        with OpCounter() as counter:
            value = penalty(score, x, c)
        convolved = {getattr(torch, one.dtype) for one in counter.operations if "convolution" in one.name}
        in_penalty.update({x.dtype, value.dtype} | convolved)
        return value

    monkeypatch.setattr(gan_step.relativistic, "zero_centred_penalty", penalised)
    record = step(0, *batch(), True)
    assert in_penalty == {torch.float32}
    expected = torch.bfloat16 if precision == "bf16" else torch.float32
    assert of_layer == {"features": {expected}, "backbone": {expected}}
    assert all(scalar.dtype == torch.float32 and bool(scalar.isfinite()) for scalar in record)


def test_draws_belong_to_image_numbers() -> None:
    """Two processes, or two halves of a batch, have the same tiles before the backbone as one."""
    step, (tiles, c) = make_step(PAIR.replace(**STILL)), batch()
    seen: list[Tensor] = []
    step.frozen.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    step(16, tiles, c, True)
    step(16, tiles[:2], c[:2], True)
    step(18, tiles[2:], c[2:], True)
    fake, real = seen[:2]  # once a step each: the generator's are the critic's
    torch.testing.assert_close(torch.cat([seen[2], seen[4]]), fake)
    torch.testing.assert_close(torch.cat([seen[3], seen[5]]), real)
    plain = make_step(PAIR.replace(**STILL, feature_diffaugment="none"))
    plain.frozen.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    plain(16, tiles, c, True)
    assert (fake == 0).sum() > (seen[-2] == 0).sum() + 100  # cut out
    assert not torch.equal(seen[-1], real)


def test_both_halves_learn_to_tell_real_from_generated() -> None:
    step = make_step(PAIR.replace(critic_lr=1e-3, feature_lr=1e-3))
    tiles, c = batch()
    records = [step(k * N, torch.full_like(tiles, 200), c, False) for k in range(30)]
    for name, least in (("wasserstein", 0.3), ("feature_gap", 0.3)):
        first, last = (sum(float(getattr(r, name)) for r in part) / 5 for part in (records[:5], records[-5:]))
        assert last > first + least, name


def test_the_score_of_both_halves_follows_the_condition() -> None:
    step, (tiles, c) = make_step(PAIR), batch()
    x = tiles / 127.5 - 1
    views = Views(x, step.frozen(x))
    step.raw_critic.eval()
    own, other = step.raw_critic(views, c), step.raw_critic(views, c.roll(1, 0))
    assert not torch.isclose(own.pixels, other.pixels).any()
    assert not torch.isclose(own.features, other.features).any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pixel_loss": "none", "backbone": "none"}, "leave no critic; choose one of them"),
        ({"penalty_step": "separate", "backbone": "none"}, "belong to pixel_loss wgan_gp"),
        ({"penalty_norm": "whole_batch"}, "belong to pixel_loss wgan_gp"),
        ({"pixel_loss": "none", "penalty_norm": "whole_batch"}, "belong to pixel_loss wgan_gp"),
        ({"pixel_loss": "wgan_gp", "penalty_step": "separate"}, "have no second critic: leave backbone none"),
        ({"critic_norm": "batch", "penalty_every": 1}, "have no second critic: leave backbone none"),
        ({"backbone_px": 16}, "backbone_px must be at least 32"),
        ({"feature_weight": -1.0}, "feature_weight must be at least 0"),
        ({"pixel_weight": float("nan")}, "pixel_weight must be at least 0"),
        ({"pixel_loss": "hinge"}, "pixel_loss must be one of wgan_gp, relativistic, none"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PAIR.replace(**changes)


def test_a_backbone_that_cannot_take_the_size_is_refused_before_training() -> None:
    with pytest.raises(ValueError, match=r"maps of 96 px have sides \[24, 12, 6, 3\].* choose another backbone_px"):
        make_step(PAIR.replace(backbone_px=96))
