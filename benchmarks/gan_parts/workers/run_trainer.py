"""The whole trainer on shards of JPEG tiles, against its own step on batches that are already there."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
import torch
from serving import serve

from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.selection import make_order, select
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.tracking.run_log import RunLog
from rnagan.training.launch import start
from rnagan.training.run import TrainingRun
from rnagan.training.tile_inputs import TileData
from rnagan.training.tile_trainer import TileTrainer

SLIDES, TILES = 8, 40
_RUN: dict[str, Any] = {}


def run(request: dict[str, Any]) -> dict[str, Any]:
    """`do` trainer: steps with all that comes beside them; bare: the same steps alone."""
    if not _RUN:
        _set_up(request)
    steps = request["steps"]
    return _whole(steps) if request["do"] == "trainer" else _bare(steps)


def _whole(steps: int) -> dict[str, Any]:
    """A stretch of the run: between the end of one iteration and the end of that `steps` later."""
    trainer, ends = _RUN["trainer"], []
    usual = type(trainer)._now_and_then

    def noting(*arguments: Any) -> None:
        usual(trainer, *arguments)
        ends.append(time.perf_counter())

    trainer._now_and_then = noting
    size = trainer.config.batch_size
    trainer.config = trainer.config.replace(images=trainer.images + (steps + 1) * size)
    trainer.save = lambda last=False: None  # a checkpoint comes after so many images, not after each stretch
    trainer.train()
    return {"seconds": ends[-1] - ends[0], "tiles": (len(ends) - 1) * size}


def _bare(steps: int) -> dict[str, Any]:
    trainer, size = _RUN["trainer"], _RUN["trainer"].config.batch_size
    side = trainer.config.resolution
    tiles = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8)
    began = time.perf_counter()
    for number in range(steps):
        trainer.step(
            number * size, tiles, None, number % trainer.config.critic_steps == trainer.config.critic_steps - 1
        )
    return {"seconds": time.perf_counter() - began, "tiles": steps * size}


def _set_up(request: dict[str, Any]) -> None:
    folder = Path(request["out"]).parent / f"trainer_{os.getpid()}"
    if not request["mlflow"]:
        RunLog._start_mlflow = lambda *_: None  # type: ignore[method-assign]
    config = GANConfig(**request["config"], mode="gan", threads=len(os.sched_getaffinity(0)))
    draw, side = np.random.default_rng(0), config.resolution
    for k in range(SLIDES):
        with ShardWriter(folder / "shards", f"S{k}") as shard:
            for n in range(TILES):
                coarse = draw.integers(60, 240, (side // 8, side // 8, 3), np.uint8)
                tile = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
                jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 90, "RGB")
                shard.add(f"S{k}_x{n}_y0", jpeg, {"slide": f"S{k}"}, n, 0)
            shard.commit("done", {}, {}, {"tile_px": side, "mpp": 0.5}, {})
    write_digest(folder / "shards")
    rows = [(f"S{k}", f"S{k}", f"D{k}", "lung", "train", "") for k in range(SLIDES)]
    cohort = pd.DataFrame(rows, columns=["slide", "sample", "donor", "tissue", "split", "site"])
    shards = open_dataset(folder / "shards")
    selection = select(shards, cohort, "train", config.tiles_per_slide)
    accelerator = start(config.precision, config.seed, config.threads)
    opened = TrainingRun(folder / "run", config, accelerator, {})
    order = make_order(selection, config.seed, config.window_slides, config.tile_order, config.tissue_weights)
    _RUN["trainer"] = TileTrainer(config, opened, TileData(shards, selection, order))


if __name__ == "__main__":
    serve(run)
