"""This process among those of a launch: its rank, its share of the work, and its share of the cores."""

import dataclasses
import os
import socket
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any, NamedTuple, TypeVar

import torch.distributed as distributed

T = TypeVar("T")


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
        return self.from_main(lambda: text)

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns on rank 0, which alone calls it, on every process; or the error that it raises there.
        All of them must call."""
        if self.count == 1:
            return make()
        own = _outcome(make) if self.is_main else None
        sent = [None if own is None else own.as_sent()]
        distributed.broadcast_object_list(sent)
        outcome = own or sent[0]
        assert outcome is not None
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def each(self, call: Callable[[], T]) -> list[T]:
        """What `call` returns on each process, by rank, on all of them; where it raises on any, all raise the first
        such error. All of them must call."""
        if self.count == 1:
            return [call()]
        found: list[Any] = [None] * self.count
        distributed.all_gather_object(found, _outcome(call).as_sent())
        for rank, outcome in enumerate(found):
            if outcome.error is not None:
                raise type(outcome.error)(f"Process {rank} on {outcome.host}: {outcome.error}")
        return [outcome.value for outcome in found]


class _Outcome(NamedTuple):
    """What a call of one process gave: a value, or the error that it raised."""

    host: str
    value: Any = None
    error: Exception | None = None

    def as_sent(self) -> "_Outcome":
        """With an error that any process can make anew from its sentence."""
        if self.error is None:
            return self
        for kind in (FileNotFoundError, OSError, ValueError):
            if isinstance(self.error, kind):
                return self._replace(error=kind(str(self.error)))
        return self._replace(error=RuntimeError(f"{type(self.error).__name__}: {self.error}"))


def _outcome(call: Callable[[], Any]) -> _Outcome:
    host = socket.gethostname()
    try:
        return _Outcome(host, call())
    except Exception as error:  # raised on every process: one that went on would wait for the others
        return _Outcome(host, error=error)


def processes() -> Processes:
    """Those of the process group that the launcher made; without one, this process alone."""
    if distributed.is_available() and distributed.is_initialized():
        return Processes(distributed.get_rank(), distributed.get_world_size())
    return Processes(0, 1)


_sharing: dict[int, int] = {}  # processes of the launch that may use each core of this machine


def note_cores(of_processes_here: Iterable[Iterable[int]]) -> None:
    """Note which cores each process of the launch on this machine may use, so that `own_cores` knows who shares one."""
    _sharing.clear()
    for cores in of_processes_here:
        for core in cores:
            _sharing[core] = _sharing.get(core, 0) + 1


def own_cores() -> int:
    """Cores that this process may use, shared among those of the launch that may use the same; at least 1.

    Before they know of one another, all that a launcher started on this machine count as sharing.
    """
    everyone = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    shares = (Fraction(1, _sharing.get(core, 1) if _sharing else everyone) for core in os.sched_getaffinity(0))
    return max(1, int(sum(shares)))
