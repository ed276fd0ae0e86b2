"""What ours takes to start, to start in the middle, and in memory, on sets of a million and of 100 million tiles, and
of sets of tiles with a profile each, whose cohort table is read too."""

import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from shared.contenders import Contender

from . import large
from .tiles import Tiles

SCRIPT = Path(__file__).parent / "workers" / "run_rnagan_start.py"
BATCHES = 200
MIDDLE = 1.5  # epochs
REPEATED, REPEATED_LESS = 3, 2


def measure_start(
    cores: Iterable[int],
    tiles: Tiles,
    scratch: Path,
    batch_size: int,
    slides: tuple[int, int],
    sections: tuple[int, int],
    quick: bool,
) -> dict[str, Any]:
    """Each figure from processes of its own, of which the median is reported; in one process if `quick`.

    `slides`: of the smaller and of the larger set; `sections`: of those of tiles with a profile each.
    """
    with Contender(SCRIPT, sys.executable, cores, scratch / "idle") as idle:
        idle.ask({"idle": True})

        def runs(folder: Path, count: int, **options: Any) -> list[dict[str, Any]]:
            usual = {"epochs": 0, "batches": 1, "threads": 2, "workers": 0, "cold": False}
            request = {"shards": str(folder), "batch_size": batch_size, **usual, **options}
            if quick:
                return [idle.ask(request)]
            answers = []
            for _ in range(count):
                with Contender(SCRIPT, sys.executable, cores, scratch) as ours:
                    answers.append(ours.ask(request))
            return answers

        sets = [large.make(tiles, n, copy_indexes=n == slides[0]) for n in slides]
        with_profiles = [large.make_spots(tiles, n) for n in sections]
        return _measure(runs, *sets, with_profiles)


def _measure(
    runs: Callable[..., list[dict[str, Any]]], million: Path, hundred_million: Path, with_profiles: list[Path]
) -> dict[str, Any]:
    def median(answers: list[dict[str, Any]], what: str, digits: int) -> float:
        return round(statistics.median(answer[what] for answer in answers), digits)

    usual = runs(million, REPEATED, batches=BATCHES)
    usual_100m = runs(hundred_million, REPEATED_LESS, batches=BATCHES)
    (profiles,), (more_profiles,) = (runs(folder, 1, batches=BATCHES) for folder in with_profiles)
    (in_worker,) = runs(million, 1, batches=BATCHES, workers=1)
    return {
        "first_batch_s": median(usual, "first_batch_s", 3),
        "first_batch_cold_index_s": median(runs(million, REPEATED_LESS, cold=True), "first_batch_s", 3),
        "first_batch_100m_s": median(usual_100m, "first_batch_s", 3),
        "resume_s": median(runs(million, REPEATED, epochs=MIDDLE), "first_batch_s", 3),
        "resume_100m_s": median(runs(hundred_million, REPEATED_LESS, epochs=MIDDLE), "first_batch_s", 3),
        "worker_memory_mb": median(usual, "memory_mb", 1),
        "worker_memory_100m_mb": median(usual_100m, "memory_mb", 1),
        "first_batch_profiles_s": [round(one["first_batch_s"], 3) for one in (profiles, more_profiles)],
        "worker_memory_profiles_mb": [round(one["memory_mb"], 1) for one in (profiles, more_profiles)],
        "peak_memory_profiles_mb": [round(one["peak_mb"], 1) for one in (profiles, more_profiles)],
        "worker_process_memory_mb": round(in_worker["worker_mb"], 1),
        "start": {
            "1m": usual,
            "100m": usual_100m,
            "profiles": [profiles, more_profiles],
            "1m, worker process": in_worker,
        },
    }
