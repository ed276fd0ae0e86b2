"""What donors' tiles are judged with: the observer of tiles, the truth, and how readings follow from profiles.

Made once of real tiles and used for every set of donors and every model, so that figures can be compared.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from rnagan.data.index import ShardSet
from rnagan.evaluation.condition_reader import within_tissue
from rnagan.evaluation.faithfulness import faithfulness, on_real_tiles, painted_tiles, real_tiles
from rnagan.evaluation.observer import Observed, Observer, train_classifier, train_reader
from rnagan.evaluation.retrieval import FEWEST_TO_FIT, ReadingModel, distances, fit_reading, retrieval
from rnagan.expression.store import Expression
from rnagan.pretrained import RNAGAN

READER_UNITS = 64  # active units of the latent that are read from tiles, at most
NOT_OWN = (
    "Tiles and profiles are of different people, paired by tissue: what a donor's own tissue looks like isn't known, "
    "so retrieval and correlation with real tiles are left out."
)


@dataclasses.dataclass(frozen=True)
class Judge:
    """`about`: donor, tissue, site and split of every profile, by sample; `pictured`: rows of the cohort table with
    tiles; `targets`: conditions around their tissue's mean, by sample, and `reading`, by tissue, what tiles tell of
    them (None and empty without retrieval); `own_people`: tiles are of the profiles' own donors. `notes`: what is left
    out, and why."""

    shards: ShardSet
    pictured: pd.DataFrame
    expression: Expression
    about: pd.DataFrame
    truth: pd.DataFrame | None
    observer: Observer
    targets: pd.DataFrame | None
    reading: dict[str, ReadingModel]
    own_people: bool
    notes: list[str]
    n: int
    seed: int

    def real(self, samples: pd.Index, resolution: int, keep: Iterable[str] = ()) -> Observed:
        """Up to n real tiles of each sample that has any."""
        rows = self.pictured[self.pictured["sample"].isin(samples)]
        return self.observer.observe(real_tiles(self.shards, rows, self.n, resolution), self.about["tissue"], keep)

    def painted(self, model: RNAGAN, samples: pd.Index, keep: Iterable[str] = ()) -> Observed:
        """n tiles painted for each sample."""
        tiles = painted_tiles(model, self.expression, samples.tolist(), self.n, self.seed)
        return self.observer.observe(tiles, self.about["tissue"], keep)

    def judge(self, samples: pd.Index, real: Observed, painted: Observed) -> tuple[dict[str, Any], pd.DataFrame]:
        """Correlations (`faithfulness`, or `on_real_tiles` where no truth is known) and `retrieval` by tissue, as far
        as they can be had; and the place of every donor that was looked for: tissue, donor, tiles, place."""
        found: dict[str, Any] = {}
        places = pd.DataFrame(columns=["tissue", "tiles", "donor", "place"])
        if self.truth is not None:
            found["faithfulness"] = faithfulness(self.truth, painted.measures, real.measures, self.seed)
        elif self.own_people and len(real.measures):
            found["on_real_tiles"] = on_real_tiles(self.about, painted.measures, real.measures, real.halves, self.seed)
        if self.targets is not None:
            found["retrieval"], places = self._retrieval(samples, {"real": real, "painted": painted})
        return found, places

    def _retrieval(self, samples: pd.Index, seen: dict[str, Observed]) -> tuple[dict[str, Any], pd.DataFrame]:
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


def make_judge(
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
) -> Judge:
    """Train what looks at tiles. `train`: rows of the cohort table that the classifier learns from; `compared`:
    training samples that the reader of profiles mustn't see."""
    resolution = model.config.resolution
    classifier = train_classifier(shards, train, resolution, seed)
    known = pictured[pictured["tissue"].isin(model.tissues)]
    hidden = set(about.loc[compared, "donor"])
    taught = known[(known["split"] == "train") & ~known["donor"].isin(hidden)]
    watched = known[known["split"] == "validation"]
    notes: list[str] = []
    reading: dict[str, ReadingModel] = {}
    reader = targets = None
    enough = watched.drop_duplicates(["donor", "tissue"])["tissue"].value_counts() >= FEWEST_TO_FIT
    if not own_people:
        notes.append(NOT_OWN)
    elif split != "test":
        notes.append(f"Retrieval is left out: it learns from the other splits, and this is split {split}.")
    elif not enough.any() or len(taught) < FEWEST_TO_FIT:
        notes.append(
            f"Retrieval is left out: it learns from {FEWEST_TO_FIT} validation donors with tiles of a tissue, and from "
            "training donors, and there are fewer."
        )
    else:
        targets = _targets(model, expression, about)
        reader = train_reader(shards, taught, watched, targets, resolution, seed)
    observer = Observer(classifier, reader, model.mpp)
    judge = Judge(shards, pictured, expression, about, truth, observer, targets, reading, own_people, notes, n, seed)
    if targets is not None:
        samples = pd.Index(watched["sample"].unique())
        read = judge.real(samples, resolution).read
        assert read is not None
        for tissue, rows in about.loc[samples].groupby("tissue"):
            if enough[str(tissue)]:
                c = _by_donor(targets, rows)
                reading[str(tissue)] = fit_reading(c.to_numpy(), _by_donor(read, rows).loc[c.index].to_numpy())
            else:
                notes.append(f"{tissue} has too few validation donors with tiles: retrieval is left out.")
    return judge


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
