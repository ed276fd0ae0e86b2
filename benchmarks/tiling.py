"""Slides to tiles: ours against the published method, other toolkits, and what the JPEG codec alone would take.

All on the same slides and tiles, each on one core and with its imports done, in rounds that alternate; ratios are
medians of ratios within a round. The last line printed is one JSON object.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shared.contenders import Contender, Contenders
from shared.environments import environments_only, find_environments, versions_of
from shared.options import benchmark, takes_data
from shared.race import Answer, Entry, Outcome, race
from shared.report import Report, rounded
from tiling_parts import environments, slides
from tiling_parts.scaling import measure_scaling

WORKERS = Path(__file__).parent / "tiling_parts" / "workers"
TILE_PX, MPP = 256, 0.5
WARM_UP_TILES = 16
PUBLISHED_TILES = 4000  # of a slide at most, as the article says
PUBLISHED_TILES_40X = 200  # a whole slide would take minutes
EVERY_TILE = 1_000_000
PEERS = {
    "hs2p/openslide": ("hs2p", {"backend": "openslide"}),
    "hs2p/tifffile": ("hs2p", {"backend": "tifffile"}),
    "hs2p/vips": ("hs2p", {"backend": "vips"}),
    "hs2p/tifffile, 4:4:4": ("hs2p", {"backend": "tifffile", "same_jpeg": True}),
    "hs2p/vips, 4:4:4": ("hs2p", {"backend": "vips", "same_jpeg": True}),
    "tiatoolbox/openslide": ("tiatoolbox", {"reader": "OpenSlideWSIReader"}),
    "tiatoolbox/tiff": ("tiatoolbox", {"reader": "TIFFWSIReader"}),
    "histolab": ("histolab", {}),
}
ENCODED = "ours, all encoded"  # as all others do; by default a tile that is one of the slide's own is stored as it is
SLOW = ("hs2p/openslide", "tiatoolbox/openslide", "histolab")
SCALING_ROUNDS = 4


OURS = Entry("ours", "rnagan", {}, 1)


def entries(rounds: int, slow_rounds: int, published_rounds: int, published_tiles: int) -> list[Entry]:
    """All in all rounds but those that are never the best peer, which take part in the first few."""
    return [
        Entry("ours", "rnagan", {}, rounds),
        Entry(ENCODED, "rnagan", {"keep_jpeg": False}, rounds),
        Entry("codec", "codec", {}, rounds),
        *(
            Entry(name, worker, option, slow_rounds if name in SLOW else rounds)
            for name, (worker, option) in PEERS.items()
        ),
        Entry("published", "published", {"max_tiles": published_tiles}, published_rounds),
    ]


def describe(slide: Path, mpp: float, contenders: Contenders) -> dict[str, Any]:
    """The request of a slide: what it is, and the tiles that ours keeps of it."""
    span_px = TILE_PX * round(MPP / mpp)
    request = {"slide": str(slide.resolve()), "mpp": mpp, "tile_px": TILE_PX, "span_px": span_px}
    answer = contenders.of(OURS).ask(request | {"option": {}, "tell": True})
    return request | {"tiles": answer["corners"], "counts": answer["counts"]}


def compete(contenders: Contenders, entries: list[Entry], request: dict[str, Any]) -> Outcome:
    """All rounds on one slide. A first run of each on a few tiles, where it takes a list of them, isn't counted."""

    def ask(entry: Entry) -> Answer:
        return contenders.of(entry).ask(request | {"option": entry.option})

    def warm_up(entry: Entry) -> None:
        if entry.worker not in ("rnagan", "published"):  # these two take no list; they are warm anyhow
            tiles = request["tiles"] if entry.worker == "codec" else request["tiles"][:WARM_UP_TILES]
            contenders.of(entry).ask(request | {"option": entry.option, "tiles": tiles})

    return race(entries, ask, warm_up)


def summarise(outcome: Outcome, request: dict[str, Any]) -> dict[str, Any]:
    """What is printed of one slide."""
    peers = [name for name in PEERS if name in outcome.rates]
    best = max(peers, key=outcome.median, default=None)
    alike = [name for name in peers if not (name.startswith("hs2p") and "same_jpeg" not in PEERS[name][1])]
    best_alike = max(alike, key=outcome.median, default=None)
    answers = {name: each[-1] for name, each in outcome.answers.items()}
    codec = answers.get("codec", {})
    return {
        "tiles": len(request["tiles"]),
        "left_out": request["counts"],
        "core_share_by_round": {
            name: [round(answer["core_share"], 2) for answer in each] for name, each in outcome.answers.items()
        },
        "tiles_of": {name: answer["tiles"] for name, answer in answers.items()},
        "published_tiles_read": answers.get("published", {}).get("read"),
        "codec": {key: codec[key] for key in codec if key not in ("tiles", "seconds", "core_share", "others")},
        "best_peer": best,
        "ratio_best_peer": rounded(outcome.ratio("ours", best)) if best else None,
        "best_peer_same_jpeg": best_alike,
        "ratio_best_peer_same_jpeg": rounded(outcome.ratio("ours", best_alike)) if best_alike else None,
        "ratio_codec_limit": rounded(outcome.ratio("ours", "codec")),
        "ratio_published": rounded(outcome.ratio("ours", "published")),
        "ratio_published_by_tiles_read": by_read(outcome),
        "ratio_published_by_slide": by_slide(outcome),
        "all_encoded": {
            "ratio_best_peer": rounded(outcome.ratio(ENCODED, best)) if best else None,
            "ratio_best_peer_same_jpeg": rounded(outcome.ratio(ENCODED, best_alike)) if best_alike else None,
            "ratio_codec_limit": rounded(outcome.ratio(ENCODED, "codec")),
            "ratio_published": rounded(outcome.ratio(ENCODED, "published")),
        },
    }


def by_read(outcome: Outcome) -> float | None:
    """The ratio to the published method if it is credited with every tile it read, kept or not."""
    ratio, published = outcome.ratio("ours", "published"), outcome.answers.get("published")
    return rounded(ratio * published[-1]["tiles"] / published[-1]["read"]) if ratio and published else None


def by_slide(outcome: Outcome) -> float | None:
    """How many times as long the published method takes for a slide, whatever each keeps; None if it stopped early."""
    ratio, published = outcome.ratio("ours", "published"), outcome.answers.get("published")
    if not ratio or not published or published[-1]["stopped"]:
        return None
    return rounded(ratio * published[-1]["tiles"] / outcome.answers["ours"][-1]["tiles"])


def measure_memory(core: int, slide: Path, scratch: Path) -> dict[str, Any]:
    """Memory of one process above its imports, on a huge slide, as it is and without a limit of tiles."""
    found = {}
    for name, option in {"default": {}, "every_tile": {"max_tiles": EVERY_TILE}}.items():
        with Contender(WORKERS / "run_rnagan_memory.py", sys.executable, [core], scratch / f"memory-{name}") as ours:
            answer = ours.ask({"slide": str(slide.resolve()), "option": option})
            found[name] = {key: round(value, 3) for key, value in answer.items()}
    return {"peak_memory_gb": max(run["peak_memory_gb"] for run in found.values()), "memory": found}


@benchmark(
    takes_data,
    environments_only,
    rounds=(5, 1, "Rounds on the synthetic slides."),
    width=(12_032, 1536, "Of the synthetic slides, px at 0.5 µm."),
    height=(9_088, 1024, ""),
    huge=(100, 3, "Width of a huge slide, thousands of px."),
    scaling_rounds=(4, 1, ""),
    few=(2, 0, "Slides of a short build on two processes."),
    many=(10, 2, "Slides of a long one."),
)
def main(run: SimpleNamespace) -> None:
    others, missing = find_environments(environments.REQUIREMENTS, run)
    pythons = {"rnagan": Path(sys.executable)} | others
    report, rounds = Report("tiles"), run.rounds
    report.begin("slides")
    run.cache.mkdir(parents=True, exist_ok=True)
    made = slides.make(run.cache, run.data, run.width, run.height)
    cores, scratch = sorted(os.sched_getaffinity(0))[-2:], run.cache / "scratch"
    plans = {"synthetic": (made.synthetic, MPP, entries(rounds, 2, 2, PUBLISHED_TILES))}
    if made.real and not run.quick:
        plans["real"] = made.real, 0.499, entries(2 * rounds - 1, rounds, 3, PUBLISHED_TILES)
    plans["synthetic_40x"] = made.synthetic_40x, MPP / 2, entries(min(rounds, 3), 1, 1, PUBLISHED_TILES_40X)
    found, requests = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
    with Contenders(WORKERS, pythons, cores[-1:], scratch, run.quick) as contenders:
        workers = {entry.worker for entry in contenders.start(plans["synthetic"][-1], apart=False)}

        def on_slide(name: str, path: Path, mpp: float, entered: list[Entry]) -> dict[str, Any]:
            requests[name] = request = describe(path, mpp, contenders)
            present = [entry for entry in entered if entry.worker in workers]
            return {name: summarise(report.add(compete(contenders, present, request), name), request)}

        for name, plan in plans.items():
            report.begin(f"{name}: rounds")
            found |= report.attempt(on_slide, name, *plan)
    scaling: dict[str, Any] = {}
    if len(cores) > 1 and "synthetic" in requests:
        report.begin("two processes")
        given = made.synthetic, requests["synthetic"], others.get("codec"), scratch
        sizes = run.scaling_rounds, run.few, run.many
        scaling = report.attempt(measure_scaling, cores, *given, *sizes)
    report.begin("memory")
    memory = report.attempt(measure_memory, cores[-1], slides.make_huge(run.cache, run.data, run.huge), scratch)
    headline = dict.fromkeys(("scaling_2_processes", "peak_memory_gb"))
    for name in plans:
        for what in ("ratio_published", "ratio_codec_limit", "ratio_best_peer", "best_peer"):
            key = what if name == "synthetic" else f"{what}_{name.removeprefix('synthetic_')}"
            headline[key] = found.get(name, {}).get(what)
    all_encoded = found.get("synthetic", {}).get("all_encoded", {})
    report.end(
        headline
        | {f"{name}_all_encoded": ratio for name, ratio in all_encoded.items()}
        | scaling
        | memory
        | {
            "texture": made.texture,
            "slides": found,
            "environments_missing": missing,
            "versions": {name: versions_of(python, environments.DECIDE_SPEED) for name, python in pythons.items()},
        }
    )


if __name__ == "__main__":
    main()
