"""The GAN / RNA-GAN trainer: set up, train, save, close. The maths of a step is in gan_step.py."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.data.index import ShardSet
from rnagan.data.loader import Batch, Loading, tile_batches
from rnagan.data.reader import TileReader
from rnagan.data.sampler import Order
from rnagan.data.selection import Selection
from rnagan.io.images import grid, save_png, synthetic_texts
from rnagan.models.critics import build_critic
from rnagan.models.ema import ExponentialAverage
from rnagan.models.generators import build_generator
from rnagan.models.sampling import generate
from rnagan.runtime import progress
from rnagan.tracking.run_folder import checkpoint_path, latest_checkpoint, read_metrics
from rnagan.tracking.run_log import RunLog, Unwritten
from rnagan.training import checkpoint, deepspeed
from rnagan.training.corrupt_tiles import CorruptTiles, cut_back
from rnagan.training.gan.inputs import Profiles
from rnagan.training.gan.step import GANStep, StepRecord
from rnagan.training.gan.validation import GANValidation
from rnagan.training.launch import end_together, resolve_precision
from rnagan.training.resume import check_made_from, check_same_settings
from rnagan.training.signals import StopSignal
from rnagan.training.throughput import Pace
from rnagan.training.warm_start import EarlierRun


class GANTrainer:
    """Trains a generator on the tiles of a selection in `order`, with each tile's own profile as its condition.

    `made_from` names what the inputs are by their digests: a checkpoint goes on with the same inputs only.
    `profiles` is None in the modes without profiles. With `earlier`, a new run starts from that run's networks.
    `validation` is None where nothing is validated; `on_best` is called on the main process when a validation was the
    best so far, after its checkpoint was written. `tags`: what MLflow shall say of the run beside its own tags.
    """

    def __init__(
        self,
        config: GANConfig,
        accelerator: Accelerator,
        out: Path,
        shards: ShardSet,
        selection: Selection,
        order: Order,
        made_from: dict[str, str],
        profiles: Profiles | None = None,
        earlier: EarlierRun | None = None,
        validation: GANValidation | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.config, self.accelerator = config, accelerator
        device = accelerator.device
        dtype = torch.float64 if config.precision == "float64" else torch.float32
        self.conditions = self.fixed = None
        self.condition_width = 0
        if profiles is not None:
            self.conditions = profiles.bottleneck(profiles.latents).to(device, dtype)
            self.fixed = profiles.bottleneck(profiles.fixed).to(device, dtype)
            self.condition_width = profiles.bottleneck.width
        # DeepSpeed lays weights end to end, and takes plain rows only.
        layout = torch.contiguous_format if deepspeed.uses_deepspeed(accelerator) else torch.channels_last
        place = {"device": device, "dtype": dtype, "memory_format": layout}
        generator = build_generator(config, self.condition_width).to(**place)
        critic = build_critic(config, self.condition_width).to(**place)
        self.average = ExponentialAverage(generator, config.ema_half_life)
        self.out, self.made_from = Path(out), made_from
        self.images = self.steps = 0  # the clock: real tiles shown, critic steps made
        self.saved_at = -1  # images at the last checkpoint
        self.images_before = 0 if earlier is None else earlier.images  # in an earlier run: not an average's first
        stored = self._read_checkpoint()
        networks = {"generator": generator, "critic": critic, "average": self.average.module}
        if stored is not None:
            for name, network in networks.items():
                stored.load_module(name, network)
        elif earlier is not None:
            earlier.load_into(networks)
        if config.compile:  # in place: the penalty, whose gradient has a gradient, calls the class's uncompiled forward
            generator.compile()
            critic.compile()
        if config.generator_norm == "batch" and accelerator.num_processes > 1:
            generator = nn.SyncBatchNorm.convert_sync_batchnorm(generator)
        of_generator, of_critic = deepspeed.prepare_each(
            accelerator,
            config.batch_size // accelerator.num_processes,
            {
                "generator": (generator, _adam(generator, config.generator_lr, config)),
                "critic": (critic, _adam(critic, config.critic_lr, config)),
            },
            bf16=resolve_precision(config.precision) == "bf16",
        )
        self.generator_optimizer, self.critic_optimizer = of_generator.optimizer, of_critic.optimizer
        self.step = GANStep(
            config,
            accelerator,
            of_generator.module,
            of_critic.module,
            self.generator_optimizer,
            self.critic_optimizer,
            self.condition_width,
            of_critic.accelerator,
        )
        self.shards, self.selection, self.order = shards, selection, order
        self.mpp = shards.mpp_at(config.resolution)
        self.unwritten = Unwritten(self.out)
        self.corrupt = CorruptTiles(self.out, accelerator.process_index)
        self.validation = validation
        self.on_best: Callable[[], None] = lambda: None
        if stored is not None:
            self._load_optimizers(stored)
        self._open_record(None if stored is None else stored.state["mlflow_run"], tags or {})
        self.pace = Pace(self.images, device)

    def train(self) -> bool:
        """Train to `config.images`; False if a signal stopped it early. Everything is saved either way."""
        config = self.config
        totals = _Totals()
        shown = progress.bar(config.images, "img", "GAN", initial=self.images)
        with StopSignal(self.accelerator) as stop, shown as bar:
            bar.disable = bar.disable or not self.accelerator.is_main_process
            if self._validation_was_cut_off() or (self.images_before and not self.images):
                self.validate()
            self.pace.restart(self.images)
            for batch in self._batches():
                if self.images >= config.images or stop.is_set(self.steps):
                    break
                self.corrupt.add(batch.replaced)
                totals.add(self._one_step(batch))
                bar.update(config.batch_size)
                self._now_and_then(totals, bar)
            self._log_totals(totals)
            self.save(last=True)
            if self.images_before and self.images >= config.images and not self._validation_is_due():
                self.validate()
        return self.images >= config.images

    def save(self, last: bool = False) -> None:
        """Write a checkpoint of the present state, by rename; where the disk is full the next interval tries again,
        but after the `last`, which raises `OSError`."""
        if self.saved_at == self.images and not last:
            return
        weights = {name: deepspeed.whole_weights(module) for name, module in self._modules().items()}
        moments = {
            name: deepspeed.whole_moments(module, optimizer) for name, (module, optimizer) in self._optimizers().items()
        }
        if self.accelerator.is_main_process and not self._checkpoint_path().exists():
            state = {
                "images": self.images,
                "steps": self.steps,
                "mlflow_run": self.log.run_id,
                "made_from": self.made_from,
            }
            if self.accelerator.scaler is not None:
                state["loss_scale"] = self.accelerator.scaler.state_dict()
            with contextlib.nullcontext() if last else self.unwritten.tolerated("checkpoint"):
                checkpoint.save_checkpoint(self._checkpoint_path(), weights, moments, state)
                checkpoint.keep(self.out, self.config.keep_checkpoints, checkpoint.best_checkpoint(self.out))
        self.saved_at = self.images
        self.accelerator.wait_for_everyone()

    def validate(self) -> None:
        """Measure the averaged generator on the validation donors; the best so far is kept, as `best_by` says.

        The row of metrics is written last: where it is missing after a power cut, all of it is done again.
        """
        if self.validation is None:
            return
        row = self.validation(self.average.module) if self.accelerator.is_main_process else {}
        if self.config.best_by != "none":
            self.save()
        if self.accelerator.is_main_process:
            if (score := self.validation.score(row)) is not None:
                checkpoint.mark_best(self.out, self._checkpoint_path(), *score)
                if checkpoint.best_checkpoint(self.out) == self._checkpoint_path():
                    self.on_best()
            self.log.metrics(self.images, row)
        self.accelerator.wait_for_everyone()
        self.pace.restart(self.images)

    def close(self, finished: bool, failed: bool = False) -> None:
        """End the record and the process group; after an error (`failed`) nobody waits for the others."""
        self.log.close(finished, failed)
        end_together(self.accelerator, wait=not failed)

    def _one_step(self, batch: Batch) -> StepRecord:
        c = None if self.conditions is None else self.conditions[batch.slides.to(self.conditions.device)]
        tiles = _to_resolution(batch.images.to(self.accelerator.device, non_blocking=True), self.config.resolution)
        generator_too = self.steps % self.config.critic_steps == self.config.critic_steps - 1
        record = self.step(batch.start, tiles, c, generator_too)
        self.images, self.steps = self.images + self.config.batch_size, self.steps + 1
        if generator_too:
            used = self.config.batch_size * self.config.critic_steps
            with deepspeed.gathered(self.step.raw_generator):
                self.average.update(self.step.raw_generator, used, self.images_before + self.images)
        return record

    def _batches(self) -> Iterator[Batch]:
        config = self.config
        loading = make_loading(config, pin_memory=self.accelerator.device.type == "cuda")
        # Tiles in use as the order has it: a tissue of weight 0 stands in for no damaged tile.
        reader = TileReader(
            self.shards, self.selection.table["slide"].tolist(), self.order.counts, config.window_slides
        )
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        return tile_batches(reader, self.order, self.images, config.batch_size, rank, processes, loading)

    def _now_and_then(self, totals: "_Totals", bar: Any) -> None:
        if self._passed(self.config.log_every):
            row = self._log_totals(totals)
            bar.set_postfix({"W": f"{row['wasserstein']:.2f}", "GP": f"{row['penalty']:.3f}"})
        if self._passed(self.config.sample_every):
            self._save_samples()
        if self._passed(self.config.checkpoint_every):
            self._log_totals(totals)  # a checkpoint is written only of a state found finite
            self.save()
        if self._validation_is_due():
            self._log_totals(totals)
            self.validate()

    def _passed(self, every: int) -> bool:
        return self.images // every > (self.images - self.config.batch_size) // every

    def _validation_is_due(self) -> bool:
        every = self.config.validate_every
        return self.validation is not None and every > 0 and self.images > 0 and self._passed(every)

    def _validation_was_cut_off(self) -> bool:
        """Whether the run goes on from a checkpoint at which a validation was due that left no row."""
        if not self._validation_is_due():
            return False
        missing = 0.0
        if self.accelerator.is_main_process:  # the others may not see its file yet
            rows = [row for row in read_metrics(self.out) if row["images"] == self.images]
            missing = float(not any(name.startswith("frechet_") for row in rows for name in row))
        return self.accelerator.reduce(torch.tensor(missing, device=self.accelerator.device), "sum").item() > 0

    def _log_totals(self, totals: "_Totals") -> dict[str, float]:
        if not totals.steps:
            return totals.row
        row = totals.reduce(self.accelerator) | self.step.gradient_norms.reduce(self.accelerator)
        # A step can leave bad weights behind a loss that was still fine.
        weights_are_finite = deepspeed.are_finite(self.accelerator, self._modules().values())
        if not weights_are_finite or not all(np.isfinite(list(row.values()))):
            raise ValueError(
                f"Losses or weights are no longer finite at {self.images} images ({row}); the last good checkpoint is "
                f"{latest_checkpoint(self.out)}. Lower the learning rates, or use precision float32."
            )
        if self.config.on_corrupt == "skip":
            replaced = torch.tensor(float(self.corrupt.count), device=self.accelerator.device)
            row["corrupt_tiles"] = self.accelerator.reduce(replaced, "sum").item()
        self.log.metrics(self.images, row | self.pace.row(self.images))
        return row

    def _save_samples(self) -> None:
        if not self.accelerator.is_main_process:
            return
        rows = 8 if self.fixed is None else len(self.fixed)
        tiles = np.stack(
            [
                generate(
                    self.config,
                    self.average.module,
                    None if self.fixed is None else self.fixed[k : k + 1],
                    count=8,
                    seed=self.config.seed,
                    purpose=f"samples/{k}",
                )
                for k in range(rows)
            ]
        )
        path = self.out / "samples" / f"{self.images:012d}.png"
        texts = synthetic_texts(f"{self.out} at {self.images} images", "validation donors", self.config.seed, self.mpp)
        with self.unwritten.tolerated("sample grid"):
            save_png(path, grid(tiles), texts)
            self.log.artifact(path)

    def _checkpoint_path(self) -> Path:
        return checkpoint_path(self.out, self.images)

    def _modules(self) -> dict[str, nn.Module]:
        return {"generator": self.step.raw_generator, "critic": self.step.raw_critic, "average": self.average.module}

    def _optimizers(self) -> dict[str, tuple[nn.Module, torch.optim.Optimizer]]:
        return {
            "generator_optimizer": (self.step.raw_generator, self.generator_optimizer),
            "critic_optimizer": (self.step.raw_critic, self.critic_optimizer),
        }

    def _read_checkpoint(self) -> checkpoint.Checkpoint | None:
        """The newest checkpoint of `out`, from which the run goes on, if there is one; sets the clock."""
        newest = latest_checkpoint(self.out)
        if newest is None:
            return None
        before = load_config(GANConfig, self.out / "config.yaml").to_dict()
        check_same_settings(self.config, before, self.out)
        stored = checkpoint.load_checkpoint(newest)
        check_made_from(self.made_from, stored.state["made_from"], self.out)
        self.images, self.steps = stored.state["images"], stored.state["steps"]
        self.saved_at = self.images
        return stored

    def _load_optimizers(self, stored: checkpoint.Checkpoint) -> None:
        """Their state, whatever the number of processes and the engine that wrote it; the weights are loaded."""
        if self.accelerator.scaler is not None and "loss_scale" in stored.state:
            self.accelerator.scaler.load_state_dict(stored.state["loss_scale"])
        cut = [name for name, (module, _) in self._optimizers().items() if deepspeed.is_cut(module)]
        if cut:
            count = self.config.batch_size // self.accelerator.num_processes
            deepspeed.make_room([self.generator_optimizer, self.critic_optimizer], lambda: self._step_of_nothing(count))
        for name, (module, optimizer) in self._optimizers().items():
            if name in cut:
                deepspeed.put_moments(module, optimizer, stored.tensors(name))
            else:
                stored.load_optimizer(name, optimizer)

    def _open_record(self, run_id: str | None, tags: Mapping[str, str]) -> None:
        """The record of the run, cut back to where it goes on."""
        tissues = sorted(self.selection.table.loc[self.order.counts > 0, "tissue"].unique())
        own = {
            "kind": "gan",
            "mode": self.config.mode,
            "resolution": str(self.config.resolution),
            "tissues": ", ".join(tissues),
            "processes": str(self.accelerator.num_processes),
            "dataset_digest": self.made_from.get("shards", ""),
        }
        self.log = RunLog(
            self.out,
            self.config,
            "rnagan",
            main=self.accelerator.is_main_process,
            run_id=run_id,
            resumed_at=None if self.saved_at < 0 else self.images,
            total=self.config.images,
            made_from=self.made_from,
            tags=own | dict(tags),
        )
        if self.accelerator.is_main_process:
            cut_back(self.out, self.images)
        self.accelerator.wait_for_everyone()

    def _step_of_nothing(self, count: int) -> None:
        side, device = self.config.resolution, self.accelerator.device
        tiles = torch.zeros(count, 3, side, side, dtype=torch.uint8, device=device)
        self.step(0, tiles, None if self.conditions is None else self.conditions[:1].expand(count, -1), True)


class _Totals:
    """Sums of step records on the device, brought to the host at the logging interval."""

    def __init__(self) -> None:
        self.steps, self.generator_steps, self.sums = 0, 0, torch.zeros(3)
        self.row: dict[str, float] = {}

    def add(self, record: StepRecord) -> None:
        scalars = [torch.zeros_like(record.penalty) if scalar is None else scalar for scalar in record]
        self.sums = self.sums.to(record.penalty.device) + torch.stack(scalars).float()
        self.steps += 1
        self.generator_steps += record.generator is not None

    def reduce(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over the steps since the last call and over all processes; starts new sums."""
        sums = accelerator.reduce(self.sums, "mean").tolist()
        counts = (self.steps, self.steps, self.generator_steps)
        self.row = {name: s / n for name, s, n in zip(StepRecord._fields, sums, counts, strict=True) if n}
        self.steps, self.generator_steps, self.sums = 0, 0, torch.zeros_like(self.sums)
        return self.row


def make_loading(config: GANConfig, pin_memory: bool = False) -> Loading:
    """How the batches of a run are made."""
    return Loading(
        threads=config.loader_threads,
        workers=config.loader_workers,
        prefetch=config.prefetch_batches,
        pin_memory=pin_memory,
        skip_corrupt=config.on_corrupt == "skip",
        max_corrupt=config.max_corrupt,
    )


def _adam(module: nn.Module, lr: float, config: GANConfig) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, betas=(config.beta1, config.beta2), fused=True)


def _to_resolution(tiles: Tensor, resolution: int) -> Tensor:
    """uint8 tiles (n, 3, S, S) shrunk by area to `resolution`, which divides S."""
    factor = tiles.shape[-1] // resolution
    return tiles if factor == 1 else F.avg_pool2d(tiles.float(), factor).round().to(torch.uint8)
