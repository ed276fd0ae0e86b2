"""What a thread writes while training goes on: what it was when it was handed over, in order, and to the end."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnagan.config.gan import GANConfig
from rnagan.evaluation.features import make_extractor
from rnagan.io.files import sha256_of_file
from rnagan.tracking.run_folder import latest_checkpoint, read_metrics, read_record
from rnagan.training import run as run_module
from rnagan.training import validation
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer

pytestmark = pytest.mark.usefixtures("no_mlflow")
SLOW_GUARD = [pytest.mark.slow, pytest.mark.guard]


def digests(run: Path, images: int) -> dict[str, str]:
    folder = run / f"checkpoints/{images:012d}"
    return {path.name: sha256_of_file(path) for path in folder.iterdir()}


def before_step(patch: pytest.MonkeyPatch, action: Callable[[TileTrainer], None]) -> None:
    one_step = TileTrainer._one_step

    def patched(trainer: TileTrainer, batch: Any) -> Any:
        action(trainer)
        return one_step(trainer, batch)

    patch.setattr(TileTrainer, "_one_step", patched)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """Checkpoints are written only after two more steps have begun, or after a while; filled with, of each, its images,
    the step that had begun by then, and the images of the last row of metrics that was there."""
    written: list[tuple[int, int, int]] = []
    begun, step, save = threading.Condition(), [0], run_module.save_checkpoint

    def note(trainer: TileTrainer) -> None:
        with begun:
            step[0] = trainer.steps
            begun.notify_all()

    def late(folder: Path, *rest: Any) -> None:
        images = int(folder.name)
        with begun:
            begun.wait_for(lambda: step[0] >= images // 8 + 2, timeout=0.5)
        rows = read_metrics(folder.parents[1])
        written.append((images, step[0], rows[-1]["images"]))
        save(folder, *rest)

    before_step(monkeypatch, note)
    monkeypatch.setattr(run_module, "save_checkpoint", late)
    return written


@pytest.mark.slow
@pytest.mark.guard
def test_a_checkpoint_is_of_the_moment_though_it_is_written_later(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, slow: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.replace(images=64, checkpoint_every=24, keep_checkpoints=9, log_every=8)
    train_gan(config, inputs, tmp_path / "late")
    assert [(images, rows) for images, _, rows in slow] == [(24, 24), (48, 48), (64, 64)]
    assert slow[0][1] >= 5 and slow[1][1] > 6  # training went on
    monkeypatch.undo()
    monkeypatch.setattr("rnagan.tracking.run_log.RunLog._start_mlflow", lambda *_: None)
    with monkeypatch.context() as patched:
        before_step(patched, lambda trainer: trainer.run._background.wait())
        train_gan(config, inputs, tmp_path / "at once")
    for images in (24, 48, 64):
        assert digests(tmp_path / "late", images) == digests(tmp_path / "at once", images)
    assert [row["images"] for row in read_metrics(tmp_path / "late")] == list(range(8, 72, 8))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=SLOW_GUARD)])
def test_what_is_queued_when_a_signal_comes_is_written(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path, slow: list, number: signal.Signals
) -> None:
    """It comes right after a checkpoint was queued, in the step after."""

    def stop(trainer: TileTrainer) -> None:
        if trainer.steps == 5 and not slow:
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patched:
        before_step(patched, stop)
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                train_gan(small, inputs, tmp_path)
        else:
            assert not train_gan(small, inputs, tmp_path)
    saved = 40 if number == signal.SIGINT else 48  # after SIGTERM one more step and one more checkpoint
    assert latest_checkpoint(tmp_path).name == f"{saved:012d}" and (tmp_path / f"checkpoints/{40:012d}").is_dir()
    assert read_metrics(tmp_path)[-1]["images"] == saved
    assert read_record(tmp_path)["status"] == ("FAILED" if number == signal.SIGINT else "KILLED")
    assert not list(tmp_path.rglob(".tmp-*"))
    assert train_gan(small, inputs, tmp_path)
    assert digests(tmp_path, 96) == digests(trained, 96)


def test_a_disk_that_does_not_take_the_best_model_ends_the_run(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it did when it was written at once. The row of its validation isn't there: a new start validates again."""
    config = small.replace(validate_every=40, validation_tiles=16, log_every=8)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "generator.safetensors")

    def slowly(_: TileTrainer) -> None:
        time.sleep(0.05)

    monkeypatch.setattr(validation, "make_extractor", lambda *_, **__: make_extractor("handmade"))
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left on device"):
        patched.setattr("rnagan.training.train_tiles.write_model", full)
        before_step(patched, slowly)
        train_gan(config, inputs, tmp_path)
    assert read_record(tmp_path)["status"] == "FAILED"
    rows = read_metrics(tmp_path)
    assert rows[-1]["images"] == 40 and not any("frechet" in name for row in rows for name in row)
    assert not (tmp_path / "model").exists() and latest_checkpoint(tmp_path).name == f"{40:012d}"
    assert train_gan(config, inputs, tmp_path)
    assert [row["images"] for row in read_metrics(tmp_path) if any("frechet" in name for name in row)] == [40, 80]
