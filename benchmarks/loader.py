"""Tiles per second into a training process: ours against WebDataset, the published LMDB loader, MosaicML Streaming,
litData, and what decoding alone would take; and what ours takes to start and in memory.

All on the same tiles, two cores, batches of 64 and a warm page cache, with everything started before, in rounds that
alternate; ratios are medians of ratios within a round, against the better number of workers of each. The last line
printed is one JSON object.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click
from loader_parts import contest, environments, start, stores, tiles
from loader_parts.contest import Variant, best_of, ratios
from shared.contenders import Contender, open_contenders
from shared.environments import python_of, versions_of
from shared.others import foreign_seconds, wait_for_quiet
from shared.race import Answer, race
from shared.report import Clock, attempt, end_with_environments, load_average, source_digest

BATCH_SIZE = 64
SECONDS, WARM_UP_SECONDS = 3.0, 0.7
START_FIGURES = ("first_batch_s", "worker_memory_mb", "worker_memory_100m_mb", "resume_s")


class Field:
    """The contenders with what each reads, and what kept some of them from the race."""

    def __init__(self, contenders: dict[str, Contender], made: tiles.Tiles) -> None:
        self.contenders, self.made = contenders, made
        self.requests: dict[str, dict[str, Any]] = {}
        self.checked: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, str] = {}

    def make_stores(self) -> None:
        for worker, contender in self.contenders.items():
            try:
                store = stores.make_store(worker, contender, self.made)
            except (ValueError, OSError) as error:
                self.failures[f"{worker}, its form"] = str(error)
            else:
                self.requests[worker] = {
                    "store": str(store),
                    "batch_size": BATCH_SIZE,
                    "seconds": SECONDS,
                    "warm_up_seconds": WARM_UP_SECONDS,
                }

    def check(self, entered: list[Variant], versions: dict[str, str]) -> None:
        """Each loader, with the most workers that it has in the race. `versions`: of each contender's parts."""
        families = {entry.family: entry for entry in sorted(entered, key=lambda entry: entry.option.get("workers", 0))}
        for family, entry in families.items():
            if family and entry.worker in self.requests:
                request = self.requests[entry.worker] | {"option": entry.option}
                contender, state = self.contenders[entry.worker], versions[entry.worker]
                try:
                    self.checked[family] = stores.check(family, contender, request, self.made, state)
                except (ValueError, OSError) as error:
                    self.failures[family] = str(error)

    def may_run(self, entry: Variant) -> bool:
        return entry.worker in self.requests and (entry.family is None or entry.family in self.checked)

    def ask(self, entry: Variant) -> Answer:
        """Its rate, and the share of the cores that others had meanwhile."""
        contender, request = self.contenders[entry.worker], self.requests[entry.worker]
        stores.warm(Path(request["store"]))
        foreign, began = foreign_seconds(contender.cores, contender.pid), time.perf_counter()
        answer = contender.ask(request | {"do": "rate", "option": entry.option})
        foreign = foreign_seconds(contender.cores, contender.pid) - foreign
        return answer | {"others": foreign / (time.perf_counter() - began) / len(contender.cores)}

    def megabytes(self) -> dict[str, int]:
        return {worker: stores.megabytes(Path(request["store"])) for worker, request in self.requests.items()}


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data", show_default=True, help="Real data.")
@click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True)
@click.option("--rounds", default=4, show_default=True)
@click.option(
    "--enlarge",
    type=click.Choice([1, 2]),
    default=2,
    show_default=True,
    help="How much the real texture is enlarged: by 2, tiles have 20 kB, by 1 32 kB.",
)
@click.option("--quick", is_flag=True, help="Leave out one worker, starting, and memory.")
@click.option("--environments-only", is_flag=True, help="Only make the environment of the others.")
def main(data: Path, cache: Path, rounds: int, enlarge: int, quick: bool, environments_only: bool) -> None:
    clock = Clock()
    cache.mkdir(parents=True, exist_ok=True)
    pythons: dict[str, Path | str] = dict.fromkeys(("rnagan", "limit", "webdataset"), sys.executable)
    missing = {}
    try:
        peers = python_of("loader", environments.PEERS, cache.resolve() / "venvs", on_ours=True)
        pythons |= dict.fromkeys(("lmdb", "mosaicml", "litdata"), peers.absolute())
    except ValueError as error:
        missing["loader"] = str(error)
    if environments_only:
        end_with_environments(missing)
    source, load = source_digest(), [load_average()]
    clock.say("tiles")
    made = tiles.make(cache, data, enlarge)
    cores = sorted(os.sched_getaffinity(0))[-2:]
    scratch = cache / "scratch"
    versions = {name: versions_of(python, environments.DECIDE_SPEED) for name, python in pythons.items()}
    entered = contest.variants(rounds, with_one=not quick)
    with contextlib.ExitStack() as stack:
        contenders = open_contenders(stack, stores.WORKERS, pythons, cores, scratch)
        field = Field(contenders, made)
        clock.say("the tiles in each form")
        field.make_stores()
        clock.say("checks")
        field.check(entered, {name: f"{found}{source if name == 'rnagan' else ''}" for name, found in versions.items()})
        wait_for_quiet(cores)
        clock.say("rounds")
        load.append(load_average())
        for request in field.requests.values():
            stores.forget(Path(request["store"]))
        outcome = race([entry for entry in entered if field.may_run(entry)], field.ask)
    extra: dict[str, Any] = {}
    if not quick:
        clock.say("starts and memory")
        load.append(load_average())
        extra = attempt(start.measure_start, cores, made, scratch)
    clock.say("done")
    ours = ratios(outcome, contest.OURS, contest.LIMIT, (0, 2))
    print(
        json.dumps(
            {name: ours[name] for name in contest.HEADLINES}
            | dict.fromkeys(START_FIGURES)
            | extra
            | {
                "ratios": ours,
                "ratios_with_processes": ratios(outcome, contest.OURS_IN_PROCESSES, contest.LIMIT, (0, 2)),
                "ratios_with_one_worker": ratios(outcome, contest.OURS_ALONE, contest.LIMIT_ALONE, (0, 1)),
                "best": {name: best_of(outcome, name, (0, 2)) for name in contest.PEERS},
                "tiles_per_second": {name: round(outcome.median(name), 1) for name in outcome.rates},
                "tiles_per_second_by_round": {
                    name: [round(rate, 1) for rate in rates] for name, rates in outcome.rates.items()
                },
                "others_share_by_round": {  # of the cores: where it isn't near 0, run it again
                    name: [round(answer["others"], 2) for answer in answers]
                    for name, answers in outcome.answers.items()
                },
                "megabytes": field.megabytes(),
                "checked": field.checked,
                "failures": field.failures | outcome.failures,
                "texture": made.texture,
                "tiles": tiles.SLIDES * tiles.TILES_A_SLIDE,
                "environments_missing": missing,
                "cores": len(os.sched_getaffinity(0)),
                "load_average": [*load, load_average()],
                "rnagan_source": source,
                "rnagan_source_changed_during_run": source_digest() != source,  # then ours is a mix: run it again
                "versions": versions,
                "seconds": round(clock.seconds()),
            }
        )
    )


if __name__ == "__main__":
    main()
