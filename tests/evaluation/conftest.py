"""What several tests of evaluations share."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from scipy.ndimage import gaussian_filter
from skimage.color import hed2rgb

from rnagan.config.gan import GANConfig
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import Expression, write_expression
from rnagan.tracking.run_log import RunLog
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the right shapes, but random: FID's own aren't in any package."""
    from unittest import mock

    from torch_fidelity import feature_extractor_inceptionv3 as inception

    torch.manual_seed(0)
    with mock.patch.object(inception.FeatureExtractorInceptionV3, "load_state_dict"):
        with mock.patch.object(inception, "load_state_dict_from_url"):
            network = inception.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def section_set(tmp_path_factory: pytest.TempPathFactory) -> TileInputs:
    """Four sections of 9 × 8 spots of one donor, two for training, each spot with a tile and a profile of its own.

    A smooth programme drives ten genes, and how much haematoxylin its tile has; eosin has nothing to do with it.
    """
    folder, draw = tmp_path_factory.mktemp("sections"), np.random.default_rng(0)
    splits = {"S1": "train", "S2": "train", "S3": "validation", "S4": "test"}
    x, y = np.meshgrid(np.arange(9), np.arange(8), indexing="ij")
    spots, counts = [], []
    for k, (section, split) in enumerate(splits.items()):
        programme, other = (gaussian_filter(draw.standard_normal((29, 28)), 1.2)[10:19, 10:18] for _ in range(2))
        programme, other = ((field - field.mean()) / field.std() for field in (programme, other))
        with ShardWriter(folder / "shards", section) as shard:
            for at in np.ndindex(9, 8):
                spot = f"{section}_{at[0]}x{at[1]}"
                spots.append((spot, "D", "breast", split, section, "", "section", x[at] + 3 * k, y[at]))
                stain = np.array([0.15 + 0.05 * programme[at], 0.1 + 0.02 * other[at], 0.02])
                noise = draw.normal(0, 0.02, (32, 32, 3))
                tile = np.round(255 * hed2rgb(np.clip(stain + noise, 0, None))).astype(np.uint8)
                jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 95, "RGB", "444")
                shard.add(spot.replace("x", "-"), jpeg, {"slide": section}, *map(int, at), profile=spot)
                rates = 20 * np.exp(0.5 * programme[at] * (np.arange(30) < 10))
                counts.append(draw.poisson(rates))
            shard.commit("done", {}, {}, {"tile_px": 32, "mpp": 1.5, "profile": "tile"}, {})
    write_digest(folder / "shards")
    columns = ["sample", "donor", "tissue", "split", "slide", "site", "split_by", "x", "y"]
    cohort = pd.DataFrame(spots, columns=columns)
    cohort.to_csv(folder / "cohort.csv", index=False)
    values = np.array(counts, np.float32)
    logged = np.log1p(1e4 * values / values.sum(axis=1, keepdims=True))
    obs = cohort.set_index("sample")[["donor", "tissue", "split"]]
    genes = [f"ENSG{k:011d}" for k in range(30)]
    path = folder / "expression.h5ad"
    write_expression(path, Expression(values, obs, genes, genes, "counts", "section"), "digest")
    data = anndata.read_h5ad(path)
    data.obsm["X_spots"] = (logged - logged.mean(axis=0)).astype(np.float32)[:, :12]
    data.write_h5ad(path)
    return TileInputs(folder / "shards", folder / "cohort.csv", path, embedding="obsm:X_spots")


@pytest.fixture(scope="session")
def section_run(section_set: TileInputs, small: GANConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps on the section set; read it, never write into it."""
    run = tmp_path_factory.mktemp("section run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunLog, "_start_mlflow", lambda *_: None)
        train_gan(small.replace(condition_units=6), section_set, run)
    return run
