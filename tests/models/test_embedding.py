"""A matrix made elsewhere as the latent: components by NumPy's eigenvectors, a GAN that is trained and generates from
it, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import anndata
import numpy as np
import pytest

from rnagan import RNAGAN
from rnagan.config.gan import GANConfig
from rnagan.expression.h5ad import read_embedding, read_expression
from rnagan.generation import generate_tiles
from rnagan.models.embedding import EmbeddingModel, load_embedding, save_embedding
from rnagan.models.trained_vae import load_vae
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs


@pytest.fixture(scope="module")
def embedded(inputs: TileInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy cohort with an embedding of five dimensions that says tissue and programme, two of them the same."""
    data = anndata.read_h5ad(inputs.expression)
    random = np.random.default_rng(0)
    tissue = (data.obs["tissue"] == "lung").to_numpy(float)
    own = np.log1p(np.asarray(data.X))[:, :2]
    x = np.column_stack([5 * tissue, own[:, 0], own[:, 0], own[:, 1], random.normal(size=len(tissue))])
    data.obsm["X_model"] = x + random.normal(0, 0.01, x.shape) * (np.arange(5) != 2)
    data.obsm["X_model"][:, 2] = data.obsm["X_model"][:, 1]
    data.obsm["X_words"] = np.full((data.n_obs, 2), "a")
    data.obsm["X_holes"] = np.where(np.arange(data.n_obs)[:, None] == 3, np.nan, x)
    path = tmp_path_factory.mktemp("embedded") / "expression.h5ad"
    data.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def model(embedded: Path) -> EmbeddingModel:
    return EmbeddingModel.fit(read_embedding(embedded, "X_model"), "X_model", {"train_donors": []})


def test_the_latent_is_the_principal_components_of_the_training_split(embedded: Path, model: EmbeddingModel) -> None:
    data = anndata.read_h5ad(embedded)
    x, train = data.obsm["X_model"], (data.obs["split"] == "train").to_numpy()
    centred = x - x[train].mean(axis=0)
    values, vectors = np.linalg.eigh(centred[train].T @ centred[train] / train.sum())
    values, vectors = values[::-1], vectors[:, ::-1]
    assert values[4] < 1e-6 * values[0] < values[3]  # two dimensions are the same, so four are left
    expression = model.read(embedded)
    latents = model.encode(expression.values, expression.genes, expression.units).latents
    assert latents.shape == (data.n_obs, 4) and latents.dtype == np.float32
    np.testing.assert_allclose(np.abs(latents), np.abs(centred @ vectors[:, :4]), atol=1e-4)
    np.testing.assert_array_equal(model.space.active, range(4))
    np.testing.assert_allclose(model.space.sd, np.sqrt(values[:4]), rtol=1e-3)


def test_profiles_unlike_the_training_split_are_flagged(embedded: Path, model: EmbeddingModel) -> None:
    expression = model.read(embedded)
    encoding = model.encode(expression.values, expression.genes, expression.units)
    assert encoding.far.mean() < 0.05 and (encoding.missing == 0).all()
    outside = expression.values.copy()
    outside[:, 2] += 3  # two dimensions that were always the same now differ
    with pytest.warns(UserWarning, match="profiles are unlike the training profiles in obsm:X_model"):
        assert model.encode(outside, expression.genes, expression.units).far.all()
    with pytest.warns(UserWarning, match="unlike"):
        assert model.encode(expression.values * 40, expression.genes, expression.units).far.mean() > 0.8


def test_a_saved_one_encodes_alike_and_a_changed_one_is_refused(
    embedded: Path, model: EmbeddingModel, tmp_path: Path
) -> None:
    save_embedding(tmp_path / "embedding", model)
    again, expression = load_embedding(tmp_path / "embedding"), model.read(embedded)
    for one, two in zip(*(m.encode(expression.values, [], "obsm:X_model") for m in (model, again)), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="holds no β-VAE"):
        load_vae(tmp_path / "embedding")
    path = tmp_path / "embedding/embedding.json"
    path.write_text(path.read_text().replace("X_model", "X_other"))
    with pytest.raises(ValueError, match=r"embedding\.json is missing or was changed after training"):
        load_embedding(tmp_path / "embedding")


def test_a_run_trains_on_it_and_generates_from_it(
    small: GANConfig, inputs: TileInputs, embedded: Path, tmp_path: Path, no_mlflow: None
) -> None:
    own = dataclasses.replace(inputs, expression=embedded, vae=None, embedding="obsm:X_model")
    config = small.replace(images=32)
    assert train_gan(config, own, tmp_path / "run")
    assert train_gan(config, own, tmp_path / "run")  # up to date
    record = json.loads((tmp_path / "run/model/embedding/model.json").read_text())
    assert record["kind"] == "embedding" and record["tissues"] == ["cortex", "lung"] and record["train_donors"]
    rnagan = RNAGAN.from_pretrained(tmp_path / "run")
    assert rnagan.vae is None and rnagan.bottleneck is not None and rnagan.bottleneck.width == 4
    other = anndata.read_h5ad(embedded)
    other.X[:] = 1.0  # which says nothing
    del other.uns["units"]
    other = other[:3].copy()
    tiles = rnagan.generate(other, 2)
    other.obsm["X_model"][0, 0] += 4
    assert (rnagan.generate(other, 2) != tiles).reshape(3, -1).any(axis=1).tolist() == [True, False, False]
    lines = generate_tiles(
        tmp_path / "run", embedded, tmp_path / "tiles", n=1, seed=0, form="png", split="test", samples=[]
    )
    assert "tiles of" in lines[-1]
    without = anndata.read_h5ad(embedded)
    del without.obsm["X_model"]
    with pytest.raises(ValueError, match=r"adata has no obsm\['X_model'\] \(obsm holds X_holes, X_words\)"):
        rnagan.generate(without, 1)
    shutil.rmtree(tmp_path / "run/model/embedding")
    with pytest.raises(ValueError, match="was changed after training"):
        RNAGAN.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ("X_model", "--embedding must be obsm:KEY"),
        ("obsm:../x", "--embedding must be obsm:KEY"),
        ("obsm:X_none", r"has no obsm\['X_none'\] \(obsm holds X_holes, X_model, X_words\)"),
        ("obsm:X_words", r"holds something else than numbers in obsm\['X_words'\]"),
        ("obsm:X_holes", r"holds values in obsm\['X_holes'\] that are not finite"),
    ],
)
@pytest.mark.attack(kind=1)
def test_another_embedding_is_refused_by_name(
    embedding: str, message: str, small: GANConfig, inputs: TileInputs, embedded: Path, tmp_path: Path
) -> None:
    own = dataclasses.replace(inputs, expression=embedded, vae=None, embedding=embedding)
    with pytest.raises(ValueError, match=message):
        train_gan(small, own, tmp_path / "run")


@pytest.mark.attack(kind=1)
def test_what_has_another_width_or_says_nothing_is_refused(
    small: GANConfig, inputs: TileInputs, embedded: Path, model: EmbeddingModel, tmp_path: Path
) -> None:
    expression = model.read(embedded)
    with pytest.raises(ValueError, match="The model takes 5 dimensions of obsm:X_model, not 4 of obsm:X_model"):
        model.encode(expression.values[:, :4], [], expression.units)
    with pytest.raises(ValueError, match="not 5 of tpm"):
        model.encode(expression.values, [], "tpm")
    flat = dataclasses.replace(expression, values=np.ones_like(expression.values))
    with pytest.raises(ValueError, match=r"obsm\['X_model'\] doesn't vary over two training profiles"):
        EmbeddingModel.fit(flat, "X_model", {})
    both = dataclasses.replace(inputs, expression=embedded, embedding="obsm:X_model")
    with pytest.raises(ValueError, match="--vae and --embedding both make the latent"):
        train_gan(small, both, tmp_path / "run")
    assert read_expression(embedded).units == "tpm"  # the profiles are there beside it
