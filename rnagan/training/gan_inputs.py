"""What a GAN run is made from: paths, their digests, and every profile's latent joined with the slides."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rnagan.cohort.donors import seen_donors
from rnagan.config import GANConfig
from rnagan.data.index import ShardSet
from rnagan.data.selection import Selection, read_weights
from rnagan.expression.store import check_same_splits, read_expression
from rnagan.files import sha256_of, sha256_of_file
from rnagan.models.condition import Bottleneck, make_bottleneck
from rnagan.pretrained import model_folder
from rnagan.tables import first_few
from rnagan.training.latents import LatentTable
from rnagan.training.null_profiles import shuffled_samples
from rnagan.vae import VAEModel, load_vae

FIXED_PROFILES = 8  # validation profiles painted in every sample grid


@dataclasses.dataclass(frozen=True)
class GANInputs:
    """Paths of a run; `shards` may be a URL. `expression` and `vae` may be None in the modes without profiles.

    `init_from`: an earlier run, whose networks and condition a new one starts from (fine_tuning.py).
    """

    shards: Path | str
    cohort: Path
    expression: Path | None = None
    vae: Path | None = None
    init_from: Path | None = None

    def check(self, config: GANConfig) -> None:
        """Refuse a config whose mode needs what isn't given, with `ValueError`."""
        if config.mode == "rnagan" and (self.expression is None or self.vae is None):
            raise ValueError("mode rnagan needs --expression and --vae; without profiles use --mode gan.")


@dataclasses.dataclass(frozen=True)
class Profiles:
    """Profiles of a run, encoded once; `bottleneck` makes conditions of latents."""

    bottleneck: Bottleneck
    latents: Tensor  # (slides, latent), of the selection's rows
    fixed: Tensor  # (profiles, latent), of the validation donors painted in every sample grid


def digests(config: GANConfig, inputs: GANInputs, shards: ShardSet, selection: Selection) -> dict[str, str]:
    """Digests of everything that a run is made from; the settings are kept beside them."""
    found = {"shards": shards.digest, "cohort": sha256_of_file(inputs.cohort)}
    if config.tissue_weights not in ("natural", "balanced"):
        found["tissue weights"] = sha256_of(read_weights(config.tissue_weights, selection))  # which a table may hold
    if inputs.vae is not None and inputs.expression is not None:
        found |= {
            "vae": sha256_of_file(model_folder(inputs.vae) / "model.json"),
            "expression": sha256_of_file(inputs.expression),
        }
    return found


def join_profiles(
    config: GANConfig,
    inputs: GANInputs,
    made_from: dict[str, str],
    cohort: pd.DataFrame,
    selection: Selection,
    validation_samples: list[str],
    keep: Callable[[str, Callable[[], LatentTable]], LatentTable],
) -> tuple[Selection, Profiles, LatentTable]:
    """The latent of every profile of the selection; slides whose profile isn't there are left out, by name.

    The table also holds those of `validation_samples` that have a profile. `keep` returns a table that was made from
    the same before, or else makes it.
    """
    assert inputs.expression is not None and inputs.vae is not None
    vae = load_vae(model_folder(inputs.vae))
    table = keep(
        sha256_of([made_from, selection.table["sample"].tolist(), validation_samples]),
        functools.partial(_encode, inputs, vae, cohort, selection, validation_samples),
    )
    known = selection.table["sample"].isin(table.samples).to_numpy()
    without = selection.table.loc[~known, "slide"].tolist()
    selection = Selection(
        selection.table[known].reset_index(drop=True),
        selection.counts[known],
        selection.left_out | {"slides without a profile": without},
    )
    bottleneck = make_bottleneck(
        config, *(torch.from_numpy(a) for a in (vae.space.active, vae.space.mean, vae.space.sd))
    )
    own = selection.table["sample"].tolist()
    given = shuffled_samples(selection.table, config.seed) if config.shuffle_profiles else own
    latents, shown = (torch.from_numpy(table.of(samples)) for samples in (given, table.shown))
    return selection, Profiles(bottleneck, latents, shown), table


def _encode(
    inputs: GANInputs, vae: VAEModel, cohort: pd.DataFrame, selection: Selection, validation_samples: list[str]
) -> LatentTable:
    """Latents of the selection's profiles, of those painted in sample grids, and of the validation's."""
    assert inputs.expression is not None
    expression = read_expression(inputs.expression)
    check_same_splits(cohort, expression, inputs.cohort, inputs.expression)
    held_out = expression.obs.loc[expression.obs["split"] != "train", "donor"]
    seen = seen_donors(held_out, vae.record["train_donors"])
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
    encoding = vae.encode(expression.values[rows], expression.genes, expression.units)
    return LatentTable(samples, encoding.latents, shown)


def _few_of_each_tissue(tissue_of: pd.Series, tissues: np.ndarray) -> list[str]:
    each = max(1, FIXED_PROFILES // len(tissues))
    return [sample for tissue in sorted(tissues) for sample in tissue_of.index[tissue_of == tissue][:each]]
