"""rnagan edit-profiles from file to file."""

import runpy
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from rnagan.api import RNAGAN
from rnagan.expression.h5ad import read_expression
from rnagan.generation import generate_tiles
from rnagan.latent.profiles import gene_columns
from rnagan.models.trained_vae import load_vae

TOOL = Path(__file__).parents[2] / "tools/edit_profiles.py"


@pytest.fixture(scope="module")
def main() -> object:
    return runpy.run_path(str(TOOL))["main"]


@pytest.fixture
def edit(main, toy_vae: Path, toy_profiles: Path, tmp_path: Path):
    """Run a subcommand on the toy VAE, and read what it wrote."""

    def call(command: str, *arguments: str, profiles: str | None = "profiles.h5ad") -> Result:
        given = ["--profiles", str(toy_profiles / profiles)] if profiles else []
        out = ["--out", str(tmp_path / "out.h5ad")]
        return CliRunner().invoke(main, [command, "--vae", str(toy_vae), *given, *out, *arguments])

    return call


def written(tmp_path: Path) -> anndata.AnnData:
    return anndata.read_h5ad(tmp_path / "out.h5ad")


def test_reconstructed_profiles_are_close_and_named_after_their_source(
    edit, toy_profiles: Path, tmp_path: Path
) -> None:
    done = edit("reconstruct", "--split", "test", "--keep-real")
    assert done.exit_code == 0 and "30 reconstructed profiles beside 30 real, 30 genes in tpm" in done.output
    data, real = written(tmp_path), read_expression(toy_profiles / "profiles.h5ad")
    assert data.obs["origin"].tolist() == ["real"] * 30 + ["reconstructed"] * 30 and data.uns["units"] == "tpm"
    test = real.split("test")
    np.testing.assert_array_equal(data.X[:30], test)
    off = np.log1p(data.X[30:]) - np.log1p(test)
    assert np.sqrt(np.square(off).mean()) < 0.6 * np.log1p(test).std(axis=0).mean()
    assert data.obs_names[30] == f"{data.obs['source'].iloc[30]}_reconstructed"
    assert set(data.obs) >= {"donor", "tissue", "split", "origin", "source", "distance", "residual", "far"}
    assert data.var["symbol"].tolist()[:2] == ["SYM0", "SYM1"]
    assert read_expression(tmp_path / "out.h5ad").units == "tpm"  # what the other scripts read


def test_generated_profiles_are_the_same_on_a_second_run(edit, toy_vae: Path, tmp_path: Path) -> None:
    assert edit("sample", "--n", "6", profiles=None).exit_code == 0
    first = written(tmp_path)
    assert first.obs["tissue"].value_counts().to_dict() == {"Brain - Cortex": 6, "Liver": 6, "Lung": 6}
    edit("sample", "--n", "3", "--tissue", "Lung", profiles=None)
    np.testing.assert_array_equal(written(tmp_path).X, first[first.obs["tissue"] == "Lung"].X[:3])
    model = load_vae(toy_vae / "model")
    space = model.space
    mu = model.encode(first.X, first.var_names, "tpm").latents[:, space.active]
    nearest = np.linalg.norm(mu[:, None] - space.centroids[None][:, :, space.active], axis=-1).argmin(axis=1)
    assert [space.tissues[k] for k in nearest] == first.obs["tissue"].tolist()


def test_shifted_profiles_land_in_the_other_tissue(edit, toy_vae: Path, tmp_path: Path) -> None:
    assert edit("shift", "--tissue", "Lung", "--split", "test", "--to", "Liver").exit_code == 0
    data, model = written(tmp_path), load_vae(toy_vae / "model")
    assert set(data.obs["tissue"]) == {"Liver"} and set(data.obs["source_tissue"]) == {"Lung"}
    assert all(name.endswith("_to_Liver") for name in data.obs_names)
    mu = model.encode(data.X, data.var_names, "tpm").latents
    to, away = (np.linalg.norm(mu - model.space.centroid(name), axis=1) for name in ("Liver", "Lung"))
    assert (to < away).all()


@pytest.mark.filterwarnings("ignore:.*profiles:UserWarning")
def test_a_tissue_by_another_name_is_shifted_from_the_one_that_is_said(edit, tmp_path: Path) -> None:
    asked = ("--tissue", "cerebral cortex", "--to", "Lung")
    refused = edit("shift", *asked, profiles="external.h5ad")
    assert refused.exit_code == 1 and "wasn't trained on 'cerebral cortex'; say with --from" in refused.output
    assert edit("shift", *asked, "--from", "Brain - Cortex", profiles="external.h5ad").exit_code == 0
    assert written(tmp_path).n_vars == 30 and np.isfinite(written(tmp_path).X).all()  # 10 genes weren't there


def test_interpolation_goes_from_one_reconstruction_to_the_other(edit, tmp_path: Path) -> None:
    edit("reconstruct", "--sample", "S13", "--sample", "S12")
    ends = written(tmp_path)
    assert edit("interpolate", "--start", "S13", "--end", "S12", "--steps", "5").exit_code == 0
    data = written(tmp_path)
    np.testing.assert_allclose(data.X[[0, -1]], ends.X, rtol=1e-5, atol=1e-5)
    assert data.obs["tissue"].tolist() == ["Lung"] * 2 + ["Brain - Cortex"] * 3
    np.testing.assert_allclose(data.obs["share"], [0, 0.25, 0.5, 0.75, 1])
    assert set(data.obs["split"]) == {"test"} and set(data.obs["donor"]) == {""}  # of two donors


def test_perturbed_genes_move_and_the_changes_of_all_are_written(edit, toy_profiles: Path, tmp_path: Path) -> None:
    chosen = ("--split", "test", "--scale", "log", "--by", "1")
    done = edit("perturb", "--genes", "sym3,ENSG00000000005.7,NOSUCH", *chosen)
    assert done.exit_code == 0 and "1 gene (NOSUCH)" in done.output and "follow most" in done.output
    real = read_expression(toy_profiles / "profiles.h5ad").split("test")
    change = np.log1p(written(tmp_path).X) - np.log1p(real)
    np.testing.assert_allclose(change[:, [3, 5]], 1, atol=1e-3)
    table = pd.read_csv(tmp_path / "out.changes.csv")
    assert table.loc[table["moved"], "symbol"].tolist() == ["SYM3", "SYM5"]
    moved = table["moved"].to_numpy()
    np.testing.assert_allclose(table["change_log"][moved], 1, atol=1e-3)
    np.testing.assert_allclose(table["change_sd"][~moved], table["reconstructed_sd"][~moved], atol=1e-3)
    assert np.abs(change[:, ~moved]).max() > 0.05
    assert edit("perturb", "--genes", "SYM3,SYM5", *chosen, "--input-alone").exit_code == 0
    alone = np.log1p(written(tmp_path).X) - np.log1p(real)
    np.testing.assert_allclose(alone[:, ~moved], 0, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*profiles:UserWarning")
def test_tiles_are_generated_from_what_an_rna_gans_own_vae_made(main, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "generated.h5ad"
    done = CliRunner().invoke(main, ["sample", "--vae", str(trained), "--n", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    options = {"n": 2, "seed": 0, "form": "png", "split": None, "samples": []}
    assert "4 tiles of 2 profiles" in generate_tiles(trained, out, tmp_path / "tiles", **options)[-1]
    assert (tmp_path / "tiles/lung_generated_0000/lung_generated_0000_0001.png").is_file()
    assert RNAGAN.from_pretrained(trained).encode(anndata.read_h5ad(out)).obsm["X_rnagan"].shape == (2, 6)


def test_genes_come_from_a_list_of_names_or_a_file_and_symbols_must_be_unique(toy_vae: Path, tmp_path: Path) -> None:
    model = load_vae(toy_vae / "model")
    genes = model.transform.genes
    listed = tmp_path / "set.txt"
    listed.write_text(f"gene\n{genes[4]}.2\nFOX\n")
    columns, unknown = gene_columns(str(listed), model, {genes[9]: "fox"})
    assert columns.tolist() == [4, 9] and unknown == []
    listed.write_text(f"{genes[4]}\n{genes[2]}\n")  # without a header the first line counts
    assert gene_columns(str(listed), model, {})[0].tolist() == [2, 4]
    with pytest.raises(ValueError, match=f"FOX stands for {genes[1]}, {genes[2]}; give the id"):
        gene_columns("FOX", model, {genes[1]: "FOX", genes[2]: "FOX"})
    with pytest.raises(ValueError, match=r"no gene FOX; its first is ENSG0+ \(the profiles hold no symbols"):
        gene_columns("FOX", model, {})
    with pytest.raises(FileNotFoundError, match="none.txt does not exist"):
        gene_columns("none.txt", model, {})
    with pytest.raises(ValueError, match="gene list ',' is empty"):
        gene_columns(",", model, {})


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("reconstruct", ["--sample", "S999"], "profiles.h5ad has no profile S999"),
        ("reconstruct", ["--tissue", "Spleen"], "no profile of tissue Spleen among those asked for (Brain - Cortex,"),
        ("interpolate", ["--start", "S1", "--end", "S1"], "Both ends are S1; give two profiles"),
        ("shift", ["--to", "Spleen"], "wasn't trained on 'Spleen'; it knows Brain - Cortex, Liver, Lung"),
        ("perturb", ["--genes", "NOSUCH", "--by", "1"], "The model has no gene NOSUCH"),
    ],
)
def test_mistakes_cost_one_sentence(edit, command: str, arguments: list[str], said: str, tmp_path: Path) -> None:
    done = edit(command, *arguments)
    assert done.exit_code == 1 and done.output.startswith("Error: ") and said in done.output
    assert not (tmp_path / "out.h5ad").exists()


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_other_units_and_repeated_names_are_refused(main, toy_vae: Path, toy_profiles: Path, tmp_path: Path) -> None:
    data = anndata.read_h5ad(toy_profiles / "profiles.h5ad")
    for change, said in (("units", "is in counts and the model was trained on tpm"), ("names", "S0 more than once")):
        other = data.copy()
        if change == "units":
            other.uns["units"] = "counts"
        else:
            other.obs_names = ["S0", *other.obs_names[:1], *other.obs_names[2:]]
        other.write_h5ad(tmp_path / "other.h5ad")
        arguments = [
            "--vae",
            str(toy_vae),
            "--profiles",
            str(tmp_path / "other.h5ad"),
            "--out",
            str(tmp_path / "o.h5ad"),
        ]
        done = CliRunner().invoke(main, ["reconstruct", *arguments])
        assert done.exit_code == 1 and said in done.output
