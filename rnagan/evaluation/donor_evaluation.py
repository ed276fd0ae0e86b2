"""Do donors' generated tiles follow their profiles? Morphology against the truth or real tiles, and retrieval."""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rnagan.api import RNAGAN
from rnagan.cohort.table import LEFT_OUT
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.retrieval import FEWEST_TO_FIT, ReadingModel, distances, fit_reading, retrieval
from rnagan.evaluation.stats import FEWEST_DONORS, by_donor, correlate, pearson
from rnagan.evaluation.test_set import EvaluationSet
from rnagan.evaluation.tile_measurements import TileMeasurements, TileMeasurer, train_classifier, train_regressor
from rnagan.evaluation.tile_networks import within_tissue
from rnagan.runtime import progress

READER_UNITS = 64  # active units of the latent that are read from tiles, at most
NOT_OWN = (
    "Tiles and profiles are of different people, paired by tissue: what a donor's own tissue looks like isn't known, "
    "so retrieval and correlation with real tiles are left out."
)
PLACES = ["tissue", "tiles", "donor", "place"]


def faithfulness(truth: pd.DataFrame, generated: pd.DataFrame, real: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Correlations by tissue and measure, over donors; a donor's profiles of a tissue are averaged first.

    `truth`: index sample; columns donor, tissue, site and the expected measures (empty where a tissue has no such
    thing). `generated`, `real`: index sample, the measures; real tiles exist for some donors only. The permutation test
    shuffles within centres, except for the site's own stain, which is constant within a centre. `ceiling` is None where
    fewer than FEWEST_DONORS have real tiles; a tissue with fewer held-out donors is left out, by name.
    """
    result: dict[str, Any] = {}
    for tissue, rows in truth.loc[generated.index].groupby("tissue"):
        expected, measured = by_donor(truth[list(MEASURES)], rows), by_donor(generated[list(MEASURES)], rows)
        if len(expected) < FEWEST_DONORS:
            progress.say(f"{tissue} has {len(expected)} held-out donors, too few for a correlation: left out.")
            continue
        site = rows.groupby("donor")["site"].first().to_numpy()
        pictured = rows.loc[rows.index.intersection(real.index)]
        expected_of_real = by_donor(truth[list(MEASURES)], pictured)
        measured_on_real = by_donor(real[list(MEASURES)], pictured)
        result[str(tissue)] = {}
        for name in MEASURES:
            if expected[name].isna().any():
                continue
            strata = None if name == "site_stain" else site
            found = correlate(expected[name].to_numpy(), measured[name].to_numpy(), seed, strata)
            ceiling = None
            if len(measured_on_real) >= FEWEST_DONORS:
                r = pearson(expected_of_real[name].to_numpy(), measured_on_real[name].to_numpy())
                ceiling = float(np.nan_to_num(r))  # without any variation, as in `correlate`
            result[str(tissue)][name] = found._asdict() | {"ceiling": ceiling, "ceiling_donors": len(measured_on_real)}
    return result


def on_real_tiles(
    about: pd.DataFrame,
    generated: pd.DataFrame,
    real: pd.DataFrame,
    halves: tuple[pd.DataFrame, pd.DataFrame],
    seed: int = 0,
) -> dict[str, Any]:
    """`faithfulness` where no truth is known: expected is what the donors' own real tiles measure.

    `about`: index sample; columns donor, tissue, site. `halves`: the measures of each half of a sample's real tiles.
    The ceiling is what a model that knew each donor's true mean would reach: the root of the reliability of the real
    tiles' mean, from the correlation r of its halves (Spearman and Brown 1910: 2r / (1 + r)).
    """
    samples = generated.index.intersection(real.index)
    result = faithfulness(about.join(real, how="inner"), generated.loc[samples], real.iloc[:0], seed)
    for tissue, measures in result.items():
        rows = about.loc[samples][about.loc[samples, "tissue"] == tissue]
        first, second = (by_donor(half[list(MEASURES)], rows).to_numpy() for half in halves)
        both = ~np.isnan(first + second).any(axis=1)
        if both.sum() < FEWEST_DONORS:
            continue
        agreement = np.nan_to_num(pearson(first[both].T, second[both].T)).clip(0)
        ceiling = dict(zip(MEASURES, np.sqrt(2 * agreement / (1 + agreement)), strict=True))
        for name, found in measures.items():
            found |= {"ceiling": float(ceiling[name]), "ceiling_donors": int(both.sum())}
    return result


class Comparison(NamedTuple):
    """Samples' real and generated tiles, measured and compared.

    scores  `faithfulness` where a truth is known, else `on_real_tiles` where tiles are of the profiles' own donors; and
            `retrieval` where it was learnt
    places  of every donor that was looked for: columns PLACES
    """

    real: TileMeasurements
    generated: TileMeasurements
    scores: dict[str, Any]
    places: pd.DataFrame


@dataclasses.dataclass(frozen=True)
class DonorEvaluation:
    """Networks and tables that compare the tiles of any samples of an evaluation set, `n` tiles each.

    truth    expected measures by sample, None where no truth is known
    targets  conditions around their tissue's mean, by sample; None without retrieval
    reading  by tissue, how readings of tiles follow from the condition; empty without retrieval
    notes    what is left out, and why
    """

    held_out: EvaluationSet
    truth: pd.DataFrame | None
    measurer: TileMeasurer
    targets: pd.DataFrame | None
    reading: dict[str, ReadingModel]
    notes: list[str]
    n: int
    seed: int

    def compare(
        self, model: RNAGAN, samples: pd.Index, keep: Iterable[str] = (), real: TileMeasurements | None = None
    ) -> Comparison:
        """Measure the real tiles of samples and those that a model generates for them. `keep`: samples whose tiles are
        kept to be shown; `real`: the real tiles' measurements, where they are known."""
        about = self.held_out.about
        if real is None:
            real = self.measurer.measure(self.held_out.real_of(samples, self.n), about["tissue"], keep)
        tiles = self.held_out.generated_of(model, samples, self.n, self.seed)
        generated = self.measurer.measure(tiles, about["tissue"], keep)
        scores: dict[str, Any] = {}
        if self.truth is not None:
            scores["faithfulness"] = faithfulness(self.truth, generated.measures, real.measures, self.seed)
        elif self.held_out.own_people and len(real.measures):
            scores["on_real_tiles"] = on_real_tiles(about, generated.measures, real.measures, real.halves, self.seed)
        places = pd.DataFrame(columns=PLACES)
        if self.targets is not None:
            scores["retrieval"], places = self._retrieval(samples, {"real": real, "generated": generated})
        return Comparison(real, generated, scores, places)

    def _retrieval(
        self, samples: pd.Index, measured: dict[str, TileMeasurements]
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """By tissue, tiles and whom the donor is found among: `tissue`, or `centre`, donors of tissue and centre."""
        result: dict[str, Any] = {}
        places: list[pd.DataFrame] = []
        for tissue, rows in self.held_out.about.loc[samples].groupby("tissue"):
            if str(tissue) not in self.reading:
                continue
            result[str(tissue)] = {}
            for kind, tiles in measured.items():
                found = self._of_tissue(str(tissue), rows, tiles)
                if found is None:
                    continue
                result[str(tissue)][kind], donors, place = found
                if place is not None:
                    own = {"tissue": str(tissue), "tiles": kind, "donor": donors, "place": place}
                    places.append(pd.DataFrame(own, columns=PLACES))
        return result, pd.concat(places) if places else pd.DataFrame(columns=PLACES)

    def _of_tissue(
        self, tissue: str, rows: pd.DataFrame, tiles: TileMeasurements
    ) -> tuple[dict[str, Any], pd.Index, list[float] | None] | None:
        """Retrieval by whom the donor is found among, the donors that were looked for, and their places in the tissue;
        None where nobody of `rows` has such tiles."""
        assert self.targets is not None and tiles.read is not None
        candidates, sites = by_donor(self.targets, rows), rows.groupby("donor")["site"].first().to_numpy()
        read = by_donor(tiles.read, rows.loc[rows.index.intersection(tiles.read.index)])
        if read.empty:
            return None
        own = candidates.index.get_indexer(read.index)
        distance = distances(self.reading[tissue], read.to_numpy(), candidates.to_numpy())
        groups = {"tissue": None} | ({"centre": sites} if len(set(sites)) > 1 else {})
        figures = {among: retrieval(distance, own, of, self.seed) for among, of in groups.items()}
        found = {among: scores for among, scores in figures.items() if scores is not None}
        places = {among: scores.pop("places") for among, scores in found.items()}
        return found, read.index, places.get("tissue")


def make_donor_evaluation(
    held_out: EvaluationSet, truth: pd.DataFrame | None, compared: pd.Index, n: int, seed: int
) -> DonorEvaluation:
    """Train the networks that measure tiles. `compared`: training samples, hidden from the one that reads profiles."""
    device = held_out.model.device
    classifier = train_classifier(held_out.shards, held_out.train_rows(n), held_out.resolution, seed, device)
    measurer = TileMeasurer(classifier, None, held_out.model.mpp)
    known = held_out.pictured[held_out.pictured["tissue"].isin(held_out.model.tissues)]
    hidden = held_out.about.loc[compared, "donor"]
    train = known[(known["split"] == "train") & ~known["donor"].isin(hidden)]
    validation = known[known["split"] == "validation"]
    donors = validation.drop_duplicates(["donor", "tissue"])["tissue"].value_counts()
    fitted = set(donors.index[donors >= FEWEST_TO_FIT])
    if why := _why_no_retrieval(held_out, train, fitted):
        return DonorEvaluation(held_out, truth, measurer, None, {}, [why], n, seed)
    targets = _targets(held_out)
    regressor = train_regressor(held_out.shards, train, validation, targets, held_out.resolution, seed, device)
    measurer = dataclasses.replace(measurer, regressor=regressor)
    samples = pd.Index(validation["sample"].unique())
    read = measurer.measure(held_out.real_of(samples, n), held_out.about["tissue"]).read
    assert read is not None
    reading: dict[str, ReadingModel] = {}
    notes = []
    for tissue, rows in held_out.about.loc[samples].groupby("tissue"):
        if tissue in fitted:
            c = by_donor(targets, rows)
            reading[str(tissue)] = fit_reading(c.to_numpy(), by_donor(read, rows).loc[c.index].to_numpy())
        else:
            notes.append(f"{tissue} has too few validation donors with tiles: retrieval is left out.")
    return DonorEvaluation(held_out, truth, measurer, targets, reading, notes, n, seed)


def _why_no_retrieval(held_out: EvaluationSet, train: pd.DataFrame, fitted: set[str]) -> str:
    """Why retrieval can't be learnt, empty where it can. `fitted`: tissues with enough validation donors."""
    if not held_out.own_people:
        return NOT_OWN
    if held_out.split not in ("test", LEFT_OUT):
        return f"Retrieval is left out: it learns from the other splits, and this is split {held_out.split}."
    if not fitted or len(train) < FEWEST_TO_FIT:
        return (
            f"Retrieval is left out: it learns from {FEWEST_TO_FIT} validation donors with tiles of a tissue, and from "
            "training donors, and there are fewer."
        )
    return ""


def _targets(held_out: EvaluationSet) -> pd.DataFrame:
    """The condition of every profile of a tissue that the model knows: active units around their tissue's mean."""
    own = held_out.about[held_out.about["tissue"].isin(held_out.model.tissues)]
    encoder = held_out.model.encoder
    assert encoder is not None
    c = encoder.space.standardised(held_out.latents(held_out.model, own.index))[:, :READER_UNITS]
    if not c.shape[1]:
        raise ValueError("The VAE has no active latent unit, so there is nothing to look for in tiles.")
    return pd.DataFrame(within_tissue(c, own["tissue"].tolist(), (own["split"] == "train").to_numpy())[0], own.index)
