"""The SimCLR trainer: set up, train, save, close. The maths of a step is in simclr_step.py."""

import contextlib
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.index import ShardSet
from rnagan.data.loader import Loading, batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import TileOrder
from rnagan.runtime import progress
from rnagan.tracking.run_folder import checkpoint_path, latest_checkpoint
from rnagan.tracking.run_log import RunLog
from rnagan.training import checkpoint
from rnagan.training.checkpoint import moments_of
from rnagan.training.launch import end_together
from rnagan.training.resume import check_made_from, check_same_settings
from rnagan.training.signals import StopSignal
from rnagan.training.simclr.step import SimCLRNetwork, StepRecord, TwoViews, Views, contrastive_loss
from rnagan.training.throughput import Pace

MAY_CHANGE_ON_RESUME = {"threads", "loader_workers", "log_every", "checkpoint_every"}


class SimCLRTrainer:
    """Trains a backbone on the tiles of `slides` in `order`. `step` is the clock; `made_from` as in the other trainers.

    On several GPUs BatchNorm shares its statistics (SyncBatchNorm). On several CPU processes it can't, so there a run
    with norm batch differs a little from one of one process; with norm group it doesn't.
    """

    def __init__(
        self,
        config: SimCLRConfig,
        accelerator: Accelerator,
        out: Path,
        shards: ShardSet,
        slides: list[str],
        order: TileOrder,
        made_from: dict[str, str],
    ) -> None:
        self.config, self.accelerator, self.out, self.made_from = config, accelerator, Path(out), made_from
        self.shards, self.slides, self.order = shards, slides, order
        self.total_steps = total_steps(config, order.epoch_length)
        self.step = 0
        dtype = torch.float64 if config.precision == "float64" else torch.float32
        place = {"device": accelerator.device, "dtype": dtype, "memory_format": torch.channels_last}
        self.network = SimCLRNetwork(config).to(**place)
        self.place = place
        optimizer = torch.optim.SGD(
            self.network.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        stored = self._read_checkpoint()
        if stored is not None:
            stored.load_module("network", self.network)
            stored.load_optimizer("sgd", optimizer)
        network: nn.Module = self.network
        if config.norm == "batch" and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.log = RunLog(
            self.out,
            config,
            "simclr",
            main=accelerator.is_main_process,
            total=self.total_steps * config.batch_size,
            made_from=made_from,
            tags={"kind": "simclr", "processes": str(accelerator.num_processes)},
            resumed_at=None if stored is None else self.images,
            run_id=None if stored is None else stored.state["mlflow_run"],
        )
        self.sums = torch.zeros(len(StepRecord._fields), device=accelerator.device, dtype=dtype)
        self.steps_summed = 0
        self.pace = Pace(self.images, accelerator.device)

    @property
    def images(self) -> int:
        """Tiles seen so far, over all processes."""
        return self.step * self.config.batch_size

    @property
    def backbone(self) -> nn.Module:
        """The network without its head."""
        return self.accelerator.unwrap_model(self.model).backbone

    def train(self) -> bool:
        """Train to the last step; False if a signal stopped it before. Everything is saved either way."""
        shown = progress.bar(self.total_steps * self.config.batch_size, "img", "SimCLR", initial=self.images)
        shown.disable = shown.disable or not self.accelerator.is_main_process
        made = self._views()
        with contextlib.closing(made), StopSignal(self.accelerator) as stop, shown as bar:
            while self.step < self.total_steps and not stop.is_set(self.step):
                self.train_step(next(made))
                bar.update(self.config.batch_size)
                if self._passed(self.config.log_every) or self.step == self.total_steps:
                    bar.set_postfix(loss=f"{self._log_sums()['loss']:.3f}")
                if self._passed(self.config.checkpoint_every) and self.step < self.total_steps:
                    self.save()
        self._log_sums()
        self.save()
        return self.step >= self.total_steps

    def train_step(self, views: Views) -> None:
        """One step on a batch of this process. Both views go through the network together: their BatchNorm is one."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total_steps)
        self.optimizer.zero_grad()
        x = views.x.to(non_blocking=True, **self.place)
        record = contrastive_loss(self.model(x), self.config.temperature, self.accelerator.num_processes)
        self.accelerator.backward(record.loss)
        self.optimizer.step()
        self.sums += torch.stack(record).detach()
        self.steps_summed += 1
        self.step += 1

    def save(self) -> None:
        """Write a checkpoint and delete the one before; only of a state that is finite."""
        self._log_sums()
        folder = checkpoint_path(self.out, self.images)
        if self.accelerator.is_main_process and self.step and not folder.exists():
            state = {
                "kind": "simclr",
                "step": self.step,
                "config": self.config.to_dict(),
                "made_from": self.made_from,
                "mlflow_run": self.log.run_id,
            }
            weights = self.accelerator.unwrap_model(self.model).state_dict()
            checkpoint.save_checkpoint(folder, {"network": weights}, {"sgd": moments_of(self.optimizer)}, state)
            checkpoint.keep(self.out, 1)
        self.accelerator.wait_for_everyone()

    def close(self, finished: bool, failed: bool = False) -> None:
        self.log.close(finished)
        end_together(self.accelerator, wait=not failed)

    def _views(self) -> Generator[Views, None, None]:
        config, accelerator = self.config, self.accelerator
        reader = TileReader(self.shards, self.slides, self.order.counts, config.window_slides)
        resolution = config.resolution or self.shards.tile_px
        loading = Loading(workers=config.loader_workers, transform=TwoViews(config, resolution))
        return batches(
            reader,
            self.order,
            self.images,
            config.batch_size,
            accelerator.process_index,
            accelerator.num_processes,
            loading,
        )

    def _passed(self, every: int) -> bool:
        return self.images // every > (self.images - self.config.batch_size) // every

    def _log_sums(self) -> dict[str, float]:
        """Write means over the steps since the last call and over all processes; starts new sums."""
        if not self.steps_summed:
            return {}
        means = self.accelerator.reduce(self.sums, "mean") / self.steps_summed
        row = dict(zip(StepRecord._fields, means.tolist(), strict=True))
        self.sums.zero_()
        self.steps_summed = 0
        finite = all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters())
        if not finite or not all(np.isfinite(list(row.values()))):
            raise ValueError(
                f"Loss or weights are no longer finite at {self.images} images ({row}); the last good checkpoint is "
                f"{latest_checkpoint(self.out)}. Lower lr, or use precision float32."
            )
        lr = {"lr": learning_rate(self.config, self.step - 1, self.total_steps)}
        self.log.metrics(self.images, row | lr | self.pace.row(self.images))
        return row

    def _read_checkpoint(self) -> checkpoint.Checkpoint | None:
        newest = latest_checkpoint(self.out)
        if newest is None:
            return None
        stored = checkpoint.load_checkpoint(newest)
        check_same_run(self.config, self.made_from, stored.state, self.out)
        self.step = stored.state["step"]
        if self.accelerator.is_main_process:
            progress.say(f"{self.out} goes on from step {self.step:,} of {self.total_steps:,}.")
        return stored


def check_same_run(config: SimCLRConfig, made_from: dict[str, str], told: dict[str, Any], out: Path) -> None:
    """Refuse to go on with a run of other settings or inputs; `told` is what its checkpoint or product says."""
    if told.get("kind") != "simclr":
        raise ValueError(f"{out} holds a run of another kind; choose another --out.")
    check_same_settings(config.to_dict(), told["config"], out, MAY_CHANGE_ON_RESUME)
    check_made_from(made_from, told["made_from"], out)


def total_steps(config: SimCLRConfig, tiles: int) -> int:
    """Steps that show every tile `epochs` times, the last batch filled."""
    return math.ceil(config.epochs * tiles / config.batch_size)


def learning_rate(config: SimCLRConfig, step: int, steps: int) -> float:
    """A cosine from lr to 0 over all steps."""
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
