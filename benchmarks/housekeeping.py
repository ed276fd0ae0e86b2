"""What training waits for beside its steps: a validation, five sample grids, five checkpoints and 50 rows of metrics.

The main process of eight trains `wgan_gp` at 256 px for 400,000 images, with the cadences of the presets. The second
half counts, which begins with what the first has left in the queue; the validation is the best so far in both. The
clock is simulated: CPU seconds of the main thread as they are measured here, and what eight GPUs would take. A step
goes at 7,000 images a second. A tile that is generated, and one whose features are extracted, takes a GPU as long as an
image of a step, which is more than it should; weights are looked at for NaN at BYTES_PER_SECOND. Jobs of the background
take their CPU seconds one after another, and training waits where there is no room for one more; measures and distances
take theirs on `cores` threads. Nothing else is left out: copies of the networks (from memory to memory), their files,
PNGs, MLflow's sqlite store, distances in 1,280 dimensions, the best model with a β-VAE of the article's size. What the
other processes send is what this one would have sent. Not counted are waits for a disk, and for the interpreter, which
the background holds for a part of `background_s`.

The last line printed is one JSON object.
"""

import itertools
import pickle
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import simplejpeg
import torch
from numpy.typing import NDArray
from shared.options import benchmark
from shared.report import Report

from rnagan.config.gan import GANConfig
from rnagan.config.vae import VAEConfig
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import Expression, write_expression
from rnagan.expression.imputation import GeneImputer
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.latent_space import LatentSpace
from rnagan.models.trained_vae import VAEModel, save_vae
from rnagan.models.vae import BetaVAE
from rnagan.runtime.distributed import Processes
from rnagan.training import run as run_module
from rnagan.training import tile_trainer as trainer_module
from rnagan.training import validation as validation_module
from rnagan.training.gan.step import StepRecord
from rnagan.training.gan.train import train_gan
from rnagan.training.run import UNWRITTEN
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer

PROCESSES, IMAGES_PER_SECOND = 8, 7000  # eight H200 at 800 to 1,000 images a second each, an estimate
BYTES_PER_SECOND = 2e12  # that a GPU reads, of 4.8e12
SLIDE_TILES = 8
KINDS = {"validate": "validation", "_save_samples": "sample grids", "save": "checkpoints", "_log_means": "rows"}


@benchmark(
    images=(200_000, 4_000, "Images of a half, in which all comes as often as in 200,000."),
    batch_size=(512, 32, ""),
    resolution=(256, 32, ""),
    width=(32, 4, ""),
    validation_tiles=(2048, 128, ""),
    genes=(19_198, 40, "Genes of the β-VAE."),
    hidden=("6000,4096", "16", ""),
    latent=(2048, 8, ""),
    features=(1280, 16, "Width of a tile's features."),
    cores=(8, 2, "Cores of a process, for measures."),
)
def main(run: SimpleNamespace) -> None:
    report = Report()
    report.begin("inputs")
    report.end(report.attempt(measure, run))


def measure(run: SimpleNamespace) -> dict[str, Any]:
    """Shares of the window and seconds: waiting by kind and in all, and work of the background."""
    folder = run.cache / "housekeeping"
    shutil.rmtree(folder, ignore_errors=True)
    inputs = _inputs(run, folder)
    every = {"log_every": 50, "sample_every": 5, "checkpoint_every": 5, "validate_every": 1}
    config = GANConfig(
        resolution=run.resolution,
        images=2 * run.images,
        batch_size=run.batch_size,
        generator_width=run.width,
        critic_width=run.width,
        precision="float32",
        threads=1,
        validation_tiles=run.validation_tiles,
        **{name: run.images // times for name, times in every.items()},
    )
    watch = _Watch(run.images, run.batch_size, run.features, run.cores)
    watch.install()
    train_gan(config, inputs, folder / "run")
    shutil.rmtree(folder)
    return watch.found()


class _Clock:
    """Seconds of the main thread: CPU time but for what the background does, and what is simulated."""

    def __init__(self) -> None:
        self._began, self.elsewhere, self.simulated = time.thread_time(), 0.0, 0.0

    def now(self) -> float:
        return time.thread_time() - self._began - self.elsewhere + self.simulated

    def wait_until(self, end: float) -> None:
        self.simulated += max(0.0, end - self.now())


class _Beside:
    """A `Background` on a simulated clock: a job is done at once, and ends when its thread would have come to it."""

    def __init__(self, clock: _Clock) -> None:
        self.clock, self.free, self.beside = clock, 0.0, list[float]()  # of its own threads
        self.seconds = dict.fromkeys(UNWRITTEN, 0.0)
        self.ends: dict[str, list[float]] = {kind: [] for kind in UNWRITTEN}

    def wait_for_room(self, kind: str) -> None:
        if len(self.ends[kind]) >= UNWRITTEN[kind]:
            self.clock.wait_until(self.ends[kind][-UNWRITTEN[kind]])

    def submit(self, kind: str, job: Callable[[], None]) -> None:
        self.wait_for_room(kind)
        began, now = time.thread_time(), self.clock.now()
        job()
        seconds = time.thread_time() - began
        self.clock.elsewhere += seconds
        seconds += max([0.0, *self.beside])  # all at once, on the cores of a process
        self.beside.clear()
        self.seconds[kind] += seconds
        self.free = max(self.free, now) + seconds
        self.ends[kind].append(self.free)

    def wait(self) -> None:
        self.clock.wait_until(self.free)

    close = wait


class _Watch:
    """Stands in for the GPUs, and times one window of `images`."""

    def __init__(self, images: int, batch_size: int, features: int, cores: int) -> None:
        self.images, self.features, self.cores, self.steps = images, features, cores, -(-images // batch_size)
        self.step_seconds = batch_size / IMAGES_PER_SECOND
        self.clock, self.waited, self.counts = _Clock(), dict.fromkeys(KINDS.values(), 0.0), False
        self.background = _Beside(self.clock)
        self._inner = 0.0  # seconds in calls within the one that is timed
        self._measuring, self._lock = 0.0, threading.Lock()

    def found(self) -> dict[str, Any]:
        window, waiting = self.steps * self.step_seconds, sum(self.waited.values())
        return {
            "waiting_share": round(waiting / window, 4),
            "window_s": round(window, 2),
            "waiting_s": {name: round(seconds, 3) for name, seconds in self.waited.items()},
            "background_s": round(sum(self.background.seconds.values()), 3),
            "background_by_kind_s": {name: round(seconds, 3) for name, seconds in self.background.seconds.items()},
            "background_left_s": round(self.left, 3),
            "assumed": {"processes": PROCESSES, "images_per_second": IMAGES_PER_SECOND, "cores": self.cores},
        }

    def install(self) -> None:
        usual, measure_tiles, distance = (
            TileTrainer.train,
            validation_module.measure,
            validation_module.frechet_distance,
        )

        def train(trainer: TileTrainer) -> bool:
            self._stand_in(trainer)
            return usual(trainer)

        def measured(*given: Any) -> Any:
            began = time.thread_time()
            found = measure_tiles(*given)
            with self._lock:
                self._measuring += time.thread_time() - began
            return found

        def compared(*given: Any) -> float:
            began = time.thread_time()
            found = distance(*given)
            self.background.beside.append(time.thread_time() - began)
            return found

        def are_finite(_: Any, networks: Iterable[torch.nn.Module]) -> bool:
            weights = sum(weight.nbytes for network in networks for weight in network.parameters())
            self.clock.simulated += weights / BYTES_PER_SECOND
            return True

        TileTrainer.train, validation_module.measure = train, measured  # type: ignore[method-assign]
        validation_module.frechet_distance, run_module.deepspeed.are_finite = compared, are_finite

    def _stand_in(self, trainer: TileTrainer) -> None:
        """After everything is set up, and the real tiles are described, which is done once a run."""
        own = trainer.validation
        assert own is not None
        own._extractor = _NoExtractor(self.features, self._on_a_gpu)
        own._describe_real()
        own._extractor.offset = 1.0
        for module in (trainer_module, validation_module):
            module.processes = lambda: _OneOfMany(0, PROCESSES)  # type: ignore[assignment]
        tiles = torch.from_numpy(
            np.random.default_rng(0).uniform(-1, 1, (64, 3, *2 * [trainer.config.resolution])).astype(np.float32)
        )
        describe, now_and_then, zero = own.describe, trainer._now_and_then, torch.zeros(())
        record, batch = StepRecord(zero, zero, None, zero), SimpleNamespace(replaced=())

        def forward(code: torch.Tensor) -> torch.Tensor:
            self._on_a_gpu(len(code))
            return tiles[: len(code)]

        def described(generator: torch.nn.Module) -> validation_module.Described:
            self._measuring, began = 0.0, self.clock.now()
            found = describe(generator)
            self.clock.wait_until(began + self._measuring / self.cores)
            return found

        def step(_: Any) -> StepRecord:
            self.clock.simulated += self.step_seconds
            trainer.images, trainer.steps = trainer.images + trainer.config.batch_size, trainer.steps + 1
            return record

        def until_the_end(bar: Any) -> None:
            now_and_then(bar)
            if not self.counts and trainer.images >= self.images:
                self.counts, self.background.seconds = True, dict.fromkeys(UNWRITTEN, 0.0)
                own._extractor.offset = 0.5  # the second validation is better than the first
            if trainer.images >= 2 * self.images:
                self.counts, self.left = False, max(0.0, self.background.free - self.clock.now())

        for name, kind in KINDS.items():
            setattr(trainer, name, self._timed(kind, getattr(trainer, name)))
        trainer.average.module.forward, own.describe = forward, described  # type: ignore[method-assign]
        trainer._one_step, trainer._now_and_then = step, until_the_end  # type: ignore[method-assign]
        trainer._batches = lambda: itertools.repeat(batch)  # type: ignore[method-assign, assignment]
        trainer.run._background = self.background  # type: ignore[assignment]

    def _on_a_gpu(self, images: int) -> None:
        self.clock.simulated += images * PROCESSES / IMAGES_PER_SECOND

    def _timed(self, kind: str, call: Callable) -> Callable:
        def timed(*given: Any, **named: Any) -> Any:
            before, self._inner, began = self._inner, 0.0, self.clock.now()
            found = call(*given, **named)
            seconds = self.clock.now() - began
            if self.counts:
                self.waited[kind] += seconds - self._inner
            self._inner = before + seconds
            return found

        return timed


class _OneOfMany(Processes):
    """The main process of several, of which the others send what it would have sent."""

    def from_main(self, make: Callable[[], Any]) -> Any:
        return make()

    def each(self, call: Callable[[], Any]) -> list[Any]:
        sent = pickle.dumps(call())  # as torch.distributed sends objects, which takes this process time
        return [pickle.loads(sent) for _ in range(self.count)]


class _NoExtractor:
    """Random features, as long as a GPU may take."""

    name, resizer, weights = "none", "none", ""

    def __init__(self, width: int, on_a_gpu: Callable[[int], None]) -> None:
        self.width, self._on_a_gpu, self.offset = width, on_a_gpu, 0.0

    def __call__(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        self._on_a_gpu(len(tiles))
        draw = np.random.default_rng(int(tiles[0, 0, 0, 0]))
        return draw.normal(self.offset, 1, (len(tiles), self.width)).astype(np.float32)

    def logits(self, features: NDArray[np.float32]) -> None:
        """It is no classifier."""


def _inputs(run: SimpleNamespace, folder: Path) -> TileInputs:
    """Two tissues, each with donors enough for a validation of SLIDE_TILES of a slide, and an untrained β-VAE."""
    draw, donors = np.random.default_rng(0), run.validation_tiles // 2 // SLIDE_TILES
    of_split = [("train", 4), ("validation", donors)]
    rows = [
        (f"{split}{k}-{tissue}", f"{split}{k}", tissue, split, f"{split}{k}-{tissue}", "")
        for split, count in of_split
        for k in range(count)
        for tissue in ("cortex", "lung")
    ]
    cohort = pd.DataFrame(rows, columns=["sample", "donor", "tissue", "split", "slide", "site"])
    folder.mkdir(parents=True)
    cohort.to_csv(folder / "cohort.csv", index=False)
    genes = [f"ENSG{k:011d}" for k in range(run.genes)]
    values = np.exp(draw.normal(3, 1, (len(cohort), run.genes))).astype(np.float32)
    obs = cohort.set_index("sample")[["donor", "tissue", "split"]]
    write_expression(folder / "expression.h5ad", Expression(values, obs, genes, genes, "tpm"), "digest")
    side = run.resolution
    for slide in cohort["slide"]:
        with ShardWriter(folder / "shards", slide) as shard:
            for n in range(SLIDE_TILES):
                coarse = draw.integers(60, 240, (side // 8, side // 8, 3), np.uint8)
                tile = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
                jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 90, "RGB")
                shard.add(f"{slide}_x{n}_y0", jpeg, {"slide": slide}, n, 0)
            shard.commit("done", {}, {}, {"tile_px": side, "mpp": 0.5}, {})
    write_digest(folder / "shards")
    config = VAEConfig(hidden=run.hidden, latent=run.latent)
    transform = ExpressionTransform.fit(values[:8], genes, "tpm", "log1p")
    z = transform.apply(values[:8], genes, "tpm")
    mu, kl = draw.normal(size=(8, run.latent)).astype(np.float32), np.linspace(1, 0, run.latent).astype(np.float32)
    space = LatentSpace.fit(mu, kl, ["cortex", "lung"] * 4, mu, np.ones(8, np.float32))
    network = BetaVAE(run.genes, config)
    save_vae(folder / "vae", VAEModel(config, transform, GeneImputer.fit(z, z), network, space, {"train_donors": []}))
    return TileInputs(folder / "shards", folder / "cohort.csv", folder / "expression.h5ad", folder / "vae")


if __name__ == "__main__":
    main()
