"""How fast a run trains, and what it waits for."""

import contextlib
import time
from collections.abc import Iterator

import psutil
import torch

from rnagan.config.base import Config

# What training waits for, and the settings that make it rarer.
RARER = {
    "rows of metrics": ("log_every",),
    "sample grids": ("sample_every",),
    "checkpoints": ("checkpoint_every", "checkpoint_epochs"),
    "validations": ("validate_every",),
}
LONG_SHARE, LONG_SECONDS = 0.05, 60.0  # of a run's time, and of the clock, which is said at its end


class Throughput:
    """Images a second since the last row, and the memory of this process: `machine/…` in a run's metrics."""

    def __init__(self, images: int, device: torch.device) -> None:
        self.device, self.paused_seconds, self._run_began = device, dict[str, float](), time.monotonic()
        self.restart(images)

    def restart(self, images: int) -> None:
        """Count from here: what has just been done (a validation, say) was no training."""
        self.images, self.began = images, time.monotonic()

    @contextlib.contextmanager
    def paused(self, kind: str) -> Iterator[None]:
        """A block that is no training: its time doesn't count, but among that of its kind (RARER)."""
        began = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - began
            self.began += seconds
            self.paused_seconds[kind] = self.paused_seconds.get(kind, 0.0) + seconds

    def row(self, images: int) -> dict[str, float]:
        """`machine/images_per_second` over all processes, and `machine/memory_gb` of this one: on a GPU the most that
        tensors have taken so far, on a CPU what is resident now. Starts anew."""
        seconds = max(time.monotonic() - self.began, 1e-9)
        if self.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self.device)
        else:
            memory = psutil.Process().memory_info().rss
        row = {
            "machine/images_per_second": round((images - self.images) / seconds, 2),
            "machine/memory_gb": round(memory / 2**30, 3),
        }
        self.restart(images)
        return row

    def long_waits(self, config: Config) -> list[str]:
        """A sentence on each kind of waiting that took more than LONG_SHARE of this process's time in the run."""
        whole, said = time.monotonic() - self._run_began, []
        for kind, seconds in self.paused_seconds.items():
            if seconds > max(LONG_SECONDS, LONG_SHARE * whole):
                options = [name.replace("_", "-") for name in RARER[kind] if hasattr(config, name)]
                advice = f"; a larger --{options[0]} makes them rarer" if options else ""
                said.append(f"Training waited for {kind} in {seconds / whole:.0%} of the time{advice}.")
        return said
