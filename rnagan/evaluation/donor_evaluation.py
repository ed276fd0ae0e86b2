"""Measures of donors' tiles held against the truth: morphology, tissue, and how they follow from profiles."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.data.index import ShardSet
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.retrieval import FEWEST_TO_FIT, ReadingModel, distances, fit_reading, retrieval
from rnagan.evaluation.stats import FEWEST_DONORS, correlate, pearson
from rnagan.evaluation.test_set import tiles_of_slides
from rnagan.evaluation.tile_measurements import TileMeasurements, TileMeasurer, train_classifier, train_regressor
from rnagan.evaluation.tile_networks import within_tissue
from rnagan.expression.h5ad import Expression
from rnagan.runtime import progress


def generated_tiles(
    model: RNAGAN, expression: Expression, samples: Sequence[str], n: int, seed: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Generate `n` tiles for each sample: its name and (n, H, W, 3) uint8, one after the other."""
    rows = expression.obs.index.get_indexer(samples)
    latents = model.latents(expression.values[rows], expression.genes, expression.units)
    with progress.bar(len(samples), "profile", "Generating") as bar:
        for latent, sample in zip(latents, samples, strict=True):
            yield sample, model.generate_tiles(latent, n, seed, sample)
            bar.update()


def read_tiles(shards: ShardSet, slides: list[str], n: int, resolution: int) -> list[NDArray[np.uint8]]:
    """The first `n` tiles of each slide (a uniform draw of its tiles), each (at most n, resolution, resolution, 3)."""
    counts = shards.slides.set_index("slide")["tiles"].loc[slides].clip(upper=n)
    return list(tiles_of_slides(shards, pd.DataFrame({"slide": slides, "tiles": counts.to_numpy()}), resolution))


def real_tiles(
    shards: ShardSet, rows: pd.DataFrame, n: int, resolution: int
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Each sample of the cohort rows (sample, slide) with up to `n` of its real tiles, taken evenly from its slides."""
    for sample, own in rows.groupby("sample"):
        each = -(-n // len(own))
        yield str(sample), np.concatenate(read_tiles(shards, own["slide"].tolist(), each, resolution))[:n]


def faithfulness(truth: pd.DataFrame, generated: pd.DataFrame, real: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Correlations by tissue and measure, over donors; a donor's profiles of a tissue are averaged first.

    `truth`: index sample; columns donor, tissue, site and the expected measures (empty where a tissue has no such
    thing). `generated`, `real`: index sample, the measures; real tiles exist for some donors only. The permutation test
    shuffles within centres, except for the site's own stain, which is constant within a centre. `ceiling` is None where
    fewer than FEWEST_DONORS have real tiles; a tissue with fewer held-out donors is left out, by name.
    """
    result: dict[str, Any] = {}
    for tissue, rows in truth.loc[generated.index].groupby("tissue"):
        expected, measured = _by_donor(truth[list(MEASURES)], rows), _by_donor(generated[list(MEASURES)], rows)
        if len(expected) < FEWEST_DONORS:
            progress.say(f"{tissue} has {len(expected)} held-out donors, too few for a correlation: left out.")
            continue
        site = rows.groupby("donor")["site"].first().to_numpy()
        pictured = rows.loc[rows.index.intersection(real.index)]
        expected_of_real, measured_on_real = (
            _by_donor(truth[list(MEASURES)], pictured),
            _by_donor(real[list(MEASURES)], pictured),
        )
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
        first, second = (_by_donor(half[list(MEASURES)], rows).to_numpy() for half in halves)
        told = ~np.isnan(first + second).any(axis=1)
        if told.sum() < FEWEST_DONORS:
            continue
        agreement = np.nan_to_num(pearson(first[told].T, second[told].T)).clip(0)
        ceiling = dict(zip(MEASURES, np.sqrt(2 * agreement / (1 + agreement)), strict=True))
        for name, found in measures.items():
            found |= {"ceiling": float(ceiling[name]), "ceiling_donors": int(told.sum())}
    return result


READER_UNITS = 64  # active units of the latent that are read from tiles, at most
NOT_OWN = (
    "Tiles and profiles are of different people, paired by tissue: what a donor's own tissue looks like isn't known, "
    "so retrieval and correlation with real tiles are left out."
)


@dataclasses.dataclass(frozen=True)
class DonorEvaluation:
    """`about`: donor, tissue, site and split of every profile, by sample; `pictured`: rows of the cohort table with
    tiles; `targets`: conditions around their tissue's mean, by sample, and `reading`, by tissue, what tiles tell of
    them (None and empty without retrieval); `own_people`: tiles are of the profiles' own donors. `notes`: what is left
    out, and why."""

    shards: ShardSet
    pictured: pd.DataFrame
    expression: Expression
    about: pd.DataFrame
    truth: pd.DataFrame | None
    measurer: TileMeasurer
    targets: pd.DataFrame | None
    reading: dict[str, ReadingModel]
    own_people: bool
    notes: list[str]
    n: int
    seed: int

    def real(self, samples: pd.Index, resolution: int, keep: Iterable[str] = ()) -> TileMeasurements:
        """Up to n real tiles of each sample that has any."""
        rows = self.pictured[self.pictured["sample"].isin(samples)]
        return self.measurer.measure(real_tiles(self.shards, rows, self.n, resolution), self.about["tissue"], keep)

    def generated(self, model: RNAGAN, samples: pd.Index, keep: Iterable[str] = ()) -> TileMeasurements:
        """n tiles generated for each sample."""
        tiles = generated_tiles(model, self.expression, samples.tolist(), self.n, self.seed)
        return self.measurer.measure(tiles, self.about["tissue"], keep)

    def compare(
        self, samples: pd.Index, real: TileMeasurements, generated: TileMeasurements
    ) -> tuple[dict[str, Any], pd.DataFrame]:
        """Correlations (`faithfulness`, or `on_real_tiles` where no truth is known) and `retrieval` by tissue, as far
        as they can be had; and the place of every donor that was looked for: tissue, donor, tiles, place."""
        found: dict[str, Any] = {}
        places = pd.DataFrame(columns=["tissue", "tiles", "donor", "place"])
        if self.truth is not None:
            found["faithfulness"] = faithfulness(self.truth, generated.measures, real.measures, self.seed)
        elif self.own_people and len(real.measures):
            found["on_real_tiles"] = on_real_tiles(
                self.about, generated.measures, real.measures, real.halves, self.seed
            )
        if self.targets is not None:
            found["retrieval"], places = self._retrieval(samples, {"real": real, "generated": generated})
        return found, places

    def _retrieval(self, samples: pd.Index, seen: dict[str, TileMeasurements]) -> tuple[dict[str, Any], pd.DataFrame]:
        """By tissue, tiles and whom the donor is found among: `tissue`, or `centre`, donors of tissue and centre."""
        assert self.targets is not None
        result: dict[str, Any] = {}
        places = []
        for tissue, rows in self.about.loc[samples].groupby("tissue"):
            if str(tissue) not in self.reading:
                continue
            candidates, sites = _by_donor(self.targets, rows), rows.groupby("donor")["site"].first().to_numpy()
            result[str(tissue)] = {}
            for kind, observed in seen.items():
                assert observed.read is not None
                read = _by_donor(observed.read, rows.loc[rows.index.intersection(observed.read.index)])
                if read.empty:
                    continue
                own = candidates.index.get_indexer(read.index)
                distance = distances(self.reading[str(tissue)], read.to_numpy(), candidates.to_numpy())
                among = {"tissue": None} | ({"centre": sites} if len(set(sites)) > 1 else {})
                found = {name: retrieval(distance, own, groups, self.seed) for name, groups in among.items()}
                result[str(tissue)][kind] = {name: dict(told) for name, told in found.items() if told is not None}
                for name, told in result[str(tissue)][kind].items():
                    place = told.pop("places")
                    if name == "tissue":  # one group, which either everybody is found among or nobody
                        columns = {"tissue": tissue, "tiles": kind, "donor": read.index, "place": place}
                        places.append(pd.DataFrame(columns))
        return result, pd.concat(places) if places else pd.DataFrame(columns=["tissue", "tiles", "donor", "place"])


def make_donor_evaluation(
    shards: ShardSet,
    train: pd.DataFrame,
    pictured: pd.DataFrame,
    expression: Expression,
    about: pd.DataFrame,
    truth: pd.DataFrame | None,
    model: RNAGAN,
    split: str,
    compared: pd.Index,
    own_people: bool,
    n: int,
    seed: int,
) -> DonorEvaluation:
    """Train what looks at tiles. `train`: rows of the cohort table that the classifier learns from; `compared`:
    training samples that the reader of profiles mustn't see."""
    resolution = model.config.resolution
    classifier = train_classifier(shards, train, resolution, seed)
    known = pictured[pictured["tissue"].isin(model.tissues)]
    hidden = set(about.loc[compared, "donor"])
    train_rows = known[(known["split"] == "train") & ~known["donor"].isin(hidden)]
    validation_rows = known[known["split"] == "validation"]
    notes: list[str] = []
    reading: dict[str, ReadingModel] = {}
    reader = targets = None
    enough = validation_rows.drop_duplicates(["donor", "tissue"])["tissue"].value_counts() >= FEWEST_TO_FIT
    if not own_people:
        notes.append(NOT_OWN)
    elif split != "test":
        notes.append(f"Retrieval is left out: it learns from the other splits, and this is split {split}.")
    elif not enough.any() or len(train_rows) < FEWEST_TO_FIT:
        notes.append(
            f"Retrieval is left out: it learns from {FEWEST_TO_FIT} validation donors with tiles of a tissue, and from "
            "training donors, and there are fewer."
        )
    else:
        targets = _targets(model, expression, about)
        reader = train_regressor(shards, train_rows, validation_rows, targets, resolution, seed)
    measurer = TileMeasurer(classifier, reader, model.mpp)
    evaluation = DonorEvaluation(
        shards, pictured, expression, about, truth, measurer, targets, reading, own_people, notes, n, seed
    )
    if targets is not None:
        samples = pd.Index(validation_rows["sample"].unique())
        read = evaluation.real(samples, resolution).read
        assert read is not None
        for tissue, rows in about.loc[samples].groupby("tissue"):
            if enough[str(tissue)]:
                c = _by_donor(targets, rows)
                reading[str(tissue)] = fit_reading(c.to_numpy(), _by_donor(read, rows).loc[c.index].to_numpy())
            else:
                notes.append(f"{tissue} has too few validation donors with tiles: retrieval is left out.")
    return evaluation


def _targets(model: RNAGAN, expression: Expression, about: pd.DataFrame) -> pd.DataFrame:
    """The condition of every profile of a tissue that the model knows: active units around their tissue's mean."""
    rows = np.flatnonzero(about["tissue"].isin(model.tissues))
    latents = model.latents(expression.values[rows], expression.genes, expression.units)
    assert model.vae is not None  # `latents` refuses a model without
    c, own = model.vae.space.standardised(latents)[:, :READER_UNITS], about.iloc[rows]
    if not c.shape[1]:
        raise ValueError("The VAE has no active latent unit, so there is nothing to look for in tiles.")
    return pd.DataFrame(within_tissue(c, own["tissue"].tolist(), (own["split"] == "train").to_numpy())[0], own.index)


def _by_donor(values: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of each donor of `rows`, by donor."""
    return values.loc[rows.index].groupby(rows["donor"]).mean()
