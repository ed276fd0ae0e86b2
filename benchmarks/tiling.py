"""Slides to tiles: ours against the published method, other toolkits, and what the JPEG codec alone would take.

All on the same slides and tiles, each on one core and with its imports done, in rounds that alternate; ratios are
medians of ratios within a round. The last line printed is one JSON object.
"""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
from shared.contenders import Contender, open_contenders
from shared.environments import python_of, versions_of
from shared.race import Entry, Outcome
from shared.report import Clock, attempt, end_with_environments, load_average, rounded, source_digest
from tiling_parts import environments, slides
from tiling_parts.race import race_on_slide
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


def describe(slide: Path, mpp: float, ours: Contender) -> dict[str, Any]:
    """The request of a slide: what it is, and the tiles that ours keeps of it."""
    span_px = TILE_PX * round(MPP / mpp)
    request = {"slide": str(slide.resolve()), "mpp": mpp, "tile_px": TILE_PX, "span_px": span_px}
    answer = ours.ask(request | {"option": {}, "tell": True})
    return request | {"tiles": answer["corners"], "counts": answer["counts"]}


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
        "tiles_per_second": {name: round(outcome.median(name), 1) for name in outcome.rates},
        "tiles_per_second_by_round": {name: [round(rate, 1) for rate in r] for name, r in outcome.rates.items()},
        "core_share_by_round": {
            name: [round(answer["core_share"], 2) for answer in each] for name, each in outcome.answers.items()
        },
        "tiles_of": {name: answer["tiles"] for name, answer in answers.items()},
        "published_tiles_read": answers.get("published", {}).get("read"),
        "codec": {key: codec[key] for key in codec if key not in ("tiles", "seconds", "core_share")},
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
        "failures": outcome.failures,
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


def measure_memory(core: int, slide: Path, scratch: Path, every_tile: bool) -> dict[str, Any]:
    """Memory of one process above its imports, on a huge slide; with `every_tile` also without a limit of tiles."""
    options: dict[str, dict[str, Any]] = {"default": {}}
    if every_tile:
        options["every_tile"] = {"max_tiles": EVERY_TILE}
    found = {}
    for name, option in options.items():
        with Contender(WORKERS / "run_rnagan_memory.py", sys.executable, [core], scratch / f"memory-{name}") as ours:
            answer = ours.ask({"slide": str(slide.resolve()), "option": option})
            found[name] = {key: round(value, 3) for key, value in answer.items()}
    return {"peak_memory_gb": max(run["peak_memory_gb"] for run in found.values()), "memory": found}


@click.command(help=__doc__)
@click.option("--data", type=click.Path(path_type=Path), default="../shared/data", show_default=True, help="Real data.")
@click.option("--cache", type=click.Path(path_type=Path), default="runs/bench", show_default=True)
@click.option("--rounds", default=5, show_default=True, help="Rounds on the synthetic slides.")
@click.option("--quick", is_flag=True, help="Leave out the slide at 0.25 µm, several processes and memory.")
@click.option("--environments-only", is_flag=True, help="Only make the environments of the others.")
def main(data: Path, cache: Path, rounds: int, quick: bool, environments_only: bool) -> None:
    clock = Clock()
    cache.mkdir(parents=True, exist_ok=True)
    pythons: dict[str, Path | str] = {"rnagan": sys.executable}
    missing = {}
    for name, requirements in environments.REQUIREMENTS.items():
        try:
            pythons[name] = python_of(name, requirements, cache.resolve() / "venvs").absolute()
        except ValueError as error:
            missing[name] = str(error)
    if environments_only:
        end_with_environments(missing)
    source, load = source_digest(), [load_average()]
    clock.say("slides")
    made = slides.make(cache, data)
    cores = sorted(os.sched_getaffinity(0))[-2:]
    scratch = cache / "scratch"
    report: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        contenders = open_contenders(stack, WORKERS, pythons, cores[-1:], scratch)
        plans = [("synthetic", made.synthetic, MPP, entries(rounds, 2, 2, PUBLISHED_TILES))]
        if made.real:
            plans.append(("real", made.real, 0.499, entries(2 * rounds - 1, rounds, 3, PUBLISHED_TILES)))
        if not quick:
            plans.append(("synthetic_40x", made.synthetic_40x, MPP / 2, entries(3, 1, 1, PUBLISHED_TILES_40X)))
        for name, path, mpp, entered in plans:
            clock.say(f"{name}: rounds")
            request = describe(path, mpp, contenders["rnagan"])
            present = [entry for entry in entered if entry.worker in pythons]
            load.append(load_average())
            report[name] = summarise(race_on_slide(present, contenders, request, WARM_UP_TILES), request)
            if name == "synthetic":
                synthetic = request
    extra: dict[str, Any] = {}
    if not quick:
        if len(cores) > 1:
            clock.say("two processes")
            codec = pythons.get("codec")
            extra |= attempt(measure_scaling, cores, made.synthetic, synthetic, codec, scratch, SCALING_ROUNDS)
        clock.say("memory")
        extra |= attempt(measure_memory, cores[-1], slides.make_huge(cache, data), scratch, every_tile=True)
    nothing: dict[str, Any] = {}
    extra = dict.fromkeys(("scaling_2_processes", "peak_memory_gb")) | extra
    headline = {
        "ratio_published": report["synthetic"]["ratio_published"],
        "ratio_published_real": report.get("real", nothing).get("ratio_published"),
        "ratio_codec_limit": report["synthetic"]["ratio_codec_limit"],
        "ratio_best_peer": report["synthetic"]["ratio_best_peer"],
        "best_peer": report["synthetic"]["best_peer"],
    } | {f"{name}_all_encoded": ratio for name, ratio in report["synthetic"]["all_encoded"].items()}
    for name in ("real", "synthetic_40x"):
        for what in ("ratio_codec_limit", "ratio_best_peer", "best_peer"):
            headline[f"{what}_{name.removeprefix('synthetic_')}"] = report.get(name, nothing).get(what)
    clock.say("done")
    print(
        json.dumps(
            headline
            | extra
            | {
                "texture": made.texture,
                "slides": report,
                "environments_missing": missing,
                "cores": len(os.sched_getaffinity(0)),
                "load_average": [*load, load_average()],  # above 1 or 2: others were at work
                "rnagan_source": source,
                "rnagan_source_changed_during_run": source_digest() != source,  # then ours is a mix: run it again
                "versions": {name: versions_of(python, environments.DECIDE_SPEED) for name, python in pythons.items()},
                "seconds": round(clock.seconds()),
            }
        )
    )


if __name__ == "__main__":
    main()
