"""What a GAN run can't be made of: settings that these shards or this launch can't serve."""

from rnagan.config import GANConfig
from rnagan.data.index import ShardSet


def check_run(
    config: GANConfig, shards: ShardSet, processes: int, on_gpus: bool = False, deepspeed: bool = False
) -> None:
    """Refuse a config that these shards or this number of processes can't serve."""
    if shards.tile_px % config.resolution:
        raise ValueError(
            f"{shards.address} holds tiles of {shards.tile_px} px, which don't shrink evenly to resolution "
            f"{config.resolution}; build shards with --tile-px {config.resolution}."
        )
    if config.batch_size % processes:
        raise ValueError(f"batch_size {config.batch_size} can't be shared evenly by {processes} processes.")
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
    if deepspeed and config.precision == "float64":
        raise ValueError("DeepSpeed keeps its weights in float32: choose precision float32 or bf16, or another launch.")
    if deepspeed and config.accumulate > 1:
        raise ValueError("accumulate isn't for DeepSpeed: set it to 1, or start with another of launch_configs/.")
