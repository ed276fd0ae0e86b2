import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from rnagan.config.simulation import SimulationConfig
from rnagan.runtime.workers import WorkerDied, Workers, run_each
from rnagan.simulation import cohort

SENTENCE = "A worker process died 4 times .*; start again with fewer processes: what is finished is kept"


# Workers can't import a test module; functions made inside of others travel by value.
def make_square() -> Callable:
    def square(number: int) -> tuple[int, int]:
        if number == 3:
            raise FileNotFoundError("three")
        return number**2, os.getpid()

    return square


def make_deadly(number: int | None, until: Path | None = None) -> Callable:
    """Kills its process at `number` (None: always), as the system does when memory runs out, until a file is there."""

    def deadly(item: object, *_: object) -> object:
        if (number is None or item == number) and not (until and until.exists()):
            if until:
                until.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    return deadly


def make_page_faults() -> Callable:
    def page_faults(_: object) -> int:
        """How many pages an array of 8 MiB takes anew, 50 times over, after the first."""

        def faults() -> int:
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

        np.ones(2**20)
        before = faults()
        for _ in range(50):
            np.ones(2**20)
        return faults() - before

    return page_faults


@pytest.mark.parametrize("processes", [1, 2])
def test_each_item_has_its_result_or_its_error(processes: int) -> None:
    outcomes = dict(run_each(make_square(), range(6), Workers(processes)))
    assert isinstance(outcomes.pop(3), FileNotFoundError)
    assert {n: result[0] for n, result in outcomes.items()} == {0: 0, 1: 1, 2: 4, 4: 16, 5: 25}
    assert (os.getpid() in {result[1] for result in outcomes.values()}) == (processes == 1)


def test_the_work_of_a_dead_worker_is_done_again(tmp_path: Path) -> None:
    outcomes = dict(run_each(make_deadly(2, until=tmp_path / "died"), range(6), Workers(2)))
    assert outcomes == {n: n for n in range(6)} and (tmp_path / "died").exists()


@pytest.mark.slow
@pytest.mark.guard
def test_an_item_that_kills_its_workers_costs_only_itself() -> None:
    outcomes = dict(run_each(make_deadly(2), range(6), Workers(2)))
    died = outcomes.pop(2)
    assert isinstance(died, WorkerDied) and outcomes == {n: n for n in (0, 1, 3, 4, 5)}
    with pytest.raises(WorkerDied, match=SENTENCE):
        raise died


def test_a_running_scheduler_is_used() -> None:
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        outcomes = dict(run_each(make_square(), [4, 5], Workers(scheduler=cluster.scheduler_address)))
    assert {result[0] for result in outcomes.values()} == {16, 25}
    assert os.getpid() not in {result[1] for result in outcomes.values()}


@pytest.mark.slow
@pytest.mark.guard
def test_jobs_on_workers_use_freed_memory_again() -> None:
    outcomes = dict(run_each(make_page_faults(), [1, 2], Workers(2)))
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with Client(cluster) as client:  # a worker as Dask starts it: each array takes fresh pages
            without = client.submit(make_page_faults(), 0).result()
        outcomes |= dict(run_each(make_page_faults(), [3], Workers(scheduler=cluster.scheduler_address)))
    # A fault maps 4 KiB here and 2 MiB where the kernel gives huge pages: what counts is the share.
    assert without > 100 and max(outcomes.values()) < without / 10, (without, outcomes)


def test_a_scheduler_without_workers_is_refused() -> None:
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        with pytest.raises(ValueError, match="has no worker; start some"):
            list(run_each(make_square(), [4], Workers(scheduler=cluster.scheduler_address)))


def test_workers_of_another_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnagan.runtime.workers.__version__", "9.9")
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        with pytest.raises(ValueError, match=r"have rnagan [\d.]+, and this is 9\.9; install the same"):
            list(run_each(make_square(), [4], Workers(scheduler=cluster.scheduler_address)))


def test_closing_gives_up_what_is_not_begun(tmp_path: Path) -> None:
    def touch(name: str) -> None:
        (tmp_path / name).touch()

    outcomes = run_each(touch, ["a", "b", "c"], Workers(1))
    assert next(outcomes)[0] == "a"
    outcomes.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("jobs: many\n", "jobs must be a number of SLURM jobs, not 'many'"),
        ("jobs: 1\nqueues: main\n", "holds settings that SLURMCluster doesn't take"),
        ("- 1\n", "must hold `name: value` lines"),
    ],
)
def test_bad_slurm_settings(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "slurm.yaml").write_text(text)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match=sentence):
        list(run_each(make_square(), [1], Workers(slurm=tmp_path / "slurm.yaml")))
    assert signal.getsignal(signal.SIGINT) is before  # dask-jobqueue sets one of its own


def test_bad_addresses() -> None:
    with pytest.raises(ValueError, match="No Dask scheduler answers at nowhere:x"):
        list(run_each(make_square(), [1], Workers(scheduler="nowhere:x")))
    with pytest.raises(ValueError, match="either a scheduler or SLURM"):
        Workers(scheduler="a:1", slurm=Path("x"))


@pytest.mark.slow
@pytest.mark.guard
def test_a_simulation_says_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohort, "write_slide", make_deadly(None))
    with pytest.raises(ChildProcessError, match=SENTENCE):
        cohort.simulate_cohort(SimulationConfig(donors=10, slide_donors=2, genes=50), tmp_path / "c", processes=2)
