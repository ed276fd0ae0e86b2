"""Everything that a table of generators says of one model: looks, binding to the profile, copies and speed.

Each figure is of the evaluation that has it elsewhere too, `evaluate`, `compute_fid` and `nearest_tiles`, on one set
that is opened once.
"""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch

from rnagan.cohort.filter import matching_rows
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet
from rnagan.evaluation import faithfulness
from rnagan.evaluation.calibration import check_calibration
from rnagan.evaluation.faithfulness import evaluate
from rnagan.evaluation.features import FeatureExtractor, make_extractor
from rnagan.evaluation.fid import fid_of_set
from rnagan.evaluation.memorization import nearest_of_set
from rnagan.evaluation.spatial_evidence import check_sections, has_positions
from rnagan.evaluation.spot_pairs import PLAIN, SpotSettings
from rnagan.evaluation.test_set import (
    EvaluationInputs,
    EvaluationSet,
    has_own_people,
    open_evaluation_set,
    read_truth,
)
from rnagan.expression.h5ad import open_expression
from rnagan.io.files import sha256_of_file
from rnagan.models.tile_generator import NO_OPTIONS, Card
from rnagan.runtime import progress
from rnagan.runtime.distributed import processes

TIMED_TILES, WARM_UP_TILES = 128, 16
# Of a curve: the option of the generator that is varied, and its values.
TRUNCATIONS, GUIDANCES = (0.5, 0.7, 0.85, 1.0), (1.0, 1.5, 2.0, 3.0)


class Figure(TypedDict):
    """A score, and perhaps its 95% interval."""

    value: float
    low: NotRequired[float]
    high: NotRequired[float]


class Point(TypedDict):
    """A point of a curve: the option that differs from the model's own, its value, and the scores there."""

    option: str
    value: float
    scores: dict[str, Figure]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How each model is evaluated, alike for all rows.

    n            tiles a profile, of which measures are means
    tiles        generated tiles of a Fréchet distance
    extractors   whose features distances, precision and recall are of
    witness      the extractor that tells spots and copies apart, which took part in no row's training
    copies       generated tiles that are looked up among the training tiles
    curves       whether each model is also evaluated over truncation or guidance
    calibrated   whether each is also evaluated with a gain for each component of the condition
    """

    split: str
    n: int
    tiles: int
    extractors: tuple[str, ...]
    witness: str
    copies: int
    train_donors: int
    curves: bool
    calibrated: bool
    seed: int
    truth: Path | None
    consecutive: tuple[str, ...]
    device: torch.device

    def protocol(self) -> dict[str, Any]:
        """What decides the figures beside the model."""
        own = dataclasses.asdict(dataclasses.replace(self, truth=None, device=torch.device(self.device.type)))
        return own | {
            "truth": None if self.truth is None else sha256_of_file(self.truth),
            "device": self.device.type,
        }


def check_evaluation(
    how: Evaluation, shards: ShardSet, cohort_path: Path, expression: Path, wheres: Iterable[str]
) -> None:
    """Raise `ValueError` where the evaluation of models that are trained on these can't be: before any is trained.
    `wheres`: the rows' own choices of the cohort table."""
    cohort = read_cohort(cohort_path)
    for name in {*how.extractors, how.witness}:
        make_extractor(name, device=how.device)
    if how.calibrated:
        check_calibration(how.split, has_own_people(cohort))
    if how.consecutive:
        if not has_positions(shards, cohort):
            raise ValueError(
                f"--consecutive is for spots, and {cohort_path} has no positions of tiles with profiles of their own "
                "(rnagan build-cohort --x-column); leave it out."
            )
        check_sections(how.consecutive, cohort[shards.stored(cohort) > 0], cohort_path)
    if how.truth is not None:
        with open_expression(expression) as stored:
            profiles = stored.obs.index
        for where in wheres:
            rows = cohort[matching_rows(cohort, where)]
            known = rows.loc[(rows["split"] == "train") & (shards.stored(rows) > 0), "tissue"]
            rows = rows[(rows["split"] == how.split) & rows["tissue"].isin(known) & rows["sample"].isin(profiles)]
            read_truth(how.truth, pd.Index(rows["sample"].unique()))


def scores_of_model(inputs: EvaluationInputs, how: Evaluation, out: Path, features: Path) -> dict[str, Any]:
    """What cell.json says of a model but for its training; pictures and tables lie in `out`. `features`: folder of the
    real tiles' features, which all models share."""
    extractors = {name: make_extractor(name, device=how.device) for name in {*how.extractors, how.witness}}
    held_out = open_evaluation_set(inputs, how.split, need="profiles", device=how.device)
    own = [extractors[name] for name in how.extractors]
    scores, few = _looks(held_out, how, own, out, features)
    result = _binding(held_out, how, out / "faithfulness")
    scores |= faithfulness.scores_of(result)
    witness = extractors[how.witness]
    nearest = nearest_of_set(held_out, out / "copies", how.copies, seed=how.seed, extractor=witness)
    scores |= {
        "copies/share": {"value": nearest["share"]},
        "copies/called": {"value": float(len(nearest["copies"]))},
        "copies/distance_ratio": {"value": nearest["ratio"]},
    }
    pictures = [*result["pictures"], *result.get("real_pairs", {}).get("pictures", ())]
    found: dict[str, Any] = {
        "split": how.split,
        "split_by": held_out.split_by,
        "tiles_per_profile": how.n,
        "scores": _plain(scores),
        "few_tiles": few,
        "notes": list(dict.fromkeys(result["notes"])),
        "pictures": [f"evaluation/faithfulness/{name}" for name in pictures],
        "seconds_per_1000_tiles": seconds_per_1000(held_out, how.seed),
        "curve": [],
    }
    if how.curves:
        option, values = _curve_of(held_out)
        usual = held_out.model.generator.card[option]
        for value in values:
            point = _plain(scores)
            if value != usual:
                progress.say(f"The same at {option} {value:g}.")
                model, there = held_out.model.with_options(**{option: value}), out / f"{option}-{value:g}"
                varied = dataclasses.replace(held_out, models=[model])
                at_value, _ = _looks(varied, how, own, there, features)
                at_value |= faithfulness.scores_of(_binding(varied, how, there / "faithfulness"))
                point = _plain(at_value)
            found["curve"].append({"option": option, "value": float(value), "scores": point})
    return found


def _looks(
    held_out: EvaluationSet, how: Evaluation, extractors: list[FeatureExtractor], out: Path, features: Path
) -> tuple[dict[str, Any], str]:
    """Distances, precision and recall by each extractor, by EXTRACTOR'S/NAME; and what few tiles make of them."""
    by_folder = {out / f"looks-{extractor.name}": extractor for extractor in extractors}
    results = fid_of_set(held_out, by_folder, features, processes(), count=how.tiles, seed=how.seed)
    scores = {f"{score['part']}/{score['name']}": score for result in results for score in result["scores"]}
    return scores, next((result["few_tiles"] for result in results if result["few_tiles"]), "")


def _binding(held_out: EvaluationSet, how: Evaluation, out: Path) -> dict[str, Any]:
    """`evaluate` by what the table asks for; training donors and calibration only as the model generates by itself."""
    spots = SpotSettings(how.consecutive, how.witness) if has_positions(held_out.shards, held_out.cohort) else PLAIN
    options = held_out.model.options
    usual = options == NO_OPTIONS
    donors = how.train_donors if usual else 0
    asked = how.split, how.n, how.seed, donors, how.device, spots, options, how.calibrated and usual
    return evaluate(held_out.inputs, out, *asked, held_out=held_out)


def seconds_per_1000(held_out: EvaluationSet, seed: int) -> float:
    """Seconds of computing for 1,000 tiles of evaluated profiles: processor time on CPUs, by the clock elsewhere."""
    model = held_out.model
    samples = held_out.samples[:TIMED_TILES]
    latents, each = held_out.latents(model, samples), -(-TIMED_TILES // len(samples))

    def generate(count: int) -> int:
        own = min(count, len(samples))
        tiles = model.generate_each(latents[:own], samples[:own].tolist(), [each] * own, seed)
        return sum(len(part) for part in tiles)

    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    generate(-(-WARM_UP_TILES // each))
    began = clock()
    count = generate(TIMED_TILES)
    return 1000 * (clock() - began) / count


def _curve_of(held_out: EvaluationSet) -> tuple[str, tuple[float, ...]]:
    """The option over which a model's curve goes: guidance where its training made it possible, else truncation."""
    card: Card = held_out.model.generator.card
    dropout = getattr(held_out.model.config, "condition_dropout", 0.0)
    return ("guidance", GUIDANCES) if "guidance" in card and dropout else ("truncation", TRUNCATIONS)


def _plain(scores: dict[str, Any]) -> dict[str, Figure]:
    """Scores by name as a cell keeps them: those that are finite, with intervals where both ends are known."""
    found: dict[str, Figure] = {}
    for name, score in scores.items():
        value, ends = score["value"], (score.get("low"), score.get("high"))
        if value is None or not np.isfinite(value):
            continue
        found[name] = {"value": float(value)}
        if all(end is not None and np.isfinite(end) for end in ends):
            found[name] |= {"low": float(ends[0]), "high": float(ends[1])}
    return found
