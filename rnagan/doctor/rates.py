"""How fast the training step is on this machine, and what a run will be like."""

from typing import NamedTuple

import torch

from rnagan.config.gan import GANConfig
from rnagan.doctor.findings import Section
from rnagan.training.step_rate import TrainingStep, condition_width, measure

LONG_HOURS = 14 * 24
SECONDS = 12.0  # that measuring a step takes, about


class Rates(NamedTuple):
    """Images a second of one process: through the step, and out of the loader (None where that wasn't measured)."""

    step: float
    loader: float | None
    decode: float | None  # that all cores decode
    gpus: int  # of this machine; 0: the step was on the CPU


def check_outlook(section: Section, config: GANConfig, rates: Rates) -> None:
    """Predict how long a run of one process takes, and what all GPUs would.

    On a CPU step and loader want the same cores, so an image takes the time of both; a GPU computes while the loader
    reads.
    """
    rate = rates.step
    if rates.loader is not None:
        rate = min(rates.step, rates.loader) if rates.gpus else 1 / (1 / rates.step + 1 / rates.loader)
        _name_bottleneck(section, rates.step, rates.loader, on_cpu=not rates.gpus)
    hours = config.images / rate / 3600
    section.figures |= {"images_per_second": rate, "images": config.images, "hours": hours}
    outlook = f"{rate:,.1f} images/s, so {config.images:,} images take {_time(hours)}"
    outlook += "." if rates.loader is not None else ", if the loader keeps up (--shards measures it)."
    if hours > LONG_HOURS:
        section.warn(outlook, "fewer --images, a lower --resolution, or a GPU" if not rates.gpus else "more GPUs")
    else:
        section.ok(outlook)
    if rates.gpus > 1:
        _assess_all_gpus(section, rates)


def _name_bottleneck(section: Section, step: float, loader: float, on_cpu: bool) -> None:
    ratio = loader / step
    section.figures["loader_over_step"] = ratio
    if ratio >= 1:
        times = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
        share = 1 / (1 + ratio)
        cost = f"; on the same cores, loading costs {share:.0%} of the time" if on_cpu and share >= 0.01 else ""
        section.ok(f"The step is the bottleneck: the loader could feed {times} of these{cost}.")
    else:
        section.warn(
            f"The loader is the bottleneck: it feeds {ratio:.0%} of what the step could take.",
            "more CPU cores and --loader-threads, a faster disk, or shards whose tiles have the training's resolution",
        )


def _assess_all_gpus(section: Section, rates: Rates) -> None:
    """Each GPU's process has its share of the cores, so together they get at most what all cores decode."""
    wanted = rates.gpus * rates.step
    section.figures["all_gpus_step_images_per_second"] = wanted
    all_gpus = f"All {rates.gpus} GPUs would take up to {wanted:,.0f} images/s"
    if rates.decode is None:
        section.note(f"{all_gpus}, less what their messages cost.")
    elif rates.decode < wanted:
        section.warn(f"{all_gpus}, and all cores decode {rates.decode:,.0f}: they would wait.", "more CPU cores")
    else:
        section.ok(f"{all_gpus}, less what their messages cost; all cores decode {rates.decode:,.0f}.")


def _time(hours: float) -> str:
    if hours < 1:
        return f"{hours * 60:,.0f} minutes" if hours * 60 >= 1.5 else "about a minute"
    return f"{hours:,.1f} hours" if hours < 48 else f"{hours:,.0f} hours ({hours / 24:,.0f} days)"


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
