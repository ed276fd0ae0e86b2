"""One SimCLR run from paths: choose tiles, train, and leave a backbone."""

from pathlib import Path
from typing import Any

import numpy as np

from rnagan.cohort.leakage import donor_digest, everyone
from rnagan.cohort.table import read_cohort
from rnagan.config.simclr import SimCLRConfig
from rnagan.data.index import ShardSet, open_dataset
from rnagan.data.sampler import TileOrder
from rnagan.data.selection import select
from rnagan.generation import RECORD, Generated
from rnagan.io.files import sha256_of_file
from rnagan.io.json_values import json_of
from rnagan.models.resnet import save_backbone
from rnagan.runtime.distributed import processes
from rnagan.runtime.progress import say
from rnagan.training.deepspeed import asks_for_deepspeed
from rnagan.training.launch import start
from rnagan.training.run import TrainingRun, total_steps
from rnagan.training.same_run import is_made
from rnagan.training.simclr.trainer import SimCLRTrainer


def pretrain_simclr(
    config: SimCLRConfig, address: Path | str, out: Path, cohort: Path | None = None, dry_run: bool = False
) -> bool:
    """Train into the run folder `out` and leave `backbone.safetensors` and `backbone.json` there; False if a signal
    stopped it before its end.

    `address`: shards of tiles, generated or real. With `cohort`, a cohort table, only slides of its training split
    count. A finished run is left as it is, a broken one goes on; both refuse other settings or inputs.
    """
    if asks_for_deepspeed():
        raise ValueError("SimCLR isn't for DeepSpeed: its networks fit a GPU; choose another of launch_configs/.")
    accelerator = start(config.precision, config.seed, config.threads, wait_minutes=config.wait_minutes)
    shards = open_dataset(address)
    slides, counts, donors = _choose(config, shards, cohort)
    made_from = {"shards": shards.digest} | ({} if cohort is None else {"cohort": sha256_of_file(cohort)})
    out, here = Path(out), processes()
    if is_made(config, made_from, out, out / "backbone.json", out / "backbone.safetensors", accelerator):
        return True
    order = TileOrder(counts, config.seed, config.window_slides)
    share = config.batch_size // here.count
    if config.batch_size % here.count:
        raise ValueError(f"batch_size {config.batch_size} can't be shared evenly by {here.count} processes.")
    if accelerator.is_main_process:
        steps = total_steps(config, order.epoch_length)
        say(
            f"{order.epoch_length:,} tiles of {len(slides):,} slides, {shards.tile_px} px: {steps:,} steps of "
            f"{config.batch_size} ({here.count} × {share}), {config.epochs} epochs."
        )
        if config.norm == "batch" and here.count > 1 and accelerator.device.type == "cpu":
            say("BatchNorm takes its statistics of each process's tiles alone on CPUs; --norm group doesn't.")
    if dry_run:
        return True
    trainer = SimCLRTrainer(config, TrainingRun(out, config, accelerator, made_from), shards, slides, order)
    with trainer.run as run:
        run.finished = trainer.train()
        if run.is_main and run.finished:
            record: dict[str, Any] = {
                "kind": "simclr",
                "backbone": config.backbone,
                "norm": config.norm,
                "resolution": config.resolution or shards.tile_px,
                "mpp": shards.mpp_at(config.resolution or shards.tile_px),
                "images": trainer.images,
                "tiles": order.epoch_length,
                "slides": len(slides),
                "donors": donors,
                "generator": _generator_of(shards),
                "processes": here.count,
                "made_from": made_from,
                "config": config.to_dict(),
            }
            save_backbone(out, trainer.backbone, record)
        if run.is_main:
            say(f"{'Finished' if run.finished else 'Stopped'} at {trainer.images:,} images: {out}")
    return run.finished


def _choose(config: SimCLRConfig, shards: ShardSet, cohort: Path | None) -> tuple[list[str], Any, list[str] | None]:
    """Slides, tiles in use of each, and digests of their donors, and of the profiles that they were paired with (None
    without a cohort table)."""
    if cohort is not None:
        if shards.profiles is not None:
            raise ValueError(
                f"{shards.address} has a profile for each tile, and pre-training can't choose among the tiles of a "
                "slide yet; leave out --cohort, or give shards of whole slides."
            )
        selection = select(shards, read_cohort(cohort), "train", config.tiles_per_slide, config.where)
        donors = sorted(map(donor_digest, everyone(selection.table)))
        return selection.table["slide"].tolist(), selection.counts, donors
    if config.where:
        raise ValueError("where chooses rows of a cohort table; add --cohort.")
    with_tiles = shards.slides[shards.slides["tiles"] > 0].sort_values("slide")
    if with_tiles.empty:
        raise ValueError(f"{shards.address} holds no tile.")
    counts = with_tiles["tiles"].clip(upper=config.tiles_per_slide).to_numpy(np.int64)
    return with_tiles["slide"].tolist(), counts, None


def _generator_of(shards: ShardSet) -> str | None:
    """Digest of the model that generated these tiles, from the `generated.json` beside them; None for real tiles."""
    try:
        data = shards.storage.read_file(RECORD)
    except OSError:
        return None
    return json_of(data, Generated, f"{shards.address}/{RECORD}")["model"]
