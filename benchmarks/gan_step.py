"""One WGAN-GP step: ours against the three separate steps of the released code, same networks, batch and machine.

Prints one JSON object; ratios are medians over rounds that alternate between the two.
"""

import json
import statistics
import time
from collections.abc import Callable

import click
import torch

from rnagan.config import GANConfig
from rnagan.doctor.rates import TrainingStep
from rnagan.models.build import build_critic, build_generator
from rnagan.models.condition import noise_width

CONDITION_WIDTH = 9
ROUNDS = 5


def plain_step(config: GANConfig) -> Callable[[int, torch.Tensor, torch.Tensor], None]:
    """The released arrangement in plain PyTorch, float32: generator, critic and penalty with a forward each."""
    generator, critic = build_generator(config, CONDITION_WIDTH), build_critic(config, CONDITION_WIDTH)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-4) for network in (generator, critic)]
    width = noise_width(config, CONDITION_WIDTH)

    def descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def step(number: int, tiles: torch.Tensor, c: torch.Tensor) -> None:
        x_real = tiles.float() / 127.5 - 1

        def painted() -> torch.Tensor:
            return generator(torch.cat([c, torch.randn(len(c), width)], dim=1))

        if number % config.critic_steps == config.critic_steps - 1:
            descend(-critic(painted(), c).mean(), optimizers[0])
        descend(critic(painted().detach(), c).mean() - critic(x_real, c).mean(), optimizers[1])
        epsilon = torch.rand(len(c), 1, 1, 1)
        x_hat = (epsilon * x_real + (1 - epsilon) * painted().detach()).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(x_hat, c).sum(), x_hat, create_graph=True)
        descend(config.penalty_weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean(), optimizers[1])

    return step


def images_per_second(step: Callable, config: GANConfig, steps: int) -> float:
    tiles = torch.randint(0, 256, (config.batch_size, 3, config.resolution, config.resolution), dtype=torch.uint8)
    c = torch.randn(config.batch_size, CONDITION_WIDTH)
    began = time.perf_counter()
    for number in range(steps):
        step(number, tiles, c)
    return steps * config.batch_size / (time.perf_counter() - began)


@click.command(help=__doc__)
@click.option("--resolution", default=64, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--width", default=24, show_default=True)
@click.option("--steps", default=8, show_default=True, help="Steps a round.")
def main(resolution: int, batch_size: int, width: int, steps: int) -> None:
    config = GANConfig(
        resolution=resolution,
        batch_size=batch_size,
        generator_width=width,
        critic_width=width,
        diffaugment="none",
        flips=False,
        quarter_turns=False,
        condition_noise=0.0,
    )
    ours = TrainingStep(config, CONDITION_WIDTH)
    contenders: dict[str, Callable] = {"ours": ours, "plain": plain_step(config)}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for step in contenders.values():
        images_per_second(step, config, 2)  # warm-up
    for _ in range(ROUNDS):
        for name, step in contenders.items():
            rates[name].append(images_per_second(step, config, steps))
    print(
        json.dumps(
            {
                "precision": ours.precision,
                "threads": torch.get_num_threads(),
                "resolution": resolution,
                "images_per_second": round(statistics.median(rates["ours"]), 1),
                "images_per_second_plain": round(statistics.median(rates["plain"]), 1),
                "ratio_plain": round(
                    statistics.median(a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)), 2
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
