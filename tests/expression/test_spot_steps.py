"""Steps on counts of spots, against the same worked out by hand, up to a trained encoder."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from rnagan.api import RNAGAN
from rnagan.config.vae import VAEConfig
from rnagan.data.build_profiles import build_profiles
from rnagan.expression.build_h5ad import build_expression
from rnagan.expression.h5ad import open_profiles, read_embedding, read_expression
from rnagan.expression.spot_steps import LEAST, SpotSteps
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.embedding import EmbeddingModel
from rnagan.models.trained_vae import load_vae
from rnagan.training.vae.data import VAEInputs
from rnagan.training.vae.train import describe, train_vae

GENES = [f"ENSG{k:011d}" for k in range(60)]
SECTIONS = {"A1": "train", "A2": "train", "B1": "validation", "B2": "test"}
SMALL = VAEConfig(
    transform="lognorm", hidden="16", latent=4, lr=1e-3, epochs=2, batch_size=16, checkpoint_epochs=2, threads=1
)


@pytest.fixture(scope="module")
def counts() -> pd.DataFrame:
    """Four sections of 5 × 4 spots, each section with a level of its own; gene 59 is seen in three training spots."""
    draw = np.random.default_rng(0)
    level = draw.gamma(0.4, 3.0, (4, len(GENES)))
    rows, names = [], []
    for k, section in enumerate(SECTIONS):
        for y, x in np.ndindex(4, 5):
            rows.append(draw.poisson(level[k] * (1 + x / 5)))
            names.append(f"{section}_{x}x{y}")
    table = pd.DataFrame(np.array(rows), pd.Index(names, name="sample"), GENES)
    table[GENES[59]] = 0
    table.iloc[[0, 7, 21], 59] = 2
    table.iloc[45:, 59] = 3  # and in spots that are held out
    return table


@pytest.fixture
def files(counts, tmp_path):
    counts.to_csv(tmp_path / "counts.csv")
    places = [name.split("_") for name in counts.index]
    cohort = pd.DataFrame(
        {
            "sample": counts.index,
            "donor": [section[0] for section, _ in places],
            "tissue": "breast",
            "split": [SECTIONS[section] for section, _ in places],
            "slide": [section for section, _ in places],
            "site": "",
            "split_by": "section",
            "x": [100 * int(spot.split("x")[0]) for _, spot in places],
            "y": [130 * int(spot.split("x")[1]) for _, spot in places],
        }
    )
    cohort.sample(frac=1, random_state=0).to_csv(tmp_path / "cohort.csv", index=False)
    return tmp_path / "counts.csv", tmp_path / "cohort.csv", tmp_path / "expression.h5ad"


def lognorm(x: np.ndarray) -> np.ndarray:
    return np.log1p(1e4 * x / x.sum(axis=1, keepdims=True))


def test_without_steps_the_file_is_as_ever(counts, files):
    build_expression(*files, rows="samples")
    data = anndata.read_h5ad(files[2])
    assert list(data.obs) == ["donor", "tissue", "split"] and set(data.uns) == {"units", "inputs", "split_by"}
    np.testing.assert_array_equal(data.X, counts)


def test_rare_genes_are_counted_in_training_spots(counts, files):
    lines = build_expression(*files, rows="samples", min_spots=4)
    seen = (counts.iloc[:40] > 0).sum()
    kept = seen.index[seen >= 4].tolist()
    assert GENES[59] not in kept and (counts[GENES[59]] > 0).sum() > 4  # held-out spots have no say
    found = read_expression(files[2])
    assert found.genes == kept and found.units == "counts"
    np.testing.assert_array_equal(found.values, counts[kept])
    assert any(f"Left out {60 - len(kept)} genes that were seen in fewer than 4 training spots" in it for it in lines)
    report = pd.read_csv(files[2].with_suffix(".genes.csv")).set_index("gene")["status"]
    assert report[GENES[59]] == "rare" and set(report[kept]) == {"kept"}


def test_pooling_adds_the_nearest_of_the_same_section_and_split(counts, files):
    cohort = pd.read_csv(files[1]).set_index("sample").loc[counts.index]
    cohort.loc[cohort["slide"].eq("A1") & cohort["x"].ge(300), "split"] = "test"  # two splits in one section
    cohort["split_by"] = "block"
    cohort.reset_index().to_csv(files[1], index=False)
    build_expression(*files, rows="samples", pool_spots=2)
    found = read_expression(files[2])
    assert found.pooled == 2 and found.units == "counts"
    at = cohort[["x", "y"]].to_numpy(float)
    for k in range(len(counts)):
        same = (cohort["slide"] == cohort["slide"].iloc[k]) & (cohort["split"] == cohort["split"].iloc[k])
        distance = np.where(same, cdist(at[k : k + 1], at)[0], np.inf)
        distance[k] = np.inf
        added = found.values[k] - counts.iloc[k]
        nearest = np.sort(distance)[:2]
        pairs = [  # of equally near ones either will do
            (i, j)
            for i in np.flatnonzero(distance <= nearest[1])
            for j in np.flatnonzero(distance <= nearest[1])
            if i < j and sorted([distance[i], distance[j]]) == nearest.tolist()
        ]
        assert any(np.array_equal(added, counts.iloc[i] + counts.iloc[j]) for i, j in pairs), counts.index[k]


def test_centring_takes_off_the_mean_of_each_section(counts, files):
    lines = build_expression(*files, rows="samples", centre_by="slide")
    found, data = read_expression(files[2]), anndata.read_h5ad(files[2])
    section = [name[:2] for name in counts.index]
    logged = pd.DataFrame(lognorm(counts.to_numpy(float)), counts.index)
    np.testing.assert_allclose(found.values, logged - logged.groupby(section).transform("mean"), atol=1e-5)
    assert found.units == "centred" and data.uns["centred_by"] == "slide" and data.obs["slide"].tolist() == section
    assert any("less the mean of their slide (4, of 20 to 20 profiles)" in line for line in lines)
    # A section by itself, as a foreign one, gives the same: nothing is learnt from the others.
    only = pd.read_csv(files[1])
    only[only["slide"] == "B2"].to_csv(files[1], index=False)
    build_expression(*files[:2], files[2].with_name("one.h5ad"), rows="samples", centre_by="slide", genes=files[2])
    one = read_expression(files[2].with_name("one.h5ad"))
    assert one.genes == found.genes
    np.testing.assert_array_equal(one.values, found.values[[name == "B2" for name in section]])


def test_blocks_of_rows_make_no_difference(counts, files, monkeypatch):
    settings = {"rows": "samples", "pool_spots": 3, "min_spots": 3, "centre_by": "slide"}
    build_expression(*files, **settings)
    whole = read_expression(files[2]).values
    assert build_expression(*files, **settings) == [f"{files[2]} is up to date."]
    monkeypatch.setattr("rnagan.expression.spot_steps._ROWS", 12)
    build_expression(*files[:2], files[2].with_name("by_three.h5ad"), **settings)
    np.testing.assert_allclose(read_expression(files[2].with_name("by_three.h5ad")).values, whole, atol=1e-6)


def test_positions_may_come_from_the_table(counts, files):
    cohort = pd.read_csv(files[1])
    build_expression(*files, rows="samples", pool_spots=3)
    expected = read_expression(files[2]).values
    table = files[0].with_suffix(".h5ad")
    at = cohort.set_index("sample").loc[counts.index, ["x", "y"]].to_numpy(float)
    data = anndata.AnnData(counts.to_numpy(np.float32), counts[[]], pd.DataFrame(index=GENES), {"units": "counts"})
    data.obsm["spatial"] = at
    data.write_h5ad(table)
    cohort.drop(columns=["x", "y"]).to_csv(files[1], index=False)
    build_expression(table, *files[1:], pool_spots=3)
    np.testing.assert_array_equal(read_expression(files[2]).values, expected)
    with pytest.raises(ValueError, match=r"--pool-spots needs positions: columns x and y of .*cohort\.csv"):
        build_expression(*files, rows="samples", pool_spots=3)


@pytest.mark.parametrize(
    ("change", "settings", "said"),
    [
        ({}, {"centre_by": "section"}, r"cohort\.csv has no column section, by which --centre-by section"),
        ({"slide": ""}, {"centre_by": "slide"}, r"cohort\.csv says no slide of A2_0x0, which --centre-by needs"),
        ({"slide": "few"}, {"centre_by": "slide"}, f"--centre-by slide: few has 1 profiles, too few .* .{LEAST} at"),
        ({"x": "left"}, {"pool_spots": 2}, r"cohort\.csv gives no position of A2_0x0, which --pool-spots needs"),
        ({}, {"min_spots": 41}, "No gene was seen in 41 of 40 training spots; lower --min-spots"),
        ({}, {"min_spots": -1}, "--min-spots must be 0 or more, not -1"),
        ({}, {"centre_by": "slide", "units": "log2"}, "--centre-by needs counts or TPM, and the table is in log2"),
    ],
)
def test_what_cannot_be_is_said(files, change, settings, said):
    cohort = pd.read_csv(files[1], dtype=str, keep_default_na=False).set_index("sample")
    for column, value in change.items():
        cohort.loc["A2_0x0", column] = value
    cohort.reset_index().to_csv(files[1], index=False)
    with pytest.raises(ValueError, match=said):
        build_expression(*files, rows="samples", **settings)
    assert not files[2].exists()


def test_min_spots_needs_training_spots(files):
    cohort = pd.read_csv(files[1])
    cohort.assign(split="test").to_csv(files[1], index=False)
    with pytest.raises(ValueError, match="none is in split train; for spots of another cohort give the model's genes"):
        build_expression(*files, rows="samples", min_spots=2)


def test_a_model_of_centred_profiles_takes_no_others(counts, files, tmp_path, no_mlflow):
    build_expression(*files, rows="samples", centre_by="slide", pool_spots=2)
    train_vae(SMALL, VAEInputs(files[2]), tmp_path / "run")
    model = load_vae(tmp_path / "run/model")
    assert model.record["units"] == "centred" and model.record["pooled_spots"] == 2
    found = model.read(files[2])  # no warning
    latents = model.encode(found.values, found.genes, found.units).latents
    z = model.transform.apply(found.values, found.genes, found.units)
    varies = ~model.transform.constant
    np.testing.assert_allclose(z[:, varies], found.values[:, varies], atol=1e-5)  # training means are 0 already
    half = model.encode(found.values[1::2], found.genes, found.units).latents
    np.testing.assert_array_equal(half, latents[1::2])  # whichever spots are encoded
    np.testing.assert_allclose(model.transform.invert(z)[:, varies], found.values[:, varies], atol=1e-5)
    plain = tmp_path / "plain.h5ad"
    build_expression(*files[:2], plain, rows="samples")
    with pytest.raises(
        ValueError, match="in counts and the model was fitted on centred; make them with .* --centre-by"
    ):
        model.encode(counts.to_numpy(np.float32), GENES, "counts")
    with pytest.raises(ValueError, match="in counts and the model was trained on centred; make it with .* --centre-by"):
        open_profiles(plain, model.transform.accepts)
    unpooled = tmp_path / "unpooled.h5ad"
    build_expression(*files[:2], unpooled, rows="samples", centre_by="slide")
    with pytest.warns(UserWarning, match="pooled with 0 neighbours and the model was trained with 2"):
        model.read(unpooled)
    with pytest.raises(ValueError, match="was centred by group already; start with the counts"):
        build_expression(files[2], *files[1:2], tmp_path / "again.h5ad")


def test_ranks_of_centred_profiles_are_refused_and_of_sparse_counts_warned_of(counts, files):
    build_expression(*files, rows="samples", centre_by="slide")
    x = read_expression(files[2]).values
    with pytest.raises(ValueError, match="centred by group, which ranks would undo; choose transform lognorm"):
        ExpressionTransform.fit(x, GENES, "centred", "log1p", "normal_scores")
    ranks = ExpressionTransform.fit(counts.to_numpy(float), GENES, "counts", "log1p", "normal_scores")
    with pytest.raises(ValueError, match="in centred and the model was fitted on counts; convert them"):
        ranks.apply(x, GENES, "centred")
    assert describe(SMALL, VAEInputs(files[2])) and not _warned(files[2], "lognorm")
    sparse = counts.where(counts > 3, 0)
    sparse.to_csv(files[0])
    build_expression(*files, rows="samples")
    assert _warned(files[2], "normal_scores") and not _warned(files[2], "lognorm")
    (counts + 1).to_csv(files[0])
    build_expression(*files, rows="samples")
    assert not _warned(files[2], "normal_scores")


def test_centred_profiles_go_through_shards_and_as_an_embedding(files, tmp_path):
    build_expression(*files, rows="samples", centre_by="slide")
    build_profiles(files[2], tmp_path / "profiles")
    lines = describe(SMALL, VAEInputs(tmp_path / "profiles", files[1]))
    assert any("60 in centred" in line for line in lines)
    data = anndata.read_h5ad(files[2])
    train = (data.obs["split"] == "train").to_numpy()
    fitted = PCA(5, random_state=0).fit(data.X[train])
    data.obsm["X_pca"] = fitted.transform(data.X).astype(np.float32)  # plain PCA, made elsewhere
    data.write_h5ad(files[2])
    embedding = read_embedding(files[2], "X_pca")
    model = EmbeddingModel.fit(embedding, "X_pca", {})
    latents = model.encode(embedding.values, embedding.genes, embedding.units).latents
    np.testing.assert_allclose(abs(latents), abs(data.obsm["X_pca"]), atol=1e-4)  # the same axes, of either sign


def _warned(path, transform: str) -> bool:
    lines = describe(SMALL.replace(transform=transform), VAEInputs(path))
    return any("their ranks are ties" in line and "--preset spots" in line for line in lines)


def test_steps_say_what_was_asked_for():
    assert not SpotSteps() and SpotSteps(2, 0, "slide").options == "--min-spots and --centre-by"
    assert SpotSteps(0, 3, "slide").columns == ["slide"] and SpotSteps(0, 3, "site").columns == ["slide", "site"]


def test_the_api_warns_of_other_pooling_too(trained_spots):
    model, data = trained_spots
    with pytest.warns(UserWarning, match="adata has spots pooled with 1 neighbours and the model was trained with 0"):
        model.encode(data)


@pytest.fixture
def trained_spots(files, tmp_path, no_mlflow):
    """What `RNAGAN.encode` needs of a model: an encoder."""
    build_expression(*files, rows="samples", pool_spots=1)
    build_expression(*files[:2], tmp_path / "plain.h5ad", rows="samples")
    train_vae(SMALL, VAEInputs(tmp_path / "plain.h5ad"), tmp_path / "run")
    encoder = load_vae(tmp_path / "run/model")
    model = RNAGAN(None, None, None, [], "", frozenset(), encoder)  # type: ignore[arg-type]
    return model, anndata.read_h5ad(files[2])
