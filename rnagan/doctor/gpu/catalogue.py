"""Which checks there are, in order, what each needs, and how long it may take. Nothing heavy is imported."""

from pathlib import Path
from typing import NamedTuple


class LeftOutError(Exception):
    """A check can't be made here; the message says why."""


class Place(NamedTuple):
    """Where a check works: its device (cuda or cpu), whether sizes are small, and a folder for what checks make."""

    device: str
    quick: bool
    folder: Path


class Check(NamedTuple):
    """`function`: module and name in this folder; `after`: checks whose products it uses; `packages`: that it imports;
    `seconds`: after which it is ended."""

    name: str
    function: str
    seconds: float
    after: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    gpu_only: bool = False


CHECKS = (
    Check("machine", "hardware.machine", 40),
    Check("equality", "gan_steps.equality", 60),
    Check("finite", "gan_steps.finite", 45),
    Check("waits", "gan_steps.waits", 40, gpu_only=True),
    Check("rates", "gan_steps.rates", 90),
    Check("variants", "gan_steps.variants", 75, gpu_only=True),
    Check("copies", "hardware.copies", 30, gpu_only=True),
    Check("others", "other_steps.rates", 45, packages=("lightly",)),
    Check("ddp", "process_groups.ddp", 45),
    Check("two_gpus", "process_groups.two_gpus", 45, gpu_only=True),
    Check("batch_norm", "process_groups.batch_norm", 40, gpu_only=True),
    Check("data", "runs.data", 75, packages=("openslide", "mlflow", "dask")),
    Check("loader", "runs.loader", 30, after=("data",)),
    Check("run", "runs.stop_and_resume", 75, after=("data",), packages=("mlflow",)),
    Check("fid", "runs.fid", 45, after=("data", "run")),
    Check("zero2", "process_groups.zero2", 60, packages=("deepspeed",)),
    Check("zero3", "process_groups.zero3", 60, packages=("deepspeed",)),
)
