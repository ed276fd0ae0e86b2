"""Evidence on real pairs: does a held-out spot's generated tile follow its own RNA, and not its neighbourhood alone?

Within each section the mean of a spot's generated tiles is held against its own real tile, beside a linear model of the
same condition and real tiles of other spots, with nulls that keep the structure of maps (`spatial_nulls`).
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.spots import POSITIONS, positions_of
from rnagan.data.index import ShardSet
from rnagan.evaluation.features import FeatureExtractor, comparable
from rnagan.evaluation.proportions import of_spots
from rnagan.evaluation.real_tiles import Tiles, tiles_of_slides
from rnagan.evaluation.spatial_baselines import (
    GeneAgreement,
    centred,
    gene_agreement,
    nearest_in_expression,
    own_places,
    ridge,
)
from rnagan.evaluation.spatial_measures import OwnMeasures, measure_spots, nuclear_level
from rnagan.evaluation.spatial_nulls import (
    ENOUGH_SHIFTS,
    FEWEST_SPOTS,
    MapAgreement,
    agreement,
    block_weights,
    make_nulls,
    nearest_other,
    same_place,
    weighted_pearson,
)
from rnagan.evaluation.stats import Values, interval
from rnagan.evaluation.test_set import EvaluationSet
from rnagan.expression.h5ad import read_expression
from rnagan.io.tables import first_few

COMPONENTS = 20  # of features, in which tiles are compared
SEEN_IN = 0.1  # of a section's spots must have a gene whose correlations are compared
PER_SPOT = 1e4  # to which counts of a spot are brought before their logarithm


@dataclasses.dataclass(frozen=True)
class DescribedSpots:
    """Spots in the order of a table: `measures` (spots,) float64 by name, mean over a spot's tiles; `features` (spots,
    width), likewise."""

    measures: dict[str, Values]
    features: Values

    def of(self, rows: NDArray) -> "DescribedSpots":
        """Some of them."""
        return DescribedSpots({name: own[rows] for name, own in self.measures.items()}, self.features[rows])


class SectionMaps(NamedTuple):
    """Of one section: names and `positions` (spots, 2) of its spots, their measures on real and on generated tiles."""

    samples: list[str]
    positions: Values
    real: dict[str, Values]
    generated: dict[str, Values]


class SpatialEvidence(NamedTuple):
    """`scores`: what evaluation.json says of real pairs; `maps`: by section."""

    scores: dict[str, Any]
    maps: dict[str, SectionMaps]


def has_positions(shards: ShardSet, cohort: pd.DataFrame) -> bool:
    """Whether tiles have profiles of their own, and the cohort table their positions."""
    return shards.profiles is not None and set(POSITIONS) <= set(cohort)


def check_sections(consecutive: Iterable[str], spots: pd.DataFrame, cohort_path: Path) -> None:
    """Raise `ValueError` where a section of `consecutive` has no spot."""
    if strangers := sorted(set(consecutive) - set(spots["slide"])):
        raise ValueError(f"There is no section {first_few(strangers)} with tiles in {cohort_path}.")


def spatial_evidence(
    held_out: EvaluationSet,
    n: int,
    seed: int,
    extractor: FeatureExtractor,
    consecutive: tuple[str, ...] = (),
    further: OwnMeasures | None = None,
    proportions: pd.DataFrame | None = None,
) -> SpatialEvidence:
    """Of each section with FEWEST_SPOTS evaluated spots or more; `n` generated tiles a spot.

    `consecutive`: names of sections in the order in which they were cut, where that is known; `further`: measures of a
    group's own (`own_measures`); `proportions`: of cell types by spot (`read_proportions`), with which measures of the
    same name are compared. `scores` has `notes`, `extractor`, and `sections`: by section `spots`, `turns` and `shifts`
    that were tried, `measures`, `place`, `genes`, and perhaps `proportions`.
    Raises `ValueError` where a spot has no position, or a section of `consecutive` isn't there.
    """
    spots = held_out.pictured[held_out.pictured["tissue"].isin(held_out.model.tissues)].reset_index(drop=True)
    check_sections(consecutive, spots, held_out.inputs.cohort)
    positions_of(spots, str(held_out.inputs.cohort))
    model, rows = held_out.model, {split: spots[spots["split"] == split] for split in (held_out.split, "train")}
    train_tiles = list(tiles_of_slides(held_out.shards, rows["train"], held_out.resolution))
    describe = _Describer(extractor, held_out.model.mpp, nuclear_level(np.concatenate(train_tiles)), further)
    train = describe(train_tiles)
    compared = _Training(rows["train"], train, _conditions(model, held_out, rows["train"]), extractor)
    scores: dict[str, Any] = {"extractor": extractor.name, "notes": [], "sections": {}}
    maps: dict[str, SectionMaps] = {}
    for section, own in rows[held_out.split].groupby("slide"):
        if len(own) < FEWEST_SPOTS:
            scores["notes"].append(f"{section} has {len(own)} spots, fewer than {FEWEST_SPOTS}: it is left out.")
            continue
        real = describe(tiles_of_slides(held_out.shards, own, held_out.resolution))
        generated = describe(
            tiles for _, tiles in held_out.generated_of(model, pd.Index(own["sample"], name="sample"), n, seed)
        )
        beside = _next_section(held_out, spots, str(section), consecutive, describe)
        places, c = positions_of(own, str(section)), _conditions(model, held_out, own)
        cells = None if proportions is None else of_spots(proportions, own["sample"], list(real.measures))
        found = _of_section(places, c, real, generated, compared, beside, cells, seed)
        found["genes"] = _of_genes(held_out, own, real, generated)
        if found["shifts"] < ENOUGH_SHIFTS:
            scores["notes"].append(
                f"{section} allows {found['shifts']} shifts that leave {FEWEST_SPOTS} spots, fewer than "
                f"{ENOUGH_SHIFTS}: no p is below {1 / (1 + found['turns'] + found['shifts']):.3f}."
            )
        scores["sections"][str(section)] = found
        maps[str(section)] = SectionMaps(own["sample"].tolist(), places, real.measures, generated.measures)
    return SpatialEvidence(scores, maps)


@dataclasses.dataclass(frozen=True)
class _Describer:
    """Measures and features of each spot's tiles, one spot after another."""

    extractor: FeatureExtractor
    mpp: float | None
    nuclear: float
    further: OwnMeasures | None

    def __call__(self, tiles_of_spots: Iterable[Tiles]) -> DescribedSpots:
        measures: list[dict[str, float]] = []
        features = []
        for tiles in tiles_of_spots:
            found = dict(measure_spots(tiles, self.mpp, self.nuclear))
            found |= {} if self.further is None else self.further(tiles)
            measures.append({name: float(values.mean()) for name, values in found.items()})
            features.append(self.extractor(tiles).mean(axis=0, dtype=np.float64))
        by_name = {name: np.array([own[name] for own in measures]) for name in measures[0]}
        known = {name: own for name, own in by_name.items() if np.isfinite(own).all()}
        return DescribedSpots(known, np.array(features))


class _Training:
    """What training spots say: measures and feature components around their section's mean, by condition."""

    def __init__(self, rows: pd.DataFrame, described: DescribedSpots, c: Values, extractor: FeatureExtractor) -> None:
        self.described, self.c, self.sections, self._extractor = described, c, rows["slide"].to_numpy(str), extractor
        self._reference = described.features.astype(np.float32)
        self.whole = self._as_compared(described.features, self.sections)
        self._axes = np.linalg.svd(self.whole, full_matrices=False)[2][:COMPONENTS].T
        self.components = self.whole @ self._axes

    def project(self, features: Values) -> Values:
        """Feature components of one section's spots (spots, width), around their mean."""
        return self._as_compared(features, np.zeros(len(features))) @ self._axes

    def foretell(self, outcomes: Values, c: Values) -> Values:
        """`ridge` from training outcomes (train, outcomes) for conditions (spots, units)."""
        return ridge(self.c, outcomes, self.sections, c)

    def _as_compared(self, features: Values, sections: NDArray) -> Values:
        return centred(comparable(self._extractor, features.astype(np.float32), self._reference), sections)


def _of_section(
    positions: Values,
    c: Values,
    real: DescribedSpots,
    generated: DescribedSpots,
    train: _Training,
    beside: tuple[DescribedSpots, Values] | None,
    cells: dict[str, Values] | None,
    seed: int,
) -> dict[str, Any]:
    """All figures of one section but those of genes. `beside`: the next section's spots and their positions; `cells`:
    the spots' proportions of cell types."""
    nulls, weights = make_nulls(positions, seed), block_weights(positions, seed)
    near, alike = nearest_other(positions), nearest_in_expression(train.c, c)
    measures: dict[str, dict[str, Any]] = {}
    for name, expected in real.measures.items():
        linear = train.foretell(train.described.measures[name][:, None], c)[:, 0]
        by_model = agreement(expected, generated.measures[name], nulls, weights)
        by_ridge = agreement(expected, linear, nulls, weights)
        measures[name] = {
            **_plain(by_model),
            "ridge": _plain(by_ridge),
            "over_ridge": by_model.r / by_ridge.r if by_ridge.r > 0 else None,
            "nearest_spot": _r(expected, expected[near]),
            "nearest_expression": _r(expected, train.described.measures[name][alike]),
        }
        if beside is not None:
            other, theirs = beside
            place = same_place(positions, theirs)
            there = place >= 0
            measures[name]["next_section"] = _r(expected[there], other.measures[name][place[there]])
            measures[name]["next_section_spots"] = int(there.sum())
    own = train.project(real.features)
    compared = {
        "generated": train.project(generated.features),
        "ridge": centred(train.foretell(train.components, c), np.zeros(len(c))),
        "nearest_expression": centred(train.components[alike], np.zeros(len(c))),
    }
    place_of = {name: _mean_place(own_places(found, own), weights) for name, found in compared.items()}
    found: dict[str, Any] = {
        "spots": len(positions),
        "turns": nulls.turns,
        "shifts": nulls.shifts,
        "measures": measures,
        "place": place_of,
    }
    if cells is not None:
        found["proportions"] = {
            name: _plain(agreement(expected, generated.measures[name], nulls, weights))
            | {"real": _r(expected, real.measures[name])}
            for name, expected in cells.items()
        }
    return found


def _mean_place(places: Values, weights: Values) -> dict[str, float]:
    low, high = interval((weights @ places) / weights.sum(axis=1))
    return {"value": float(places.mean()), "low": float(low), "high": float(high)}


def _next_section(
    held_out: EvaluationSet, spots: pd.DataFrame, section: str, consecutive: tuple[str, ...], describe: _Describer
) -> tuple[DescribedSpots, Values] | None:
    """The spots of the section that was cut next, or before where it was the last; None where that isn't known."""
    if section not in consecutive or len(consecutive) < 2:
        return None
    at = consecutive.index(section)
    rows = spots[spots["slide"] == consecutive[at + 1 if at + 1 < len(consecutive) else at - 1]]
    tiles = tiles_of_slides(held_out.shards, rows, held_out.resolution)
    return describe(tiles), positions_of(rows, section)


def _of_genes(
    held_out: EvaluationSet, own: pd.DataFrame, real: DescribedSpots, generated: DescribedSpots
) -> dict[str, dict[str, float | None]]:
    """`gene_agreement` of each measure, over genes that enough of a section's spots have."""
    assert held_out.inputs.expression is not None
    expression = read_expression(held_out.inputs.expression)
    x = expression.values[expression.obs.index.get_indexer(own["sample"])].astype(np.float64)
    seen = (x > 0).mean(axis=0) >= SEEN_IN
    if expression.units in ("counts", "tpm"):
        x = np.log1p(PER_SPOT * x / np.maximum(x.sum(axis=1, keepdims=True), 1))
    return {
        name: _plain(gene_agreement(x[:, seen], real.measures[name], generated.measures[name]))
        for name in real.measures
    }


def _plain(figures: MapAgreement | GeneAgreement) -> dict[str, float | None]:
    """By name, for JSON: None where there is nothing to say."""
    return {name: value if np.isfinite(value) else None for name, value in figures._asdict().items()}


def _conditions(model: RNAGAN, held_out: EvaluationSet, rows: pd.DataFrame) -> Values:
    return model.conditions(held_out.latents(model, rows["sample"])).astype(np.float64)


def _r(x: Values, y: Values) -> float:
    """Pearson's r, 0 where there is no variation."""
    return float(np.nan_to_num(weighted_pearson(np.ones((1, len(x))), x, y)[0]))
