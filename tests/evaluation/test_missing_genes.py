import dataclasses
from pathlib import Path

import numpy as np
import pytest

from rnagan.evaluation import missing_genes
from rnagan.expression.h5ad import read_expression
from rnagan.models.trained_vae import load_vae


def test_gaps_hide_exact_shares_alike_for_all_models_and_within_one_another() -> None:
    gaps = missing_genes.random_gaps(200, (0.05, 0.4), 3)
    assert [gap.hidden.sum() for gap in gaps] == [10] * 3 + [80] * 3
    again = missing_genes.random_gaps(200, (0.4,), 3)
    for small, large, same in zip(gaps[:3], gaps[3:], again, strict=True):
        assert (small.hidden <= large.hidden).all() and (large.hidden == same.hidden).all()
    assert (gaps[0].hidden != gaps[1].hidden).any()
    assert (gaps[0].hidden != missing_genes.random_gaps(200, (0.05,), 1, seed=1)[0].hidden).any()
    with pytest.raises(ValueError, match="lie between 0 and 1"):
        missing_genes.random_gaps(200, (1.5,))


def test_a_real_gap_is_what_the_other_cohort_lacks() -> None:
    genes = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]
    gap = missing_genes.real_gap("other", genes, ["ENSG00000000003.4", "ENSG00000000009"])
    assert gap.hidden.tolist() == [True, True, False]
    for present, has in (([], "none"), (genes, "all")):
        with pytest.raises(ValueError, match=f"other has {has} of the model's 3 genes"):
            missing_genes.real_gap("other", genes, present)


def test_costs_equal_encoding_and_decoding_by_hand(toy_vae: Path, toy_profiles: Path) -> None:
    model, data = load_vae(toy_vae / "model"), read_expression(toy_profiles / "profiles.h5ad")
    train, x = data.split("train"), data.split("test")
    of = {name: data.obs["tissue"][data.obs["split"] == name].to_numpy().astype(str) for name in ("train", "test")}
    gaps = missing_genes.random_gaps(30, (0.2,), 2)
    known = model.encode(train, data.genes, "tpm").latents
    table = missing_genes.cost_of_gaps(model, x, of["test"], known, of["train"], data.genes, gaps)
    assert table["gap"].tolist() == ["none", "20%", "20%"] and table["share"].tolist() == [0, 0.2, 0.2]

    hidden = gaps[1].hidden
    z = (np.log1p(x) - model.transform.mean) / model.transform.sd
    with pytest.warns(UserWarning, match="lack up to 20%"):
        latents = model.encode(np.where(hidden, np.nan, x), data.genes, "tpm").latents
    off = model.decode(latents) - z
    assert table["rmse"][2] == pytest.approx(np.sqrt((off**2).mean()), rel=1e-4)
    assert table["rmse_missing"][2] == pytest.approx(np.sqrt((off[:, hidden] ** 2).mean()), rel=1e-4)
    assert table["rmse_missing_mean"][2] == pytest.approx(np.sqrt((z[:, hidden] ** 2).mean()), rel=1e-4)
    active = model.space.active
    moved = (latents - model.encode(x, data.genes, "tpm").latents)[:, active] / known[:, active].std(axis=0)
    assert table["moved_sd"][2] == pytest.approx(np.sqrt((moved**2).mean()), rel=1e-3)
    assert table["moved_sd"][0] == 0 and np.isnan(table["rmse_missing"][0]) and table["tissue_knn"].min() > 0.8

    # what is filled in by the mean, as the article does, costs more than what is expected from the other genes
    mean = dataclasses.replace(model, config=model.config.replace(missing_genes="mean"))
    by_mean = missing_genes.cost_of_gaps(mean, x, of["test"], known, of["train"], data.genes, gaps)
    assert (by_mean["moved_sd"][1:] > table["moved_sd"][1:]).all()
    # in another order of genes nothing changes
    order = np.random.default_rng(0).permutation(30)
    turned = [gap._replace(hidden=gap.hidden[order]) for gap in gaps]
    names = [data.genes[i] for i in order]
    other = missing_genes.cost_of_gaps(model, x[:, order], of["test"], known, of["train"], names, turned)
    np.testing.assert_allclose(other["rmse_missing"][1:], table["rmse_missing"][1:], rtol=1e-5)
