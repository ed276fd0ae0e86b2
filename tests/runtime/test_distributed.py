import os
import resource

import numpy as np
import pytest

from rnagan.runtime.distributed import keep_freed_memory, own_cores


@pytest.mark.parametrize(("processes", "cores"), [(1, 6), (2, 3), (4, 1), (8, 1)])
def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch, processes: int, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert own_cores() == cores
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert own_cores() == 6


def test_freed_memory_is_used_again() -> None:
    keep_freed_memory()
    np.ones(50_000_000)  # the first takes fresh pages
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(50_000_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 50_000_000 * 8 / 4096
