"""The profile of each tile that a generator is trained on: encoded once, and joined with the rows of a selection."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import model_folder
from rnagan.cohort.leakage import check_same_splits, donor_digest, seen_donors
from rnagan.config.families import TileConfig
from rnagan.data.selection import Selection
from rnagan.expression.h5ad import read_embedding
from rnagan.io.provenance import asked
from rnagan.io.tables import first_few
from rnagan.models.conditioning import make_bottleneck
from rnagan.models.embedding import EmbeddingModel, embedding_key, save_embedding
from rnagan.models.encoder import Encoder, load_encoder
from rnagan.runtime import rng
from rnagan.runtime.distributed import processes
from rnagan.training.latent_table import LatentTable
from rnagan.training.tile_inputs import Profiles, TileInputs

FIXED_PROFILES = 8  # validation profiles generated in every sample grid


def join_profiles(
    config: TileConfig,
    inputs: TileInputs,
    made_from: dict[str, str],
    cohort: pd.DataFrame,
    selection: Selection,
    validation_samples: list[str],
    keep: Callable[[str, Callable[[], LatentTable]], LatentTable],
    opened: Callable[[], Encoder],
    stains_of: Callable[[Selection], NDArray[np.float64]],
) -> tuple[Selection, Profiles, LatentTable]:
    """The latent of every profile of the selection; slides whose profile isn't there are left out, by name.

    The table also holds those of `validation_samples` that have a profile. `keep` returns a table that was made from
    the same before, or else makes it. The main process alone has the encoder `opened` and reads the profiles; every
    process must call.
    """

    def encoded() -> tuple[LatentTable, tuple[NDArray, NDArray, NDArray]]:
        encoder = opened()
        digest = asked(made_from=made_from, samples=selection.table["sample"].tolist(), validation=validation_samples)
        found = keep(digest, functools.partial(_encode, inputs, encoder, cohort, selection, validation_samples))
        return found, (encoder.space.active, encoder.space.mean, encoder.space.sd)

    table, space = processes().from_main(encoded)
    known = selection.table["sample"].isin(table.samples).to_numpy()
    what, name = ("slides", "slide") if selection.stored is None else ("tiles' profiles", "sample")
    without = selection.table.loc[~known, name].tolist()
    selection = selection.only(known, {f"{what} without a profile": without})
    stains = nuisance = None
    if config.nuisance == "section_stain":
        stains = torch.from_numpy(processes().from_main(functools.partial(stains_of, selection)))
        each = stains[~torch.from_numpy(selection.table["slide"].duplicated().to_numpy())]  # a slide once
        nuisance = each.mean(0), each.std(0, correction=0).clamp(min=1e-6)
    active, mean, sd = map(torch.from_numpy, space)
    bottleneck = make_bottleneck(config, active, mean, sd, nuisance)
    own = selection.table["sample"].tolist()
    if config.shuffle_profiles:
        given = shuffled_samples(selection.table, config.seed, selection.stored is not None)
    else:
        given = own
    latents, shown = (torch.from_numpy(table.of(samples)) for samples in (given, table.shown))
    return selection, Profiles(bottleneck, latents, shown, stains), table


def shuffled_samples(table: pd.DataFrame, seed: int, own_profiles: bool = False) -> list[str]:
    """The sample whose profile each row of `table` (sample, donor, tissue) gets instead of its own.

    Within a tissue the donors are put in a circle at random and each takes the profiles of the next, so each profile is
    used by one donor, and nobody keeps an own one where a tissue has two donors or more. A donor's k-th sample goes to
    the k-th of the next, beginning again where that one has fewer. Where a tissue is one donor's and tiles have
    profiles of their own (`own_profiles`), the samples themselves are put in a circle.
    """
    given: dict[tuple[str, str], str] = {}
    for tissue, rows in table.groupby("tissue", observed=True):
        samples = {donor: sorted(set(own)) for donor, own in rows.groupby("donor", observed=True)["sample"]}
        if own_profiles and len(samples) == 1:
            samples = {sample: [sample] for sample in rows["sample"]}
        circle = rng.generator(seed, f"null profiles/{tissue}").permutation(sorted(samples)).tolist()
        for donor, other in zip(circle, circle[1:] + circle[:1], strict=True):
            for k, sample in enumerate(samples[donor]):
                given[str(tissue), sample] = samples[other][k % len(samples[other])]
    return [given[key] for key in zip(table["tissue"], table["sample"], strict=True)]


def encoder_folder(inputs: TileInputs, out: Path) -> Path:
    """The folder of the encoder of a run's profiles: of the VAE given, or `out/embedding`."""
    return out / "embedding" if inputs.vae is None else model_folder(inputs.vae)


def open_encoder(inputs: TileInputs, out: Path, dry_run: bool) -> Encoder:
    """The encoder of a run's profiles, which is made of their embedding where no VAE is given, and is then in its
    folder unless it is a dry run. For the main process."""
    folder = encoder_folder(inputs, out)
    if inputs.vae is not None:
        return load_encoder(folder)
    assert inputs.embedding is not None and inputs.expression is not None
    key = embedding_key(inputs.embedding)
    expression = read_embedding(inputs.expression, key)
    train = expression.obs["donor"][expression.obs["split"] == "train"].unique()
    encoder = EmbeddingModel.fit(expression, key, {"train_donors": sorted(map(donor_digest, train))})
    if not dry_run:
        save_embedding(folder, encoder)
    return encoder


def _encode(
    inputs: TileInputs, encoder: Encoder, cohort: pd.DataFrame, selection: Selection, validation_samples: list[str]
) -> LatentTable:
    """Latents of the selection's profiles, of those generated in sample grids, and of the validation's."""
    assert inputs.expression is not None
    expression = encoder.read(inputs.expression)
    check_same_splits(cohort, expression.obs, inputs.cohort, inputs.expression)
    held_out = expression.obs.loc[expression.obs["split"] != "train", "donor"]
    seen = seen_donors(held_out, encoder.record["train_donors"])
    if seen and expression.split_by == "donor":
        raise ValueError(
            f"{inputs.vae} was trained on donors that {inputs.expression} holds out ({first_few(seen)}); train a VAE "
            "with these splits."
        )
    own = selection.table["sample"][selection.table["sample"].isin(expression.obs.index)].unique().tolist()
    if not own:
        raise ValueError(f"No slide of the training split has a profile in {inputs.expression}.")
    validation = expression.obs.index[expression.obs["split"] == "validation"]
    shown = _few_of_each_tissue(expression.obs.loc[validation, "tissue"], selection.table["tissue"].unique())
    shown = shown or own[:FIXED_PROFILES]
    validated = [sample for sample in validation_samples if sample in expression.obs.index]
    samples = list(dict.fromkeys([*own, *shown, *validated]))
    rows = expression.obs.index.get_indexer(samples)
    encoding = encoder.encode(expression.values[rows], expression.genes, expression.units)
    return LatentTable(samples, encoding.latents, shown)


def _few_of_each_tissue(tissue_of: pd.Series, tissues: np.ndarray) -> list[str]:
    each = max(1, FIXED_PROFILES // len(tissues))
    return [sample for tissue in sorted(tissues) for sample in tissue_of.index[tissue_of == tissue][:each]]
