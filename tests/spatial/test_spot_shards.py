"""Sections to shards, spots.csv and counts.h5ad; a restart; what is refused; and the chain to a trained model."""

import dataclasses
import io
import json
import os
import tarfile

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from rnagan.commands.main import main
from rnagan.config.spots import SpotTilingConfig
from rnagan.data.index import open_dataset
from rnagan.data.verify import check_folder
from rnagan.spatial.spot_shards import build_spots
from tests.spatial import made_section as made

CONFIG = SpotTilingConfig(tile_px=32, mpp=2.0, margin_px=8)
PX, STORED = 32, 48


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """Folder, table and what is in it: Visium 1 and 2, an .h5ad, with images of several kinds."""
    root = tmp_path_factory.mktemp("sections")
    own = {name: made.make_section(n) for n, name in enumerate(("V1", "V2", "A"))}
    made.write_space_ranger(root / "v1", own["V1"], "visium1", "mtx")
    made.write_space_ranger(root / "v2/outs", own["V2"])
    made.make_anndata(own["A"]).write_h5ad(root / "a.h5ad")
    made.write_image(root / "v1.tif", own["V1"].image)
    made.write_image(root / "v2.tif", own["V2"].image, mpp=2.0)
    made.write_image(root / "a.png", own["A"].image)
    rows = [
        {"section": "V1", "donor": "D1", "tissue": "colon", "path": "v1", "image": "v1.tif", "site": "x"},
        {"section": "V2", "donor": "D2", "tissue": "colon", "path": "v2", "image": "v2.tif", "site": "y"},
        {"section": "A", "donor": "D3", "tissue": "colon", "path": "a.h5ad", "image": "a.png", "site": ""},
    ]
    return root, made.write_table(root / "sections.csv", rows), own, rows


@pytest.fixture(scope="module")
def built(sections, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "spots"
    return out, *build_spots(sections[1], out, CONFIG)


def test_tiles_are_centred_on_their_spots_and_name_them(sections, built):
    out, summary, _ = built
    assert summary.failures == {} and summary.made == 3
    assert check_folder(out, decode=True).findings == []
    shards = open_dataset(out)
    assert (shards.tile_px, shards.margin_px, shards.mpp) == (PX, 8, 2.0)
    for name, own in sections[2].items():
        place = dict(zip((f"{name}_{b}" for b in own.barcodes), own.xy, strict=True))
        index = shards.index(name)
        assert set(index["profile"]) == {f"{name}_{b}" for b in own.barcodes[own.inside]}
        with tarfile.open(out / f"{name}.tar") as tar:
            for row in index.head(20).itertuples():
                about = json.loads(tar.extractfile(f"{row.key}.json").read())
                assert about["profile"] == row.profile and about["margin_px"] == 8 and about["tile_px"] == PX
                x, y = place[row.profile]
                assert abs(row.x + STORED / 2 - x) <= 0.5 and abs(row.y + STORED / 2 - y) <= 0.5
                stored = np.asarray(Image.open(io.BytesIO(tar.extractfile(f"{row.key}.jpg").read())))
                there = own.image[row.y : row.y + STORED, row.x : row.x + STORED]
                assert np.abs(stored.astype(int) - there).mean() < 6  # JPEG's loss


def test_tables_of_spots_and_counts(sections, built):
    out, _, lines = built
    spots = pd.read_csv(out / "spots.csv", keep_default_na=False)
    counts = anndata.read_h5ad(out / "counts.h5ad")
    assert spots["spot"].tolist() == counts.obs_names.tolist() and counts.uns["units"] == "counts"
    assert list(spots)[:5] == ["section", "donor", "tissue", "site", "spot"] and (spots["reason"] == "").all()
    assert spots.groupby("section")[["donor", "site"]].first().loc["V2"].tolist() == ["D2", "y"]
    for name, own in sections[2].items():
        rows = (spots["section"] == name).to_numpy()
        assert counts.var_names.tolist() == own.ids and counts.var["symbol"].tolist() == own.symbols
        np.testing.assert_array_equal(counts[rows].X.toarray(), own.counts)
        np.testing.assert_allclose(spots.loc[rows, ["x", "y"]], own.xy[own.inside] * made.MPP, atol=0.002)
        np.testing.assert_array_equal(spots.loc[rows, ["array_row", "array_col"]].astype(int), own.array[own.inside])
        assert spots.loc[rows, "counts"].tolist() == own.counts.sum(axis=1).tolist()
    assert any("402 spots with counts, 402 of them with a tile" in line for line in lines)


def test_a_restart_makes_only_what_is_missing(sections, built, tmp_path):
    root, table, _, rows = sections
    out = tmp_path / "spots"
    build_spots(made.write_table(root / "two.csv", rows[:2]), out, CONFIG)
    before = {path.name: path.read_bytes() for path in out.glob("*.tar")}
    summary, _ = build_spots(table, out, CONFIG)
    assert (summary.made, summary.up_to_date) == (1, 2)
    summary, lines = build_spots(table, out, CONFIG)
    assert (summary.made, summary.up_to_date) == (0, 3) and "are up to date" in lines[0]
    assert all((out / name).read_bytes() == data for name, data in before.items())
    assert (out / "counts.h5ad").read_bytes() and pd.read_csv(out / "spots.csv").equals(
        pd.read_csv(built[0] / "spots.csv")
    )
    (out / "sections/V1.h5ad").unlink()  # as if killed before it was there
    summary, _ = build_spots(table, out, CONFIG)
    assert (summary.made, summary.up_to_date) == (1, 2)
    os.utime(root / "v2.tif", ns=(1, 1))
    summary, _ = build_spots(table, out, CONFIG)
    assert (summary.made, summary.up_to_date) == (1, 2)
    with pytest.raises(ValueError, match=r"holds sections that .*two.csv doesn't name \(A\)"):
        build_spots(root / "two.csv", out, CONFIG)


@pytest.mark.attack(kind=1)
def test_sections_of_another_resolution_are_refused(sections, built):
    with pytest.raises(ValueError, match=r"already holds tiles of 32 px and a margin of 8 px at 2.0 µm"):
        build_spots(sections[1], built[0], CONFIG.replace(mpp=4.0))
    with pytest.raises(ValueError, match=r"already holds tiles of 32 px and a margin of 8 px"):
        build_spots(sections[1], built[0], CONFIG.replace(margin_px=0))


def failure(tmp_path, own, config=CONFIG, image=None, mpp="", stated=None, **how):
    """The sentence with which one section fails, '' where it doesn't."""
    folder = tmp_path / "one"
    made.write_space_ranger(folder, own)
    made.write_image(folder / "i.tif", own.image if image is None else image, stated)
    row = {"section": "S", "donor": "D", "tissue": "colon", "path": "one", "image": "one/i.tif", "mpp": mpp}
    summary, lines = build_spots(made.write_table(tmp_path / "s.csv", [row]), tmp_path / "out", config, **how)
    assert bool(summary.failures) == (lines == [])
    return summary.failures["S"].sentence if summary.failures else ""


@pytest.fixture(scope="module")
def own():
    return made.make_section(0)


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(
    ("turned", "name"),
    [
        (lambda image: image[:, ::-1], "mirrored left to right"),
        (lambda image: image[::-1], "mirrored top to bottom"),
        (lambda image: image.transpose(1, 0, 2), "with x and y swapped"),
        (lambda image: np.rot90(image, -1), "turned by 90° clockwise"),
        (lambda image: np.rot90(image, 2), "turned by 180°"),
    ],
)
def test_an_image_that_was_turned(tmp_path, own, turned, name):
    message = failure(tmp_path, own, image=np.ascontiguousarray(turned(own.image)))
    assert f"{name} (score" in message and "positions that don't fit its image" in message
    assert "--trust-positions" in message


def test_positions_that_are_trusted(tmp_path, own):
    assert failure(tmp_path, own, image=np.ascontiguousarray(own.image[::-1]), trust_positions=True) == ""
    spots = pd.read_csv(tmp_path / "out/spots.csv", keep_default_na=False)
    assert (spots["reason"] == "background").any()


@pytest.mark.attack(kind=1)
def test_the_reduced_image_is_refused_with_its_figure(tmp_path, own):
    small = np.asarray(Image.fromarray(own.image).resize((made.WIDTH // 4, made.HEIGHT // 4), Image.Resampling.BOX))
    message = failure(tmp_path, own, image=small)
    assert "as if the image were the hires one" in message
    assert "i.tif has 8 µm per px, then: give the full-resolution image" in message


@pytest.mark.attack(kind=1)
def test_an_image_too_coarse_is_refused_with_its_figure(tmp_path, own):
    message = failure(tmp_path, own, CONFIG.replace(mpp=0.5))
    assert "has 2 µm per px at best, coarser than the 0.5 that is asked; choose a larger --mpp" in message


@pytest.mark.attack(kind=1)
@pytest.mark.parametrize(("mpp", "stated", "where"), [("", 0.5, "the image (tiff)"), ("0.5", None, "the table of")])
def test_a_resolution_that_the_spots_contradict(tmp_path, own, mpp, stated, where):
    message = failure(tmp_path, own, mpp=mpp, stated=stated)
    assert where in message and "says 0.5 µm per px, and the array of spots 2" in message


@pytest.mark.attack(kind=1)
def test_no_counts_left(tmp_path, own):
    message = failure(tmp_path, own, CONFIG.replace(min_counts=100_000))
    assert "has no spot left: 246 are not in tissue, and 134 have fewer than 100,000 counts (--min-counts)" in message


def test_what_is_dropped_is_counted_by_reason(tmp_path, own):
    """Few counts, over the edge, and blank: a spot called in tissue that lies on glass."""
    counts = own.counts.copy()
    counts[:5] = 0
    in_tissue = own.in_tissue.copy()
    glass = np.flatnonzero(~in_tissue)[:3]
    in_tissue[glass] = True
    order = np.argsort(np.append(own.inside, glass))
    changed = dataclasses.replace(
        own, in_tissue=in_tissue, counts=np.concatenate([counts, counts[20:23]])[order], xy=own.xy - [0, 62]
    )
    image = np.roll(own.image, -62, axis=0)
    assert failure(tmp_path, changed, CONFIG.replace(margin_px=16), image=image) == ""
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.record.json"))
    spots = pd.read_csv(tmp_path / "out/spots.csv", keep_default_na=False)
    assert record["counts"]["few_counts"] == 5 and record["counts"]["not_in_tissue"] == 243
    assert record["counts"]["outside"] + record["counts"]["background"] == 3
    said = spots["reason"].value_counts()
    assert all(said.get(reason, 0) == record["counts"][reason] for reason in ("outside", "background"))
    assert record["counts"]["outside"] > 0
    assert record["tiles"] == 129 and len(spots) == 132
    with Image.open(tmp_path / "out/qc/S.jpg") as picture:
        assert picture.width > 700


def test_a_gene_that_one_section_has_not_measured_is_left_out(sections, tmp_path):
    root, _, own, rows = sections
    fewer = made.make_anndata(own["A"])[:, :30].copy()
    fewer.write_h5ad(tmp_path / "few.h5ad")
    row = rows[2] | {"path": str(tmp_path / "few.h5ad"), "section": "F"}
    table = made.write_table(root / "genes.csv", [rows[0], row])
    _, lines = build_spots(table, tmp_path / "out", CONFIG, qc=False)
    assert "10 genes left out: not measured in every section." in lines
    assert anndata.read_h5ad(tmp_path / "out/counts.h5ad").shape == (268, 30)


def test_a_gene_that_was_not_seen_counts_0(tmp_path):
    """The tables of Spatial Transcriptomics list the genes that were seen."""
    rows = []
    for n, name in enumerate(("P", "Q")):
        own = made.make_section(n, (200.0, 200.0), hexagonal=False)
        if name == "Q":
            own = dataclasses.replace(own, counts=own.counts[:, 5:], symbols=own.symbols[5:])
        made.write_spatial_transcriptomics(tmp_path / name, own)
        made.write_image(tmp_path / name / "he.jpg", own.image)
        rows.append({"section": name, "donor": name, "tissue": "breast", "path": name})
    summary, lines = build_spots(made.write_table(tmp_path / "s.csv", rows), tmp_path / "out", CONFIG, qc=False)
    assert summary.failures == {} and not any("left out" in line for line in lines)
    counts = anndata.read_h5ad(tmp_path / "out/counts.h5ad")
    of_q = counts.obs["section"] == "Q"
    assert counts.n_vars == made.GENES and counts[of_q, "GENE1"].X.sum() == 0 and counts[~of_q, "GENE1"].X.sum() > 0


def test_bins_of_visium_hd_go_through_whole(tmp_path):
    """16 µm a bin, of which a random draw is kept; the resolution is the file's word, which the bins confirm."""
    own = made.make_section(4, (16.0, 16.0), hexagonal=False)
    made.write_space_ranger(tmp_path / "outs", own, "hd", bin_um=16)
    made.write_image(tmp_path / "i.tif", own.image)
    row = {"section": "H", "donor": "D", "tissue": "colon", "path": "outs", "image": "i.tif", "bin": 16}
    table = made.write_table(tmp_path / "s.csv", [row])
    summary, _ = build_spots(table, tmp_path / "out", CONFIG.replace(max_tiles=60))
    assert summary.failures == {} and summary.tiles == 60
    record = json.loads((tmp_path / "out/H.record.json").read_text())
    assert record["source"]["mpp_source"] == "microns_per_pixel" and record["source"]["mpp"] == 2.0
    assert record["source"]["bin_um"] == 16 and "warnings" not in record["source"]
    assert record["counts"]["over_limit"] > 3000 and sum(record["counts"].values()) + 60 == len(own.xy)
    spots = pd.read_csv(tmp_path / "out/spots.csv", keep_default_na=False)
    assert (spots["reason"] == "").sum() == 60 and len(spots) <= own.in_tissue.sum()
    assert (
        open_dataset(tmp_path / "out").profiles.frame()["profile"].isin(spots.loc[spots["reason"] == "", "spot"]).all()
    )


def invoke(*words):
    done = CliRunner().invoke(main, list(map(str, words)))
    assert done.exit_code == 0, f"{words}\n{done.output}\n{done.exception!r}"
    return done.output


@pytest.mark.slow
def test_from_instrument_files_to_a_model(sections, tmp_path, monkeypatch):
    """Shards and counts, cohort, expression, β-VAE, GAN: each command takes what the one before it left."""
    monkeypatch.chdir(tmp_path)
    out = invoke(
        "build-spots", "--sections", sections[1], "--out", "spots", "--tile-px", 32, "--mpp", 2, "--margin-px", 8
    )
    assert "402 tiles" in out
    spots = ("--section-column", "section", "--profile-column", "spot")
    blocks = ("--split-by", "block", "--x-column", "x", "--y-column", "y", "--gap", 150)
    invoke("build-cohort", "--samples", "spots/spots.csv", *spots, *blocks, "--out", "cohort.csv")
    invoke("build-expression", "--table", "spots/counts.h5ad", "--cohort", "cohort.csv", "--out", "e.h5ad")
    vae = ("--transform", "lognorm", "--epochs", 2, "--hidden", 16, "--latent", 8)
    invoke("train-vae", "--expression", "e.h5ad", "--out", "vae", *vae)
    data = ("--shards", "spots", "--cohort", "cohort.csv", "--expression", "e.h5ad", "--vae", "vae")
    small = ("--resolution", 32, "--images", 32, "--batch-size", 8, "--generator-width", 4, "--critic-width", 4)
    invoke("train-rnagan", *data, "--out", "run", *small, "--validation-tiles", 16)
    assert (tmp_path / "run/model/model.json").is_file()


@pytest.mark.attack(kind=1)
def test_a_failure_ends_with_exit_code_1_and_one_sentence(tmp_path, own):
    made.write_space_ranger(tmp_path / "v", own)
    made.write_image(tmp_path / "i.png", np.ascontiguousarray(own.image[::-1]))
    row = {"section": "S", "donor": "D", "tissue": "colon", "path": "v", "image": "i.png"}
    table = made.write_table(tmp_path / "s.csv", [row])
    words = ["build-spots", "--sections", str(table), "--out", str(tmp_path / "out"), "--tile-px", "32", "--mpp", "2"]
    done = CliRunner().invoke(main, [*words, "--processes", "1"])
    assert done.exit_code == 1 and "S failed: Section S has positions that don't fit its image" in done.output
