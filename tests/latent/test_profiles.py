"""One choice of profiles for generation, edits of profiles and external cohorts, with all checks."""

import dataclasses
from pathlib import Path

import anndata
import numpy as np
import pytest

from rnagan.expression.h5ad import open_profiles
from rnagan.expression.transform import ExpressionTransform
from rnagan.generation import generate_tiles
from rnagan.latent.profiles import Choice, choose_profiles, profiles_of_model
from rnagan.models.trained_vae import load_vae
from rnagan.training.tile_inputs import TileInputs


def test_names_come_in_their_order_and_tissues_of_no_use_are_counted(inputs: TileInputs) -> None:
    path = inputs.expression
    named, left_out = choose_profiles(Choice(path, samples=("D3-cortex", "D0-lung", "D3-cortex")), "tpm", ["lung"])
    assert named.obs_names.tolist() == ["D3-cortex", "D0-lung"] and left_out == 0
    lungs, left_out = choose_profiles(Choice(path, "test"), "tpm", ["lung"])
    assert set(lungs.obs["tissue"]) == {"lung"} and (lungs.n_obs, left_out) == (6, 5)
    assert choose_profiles(Choice(path, "test", tissue="cortex"), "tpm")[0].n_obs == 5
    assert choose_profiles(Choice(path), "tpm")[0].n_obs == 25


@pytest.mark.parametrize(
    ("choice", "known", "said"),
    [
        ({"samples": ("D99",)}, None, "has no profile D99"),
        ({"samples": ("D0-lung",), "split": "test"}, None, "has no profile D0-lung in split test"),
        ({"tissue": "liver"}, None, r"has no profile of tissue liver among those asked for \(cortex, lung\)"),
        ({"split": "test"}, ["liver"], r"no profile in split test of a tissue that the model knows \(liver\)"),
    ],
)
def test_a_choice_of_nothing_is_refused(inputs: TileInputs, choice: dict, known: list[str] | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose_profiles(Choice(inputs.expression, **choice), "tpm", known)
    with pytest.raises(FileNotFoundError, match=r"none.h5ad does not exist"):
        choose_profiles(Choice(Path("none.h5ad")), "tpm")


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_repeated_names_and_other_units_are_refused_before_anything_is_generated(
    trained: Path, inputs: TileInputs, tmp_path: Path
) -> None:
    data = open_profiles(inputs.expression)[:3].copy()
    twice = anndata.AnnData(data.X, data.obs.set_axis(["a", "b", "a"]), data.var, {"units": "tpm"})
    counts = anndata.AnnData(data.X, data.obs, data.var, {"units": "counts"})
    plain = anndata.AnnData(data.X, data.obs[[]], data.var, {"units": "tpm"})
    for made, split, said in (
        (twice, None, "has the profile a more than once; give each a name of its own"),
        (counts, None, "is in counts and the model was trained on tpm"),
        (plain, "test", "has no obs column split; leave --split out"),
    ):
        made.write_h5ad(tmp_path / "p.h5ad")
        with pytest.raises(ValueError, match=said):
            choose_profiles(Choice(tmp_path / "p.h5ad", split), "tpm")
        with pytest.raises(ValueError, match=said):
            generate_tiles(
                trained, tmp_path / "p.h5ad", tmp_path / "out", n=1, seed=0, form="png", split=split, samples=[]
            )
    assert not (tmp_path / "out").exists()


def test_ranks_take_profiles_in_any_units_and_give_them_in_the_models_own(inputs: TileInputs, tmp_path: Path) -> None:
    data = open_profiles(inputs.expression)
    z_scores = load_vae(inputs.vae)
    genes = list(z_scores.transform.genes)
    ranks = ExpressionTransform.fit(data.X, list(data.var_names), "tpm", "log1p", "normal_scores")
    model = dataclasses.replace(z_scores, transform=ranks)
    fewer = data[:6, 5:].copy()
    logged = anndata.AnnData(np.log2(fewer.X + 1), fewer.obs, fewer.var, {"units": "log2"})
    logged.write_h5ad(tmp_path / "log2.h5ad")
    chosen = profiles_of_model(Choice(tmp_path / "log2.h5ad"), model)
    assert np.isnan(chosen.values[:, :5]).all() and (chosen.values[:, 5:] >= 0).all()
    expected = ranks.apply(fewer.X, list(fewer.var_names), "tpm")
    np.testing.assert_allclose(ranks.apply(chosen.values, genes, "tpm"), expected, atol=0.05)
    assert 0.3 < np.median(chosen.values[:, 5:]) / np.median(fewer.X) < 3  # levels of TPM, as the model's units say
    with pytest.raises(ValueError, match="is in log2 and the model was trained on tpm"):
        profiles_of_model(Choice(tmp_path / "log2.h5ad"), z_scores)
