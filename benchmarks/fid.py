"""Features for a FID: ours from tile shards against torch-fidelity and pytorch-fid from the same JPEGs in a folder, and
against our extractor alone, its input at hand; what a second evaluation takes, a second process, and memory.

All have one Inception-v3, batches of 32, as many threads as there are cores, and their network in memory before; each
decodes and resizes by its own code, with its command's data loading or with no workers, whichever is faster. FID's
official weights can't be fetched everywhere, so all are given the same file of random ones, on whose values speed
doesn't depend. Contenders run in rounds that alternate, each in a process of its own on the same cores; ratios are
medians of ratios within a round. The last line printed is one JSON object.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import click
from fid_parts import images
from shared.contenders import Contender
from shared.environments import python_of, versions_of
from shared.others import foreign_seconds, wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Clock, attempt, end_with_environments, load_average, rounded, source_digest

WORKERS = Path(__file__).parent / "fid_parts" / "workers"
INCEPTION, LITE0 = "inception_v3", "efficientnet_lite0"
BATCH = 32
LITE0_TIMES = 4  # as many images for the small network
FEW_ROUNDS = 2  # for the peers' slower way, and for evaluations
PROCESS_BATCHES = 4
MEMORY_IMAGES = {INCEPTION: 64, LITE0: 256}  # and four times as many
MEMORY_TIMES = 4
PEERS = ("torch_fidelity", "pytorch_fid")
OURS, ALONE = "ours", ", no workers"
DECIDE_SPEED = ("torch", "torchvision", "torch_fidelity", "pytorch-fid", "numpy", "pillow", "simplejpeg", "rnagan")


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data", show_default=True, help="Real data.")
@click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--batches", default=3, show_default=True, help="Batches of 32 images of each contender a round.")
@click.option("--quick", is_flag=True, help="The race alone.")
@click.option("--environments-only", is_flag=True, help="Only make the environment of pytorch-fid.")
def main(data: Path, cache: Path, rounds: int, batches: int, quick: bool, environments_only: bool) -> None:
    clock, missing = Clock(), {}
    pythons: dict[str, Path | str] = dict.fromkeys(("rnagan", "torch_fidelity"), sys.executable)
    try:
        peer = python_of("fid", ["pytorch-fid==0.3.*"], cache.resolve() / "venvs", on_ours=True)
        pythons["pytorch_fid"] = peer.absolute()
    except ValueError as error:
        missing["fid"] = str(error)
    if environments_only:
        end_with_environments(missing)
    source, load = source_digest(), [load_average()]
    cores, scratch, count = sorted(os.sched_getaffinity(0)), cache / "scratch" / "fid", batches * BATCH
    clock.say("images and weights")
    shards, texture = images.make_shards(cache, data)
    given = {
        "shards": str(shards),
        "folder": str(images.make_folder(shards, count)),
        "weights": str(images.make_weights(cache)),
        "batch_size": BATCH,
        "images": count,
        "extractor": INCEPTION,
    }
    wait_for_quiet(cores)
    clock.say("rounds")
    outcome, apart = _race(pythons, given, cores, scratch, rounds)
    extra: dict[str, Any] = {}
    if not quick:
        clock.say("a second evaluation")
        extra |= attempt(_second_evaluation, given, cores, scratch, min(rounds, FEW_ROUNDS))
        clock.say("processes")
        extra |= attempt(_scaling, given, cores, scratch, rounds)
        clock.say("memory")
        extra |= attempt(_memory_growth, given, cores, scratch)
    clock.say("done")
    print(
        json.dumps(
            {
                "ratio_bare_forward": rounded(outcome.ratio("ours", "bare")),
                "ratio_bare_forward_efficientnet_lite0": rounded(outcome.ratio("ours_lite0", "bare_lite0")),
                **{f"ratio_{peer}": rounded(_against(outcome, peer)) for peer in PEERS},
                **dict.fromkeys(("second_over_first", "scaling_2_processes", "memory_growth")),
                **extra,
                "images_per_second": {name: round(outcome.median(name), 2) for name in outcome.rates},
                "images_per_second_by_round": {
                    name: [round(rate, 2) for rate in rates] for name, rates in outcome.rates.items()
                },
                "others_share_by_round": {  # of the cores: where it isn't near 0, run it again
                    name: [round(answer["others"], 2) for answer in answers]
                    for name, answers in outcome.answers.items()
                },
                "features_apart": apart,  # from ours, in distances between tiles
                "failures": outcome.failures,
                "texture": texture,
                "images": count,
                "environments_missing": missing,
                "cores": len(cores),
                "versions": versions_of(pythons.get("pytorch_fid", sys.executable), DECIDE_SPEED),
                "load_average": [*load, load_average()],
                "rnagan_source_changed_during_run": source_digest() != source,
                "seconds": round(clock.seconds()),
            }
        )
    )


def _race(
    pythons: dict[str, Path | str], given: dict[str, Any], cores: list[int], scratch: Path, rounds: int
) -> tuple[Outcome, dict[str, float]]:
    """Rates of all, and how far the peers' features of the first batch are from ours."""
    kept = {name: scratch.resolve() / f"{name}.npy" for name in (OURS, *PEERS)}
    entries = [entry for entry in _entries(given, rounds) if entry.worker in pythons]
    with contextlib.ExitStack() as stack:
        contenders = {
            entry.name: stack.enter_context(
                Contender(WORKERS / f"run_{entry.worker}.py", pythons[entry.worker], cores, scratch / entry.name)
            )
            for entry in entries
        }

        def warm_up(entry: Entry) -> Answer:
            keep = {"keep": str(kept[entry.name])} if entry.name in kept else {}
            return contenders[entry.name].ask(given | entry.option | keep)

        def ask(entry: Entry) -> Answer:
            """Its rate, and the share of the cores that others had meanwhile."""
            contender = contenders[entry.name]
            foreign, began = foreign_seconds(cores, contender.pid), time.perf_counter()
            answer = contender.ask(given | entry.option)
            foreign = foreign_seconds(cores, contender.pid) - foreign
            return answer | {"others": foreign / (time.perf_counter() - began) / len(cores)}

        outcome = race(entries, ask, warm_up)
    ran = {name: path for name, path in kept.items() if name in outcome.rates}
    return outcome, images.disagreement(ran, OURS) if OURS in ran else {}


def _entries(given: dict[str, Any], rounds: int) -> list[Entry]:
    small = {"extractor": LITE0, "images": LITE0_TIMES * given["images"]}
    return [
        Entry(OURS, "rnagan", {"do": "extract"}, rounds),
        Entry("bare", "rnagan", {"do": "bare"}, rounds),
        Entry("ours_lite0", "rnagan", small | {"do": "extract"}, rounds),
        Entry("bare_lite0", "rnagan", small | {"do": "bare"}, rounds),
        *(Entry(name, name, {"workers": True}, rounds) for name in PEERS),
        *(Entry(name + ALONE, name, {"workers": False}, min(rounds, FEW_ROUNDS)) for name in PEERS),
    ]


def _against(outcome: Outcome, peer: str) -> float | None:
    """Ours over the faster way of a peer."""
    return min((ratio for way in (peer, peer + ALONE) if (ratio := outcome.ratio(OURS, way))), default=None)


def _second_evaluation(given: dict[str, Any], cores: list[int], scratch: Path, rounds: int) -> dict[str, Any]:
    """Seconds of the features of a second model's evaluation over those of the first's, which made the real ones."""
    with Contender(WORKERS / "run_rnagan.py", sys.executable, cores, scratch / "evaluations") as contender:
        contender.ask(given | {"do": "extract", "images": BATCH})
        answers = [contender.ask(given | {"do": "evaluations"}) for _ in range(rounds)]
    both = [(answer["first"], answer["second"], *answer["generating"]) for answer in answers]
    return {
        "second_over_first": rounded(statistics.median(second / first for first, second, *_ in both)),
        "second_over_first_with_generating": rounded(statistics.median((b + q) / (a + p) for a, b, p, q in both)),
        "evaluation_seconds": [[round(value, 2) for value in each] for each in both],
    }


def _scaling(given: dict[str, Any], cores: list[int], scratch: Path, rounds: int) -> dict[str, Any]:
    """A process of one thread on each core over one process of as many threads as there are cores."""
    with Contender(WORKERS / "run_processes.py", sys.executable, cores, scratch / "processes") as contender:

        def ask(entry: Entry) -> Answer:
            return contender.ask(given | {"images": PROCESS_BATCHES * BATCH} | entry.option)

        entries = [Entry(f"{n}_processes", "processes", {"processes": n}, rounds) for n in (1, 2)]
        outcome = race(entries, ask)
    return {
        "scaling_2_processes": rounded(outcome.ratio("2_processes", "1_processes")),
        "images_per_second_of_processes": {name: round(outcome.median(name), 2) for name in outcome.rates},
        "failures_of_processes": outcome.failures,
    }


def _memory_growth(given: dict[str, Any], cores: list[int], scratch: Path) -> dict[str, Any]:
    """MiB that four times the images take more, beyond their features: the more of two networks."""
    peaks: dict[str, list[float]] = {}
    for name, count in MEMORY_IMAGES.items():
        for times in (1, MEMORY_TIMES):
            with Contender(WORKERS / "run_rnagan.py", sys.executable, cores, scratch / "memory") as contender:
                request = {"do": "memory", "extractor": name, "images": times * count, "warm_up_images": count}
                peaks.setdefault(name, []).append(round(contender.ask(given | request)["mib"], 1))
    return {"memory_growth": max(round(more - less, 1) for less, more in peaks.values()), "memory_mib": peaks}


if __name__ == "__main__":
    main()
