"""The data of every evaluation: the profiles of a split, real tiles of its slides, and generated tiles."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import RNAGAN, model_folder, read_model_record
from rnagan.cohort.filter import matching_rows
from rnagan.cohort.leakage import check_same_splits, everyone, refuse_seen
from rnagan.cohort.table import LEFT_OUT, claim_of, read_cohort, split_by
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.shard_schema import MPP_TOLERANCE
from rnagan.evaluation.morphology import MEASURES
from rnagan.evaluation.real_tiles import (
    Tiles,
    real_tiles,
    row_names,
    tiles_of_slides,
)
from rnagan.expression.h5ad import Expression
from rnagan.generation import open_model
from rnagan.io.claim import Claim
from rnagan.io.files import sha256_of_file
from rnagan.io.provenance import asked
from rnagan.io.tables import need_columns, read_table
from rnagan.models.embedding import EmbeddingModel
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO

Need = Literal["tiles", "profiles"]
ALL_TILES = 1_000_000  # of a slide


@dataclasses.dataclass(frozen=True)
class EvaluationInputs:
    """Paths of an evaluation; `shards` may be a URL, `expression` is None where no model takes profiles.

    `truth`: a table by sample with the expected measures, which simulated cohorts alone have; `null`: a model trained
    with shuffle_profiles; `beside`: models that are compared with `model` on the same tiles.
    """

    model: Path
    shards: Path | str
    cohort: Path
    expression: Path | None = None
    truth: Path | None = None
    null: Path | None = None
    beside: tuple[Path, ...] = ()

    def request(self, protocol: dict[str, Any]) -> str:
        """Digest of an evaluation of the model by a protocol, under this code; no weights are read."""
        return asked(model=model_folder(self.model) / "model.json", protocol=protocol)

    def protocol(self, **settings: Any) -> dict[str, Any]:
        """What decides the figures of a model's evaluation: digests of the data, of other models, and the settings.

        Raises `FileNotFoundError` where a model or a file isn't there.
        """
        model_folder(self.model)
        tables = {"cohort": self.cohort, "expression": self.expression, "truth": self.truth}
        others = [*self.beside, *([] if self.null is None else [self.null])]
        return {
            "shards": open_dataset(self.shards).digest,
            **{name: None if path is None else sha256_of_file(path) for name, path in tables.items()},
            "other_models": [sha256_of_file(model_folder(folder) / "model.json") for folder in others],
            "null": self.null is not None,
            **settings,
        }


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """What is evaluated, after all checks (`make_evaluation_set`).

    models      the model, then those beside it; `null` as in the inputs. All generate tiles of one size.
    cohort      rows of the cohort table that the models' own setting `where` takes
    expression  all profiles, None where no model takes any; `about` has their donor, tissue, split and site, by sample
    samples     the profiles that are evaluated: of the split, and of a tissue that all models know
    left_out    likewise, those of the split `left_out`, whom no training sees
    pictured    cohort rows with tiles (and a profile, where models take them), of every split; one a slide, or a slide
                and profile where tiles have profiles of their own
    rows        those of the evaluated split and tissues: slide, sample, donor, tissue, tiles; by slide
    own_people  whether tiles are of the profiles' own donors, and not merely of the same tissue (`image_donor`)
    split_by    what is held out, and so how far the scores reach: donor, or what else of `cohort.table.SPLIT_BY`
    """

    inputs: EvaluationInputs
    split: str
    models: list[RNAGAN]
    null: RNAGAN | None
    shards: ShardSet
    cohort: pd.DataFrame
    expression: Expression | None
    about: pd.DataFrame
    samples: pd.Index
    left_out: pd.Index
    pictured: pd.DataFrame
    rows: pd.DataFrame
    own_people: bool
    split_by: str = "donor"

    @property
    def claim(self) -> Claim | None:
        """How far scores reach, where that isn't to people who were never seen."""
        return claim_of(self.split_by)

    @property
    def caveats(self) -> list[str]:
        """The claim's sentence, where there is one."""
        return [] if self.claim is None else [self.claim.sentence]

    @property
    def model(self) -> RNAGAN:
        return self.models[0]

    @property
    def resolution(self) -> int:
        return self.model.config.resolution

    def real(self) -> Iterator[Tiles]:
        """Real tiles (tiles, H, W, 3) of each of `rows`."""
        return tiles_of_slides(self.shards, self.rows, self.resolution)

    def generated(self, model: RNAGAN, seed: int) -> Iterator[Tiles]:
        """As many generated ones of each of `rows`, from its own profile."""
        names = noise_names(self.shards, self.rows)
        return model.generate_each(self.latents_of_rows(model), names, self.rows["tiles"].tolist(), seed)

    def real_of(self, samples: pd.Index, n: int) -> Iterator[tuple[str, Tiles]]:
        """Each of the samples that has any real tiles, with up to `n` of them, taken evenly from its slides."""
        rows = self.pictured[self.pictured["sample"].isin(samples)]
        return real_tiles(self.shards, rows, n, self.resolution)

    def generated_of(self, model: RNAGAN, samples: pd.Index, n: int, seed: int) -> Iterator[tuple[str, Tiles]]:
        """Each sample with `n` tiles (n, H, W, 3) generated from its profile."""
        tiles = model.generate_each(self.latents(model, samples), samples.tolist(), [n] * len(samples), seed)
        with progress.bar(len(samples), "profile", "Generating") as bar:
            for sample, own in zip(samples, tiles, strict=True):
                yield sample, own
                bar.update()

    def latents(self, model: RNAGAN, samples: Iterable[str]) -> NDArray[np.float32]:
        """The latents of samples' profiles, (samples, latent)."""
        assert self.expression is not None
        places = self.expression.obs.index.get_indexer(pd.Index(samples))
        return model.latents(self.expression.values[places], self.expression.genes, self.expression.units)

    def latents_of_rows(self, model: RNAGAN) -> NDArray[np.float32] | None:
        """The latent of each of `rows`, (rows, latent); None where the model takes none."""
        return None if model.encoder is None else self.latents(model, self.rows["sample"])

    def train_rows(self, tiles_per_slide: int) -> pd.DataFrame:
        """Slides of the training split with tiles, as the model was trained on them: columns of the cohort table and
        `tiles`, by slide. Raises `ValueError` where there are none."""
        rows = _with_tiles(self.cohort[self.cohort["split"] == "train"], self.shards, tiles_per_slide)
        if rows.empty:
            raise ValueError(f"No slide of the training split has tiles in {self.shards.address}.")
        key = _key(self.shards)
        return rows.drop_duplicates(key).sort_values(key).reset_index(drop=True)

    def need_tiles(self) -> None:
        """Raise `ValueError` where the evaluated split has no real tiles."""
        _need_tiles(self.rows, self.split)

    def need_mpp(self) -> float:
        """µm per px of the model's tiles; raises `ValueError` where it is unknown, since nothing can be measured."""
        if self.model.mpp is None:
            raise ValueError(f"{self.inputs.model} doesn't say the µm per px of its tiles, so they can't be measured.")
        return self.model.mpp

    def truth(self, samples: pd.Index) -> pd.DataFrame | None:
        """The truth table by sample, with numbers as measures; None where there is none. Raises `ValueError` where it
        lacks columns or samples, or where tiles can't be measured."""
        if self.inputs.truth is None:
            return None
        self.need_mpp()
        if self.shards.mpp is None:
            raise ValueError(f"{self.inputs.shards} doesn't say the µm per px of its tiles, so they can't be measured.")
        return read_truth(self.inputs.truth, samples)


def open_evaluation_set(
    inputs: EvaluationInputs,
    split: str,
    tiles: int = ALL_TILES,
    need: Need = "tiles",
    device: str | torch.device = AUTO,
    options: SamplingOptions = NO_OPTIONS,
) -> EvaluationSet:
    """Load the models of `inputs` on a device (as `choose_device` takes it), and `make_evaluation_set`. `options`: how
    all of them generate, where not as they do by themselves."""
    models = [open_model(folder, device, options=options) for folder in (inputs.model, *inputs.beside)]
    null = None if inputs.null is None else open_model(inputs.null, device, options=options)
    return make_evaluation_set(models, inputs, split, tiles, need, null)


def make_evaluation_set(
    models: Sequence[RNAGAN],
    inputs: EvaluationInputs,
    split: str,
    tiles: int = ALL_TILES,
    need: Need = "tiles",
    null: RNAGAN | None = None,
) -> EvaluationSet:
    """The profiles and tiles of a split, at most `tiles` of a slide. `need`: real tiles must be there, or
    profiles, which all models take.

    Raises `ValueError` where models generate tiles of several sizes or of another size or µm per px than the real ones;
    where `null` is no null; where a profile's name comes twice; where cohort table and expression file were split
    differently; where a model has seen the donors of a held-out split; where nothing is left to evaluate.
    """
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    check_sizes(models, shards)
    for model in models:
        if need == "profiles" and model.encoder is None:
            raise ValueError(f"{inputs.model} was trained in mode {model.config.mode}: it takes no profiles.")
    if null is not None:
        _check_null(null, models[0], inputs.null)
    expression = _read_profiles(models, inputs, cohort)
    wheres = {model.config.where for model in models} - {""}
    for where in wheres:
        cohort = cohort[matching_rows(cohort, where)]
    about = _about(expression, cohort)
    tissues = sorted(set.intersection(*(set(model.tissues) for model in models)))
    known = about["tissue"].isin(tissues)
    if wheres:
        known &= about.index.isin(cohort["sample"])
    evaluated, left_out = (known & (about["split"] == name) for name in (split, LEFT_OUT))
    pictured = _with_tiles(cohort, shards, tiles)
    if expression is not None:
        pictured = pictured[pictured["sample"].isin(about.index)]
    pictured = pictured.drop_duplicates(_key(shards))
    rows = pictured[(pictured["split"] == split) & pictured["tissue"].isin(tissues)].sort_values(_key(shards))
    rows = rows[["slide", "sample", "donor", "tissue", "tiles"]].reset_index(drop=True)
    if need == "tiles":
        _need_tiles(rows, split)
    if expression is not None and not evaluated.any():
        raise ValueError(f"{inputs.expression} has no profile of {', '.join(tissues)} in split {split}.")
    by = split_by(cohort, str(inputs.cohort))
    if expression is not None and by not in ("section", "block"):
        by = expression.split_by
    if split != "train" and by == "donor":
        of_images = pictured["split"].isin((split, LEFT_OUT)) & pictured["tissue"].isin(tissues)
        donors = [*about.loc[evaluated | left_out, "donor"], *everyone(pictured, of_images)]
        for model in (*models, *([] if null is None else [null])):
            refuse_seen(donors, model.train_donors, split, "a model", "the cohort table that it was trained with")
    if split != "train" and by in ("section", "block"):
        _refuse_other_split(inputs, by)
    return EvaluationSet(
        inputs,
        split,
        list(models),
        null,
        shards,
        cohort,
        expression,
        about,
        about.index[evaluated],
        about.index[left_out],
        pictured,
        rows,
        has_own_people(cohort),
        by,
    )


def _need_tiles(rows: pd.DataFrame, split: str) -> None:
    if rows.empty:
        raise ValueError(f"No slide of split {split} has tiles of a tissue that the models know, and a profile.")


def has_own_people(cohort: pd.DataFrame) -> bool:
    """Whether tiles of a cohort table are of the profiles' own donors, and not merely of the same tissue."""
    return "image_donor" not in cohort or not (cohort["image_donor"] != "").any()


def noise_names(shards: ShardSet, rows: pd.DataFrame) -> list[str]:
    """The names by which the noise of the rows' generated tiles is drawn."""
    return [f"held-out/{name}" for name in row_names(shards, rows)]


def _key(shards: ShardSet) -> list[str]:
    """Columns that tell rows apart."""
    return ["slide"] if shards.profiles is None else ["slide", "sample"]


def read_truth(path: Path, samples: pd.Index, more: Sequence[str] = ("donor", "site")) -> pd.DataFrame:
    """A truth table by sample, its measures as numbers. Raises `ValueError` where it lacks samples, tissue, a measure,
    or one of the columns `more`."""
    truth = read_table(path)
    need_columns(list(truth), ("sample", "tissue", *more, *MEASURES), path)
    try:
        truth[list(MEASURES)] = truth[list(MEASURES)].apply(pd.to_numeric)
    except ValueError as error:
        raise ValueError(f"{path} holds a measure that is no number ({error}).") from None
    truth = truth.drop_duplicates("sample").set_index("sample")
    unknown = samples.difference(truth.index)
    if len(unknown):
        raise ValueError(f"{path} lacks {len(unknown)} samples ({unknown[0]} …); give that of this cohort.")
    return truth


def _with_tiles(rows: pd.DataFrame, shards: ShardSet, most: int) -> pd.DataFrame:
    """The rows that have tiles, with how many are used as `tiles`."""
    stored = shards.stored(rows)
    return rows.assign(tiles=stored.clip(max=most))[stored > 0]


def _about(expression: Expression | None, cohort: pd.DataFrame) -> pd.DataFrame:
    if expression is None:
        return pd.DataFrame(
            columns=["donor", "tissue", "split", "site"], index=pd.Index([], name="sample", dtype=object)
        )
    site = cohort.drop_duplicates("sample").set_index("sample")["site"]
    return expression.obs.assign(site=site.reindex(expression.obs.index).fillna(""))


def check_sizes(models: Sequence[RNAGAN], shards: ShardSet) -> None:
    """Refuse models that generate tiles of several sizes, or tiles of another size or µm per px than the real ones."""
    sizes = sorted({model.config.resolution for model in models})
    if len(sizes) > 1:
        raise ValueError(f"The models generate tiles of {' and '.join(map(str, sizes))} px; compare those of one size.")
    instead = "give shards of the kind that it was trained on."
    if shards.tile_px % sizes[0]:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, the models generate {sizes[0]} px; {instead}"
        )
    real = shards.mpp_at(sizes[0])
    for model in models:
        if model.mpp and real and abs(real / model.mpp - 1) > MPP_TOLERANCE:
            raise ValueError(
                f"{shards.address} holds tiles of {shards.tile_px} px at {shards.mpp} µm per px, and a model generates "
                f"{sizes[0]} px at {model.mpp}; {instead}"
            )


def _refuse_other_split(inputs: EvaluationInputs, by: str) -> None:
    """Refuse models that were trained with another cohort table, where donors don't say what was held out."""
    own = sha256_of_file(inputs.cohort)
    for folder in (inputs.model, *inputs.beside, *([] if inputs.null is None else [inputs.null])):
        record = read_model_record(model_folder(folder))
        if record is not None and record["made_from"].get("cohort") != own:
            raise ValueError(
                f"{inputs.cohort} is split by {by}, and {folder} was trained with another cohort table: it may have "
                "seen what is evaluated. Give the table that it was trained with."
            )


def _check_null(null: RNAGAN, model: RNAGAN, path: Path | None) -> None:
    """Refuse a null that saw its own profiles, or that can't be compared."""
    if not null.config.shuffle_profiles:
        raise ValueError(
            f"{path} was trained on each slide's own profile, so it is no null; train one with --shuffle-profiles."
        )
    same = (null.config.resolution, null.mpp, sorted(null.tissues)) == (
        model.config.resolution,
        model.mpp,
        sorted(model.tissues),
    )
    if not same:
        raise ValueError(f"{path} generates tiles of another kind or other tissues than the model; train it alike.")


def _read_profiles(models: Sequence[RNAGAN], inputs: EvaluationInputs, cohort: pd.DataFrame) -> Expression | None:
    encoders = [model.encoder for model in models if model.encoder is not None]
    if not encoders:
        return None
    if inputs.expression is None:
        raise ValueError("A model generates from profiles; give --expression.")
    if len({one.key if isinstance(one, EmbeddingModel) else "" for one in encoders}) > 1:
        raise ValueError("The models take genes or embeddings of several names; compare those that take the same.")
    expression = encoders[0].read(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    return expression
