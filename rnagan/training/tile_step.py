"""What the trainer of generators asks of a family: networks, a step on a batch, and the names of its figures."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from rnagan.config.families import TileConfig
from rnagan.config.gan import GANConfig
from rnagan.data.packed import Packed
from rnagan.training.gradient_norms import GradientNorms
from rnagan.training.image_draws import ImageDraws
from rnagan.training.run import Optimizers

Record = Sequence[Tensor | None]  # scalars of a step, left on the device; None where the step has no such part


class Networks(Protocol):
    """Networks with fresh weights, not yet prepared by Accelerate; `modules`: by their names in a checkpoint."""

    @property
    def generator(self) -> nn.Module:
        """That of which the average is kept."""
        ...

    @property
    def modules(self) -> dict[str, nn.Module]: ...


class Step(Protocol):
    """A training step on this process's slice of the global batch; `every` so many steps the generator moves."""

    @property
    def draws(self) -> ImageDraws: ...

    @property
    def gradient_norms(self) -> GradientNorms: ...

    @property
    def raw_generator(self) -> nn.Module: ...

    @property
    def every(self) -> int: ...

    @property
    def modules(self) -> dict[str, nn.Module]: ...

    @property
    def optimizers(self) -> Optimizers: ...

    def __call__(
        self, start: int, tiles: Tensor, c: Tensor | None, update_generator: bool, drawn: Packed | None = None
    ) -> Record: ...


@dataclasses.dataclass(frozen=True)
class Parts:
    """Of a family. `fields`: names of a step's figures; `shown`: those of the progress bar, by their names there."""

    title: str
    build_networks: Callable[..., Networks]
    build_step: Callable[..., Step]
    fields: tuple[str, ...]
    shown: Mapping[str, str]


def parts_of(config: TileConfig) -> Parts:
    """Those of a config's family, whose libraries are imported here."""
    if isinstance(config, GANConfig):
        from rnagan.training.gan import step as gan

        shown = {"real-fake": "wasserstein", "penalty": "penalty", "features": "feature_gap"}
        return Parts("GAN", gan.build_networks, gan.build_step, gan.StepRecord._fields, shown)
    from rnagan.training.flow import step as flow

    return Parts("Flow", flow.build_networks, flow.build_step, flow.StepRecord._fields, {"loss": "loss"})
