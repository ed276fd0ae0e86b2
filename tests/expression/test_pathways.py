"""Scores of gene sets: a loop by hand with SciPy's normal quantiles, and what a GMT file may hold."""

import gzip
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from rnagan.expression.h5ad import read_embedding
from rnagan.expression.pathways import pathway_scores, read_gmt, score_pathways

GENES = [f"ENSG{n:011d}" for n in range(12)]
SYMBOLS = [f"SYM{n}" for n in range(12)]
SETS = {"by id": GENES[:4], "by symbol": ["sym5", "SYM7", "SYM9", "SYM11", "OTHER"], "few": [GENES[0], "OTHER"]}


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).permuted(np.tile(np.arange(12.0), (6, 1)), axis=1)


def test_scores_are_means_of_normal_scores(x: np.ndarray) -> None:
    found = pathway_scores(x, [f"{gene}.2" for gene in GENES], SYMBOLS, SETS, least=3)
    assert (found.names, found.left_out, found.values.dtype) == (["by id", "by symbol"], ["few"], np.float32)
    for row, profile in enumerate(x):
        normal = [norm.ppf((value + 0.5) / 12) for value in profile]
        assert found.values[row, 0] == pytest.approx(np.mean(normal[:4]), abs=1e-6)
        assert found.values[row, 1] == pytest.approx(np.mean([normal[k] for k in (5, 7, 9, 11)]), abs=1e-6)
    assert found.values[0, 0] != pytest.approx(x[0, :4].mean())  # known wrong: a mean of expression


def test_the_order_alone_counts_and_each_profile_is_by_itself(x: np.ndarray) -> None:
    found = pathway_scores(x, GENES, SYMBOLS, SETS, least=3).values
    np.testing.assert_array_equal(pathway_scores(np.exp(x / 3) * 7, GENES, SYMBOLS, SETS, least=3).values, found)
    np.testing.assert_array_equal(pathway_scores(x[2:3], GENES, SYMBOLS, SETS, least=3).values, found[2:3])


def test_a_gene_that_was_not_measured_has_no_say(x: np.ndarray) -> None:
    x[0, [0, 8]] = np.nan
    fewer = np.delete(x[:1], [0, 8], axis=1)
    names = [[name for k, name in enumerate(own) if k not in (0, 8)] for own in (GENES, SYMBOLS)]
    by_itself = pathway_scores(fewer, *names, SETS, least=3).values
    np.testing.assert_allclose(pathway_scores(x, GENES, SYMBOLS, SETS, least=3).values[:1], by_itself, atol=1e-6)
    x[1, :4] = np.nan
    assert pathway_scores(x, GENES, SYMBOLS, SETS, least=3).values[1, 0] == 0


def test_scores_go_beside_the_profiles(x: np.ndarray, tmp_path: Path) -> None:
    obs = pd.DataFrame({"donor": list("abcdef"), "tissue": "lung", "split": "train"}, [f"S{n}" for n in range(6)])
    data = anndata.AnnData(x, obs, pd.DataFrame({"symbol": SYMBOLS}, GENES), {"units": "tpm"})
    data.write_h5ad(tmp_path / "x.h5ad")
    lines = [f"{name}\thttp://set\t" + "\t".join(genes) for name, genes in SETS.items()]
    (tmp_path / "sets.gmt.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    said = score_pathways(tmp_path / "x.h5ad", tmp_path / "sets.gmt.gz", tmp_path / "y.h5ad", least=3)
    assert "6 profiles × 2 gene sets in obsm['X_pathways']" in said[-1] and "Left out 1 sets" in said[0]
    found = read_embedding(tmp_path / "y.h5ad", "X_pathways")
    np.testing.assert_array_equal(found.values, pathway_scores(x, GENES, SYMBOLS, SETS, least=3).values)
    assert anndata.read_h5ad(tmp_path / "y.h5ad").uns["X_pathways_names"].tolist() == ["by id", "by symbol"]


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no gene set"),
        ("A\tx\n", "line 1 must hold a name, a description and genes, with tabs between"),
        ("A,x,TP53\n", "line 1 must hold a name"),
        ("A\tx\tTP53\nA\tx\tMYC\n", "names the set A again on line 2"),
        ("A\tx\t\xff\n", "can't be read"),
    ],
)
def test_what_is_no_gmt_is_refused_by_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "x.gmt").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message) as caught:
        read_gmt(tmp_path / "x.gmt")
    assert "x.gmt" in str(caught.value)


def test_sets_of_other_genes_are_refused(x: np.ndarray) -> None:
    with pytest.raises(ValueError, match="No gene set has 5 of the profiles' genes: .* those of the sets with OTHER"):
        pathway_scores(x, GENES, SYMBOLS, {"A": ["OTHER"] * 9})
