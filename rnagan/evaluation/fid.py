"""FID-60k and its kin of a trained model: tiles generated for the profiles of a split against the split's real tiles.

Published figures can't be compared where the count, the extractor, the resizing or the choice of tiles differ, so all
of that is kept with a score (article: 60,000 tiles, 87.85 for the GAN and 83.89 for RNA-GAN).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray

import rnagan
from rnagan.data.manifest import VERSION as SHARD_VERSION
from rnagan.evaluation.feature_map import feature_map
from rnagan.evaluation.feature_store import Features, Wanted, cached_features
from rnagan.evaluation.features import FeatureExtractor, comparable, took_part
from rnagan.evaluation.real_tiles import NumberedTiles, row_names
from rnagan.evaluation.test_set import EvaluationInputs, EvaluationSet, noise_names, open_evaluation_set
from rnagan.evaluation.tile_scores import (
    CLASS_SCORE_PARTS,
    TileFeatures,
    class_score,
    few_tiles,
    floor,
    frechet_with_interval,
    kernel_distance,
    precision_recall,
    score_name,
)
from rnagan.io.claim import stating
from rnagan.io.files import sha256_of, write_json
from rnagan.models.sampling import number_tiles
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.reports.labels import network_label
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.runtime.distributed import Processes
from rnagan.runtime.memory import freed_memory_given_back, keep_freed_memory
from rnagan.tracking.evaluations import record_evaluation

RESULT, PICTURE = "fid.json", "features.png"
ALL, NO_PROFILE = "all", "no profile"

Sides = tuple[TileFeatures, TileFeatures]  # generated and real tiles
Found = tuple[Features | None, str]  # of `cached_features`


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many tiles of each slide (rows,) are taken: real ones, and generated ones from its profile."""

    real: NDArray[np.int64]
    generated: NDArray[np.int64]


def make_plan(stored: NDArray[np.int64], count: int) -> Plan:
    """`count` generated tiles in the proportions of the real ones (slides,), and as many real ones, or all there
    are."""
    generated = proportional(stored, count)
    return Plan(stored if stored.sum() <= count else generated, generated)


def proportional(weights: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Whole numbers that sum up to `count`, as near to the proportions of `weights` as can be (largest remainders)."""
    exact = weights * count / weights.sum()
    parts = np.floor(exact).astype(np.int64)
    order = np.argsort(parts - exact, kind="stable")
    parts[order[: count - parts.sum()]] += 1
    return parts


def compute_fid(
    inputs: EvaluationInputs,
    out: Path,
    extractor: FeatureExtractor,
    cache: Path,
    here: Processes,
    *,
    split: str = "test",
    count: int = 60_000,
    seed: int = 0,
    options: SamplingOptions = NO_OPTIONS,
    map_tiles: int = 2000,
    device: str | torch.device = AUTO,
) -> dict[str, Any]:
    """Score a model; the main process writes `out/features.png`, then `out/fid.json`, and returns it (others: {}).

    Every score says whether the extractor's network was the critic's (`in_training`); `few_tiles` is a sentence where
    tiles are too few for a Fréchet distance, else ''.
    `cache`: folder of the real tiles' features, for every later evaluation on the same tiles. Those of generated tiles
    are kept in `out/generated`. `map_tiles`: tiles of either kind in the picture, a UMAP of their features; 0 for none.
    `options`: of the generator, in place of its own. `device`: where the model generates, the extractor computes, and
    scores do; as `choose_device` takes it.
    """
    held_out = open_evaluation_set(inputs, split, device=device, options=options)
    return fid_of_set(held_out, {out: extractor}, cache, here, count=count, seed=seed, map_tiles=map_tiles)[0]


@freed_memory_given_back()
def fid_of_set(
    held_out: EvaluationSet,
    extractors: Mapping[Path, FeatureExtractor],
    cache: Path,
    here: Processes,
    *,
    count: int,
    seed: int = 0,
    map_tiles: int = 0,
) -> list[dict[str, Any]]:
    """`compute_fid` of an evaluation set that is open, by each of several extractors, which are given by their folder
    `out`: tiles are generated once for all of them. Raises `ValueError` where the set has no real tiles."""
    held_out.need_tiles()
    device = held_out.model.device
    if device.type == "cpu":
        keep_freed_memory()  # an extractor's maps are large: a quarter of its time
    plan = make_plan(held_out.rows["tiles"].to_numpy(np.int64), count)
    real = _real_features(held_out, plan.real, extractors, cache, here)
    generated = _generated_features(held_out, plan.generated, extractors, here, seed)
    return [
        _score(held_out, plan, out, extractor, own, of_real, seed, map_tiles) if here.is_main else {}
        for (out, extractor), own, of_real in zip(extractors.items(), generated, real, strict=True)
    ]


def _score(
    held_out: EvaluationSet,
    plan: Plan,
    out: Path,
    extractor: FeatureExtractor,
    of_generated: Found,
    of_real: Found,
    seed: int,
    map_tiles: int,
) -> dict[str, Any]:
    """The scores by one extractor, written and recorded."""
    model, rows, device = held_out.model, held_out.rows, held_out.model.device
    (generated, _), (real, real_digest) = of_generated, of_real
    assert generated is not None and real is not None, "the main process has features"
    generated, real = comparable(extractor, generated, real), comparable(extractor, real, real)
    in_training = took_part(extractor.name, model.config.backbone)
    donor_of_row = rows["donor"].rank(method="dense").to_numpy(np.int64) - 1
    tissue_of_row = rows["tissue"].to_numpy(str)
    sides = (
        TileFeatures(generated, np.repeat(donor_of_row, plan.generated)),
        TileFeatures(real, np.repeat(donor_of_row, plan.real)),
    )
    tissues = [np.repeat(tissue_of_row, counts) for counts in (plan.generated, plan.real)]
    if model.encoder is None:
        tissues[0] = np.full(len(generated), NO_PROFILE)  # they are of no tissue
    progress.say(f"{len(generated):,} generated and {len(real):,} real tiles: scores, with a jackknife over donors.")
    result: dict[str, Any] = {
        "scores": [score | {"in_training": in_training} for score in _scores(sides, tissues, extractor, seed, device)],
        "floor": _floor(sides, donor_of_row, tissue_of_row, seed, device),
        "protocol": {
            "model": model.digest,
            "mode": model.config.mode,
            "split": held_out.split,
            "split_by": held_out.split_by,
            "seed": seed,
            **model.sampling,
            "donors": int(rows["donor"].nunique()),
            "slides": int(rows["slide"].nunique()),
            "tissues": {str(name): int(own) for name, own in rows.groupby("tissue")["slide"].nunique().items()},
            "generated_tiles": len(generated),
            "real_tiles": len(real),
            "real_tiles_stored": int(rows["tiles"].sum()),
            "real_digest": real_digest,
            **_made_how(extractor, held_out.resolution),
            "extractor_in_training": in_training,
            "generated_codec": "none: the generator's own uint8",
            "versions": _versions(),
        },
    }
    result |= {} if held_out.claim is None else held_out.claim.as_json()
    result["few_tiles"] = few_tiles(score["name"] for score in result["scores"])
    if map_tiles:
        shown = f"{extractor.name} ({network_label(in_training)})"
        with stating(held_out.claim):
            feature_map(out / PICTURE, [side.features for side in sides], tissues, map_tiles, shown, seed)
    write_json(out / RESULT, result)
    scores = {f"{score['part']}/{score['name']}": score for score in result["scores"]}
    if result["floor"] is not None:
        scores |= {name: {"value": result["floor"][name]} for name in ("floor", "matched")}
    pictures = [out / PICTURE] if map_tiles else []
    record_evaluation(
        out, "fid", held_out.inputs.model, scores, result["protocol"], pictures=pictures, claim=held_out.claim
    )
    return result


def _real_features(
    held_out: EvaluationSet,
    counts: NDArray[np.int64],
    extractors: Mapping[Path, FeatureExtractor],
    cache: Path,
    here: Processes,
) -> list[Found]:
    rows = held_out.rows
    sums = rows["slide"].map(held_out.shards.slides.set_index("slide")["sha256"])
    names = row_names(held_out.shards, rows)
    made_from = {
        "tiles": "real",
        "slides": [[name, str(own), int(count)] for name, own, count in zip(names, sums, counts, strict=True)],
        "shard_version": SHARD_VERSION,
        "codec": f"as stored, decoded by simplejpeg {simplejpeg.__version__}",
    }
    wanted = [Wanted(cache, made_from | _made_how(own, held_out.resolution), own) for own in extractors.values()]
    make = NumberedTiles(held_out.shards, rows, counts, held_out.resolution)
    return cached_features(wanted, make, int(counts.sum()), here, "Real tiles", held_out.model.device)


def _generated_features(
    held_out: EvaluationSet,
    counts: NDArray[np.int64],
    extractors: Mapping[Path, FeatureExtractor],
    here: Processes,
    seed: int,
) -> list[Found]:
    model, latents = held_out.model, held_out.latents_of_rows(held_out.model)
    names = noise_names(held_out.shards, held_out.rows)
    row_of, number_of = number_tiles(counts)

    def make(numbers: range) -> NDArray[np.uint8]:
        rows = row_of[numbers.start : numbers.stop]
        own = None if latents is None else latents[rows]
        within = number_of[numbers.start : numbers.stop].tolist()
        return model.generate_numbered(own, [names[row] for row in rows], within, seed)

    made_from = {
        "tiles": "generated",
        "model": model.digest,
        "latents": None if latents is None else sha256_of(latents.tolist()),
        "slides": [[name, int(count)] for name, count in zip(names, counts, strict=True)],
        "seed": seed,
        **model.sampling,
        "versions": _versions(),
    }
    wanted = [
        Wanted(out / "generated", made_from | _made_how(own, held_out.resolution), own)
        for out, own in extractors.items()
    ]
    return cached_features(wanted, make, len(row_of), here, "Generated tiles", model.device)


def _scores(
    sides: Sides, tissues: list[NDArray], extractor: FeatureExtractor, seed: int, device: torch.device
) -> Iterator[dict[str, Any]]:
    """Of all tiles, then of each tissue where there is more than one and tiles are generated for it: name, value, where
    there are any low and high (a 95% interval over donors) and sd (over subsets of the formula), part and counts."""
    names = np.unique(tissues[1])
    for part in [ALL, *(names if len(names) > 1 else [])]:
        chosen = [np.ones(len(own), bool) if part == ALL else own == part for own in tissues]
        generated, real = (side if part == ALL else side.of(rows) for side, rows in zip(sides, chosen, strict=True))
        counts = len(generated.donors), len(real.donors)
        if min(counts) < 2:
            continue
        found: dict[str, dict[str, float | None]] = {}
        value, low, high = frechet_with_interval(generated, real, seed, device)
        found["frechet"] = {"value": value, "low": low, "high": high}
        value, sd = kernel_distance(generated.features, real.features)
        found["kernel"] = {"value": value, "sd": sd}
        precision, recall = precision_recall(generated.features, real.features, device)
        found |= {"precision": {"value": precision}, "recall": {"value": recall}}
        logits = extractor.logits(generated.features) if part == ALL and counts[0] >= CLASS_SCORE_PARTS else None
        if logits is not None:
            value, sd = class_score(logits)
            found["class_score"] = {"value": value, "sd": sd}
        for metric, score in found.items():
            place = {"part": str(part), "generated": counts[0], "real": counts[1]}
            yield {"name": score_name(metric, extractor.name, *counts), **score, **place}


def _floor(
    sides: Sides, donor_of_row: NDArray, tissue_of_row: NDArray, seed: int, device: torch.device
) -> dict[str, Any] | None:
    generated, real = sides
    tissue_of_donor = np.empty(donor_of_row.max() + 1, tissue_of_row.dtype)
    tissue_of_donor[donor_of_row] = tissue_of_row  # a donor of several tissues counts as of one of them
    found = floor(generated, real, tissue_of_donor, seed, device)
    return None if found is None else found._asdict()


def _made_how(extractor: FeatureExtractor, resolution: int) -> dict[str, Any]:
    """What decides features beside the tiles themselves."""
    return {
        "resolution": resolution,
        "extractor": extractor.name,
        "weights": extractor.weights,
        "resizer": extractor.resizer,
    }


def _versions() -> dict[str, str]:
    names = ("torch", "torch-fidelity", "numpy", "simplejpeg")
    return {"rnagan": rnagan.__version__} | {name: version(name) for name in names}
