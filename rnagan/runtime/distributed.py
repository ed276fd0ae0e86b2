"""This process among those of a launch: its rank, its share of the work, and its share of the cores."""

import dataclasses
import os

import torch.distributed as distributed


@dataclasses.dataclass(frozen=True)
class Processes:
    """This process's `rank` among `count`; rank 0 writes what is written once."""

    rank: int
    count: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, jobs: int) -> range:
        """This process's part of jobs 0 … jobs − 1: consecutive ones, of sizes that differ by one at most."""
        return range(self.rank * jobs // self.count, (self.rank + 1) * jobs // self.count)

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def agree(self, text: str) -> str:
        """The text of rank 0, on every process; all of them must call."""
        texts = [text]
        if self.count > 1:
            distributed.broadcast_object_list(texts)
        return texts[0]


def processes() -> Processes:
    """Those of the process group that the launcher made; without one, this process alone."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return Processes(0, 1)


def own_cores() -> int:
    """Cores that this process may use, shared among those that a launcher started on this machine; at least 1."""
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // processes_here)
