"""What the runs of all trainers share: folder, resume, signals, metrics, checkpoints, and how a run ends.

A trainer owns its loop, its losses and its optimisers, and has a `TrainingRun` for everything else. What a run writes,
a thread of the main process writes while training goes on, in the order in which it came: a checkpoint never appears
before the rows of metrics up to it.
"""

import contextlib
import functools
import math
import signal
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from rnagan.config.base import Config, family
from rnagan.config.simclr import SimCLRConfig
from rnagan.config.vae import VAEConfig
from rnagan.runtime import progress
from rnagan.runtime.background import Background
from rnagan.runtime.devices import arithmetic
from rnagan.runtime.distributed import processes
from rnagan.runtime.ends import raise_lost_interrupt
from rnagan.runtime.folder_lock import FolderLock
from rnagan.tracking.mlflow_store import EXPERIMENTS
from rnagan.tracking.run_folder import KINDS, checkpoint_path, latest_checkpoint
from rnagan.tracking.run_log import RunLog, Unwritten
from rnagan.training import deepspeed
from rnagan.training.checkpoint import (
    Checkpoint,
    Moments,
    RunState,
    best_checkpoint,
    check_seen,
    host_copy,
    keep,
    load_checkpoint,
    save_checkpoint,
    set_aside_damaged,
)
from rnagan.training.corrupt_tiles import CorruptTiles, cut_back
from rnagan.training.launch import end_together
from rnagan.training.same_run import check_same_run
from rnagan.training.throughput import Throughput

Optimizers = dict[str, tuple[nn.Module, torch.optim.Optimizer]]  # each with the network that it moves
STEPS_BETWEEN_CHECKS = 16  # asking all processes costs a round of messages
# What a run writes, with how many of a kind may be unwritten. A checkpoint's copy fills as much memory as the networks
# and their optimisers.
UNWRITTEN = {"rows of metrics": 200, "sample grids": 2, "checkpoints": 1, "validations": 1}


class StopSignal:
    """Notes SIGTERM, SIGUSR1 and SIGHUP, which come before something is killed; a `with` block around the steps of a
    run."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._asked = accelerator, False

    def __enter__(self) -> Self:
        there = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
        # nohup has it ignore SIGHUP; our batch scripts have it ignore the others only until it listens
        self._before = {n: was for n, was in there.items() if n != signal.SIGHUP or was is not signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def is_set(self, steps: int) -> bool:
        """Whether any process got a signal; asked of all of them, so that they stop after the same step."""
        raise_lost_interrupt()
        if self._accelerator.num_processes == 1:
            return self._asked
        if steps % STEPS_BETWEEN_CHECKS:
            return False
        flag = torch.tensor(float(self._asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, "sum").item())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


class TrainingRun:
    """The folder of a run and its record.

    It is opened before there are networks: `checkpoint` is the newest one, from which the run goes on, or None. Other
    settings or inputs (`made_from`: their digests) than those of the run in the folder are refused with `ValueError`,
    and so is a folder in which another run is going on.
    The trainer builds its networks, loads the checkpoint and calls `begin`. Then:

        with trainer.run as run:  # closed as finished, stopped (by a signal) or failed (by an error)
            run.finished = trainer.train()

    `unit`: what the clock counts, in messages.
    """

    def __init__(
        self, folder: Path, config: Config, accelerator: Accelerator, made_from: Mapping[str, str], unit: str = "images"
    ) -> None:
        self.folder, self.config, self.accelerator = Path(folder), config, accelerator
        self.made_from, self.unit = dict(made_from), unit
        self.finished = False
        self.unwritten, self._background = Unwritten(self.folder), Background(UNWRITTEN)
        self.corrupt_tiles = CorruptTiles(self.folder, accelerator.process_index)
        self._lock: FolderLock | None = None
        self.checkpoint = self._newest_checkpoint()
        self._saved_at = -1 if self.checkpoint is None else int(self.checkpoint.path.name)

    @property
    def is_main(self) -> bool:
        return self.accelerator.is_main_process

    def begin(self, images: int, total: int, tags: Mapping[str, str]) -> None:
        """Open the record, cut back to `images` of `total` where the run goes on; `tags`: MLflow's, beside its kind."""
        resumed, kind = self.checkpoint is not None, family(type(self.config))
        self.log = RunLog(
            self.folder,
            self.config,
            EXPERIMENTS[kind],
            main=self.is_main,
            total=total,
            made_from=self.made_from,
            tags={"kind": kind, "processes": str(self.accelerator.num_processes), **_computing(), **tags},
            resumed_at=images if resumed else None,
            run_id=self.checkpoint.state["mlflow_run"] if self.checkpoint is not None else None,
        )
        if self.is_main:
            cut_back(self.folder, images)
        self.accelerator.wait_for_everyone()
        self.throughput = Throughput(images, self.accelerator.device)

    def load_optimizers(self, optimizers: Optimizers, empty_step: Callable[[], None]) -> None:
        """Restore prepared optimisers from the checkpoint, whatever launch and number of processes wrote it.

        The weights have been loaded before. `empty_step` is a step on any batch: ZeRO has no room for moments before.
        """
        assert self.checkpoint is not None
        cut = [name for name, (network, _) in optimizers.items() if deepspeed.is_cut(network)]
        if cut:
            deepspeed.make_room([optimizer for _, optimizer in optimizers.values()], empty_step)
        for name, (network, optimizer) in optimizers.items():
            if name in cut:
                deepspeed.put_moments(network, optimizer, self.checkpoint.tensors(name))
            else:
                self.checkpoint.load_optimizer(name, optimizer)

    @contextlib.contextmanager
    def steps(self, total: int, unit: str, name: str, initial: int) -> Iterator[tuple[StopSignal, Any]]:
        """A block of steps: signals that ask the run to stop, and a progress bar on the main process."""
        bar = progress.bar(total, unit, name, initial=initial)
        bar.disable = bar.disable or not self.is_main
        with StopSignal(self.accelerator) as stop, bar:
            yield stop, bar

    def check_finite(self, images: int, row: Mapping[str, float], networks: Iterable[nn.Module], advice: str) -> None:
        """Raise `ValueError` where a value of `row` or a weight is NaN or infinite. Every process must call it.

        Weights are looked at too: a step can leave bad ones behind a loss that was still fine. It comes before each
        checkpoint, so that the last one is good.
        """
        weights_are_finite = deepspeed.are_finite(self.accelerator, networks)
        if not weights_are_finite or not all(map(math.isfinite, row.values())):
            self._background.wait()
            newest = latest_checkpoint(self.folder)
            last = "there is no checkpoint yet" if newest is None else f"the last good checkpoint is {newest}"
            raise ValueError(
                f"Losses or weights are no longer finite at {images} {self.unit} ({row}); {last}. {advice}"
            )

    def save(
        self,
        images: int,
        weights: Mapping[str, nn.Module | dict[str, Tensor]],
        optimizers: Optimizers,
        state: Mapping[str, Any],
        *,
        kept: int = 1,
        last: bool = False,
    ) -> None:
        """Write a checkpoint by rename and delete all but the newest `kept` and the best. Every process must call it.

        `weights`: networks, or the tensors of one, which nobody changes any more. It is written in the background, from
        a copy. Where the disk is full the next call tries again, but after the `last` one, which is written at once,
        and raises `OSError`.
        """
        if self._saved_at == images and not last:
            return
        with self.throughput.paused("checkpoints"):
            if not last:
                self._background.wait_for_room("checkpoints")  # before there is another copy
            copied = host_copy if self.is_main and not last else dict
            tensors = {
                name: copied(deepspeed.whole_weights(own)) if isinstance(own, nn.Module) else own
                for name, own in weights.items()
            }
            moments = {name: deepspeed.whole_moments(*own) for name, own in optimizers.items()}
            moments = {name: own._replace(tensors=copied(own.tensors)) for name, own in moments.items()}
            if self.is_main:
                own_state = {**state, "mlflow_run": self.log.run_id, "made_from": self.made_from}
                write = functools.partial(self._write_checkpoint, images, tensors, moments, own_state, kept, last)
                if last:
                    self._background.wait()
                    write()
                else:
                    self._background.submit("checkpoints", write)
            self._saved_at = images
            self.accelerator.wait_for_everyone()  # here, and not in ZeRO's own groups, which wait for minutes only

    def row(self, images: int, values: dict[str, float]) -> None:
        """Write a row of metrics as they are now, in the background."""
        if self.is_main:
            seconds = self.log.clock()
            self.write("rows of metrics", lambda: self.log.metrics(images, values, seconds))

    def write(self, kind: str, job: Callable[[], None]) -> None:
        """Have something written in the background, after all that came before; for the main process. `kind`: one of
        UNWRITTEN. An error of it ends the run, soon after."""
        with self.throughput.paused(kind):
            self._background.submit(kind, job)

    def _write_checkpoint(
        self,
        images: int,
        tensors: dict[str, dict[str, Tensor]],
        moments: dict[str, Moments],
        state: dict[str, Any],
        kept: int,
        last: bool,
    ) -> None:
        path = checkpoint_path(self.folder, images)
        if path.exists():
            return
        with contextlib.nullcontext() if last else self.unwritten.tolerated("checkpoint"):
            save_checkpoint(path, tensors, moments, state)
            keep(self.folder, kept, best_checkpoint(self.folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is still to be written, and end the record and the process group. After an error nobody waits for
        the others, which may be dead."""
        failed = kind is not None
        try:
            self._background.close()
        except BaseException as late:
            if error is None:
                failed = True
                raise
            if late is not error:
                warnings.warn(f"Not everything could be written to {self.folder} ({late}).", stacklevel=2)
        finally:
            if self.is_main:
                for sentence in self.throughput.long_waits(self.config):
                    progress.say(sentence)
            self.log.close(self.finished and not failed, failed)
            if self._lock is not None:
                self._lock.release()
            end_together(self.accelerator, wait=not failed)

    def _newest_checkpoint(self) -> Checkpoint | None:
        """The newest whole one that the main process finds: another one's file system may lag behind. Before it looks,
        it takes the folder for this run: what it refuses, every process refuses."""
        here = processes()
        newest = here.from_main(self._claimed_newest)
        if newest is None:
            return None
        here.each(lambda: check_seen(newest))
        stored = load_checkpoint(newest)
        check_same_run(self.config, self.made_from, stored.state_of(RunState), self.folder)
        return stored

    def _claimed_newest(self) -> Path | None:
        """The newest whole checkpoint of the folder, which is this run's from here on."""
        self._lock = FolderLock(self.folder, f"training of {KINDS[family(type(self.config))]}")
        weakref.finalize(self, self._lock.release)  # where the run never begins
        return set_aside_damaged(self.folder)


def total_steps(config: VAEConfig | SimCLRConfig, samples: int) -> int:
    """Steps that show each of so many samples `epochs` times, the last batch filled."""
    return math.ceil(config.epochs * samples / config.batch_size)


class StepMeans:
    """Means of a step's scalars by name, over steps and processes.

    They are summed on the device; only `reduce` and `state` bring them to the host.
    """

    def __init__(self, names: Sequence[str], accelerator: Accelerator, dtype: torch.dtype = torch.float32) -> None:
        self._accelerator = accelerator
        self._counts = dict.fromkeys(names, 0)
        self._sums = torch.zeros(len(names), device=accelerator.device, dtype=dtype)

    def add(self, scalars: Sequence[Tensor | None]) -> None:
        """Count one step, its scalars in the order of the names; one that is None had no part in it."""
        zero = self._sums.new_zeros(())
        self._sums += torch.stack([zero if value is None else value.detach().to(zero) for value in scalars])
        for name, value in zip(self._counts, scalars, strict=True):
            self._counts[name] += value is not None

    def reduce(self) -> dict[str, float]:
        """The means of what was counted since the last call. Every process must call it."""
        if not any(self._counts.values()):
            return {}
        means = {name: total / n for (name, n), total in zip(self._counts.items(), self.state(), strict=True) if n}
        self._sums.zero_()
        self._counts = dict.fromkeys(self._counts, 0)
        return means

    def state(self) -> list[float]:
        """The sums so far, means over processes, for a checkpoint. Every process must call it."""
        return self._accelerator.reduce(self._sums, "mean").tolist()

    def load_state(self, sums: Sequence[float], steps: int) -> None:
        """Go on from a checkpoint's sums of so many steps."""
        self._sums += self._sums.new_tensor(sums)
        self._counts = dict.fromkeys(self._counts, steps)


def _computing() -> dict[str, str]:
    """How this machine rounds, as tags of a run."""
    return {name: str(value) for name, value in arithmetic().items()}
