"""One GAN run from paths: join tiles with profiles, train, and leave a model folder."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from rnagan import progress
from rnagan.cohort.donors import donor_digest, seen_donors
from rnagan.cohort.table import read_cohort
from rnagan.config import GANConfig, load_config
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.order import Order
from rnagan.data.selection import Selection, make_order, read_weights, select
from rnagan.expression.store import check_same_splits, read_expression
from rnagan.files import read_json, sha256_of, sha256_of_file
from rnagan.models.condition import make_bottleneck
from rnagan.pretrained import model_folder, write_model
from rnagan.tables import first_few
from rnagan.training.engine import uses_deepspeed
from rnagan.training.fine_tuning import EarlierRun
from rnagan.training.gan import GANTrainer, Profiles
from rnagan.training.gan_checks import check_run
from rnagan.training.gan_validation import GANValidation, candidates, choose_rows, what_is_missing
from rnagan.training.latents import LatentTable, latent_table
from rnagan.training.launch import start
from rnagan.training.null_profiles import shuffled_samples
from rnagan.training.resume import check_made_from
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


def train_gan(config: GANConfig, inputs: GANInputs, out: Path, dry_run: bool = False) -> bool:
    """Train into the run folder `out` and write `out/model`; False if a signal stopped it before its end.

    A finished run is left as it is, a broken one goes on. Raises `ValueError` or `FileNotFoundError` with one sentence
    on inputs that don't fit together.
    """
    _check_paths(config, inputs)
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    selection = select(shards, cohort, "train", config.tiles_per_slide, config.where)
    made_from = _digests(config, inputs, shards, selection)
    earlier = _earlier(config, inputs, made_from, shards, cohort, out)
    if (images := _images_if_finished(config, made_from, out)) is not None:
        progress.say(f"{out} is up to date ({images:,} images).")
        return True
    # Before anything is computed: it sets the number of threads, which decides how sums are rounded.
    accelerator = start(config.precision, config.seed, config.threads, two_networks=True)
    on_gpus = accelerator.device.type == "cuda"
    check_run(config, shards, accelerator.num_processes, on_gpus, uses_deepspeed(accelerator))
    validates = config.validate_every > 0 and (config.validate_every <= config.images or earlier is not None)
    profiles = table = None
    if config.mode == "rnagan":

        def keep(digest: str, encode: Callable[[], LatentTable]) -> LatentTable:
            return encode() if dry_run else latent_table(Path(out), digest, encode, accelerator)

        validation_samples = candidates(config, shards, cohort)[0]["sample"].tolist() if validates else []
        selection, profiles, table = _join_profiles(
            config, inputs, made_from, cohort, selection, validation_samples, keep
        )
        if earlier is not None and earlier.bottleneck is not None:
            profiles = dataclasses.replace(profiles, bottleneck=earlier.bottleneck)
    order = make_order(selection, config)
    config = config.counted_in_images(order.epoch_length)  # which tiles are in use is known only now
    if accelerator.is_main_process:
        _describe(config, selection, order, profiles, accelerator.num_processes)
        if earlier is not None:
            _describe_start(earlier, selection)
    validation = None
    if validates:
        validation = _make_validation(config, shards, cohort, selection, profiles, table, out, accelerator)
    if dry_run:
        return True
    trainer = GANTrainer(config, accelerator, out, shards, selection, order, made_from, profiles, earlier, validation)

    def write(folder: str) -> None:
        told = {
            "mpp": trainer.mpp,
            "tissues": sorted(selection.table.loc[order.counts > 0, "tissue"].unique()),
            "train_donors": _train_donors(cohort, earlier),
            "images": trainer.images,
            "made_from": made_from,
        }
        bottleneck = None if profiles is None else profiles.bottleneck
        write_model(Path(out) / folder, config, trainer.average.module, bottleneck, inputs.vae, told)

    trainer.on_best = functools.partial(write, "model-best")
    finished, failed = False, True
    try:
        finished = trainer.train()
        if accelerator.is_main_process:
            write("model")
            progress.say(f"{'Finished' if finished else 'Stopped'} at {trainer.images:,} images: {out}/model")
        failed = False
    finally:
        trainer.close(finished, failed)
    return finished


def _digests(config: GANConfig, inputs: GANInputs, shards: ShardSet, selection: Selection) -> dict[str, str]:
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


def _earlier(
    config: GANConfig,
    inputs: GANInputs,
    made_from: dict[str, str],
    shards: ShardSet,
    cohort: pd.DataFrame,
    out: Path,
) -> EarlierRun | None:
    """The run that a new one starts from, which is part of what it is made from."""
    if inputs.init_from is None:
        return None
    if Path(inputs.init_from).resolve() == Path(out).resolve():
        raise ValueError(f"{out} can't start from itself: choose another --out (without --init-from it goes on).")
    earlier = EarlierRun.open(inputs.init_from)
    earlier.check_fits(config, made_from.get("vae"), shards.mpp_at(config.resolution), cohort)
    made_from["earlier run"] = earlier.digest()
    return earlier


def _describe_start(earlier: EarlierRun, selection: Selection) -> None:
    progress.say(f"Starts from {earlier.folder} at {earlier.images:,} images ({', '.join(earlier.tissues)}).")
    missing = sorted(set(earlier.tissues) - set(selection.table["tissue"]))
    if missing:
        progress.say(f"Without tiles of {', '.join(missing)}, which the earlier run learnt and this one will forget.")


def _train_donors(cohort: pd.DataFrame, earlier: EarlierRun | None) -> list[str]:
    """Digests of all donors that the networks have seen."""
    own = set(map(donor_digest, cohort.loc[cohort["split"] == "train", "donor"].unique()))
    return sorted(own | set(earlier.train_donors if earlier else ()))


def _images_if_finished(config: GANConfig, made_from: dict[str, str], out: Path) -> int | None:
    """The images of the whole run, if `out` holds it finished."""
    try:
        folder = model_folder(out)
    except FileNotFoundError:
        return None
    told = read_json(folder / "model.json")
    if told.get("format") != "rnagan-model":
        raise ValueError(f"{out} holds a run of another kind; choose another --out.")
    check_made_from(made_from, told["made_from"], out)
    before = load_config(GANConfig, folder / "config.yaml")
    if config.epochs and config.epochs == before.epochs:
        config = config.replace(images=before.images)  # of the same inputs, so an epoch is as long
    return config.images if told["images"] >= config.images and before == config else None


def _check_paths(config: GANConfig, inputs: GANInputs) -> None:
    if config.mode == "rnagan" and (inputs.expression is None or inputs.vae is None):
        raise ValueError("mode rnagan needs --expression and --vae; without profiles use --mode gan.")


def _join_profiles(
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


def _make_validation(
    config: GANConfig,
    shards: ShardSet,
    cohort: pd.DataFrame,
    selection: Selection,
    profiles: Profiles | None,
    table: LatentTable | None,
    out: Path,
    accelerator: Accelerator,
) -> GANValidation | None:
    """What the run is validated on, or None where there is nothing."""
    rows = choose_rows(config, shards, cohort, selection, None if table is None else table.samples)
    missing = what_is_missing(config, rows, shards.mpp_at(config.resolution))
    if missing and accelerator.is_main_process:
        progress.say(missing)
    if rows["tiles"].sum() < 2:
        return None
    conditions = None
    if profiles is not None and table is not None:
        conditions = profiles.bottleneck(torch.from_numpy(table.of(rows["sample"].tolist())))
    return GANValidation(config, shards, rows, conditions, out, accelerator.device)


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


def _describe(config: GANConfig, selection: Selection, order: Order, profiles: Profiles | None, processes: int) -> None:
    used = selection.table[order.counts > 0]
    tissues = ", ".join(f"{n} {tissue}" for tissue, n in used["tissue"].value_counts().items())
    progress.say(f"{order.epoch_length:,} tiles of {len(used):,} training slides ({tissues}).")
    for reason, names in selection.left_out.items():
        if names:
            progress.say(f"Left out {len(names):,} {reason}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}")
    if profiles is not None:
        if config.shuffle_profiles:
            progress.say("Each slide has the profile of another donor of its tissue: this model is the null.")
        progress.say(f"Condition: {profiles.bottleneck.width} of {profiles.latents.shape[1]} latent units.")
    steps = math.ceil(config.images / config.batch_size)
    progress.say(
        f"{config.images:,} images in {steps:,} critic steps of {config.batch_size} "
        f"({processes} × {config.batch_size // processes}), {config.images / order.epoch_length:.1f} epochs."
    )
