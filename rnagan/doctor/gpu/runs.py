"""Real commands on a small simulated cohort: data, loader, a launched run that is stopped and goes on, scores."""

import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.doctor.gpu.catalogue import Place
from rnagan.doctor.launched import end_all
from rnagan.doctor.reading import batches, choose
from rnagan.tracking.run_folder import read_metrics

SIDE = 64  # px, of the cohort's tiles
START_SECONDS = 60.0  # until a launched run has written its first row, and until it has stopped


def data(place: Place) -> tuple[str, dict[str, Any]]:
    """A simulated cohort, its shards and a β-VAE, as a user makes them."""
    cohort, table, began = place.folder / "cohort", place.folder / "cohort.csv", time.monotonic()
    seconds: dict[str, float] = {}
    for words in (
        f"simulate-cohort --out {cohort} --donors 40 --slide-donors 20 --genes 60 --tiles-across 3 --tiles-down 3 "
        "--processes 1",
        f"build-cohort --samples {cohort}/sample_attributes.tsv --slides {cohort}/slides.csv --out {table}",
        f"build-tiles --slides {cohort}/slides --out {place.folder}/tiles --tile-px {SIDE} --mpp 1.0 --processes 1",
        f"build-expression --table {cohort}/expression.gct.gz --cohort {table} --out {place.folder}/expression.h5ad",
        f"train-vae --expression {place.folder}/expression.h5ad --out {place.folder}/vae --epochs 2 --hidden 16 "
        "--latent 8 --beta 0.0001 --threads 1",
    ):
        _command(words)
        seconds[words.split()[0]] = round(time.monotonic() - began - sum(seconds.values()), 1)
    tiles = int(open_dataset(place.folder / "tiles").slides["tiles"].sum())
    return f"{tiles} tiles and a β-VAE", {"tiles": tiles, "seconds": seconds}


def loader(place: Place) -> tuple[str, dict[str, Any]]:
    """Tiles a second out of the trainer's own loader."""
    config = resolve(GANConfig, read_preset(GANConfig, "wgan_gp"), {"resolution": SIDE, "batch_size": 16})
    shards = open_dataset(place.folder / "tiles")
    source = batches(shards, choose(shards, None, config), config)
    next(source)
    began, count = time.perf_counter(), 20 if place.quick else 500
    images = sum(len(batch.images) for batch in islice(source, count))
    rate = images / (time.perf_counter() - began)
    return f"{rate:,.0f} tiles/s of {SIDE} px", {"images_per_second": rate, "tile_px": SIDE}


def stop_and_resume(place: Place) -> tuple[str, dict[str, Any]]:
    """`accelerate launch` of a training: SIGTERM to it after the first row, then the same again to its end."""
    out, more = place.folder / "run", "" if place.quick else "--precision auto"
    words = _training(place, out, f"--images 100000000 {more}")
    process = subprocess.Popen(words, stdout=sys.stderr)  # the check's log
    try:
        _wait(lambda: bool(read_metrics(out)) or process.poll() is not None)
        began, trainer = time.monotonic(), psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(trainer, START_SECONDS)  # which ends by itself, with its launcher
    finally:
        end_all(process)
    stopped, rows = time.monotonic() - began, read_metrics(out)
    assert trainer and not alive, f"the training didn't stop within {START_SECONDS:g} s of its launcher's SIGTERM"
    images = rows[-1]["images"]
    done = subprocess.run(_training(place, out, f"--images {images + 64} {more}"), stdout=sys.stderr)
    after = [row["images"] for row in read_metrics(out)]
    assert done.returncode == 0 and (out / "model").is_dir(), f"started again it ended with {done.returncode}"
    assert after == sorted(set(after)) and after[-1] == images + 64, f"it didn't go on from {images} images: {after}"
    found = {"stopped_at_images": images, "seconds_to_stop": stopped, "images": after[-1]}
    return f"stopped at {images:,} images in {stopped:.1f} s, and went on to {after[-1]:,}", found


def fid(place: Place) -> tuple[str, dict[str, Any]]:
    """Scores of the run's model, with an extractor that needs no download."""
    began = time.monotonic()
    _command(
        f"compute-fid --model {place.folder}/run {_inputs(place)} --out {place.folder}/fid --tiles 32 --map-tiles 0 "
        f"--extractor efficientnet_lite0 --cache {place.folder}/features"
    )
    seconds = time.monotonic() - began
    return f"scores in {seconds:.1f} s", {"seconds": seconds}


def _command(words: str) -> None:
    """Run a command of rnagan in this process, as `python -m rnagan` does."""
    sys.argv = ["rnagan", *words.split()]
    try:
        runpy.run_module("rnagan", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, f"rnagan {words.split()[0]} ended with {ended.code}"


def _inputs(place: Place) -> str:
    folder = place.folder
    return f"--shards {folder}/tiles --cohort {folder}/cohort.csv --expression {folder}/expression.h5ad"


def _training(place: Place, out: Path, more: str) -> list[str]:
    """A launch of a small RNA-GAN."""
    options = (
        f"{_inputs(place)} --vae {place.folder}/vae --out {out} --resolution {SIDE} --batch-size 8 --generator-width 4 "
        f"--critic-width 4 --log-every 64 --checkpoint-every 640000 --sample-every 640000 --validate-every 0 {more}"
    )
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "rnagan.commands.train_rnagan"]
    return [*launcher, *options.split()]


def _wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not until():
        assert time.monotonic() < end, f"no row of metrics after {START_SECONDS:g} s"
        time.sleep(0.2)
