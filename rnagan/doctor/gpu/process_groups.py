"""A step under DistributedDataParallel, on one GPU and on two, synchronised BatchNorm, and DeepSpeed's ZeRO.

A check starts this module as the program of a launch: `python -m rnagan.doctor.gpu.process_groups FOLDER PRESET`.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rnagan.doctor.gpu.catalogue import LeftOutError, Place
from rnagan.doctor.gpu.gan_steps import SMALL, config_of, figures_of
from rnagan.io.files import read_json, write_json
from rnagan.runtime.distributed import processes
from rnagan.training.launch import end_together
from rnagan.training.step_rate import TrainingStep, condition_width

STEPS = 2


def ddp(place: Place) -> tuple[str, dict[str, Any]]:
    """A group of one process: messages are to itself."""
    found = _launch(place, "ddp", 1, "wgan_gp")
    return f"{found[0]['backend']}, one process, module {found[0]['module']}", {"ranks": found}


def two_gpus(place: Place) -> tuple[str, dict[str, Any]]:
    """Two processes end with the same weights, with BatchNorm synchronised."""
    if torch.cuda.device_count() < 2:
        raise LeftOutError("there is one GPU")
    found = _launch(place, "two_gpus", 2, "paper")
    sums = [one["weights"] for one in found]
    assert sums[0] == sums[1], f"two processes have different weights: their sums are {sums}"
    return f"{found[0]['backend']}, two processes with the same weights", {"ranks": found}


def zero2(place: Place) -> tuple[str, dict[str, Any]]:
    return _zero(place, 2)


def zero3(place: Place) -> tuple[str, dict[str, Any]]:
    return _zero(place, 3)


def batch_norm(place: Place) -> tuple[str, dict[str, Any]]:
    """SyncBatchNorm in a group of one process against BatchNorm: outputs and gradients."""
    torch.distributed.init_process_group("nccl", store=torch.distributed.HashStore(), rank=0, world_size=1)
    torch.manual_seed(0)
    x = torch.randn(8, 16, 32, 32, device=place.device)
    plain = nn.BatchNorm2d(16).to(place.device)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(nn.BatchNorm2d(16)).to(place.device)
    results = []
    for norm in (plain, synced):
        own = x.clone().requires_grad_()
        out = norm(own)
        out.square().mul(x).sum().backward()
        assert own.grad is not None
        results.append((out.detach(), own.grad))
    torch.distributed.destroy_process_group()
    apart = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(*results, strict=True))
    assert apart < 1e-4, f"SyncBatchNorm is {apart:.1e} from BatchNorm"
    return f"SyncBatchNorm is {apart:.1e} from BatchNorm", {"apart": apart}


def _zero(place: Place, stage: int) -> tuple[str, dict[str, Any]]:
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}
    found = _launch(place, f"zero{stage}", 1, "wgan_gp", environment)
    return f"ZeRO {stage}, one process, {STEPS} finite steps", {"ranks": found}


def _launch(
    place: Place, name: str, count: int, preset: str, environment: dict[str, str] | None = None
) -> list[dict[str, Any]]:
    """Start so many processes of this module by torchrun; what each found, by rank."""
    folder = place.folder / f"{name}-ranks"
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--standalone"]
    done = subprocess.run(
        [*command, "-m", "rnagan.doctor.gpu.process_groups", str(folder), preset],
        env=os.environ | (environment or {}),
        stdout=sys.stderr,  # the check's log
    )
    assert done.returncode == 0, f"the launch ended with {done.returncode}"
    return [read_json(folder / f"{rank}.json") for rank in range(count)]


def main() -> None:
    """Some steps of one process of a launch."""
    folder, preset = Path(sys.argv[1]), sys.argv[2]
    config = config_of(preset, SMALL | {"precision": "float32", "batch_size": 16})
    step = TrainingStep(config, condition_width(config))
    here = processes()
    share = config.batch_size // here.count
    found = {
        "losses": figures_of([step(number, *step.batch(share)) for number in range(STEPS)]),
        "weights": [float(own.double().sum()) for network in step.networks for own in network.parameters()],
        "module": type(step.module).__name__,
        "backend": torch.distributed.get_backend(),
    }
    write_json(folder / f"{here.rank}.json", found)
    end_together(step.accelerator, wait=True)


if __name__ == "__main__":
    main()
