"""A command for tests of signals: argv says which work it does, and in which folder it says that it has begun."""

import sys
import time
from pathlib import Path

import click

from rnagan.commands.options import plain_errors
from rnagan.io.files import atomic_path
from rnagan.runtime.workers import Workers, run_each

FOLDER = Path(sys.argv[2])


def write_slowly() -> None:
    with atomic_path(FOLDER / "product") as temporary:
        temporary.touch()
        (FOLDER / "begun").touch()
        time.sleep(60)


def make_job(folder: Path):
    def job(number: int) -> None:
        import os
        import time

        (folder / f"job{number}-{os.getpid()}").touch()
        time.sleep(60)

    return job


def run_jobs() -> None:
    list(run_each(make_job(FOLDER), range(4), Workers(2)))


def run_stage() -> None:
    from rnagan.article.stages import Stage, run_stages

    run_stages([Stage("slow", f"{sys.executable} {__file__} write {FOLDER}")], FOLDER)


def make_lossy_job(folder: Path):
    class Lossy:
        """Loses an interrupt, as an import of a C module does."""

        def __del__(self) -> None:
            import time

            (folder / "begun").touch()
            time.sleep(60)

    def job(number: int) -> None:
        (folder / f"job{number}").touch()
        Lossy()

    return job


def run_lossy_jobs() -> None:
    list(run_each(make_lossy_job(FOLDER), range(2), Workers(1)))


def lose_in_training() -> None:
    from accelerate import Accelerator

    from rnagan.training.run import StopSignal

    with StopSignal(Accelerator(cpu=True)) as stop:
        make_lossy_job(FOLDER)(0)
        if not stop.is_set(0):
            (FOLDER / "job1").touch()  # the next step


def ignore_all() -> None:
    """A library that swallows every interrupt, and a child that isn't asked."""
    while True:
        try:
            (FOLDER / "begun").touch()
            time.sleep(60)
        except KeyboardInterrupt:
            pass


WORK = {
    "write": write_slowly,
    "jobs": run_jobs,
    "stage": run_stage,
    "ignore": ignore_all,
    "lossy": run_lossy_jobs,
    "lossy training": lose_in_training,
}


@click.command()
@click.argument("work")
@click.argument("folder")
@plain_errors
def main(work: str, folder: str) -> None:
    WORK[work]()


if __name__ == "__main__":
    main()
