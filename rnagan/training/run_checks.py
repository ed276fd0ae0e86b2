"""Settings that shards, processes or a device can't serve are refused before a run of a generator starts."""

import torch

from rnagan.config.families import TileConfig
from rnagan.config.gan import GANConfig
from rnagan.data.index import ShardSet
from rnagan.runtime.devices import computes_bf16, rounds_to_tf32


def check_run(
    config: TileConfig, shards: ShardSet, processes: int, on_gpus: bool = False, deepspeed: bool = False
) -> None:
    """Refuse a config that these shards or this number of processes can't serve."""
    if shards.tile_px % config.resolution:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to resolution "
            f"{config.resolution}; build shards with --tile-px {config.resolution}."
        )
    check_processes(config, processes, on_gpus, deepspeed)


def check_processes(config: TileConfig, processes: int, on_gpus: bool = False, deepspeed: bool = False) -> None:
    """Refuse a config that so many processes can't train."""
    if config.batch_size % processes:
        raise ValueError(f"batch_size {config.batch_size} can't be shared evenly by {processes} processes.")
    if deepspeed and config.precision == "float64":
        raise ValueError("DeepSpeed keeps its weights in float32: choose precision float32 or bf16, or another launch.")
    if not isinstance(config, GANConfig):
        return
    if config.batch_size // processes % config.accumulate:
        raise ValueError(
            f"A process's {config.batch_size // processes} tiles a step can't be cut evenly in accumulate "
            f"{config.accumulate} parts."
        )
    together = config.batch_size // processes // config.accumulate
    if together % config.penalty_every:
        raise ValueError(
            f"penalty_every {config.penalty_every} must divide the {together} tiles that a process takes at a time."
        )
    if processes > 1 and config.penalty_step == "separate":
        raise ValueError("penalty_step separate (preset released) runs on one process only.")
    if processes > 1 and "batch" in (config.generator_norm, config.critic_norm) and (not on_gpus or deepspeed):
        raise ValueError("BatchNorm (presets that follow the paper) differs between processes: run it on one.")
    if wide := [name for name in config.batch_wide if processes > 1 and name != "generator_norm batch"]:
        raise ValueError(f"{wide[0]} needs a batch whole: run it on one process.")  # the generator has SyncBatchNorm
    if deepspeed and config.accumulate > 1:
        raise ValueError("accumulate isn't for DeepSpeed: set it to 1, or start with another of launch_configs/.")


def check_device(config: TileConfig, device: torch.device) -> None:
    """Refuse a config whose penalty a device doesn't compute."""
    if not isinstance(config, GANConfig):
        return
    if config.penalty_precision == "tf32" and not rounds_to_tf32(device):
        raise ValueError("penalty_precision tf32 is for NVIDIA's GPUs since Ampere; choose bf16, or float32.")
    if config.penalty_precision == "bf16" and device.type == "cuda" and not computes_bf16():
        raise ValueError("penalty_precision bf16: this GPU only emulates it, slower than float32; choose float32.")
