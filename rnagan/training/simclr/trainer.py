"""The SimCLR trainer: set up, train, save. The maths of a step is in step.py."""

import contextlib
import math
from collections.abc import Generator

import torch
from torch import nn

from rnagan.config.simclr import SimCLRConfig
from rnagan.data.index import ShardSet
from rnagan.data.loader import Loading, batches, default_threads
from rnagan.data.reader import Batch, TileReader
from rnagan.data.sampler import TileOrder
from rnagan.runtime import progress
from rnagan.runtime.distributed import own_cores
from rnagan.training.checkpoint import SimCLRState
from rnagan.training.launch import dtype_of
from rnagan.training.run import Optimizers, StepMeans, TrainingRun, total_steps
from rnagan.training.simclr.step import SimCLRNetwork, StepRecord, contrastive_loss
from rnagan.training.simclr.views import TwoViews, normalised


class SimCLRTrainer:
    """Trains a backbone on the tiles of `slides` in `order`. `step` is the clock; `run` is the folder, opened.

    On several GPUs BatchNorm shares its statistics (SyncBatchNorm). On several CPU processes it can't, so there a run
    with norm batch differs a little from one of one process; with norm group it doesn't.
    """

    def __init__(
        self, config: SimCLRConfig, run: TrainingRun, shards: ShardSet, slides: list[str], order: TileOrder
    ) -> None:
        self.config, self.run, self.accelerator = config, run, run.accelerator
        self.shards, self.slides, self.order = shards, slides, order
        accelerator, stored = run.accelerator, run.checkpoint
        self.total_steps = total_steps(config, order.epoch_length)
        self.step = 0 if stored is None else stored.state_of(SimCLRState)["step"]
        self.dtype = dtype_of(config.precision)
        network: nn.Module = SimCLRNetwork(config).to(accelerator.device, self.dtype)
        network = network.to(memory_format=torch.channels_last)
        if stored is not None:
            stored.load_module("network", network)
            if run.is_main:
                progress.say(f"{run.folder} goes on from step {self.step:,} of {self.total_steps:,}.")
        optimizer = torch.optim.SGD(
            network.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        if config.norm == "batch" and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        self.model, self.optimizer = accelerator.prepare(network, optimizer)
        self.network = network
        if stored is not None:
            run.load_optimizers(self._optimizers(), lambda: None)
        self.means = StepMeans(StepRecord._fields, accelerator, self.dtype)
        run.begin(self.images, self.total_steps * config.batch_size, {})

    @property
    def images(self) -> int:
        """Tiles seen so far, over all processes."""
        return self.step * self.config.batch_size

    @property
    def backbone(self) -> nn.Module:
        """The network without its head."""
        return self.network.get_submodule("backbone")

    def train(self) -> bool:
        """Train to the last step; False if a signal stopped it before. Everything is saved either way."""
        config = self.config
        batches = self._batches()
        steps = self.run.steps(self.total_steps * config.batch_size, "img", "SimCLR", self.images)
        with contextlib.closing(batches), steps as (stop, bar):
            while self.step < self.total_steps and not stop.is_set(self.step):
                self.train_step(next(batches))
                bar.update(config.batch_size)
                if self._passed(config.log_every) or self.step == self.total_steps:
                    bar.set_postfix(loss=f"{self._log_means()['loss']:.3f}")
                if self._passed(config.checkpoint_every) and self.step < self.total_steps:
                    self.save()
        self.save(last=True)
        return self.step >= self.total_steps

    def train_step(self, batch: Batch) -> None:
        """One step on a batch of this process. Both views go through the network together: their BatchNorm is one."""
        assert batch.packed is not None
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step, self.total_steps)
        self.optimizer.zero_grad()
        x = normalised(batch.packed, self.accelerator.device, self.dtype)
        record = contrastive_loss(self.model(x), self.config.temperature, self.accelerator.num_processes)
        self.accelerator.backward(record.loss)
        self.optimizer.step()
        self.means.add(record)
        self.step += 1

    def save(self, last: bool = False) -> None:
        """Write a checkpoint and delete the one before; only of a state that is finite."""
        self._log_means()
        state = {"kind": "simclr", "step": self.step, "config": self.config.to_dict()}
        self.run.save(self.images, {"network": self.network}, self._optimizers(), state, last=last)

    def _batches(self) -> Generator[Batch, None, None]:
        config, accelerator = self.config, self.accelerator
        reader = TileReader(self.shards, self.slides, self.order.counts, config.window_slides)
        resolution = config.resolution or self.shards.tile_px
        loading = Loading(
            threads=max(own_cores(), default_threads(self.shards.storage)),  # views take more than decoding
            workers=config.loader_workers,
            pin_memory=accelerator.device.type == "cuda",
            beside=TwoViews(config, resolution),
        )
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

    def _log_means(self) -> dict[str, float]:
        """Write a row of the means since the last one; refuses what is not finite."""
        row = self.means.reduce()
        if not row:
            return row
        self.run.check_finite(self.images, row, [self.network], "Lower lr, or use precision float32.")
        lr = {"lr": learning_rate(self.config, self.step - 1, self.total_steps)}
        self.run.row(self.images, row | lr | self.run.throughput.row(self.images))
        return row

    def _optimizers(self) -> Optimizers:
        return {"sgd": (self.network, self.optimizer)}


def learning_rate(config: SimCLRConfig, step: int, steps: int) -> float:
    """A cosine from lr to 0 over all steps."""
    return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
