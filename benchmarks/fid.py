"""Features for a FID: ours from tile shards against torch-fidelity and pytorch-fid from the same JPEGs in a folder, and
against our extractor alone, its input at hand; what a second evaluation takes, a second process, and memory.

All have one Inception-v3, batches of 32, as many threads as there are cores, and their network in memory before; each
decodes and resizes by its own code, with its command's data loading or with no workers, whichever is faster. FID's
official weights can't be fetched everywhere, so all are given the same file of random ones, on whose values speed
doesn't depend. Contenders run in rounds that alternate, each in a process of its own on the same cores; ratios are
medians of ratios within a round. The last line printed is one JSON object.
"""

import statistics
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fid_parts import images
from shared.contenders import Contenders
from shared.environments import environments_only, find_environments, versions_of
from shared.options import benchmark, takes_data
from shared.others import own_cores, wait_for_quiet
from shared.race import Answer, Entry, Outcome, race
from shared.report import Report, rounded

WORKERS = Path(__file__).parent / "fid_parts" / "workers"
INCEPTION, LITE0 = "inception_v3", "efficientnet_lite0"
LITE0_TIMES = 4  # as many images for the small network
FEW_ROUNDS = 2  # for the peers' slower way, and for evaluations
PROCESS_BATCHES = 4
MEMORY_BATCHES = {INCEPTION: 2, LITE0: 8}  # and four times as many
MEMORY_TIMES = 4
PEERS = ("torch_fidelity", "pytorch_fid")
OURS, ALONE = "ours", ", no workers"
DECIDE_SPEED = ("torch", "torchvision", "torch_fidelity", "pytorch-fid", "numpy", "pillow", "simplejpeg", "rnagan")


@benchmark(
    takes_data,
    environments_only,
    rounds=(5, 1, ""),
    batches=(3, 1, "Batches of each contender a round."),
    batch_size=(32, 2, "Ours has 32, or all images if they are fewer."),
    across=(16, 4, "Tiles of a slide's side."),
)
def main(run: SimpleNamespace) -> None:
    others, missing = find_environments({"pytorch_fid": ["pytorch-fid==0.3.*"]}, run, on_ours=True)
    report, cores, scratch = Report("images"), own_cores(run.quick), run.cache / "scratch" / "fid"
    own = ("rnagan", "processes") if run.quick else ("rnagan", "processes", "torch_fidelity")
    pythons = dict.fromkeys(own, Path(sys.executable)) | others
    report.begin("images and weights")
    shards, texture = images.make_shards(run.cache, run.data, run.across)
    count = run.batches * run.batch_size
    given = {
        "shards": str(shards),
        "folder": str(images.make_folder(shards, count)),
        "weights": str(images.make_weights(run.cache)),
        "batch_size": run.batch_size,
        "images": count,
        "extractor": INCEPTION,
    }
    with Contenders(WORKERS, pythons, cores, scratch, run.quick) as contenders:
        wait_for_quiet(cores, 0 if run.quick else 60)
        report.begin("rounds")
        outcome, apart = _race(contenders, _entries(given, run.rounds), scratch.resolve())
        report.add(outcome, "rounds")
        report.begin("a second evaluation")
        second = report.attempt(_second_evaluation, contenders, given, min(run.rounds, FEW_ROUNDS))
        report.begin("processes")
        scaling = report.add(race(contenders.start(_in_processes(given, run.rounds)), contenders.ask), "processes")
        report.begin("memory")
        batches = dict.fromkeys(MEMORY_BATCHES, 1) if run.quick else MEMORY_BATCHES
        memory = report.attempt(_memory_growth, contenders, given, batches)
    report.end(
        {
            "ratio_bare_forward": rounded(outcome.ratio("ours", "bare")),
            "ratio_bare_forward_efficientnet_lite0": rounded(outcome.ratio("ours_lite0", "bare_lite0")),
            **{f"ratio_{peer}": rounded(_against(outcome, peer)) for peer in PEERS},
            **dict.fromkeys(("second_over_first", "memory_growth")),
            **second,
            "scaling_2_processes": rounded(scaling.ratio("2_processes", "1_processes")),
            **memory,
            "features_apart": apart,  # from ours, in distances between tiles
            "texture": texture,
            "images": count,
            "environments_missing": missing,
            "versions": versions_of(pythons.get("pytorch_fid", sys.executable), DECIDE_SPEED),
        }
    )


def _race(contenders: Contenders, entries: list[Entry], scratch: Path) -> tuple[Outcome, dict[str, float]]:
    """Rates of all, and how far the peers' features of the first batch are from ours."""
    kept = {name: scratch / f"{name}.npy" for name in (OURS, *PEERS)}

    def warm_up(entry: Entry) -> Answer:
        return contenders.ask(entry, **({"keep": str(kept[entry.name])} if entry.name in kept else {}))

    outcome = race(contenders.start(entries), contenders.ask, warm_up)
    ran = {name: path for name, path in kept.items() if name in outcome.rates}
    return outcome, images.disagreement(ran, OURS) if OURS in ran else {}


def _entries(given: dict[str, Any], rounds: int) -> list[Entry]:
    small = {"extractor": LITE0, "images": LITE0_TIMES * given["images"]}
    return [
        Entry(OURS, "rnagan", given | {"do": "extract"}, rounds),
        Entry("bare", "rnagan", given | {"do": "bare"}, rounds),
        Entry("ours_lite0", "rnagan", given | small | {"do": "extract"}, rounds),
        Entry("bare_lite0", "rnagan", given | small | {"do": "bare"}, rounds),
        *(Entry(name, name, given | {"workers": True}, rounds) for name in PEERS),
        *(Entry(name + ALONE, name, given | {"workers": False}, min(rounds, FEW_ROUNDS)) for name in PEERS),
    ]


def _in_processes(given: dict[str, Any], rounds: int) -> list[Entry]:
    """A process of one thread on each core, and one process of as many threads as there are cores."""
    request = given | {"images": PROCESS_BATCHES * given["batch_size"]}
    return [Entry(f"{n}_processes", "processes", request | {"processes": n}, rounds) for n in (1, 2)]


def _against(outcome: Outcome, peer: str) -> float | None:
    """Ours over the faster way of a peer."""
    return min((ratio for way in (peer, peer + ALONE) if (ratio := outcome.ratio(OURS, way))), default=None)


def _second_evaluation(contenders: Contenders, given: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds of the features of a second model's evaluation over those of the first's, which made the real ones."""
    (entry,) = contenders.start([Entry("evaluations", "rnagan", given | {"do": "evaluations"}, rounds)])
    contenders.ask(entry, do="extract", images=given["batch_size"])
    answers = [contenders.ask(entry) for _ in range(rounds)]
    both = [(answer["first"], answer["second"], *answer["generating"]) for answer in answers]
    return {
        "second_over_first": rounded(statistics.median(second / first for first, second, *_ in both)),
        "second_over_first_with_generating": rounded(statistics.median((b + q) / (a + p) for a, b, p, q in both)),
        "evaluation_seconds": [[round(value, 2) for value in each] for each in both],
    }


def _memory_growth(contenders: Contenders, given: dict[str, Any], batches_of: dict[str, int]) -> dict[str, Any]:
    """MiB that four times the images take more, beyond their features: the more of two networks."""
    peaks: dict[str, list[float]] = {}
    for name, batches in batches_of.items():
        count = batches * given["batch_size"]
        for times in (1, MEMORY_TIMES):
            option = given | {"do": "memory", "extractor": name, "images": times * count, "warm_up_images": count}
            (entry,) = contenders.start([Entry("memory", "rnagan", option, 1)])
            peaks.setdefault(name, []).append(round(contenders.ask(entry)["mib"], 1))
    return {"memory_growth": max(round(more - less, 1) for less, more in peaks.values()), "memory_mib": peaks}


if __name__ == "__main__":
    main()
