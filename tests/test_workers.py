import os
import signal
from pathlib import Path

import pytest

from rnagan.simulation import cohort
from rnagan.simulation.config import SimulationConfig
from rnagan.workers import worker_pool

TOLD = "A worker process died, .*; start again with fewer --processes: what is finished is kept"


class Deadly:
    """Kills the process that receives it, as the system does when memory runs out."""

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple:
        return signal.raise_signal, (signal.SIGKILL,)


def test_the_death_of_a_worker_is_one_sentence() -> None:
    with pytest.raises(ChildProcessError, match=TOLD), worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
        pool.submit(Deadly()).result()


def test_other_errors_pass() -> None:
    with pytest.raises(FileNotFoundError), worker_pool(1) as pool:
        pool.submit(os.stat, "/none").result()


def test_a_simulation_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "write_slide", Deadly())
    with pytest.raises(ChildProcessError, match=TOLD):
        cohort.simulate_cohort(SimulationConfig(donors=10, slide_donors=1, genes=50), tmp_path / "c", processes=1)
