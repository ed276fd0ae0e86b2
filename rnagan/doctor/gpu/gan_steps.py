"""The GAN's step on a GPU: equal to a CPU's, finite, without waits, and how fast by width, batch and precision."""

import gc
import math
import os
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.doctor.gpu.catalogue import Place
from rnagan.training.gan.forecast import roofline
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.step_work import work_of
from rnagan.training.gpus import gpu_of
from rnagan.training.step_rate import TrainingStep, condition_width

PRESETS = ("wgan_gp", "paper", "two_critics")
SMALL = {
    "resolution": 32,
    "generator_width": 4,
    "critic_width": 4,
    "batch_size": 4,
    "noise_units": 64,
    "backbone_px": 64,
    "threads": 1,
}
STEPS = 3  # whose losses are compared: the second and third follow updates
FAR = {"float64": 1e-6, "float32": 1e-2}  # of losses, relative to the largest, that is still equal
PRECISIONS = ("bf16", "float32")
VARIANTS: dict[str, dict[str, Any]] = {"compile": {"compile": True}}  # settings against the same without them


def equality(place: Place) -> tuple[str, dict[str, Any]]:
    """Losses of three presets on the CPU and on the device, in float64 and float32."""
    found: dict[str, Any] = {}
    for preset in PRESETS:
        for precision, limit in FAR.items():
            config = config_of(preset, SMALL | {"precision": precision})
            here, there = (losses(config, device) for device in ("cpu", place.device))
            apart = max(abs(a - b) for a, b in zip(here, there, strict=True)) / max(map(abs, here))
            found[f"{preset} {precision}"] = {"cpu": here, "device": there, "apart": apart}
            assert apart <= limit, f"{preset} in {precision} is {apart:.1e} from the CPU's losses; {limit:g} is allowed"
    worst = {name: max(own["apart"] for key, own in found.items() if key.endswith(name)) for name in FAR}
    return f"apart from the CPU: float64 {worst['float64']:.1e}, float32 {worst['float32']:.1e}", found


def finite(place: Place) -> tuple[str, dict[str, Any]]:
    """Losses and weights after some steps in bf16 and fp16."""
    found: dict[str, Any] = {}
    for precision in ("bf16",) if place.device == "cpu" else ("bf16", "fp16"):
        for preset in PRESETS:
            step = _on(place.device, config_of(preset, SMALL | {"precision": precision}))
            figures = _run(step)
            weights = all(bool(own.isfinite().all()) for network in step.networks for own in network.parameters())
            found[f"{preset} {precision}"] = {"losses": figures, "weights_finite": weights}
            assert weights, f"{preset} in {precision} has weights that aren't finite"
    left = "; fp16 is for GPUs" if place.device == "cpu" else ""
    return f"finite: {', '.join(found)}{left}", found


def waits(place: Place) -> tuple[str, dict[str, Any]]:
    """How often a step of each preset waits for the GPU: PyTorch warns of each synchronisation."""
    found = {}
    for preset in PRESETS:
        step = _on(place.device, config_of(preset, SMALL | {"precision": "auto"}))
        batch = step.batch(step.config.batch_size)
        step(0, *batch)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            step(1, *batch)
            torch.cuda.set_sync_debug_mode("default")
        said = [str(one.message) for one in caught]
        found[preset] = sum("called a synchronizing" in text for text in said)
    return f"synchronisations a step: {_listed(found)}", found


def rates(place: Place) -> tuple[str, dict[str, Any]]:
    """Images a second and memory of the default's step, by width, batch and precision; and the share of the roofline
    that was reached, where the GPU's peaks are known."""
    sizes: dict[str, Any] = {}
    for precision, width, batch_size in _sizes(place):
        own = {"generator_width": width, "critic_width": width, "batch_size": batch_size, "precision": precision}
        config = config_of("wgan_gp", (SMALL if place.quick else {}) | own)
        name = f"{precision}, width {width}, batch {batch_size}"
        try:
            sizes[name] = _rate(_on(place.device, config), 0.3 if place.quick else 2.0)
        except torch.cuda.OutOfMemoryError:
            sizes[name] = {"out_of_memory": True}
    best = max(own.get("images_per_second", 0.0) for own in sizes.values())
    summary, found = f"{len(sizes)} sizes, up to {best:,.0f} images/s", {"sizes": sizes}
    known = None if place.quick else gpu_of(torch.cuda.get_device_name())
    if known is not None:
        config = config_of("wgan_gp", {"precision": "bf16"})
        rate = sizes[f"bf16, width {config.generator_width}, batch {config.batch_size}"].get("images_per_second", 0.0)
        share = sum(roofline(work_of(config, condition_width(config)).one, known)) * rate / config.batch_size
        summary, found = f"{summary}, {share:.0%} of the roofline", found | {"roofline_share": share}
    return summary, found


def variants(place: Place) -> tuple[str, dict[str, Any]]:
    """Each variant's rate over the plain step's."""
    own = (SMALL if place.quick else {}) | {"precision": "auto"}
    seconds = 0.3 if place.quick else 3.0
    plain = _rate(_on(place.device, config_of("wgan_gp", own)), seconds)
    found: dict[str, Any] = {"plain": plain}
    for name, settings in VARIANTS.items():
        config = config_of("wgan_gp", own | settings)
        began = time.monotonic()
        rate = _rate(_on(place.device, config), seconds)
        ratio = rate["images_per_second"] / plain["images_per_second"]
        found[name] = rate | {"ratio": ratio, "seconds_with_start": time.monotonic() - began}
    return _listed({name: f"{found[name]['ratio']:.2f} times" for name in VARIANTS}), found


def _sizes(place: Place) -> Iterator[tuple[str, int, int]]:
    for precision in PRECISIONS:
        for width in (4,) if place.quick else (32, 64):
            for batch_size in (4, 8) if place.quick else (8, 64, 128):
                yield precision, width, batch_size


def config_of(preset: str, settings: dict[str, Any]) -> GANConfig:
    """A preset with other settings."""
    return resolve(GANConfig, read_preset(GANConfig, preset), settings)


def _on(device: str, config: GANConfig) -> TrainingStep:
    """A step on a device, whatever this process has computed before."""
    gc.collect()  # the step before holds memory in circles
    torch.cuda.empty_cache()
    os.environ["ACCELERATE_USE_CPU"] = str(device == "cpu").lower()
    return TrainingStep(config, condition_width(config), config.compile)


def losses(config: GANConfig, device: str) -> list[float]:
    """All figures of some steps of a config on a device."""
    return _run(_on(device, config))


def _run(step: TrainingStep) -> list[float]:
    """All figures of some steps on the same tiles."""
    torch.manual_seed(0)
    batch = step.batch(step.config.batch_size)
    return figures_of([step(number, *batch) for number in range(STEPS * step.config.critic_steps)])


def figures_of(records: Iterable[StepRecord]) -> list[float]:
    """All figures of some steps; refuses one that isn't finite."""
    figures = [float(own) for record in records for own in record if own is not None]
    assert all(map(math.isfinite, figures)), f"a loss isn't finite: {figures}"
    return figures


def _rate(step: TrainingStep, seconds: float) -> dict[str, Any]:
    """Images a second over about so many seconds, and the most memory taken at a time."""
    on_gpu, size = step.device.type == "cuda", step.config.batch_size
    step.seconds(size, 2)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(step.device)
    rounds = max(1, round(seconds / step.seconds(size)))
    rate = rounds * size * step.config.critic_steps / step.seconds(size, rounds)
    memory = torch.cuda.max_memory_allocated(step.device) if on_gpu else None
    return {"images_per_second": rate, "peak_memory_bytes": memory}


def _listed(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
