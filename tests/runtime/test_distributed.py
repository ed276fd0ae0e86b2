import os

import pytest

from rnagan.runtime.distributed import own_cores


@pytest.mark.parametrize(("processes", "cores"), [(1, 6), (2, 3), (4, 1), (8, 1)])
def test_processes_of_a_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch, processes: int, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert own_cores() == cores
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert own_cores() == 6
