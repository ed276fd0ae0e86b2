"""Tables of programmes, and how high they are in profiles."""

from pathlib import Path

import numpy as np
import pytest

from rnagan.evaluation.programmes import genes_of_model, read_programmes, scores
from rnagan.models.trained_vae import load_vae
from rnagan.training.tile_inputs import TileInputs


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_several_programmes_or_one_called_like_the_file(tmp_path: Path) -> None:
    read = read_programmes(write(tmp_path / "p.csv", "gene,programme,loading", "A,x,1", "B,y,-2", "C,x,0.5"))
    assert {name: own.values.tolist() for name, own in read.items()} == {"x": [["A", 1], ["C", 0.5]], "y": [["B", -2]]}
    assert list(read_programmes(write(tmp_path / "hypoxia.csv", "gene,loading", "A,1"))) == ["hypoxia"]
    genes = write(tmp_path / "set.csv", "gene,symbol", "A,a", "B,b")
    assert read_programmes(genes, loadings=False)["set"]["loading"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="set.csv has no column loading"):
        read_programmes(genes)
    with pytest.raises(ValueError, match="p.csv holds a loading that is no number"):
        read_programmes(write(tmp_path / "p.csv", "gene,loading", "A,high"))
    with pytest.raises(FileNotFoundError, match="The table of programmes nowhere.csv does not exist"):
        read_programmes(Path("nowhere.csv"))


def test_a_score_is_the_weighted_mean_of_the_models_genes(inputs: TileInputs, tmp_path: Path) -> None:
    vae = load_vae(inputs.vae)
    genes = vae.transform.genes
    rows = ("gene,loading", f"{genes[3]}.7,2", "ENSG9,5", f"{genes[1]},-1")  # versions don't matter
    (programme,) = read_programmes(write(tmp_path / "p.csv", *rows)).values()
    columns, loading = genes_of_model(programme, "p", vae, tmp_path / "p.csv")
    assert columns.tolist() == [3, 1] and loading.tolist() == [2, -1]
    z = np.random.default_rng(0).standard_normal((4, len(genes))).astype(np.float32)
    assert scores(z, columns, loading) == pytest.approx((2 * z[:, 3] - z[:, 1]) / 3, abs=1e-6)
    with pytest.raises(ValueError, match="The model has none of the genes of p in"):
        genes_of_model(programme.iloc[1:2], "p", vae, tmp_path / "p.csv")
