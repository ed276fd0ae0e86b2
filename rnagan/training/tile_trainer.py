"""The trainer of generators of any family: set up, train, validate, save. The maths of a step is in the step.py of the
family."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from rnagan.config.base import family
from rnagan.config.families import TileConfig
from rnagan.data.loader import check_damaged, tile_batches
from rnagan.data.reader import Batch, TileReader
from rnagan.io.images import grid, save_png, synthetic_texts
from rnagan.models.ema import ExponentialAverage
from rnagan.models.families import family_of
from rnagan.models.sampling import generate
from rnagan.runtime.distributed import processes
from rnagan.tracking.run_folder import checkpoint_path, read_metrics
from rnagan.training import checkpoint, deepspeed
from rnagan.training.checkpoint import GANState, host_copy
from rnagan.training.launch import dtype_of
from rnagan.training.run import StepMeans, TrainingRun
from rnagan.training.tile_inputs import TileData, make_loading
from rnagan.training.tile_step import Record, parts_of
from rnagan.training.validation import Described, TileValidation
from rnagan.training.warm_start import EarlierRun


class TileTrainer:
    """Trains a generator on `data`, with each tile's own profile as its condition.

    `run` is the folder, opened: the networks begin as its checkpoint has them, or else as `earlier` has them, or else
    anew. `validation` is None where nothing is validated; `on_best` is called in the main process's background when a
    validation was the best so far, after its checkpoint was written, with the images and the generator's weights then.
    `tags`: what MLflow shall say of the run beside its own tags.
    """

    def __init__(
        self,
        config: TileConfig,
        run: TrainingRun,
        data: TileData,
        earlier: EarlierRun | None = None,
        validation: TileValidation | None = None,
        on_best: Callable[[int, dict[str, Tensor]], None] = lambda images, weights: None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.config, self.run, self.data, self.accelerator = config, run, data, run.accelerator
        self.validation, self.on_best = validation, on_best
        state = None if run.checkpoint is None else run.checkpoint.state_of(GANState)
        self.images, self.steps = (0, 0) if state is None else (state["images"], state["steps"])
        self.images_before = 0 if earlier is None else earlier.images  # in the earlier run, whose average goes on
        self.mpp = data.shards.mpp_at(config.resolution)
        self.conditions = self.fixed = None
        width = 0
        if data.profiles is not None:
            bottleneck = data.profiles.bottleneck
            self.conditions, self.fixed = map(self._placed, (data.profiles.conditions, bottleneck(data.profiles.fixed)))
            width = bottleneck.width
        # What the main process alone has read drew from its generator. DeepSpeed sends weights from it, and no buffers.
        torch.set_rng_state(processes().from_main(torch.get_rng_state))
        parts = parts_of(config)
        networks = parts.build_networks(config, width, self.accelerator)
        self.average = ExponentialAverage(networks.generator, config.ema_images)
        self.generator = family_of(config).of(config, self.average.module, width)
        modules = networks.modules | {"average": self.average.module}
        if run.checkpoint is not None:
            for name, module in modules.items():
                run.checkpoint.load_module(name, module)
        elif earlier is not None:
            earlier.load_into(modules)
        self.step = parts.build_step(config, width, self.accelerator, networks)
        if run.checkpoint is not None:
            self._load_optimizers(run.checkpoint)
        self.means, self.shown, self.title = StepMeans(parts.fields, self.accelerator), parts.shown, parts.title
        self.run.begin(self.images, config.images, self._tags() | dict(tags or {}))

    def train(self) -> bool:
        """Train to `config.images`; False if a signal stopped it early. Everything is saved either way."""
        config = self.config
        with self.run.steps(config.images, "img", self.title, self.images) as (stop, bar):
            if self._validation_was_cut_off() or (self.images_before and not self.images):
                self.validate()
            self.run.throughput.restart(self.images)
            for batch in self._batches():
                if self.images >= config.images or stop.is_set(self.steps):
                    break
                self.run.corrupt_tiles.add(batch.replaced)
                self.means.add(self._one_step(batch))
                bar.update(config.batch_size)
                self._now_and_then(bar)
            self._log_means()
            self.save(last=True)
            if self.images_before and self.images >= config.images and not self._validation_is_due():
                self.validate()
        return self.images >= config.images

    def save(self, last: bool = False) -> None:
        """Write a checkpoint of the present state, which was found finite."""
        state: dict[str, Any] = {"images": self.images, "steps": self.steps}
        if (kind := family(type(self.config))) != "gan":  # whose checkpoints never said it
            state["kind"] = kind
        if self.accelerator.scaler is not None:
            state["loss_scale"] = self.accelerator.scaler.state_dict()
        kept = self.config.keep_checkpoints
        self.run.save(self.images, self._modules(), self.step.optimizers, state, kept=kept, last=last)

    def validate(self) -> None:
        """Describe tiles of the averaged generator, on all processes; the main one compares them with the real tiles in
        the background. The best so far is kept, as `best_by` says.

        The row of metrics is written last: where it is missing after a power cut, all of it is done again.
        """
        if self.validation is None:
            return
        with self.run.throughput.paused("validations"):
            generated = self.validation.describe(self.generator)
            average = host_copy(self.average.module.state_dict()) if self.run.is_main else {}
        if self.config.best_by != "none":
            self.save()
        if self.run.is_main:
            measured = self.images, self.run.log.clock()
            keep = functools.partial(self._keep_if_best, self.validation, *measured, generated, average)
            self.run.write("validations", keep)

    def _keep_if_best(
        self,
        validation: TileValidation,
        images: int,
        seconds: float,
        generated: Described,
        average: dict[str, Tensor],
    ) -> None:
        """Keep the averaged generator of so many images if it is the best so far, and write the row of metrics."""
        row = validation.compare(generated)
        if (score := validation.score(row)) is not None:
            own = checkpoint_path(self.run.folder, images)
            checkpoint.mark_best(self.run.folder, own, *score)
            if checkpoint.best_checkpoint(self.run.folder) == own:
                self.on_best(images, average)
        self.run.log.metrics(images, row, seconds)

    def _one_step(self, batch: Batch) -> Record:
        assert batch.packed is not None
        packed = batch.packed.to(self.accelerator.device)  # the one copy of a batch
        c = None if self.conditions is None else self.conditions[packed.field("places")[:, 0]]
        tiles = _to_resolution(packed.field("items").permute(0, 3, 1, 2), self.config.resolution)
        generator_too = self.steps % self.step.every == self.step.every - 1
        record = self.step(batch.start, tiles, c, generator_too, packed)
        self.images, self.steps = self.images + self.config.batch_size, self.steps + 1
        if generator_too:
            used = self.config.batch_size * self.step.every
            with deepspeed.gathered(self.step.raw_generator):
                self.average.update(self.step.raw_generator, used, self.images_before + self.images)
        return record

    def _batches(self) -> Iterator[Batch]:
        config, data = self.config, self.data
        loading = dataclasses.replace(
            make_loading(config, pin_memory=self.accelerator.device.type == "cuda"), beside=self.step.draws
        )
        # Tiles in use as the order has it: a tissue of weight 0 stands in for no damaged tile.
        reader = data.selection.reader(data.shards, data.order.counts, config.window_slides)
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        return tile_batches(reader, data.order, self.images, config.batch_size, rank, processes, loading)

    def _now_and_then(self, bar: Any) -> None:
        if self._passed(self.config.log_every):
            row = self._log_means()
            bar.set_postfix({name: f"{row[key]:.2f}" for name, key in self.shown.items() if key in row})
        if self._passed(self.config.sample_every):
            self._save_samples()
        if self._passed(self.config.checkpoint_every):
            self._log_means()  # a checkpoint is written only of a state found finite
            self.save()
        if self._validation_is_due():
            self._log_means()
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
        if self.run.is_main:  # the others may not see its file yet
            rows = [row for row in read_metrics(self.run.folder) if row["images"] == self.images]
            missing = float(not any(name.startswith("frechet_") for row in rows for name in row))
        return self.accelerator.reduce(torch.tensor(missing, device=self.accelerator.device), "sum").item() > 0

    def _log_means(self) -> dict[str, float]:
        """Write a row of the means since the last one; refuses what is not finite."""
        row = self.means.reduce()
        if not row:
            return row
        row |= self.step.gradient_norms.reduce(self.accelerator)
        advice = "Lower the learning rates, or use precision float32."
        self.run.check_finite(self.images, row, self._modules().values(), advice)
        if self.config.on_corrupt == "skip":
            replaced = torch.tensor(float(self.run.corrupt_tiles.count), device=self.accelerator.device)
            row["corrupt_tiles"] = self.accelerator.reduce(replaced, "sum").item()
            damaged, in_use = self.run.corrupt_tiles.of_all(), self.data.order.epoch_length
            check_damaged(damaged, in_use, self.config.max_corrupt, TileReader.kind)
        self.run.row(self.images, row | self.run.throughput.row(self.images))
        return row

    def _save_samples(self) -> None:
        conditions = [None] * 8 if self.fixed is None else self.fixed.split(1)
        seed, generator, here = self.config.seed, self.generator, processes()

        def generated() -> list[NDArray[np.uint8]]:
            return [
                generate(generator, conditions[k], count=8, seed=seed, purpose=f"samples/{k}")
                for k in here.share(len(conditions))
            ]

        with self.run.throughput.paused("sample grids"):
            tiles = [own for part in here.each(generated) for own in part]
        if self.run.is_main:
            self.run.write("sample grids", functools.partial(self._write_samples, self.images, np.stack(tiles)))

    def _write_samples(self, images: int, tiles: NDArray[np.uint8]) -> None:
        folder = self.run.folder
        path = folder / "samples" / f"{images:012d}.png"
        texts = synthetic_texts(f"{folder} at {images} images", "validation donors", self.config.seed, self.mpp)
        with self.run.unwritten.tolerated("sample grid"):
            save_png(path, grid(tiles), texts)
            self.run.log.artifact(path)

    def _modules(self) -> dict[str, nn.Module]:
        return self.step.modules | {"average": self.average.module}

    def _load_optimizers(self, stored: checkpoint.Checkpoint) -> None:
        if self.accelerator.scaler is not None and "loss_scale" in stored.state:
            self.accelerator.scaler.load_state_dict(stored.state["loss_scale"])
        self.run.load_optimizers(self.step.optimizers, self._empty_step)

    def _empty_step(self) -> None:
        count, side = self.config.batch_size // self.accelerator.num_processes, self.config.resolution
        tiles = torch.zeros(count, 3, side, side, dtype=torch.uint8, device=self.accelerator.device)
        buffers = [own for module in self.step.modules.values() for own in module.buffers()]
        estimates = [(own, own.clone()) for own in buffers]  # of spectral norms
        self.step(0, tiles, None if self.conditions is None else self.conditions[:1].expand(count, -1), True)
        for own, before in estimates:
            own.copy_(before)

    def _placed(self, conditions: Tensor) -> Tensor:
        """Conditions where and as the networks compute."""
        return conditions.to(self.accelerator.device, dtype_of(self.config.precision))

    def _tags(self) -> dict[str, str]:
        validated = {} if self.validation is None else {"validation_extractor": self.validation.extractor_label}
        return validated | {
            "mode": self.config.mode,
            "resolution": str(self.config.resolution),
            "tissues": ", ".join(self.data.tissues),
            "dataset_digest": self.run.made_from.get("shards", ""),
        }


def _to_resolution(tiles: Tensor, resolution: int) -> Tensor:
    """uint8 tiles (n, 3, S, S) shrunk by area to `resolution`, which divides S."""
    factor = tiles.shape[-1] // resolution
    return tiles if factor == 1 else F.avg_pool2d(tiles.float(), factor).round().to(torch.uint8)
