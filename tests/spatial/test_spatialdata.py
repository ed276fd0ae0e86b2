"""SpatialData stores, written by the package spatialdata itself; its tests run where that is installed
(`pip install 'rnagan[spatial]'`, best in an environment of its own)."""

import json

import numpy as np
import pandas as pd
import pytest

from rnagan.config.spots import SpotTilingConfig
from rnagan.data.index import open_dataset
from rnagan.io.zarr_checks import check_codecs
from rnagan.spatial.section import Section
from rnagan.spatial.sections_table import kind_of_section, read_sections
from rnagan.spatial.spot_shards import build_spots

from .made_section import MPP, make_anndata, make_section, write_table

try:
    import spatialdata
    from spatialdata.models import Image2DModel, ShapesModel, TableModel
    from spatialdata.transformations import Affine, Identity
except ImportError:
    spatialdata = None
needs_spatialdata = pytest.mark.skipif(spatialdata is None, reason="the package spatialdata is not installed")
# From pixels of the image to the shapes' coordinates: turned by a quarter, half the size, and moved.
TO_GLOBAL = np.array([[0.0, -0.5, 700.0], [0.5, 0.0, 30.0], [0.0, 0.0, 1.0]])


def write_store(path, made, **array):
    """A store with image, hires image, spots as circles and their table; shapes lie in another system than pixels."""
    data = make_anndata(made)
    data.obs = data.obs.assign(region=pd.Categorical(["spots"] * data.n_obs), spot_id=np.arange(data.n_obs))
    del data.uns["spatial"]
    affine = Affine(TO_GLOBAL, input_axes=("x", "y"), output_axes=("x", "y"))
    at = data.obsm["spatial"] @ TO_GLOBAL[:2, :2].T + TO_GLOBAL[:2, 2]
    pixels = np.moveaxis(made.image, 2, 0)
    store = spatialdata.SpatialData(
        images={
            "tissue": Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations={"global": affine}, **array),
            "tissue_hires_image": Image2DModel.parse(pixels[:, ::4, ::4], dims=("c", "y", "x")),
        },
        shapes={"spots": ShapesModel.parse(at, geometry=0, radius=10, transformations={"global": Identity()})},
        tables={"table": TableModel.parse(data, region="spots", region_key="region", instance_key="spot_id")},
    )
    store.write(path)
    return data


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    made = make_section()
    return folder / "a.zarr", made, write_store(folder / "a.zarr", made, chunks=(3, 256, 256))


@needs_spatialdata
def test_spots_lie_on_the_image(store):
    path, made, _ = store
    table = write_table(path.parent / "sections.csv", [{"section": "A", "donor": "D", "tissue": "t", "path": path}])
    (section,) = read_sections(table)
    assert section.image == path / "images" / "tissue"
    spots = kind_of_section(section).read(section)
    np.testing.assert_allclose(spots.xy, made.xy[made.inside], atol=1e-6)
    assert np.array_equal(spots.counts.toarray(), made.counts) and spots.genes.names == made.ids
    assert spots.grid.rows_columns.tolist() == made.array[made.inside].tolist()


@needs_spatialdata
def test_a_store_goes_through_to_shards(store, tmp_path):
    path, made, _ = store
    table = write_table(tmp_path / "s.csv", [{"section": "A", "donor": "D", "tissue": "t", "path": path, "mpp": MPP}])
    summary, _ = build_spots(table, tmp_path / "out", SpotTilingConfig(tile_px=40, mpp=MPP, margin_px=4, min_counts=1))
    assert not summary.failures
    shards = open_dataset(tmp_path / "out")
    assert shards.tile_px == 40 and shards.slides["tiles"].sum() > 0.8 * len(made.inside)


@needs_spatialdata
def test_cells_are_put_together_in_bins(store):
    path, made, _ = store
    section = Section("A", "D", "t", path, path / "images" / "tissue", mpp=MPP, bin_um=200)
    spots = kind_of_section(section).read(section)
    assert spots.counts.sum() == made.counts.sum() and len(spots.barcodes) < len(made.inside)
    with pytest.raises(ValueError, match="give the µm per px of"):
        other = Section("A", "D", "t", path, path / "images" / "tissue", bin_um=200)
        kind_of_section(other).read(other)


def test_without_the_package_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spatialdata", None)
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "group"}))
    section = Section("A", "D", "t", tmp_path / "a.zarr", tmp_path / "a.zarr" / "images" / "tissue")
    with pytest.raises(ValueError, match=r"pip install 'rnagan\[spatial\]'"):
        kind_of_section(section).read(section)


@pytest.mark.parametrize(
    "metadata",
    [
        {"zarr_format": 2, "filters": [{"id": "pickle", "protocol": 5}], "compressor": {"id": "zstd"}},
        {"zarr_format": 3, "codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
        {"metadata": {"a/.zarray": {"compressor": {"id": "made_up"}}}},
    ],
)
def test_codecs_that_could_run_code_are_refused(tmp_path, metadata):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match=r"\.zarray names the codec (pickle|numcodecs.pickle|made_up), which"):
        check_codecs(tmp_path)
    (tmp_path / "a" / ".zarray").write_text(json.dumps({"compressor": None, "filters": None}))
    check_codecs(tmp_path)


def test_a_link_that_leads_out_of_what_is_checked_is_refused(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="images is a link; put the folder itself into the store"):
        check_codecs(tmp_path / "store")
