"""Sections with spots: true to their truth, as scanpy lays them out, the same bytes again, and whole to a model."""

import anndata
import numpy as np
import openslide
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.spatial import cKDTree

from rnagan.cohort.spots import SpotOptions, make_spot_cohort
from rnagan.commands.simulate_cohort import main
from rnagan.config.gan import GANConfig
from rnagan.config.simulation import SimulationConfig
from rnagan.config.spots import SpotTilingConfig
from rnagan.config.vae import VAEConfig
from rnagan.evaluation.morphology import measure
from rnagan.evaluation.test_set import EvaluationInputs, open_evaluation_set
from rnagan.expression.build_h5ad import build_expression
from rnagan.expression.h5ad import read_expression
from rnagan.models.trained_vae import load_vae
from rnagan.simulation.cohort import simulate_cohort
from rnagan.simulation.rendering import SLIDE_MPP
from rnagan.simulation.sections import draw_sections, draw_spots, spot_places
from rnagan.spatial.spot_shards import build_spots
from rnagan.training.gan.train import train_gan
from rnagan.training.tile_inputs import TileInputs
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import train_vae


@pytest.fixture(scope="session")
def small_gan() -> GANConfig:
    return GANConfig(
        resolution=32,
        images=64,
        batch_size=8,
        generator_width=4,
        critic_width=4,
        noise_units=8,
        window_slides=4,
        precision="float32",
        threads=1,
        validate_every=0,
    )


SMALL = SimulationConfig(
    donors=10, slide_donors=1, sections=2, genes=120, tissues="lung", tiles_across=5, tiles_down=4, spot_pitch_um=64.0
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("sections") / "set"
    simulate_cohort(SMALL, out, processes=1)
    return out


@pytest.mark.parametrize("grid", ["hexagonal", "square"])
def test_spots_lie_on_their_grid_within_the_tissue(grid):
    config = SMALL.replace(spot_grid=grid, spot_pitch_um=40.0)
    places = spot_places(config)
    at = places[["x", "y"]].to_numpy() * SLIDE_MPP
    distance = cKDTree(at).query(at, k=5)[0][:, 1:]
    np.testing.assert_allclose(distance[:, 0], 40)
    tile, (right, bottom) = SMALL.tile_um, (SMALL.tile_um * (1 + n) for n in (5, 4))
    assert (at - 20 >= tile - 1e-6).all() and (at[:, 0] + 20 <= right + 1e-6).all()
    assert (at[:, 1] + 20 <= bottom + 1e-6).all()
    inner = (abs(at - at.mean(axis=0)) < 45).all(axis=1)
    neighbours = [len(own) - 1 for own in cKDTree(at).query_ball_point(at[inner], 40.1)]
    assert set(neighbours) == {6 if grid == "hexagonal" else 4}
    assert not places.duplicated(["array_row", "array_col"]).any()


def test_counts_and_positions_are_laid_out_as_scanpy_has_them(small):
    table, truth = (pd.read_csv(small / name) for name in ("sections.csv", "truth.csv"))
    assert list(table) == ["section", "donor", "tissue", "site", "path", "image"] and len(table) == 2
    for row in table.itertuples():
        data = anndata.read_h5ad(small / row.path)
        own = truth[truth["slide"] == row.section]
        assert [f"{row.section}_{name}" for name in data.obs_names] == own["sample"].tolist()
        np.testing.assert_allclose(data.obsm["spatial"], own[["x", "y"]])
        slide = openslide.OpenSlide(small / row.image)
        assert slide.level_count == 2 and float(slide.properties["openslide.mpp-x"]) == SLIDE_MPP
        assert (data.obsm["spatial"] < slide.dimensions).all()
        assert data.uns["spatial"][row.section]["scalefactors"]["microns_per_pixel"] == SLIDE_MPP
        counts = data.X.toarray()
        assert (counts % 1 == 0).all() and 2500 < np.median(counts.sum(axis=1)) < 6500
        assert 0.1 < (counts == 0).mean() < 0.9
        assert data.var_names[0].startswith("ENSG") and "." not in data.var_names[0]


def test_programmes_vary_smoothly_and_the_slides_follow_them(small):
    truth = pd.read_csv(small / "truth.csv")
    at = truth[["x", "y"]].to_numpy()
    for slide, own in truth.groupby("slide"):
        picture = openslide.OpenSlide(small / f"slides/{slide}.svs")
        half = round(SMALL.spot_pitch_um / SLIDE_MPP / 2)
        tiles = [
            np.asarray(picture.read_region((round(x) - half, round(y) - half), 0, (2 * half, 2 * half)).convert("RGB"))
            for x, y in own[["x", "y"]].itertuples(index=False)
        ]
        found = measure(np.stack(tiles), SLIDE_MPP)
        for name, least in (("matrix_colour", 0.95), ("nuclear_density", 0.6), ("air_fraction", 0.5)):
            assert np.corrcoef(found[name], own[name])[0, 1] > least, (slide, name)
        assert own["site_stain"].nunique() == 1
        near = cKDTree(at[own.index]).query(at[own.index], k=2)[1][:, 1]
        for name in ("proliferation", "matrix"):
            values = own[name].to_numpy()
            assert np.corrcoef(values, values[near])[0, 1] > 0.4 and -1 <= values.min() < values.max() <= 1
    assert truth.groupby("slide")["site_stain"].first().nunique() == 2  # of a donor's sections too


def test_stain_has_nothing_to_do_with_the_rna_and_programmes_have():
    config = SMALL.replace(slide_donors=10, sections=4)
    sections = draw_sections(config)
    truth = draw_spots(config, sections)
    means = truth.groupby("slide").mean(numeric_only=True)
    assert abs(np.corrcoef(means["site_stain"], means["matrix"])[0, 1]) < 0.4
    assert sections["slide"].is_unique and len(sections) == 40
    assert (truth.groupby("slide")["matrix"].std() > 0.1).all()
    np.testing.assert_allclose(truth["matrix_colour"], 0.34 + 0.20 * truth["matrix"])


def test_again_it_is_up_to_date_and_a_lost_slide_is_the_same(small, tmp_path):
    assert simulate_cohort(SMALL, small, processes=1).endswith("is up to date.")
    with pytest.raises(ValueError, match="holds a cohort with other settings"):
        simulate_cohort(SMALL.replace(spot_counts=900), small)
    simulate_cohort(SMALL, tmp_path / "again", processes=1)
    for path in (path for path in small.rglob("*") if path.suffix in (".svs", ".csv")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(small)).read_bytes(), path.name
    for path in (small / "sections").iterdir():
        one, other = (anndata.read_h5ad(at) for at in (path, tmp_path / "again/sections" / path.name))
        assert (one.X != other.X).nnz == 0 and one.obs.equals(other.obs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("--sections 1 --confounded", "confounded is of whole slides with a profile each"),
        ("--sections 1 --spot-pitch-um 300", "has no room for spots every 300 µm; make it larger"),
        ("--sections 1 --spot-grid round", "spot_grid|spot-grid"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, said):
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "x"), *settings.split()])
    assert result.exit_code and not (tmp_path / "x").exists()
    assert any(word in " ".join(result.output.split()) for word in said.split("|"))


@pytest.mark.slow
def test_from_slides_and_counts_to_a_model_that_follows_them(small_gan, tmp_path, no_mlflow):
    """The whole way from the sections' own table, as files of instruments go: an encoder of centred counts knows each
    programme in held-out sections, and a GAN trains and is evaluated by section."""
    config = SMALL.replace(
        slide_donors=3, genes=300, tiles_across=8, tiles_down=6, spot_counts=20_000, spot_pitch_um=48.0
    )
    simulate_cohort(config, tmp_path / "set", processes=2)
    tiles = SpotTilingConfig(tile_px=32, mpp=config.spot_pitch_um / 32, margin_px=4)
    summary, _ = build_spots(tmp_path / "set/sections.csv", tmp_path / "shards", tiles, qc=False)
    assert summary.failures == {} and summary.warnings == {} and summary.made == 6
    spots, truth = tmp_path / "shards/spots.csv", pd.read_csv(tmp_path / "set/truth.csv")
    assert set(pd.read_csv(spots)["spot"]) == set(truth["sample"])
    cohort, expression = tmp_path / "cohort.csv", tmp_path / "expression.h5ad"
    make_spot_cohort(spots, cohort, SpotOptions("spot", "section", split_by="section", x="x", y="y"))
    build_expression(tmp_path / "shards/counts.h5ad", cohort, expression, centre_by="slide", min_spots=10)
    settings = VAEConfig(transform="lognorm", hidden="64", latent=16, lr=5e-4, epochs=20, batch_size=32, threads=1)
    train_vae(settings, VAEInputs(expression), tmp_path / "vae")
    found, model = read_expression(expression), load_vae(tmp_path / "vae/model")
    latents = model.encode(found.values, found.genes, found.units).latents
    own = truth.set_index("sample").loc[found.obs.index]
    train, test = ((found.obs["split"] == split).to_numpy() for split in ("train", "test"))
    for name in ("proliferation", "matrix", "air"):
        values = (own[name] - own.groupby("slide")[name].transform("mean")).to_numpy()
        weights = np.linalg.lstsq(latents[train], values[train], rcond=None)[0]
        assert np.corrcoef(latents[test] @ weights, values[test])[0, 1] > 0.5, name
    inputs = TileInputs(tmp_path / "shards", cohort, expression, tmp_path / "vae")
    train_gan(small_gan, inputs, tmp_path / "gan")
    held_out = open_evaluation_set(
        EvaluationInputs(tmp_path / "gan", inputs.shards, cohort, expression), "test", need="profiles", device="cpu"
    )
    assert held_out.claim.split_by == "section" and set(held_out.rows["sample"]) == set(found.obs.index[test])
    tiles = np.stack([own[0] for own in held_out.generated(held_out.model, 0)])
    assert tiles.shape == (test.sum(), 32, 32, 3)
