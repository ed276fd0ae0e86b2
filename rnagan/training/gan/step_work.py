"""What a GAN step computes, moves and holds: the trainer's own step on fake tensors, in a process of its own.

The process needs no GPU and computes nothing. JSON in, JSON out: `python -m rnagan.training.gan.step_work`.
"""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from rnagan.config.gan import GANConfig
from rnagan.data.packed import Layout, Packed, Row
from rnagan.models.ema import ExponentialAverage
from rnagan.training.gan.step import build_networks, build_step
from rnagan.training.op_counts import OpCounter, Operation

REDUCED = ("bfloat16", "float16")
_BYTES = 4  # of a weight, a gradient and each of Adam's moments
_LAUNCHERS = ("ACCELERATE_", "RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "TORCHELASTIC_", "PMI_", "OMPI_", "MV2_")


@dataclasses.dataclass(frozen=True)
class StepWork:
    """A critic step with its share of a generator's, on one process with a batch of `batch` tiles.

    Arrays are by operation: whether it computes in bf16 or fp16, its FLOPs and bytes. `share`: of a step, what one run
    of all operations is (they are of as many critic steps as a generator's step has).
    """

    batch: int
    share: float
    reduced: NDArray[np.bool_]
    flops: NDArray[np.float64]
    bytes: NDArray[np.float64]
    peak_bytes: float  # of tensors at a time, weights and moments included

    @classmethod
    def of(cls, batch: int, steps: int, operations: list[Operation], peak_bytes: float) -> Self:
        return cls(
            batch,
            1 / steps,
            np.array([one.dtype in REDUCED for one in operations]),
            np.array([one.flops for one in operations], np.float64),
            np.array([one.bytes for one in operations], np.float64),
            peak_bytes,
        )


class Work(NamedTuple):
    """Two batch sizes of one config, between and beyond which all grows in a line. Bytes of gradients that a step sends
    to the other processes, and of a checkpoint."""

    one: StepWork
    other: StepWork
    gradient_bytes: float
    checkpoint_bytes: float

    @classmethod
    def of(cls, found: dict[str, Any]) -> Self:
        """From what `count` found."""
        steps, counts = found["steps"], found["counts"]
        one, other = (
            StepWork.of(each["batch"], steps, [Operation(*own) for own in each["operations"]], each["peak_bytes"])
            for each in counts
        )
        return cls(one, other, found["gradient_bytes"], found["checkpoint_bytes"])

    def at(self, batch: int) -> StepWork:
        """The step with another batch."""
        one, other = self.one, self.other
        far = (batch - one.batch) / (other.batch - one.batch)

        def line(a: Any, b: Any) -> Any:
            return a + far * (b - a)

        return dataclasses.replace(
            one,
            batch=batch,
            flops=line(one.flops, other.flops),
            bytes=line(one.bytes, other.bytes),
            peak_bytes=line(one.peak_bytes, other.peak_bytes),
        )


def work_of(config: GANConfig, condition_width: int) -> Work:
    """Count the step of a config whose precision is float32 or bf16, at its batch and at twice it.

    Raises `ChildProcessError` with the last line that the counting process said where it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
    done = subprocess.run(
        [sys.executable, "-m", "rnagan.training.gan.step_work"],
        input=json.dumps({"config": config.to_dict(), "condition_width": condition_width}),
        capture_output=True,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        raise ChildProcessError((done.stderr.strip().splitlines() or ["it ended without a word"])[-1])
    return Work.of(json.loads(done.stdout.splitlines()[-1]))


def count(config: GANConfig, condition_width: int) -> dict[str, Any]:
    """All of it, for JSON."""
    # Fake tensors can't be moved in place, and are where they belong.
    accelerator = Accelerator(
        cpu=True, mixed_precision="bf16" if config.precision == "bf16" else "no", device_placement=False
    )
    networks = build_networks(config, condition_width, accelerator)
    generator, critic = (_weights(network) for network in networks[:2])
    mode, steps, side = FakeTensorMode(allow_non_fake_inputs=True), config.critic_steps, config.resolution
    for network in filter(None, networks):
        _make_fake(network, mode)
    with mode:
        average = ExponentialAverage(networks.generator, config.ema_images)
        step = build_step(config.replace(compile=False), condition_width, accelerator, networks)
        rows = {"tiles": Row((side, side, 3), torch.uint8)} | step.draws.rows

        def round_of(batch: int) -> None:
            for number in range(steps):
                packed = Packed.empty(Layout(batch, rows))
                c = torch.zeros(batch, condition_width) if condition_width else None
                generator_too = number == steps - 1
                step(number * batch, packed.field("tiles").permute(0, 3, 1, 2), c, generator_too, packed)
            average.update(step.raw_generator, batch * steps, batch * steps)

        with OpCounter() as counter:
            round_of(config.batch_size)  # in which optimisers make their moments
            counts = []
            for batch in (config.batch_size, 2 * config.batch_size):
                counter.restart()
                round_of(batch)
                counts.append(
                    {"batch": batch, "operations": counter.operations, "peak_bytes": counter.peak_bytes},
                )
    moments_and_average = 4 * generator + 3 * critic  # weights, Adam's two moments; the generator's average
    return {
        "steps": steps,
        "counts": counts,
        "gradient_bytes": _BYTES * (critic + generator / steps),
        "checkpoint_bytes": _BYTES * moments_and_average,
    }


def _weights(network: nn.Module) -> int:
    return sum(own.numel() for own in network.parameters() if own.requires_grad)


def _make_fake(network: nn.Module, mode: FakeTensorMode) -> None:
    for module in network.modules():
        for name, own in module._parameters.items():
            if own is not None:
                module._parameters[name] = nn.Parameter(mode.from_tensor(own.detach()), own.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)


if __name__ == "__main__":
    asked = json.loads(sys.stdin.read())
    print(json.dumps(count(GANConfig(**asked["config"]), asked["condition_width"])))
