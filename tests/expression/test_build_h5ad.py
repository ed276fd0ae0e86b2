import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from rnagan.expression.build_h5ad import build_expression
from rnagan.expression.h5ad import open_expression, read_expression

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
    text = "\n".join(build_expression(table, cohort, out))
    assert "4 samples × 3 genes in tpm (values are fractions" in text
    assert "Left out 1 sample (D7-0226) of the table" in text
    assert "Left out 1 sample (D9-0226) of the cohort" in text
    data = anndata.read_h5ad(out)
    assert data.obs_names.tolist() == ["D3-0226", "D1-0226", "D2-0226"]
    assert data.obs["split"].tolist() == ["test", "train", "validation"]
    assert data.obs["tissue"].tolist() == ["cortex", "lung", "lung"]
    assert data.var_names.tolist() == ["ENSG00000000003", "ENSG00000000005", "ENSG00000000419"]
    assert data.X.dtype == np.float32 and data.X[0].tolist() == [31.5, 2, 3]
    assert data.uns["units"] == "tpm"
    assert read_expression(out).split("train").tolist() == [[1, 0, 3]]


def test_a_table_without_samples_is_refused(files: tuple[Path, Path, Path]) -> None:
    files[0].write_text("sample,a,b\n")
    with pytest.raises(ValueError, match="holds no sample; it needs some"):
        build_expression(*files)


def test_gene_list_chooses_and_orders(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    genes = tmp_path / "genes.csv"
    genes.write_text("Gene\nrna_ENSG00000000419.1\nENSG00000000003\nENSG00000999999\n")
    lines = build_expression(*files, genes=genes)
    assert any("2 of 3 genes; missing 1 gene (ENSG00000999999); 1 others left out" in line for line in lines)
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


def turned(text: str, head: str) -> str:
    """The same table with genes down."""
    cells = [line.split(",") for line in text.splitlines()]
    cells[0][0] = head
    return "".join(",".join(row) + "\n" for row in zip(*cells, strict=True))


@pytest.mark.parametrize("listed", [True, False])
def test_either_way_round_gives_the_same_file(files: tuple[Path, Path, Path], tmp_path: Path, listed: bool) -> None:
    table, cohort, out = files
    genes = tmp_path / "genes.csv"
    genes.write_text("Gene\nENSG00000000419\nENSG00000000999\nENSG00000000003\n")
    build_expression(table, cohort, out, genes=genes if listed else None)
    down, report = read_expression(out), out.with_suffix(".genes.csv").read_text()
    other = tmp_path / "turned.csv"
    other.write_text(turned(TABLE, "gene_id"))
    said = "\n".join(build_expression(other, cohort, out, genes=genes if listed else None))
    assert "rows are genes (its rows are named by Ensembl ids)" in said
    across = read_expression(out)
    np.testing.assert_array_equal(across.values, down.values)
    assert across.obs.equals(down.obs) and across.genes == down.genes
    assert out.with_suffix(".genes.csv").read_text() == report
    assert [path.name for path in tmp_path.glob(".tmp-*")] == []


def test_any_program_can_open_the_file(files: tuple[Path, Path, Path]) -> None:
    build_expression(*files)
    for backed in (None, "r"):
        data = anndata.read_h5ad(files[2], backed=backed)
        assert data.obs.index.name == "sample" and data.var.index.name == "gene"
        assert list(data.obs) == ["donor", "tissue", "split"] and list(data.var) == ["symbol"]
        assert data[:, "ENSG00000000419"].X[:].ravel().tolist() == [3, 3, 3]
        assert data.uns["split_by"] == "donor"


def test_every_gene_is_written_beside_the_file(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    genes = tmp_path / "genes.csv"
    genes.write_text("Gene\nENSG00000000419\nENSG00000000999\n")
    lines = build_expression(*files, genes=genes)
    report = pd.read_csv(tmp_path / "expression.genes.csv", keep_default_na=False)
    assert dict(zip(report["gene"], report["status"], strict=True)) == {
        "ENSG00000000419": "kept",
        "ENSG00000000999": "missing",
        "ENSG00000000003": "surplus",
        "ENSG00000000005": "surplus",
    }
    assert any("2 surplus, 1 kept, 1 missing" in line for line in lines)
    with pytest.raises(ValueError, match=r"Only 1 of the 2 genes .* lower --min-overlap \(0\.6\)"):
        build_expression(*files, genes=genes, min_overlap=0.6)


def test_a_failure_leaves_the_earlier_file_as_it_was(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table, cohort, out = files
    build_expression(table, cohort, out)
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir() if path != table)
    for text in (TABLE + "D8-0226,1,2\n", TABLE.replace("1,0,3", "1,NA,3"), turned(TABLE, "gene") + "g,1,2\n"):
        table.write_text(text)
        with pytest.raises(ValueError, match=r"table\.csv"):
            build_expression(table, cohort, out)
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir() if path != table) == before


def test_a_split_by_sample_is_reported_and_travels_along(files: tuple[Path, Path, Path]) -> None:
    table, cohort, out = files
    rows = COHORT.replace("D2,lung", "D1,lung").splitlines()  # donor D1 trains and validates
    cohort.write_text("\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"cohort\.csv has a donor in two splits \(D1\); training would see"):
        build_expression(table, cohort, out)
    cohort.write_text("\n".join([f"{rows[0]},split_by", *(f"{row},sample" for row in rows[1:])]) + "\n")
    assert any("all scores are optimistic" in line for line in build_expression(table, cohort, out))
    assert read_expression(out).split_by == "sample"
    data = anndata.read_h5ad(out)
    del data.uns["split_by"]
    data.write_h5ad(out)
    with pytest.raises(ValueError, match=r"expression\.h5ad has a donor in two splits \(D1\)"):
        read_expression(out)


def test_options_that_exclude_each_other(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--genes and --gtf both say"):
        build_expression(*files, genes=tmp_path / "a", gtf=tmp_path / "b")
    with pytest.raises(ValueError, match=r"--min-overlap is a share from 0 to 1, not 80"):
        build_expression(*files, min_overlap=80)
    with pytest.raises(FileNotFoundError, match="The gene map .* does not exist"):
        build_expression(*files, gene_map=tmp_path / "none.tsv")


def test_a_table_taken_the_wrong_way_round_says_so(files: tuple[Path, Path, Path]) -> None:
    files[0].write_text("sample,D1-0226,D2-0226\nTP53,1,2\n")
    with pytest.raises(ValueError, match=r"No sample of .* if they are genes, say --rows genes"):
        build_expression(*files)
    assert len(build_expression(*files, rows="genes")) > 2


PEAK = """
import resource, sys
from pathlib import Path
import rnagan.expression.build_h5ad as build
kilobytes = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = kilobytes()
build.build_expression(*map(Path, sys.argv[1:4]))
print((kilobytes() - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize("kind", ["gct", "csv"])
def test_memory_does_not_grow_with_the_table(tmp_path: Path, kind: str) -> None:
    """2,500 × 20,000: 190 MiB of float32, and 110 MiB of text."""
    samples, genes = 2_500, 20_000
    ids, names = [f"ENSG{n:011d}" for n in range(genes)], [f"S{n}" for n in range(samples)]
    values = np.random.default_rng(0).poisson(0.6, genes if kind == "csv" else samples)
    row = "\t".join(map(str, values)) if kind == "gct" else ",".join(map(str, values))
    with open(tmp_path / f"x.{kind}", "w") as file:
        if kind == "gct":
            file.write(f"#1.2\n{genes}\t{samples}\nName\tDescription\t" + "\t".join(names) + "\n")
            file.writelines(f"{gene}\tG\t{row}\n" for gene in ids)
        else:
            file.write("sample," + ",".join(ids) + "\n")
            file.writelines(f"{name},{row}\n" for name in names)
    rows = "".join(f"{name},{name},lung,train,,\n" for name in names)
    (tmp_path / "cohort.csv").write_text("sample,donor,tissue,split,slide,site\n" + rows)
    out = tmp_path / "x.h5ad"
    command = [sys.executable, "-c", PEAK, tmp_path / f"x.{kind}", tmp_path / "cohort.csv", out]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO)
    assert float(done.stdout) < (260 if kind == "gct" else 120)  # a band of 1,024 profiles is 78 MiB
    with open_expression(out) as profiles:
        assert len(profiles) == samples
        expected = np.tile(values, (2, 1)) if kind == "csv" else values[[5, 2_400], None] * np.ones((1, genes))
        np.testing.assert_array_equal(profiles.rows([5, 2_400]), expected)
