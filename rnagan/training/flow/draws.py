"""What a flow's step draws at random for its images."""

from collections.abc import Mapping

import torch
from numpy.typing import NDArray

from rnagan.config.flow import FlowConfig
from rnagan.data.augment import draw_turns
from rnagan.data.packed import Row
from rnagan.runtime import rng
from rnagan.training.image_draws import ImageDraws
from rnagan.training.launch import dtype_of


class FlowDraws(ImageDraws):
    """The draws of a config, by purpose.

    noise       standard normal, where a tile's path begins
    time        standard normal, of which its time is made (`models.flow.times_of`)
    dropout     uniform: below condition_dropout the tile is shown no profile
    condition   standard normal, that of the condition
    turns       flips and quarter turns (`draw_turns`)
    """

    def __init__(self, config: FlowConfig, condition_width: int) -> None:
        self.config, self.condition_width = config, condition_width
        dtype = dtype_of(config.precision)
        self.rows = {"noise": Row((3 * config.resolution**2,), dtype), "time": Row((1,), dtype)}
        if config.condition_dropout:
            self.rows["dropout"] = Row((1,), dtype)
        if config.condition_noise:
            self.rows["condition"] = Row((condition_width,), dtype)
        if config.flips or config.quarter_turns:
            self.rows["turns"] = Row((3,), torch.uint8)

    def fill(self, start: int, out: Mapping[str, NDArray]) -> None:
        seed, count = self.config.seed, len(out["noise"])
        for name in {"noise", "time", "condition"} & self.rows.keys():
            out[name][:] = rng.normal(seed, f"flow/{name}", start, count, self.rows[name].shape[0])
        if "dropout" in self.rows:
            out["dropout"][:] = rng.uniform(seed, "flow/dropout", start, count, 1)
        if "turns" in self.rows:
            out["turns"][:] = draw_turns(seed, start, count)
