"""Independent jobs on worker processes: of this machine, of a Dask scheduler, or of SLURM jobs.

The only module that imports Dask. Nothing here is shared between jobs, so where they run can't change what they make.
"""

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rnagan import __version__
from rnagan.io.files import read_yaml
from rnagan.runtime.ends import end_children, raise_lost_interrupt, signals_ignored
from rnagan.runtime.memory import keep_freed_memory

T = TypeVar("T")
R = TypeVar("R")

DEATHS = 3  # a job whose worker died this many times is tried once more, and then given up
CONNECT_SECONDS = 30
_DIED = (
    f"A worker process died {DEATHS + 1} times at the same work, perhaps for lack of memory; start again with fewer "
    "processes: what is finished is kept."
)


@dataclasses.dataclass(frozen=True)
class Workers:
    """Where jobs run: `processes` on this machine, else a running Dask scheduler, else the SLURM jobs of a YAML file.

    One process is this process itself, without Dask.
    """

    processes: int = 1
    scheduler: str | None = None  # such as tcp://node1:8786
    slurm: Path | None = None

    def __post_init__(self) -> None:
        if self.scheduler and self.slurm:
            raise ValueError("Give either a scheduler or SLURM settings, not both.")

    @property
    def here(self) -> bool:
        """Whether all work is done in this process."""
        return self.processes <= 1 and not self.scheduler and not self.slurm


class WorkerDied(ChildProcessError):  # noqa: N818
    """The worker processes of one job died again and again."""


def run_each(
    call: Callable[[T], R], items: Sequence[T], workers: Workers
) -> Generator[tuple[T, R | Exception], None, None]:
    """`call` of each item, yielded with its item as they are done, in any order.

    An exception of a call is yielded in the place of its result. A worker that dies is replaced and its item done
    again; an item whose workers keep dying yields `WorkerDied`. `call` and items must be picklable, and `call` must
    be safe to repeat. Closing the iterator gives up what is not begun.
    """
    if not items:
        return
    if workers.here:
        for item in items:
            outcome = _outcome(call, item)
            raise_lost_interrupt()
            yield item, outcome
        return
    with _client(workers, len(items)) as client:
        from dask.distributed import KilledWorker, as_completed

        futures = client.map(functools.partial(_outcome_on_worker, call), items, pure=False)
        item_of = dict(zip(futures, items, strict=True))
        del futures  # a result is forgotten as soon as it has been handed over
        try:
            for future in as_completed(list(item_of)):
                raise_lost_interrupt()
                item = item_of.pop(future)
                try:
                    yield item, future.result()
                except KilledWorker:
                    yield item, WorkerDied(_DIED)
        finally:
            client.cancel(list(item_of))


def _outcome(call: Callable[[T], R], item: T) -> R | Exception:
    try:
        return call(item)
    except Exception as error:
        return error


def _outcome_on_worker(call: Callable[[T], R], item: T) -> R | Exception:
    """Dask starts workers so that they give back memory at once: a job's buffers would come anew, page by page."""
    keep_freed_memory()  # before each job: a worker may have replaced another, or have been there before this run
    return _outcome(call, item)


@contextlib.contextmanager
def _client(workers: Workers, jobs: int) -> Iterator[Any]:
    import dask
    from dask.distributed import Client

    for name in logging.root.manager.loggerDict:
        if name.split(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)  # WorkerDied reports deaths
    settings = {
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.worker.profile.enabled": False,  # it would look at each worker's stack a hundred times a second
        "distributed.scheduler.worker-saturation": 1.0,  # a job that only waited on a worker isn't blamed for its death
    }
    with dask.config.set(settings):
        with _cluster(workers, jobs) as address:
            try:
                client = Client(address, timeout=CONNECT_SECONDS)
            except (OSError, ValueError) as error:
                raise ValueError(f"No Dask scheduler answers at {workers.scheduler}: {error}") from None
            with client:
                if workers.scheduler:
                    _check_versions(client, workers.scheduler)
                yield client


def _check_versions(client: Any, address: str) -> None:
    """Refuse workers of another environment: one that can't import a job would wait for it without end."""
    found = set(client.run(_version_there).values())
    if not found:
        raise ValueError(f"The Dask scheduler at {address} has no worker; start some, or use --processes.")
    if found != {__version__}:
        versions = ", ".join(sorted(str(version or "none") for version in found))
        raise ValueError(
            f"The workers of {address} have rnagan {versions}, and this is {__version__}; install the same."
        )


def _version_there() -> str | None:
    try:
        import rnagan
    except ImportError:
        return None
    return rnagan.__version__


@contextlib.contextmanager
def _cluster(workers: Workers, jobs: int) -> Iterator[Any]:
    """What a Dask client connects to."""
    if workers.scheduler:
        yield workers.scheduler
    elif workers.slurm:
        with _slurm_cluster(workers.slurm) as cluster:
            yield cluster
    else:
        from dask.distributed import LocalCluster
        from distributed.deploy.spec import close_clusters

        with signals_ignored(signal.SIGINT):  # and so in the processes begun here: Ctrl-C is this process's to answer
            # TLS with certificates made for this run: others on a shared machine can't send it work.
            local = LocalCluster(
                n_workers=min(workers.processes, jobs),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                security=True,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
        with contextlib.ExitStack() as closing:
            closing.enter_context(local)
            try:
                yield local
            except KeyboardInterrupt:
                closing.pop_all()  # it would wait for the jobs of its workers; they are killed, and the process ends
                atexit.unregister(close_clusters)
                for nanny in local.workers.values():
                    nanny.auto_restart = False
                end_children()
                raise


def _slurm_cluster(path: Path) -> Any:
    """A dask-jobqueue cluster; the file's `jobs` is the number of SLURM jobs, the rest goes to SLURMCluster as it is.

    Unless the file says otherwise, workers speak TLS with keys made for this run, in the current folder.
    """
    with signals_ignored(signal.SIGINT):  # which dask-jobqueue takes for itself, to end with exit code 0
        from dask_jobqueue import SLURMCluster

    settings = read_yaml(path)
    jobs = settings.pop("jobs", 1)
    if not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"{path}: jobs must be a number of SLURM jobs, not {jobs!r}.")
    options = {"dashboard_address": "127.0.0.1:0"} | settings.pop("scheduler_options", {})
    defaults: dict[str, Any] = {
        "security": True,
        "shared_temp_directory": os.getcwd(),
        "worker_extra_args": ["--no-dashboard"],
    }
    try:
        cluster = SLURMCluster(scheduler_options=options, **(defaults | settings))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds settings that SLURMCluster doesn't take ({error}).") from None
    try:
        _check_submission(path, cluster.job_script())
    except ValueError:
        cluster.close()
        raise
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # unlike scale, it replaces jobs that end
    return cluster


def _check_submission(path: Path, script: str) -> None:
    """Ask SLURM whether it takes such a job: dask-jobqueue would wait without end for one that it doesn't."""
    try:
        tried = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    except FileNotFoundError:
        raise ValueError(
            "SLURM's sbatch is not on this machine; start from one of the cluster, or use --processes."
        ) from None
    if tried.returncode:
        said = tried.stderr.strip().splitlines() or ["no reason given"]
        raise ValueError(f"SLURM refuses the jobs that {path} describes: {said[-1]}.")
