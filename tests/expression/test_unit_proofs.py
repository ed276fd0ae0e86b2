"""Tables of known units, made at random: what is certain is converted, what contradicts is refused."""

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from rnagan.expression.checked_table import open_table
from tests.expression.whole_table import read_whole

GENES, SAMPLES = 60, 8


def counts(random: np.random.Generator) -> NDArray[np.float64]:
    return random.poisson(np.exp(random.normal(3, 2, GENES))[:, None] * random.uniform(0.3, 3, SAMPLES)).astype(float)


def tpm(random: np.random.Generator) -> NDArray[np.float64]:
    level = counts(random) * np.exp(random.normal(0, 0.5, (GENES, SAMPLES)))
    level[:3] = 0  # genes that no sample expresses
    return level / level.sum(axis=0) * 1e6


def write(path, x: NDArray[np.float64], digits: str = ".17g", rows: str = "genes"):
    """A table of x (genes, samples)."""
    names, samples = [f"ENSG{k:011d}.1" for k in range(len(x))], [f"S{k}" for k in range(x.shape[1])]
    frame = pd.DataFrame(x, names, samples)
    frame = frame if rows == "genes" else frame.T
    text = frame.map(lambda value: format(value, digits))
    text.rename_axis("gene_id" if rows == "genes" else "sample").to_csv(path, sep="\t")
    return path


LOGARITHMS = [
    (counts, lambda x: np.log2(x + 1), "counts", lambda x: x),
    (counts, np.log1p, "counts", lambda x: x),
    (counts, lambda x: np.log10(x + 1), "counts", lambda x: x),
    (tpm, np.log1p, "log2", lambda x: np.log2(x + 1)),
    (tpm, lambda x: np.log10(x + 1), "log2", lambda x: np.log2(x + 1)),
    (tpm, lambda x: np.log2(x + 1), "log2", lambda x: np.log2(x + 1)),
    (tpm, lambda x: np.log2(x + 0.001), "log2", lambda x: np.log2(x + 1)),
    (tpm, lambda x: x, "tpm", lambda x: x),
    (counts, lambda x: x, "counts", lambda x: x),
]


@pytest.mark.parametrize("digits", [".17g", ".4f"])
@pytest.mark.parametrize("case", range(len(LOGARITHMS)))
def test_logarithms_are_recognised_and_converted(tmp_path, case: int, digits: str) -> None:
    of, logged, units, expected = LOGARITHMS[case]
    for seed, rows in enumerate(("genes", "samples")):
        x = of(np.random.default_rng([case, seed]))
        table = read_whole(write(tmp_path / f"{rows}.tsv", logged(x), digits, rows))
        assert table.units == units
        np.testing.assert_allclose(table.values, expected(x).T, rtol=2e-3, atol=2e-3)


def standardised(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return (x - x.mean(axis=axis, keepdims=True)) / x.std(axis=axis, keepdims=True)


@pytest.mark.parametrize("declared", [None, "log2"])
@pytest.mark.parametrize(("axis", "what"), [(1, "gene"), (0, "sample")])
@pytest.mark.parametrize("rows", ["genes", "samples"])
def test_z_scores_are_refused(tmp_path, axis: int, what: str, declared: str | None, rows: str) -> None:
    z = standardised(
        np.log2(tpm(np.random.default_rng(5)) + 1) + np.random.default_rng(6).random((GENES, SAMPLES)), axis
    )
    with pytest.raises(ValueError, match=rf"t\.tsv holds Z scores \(each {what} has mean 0 and SD 1\)"):
        read_whole(write(tmp_path / "t.tsv", z, ".4f", rows), units=declared)


def test_centred_values_are_refused_unless_they_are_declared(tmp_path) -> None:
    x = np.log2(tpm(np.random.default_rng(5)) + 1)
    path = write(tmp_path / "t.tsv", x - np.median(x, axis=1, keepdims=True) + 0.01)
    with pytest.raises(ValueError, match=r"t\.tsv is centred: .* say --units log2"):
        read_whole(path)
    assert read_whole(path, units="log2").units == "log2"


@pytest.mark.parametrize(
    ("of", "logged", "declared", "sentence"),
    [
        (tpm, np.log1p, "tpm", r"said to be in tpm and holds ln\(x \+ 1\): .* Say --units ln1p"),
        (tpm, np.log1p, "log2", r"said to be in log2 and holds ln\(x \+ 1\)"),
        (counts, lambda x: np.log2(x + 1), "tpm", r"holds log2\(counts \+ 1\)"),
        (tpm, lambda x: np.log2(x + 1), "ln1p", r"said to be in ln1p and holds log2\(x \+ 1\)"),
        (tpm, lambda x: x, "ln1p", r"reaches .* which no ln\(x \+ 1\) expression does"),
        (tpm, lambda x: np.log2(x + 0.001), "ln1p", r"holds -9\.96.*, which no ln\(x \+ 1\) is"),
        (counts, lambda x: x * 5000.5, "tpm", r"adds up to .*, and TPM add up to 1,000,000"),
        (counts, lambda x: x * 5000.5, None, r"adds up to .*, and TPM add up to 1,000,000"),
    ],
)
def test_values_that_contradict_what_is_said(tmp_path, of, logged, declared: str | None, sentence: str) -> None:
    path = write(tmp_path / "t.tsv", logged(of(np.random.default_rng(9))))
    with pytest.raises(ValueError, match=sentence):
        read_whole(path, units=declared)


def test_a_declared_logarithm_of_few_genes_is_converted(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sample,a,b\ns,0.5,3.25\nt,1.75,0\n")
    table = read_whole(path, units="ln1p")
    assert (table.units, table.units_from) == ("log2", "as declared; converted from ln(x + 1)")
    np.testing.assert_allclose(table.values, np.array([[0.5, 3.25], [1.75, 0]]) / np.log(2), rtol=1e-6)
    assert read_whole(path).units == "log2"


def unequal(random: np.random.Generator) -> NDArray[np.float64]:
    """FPKM, or TPM of chosen genes: samples add up to different sums, so that nothing proves a logarithm."""
    return tpm(random) * random.uniform(0.01, 0.03, SAMPLES)


UNPROVED = {
    "log2(x + 1)": (lambda x: np.log2(x + 1), "log2", lambda x: np.log2(x + 1)),
    "ln(x + 1)": (np.log1p, "ln1p", lambda x: np.log2(x + 1)),
    "log10(x + 1)": (lambda x: np.log10(x + 1), "log10p1", lambda x: np.log2(x + 1)),
    "log2(x + 0.01)": (lambda x: np.log2(x + 0.01), "log2", lambda x: np.log2(x + 0.01)),
    "small values": (lambda x: x / x.max() * 15, "tpm", lambda x: x / x.max() * 15),
}


@pytest.mark.parametrize("rows", ["genes", "samples"])
@pytest.mark.parametrize("made", UNPROVED)
def test_a_logarithm_that_nothing_proves_must_be_declared(tmp_path, made: str, rows: str) -> None:
    logged, units, expected = UNPROVED[made]
    x = unequal(np.random.default_rng(21))
    path = write(tmp_path / "t.tsv", logged(x), rows=rows)
    with pytest.raises(ValueError, match=r"t\.tsv doesn't say its units, .* don't prove which .*: say --units log2 if"):
        read_whole(path)
    np.testing.assert_allclose(read_whole(path, units=units).values, expected(x).T, rtol=1e-5, atol=1e-5)


REACHING = unequal(np.random.default_rng(21))
REACHING[0, 0] = 2**17.5
TAKEN = {
    "no other logarithm reaches 17.5": np.log2(REACHING + 1),
    "too few genes prove it": np.array([[0, 3.25, 1.5], [1.75, 5.5, 2.25]]),
    "too few genes prove it, with negative values": np.array([[-0.75, 3.25, 1.5], [1.75, 5.5, 2.25]]),
}


@pytest.mark.parametrize("because", TAKEN)
def test_what_is_taken_for_log2_is_warned_of(tmp_path, because: str) -> None:
    table = open_table(write(tmp_path / "t.tsv", TAKEN[because]))
    list(table.blocks())
    found = table.units(None)
    assert found.units == "log2" and found.convert is None
    assert f"t.tsv is taken for log2(x + 1) ({because.split(',')[0]}); if it isn't, say --units ln1p" in found.warning


@pytest.mark.parametrize(
    ("uns", "units", "factor"),
    [
        ({"log1p": {"base": None}}, "log2", 1 / np.log(2)),
        ({"log1p": {}}, "log2", 1 / np.log(2)),
        ({"log1p": {"base": 2}}, "log2", 1),
        ({"log1p": {}, "units": "ln(x+1)"}, "log2", 1 / np.log(2)),
        ({"units": "TPM"}, "tpm", 1),
        ({"units": "log2(TPM+1)"}, "log2", 1),
    ],
)
def test_what_an_anndata_says_of_its_units(tmp_path, uns: dict, units: str, factor: float) -> None:
    x = np.float32([[0.5, 1.5], [2.25, 3], [7.5, 1]])
    data = anndata.AnnData(x, pd.DataFrame(index=["S1", "S2", "S3"]), pd.DataFrame(index=["TP53", "EGFR"]), uns)
    data.write_h5ad(tmp_path / "x.h5ad")
    table = read_whole(tmp_path / "x.h5ad")
    assert table.units == units
    np.testing.assert_allclose(table.values, x * factor, rtol=1e-6)


@pytest.mark.parametrize(
    ("uns", "declared", "sentence"),
    [
        ({"units": "FPKM"}, None, r"says units 'FPKM' in uns\['units'\]; take one of tpm, counts, log2"),
        ({"units": "counts", "log1p": {}}, None, r"contradicts itself: .* counts, and uns\['log1p'\] that X is ln"),
        ({"log1p": {"base": 7}}, None, "has logarithms of base 7"),
        ({"log1p": {}}, "log2", r"says that it is ln\(x \+ 1\), and --units says log2"),
    ],
)
def test_an_anndata_that_contradicts(tmp_path, uns: dict, declared: str | None, sentence: str) -> None:
    x = np.float32([[0.5, 1.5], [2.25, 3]])
    anndata.AnnData(x, pd.DataFrame(index=["a", "b"]), pd.DataFrame(index=["TP53", "EGFR"]), uns).write_h5ad(
        tmp_path / "x.h5ad"
    )
    with pytest.raises(ValueError, match=sentence):
        read_whole(tmp_path / "x.h5ad", units=declared)
