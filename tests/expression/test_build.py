from pathlib import Path

import anndata
import numpy as np
import pytest
from click.testing import CliRunner

from rnagan.expression.build import build_expression
from rnagan.expression.store import read_expression

REPO = Path(__file__).parents[2]
COHORT = (
    "sample,donor,tissue,split,slide,site\n"
    "D1-0226,D1,lung,train,D1-0225,A\n"
    "D1-0226,D1,lung,train,D1-0227,A\n"  # one profile, two slides
    "D2-0226,D2,lung,validation,,A\n"
    "D3-0226,D3,cortex,test,D3-0225,B\n"
    "D9-0226,D9,cortex,test,D9-0225,B\n"
)
TABLE = (
    "sample,ENSG00000000003.14,ENSG00000000005.5,ENSG00000000419.12\n"
    "D3-0226,31.5,2,3\n"
    "D7-0226,1,2,3\n"
    "D1-0226,1,0,3\n"
    "D2-0226,2,0,3\n"
)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    table, cohort = tmp_path / "table.csv", tmp_path / "cohort.csv"
    table.write_text(TABLE)
    cohort.write_text(COHORT)
    return table, cohort, tmp_path / "expression.h5ad"


def test_profiles_are_joined_to_the_cohort(files: tuple[Path, Path, Path]) -> None:
    table, cohort, out = files
    told = "\n".join(build_expression(table, cohort, out))
    assert "4 samples × 3 genes in tpm (values are fractions" in told
    assert "Left out 1 sample (D7-0226) of the table" in told
    assert "Left out 1 sample (D9-0226) of the cohort" in told
    data = anndata.read_h5ad(out)
    assert data.obs_names.tolist() == ["D3-0226", "D1-0226", "D2-0226"]
    assert data.obs["split"].tolist() == ["test", "train", "validation"]
    assert data.obs["tissue"].tolist() == ["cortex", "lung", "lung"]
    assert data.var_names.tolist() == ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"]
    assert data.X.dtype == np.float32 and data.X[0].tolist() == [31.5, 2, 3]
    assert data.uns["units"] == "tpm"
    assert read_expression(out).split("train").tolist() == [[1, 0, 3]]


def test_gene_list_chooses_and_orders(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    genes = tmp_path / "genes.csv"
    genes.write_text("Gene\nrna_ENSG00000000419.1\nENSG00000000003\nENSG00000999999\n")
    told = build_expression(*files, genes=genes)
    assert any("2 of 3 genes; missing 1 gene (ENSG00000999999); 1 others left out" in line for line in told)
    assert read_expression(files[2]).genes == ["ENSG00000000419", "ENSG00000000003"]


def test_same_inputs_are_up_to_date_and_others_are_not(files: tuple[Path, Path, Path]) -> None:
    table, cohort, out = files
    build_expression(table, cohort, out)
    before = out.stat().st_mtime_ns
    assert build_expression(table, cohort, out) == [f"{out} is up to date."]
    assert out.stat().st_mtime_ns == before
    cohort.write_text(COHORT.replace("D2,lung,validation", "D2,lung,train"))
    assert len(build_expression(table, cohort, out)) > 1
    assert len(read_expression(out).split("train")) == 2


def test_bad_input_is_refused_in_a_sentence(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table, cohort, out = files
    with pytest.raises(FileNotFoundError, match=r"The cohort table .*none\.csv does not exist"):
        build_expression(table, tmp_path / "none.csv", out)
    genes = tmp_path / "genes.csv"
    genes.write_text("Gene\n9496\n")
    with pytest.raises(ValueError, match=r"None of the 1 genes of .* use the same kind of gene id"):
        build_expression(table, cohort, out, genes=genes)
    table.write_text(TABLE.replace("-0226", "-0999"))
    with pytest.raises(ValueError, match=r"No sample of .*: the table starts with D3-0999, the cohort with D1-0226"):
        build_expression(table, cohort, out)
    assert not out.exists()
    out.write_text("no h5ad")
    with pytest.raises(ValueError, match=r"is no \.h5ad file"):
        read_expression(out)


def test_sample_with_two_tissues_is_refused(files: tuple[Path, Path, Path]) -> None:
    table, cohort, out = files
    cohort.write_text(COHORT.replace("D1,lung,train,D1-0227", "D1,cortex,train,D1-0227"))
    with pytest.raises(ValueError, match=r"D1-0226"):
        build_expression(table, cohort, out)


def test_script(files: tuple[Path, Path, Path]) -> None:
    import runpy

    main = runpy.run_path(str(REPO / "shards/build_expression.py"))["main"]
    options = [f"--{name}={path}" for name, path in zip(("table", "cohort", "out"), files, strict=True)]
    first, second = (CliRunner().invoke(main, options) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "3 profiles" in first.output and "is up to date" in second.output
    files[0].write_text(TABLE.replace("sample", "case"))
    named = CliRunner().invoke(main, [*options, "--sample-column", "case"])
    assert named.exit_code == 0 and "3 profiles" in named.output
    files[0].write_text(TABLE)
    bad = CliRunner().invoke(main, [*options[:2], "--out", "x.h5ad", "--units", "counts"])
    assert bad.exit_code == 1 and "holds fractions, which no counts have" in bad.output
