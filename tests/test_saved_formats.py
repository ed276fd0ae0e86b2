"""What earlier versions saved keeps loading: models, runs, shards (tests/saved/README.md)."""

from pathlib import Path

import anndata
import numpy as np

from rnagan import RNAGAN
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.data.verify import check_folder
from rnagan.models.trained_vae import load_vae
from rnagan.runtime.workers import Workers
from rnagan.tracking.run_folder import RunFolder

SAVED = Path(__file__).parent / "saved"


def test_a_saved_model_generates_the_tiles_that_it_did() -> None:
    model = RNAGAN.from_pretrained(SAVED / "run")
    profiles = anndata.read_h5ad(SAVED / "expression.h5ad")[:2].copy()
    tiles = model.generate(profiles, 2, seed=3)
    assert tiles.shape == (2, 2, 32, 32, 3)
    there = np.load(SAVED / "tiles.npy").astype(int)
    assert np.abs(tiles - there).max() <= 1  # another processor may round another way


def test_a_saved_vae_is_the_one_inside_its_model() -> None:
    vae = load_vae(SAVED / "run/model/vae")
    assert len(vae.transform.genes) == 30 and vae.config.latent == 6


def test_a_saved_run_says_how_far_it_got() -> None:
    run = RunFolder.open(SAVED / "run")
    assert run.kind == "gan" and run.images == run.total == 96 and run.status == "FINISHED"
    assert run.rows[-1]["images"] == 96 and run.record["tags"]["model_digest"] == run.digest
    assert load_config(GANConfig, SAVED / "run/config.yaml").resolution == 32


def test_saved_shards_open_and_pass_every_check() -> None:
    shards = open_dataset(SAVED / "shards")
    assert list(shards.slides["slide"]) == ["D0-cortex-slide", "D8-lung-slide"] and shards.tile_px == 32
    reader = TileReader(shards, ["D8-lung-slide"])
    tile = np.empty(reader.shape, np.uint8)
    reader.decode(0, 0, tile)
    assert tile.std() > 1
    assert not check_folder(SAVED / "shards", workers=Workers(1)).findings
