"""Generated tiles with their class and their profile's donor, and training sets that mix them with real ones."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.classification.cross_validation import Rows
from rnagan.classification.labelled_tiles import Labelled, people_of
from rnagan.cohort.leakage import check_same_splits, refuse_seen
from rnagan.generation import open_model
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.io.tables import first_few, need_columns
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.runtime import progress, rng
from rnagan.runtime.devices import AUTO


@dataclasses.dataclass(frozen=True)
class Synthetic:
    """Generated tiles in `labelled`; `samples` (n,): the profile of each, `turn` (n,): the how manieth of it each is,
    so that profiles take turns; `people`: table `sample`, `donor`, as of `people_of`; `model`: the generator's digest;
    `source`: that of the profiles, in their order, with class and people; `profiles`: of each class."""

    labelled: Labelled
    samples: NDArray[np.str_]
    turn: NDArray[np.int64]
    people: pd.DataFrame
    model: str
    source: str
    profiles: dict[str, int]

    def first(self, label: int, count: int, without: NDArray[np.str_]) -> Rows:
        """Rows of `count` tiles of a class, evenly over its profiles, of none that has to do with donors `without`."""
        rows = np.flatnonzero((self.labelled.labels == label) & ~np.isin(self.samples, _of(self.people, without)))
        return rows[np.argsort(self.turn[rows], kind="stable")][:count]


def _of(people: pd.DataFrame, donors: NDArray[np.str_]) -> NDArray[np.str_]:
    """The profiles that have to do with any of these donors."""
    return people.loc[people["donor"].isin(donors), "sample"].to_numpy(str)


class Need(NamedTuple):
    """Of a training set: generated tiles of each class, and donors whose profiles may not be used."""

    tiles: list[int]
    without: NDArray[np.str_]


def need_of(data: Labelled, train: Rows, test: Rows, share: float, classes: list[str]) -> Need:
    """What a fold's training set needs with real tiles of the rows `train`, where generated ones are `share` of all;
    alone (1), they are as many as the real ones would be."""
    real = [int((data.labels[train] == number).sum()) for number in range(len(classes))]
    wanted = real if share == 1 else [round(count * share / (1 - share)) for count in real]
    return Need(wanted, np.unique(data.donors[test]))


def generate_labelled(
    generator: Path,
    expression: Path,
    cohort: pd.DataFrame,
    cohort_path: Path,
    rows: pd.DataFrame,
    resolution: int,
    classes: list[str],
    label: str,
    needs: list[Need],
    seed: int,
    device: str | torch.device = AUTO,
    options: SamplingOptions = NO_OPTIONS,
) -> Synthetic:
    """Tiles generated from the profiles of `cohort` (its rows that are of a class), enough for each of `needs`.

    `rows`: the real tiles' slides, with their donors; `resolution`: side of a real tile, px. Raises `ValueError` where
    the generator makes tiles of another size, or was trained on any of these donors, or on another split than donors',
    or never saw a class's tissue, or a class has no profile.
    """
    model = open_model(generator, device, options=options)
    if model.config.resolution != resolution:
        raise ValueError(
            f"{generator} generates tiles of {model.config.resolution} px, and real ones are read at {resolution}; say "
            f"--resolution {model.config.resolution}."
        )
    if model.encoder is None:
        raise ValueError(f"{generator} was trained in mode {model.config.mode}: its tiles are of no class.")
    if model.split_by != "donor":
        raise ValueError(
            f"{generator} was trained on a cohort split by {model.split_by}, so its record doesn't say which donors it "
            "has seen; train one on a cohort split by donor."
        )
    need_columns(list(cohort), (label, "sample"), "The cohort table")
    profiles = model.encoder.read(expression)
    check_same_splits(cohort, profiles.obs, cohort_path, expression)
    own = cohort[cohort[label].isin(classes) & cohort["sample"].isin(profiles.obs.index)].drop_duplicates("sample")
    people = people_of(cohort[cohort["sample"].isin(own["sample"]) | cohort["slide"].isin(rows["slide"])])
    refuse_seen(people["donor"], model.train_donors, "any fold", str(generator), "--where split=test")
    if unknown := sorted(set(own["tissue"]) - set(model.tissues)):
        raise ValueError(f"{generator} never saw {first_few(unknown)}; it can't generate tiles of it.")
    parts, counts = [], {}
    for number, name in enumerate(classes):
        of_class = own[own[label] == name].sort_values("sample")
        of_class = of_class.iloc[rng.generator(seed, f"classifier profiles/{name}").permutation(len(of_class))]
        available = [int((~of_class["sample"].isin(_of(people, need.without))).sum()) for need in needs]
        if not all(available):
            raise ValueError(f"{expression} has no profile of class {name} outside of a test fold; give more donors.")
        each = max(-(-need.tiles[number] // count) for need, count in zip(needs, available, strict=True))
        counts[name] = len(of_class)
        parts.append(of_class.assign(label_number=number, tiles=each))
    wanted = pd.concat(parts)
    progress.say(f"Generating {int(wanted['tiles'].sum()):,} tiles of {len(wanted):,} profiles.")
    places = profiles.obs.index.get_indexer(wanted["sample"])
    latents = model.latents(profiles.values[places], profiles.genes, profiles.units)
    each_tiles = wanted["tiles"].tolist()
    names = [f"classifier/{sample}" for sample in wanted["sample"]]
    tiles = np.concatenate(list(model.generate_each(latents, names, each_tiles, seed)))
    labels = np.repeat(wanted["label_number"].to_numpy(np.int64), each_tiles)
    of_tiles, samples = (np.repeat(wanted[name].to_numpy(str), each_tiles) for name in ("donor", "sample"))
    turn = np.concatenate([np.arange(count) for count in each_tiles])
    # Not how many tiles each has: a fold takes the same ones of them however many there are.
    taken = wanted[["sample", label]].merge(people, how="left").to_dict("list")
    source = sha256_of([sha256_of_file(expression), taken])
    return Synthetic(Labelled(tiles, labels, of_tiles), samples, turn, people, model.digest, source, counts)


def few_donors(data: Labelled, train: Rows, count: int, classes: list[str], seed: int, fold: int) -> Rows:
    """The training rows of `count` donors of each class (0: of all), in an order of the fold's own: fewer donors are
    among more. Raises `ValueError` where a class has fewer."""
    if not count:
        return train
    kept = []
    for number, name in enumerate(classes):
        own = train[data.labels[train] == number]
        donors = np.unique(data.donors[own])
        if len(donors) < count:
            raise ValueError(
                f"Class {name} has {len(donors)} donors in the training part of fold {fold + 1}, fewer than the "
                f"{count} of --real-donors."
            )
        drawn = rng.generator(seed, f"classifier donors/{name}", fold).permutation(donors)[:count]
        kept.append(own[np.isin(data.donors[own], drawn)])
    return np.sort(np.concatenate(kept))


def mixed(data: Labelled, train: Rows, test: Rows, share: float, synthetic: Synthetic, classes: list[str]) -> Labelled:
    """The training set of a fold: real tiles of the rows `train`, and generated ones, of no donor of the rows `test`,
    that are `share` of each class; 1: generated ones alone."""
    parts = [] if share == 1 else [data.part(train)]
    need = need_of(data, train, test, share, classes)
    for number, wanted in enumerate(need.tiles):
        rows = synthetic.first(number, wanted, need.without)
        assert len(rows) == wanted, "fewer tiles were generated than are needed"
        parts.append(synthetic.labelled.part(rows))
    return Labelled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
