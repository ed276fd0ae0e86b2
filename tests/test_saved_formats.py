"""What earlier versions saved keeps loading: models, runs, shards (tests/saved/README.md)."""

import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from rnagan import RNAGAN
from rnagan.comparison.evaluation_scores import read_results
from rnagan.config.base import load_config
from rnagan.config.gan import GANConfig
from rnagan.data.index import open_dataset
from rnagan.data.reader import TileReader
from rnagan.data.verify import check_folder
from rnagan.generation import generate_tiles
from rnagan.io.files import read_json, sha256_of_file
from rnagan.models.trained_vae import load_vae
from rnagan.runtime.workers import Workers
from rnagan.tracking.old_results import read_result
from rnagan.tracking.run_folder import RunFolder, latest_checkpoint
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs

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
    assert vae.config.architecture == "mlp" and vae.space.neighbours_by == "standardised"
    z, z_recon, measured = np.float32([[3, 4]]), np.float32([[3, 0]]), np.ones((1, 2), bool)
    assert vae.space.residual(z, z_recon, measured).tolist() == pytest.approx([np.sqrt(8)])  # in Z scores, as then
    assert vae.config.transform == vae.transform.kind == "zscore"  # neither file says so


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


def test_saved_evaluations_have_their_scores_under_the_names_of_today() -> None:
    (faithfulness,) = read_results(SAVED / "evaluation")
    (fid,) = read_results(SAVED / "fid")
    assert faithfulness.scores and fid.scores
    names = [score.name for results in (faithfulness, fid) for score in results.scores]
    assert not [name for name in names if "painted" in name]
    result = read_result(SAVED / "fid/fid.json")
    assert result["protocol"]["generated_tiles"] == 30 and {row["generated"] for row in result["scores"]} >= {30}
    assert "probe" in next(iter(read_result(SAVED / "confounders/confounders.json")["tissues"].values()))


def test_a_saved_folder_of_generated_tiles_may_be_made_again(tmp_path: Path) -> None:
    out = Path(shutil.copytree(SAVED / "generated", tmp_path / "generated"))
    made = {"n": 1, "seed": 0, "form": "png", "split": "test", "samples": ["D8-lung"]}
    generate_tiles(SAVED / "run", SAVED / "expression.h5ad", out, **made)
    assert read_json(out / "generated.json")["finished"] and (out / "grid.png").is_file()


def test_a_saved_config_means_what_it_did() -> None:
    """Settings that it doesn't have were then what they are in `before`, whatever is the default today."""
    config = load_config(GANConfig, SAVED / "run/config.yaml")
    assert (config.pixel_loss, config.backbone) == ("wgan_gp", "none")


@pytest.mark.usefixtures("no_mlflow")
def test_a_run_from_before_there_were_two_critics_goes_on_to_the_same_bits(
    small: GANConfig, inputs: TileInputs, trained: Path, tmp_path: Path
) -> None:
    """Its critic on pixels was the whole critic, and its settings knew no other."""
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.rmtree(run / "model")
    shutil.rmtree(latest_checkpoint(run))  # as if it had been killed before its end
    cut = latest_checkpoint(run)
    stored = load_file(cut / "critic.safetensors")
    assert all(name.startswith("pixels.") for name in stored)
    save_file({name.removeprefix("pixels."): own for name, own in stored.items()}, cut / "critic.safetensors")
    new = (
        "pixel_loss",
        "pixel_weight",
        "backbone",
        "backbone_px",
        "feature_weight",
        "feature_lr",
        "feature_diffaugment",
    )
    settings = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({name: settings[name] for name in settings if name not in new}))
    assert settings.keys() > set(new)
    train_gan(small, inputs, run)
    for path in latest_checkpoint(trained).iterdir():
        assert sha256_of_file(latest_checkpoint(run) / path.name) == sha256_of_file(path), path.name
