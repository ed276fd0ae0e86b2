"""rnagan evaluate-vae on a toy VAE."""

import dataclasses
import json
import runpy
from pathlib import Path

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from scipy.spatial.distance import pdist
from sklearn.neighbors import KNeighborsClassifier

from rnagan.evaluation.feature_map import umap_embedding
from rnagan.evaluation.vae_evaluation import TABLES
from rnagan.evaluation.vae_maps import choose_pair
from rnagan.evaluation.vae_report import PICTURES
from rnagan.expression.h5ad import read_expression, write_expression
from rnagan.models.trained_vae import load_vae, posterior, save_vae
from rnagan.reports import vae_figures
from rnagan.reports.vae_figures import umap_by_tissue

TOOL = Path(__file__).parents[2] / "tools/evaluate_vae.py"


def evaluate(toy_vae: Path, expression: Path, out: Path, *arguments: str) -> Result:
    given = ["--vae", str(toy_vae), "--expression", str(expression), "--out", str(out), *arguments]
    return CliRunner().invoke(runpy.run_path(str(TOOL))["main"], given)


@pytest.fixture(scope="module")
def whole(
    toy_vae: Path, toy_profiles: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str], Result]:
    """The folder and the arguments of an evaluation with everything, and what was said."""
    out = tmp_path_factory.mktemp("evaluation")
    (out / "map.csv").write_text("external,ours\ncerebral cortex,Brain - Cortex\n")
    arguments = ["--external", str(toy_profiles / "external.h5ad"), "--tissue-map", str(out / "map.csv")]
    arguments += ["--missing-genes", "--beside", str(toy_vae / "model")]
    with pytest.warns(UserWarning) as warned:
        done = evaluate(toy_vae, toy_profiles / "profiles.h5ad", out, *arguments)
    assert any("lack up to 33%" in str(warning.message) for warning in warned)
    return out, arguments, done


@pytest.mark.slow
@pytest.mark.guard
def test_everything_is_written_and_said(whole: tuple[Path, list[str], Result]) -> None:
    out, _, done = whole
    assert done.exit_code == 0, done.output
    assert "30 profiles" in done.output and "External tissue called right" in done.output
    assert "(precision-weighted)" in done.output and "(precision-weighted)" in (out / "report.html").read_text()
    assert {f"{name}.csv" for name in TABLES} | {f"{name}.png" for name in PICTURES} <= {p.name for p in out.iterdir()}
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") == len(PICTURES) and "undefined" not in page.lower()
    for name in PICTURES:
        assert min(Image.open(out / f"{name}.png").size) > 300


@pytest.mark.slow
@pytest.mark.guard
def test_the_summary_equals_the_model_by_hand(
    whole: tuple[Path, list[str], Result], toy_vae: Path, toy_profiles: Path
) -> None:
    found = json.loads((whole[0] / "summary.json").read_text())
    model, data = load_vae(toy_vae / "model"), read_expression(toy_profiles / "profiles.h5ad")
    train, test = (np.log1p(data.split(name)) for name in ("train", "test"))
    z = (test - train.mean(axis=0)) / train.std(axis=0)
    latents = {name: model.encode(data.split(name), data.genes, "tpm").latents for name in ("train", "test")}
    rmse = np.sqrt(np.square(model.decode(latents["test"]) - z).mean())
    assert found["reconstruction"]["vae"]["rmse_z"] == pytest.approx(rmse, rel=1e-4)
    assert found["reconstruction"]["vae"]["rmse_z"] == pytest.approx(model.record["metrics"]["test_rmse"], rel=1e-4)
    assert found["reconstruction"]["mean"]["rmse_z"] == pytest.approx(np.sqrt(np.square(z).mean()), rel=1e-4)
    tissue = {name: data.obs["tissue"][data.obs["split"] == name] for name in ("train", "test")}
    active, x = model.space.active, torch.from_numpy(((train - train.mean(axis=0)) / train.std(axis=0)).astype("f4"))
    sd = (0.5 * posterior(model.network, x)[1]).exp().mean(dim=0).numpy()
    near = KNeighborsClassifier(5).fit((latents["train"] / sd)[:, active], tissue["train"])
    right = (near.predict((latents["test"] / sd)[:, active]) == tissue["test"]).mean()
    assert found["tissue_knn"]["vae"] == pytest.approx(right)
    assert found["neighbours_by"] == {"vae": "precision_weighted", "pca": "euclidean", "z_scores": "euclidean"}
    assert found["pca_components"] == found["active_units"] == len(active)
    assert found["shifted"]["pair"] == ["Brain - Cortex", "Lung"] and found["shifted"]["called_right"] > 0.9
    assert found["generated"]["called_right"]["tissue"] > 0.9
    external = found["external"]
    assert external["samples"] == 40 and external["samples_of_shared_tissues"] == 30
    assert external["tissues"] == {"cerebral cortex": "Brain - Cortex", "lung": "Lung"}
    assert external["missing_genes"] == pytest.approx(1 / 3) and external["imbalance"] is None
    gaps = pd.read_csv(whole[0] / "missing_genes.csv")
    assert set(gaps["gap"]) == {"none", "5%", "20%", "40%", "external"} and gaps["model"].nunique() == 2
    own, beside = (rows.drop(columns="model").reset_index(drop=True) for _, rows in gaps.groupby("model"))
    pd.testing.assert_frame_equal(own, beside)  # the same model and draws


@pytest.mark.slow
@pytest.mark.guard
def test_the_same_request_is_up_to_date_and_another_replaces_what_is_no_longer_true(
    whole: tuple[Path, list[str], Result], toy_vae: Path, toy_profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, arguments, done = whole
    with monkeypatch.context() as patch:
        patch.setattr("rnagan.evaluation.vae_evaluation.write_maps", None)  # would fail if it were called
        again = evaluate(toy_vae, toy_profiles / "profiles.h5ad", out, *arguments)
    assert again.exit_code == 0 and again.output == done.output
    before = {name: (out / f"{name}.png").read_bytes() for name in ("umap_pair", "umap_generated")}
    assert evaluate(toy_vae, toy_profiles / "profiles.h5ad", out).exit_code == 0
    assert not (out / "external.csv").exists() and not (out / "missing_genes.png").exists()
    assert all((out / f"{name}.png").read_bytes() == picture for name, picture in before.items())


def test_mistakes_cost_one_sentence(toy_vae: Path, toy_profiles: Path, tmp_path: Path) -> None:
    profiles, external = toy_profiles / "profiles.h5ad", toy_profiles / "external.h5ad"
    for expression, arguments, said in (
        (profiles, ["--beside", str(toy_vae)], "add --missing-genes"),
        (profiles, ["--tissue-map", "map.csv"], "add --external"),
        (profiles, ["--pair", "Lung", "Spleen"], "no held-out profile of 'Spleen' to shift"),
        (profiles, ["--pair", "Lung", "Lung"], "Both tissues to shift between are Lung"),
        (external, [], "external.h5ad has no profile of Brain - Cortex, Liver, Lung in split train"),
        (profiles, ["--external", str(tmp_path / "none.h5ad")], "none.h5ad does not exist"),
        (profiles, ["--missing-genes", "--present-in", "none.txt"], "none.txt does not exist"),
    ):
        done = evaluate(toy_vae, expression, tmp_path / "out", *arguments)
        assert done.exit_code == 1 and said in done.output, done.output
    assert not (tmp_path / "out").exists()
    data = anndata.read_h5ad(profiles)
    data[:, :25].write_h5ad(tmp_path / "few.h5ad")
    assert "lacks 5 of the model's 30 genes" in evaluate(toy_vae, tmp_path / "few.h5ad", tmp_path / "out").output
    data.obs["split"] = data.obs["split"].astype(str).replace({"train": "test", "test": "train"})
    data.write_h5ad(tmp_path / "leak.h5ad")
    leak = evaluate(toy_vae, tmp_path / "leak.h5ad", tmp_path / "out")
    assert leak.exit_code == 1 and "were in the training split of this model" in leak.output


@pytest.mark.slow
@pytest.mark.guard  # UMAP is compiled anew in every process, for 20 s
def test_a_collapsed_vae_of_one_tissue_is_evaluated_too(toy_vae: Path, toy_profiles: Path, tmp_path: Path) -> None:
    """No unit is active, and there is no other tissue to shift to."""
    model, data = load_vae(toy_vae / "model"), read_expression(toy_profiles / "profiles.h5ad")
    one = data.obs["tissue"].to_numpy() == "Lung"
    alone = dataclasses.replace(data, values=data.values[one], obs=data.obs[one])
    write_expression(tmp_path / "lung.h5ad", alone, "lung")
    space, lung = model.space, model.space.tissues.index("Lung")
    nothing = {"kl": 0 * space.kl, "whitening": np.zeros((0, 0), np.float32)}
    space = dataclasses.replace(space, tissues=("Lung",), centroids=space.centroids[[lung]], **nothing)
    save_vae(tmp_path / "model", dataclasses.replace(model, space=space))
    done = evaluate(tmp_path / "model", tmp_path / "lung.h5ad", tmp_path / "out", "--missing-genes")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/summary.json").read_text())
    assert found["active_units"] == found["pca_components"] == 0
    assert found["tissue_knn"] == {"vae": None, "pca": None, "z_scores": 1.0}
    assert found["shifted"] == {} and not (tmp_path / "out/umap_pair.png").exists()
    assert (tmp_path / "out/umap_generated.png").exists() and (tmp_path / "out/missing_genes.png").exists()


def test_many_tissues_are_numbered_and_no_number_covers_another(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = [(*draw.normal(size=2), f"tissue {k // 4 % 30:02d}", ("real", "generated")[k % 2]) for k in range(240)]
    points = pd.DataFrame(rows, columns=["x", "y", "tissue", "origin"])
    umap_by_tissue(tmp_path / "map.png", "Many", points)
    assert Image.open(tmp_path / "map.png").width > 1000
    figure, axis = plt.subplots()
    axis.set(xlim=(0, 10), ylim=(-1, 1))
    vae_figures._numbers(axis, np.tile([5.0, 0.0], (5, 1)))
    places = np.array([[text.get_position()[0] / 10, (text.get_position()[1] + 1) / 2] for text in axis.texts])
    plt.close(figure)
    assert len(places) == 5 and pdist(places).min() > 0.04


def test_the_midst_of_two_groups_is_in_one_of_them() -> None:
    places = np.array([[0.0, 0], [0, 1], [1, 0], [10, 10], [10, 11]])
    assert vae_figures._midst(places).tolist() in places[:3].tolist()


def test_brain_and_lung_are_the_pair_else_those_with_most_profiles() -> None:
    assert choose_pair(np.array(["Liver"] * 9 + ["Lung", "Brain - Cortex", "Brain - Cerebellum"])) == (
        "Brain - Cortex",
        "Lung",
    )
    assert choose_pair(np.array(["a", "b", "b", "c", "c", "c"])) == ("b", "c")
    assert choose_pair(np.array(["a"])) is None


@pytest.mark.slow  # UMAP compiles itself
def test_umap_keeps_groups_apart_and_is_the_same_again() -> None:
    z = np.random.default_rng(0).normal(size=(30, 40))
    z[15:] += 4
    places = umap_embedding(z)
    assert places.shape == (30, 2)
    within = np.linalg.norm(places[:15] - places[:15].mean(axis=0), axis=1).max()
    assert np.linalg.norm(places[:15].mean(axis=0) - places[15:].mean(axis=0)) > 2 * within
    np.testing.assert_array_equal(places, umap_embedding(z))
    with pytest.raises(ValueError, match="at least 4 profiles"):
        umap_embedding(z[:3])
