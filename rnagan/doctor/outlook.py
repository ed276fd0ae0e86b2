"""What a run will be like: images a second, what holds it up, and hours."""

from typing import NamedTuple

from rnagan.config import GANConfig
from rnagan.doctor.report import Section

LONG_HOURS = 14 * 24


class Rates(NamedTuple):
    """Images a second of one process: through the step, and out of the loader (None where that wasn't measured)."""

    step: float
    loader: float | None
    decode: float | None  # that all cores decode
    gpus: int  # of this machine; 0: the step was on the CPU


def check_outlook(section: Section, config: GANConfig, rates: Rates) -> None:
    """Judge a run of one process, and one of all GPUs.

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
        _judge_all_gpus(section, rates)


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


def _judge_all_gpus(section: Section, rates: Rates) -> None:
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
