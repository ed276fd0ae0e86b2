import dataclasses
import shutil
import warnings
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from rnagan import RNAGAN
from rnagan.config.base import read_preset, resolve
from rnagan.config.gan import GANConfig
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.models.conditioning import Bottleneck
from rnagan.models.gan_generator import GANGenerator
from rnagan.models.generators import build_generator
from rnagan.models.vae import BetaVAE
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture
def profiles(inputs: TileInputs) -> anndata.AnnData:
    return open_profiles(inputs.expression)


@pytest.fixture
def model(trained: Path) -> RNAGAN:
    return RNAGAN.from_pretrained(trained)


@pytest.fixture
def copy_of_model(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained / "model", tmp_path / "model")


def test_a_run_and_its_model_folder_are_the_same(trained: Path, profiles: anndata.AnnData) -> None:
    one, two = (RNAGAN.from_pretrained(folder) for folder in (trained, str(trained / "model")))
    assert one.digest == two.digest and one.mpp == 1.0 and one.tissues == ["cortex", "lung"]
    np.testing.assert_array_equal(one.generate(profiles[:2].copy(), 3), two.generate(profiles[:2].copy(), 3))


def test_encode_writes_the_latents_of_the_vae(model: RNAGAN, profiles: anndata.AnnData) -> None:
    encoded = model.encode(profiles)
    assert encoded is profiles
    latents = profiles.obsm["X_rnagan"]
    assert (latents.shape, latents.dtype) == ((profiles.n_obs, 6), np.float32)
    by_hand = np.log1p(profiles.X.astype(np.float64))
    train = (profiles.obs["split"] == "train").to_numpy()
    z = (by_hand - by_hand[train].mean(axis=0)) / by_hand[train].std(axis=0)
    with torch.no_grad():
        mu, _ = model.vae.network.encode(torch.from_numpy(z).float())
    np.testing.assert_allclose(latents, mu.numpy(), atol=1e-5)
    assert (profiles.obs["rnagan_missing_genes"] == 0).all()
    np.testing.assert_allclose(profiles.obs["rnagan_distance"], model.vae.space.distance(latents), rtol=1e-6)
    recon = model.vae.network.decode(mu).detach().numpy()
    relative = np.sqrt(((recon - z) ** 2).sum(axis=1) / (z**2).sum(axis=1))
    np.testing.assert_allclose(profiles.obs["rnagan_residual"], relative, rtol=1e-4)
    distance, residual = profiles.obs["rnagan_distance"], profiles.obs["rnagan_residual"]
    space = model.vae.space
    far = (distance > space.far_distance) | (residual > space.far_residual)
    assert profiles.obs["rnagan_far"].equals(far | (space.direction(latents) > space.far_direction))
    sparse = profiles.copy()
    sparse.X = scipy.sparse.csr_matrix(sparse.X)
    np.testing.assert_array_equal(model.encode(sparse).obsm["X_rnagan"], latents)


def test_a_view_becomes_a_data_set_of_its_own_without_a_warning(model: RNAGAN, profiles: anndata.AnnData) -> None:
    chosen = (profiles.obs["tissue"] == "lung").to_numpy()
    view = profiles[chosen]
    with warnings.catch_warnings():
        warnings.simplefilter("error", anndata.ImplicitModificationWarning)
        assert model.encode(view) is view
    assert not view.is_view and not profiles.obsm and "rnagan_far" not in profiles.obs
    whole = model.encode(profiles).obsm["X_rnagan"]
    np.testing.assert_allclose(view.obsm["X_rnagan"], whole[chosen], atol=1e-6)


def test_missing_genes_are_reported(model: RNAGAN, profiles: anndata.AnnData) -> None:
    fewer = profiles[:, :27].copy()
    with pytest.warns(UserWarning, match="25 of 25 profiles lack up to 10% of the model's 30 genes"):
        model.encode(fewer)
    np.testing.assert_allclose(fewer.obs["rnagan_missing_genes"], 0.1)
    some = profiles.copy()
    some.X[3, :6] = np.nan  # not measured in one profile
    with pytest.warns(UserWarning, match="1 of 25 profiles lack up to 20% of the model's 30 genes"):
        model.encode(some)
    np.testing.assert_allclose(some.obs["rnagan_missing_genes"], 0.2 * (np.arange(25) == 3))
    rest = np.delete(np.arange(25), 3)
    np.testing.assert_array_equal(some.obsm["X_rnagan"][rest], model.encode(profiles).obsm["X_rnagan"][rest])


def test_condition_is_the_standardised_active_units(model: RNAGAN, profiles: anndata.AnnData) -> None:
    latents = model.encode(profiles).obsm["X_rnagan"]
    c = model.bottleneck(torch.from_numpy(latents)).numpy()
    assert model.bottleneck.units.tolist() == [2, 3, 5, 0]  # by falling KL; 1 and 4 are not active
    train = c[(profiles.obs["split"] == "train").to_numpy()]
    np.testing.assert_allclose((train.mean(axis=0), train.std(axis=0)), (np.zeros(4), np.ones(4)), atol=1e-5)


def test_a_tile_depends_on_profile_number_and_seed_alone(model: RNAGAN, profiles: anndata.AnnData) -> None:
    tiles = model.generate(profiles[:3].copy(), 4, seed=1)
    assert (tiles.shape, tiles.dtype) == ((3, 4, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(model.generate(profiles[[2, 0]].copy(), 2, seed=1), tiles[[2, 0], :2])
    assert (model.generate(profiles[:3].copy(), 4, seed=2) != tiles).any(axis=(2, 3, 4)).all()
    flat = tiles.reshape(12, -1)
    assert len(np.unique(flat, axis=0)) == 12
    many = model.generate(profiles[:1].copy(), 70, seed=1)  # more than are generated at a time
    np.testing.assert_array_equal(many[:, :4], tiles[:1])


def test_bad_profiles(model: RNAGAN, profiles: anndata.AnnData) -> None:
    def changed(**changes: object) -> anndata.AnnData:
        adata = anndata.AnnData(
            profiles.X.copy(),
            pd.DataFrame(index=profiles.obs_names),
            pd.DataFrame(index=changes.get("genes", profiles.var_names)),
        )
        adata.X[1, 2] = changes.get("value", 1.0)
        if units := changes.get("units", "tpm"):
            adata.uns["units"] = units
        return adata

    model.encode(changed())
    for changes, said in (
        ({"units": None}, r"uns\['units'\] must say what X holds: 'tpm', 'counts' or 'log2'"),
        ({"units": "counts"}, "The profiles are in counts and the model was fitted on tpm"),
        ({"genes": [f"BRCA{k}" for k in range(30)]}, "none of the model's 30 genes: theirs start with BRCA0"),
        ({"value": np.inf}, "values that are infinite or negative"),
        ({"value": -0.5}, "values that are infinite or negative"),
    ):
        with pytest.raises(ValueError, match=said), np.errstate(invalid="ignore"):
            model.encode(changed(**changes))


def test_digest_is_of_all_files(copy_of_model: Path) -> None:
    files = {
        str(path.relative_to(copy_of_model)): sha256_of_file(path)
        for path in copy_of_model.rglob("*")
        if path.is_file() and path != copy_of_model / "model.json"
    }
    assert {"config.yaml", "generator.safetensors", "condition.safetensors", "vae/model.json"} < set(files)
    assert read_json(copy_of_model / "model.json")["digest"] == sha256_of(files)


@pytest.mark.parametrize(
    "name", ["generator.safetensors", "condition.safetensors", "config.yaml", "vae/transform.json"]
)
def test_changed_file_is_refused(copy_of_model: Path, name: str) -> None:
    data = bytearray((copy_of_model / name).read_bytes())
    data[-2] ^= 1
    (copy_of_model / name).write_bytes(data)
    with pytest.raises(ValueError, match="was changed after training; copy the model folder again"):
        RNAGAN.from_pretrained(copy_of_model)


def test_changed_vae_is_refused_by_name_even_with_a_new_digest(copy_of_model: Path) -> None:
    from rnagan.api import digest_of_folder

    transform = copy_of_model / "vae/transform.json"
    transform.write_text(transform.read_text().replace("ENSG00000000000", "ENSG00000000099"))
    record = read_json(copy_of_model / "model.json")
    write_json(copy_of_model / "model.json", record | {"digest": digest_of_folder(copy_of_model)})
    with pytest.raises(ValueError, match=r"transform\.json is missing or was changed after training"):
        RNAGAN.from_pretrained(copy_of_model)


def test_folders_without_a_generator(tmp_path: Path, inputs: TileInputs) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no trained model \(no model\.json there or in"):
        RNAGAN.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"vae holds no generator; give a run of rnagan train-rnagan"):
        RNAGAN.from_pretrained(inputs.vae)


@pytest.mark.usefixtures("no_mlflow")
def test_model_without_profiles(
    small: GANConfig, inputs: TileInputs, tmp_path: Path, profiles: anndata.AnnData
) -> None:
    train_gan(small.replace(mode="gan", images=8), TileInputs(inputs.shards, inputs.cohort), tmp_path)
    model = RNAGAN.from_pretrained(tmp_path)
    assert model.generate_tiles(None, 2, seed=0, name="any").shape == (2, 32, 32, 3)
    with pytest.raises(ValueError, match="was trained in mode gan: it takes no profiles"):
        model.generate(profiles, 2)


@pytest.mark.usefixtures("no_mlflow")
def test_profile_cancels_out_in_the_released_preset_and_not_in_faithful(
    inputs: TileInputs, tmp_path: Path, model: RNAGAN, profiles: anndata.AnnData
) -> None:
    """DESIGN.md, "Conditioning": standardised over a batch of one profile, every profile gives the same input."""
    released = resolve(
        GANConfig,
        read_preset(GANConfig, "released"),
        {
            "resolution": 32,
            "images": 16,
            "batch_size": 8,
            "generator_width": 4,
            "critic_width": 4,
            "threads": 1,
            "precision": "float32",
        },
    )
    train_gan(released, inputs, tmp_path)
    latents = model.encode(profiles).obsm["X_rnagan"]
    differences = {}
    for name, own in (("released", RNAGAN.from_pretrained(tmp_path)), ("faithful", model)):
        one, two = (own.generate_tiles(latent, 8, seed=0, name="the same noise").astype(int) for latent in latents[:2])
        assert one.std() > 0
        differences[name] = np.abs(one - two).max()
    assert differences["released"] <= 1 < 3 < differences["faithful"]  # a grey level of rounding


def test_all_parts_of_a_model_are_loaded_onto_its_device(trained: Path) -> None:
    loaded = RNAGAN.from_pretrained(trained, torch.device("meta"))
    assert loaded.bottleneck is not None and loaded.vae is not None
    assert {loaded.device.type, loaded.vae.device.type, loaded.bottleneck.mean.device.type} == {"meta"}


def test_profiles_are_encoded_and_tiles_generated_where_the_model_is(
    model: RNAGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU that PyTorch only pretends to have: shapes and devices are true, and no tensor leaves it unasked."""
    assert model.vae is not None and model.bottleneck is not None
    genes = model.vae.transform.genes

    def numpy(tensor: torch.Tensor) -> np.ndarray:
        assert tensor.device.type == "cpu", "a GPU's tensor has no array"
        return np.zeros(tensor.shape, np.float32)

    with FakeTensorMode(allow_non_fake_inputs=True), monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "numpy", numpy)
        with torch.device("cuda"):
            width = model.bottleneck.width
            generator = GANGenerator(model.config, build_generator(model.config, width).eval(), width)
            network = BetaVAE(len(genes), model.vae.config).eval()
            bottleneck = Bottleneck(*(torch.zeros(model.bottleneck.width) for _ in range(3)))
        vae = dataclasses.replace(model.vae, network=network)
        there = dataclasses.replace(model, generator=generator, encoder=vae, bottleneck=bottleneck)
        assert there.device.type == vae.device.type == "cuda"
        latents = there.latents(np.ones((3, len(genes)), np.float32), genes, "tpm")
        assert latents.shape == (3, 6) and there.conditions(latents).shape == (3, model.bottleneck.width)
        tiles = list(there.generate_each(latents, ["a", "b", "c"], [2, 3, 1], 0))
        assert [own.shape for own in tiles] == [(n, 32, 32, 3) for n in (2, 3, 1)]
