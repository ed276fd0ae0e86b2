from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from rnagan.config.gan import GANConfig
from rnagan.training import train_tiles as train
from rnagan.training.gan.train import train_gan
from rnagan.training.joined_profiles import shuffled_samples
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.tile_trainer import TileTrainer

TABLE = pd.DataFrame(
    [(f"D{d}-{tissue}", f"D{d}", tissue) for d in range(9) for tissue in ("cortex", "lung") for _ in range(1 + d % 2)]
    + [("D3-lung-b", "D3", "lung"), ("D1-liver", "D1", "liver")],
    columns=["sample", "donor", "tissue"],
)


def test_everybody_gets_the_profile_of_another_donor_of_the_tissue() -> None:
    given = shuffled_samples(TABLE, 0)
    about = TABLE.drop_duplicates("sample").set_index("sample")
    of_given = about.loc[given]
    assert (of_given["tissue"].to_numpy() == TABLE["tissue"].to_numpy()).all()
    alone = TABLE["tissue"] == "liver"  # one donor: there is no other
    same = of_given["donor"].to_numpy() == TABLE["donor"].to_numpy()
    np.testing.assert_array_equal(same, alone)
    by_slide = TABLE.assign(given=given).groupby("sample")["given"].nunique()
    assert (by_slide == 1).all()  # slides that shared a profile share one now
    donors = TABLE.assign(given=of_given["donor"].to_numpy()).groupby(["tissue", "donor"])["given"].unique()
    assert (donors.map(len) == 1).all()
    for tissue in ("cortex", "lung"):  # each donor serves one other: the same profiles, as often
        assert set(Counter(donors[tissue].map(lambda names: names[0])).values()) == {1}


def test_the_shuffle_follows_the_seed_and_not_the_order_of_rows() -> None:
    given = dict(zip(TABLE["sample"], shuffled_samples(TABLE, 0), strict=True))
    turned = TABLE.sample(frac=1, random_state=1)
    assert dict(zip(turned["sample"], shuffled_samples(turned, 0), strict=True)) == given
    assert dict(zip(TABLE["sample"], shuffled_samples(TABLE, 1), strict=True)) != given


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_trains_on_shuffled_conditions(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    kept: list[TileTrainer] = []

    class Kept(TileTrainer):
        def train(self) -> bool:
            kept.append(self)
            return super().train()

    monkeypatch.setattr(train, "TileTrainer", Kept)
    for shuffle in (False, True):
        train_gan(small.replace(images=16, shuffle_profiles=shuffle), inputs, tmp_path / str(shuffle))
    assert "this model is the null" in capsys.readouterr().out
    own, null = (trainer.conditions for trainer in kept)
    assert own is not None and null is not None
    tissue = kept[0].data.selection.table["tissue"].to_numpy()
    for name in ("cortex", "lung"):
        rows = torch.from_numpy(tissue == name)
        assert not (own[rows] == null[rows]).all(dim=1).any()
        assert torch.equal(own[rows].sort(dim=0).values, null[rows].sort(dim=0).values)
    with pytest.raises(ValueError, match="holds a run with other settings"):
        train_gan(small.replace(images=24), inputs, tmp_path / "True")
    with pytest.raises(ValueError, match="shuffle_profiles needs mode rnagan"):
        GANConfig(mode="gan", shuffle_profiles=True)
