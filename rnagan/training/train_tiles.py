"""One run of a generator of any family from paths: join tiles with profiles, train, and leave a model folder."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor

from rnagan.api import model_folder, read_model_record, write_model
from rnagan.cohort.leakage import donor_digest, everyone
from rnagan.cohort.table import claim_of, read_cohort, split_by
from rnagan.config.base import family, load_config
from rnagan.config.families import TileConfig
from rnagan.config.gan import GANConfig
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.selection import Selection, make_order, select
from rnagan.evaluation.tile_scores import of_few_tiles
from rnagan.runtime import progress
from rnagan.runtime.distributed import processes
from rnagan.training.deepspeed import uses_deepspeed
from rnagan.training.joined_profiles import encoder_folder, join_profiles, open_encoder
from rnagan.training.latent_table import LatentTable, latent_table
from rnagan.training.launch import end_together, start
from rnagan.training.nuisance import section_stains
from rnagan.training.run import TrainingRun
from rnagan.training.run_checks import check_device, check_run
from rnagan.training.same_run import check_made_from
from rnagan.training.tile_inputs import TileData, TileInputs, digests
from rnagan.training.tile_trainer import TileTrainer
from rnagan.training.validation import TileValidation
from rnagan.training.validation_rows import candidates, choose_rows, what_is_missing
from rnagan.training.warm_start import EarlierRun


def train_tiles(
    config: TileConfig,
    inputs: TileInputs,
    out: Path,
    dry_run: bool = False,
    tags: Mapping[str, str] | None = None,
    forecast: Callable[[Any, int, int, int], list[str]] | None = None,
) -> bool:
    """Train into the run folder `out` and write `out/model`; False if a signal stopped it before its end.

    A finished run is left as it is, a broken one goes on. `tags`: what MLflow shall say of the run beside its own tags;
    `sweep` makes it a child of that sweep's run. `forecast`: of a dry run, lines on its cost for the config, the width
    of its condition, processes and tissues. Raises `ValueError` or `FileNotFoundError` with one sentence on inputs that
    don't fit together.
    """
    inputs.check(config)
    # Before anything is computed: it sets the number of threads, which decides how sums are rounded.
    accelerator = start(
        config.precision, config.seed, config.threads, isinstance(config, GANConfig), config.wait_minutes
    )
    check_device(config, accelerator.device)
    here = processes()  # the main one reads, hashes and decides for all: others may see files late
    shards, cohort = open_dataset(inputs.shards), read_cohort(inputs.cohort)
    selection = select(shards, cohort, "train", config.tiles_per_slide, config.where)
    made_from = here.from_main(lambda: digests(config, inputs, shards, selection))
    earlier = _earlier(config, inputs, made_from, shards, cohort, out)
    if (images := here.from_main(lambda: _images_if_finished(config, made_from, out))) is not None:
        if here.is_main:
            progress.say(f"{out} is up to date ({images:,} images).")
        end_together(accelerator, wait=True)
        return True
    on_gpus = accelerator.device.type == "cuda"
    check_run(config, shards, accelerator.num_processes, on_gpus, uses_deepspeed(accelerator))
    validates = config.validate_every > 0 and (config.validate_every <= config.images or earlier is not None)
    profiles = table = None
    if config.mode == "rnagan":

        def keep(digest: str, encode: Callable[[], LatentTable]) -> LatentTable:
            return encode() if dry_run else latent_table(Path(out), digest, encode)

        validation_samples = candidates(config, shards, cohort)[0]["sample"].tolist() if validates else []
        selection, profiles, table = join_profiles(
            config,
            inputs,
            made_from,
            cohort,
            selection,
            validation_samples,
            keep,
            functools.partial(open_encoder, inputs, Path(out), dry_run),
            lambda own: section_stains(shards, own, config.resolution, made_from, None if dry_run else Path(out)),
        )
        if earlier is not None and earlier.bottleneck is not None:
            profiles = dataclasses.replace(profiles, bottleneck=earlier.bottleneck)
    order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
    config = config.counted_in_images(order.epoch_length)  # which tiles are in use is known only now
    data = TileData(shards, selection, order, profiles)
    claim = claim_of(split_by(cohort))
    if claim is not None:
        tags = {"split_by": claim.split_by, **(tags or {})}
    if accelerator.is_main_process:
        _describe(config, data, accelerator.num_processes)
        if claim is not None:
            progress.say(claim.sentence)
        if earlier is not None:
            _describe_start(earlier, selection)
    validation = _make_validation(config, data, cohort, table, out, accelerator) if validates else None
    if dry_run:
        if forecast is not None and accelerator.is_main_process:
            width, tissues = 0 if profiles is None else profiles.bottleneck.width, len(data.tissues)
            for line in forecast(config, width, accelerator.num_processes, tissues):
                progress.say(line)
        return True
    donors = _train_donors(cohort, earlier)

    def write(folder: str, images: int, weights: dict[str, Tensor]) -> None:
        record = {
            "mpp": shards.mpp_at(config.resolution),
            "tissues": data.tissues,
            "train_donors": donors,
            "split_by": split_by(cohort),
            "images": images,
            "made_from": made_from,
            "validation_extractor": None if validation is None else validation.extractor_label,
        }
        bottleneck = None if profiles is None else profiles.bottleneck
        link = folder != "model"  # which may be given away, and stands alone
        encoder = None if profiles is None else encoder_folder(inputs, Path(out))
        write_model(Path(out) / folder, config, weights, bottleneck, encoder, record, link)

    on_best = functools.partial(write, "model-best")
    opened = TrainingRun(out, config, accelerator, made_from)
    trainer = TileTrainer(config, opened, data, earlier, validation, on_best, tags)
    with trainer.run as run:
        run.finished = trainer.train()
        if run.is_main:
            write("model", trainer.images, trainer.average.module.state_dict())
            progress.say(f"{'Finished' if run.finished else 'Stopped'} at {trainer.images:,} images: {out}/model")
    return run.finished


def _earlier(
    config: TileConfig,
    inputs: TileInputs,
    made_from: dict[str, str],
    shards: ShardSet,
    cohort: pd.DataFrame,
    out: Path,
) -> EarlierRun | None:
    """The run that a new one starts from; its digest joins `made_from`."""
    if inputs.init_from is None:
        return None
    if Path(inputs.init_from).resolve() == Path(out).resolve():
        raise ValueError(f"{out} can't start from itself: choose another --out (without --init-from it goes on).")
    if not isinstance(config, GANConfig):
        raise ValueError("A flow starts anew: leave --init-from out.")
    earlier = EarlierRun.open(inputs.init_from)
    earlier.check_fits(config, made_from, shards.mpp_at(config.resolution), cohort)
    made_from["earlier run"] = processes().from_main(earlier.digest)
    return earlier


def _describe_start(earlier: EarlierRun, selection: Selection) -> None:
    progress.say(f"Starts from {earlier.folder} at {earlier.images:,} images ({', '.join(earlier.tissues)}).")
    missing = sorted(set(earlier.tissues) - set(selection.table["tissue"]))
    if missing:
        progress.say(f"Without tiles of {', '.join(missing)}, which the earlier run learnt and this one will forget.")


def _train_donors(cohort: pd.DataFrame, earlier: EarlierRun | None) -> list[str]:
    """Digests of all donors that the networks have seen, of profiles and of images."""
    own = set(map(donor_digest, everyone(cohort, cohort["split"] == "train")))
    return sorted(own | set(earlier.train_donors if earlier else ()))


def _images_if_finished(config: TileConfig, made_from: dict[str, str], out: Path) -> int | None:
    """The images of the whole run, if `out` holds it finished."""
    try:
        folder = model_folder(out)
    except FileNotFoundError:
        return None
    record = read_model_record(folder)
    if record is None:
        raise ValueError(f"{out} holds a run of another kind; choose another --out.")
    if record.get("family", "gan") != family(type(config)):
        raise ValueError(f"{out} holds a run of another kind; choose another --out.")
    check_made_from(made_from, record["made_from"], out)
    before = load_config(type(config), folder / "config.yaml")
    if config.epochs and config.epochs == before.epochs:
        config = config.replace(images=before.images)  # of the same inputs, so an epoch is as long
    if config.ema_images == before.ema_images:
        before = before.replace(ema_batch=config.ema_batch)
    return config.images if record["images"] >= config.images and before == config else None


def _make_validation(
    config: TileConfig,
    data: TileData,
    cohort: pd.DataFrame,
    table: LatentTable | None,
    out: Path,
    accelerator: Accelerator,
) -> TileValidation | None:
    """What the run is validated on, or None where there is nothing."""
    rows = choose_rows(config, data.shards, cohort, data.selection, None if table is None else table.samples)
    missing = what_is_missing(config, rows, data.shards.mpp_at(config.resolution))
    if missing and accelerator.is_main_process:
        progress.say(missing)
    if rows["tiles"].sum() < 2:
        return None
    few = of_few_tiles(int(rows["tiles"].sum()))
    if few and accelerator.is_main_process:
        progress.say(f"Validation: {few}")
    conditions = None
    if data.profiles is not None and table is not None:
        conditions = data.profiles.bottleneck(torch.from_numpy(table.of(rows["sample"].tolist())))
    return TileValidation(config, data.shards, rows, conditions, out, accelerator.device)


def _describe(config: TileConfig, data: TileData, processes: int) -> None:
    selection, order, profiles = data.selection, data.order, data.profiles
    used = selection.slides[order.counts > 0]
    of_used = selection.table[selection.table["slide"].isin(used["slide"])]
    tissues = ", ".join(f"{n} {tissue}" for tissue, n in used["tissue"].value_counts().items())
    progress.say(f"{order.epoch_length:,} tiles of {len(used):,} training slides ({tissues}).")
    donors = f"{used['donor'].nunique():,} donors"
    progress.say(f"{donors}." if profiles is None else f"{donors}, {of_used['sample'].nunique():,} profiles.")
    for reason, names in selection.left_out.items():
        if names:
            progress.say(f"Left out {len(names):,} {reason}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}")
    if profiles is not None:
        if config.shuffle_profiles:
            progress.say("Each slide has the profile of another donor of its tissue: this model is the null.")
        units, beside = profiles.bottleneck.units.numel(), ""
        if profiles.stains is not None:
            beside = " and the stain of the tile's slide"
        progress.say(f"Condition: {units} of {profiles.latents.shape[1]} latent units{beside}.")
    steps = math.ceil(config.images / config.batch_size)
    what = "critic steps" if isinstance(config, GANConfig) else "steps"
    progress.say(
        f"{config.images:,} images in {steps:,} {what} of {config.batch_size} "
        f"({processes} × {config.batch_size // processes}), {config.images / order.epoch_length:.1f} epochs."
    )
