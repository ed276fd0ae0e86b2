"""How fast a run is and how much memory it takes: `machine/…` in its metrics."""

import time

import psutil
import torch


class Pace:
    """Images a second since the last row, and the memory of this process."""

    def __init__(self, images: int, device: torch.device) -> None:
        self.device = device
        self.restart(images)

    def restart(self, images: int) -> None:
        """Count from here: what has just been done (a validation, say) was no training."""
        self.images, self.began = images, time.monotonic()

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
