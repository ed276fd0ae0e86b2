"""Tiles per second into a training process: ours against WebDataset, the published LMDB loader, MosaicML Streaming,
litData, and what decoding alone would take; and what ours takes to start and in memory.

All on the same tiles, two cores, batches of 64 and a warm page cache, with everything started before, in rounds that
alternate; ratios are medians of ratios within a round, against the better number of workers of each. The last line
printed is one JSON object.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from loader_parts import contest, environments, profiles, start, stores, tiles
from loader_parts.contest import Variant, best_of, ratios
from shared.contenders import Contenders
from shared.environments import environments_only, find_environments, versions_of
from shared.options import benchmark, takes_data
from shared.others import wait_for_quiet
from shared.race import OWN_WORKERS, Answer, race
from shared.report import Report

OURS_AND_LIMIT = ("rnagan", "limit")
START_FIGURES = ("first_batch_s", "worker_memory_mb", "worker_memory_100m_mb", "resume_s", "profiles_cpu_ratio")


class Field:
    """The contenders with what each reads, and what kept some of them from the race."""

    def __init__(self, contenders: Contenders, made: tiles.Tiles, usual: dict[str, Any]) -> None:
        self.contenders, self.made, self._usual = contenders, made, usual
        self.requests: dict[str, dict[str, Any]] = {}
        self.checked: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, str] = {}
        self.own_failures: dict[str, str] = {}

    def make_stores(self, entered: list[Variant]) -> None:
        for worker, entry in {entry.worker: entry for entry in entered}.items():
            try:
                store = stores.make_store(worker, self.contenders.of(entry), self.made)
            except (ValueError, OSError) as error:
                self._fail(f"{worker}, its form", worker, error)
            else:
                self.requests[worker] = self._usual | {"store": str(store)}

    def check(self, entered: list[Variant], versions: dict[str, str]) -> None:
        """Each loader, with the most workers that it has in the race. `versions`: of each contender's parts."""
        families = {entry.family: entry for entry in sorted(entered, key=lambda entry: entry.option.get("workers", 0))}
        for family, entry in families.items():
            if family and entry.worker in self.requests:
                request = self.requests[entry.worker] | {"option": entry.option}
                contender, state = self.contenders.of(entry), versions[entry.worker]
                try:
                    self.checked[family] = stores.check(family, contender, request, self.made, state)
                except (ValueError, OSError) as error:
                    self._fail(family, entry.worker, error)

    def may_run(self, entry: Variant) -> bool:
        return entry.worker in self.requests and (entry.family is None or entry.family in self.checked)

    def ask(self, entry: Variant) -> Answer:
        request = self.requests[entry.worker]
        stores.warm(Path(request["store"]))
        return self.contenders.of(entry).ask(request | {"do": "rate", "option": entry.option})

    def megabytes(self) -> dict[str, int]:
        return {worker: stores.megabytes(Path(request["store"])) for worker, request in self.requests.items()}

    def _fail(self, name: str, worker: str, error: Exception) -> None:
        (self.own_failures if worker in OWN_WORKERS else self.failures)[name] = str(error)


@benchmark(
    takes_data,
    environments_only,
    rounds=(4, 1, ""),
    enlarge=(2, 2, "How much the real texture is enlarged: by 2, tiles have 20 kB, by 1 32 kB."),
    slides=(96, 2, ""),
    tiles_a_slide=(208, 32, "Whole batches over all slides."),
    picture=(8192, 512, "Width of what tiles are cut from, px."),
    seconds=(3.0, 0.2, "Of a measurement of a loader."),
    batch_size=(64, 8, ""),
    large=((250, 25_000), (2, 3), "Slides of two large sets."),
    sections=((250, 2_500), (2, 3), "Sections of two large sets of tiles with a profile each."),
    profiles=((8, 4_000, 7), (2, 32, 1), "Slides, their tiles, and rounds with and without profiles."),
)
def main(run: SimpleNamespace) -> None:
    peers, missing = find_environments({"loader": environments.PEERS}, run, on_ours=True)
    own = OURS_AND_LIMIT if run.quick else (*OURS_AND_LIMIT, "webdataset")
    pythons: dict[str, Path] = dict.fromkeys(own, Path(sys.executable))
    if peers:
        pythons |= dict.fromkeys(("lmdb", "mosaicml", "litdata"), peers["loader"])
    report = Report("tiles")
    report.begin("tiles")
    run.cache.mkdir(parents=True, exist_ok=True)
    made = tiles.make(run.cache, run.data, run.enlarge, run.slides, run.tiles_a_slide, run.picture)
    cores = sorted(os.sched_getaffinity(0))[-2:]
    scratch = run.cache / "scratch"
    versions = {name: versions_of(python, environments.DECIDE_SPEED) for name, python in pythons.items()}
    usual = {"batch_size": run.batch_size, "seconds": run.seconds, "warm_up_seconds": 0.25 * run.seconds}
    with Contenders(stores.WORKERS, pythons, cores, scratch, run.quick) as contenders:
        entered = contenders.start(contest.variants(run.rounds), apart=False)
        field = Field(contenders, made, usual)
        report.begin("the tiles in each form")
        field.make_stores(entered)
        report.begin("checks")
        states = {name: f"{found}{report.source if name == 'rnagan' else ''}" for name, found in versions.items()}
        field.check(entered, states)
        report.fail(field.failures, field.own_failures)
        wait_for_quiet(cores, 0 if run.quick else 60)
        report.begin("rounds")
        for request in field.requests.values():
            stores.forget(Path(request["store"]))
        outcome = report.add(race([entry for entry in entered if field.may_run(entry)], field.ask))
    report.begin("starts and memory")
    started = report.attempt(
        start.measure_start, cores, made, scratch, run.batch_size, run.large, run.sections, run.quick
    )
    report.begin("with and without profiles")
    *sizes, rounds = run.profiles
    started |= report.attempt(profiles.measure_profiles, made, *sizes, run.batch_size, rounds)
    ours = ratios(outcome, contest.OURS, contest.LIMIT, (0, 2))
    report.end(
        {name: ours[name] for name in contest.HEADLINES}
        | dict.fromkeys(START_FIGURES)
        | started
        | {
            "ratios": ours,
            "ratios_with_processes": ratios(outcome, contest.OURS_IN_PROCESSES, contest.LIMIT, (0, 2)),
            "ratios_with_one_worker": ratios(outcome, contest.OURS_ALONE, contest.LIMIT_ALONE, (0, 1)),
            "best": {name: best_of(outcome, name, (0, 2)) for name in contest.PEERS},
            "megabytes": field.megabytes(),
            "checked": field.checked,
            "texture": made.texture,
            "tiles": made.count,
            "environments_missing": missing,
            "versions": versions,
        }
    )


if __name__ == "__main__":
    main()
