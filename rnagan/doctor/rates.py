"""How fast the training step is on this machine, and what a run will be like."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.doctor.findings import Section
from rnagan.models.networks import build_critic, build_generator
from rnagan.training.gan.step import GANStep
from rnagan.training.launch import start

LONG_HOURS = 14 * 24


class Rates(NamedTuple):
    """Images a second of one process: through the step, and out of the loader (None where that wasn't measured)."""

    step: float
    loader: float | None
    decode: float | None  # that all cores decode
    gpus: int  # of this machine; 0: the step was on the CPU


def check_outlook(section: Section, config: GANConfig, rates: Rates) -> None:
    """DonorEvaluation a run of one process, and one of all GPUs.

    On a CPU step and loader want the same cores, so an image takes the time of both; a GPU computes while the loader
    reads.
    """
    rate = rates.step
    if rates.loader is not None:
        rate = min(rates.step, rates.loader) if rates.gpus else 1 / (1 / rates.step + 1 / rates.loader)
        _name_bottleneck(section, rates.step, rates.loader, on_cpu=not rates.gpus)
    hours = config.images / rate / 3600
    section.figures |= {"images_per_second": rate, "images": config.images, "hours": hours}
    told = f"{rate:,.1f} images/s, so {config.images:,} images take {_time(hours)}"
    told += "." if rates.loader is not None else ", if the loader keeps up (--shards measures it)."
    if hours > LONG_HOURS:
        section.warn(told, "fewer --images, a lower --resolution, or a GPU" if not rates.gpus else "more GPUs")
    else:
        section.ok(told)
    if rates.gpus > 1:
        _assess_all_gpus(section, rates)


def _name_bottleneck(section: Section, step: float, loader: float, on_cpu: bool) -> None:
    ratio = loader / step
    section.figures["loader_over_step"] = ratio
    if ratio >= 1:
        times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
        share = 1 / (1 + ratio)
        told = f"; on the same cores, loading costs {share:.0%} of the time" if on_cpu and share >= 0.01 else ""
        section.ok(f"The step is the bottleneck: the loader could feed {times} of these{told}.")
    else:
        section.warn(
            f"The loader is the bottleneck: it feeds {ratio:.0%} of what the step could take.",
            "more CPU cores and --loader-threads, a faster disk, or shards whose tiles have the training's resolution",
        )


def _assess_all_gpus(section: Section, rates: Rates) -> None:
    """Each GPU's process has its share of the cores, so together they get at most what all cores decode."""
    wanted = rates.gpus * rates.step
    section.figures["all_gpus_step_images_per_second"] = wanted
    told = f"All {rates.gpus} GPUs would take up to {wanted:,.0f} images/s"
    if rates.decode is None:
        section.note(f"{told}, less what their messages cost.")
    elif rates.decode < wanted:
        section.warn(f"{told}, and all cores decode {rates.decode:,.0f}: they would wait.", "more CPU cores")
    else:
        section.ok(f"{told}, less what their messages cost; all cores decode {rates.decode:,.0f}.")


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:,.0f} minutes" if hours * 60 >= 1.5 else "about a minute"
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours:,.0f} hours ({hours / 24:,.0f} days)"


SECONDS = 12.0  # of the whole measurement, about
COUNTED_SECONDS = 4.0  # of it that count, at most, but for one round


class TrainingStep:
    """The trainer's step with fresh networks of a config, on this process's device.

    `precision`: what `config.precision` means here, as Accelerate has it (no, bf16).
    """

    def __init__(self, config: GANConfig, condition_width: int) -> None:
        accelerator = start(config.precision, config.seed, config.threads)
        self.config, self.condition_width = config, condition_width
        self.device, self.precision = accelerator.device, accelerator.mixed_precision
        self.dtype = torch.float64 if config.precision == "float64" else torch.float32
        place = {"device": self.device, "dtype": self.dtype, "memory_format": torch.channels_last}
        networks = [build(config, condition_width).to(**place) for build in (build_generator, build_critic)]
        optimizers = [
            torch.optim.Adam(network.parameters(), lr, (config.beta1, config.beta2), fused=True)
            for network, lr in zip(networks, (config.generator_lr, config.critic_lr), strict=True)
        ]
        with _quiet():
            g, d, g_optimizer, d_optimizer = accelerator.prepare(*networks, *optimizers)
            self._step = GANStep(config, accelerator, g, d, g_optimizer, d_optimizer, condition_width)

    def __call__(self, number: int, tiles: Tensor, c: Tensor | None) -> None:
        """Step `number` of a run, on tiles (n, 3, H, H) uint8 and their conditions (n, condition_width)."""
        generator_too = number % self.config.critic_steps == self.config.critic_steps - 1
        tiles, c = tiles.to(self.device), None if c is None else c.to(self.device, self.dtype)
        self._step(number * len(tiles), tiles, c, generator_too)

    def seconds(self, batch_size: int, rounds: int = 1) -> float:
        """Time of `rounds` rounds, each of `critic_steps` critic steps and a generator step."""
        side = self.config.resolution
        tiles = torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8)
        c = torch.randn(batch_size, self.condition_width) if self.config.mode == "rnagan" else None
        self._finish()
        began = time.perf_counter()
        for number in range(rounds * self.config.critic_steps):
            self(number, tiles, c)
        self._finish()
        return time.perf_counter() - began

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings in logs: DeepSpeed, which Accelerate imports, tells of every machine without a GPU."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def condition_width(config: GANConfig) -> int:
    """Width of the condition where the β-VAE has its default latent, with as many active units as may pass."""
    if config.mode != "rnagan":
        return 0
    return config.condition_units if config.condition == "bottleneck" else VAEConfig().latent


def check_step(section: Section, config: GANConfig, tile_px: int, seconds: float = SECONDS) -> None:
    """Measure the step of a config; with smaller batches where that would take long, as on a CPU.

    `tile_px`: side of the stored tiles, a multiple of the resolution.
    """
    if config.resolution < tile_px:
        section.warn(
            f"Tiles of {tile_px} px are shrunk to {config.resolution} px in training.",
            f"rnagan build-tiles --tile-px {config.resolution} makes what is trained on, which is read faster; the "
            "resolution must be a power of two that divides the tiles' side",
        )
    try:
        step = TrainingStep(config, condition_width(config))
        batch_size, rate = measure(step, seconds)
    except RuntimeError as error:
        section.problem(
            f"The training step fails: {str(error).splitlines()[0]}", "a smaller --batch-size, or --resolution"
        )
        return
    precision = config.precision if config.precision == "float64" else step.precision.replace("no", "float32")
    section.figures |= {
        "device": str(step.device),
        "precision": precision,
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "step_images_per_second": rate,
    }
    device, memory = f"the CPU with {torch.get_num_threads()} threads", ""
    if step.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(step.device)
        section.figures["peak_memory_bytes"] = peak
        device, memory = torch.cuda.get_device_name(step.device), f", {peak / 1e9:.1f} GB of its memory"
    note = "" if batch_size == config.batch_size else f" (not {config.batch_size}, to be quick)"
    section.ok(f"{rate:,.1f} images/s on {device} in {precision}, batches of {batch_size}{note}{memory}.")


def measure(step: TrainingStep, seconds: float) -> tuple[int, float]:
    """Batch size, the config's if `seconds` suffice for it, and images a second; a first round isn't counted."""
    began = time.perf_counter()
    step.seconds(2)
    batch_size, a_round = 2, step.seconds(2)
    while batch_size < step.config.batch_size:
        larger = min(4 * batch_size, step.config.batch_size)
        if 2 * a_round * larger / batch_size > seconds - (time.perf_counter() - began):
            break
        batch_size, a_round = larger, step.seconds(larger)
    left = min(COUNTED_SECONDS, seconds - (time.perf_counter() - began))
    rounds = max(1, int(left / a_round))
    return batch_size, rounds * batch_size * step.config.critic_steps / step.seconds(batch_size, rounds)
