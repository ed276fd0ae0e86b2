"""What a run may cost on GPUs: a roofline of the counted step, and all else that takes time in a run.

The counts are exact. What a GPU reaches of its peaks, and what launches cost, are assumptions: no GPU was measured.
"""

import dataclasses

import numpy as np

from rnagan.config.gan import GANConfig
from rnagan.data.loader import MOST_THREADS
from rnagan.reports.console import aligned
from rnagan.training.gan.step_work import StepWork, Work, work_of
from rnagan.training.gpus import GPU, GPUS, gpu_named
from rnagan.training.run_checks import check_processes

EFFICIENCY = 0.4  # of the roofline, assumed
LAUNCH_SECONDS = 10e-6  # of the host for an operation of a step, assumed
GPUS_A_MACHINE = 8  # assumed
BETWEEN_MACHINES = 25e9  # bytes a second of each GPU, assumed: 200 Gb/s
DISK = 1e9  # bytes a second that a checkpoint is written with, assumed
TO_HOST = 25e9  # bytes a second from a GPU to pinned memory, assumed: most of PCIe 4's sixteen lanes
DECODE_SECONDS = 0.3e-3  # of a core for a tile of 256 px, measured
MEASURE_SECONDS = 5.6e-3  # of a core for a generated tile of 256 px in a validation, measured
FRECHET_SECONDS = 1.8  # of a core for a distance in a validation, measured
GRID_SECONDS = 0.6  # of a core for a sample grid of 256 px, measured
ALL = "all"  # in place of a GPU's name
COUNTS = (1, 8, 64)  # GPUs that a forecast is made for
GRID_TILES = 64  # of a sample grid
_PARTS = ("arithmetic", "memory", "launches", "all-reduce", "loader", "writer", "validation", "saving")  # of a step
_COLUMNS = ("images/s", "hours", *(f"{name}, ms" for name in _PARTS))
ASSUMED = (
    f"Assumed, not measured: a GPU reaches {EFFICIENCY:.0%} of its roofline, and an operation takes "
    f"{LAUNCH_SECONDS * 1e6:g} µs to launch. Nothing has run on a GPU."
)


@dataclasses.dataclass(frozen=True)
class Forecast:
    """A run on so many GPUs. `seconds`: of a critic step, by what takes them, on one process."""

    gpus: int
    batch_size: int  # of all of them
    seconds: dict[str, float]

    @property
    def step_seconds(self) -> float:
        """Of one step and its share of all else: GPU, launches, loader and the thread that writes work at the same
        time; training waits for the rest."""
        of = self.seconds
        step = max(of["arithmetic"] + of["memory"], of["launches"]) + of["all-reduce"]
        return max(max(step, of["loader"]) + of["validation"] + of["saving"], of["writer"])

    @property
    def images_per_second(self) -> float:
        return self.batch_size / self.step_seconds

    @property
    def limited_by(self) -> str:
        """What takes most of the time."""
        return max(self.seconds, key=lambda name: self.seconds[name])


def forecast(config: GANConfig, work: Work, gpu: GPU, gpus: int, batch_size: int, tissues: int = 1) -> Forecast:
    """Of `config` with another batch size. `tissues`: whose Fréchet distances a validation computes beside the whole's.

    Raises `ValueError` where so many processes can't train it.
    """
    config = config.replace(batch_size=batch_size)
    check_processes(config, gpus, on_gpus=True)
    step = work.at(batch_size // gpus)
    arithmetic, memory = (seconds / EFFICIENCY for seconds in roofline(step, gpu))
    launches = LAUNCH_SECONDS * len(step.flops) * step.share
    link = gpu.link if gpus <= GPUS_A_MACHINE else min(gpu.link, BETWEEN_MACHINES)
    side, cores = (config.resolution / 256) ** 2, config.loader_threads or MOST_THREADS
    image = max(arithmetic + memory, launches) / step.batch  # seconds; generating or describing a tile takes less
    distances = 1 + (tissues if config.mode == "rnagan" else 0)
    validated = config.validation_tiles / gpus * max(2 * image, MEASURE_SECONDS * side / cores)
    saved = work.checkpoint_bytes / TO_HOST / config.checkpoint_every + GRID_TILES / gpus * image / config.sample_every
    compared = distances * FRECHET_SECONDS / min(distances, cores)
    written = GRID_SECONDS * side / config.sample_every + work.checkpoint_bytes / DISK / config.checkpoint_every
    if config.validate_every:
        written += compared / config.validate_every
    seconds = (
        arithmetic,
        memory,
        launches,
        2 * (gpus - 1) / gpus * work.gradient_bytes / link,  # around a ring, after the backward; latency left out
        step.batch * DECODE_SECONDS * side / cores,
        batch_size * written,
        batch_size * validated / config.validate_every if config.validate_every else 0.0,
        batch_size * saved,
    )
    return Forecast(gpus, batch_size, dict(zip(_PARTS, seconds, strict=True)))


def roofline(step: StepWork, gpu: GPU) -> tuple[float, float]:
    """Seconds that a step takes at least, one operation after another: of those bound by arithmetic, and of those bound
    by memory (Williams et al. 2009)."""
    arithmetic = step.flops / np.where(step.reduced, gpu.reduced_flops, gpu.float32_flops)
    memory = step.bytes / gpu.bandwidth
    computing = arithmetic > memory
    return float(arithmetic[computing].sum() * step.share), float(memory[~computing].sum() * step.share)


def forecast_lines(
    config: GANConfig, condition_width: int, name: str = ALL, processes: int = 1, tissues: int = 1
) -> list[str]:
    """What a dry run says of the cost: counts, then one GPU of each kind, or 1, 8 and 64 of the one named.

    `condition_width`, `processes` and `tissues` are the run's. Raises `ValueError` where the GPU isn't known, or
    doesn't compute in the precision that is asked for.
    """
    config, known = known_gpus(config, name)
    if config.precision == "float64":
        return ["precision float64 is for equality tests; no cost is forecast."]
    try:
        work = work_of(config, condition_width)
    except ChildProcessError as error:
        return [f"What a step costs could not be counted: {error}"]
    lines = [describe(work, config, config.batch_size // processes), ASSUMED]
    rows = one_gpu_each(config, work, known, tissues) if name == ALL else many_gpus(config, work, known[0], tissues)
    return lines + aligned(rows)


def known_gpus(config: GANConfig, name: str) -> tuple[GANConfig, list[GPU]]:
    """The config in the precision that `auto` means on a GPU, and the GPUs that compute in it."""
    known = list(GPUS) if name == ALL else [gpu_named(name)]
    if name != ALL and config.precision == "bf16" and not known[0].bf16:
        raise ValueError(f"precision bf16: {known[0].name} only emulates it; choose fp16, or auto.")
    if config.precision == "auto":
        config = config.replace(precision="bf16" if name == ALL or known[0].bf16 else "float32")
    if config.precision == "bf16":
        known = [gpu for gpu in known if gpu.bf16]
    # fp16 moves and computes as much as bf16, which a CPU's autocast knows too
    return config.replace(precision="bf16") if config.precision == "fp16" else config, known


def describe(work: Work, config: GANConfig, batch: int) -> str:
    """Counts of a step on one process with a batch of `batch` tiles."""
    step = work.at(batch)
    flops, exact = step.flops.sum() * step.share, step.flops[~step.reduced].sum() * step.share
    return (
        f"A step of {batch} tiles on one process, {config.precision}: {flops / 1e12:.2f} TFLOP ({exact / 1e12:.2f} in "
        f"float32), {step.bytes.sum() * step.share / 1e9:.1f} GB moved in {len(step.flops) * step.share:,.0f} "
        f"operations; its tensors take {step.peak_bytes / 1e9:.1f} GB of GPU memory."
    )


def one_gpu_each(config: GANConfig, work: Work, known: list[GPU], tissues: int = 1) -> list[dict[str, str]]:
    """Rows of a table: a run on one GPU of each kind."""
    return [{"GPU": gpu.name} | _row(config, work, gpu, 1, config.batch_size, tissues) for gpu in known]


def many_gpus(config: GANConfig, work: Work, gpu: GPU, tissues: int = 1) -> list[dict[str, str]]:
    """Rows of a table: a run on 1, 8 and 64 GPUs, at the config's batch and at one that grows with them."""
    own = config.batch_size
    return [
        {"GPU": f"{n} × {gpu.name}"} | _row(config, work, gpu, n, size, tissues)
        for n in COUNTS
        for size in dict.fromkeys((own, n * own))
    ]


def _row(config: GANConfig, work: Work, gpu: GPU, gpus: int, batch_size: int, tissues: int) -> dict[str, str]:
    try:
        one = forecast(config, work, gpu, gpus, batch_size, tissues)
    except ValueError as error:
        return {"batch": f"{batch_size:,}"} | dict.fromkeys(_COLUMNS, "–") | {"limited by": str(error)}
    needed = work.at(batch_size // gpus).peak_bytes
    rate, milliseconds = one.images_per_second, (f"{1000 * seconds:.1f}" for seconds in one.seconds.values())
    return {
        "batch": f"{batch_size:,}",
        **dict(zip(_COLUMNS, (f"{rate:,.0f}", f"{config.images / rate / 3600:.2f}", *milliseconds), strict=True)),
        "limited by": one.limited_by if needed < gpu.memory else f"its {gpu.memory / 1e9:.0f} GB, too few",
    }
