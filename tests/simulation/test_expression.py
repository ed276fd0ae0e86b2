"""The profile tells the programmes and not the site, and its files are GTEx-like."""

from pathlib import Path

import numpy as np
import pytest

from rnagan.cohort.readers.user_tables import read_samples
from rnagan.cohort.table import assign_splits
from rnagan.config.simulation import SimulationConfig
from rnagan.simulation.donors import PROGRAMMES, draw_cohort
from rnagan.simulation.expression import gene_names, programme_loadings, simulate_tpm, write_attributes, write_gct
from rnagan.simulation.tissues import TISSUES
from tests.expression.whole_table import read_whole

CONFIG = SimulationConfig(donors=800, slide_donors=1)
EVERY_TISSUE = CONFIG.replace(tissues=",".join(TISSUES))


def ridge(x: np.ndarray, y: np.ndarray, x_new: np.ndarray, penalty: float = 30.0) -> np.ndarray:
    """Prediction of `y` (n,) for new rows by ridge regression."""
    mean, sd = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, x_new = (x - mean) / sd, (x_new - mean) / sd
    return y.mean() + x_new @ x.T @ np.linalg.solve(x @ x.T + penalty * np.eye(len(x)), y - y.mean())


def test_programmes_are_linear_in_log_expression_and_the_site_is_not_in_it() -> None:
    truth = draw_cohort(EVERY_TISSUE)
    log_tpm = np.log1p(simulate_tpm(EVERY_TISSUE, truth))
    assert list(truth["tissue"].unique()) == list(TISSUES)
    fitted = truth["donor"].isin(sorted(set(truth["donor"]))[:500])
    for name, tissue in TISSUES.items():
        train, held_out = ((truth["tissue"] == name) & rows for rows in (fitted, ~fitted))

        def recovered(column: str, train=train, held_out=held_out) -> float:
            predicted = ridge(log_tpm[train], truth.loc[train, column].to_numpy(), log_tpm[held_out])
            return float(np.corrcoef(predicted, truth.loc[held_out, column])[0, 1])

        for programme in PROGRAMMES:
            if programme != "air" or tissue.air_fraction:
                assert recovered(programme) > 0.95, programme
        assert abs(recovered("site_stain")) < 0.15  # 300 donors: 2.6 standard errors


def test_loadings_are_those_that_made_the_expression() -> None:
    """The oracle: regression of log expression on each programme, gene by gene."""
    truth = draw_cohort(CONFIG)
    loadings = programme_loadings(CONFIG, truth)
    ids = gene_names(CONFIG)[0]
    assert set(loadings["programme"]) == {*PROGRAMMES, "nuisance_1", "nuisance_2", "nuisance_3"}
    lung = (truth["tissue"] == "lung").to_numpy()
    tpm = simulate_tpm(CONFIG, truth)[lung]
    high = np.flatnonzero((tpm > 1).all(axis=0))  # of lower genes the counting noise bends the logarithm
    centred = truth.loc[lung, list(PROGRAMMES)] - truth.loc[lung, list(PROGRAMMES)].mean()
    fitted = np.linalg.lstsq(centred, np.log(tpm[:, high]) - np.log(tpm[:, high]).mean(axis=0), rcond=None)[0]
    for row, name in enumerate(PROGRAMMES):
        own = loadings[loadings["programme"] == name].set_index("gene")["loading"]
        true = own.reindex([ids[k] for k in high]).fillna(0.0).to_numpy()
        assert np.corrcoef(true, fitted[row])[0, 1] > 0.97
        moved = np.abs(true) > 0
        assert np.polyfit(true[moved], fitted[row][moved], 1)[0] == pytest.approx(1, abs=0.05)


def test_tpm_sum_to_a_million_and_have_zeros() -> None:
    truth = draw_cohort(CONFIG).head(50)
    tpm = simulate_tpm(CONFIG, truth)
    assert tpm.shape == (50, CONFIG.genes) and tpm.dtype == np.float32
    assert tpm.sum(axis=1) == pytest.approx(1e6, rel=1e-4)
    assert 0 < (tpm == 0).mean() < 0.2


def test_files_are_read_like_gtex(tmp_path: Path) -> None:
    config = CONFIG.replace(donors=12, genes=60)
    truth = draw_cohort(config)
    tpm = simulate_tpm(config, truth)
    write_gct(tmp_path / "e.gct.gz", tpm, truth["sample"].tolist(), *gene_names(config))
    write_attributes(tmp_path / "a.tsv", truth)
    read = read_whole(tmp_path / "e.gct.gz")
    assert read.units == "tpm" and read.values.shape == (24, 60)
    assert read.samples == truth["sample"].tolist() and read.genes[3] == "ENSG90000000003"
    assert read.symbols[3] == "SIM0003"
    assert np.allclose(read.values, tpm, rtol=1e-3)
    samples = read_samples(tmp_path / "a.tsv")
    for column in ("sample", "donor", "tissue", "site"):
        assert samples[column].tolist() == truth[column].tolist()


@pytest.mark.parametrize("tissues", ["", "cortex,skin", "lung,cortex,lung"])
def test_other_tissues_are_refused(tissues: str) -> None:
    with pytest.raises(ValueError, match=r"^tissues must name some of cortex, lung, liver, muscle, each once, not '"):
        SimulationConfig(tissues=tissues)


def test_hundreds_of_held_out_profiles_have_no_slide() -> None:
    truth = draw_cohort(SimulationConfig())
    tissues = {str(donor): set(rows) for donor, rows in truth.groupby("donor")["tissue"]}
    split = truth["donor"].map(assign_splits(tissues))
    assert truth.loc[(split == "test") & ~truth["has_slide"], "donor"].nunique() >= 200
    assert truth.loc[(split == "test") & truth["has_slide"], "donor"].nunique() >= 50  # the ceiling needs some


def test_another_seed_draws_other_donors_and_sites_do_not_follow_programmes() -> None:
    truth, other = draw_cohort(CONFIG), draw_cohort(CONFIG.replace(seed=1))
    assert truth["sample"].is_unique and truth["slide"].is_unique
    assert (truth["sample"] == other["sample"]).all() and not (truth["matrix"] == other["matrix"]).any()
    assert truth.groupby("donor")["site"].nunique().max() == 1
    assert truth.groupby("site")["site_stain"].nunique().tolist() == [1] * CONFIG.sites
    assert truth["site_stain"].nunique() == CONFIG.sites
    assert truth.loc[truth["tissue"] == "cortex", ["air", "air_fraction"]].isna().all(axis=None)
    factors = truth[["proliferation", "nuclear_size", "matrix", "site_stain"]].corr().to_numpy()
    assert np.abs(factors - np.eye(4)).max() < 0.08
