"""A cohort on disk: the same bytes on any number of processes, restartable, and true to its truth table."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.build import make_cohort_table
from rnagan.cohort.table import read_cohort
from rnagan.config.simulation import SimulationConfig
from rnagan.config.tiling import TilingConfig
from rnagan.data.index import open_dataset
from rnagan.evaluation.morphology import MEASURES, measure
from rnagan.evaluation.real_tiles import real_tiles
from rnagan.io.files import read_json
from rnagan.simulation.cohort import simulate_cohort
from rnagan.simulation.donors import draw_cohort, draw_subjects
from rnagan.slides.sources import find_sources
from rnagan.slides.tiling import tile_slides

TINY = SimulationConfig(donors=10, slide_donors=2, genes=50, tiles_across=2, tiles_down=1)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "cohort"
    simulate_cohort(TINY, out, processes=1)
    return out


def test_a_cohort_of_cortex_and_lung_stays_what_it_was(tiny: Path) -> None:
    """Bytes of the release before there were other tissues, whose shards and models are around."""
    known = {
        "expression.gct.gz": "9529f13a",
        "sample_attributes.tsv": "8938ae00",
        "slides.csv": "d80384c2",
        "truth.csv": "d39a1769",
        "slides/SIM-00003-0225-CTX.svs": "d0aad7ef",
        "slides/SIM-00003-0225-LNG.svs": "7799cf39",
    }
    written = digests(tiny)
    assert {name: written[name][:8] for name in known} == known


@pytest.mark.slow
@pytest.mark.guard
def test_two_processes_write_what_one_writes_and_another_seed_does_not(tiny: Path, tmp_path: Path) -> None:
    expected = digests(tiny)
    assert len(expected) == 4 + 8 and sum(name.endswith(".svs") for name in expected) == 4
    simulate_cohort(TINY, tmp_path / "two", processes=2)
    assert digests(tmp_path / "two") == expected
    simulate_cohort(TINY.replace(seed=1, slide_donors=10), tmp_path / "other", processes=1)
    other = digests(tmp_path / "other")
    assert all(other[name] != expected[name] for name in expected if name != "sample_attributes.tsv")


def test_a_finished_cohort_is_up_to_date_and_a_stopped_one_goes_on(tiny: Path) -> None:
    before = digests(tiny)
    assert simulate_cohort(TINY, tiny).endswith("is up to date.")
    slides = sorted((tiny / "slides").iterdir())
    written = [slide.stat().st_mtime_ns for slide in slides]
    (tiny / "simulation.json").unlink()
    slides[1].unlink()
    simulate_cohort(TINY, tiny, processes=1)
    assert digests(tiny) == before
    kept = [slide.stat().st_mtime_ns == time for slide, time in zip(slides, written, strict=True)]
    assert kept == [True, False, True, True]


@pytest.mark.parametrize("missing", ["simulation.json", "config.yaml"])
def test_other_settings_are_refused(tiny: Path, tmp_path: Path, missing: str) -> None:
    (tmp_path / "c").mkdir()
    for name in {"simulation.json", "config.yaml"} - {missing}:
        (tmp_path / "c" / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(ValueError, match=r"c holds a cohort with other settings; choose another --out or delete it\.$"):
        simulate_cohort(TINY.replace(seed=3), tmp_path / "c")


def test_what_is_beside_the_slides(tiny: Path) -> None:
    truth, slides = pd.read_csv(tiny / "truth.csv"), pd.read_csv(tiny / "slides.csv")
    assert {path.stem for path in (tiny / "slides").iterdir()} == set(slides["slide"])
    assert set(slides["slide"]) == set(truth.loc[truth["has_slide"], "slide"])
    assert truth[list(MEASURES)].notna().all().tolist() == [name != "air_fraction" for name in MEASURES]
    made = read_json(tiny / "simulation.json")
    assert made["config"] == TINY.to_dict() and (made["samples"], made["slides"]) == (20, 4)


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.parametrize("tissues, donors", [("cortex,lung", 30), ("liver,muscle", 20)])
def test_measured_morphology_follows_the_truth_through_slide_and_tiles(
    tmp_path: Path, tissues: str, donors: int
) -> None:
    """Slope near 1 and r near 1 within each tissue, every whole tile kept, and no measure follows another's cause."""
    config = SimulationConfig(
        donors=donors, slide_donors=donors, genes=50, tiles_across=4, tiles_down=3, tissues=tissues
    )
    simulate_cohort(config, tmp_path / "c", processes=1)
    make_cohort_table(tmp_path / "c/sample_attributes.tsv", tmp_path / "c/slides.csv", tmp_path / "cohort.csv")
    cohort = read_cohort(tmp_path / "cohort.csv")
    assert len(cohort) == 2 * donors and (cohort["slide"] != "").all()
    tile_slides(find_sources([tmp_path / "c/slides"])[0], tmp_path / "tiles", TilingConfig(tile_px=64, mpp=1.0))
    shards = open_dataset(tmp_path / "tiles")
    assert (shards.slides["tiles"] >= 11).all() and (shards.slides["tiles"] == 12).mean() > 0.9

    truth = pd.read_csv(tmp_path / "c/truth.csv", index_col="sample")
    measured = pd.DataFrame(
        {
            sample: {name: values.mean() for name, values in measure(tiles, 1.0).items()}
            for sample, tiles in real_tiles(shards, cohort, 12, 64)
        }
    ).T.loc[truth.index]
    causes = {
        "nuclear_density": "proliferation",
        "air_fraction": "air",
        "matrix_colour": "matrix",
        "site_stain": "site_stain",
    }
    for tissue, rows in truth.groupby("tissue"):
        for name in MEASURES:
            own = measured.loc[rows.index, name]
            if rows[name].isna().all():
                assert tissue in ("cortex", "muscle") and own.max() < 0.02
                continue
            assert np.corrcoef(rows[name], own)[0, 1] > 0.97, (tissue, name)
            assert 0.88 < np.polyfit(rows[name], own, 1)[0] < 1.1, (tissue, name)
            factors = rows[["proliferation", "nuclear_size", "matrix", "site_stain", "air"]].dropna(axis=1)
            standard = (factors - factors.mean()) / factors.std()
            weights = np.linalg.lstsq(standard, (own - own.mean()) / own.std(), rcond=None)[0]
            others = [weight for weight, factor in zip(weights, factors, strict=True) if factor != causes[name]]
            assert np.abs(others).max() < 0.15, (tissue, name, others)


def test_a_confounded_cohort_differs_by_what_ischaemia_does_alone(tiny: Path, tmp_path: Path) -> None:
    """Ischaemic time pales the matrix and moves genes of its own; everything else is the same cohort's."""
    simulate_cohort(TINY.replace(confounded=True), tmp_path / "c", processes=1)
    plain, confounded = (pd.read_csv(folder / "truth.csv", index_col="sample") for folder in (tiny, tmp_path / "c"))
    ischaemia = confounded.pop("ischaemia")
    assert np.ptp(ischaemia) > 0.5 and list(plain) == list(confounded)
    moved = confounded["matrix_colour"] - plain["matrix_colour"]
    for _, rows in moved.groupby(confounded["tissue"]):
        assert np.corrcoef(rows, ischaemia[rows.index])[0, 1] == pytest.approx(-1)
    assert plain.drop(columns="matrix_colour").equals(confounded.drop(columns="matrix_colour"))
    subjects = [pd.read_csv(folder / "subjects.tsv", sep="\t") for folder in (tiny, tmp_path / "c")]
    assert subjects[0].equals(subjects[1]) and list(subjects[0]) == ["donor", "age", "sex", "ischaemic_min"]
    minutes = confounded["donor"].map(subjects[0].set_index("donor")["ischaemic_min"])
    assert np.corrcoef(minutes, ischaemia)[0, 1] > 0.9999 and minutes.between(60, 1380).all()
    loadings = [pd.read_csv(folder / "programmes.csv") for folder in (tiny, tmp_path / "c")]
    own = loadings[1]["programme"] == "ischaemia"
    assert own.sum() == 4 and loadings[1][~own].equals(loadings[0])


def test_age_sex_and_ischaemic_time_have_nothing_to_do_with_the_programmes() -> None:
    config = SimulationConfig(donors=2000, slide_donors=1, genes=50)
    truth, subjects = draw_cohort(config).iloc[:2000], draw_subjects(config)
    table = subjects.assign(sex=subjects["sex"] == "male", site=truth["site"].astype("category").cat.codes)
    for name in ("proliferation", "nuclear_size", "matrix", "site"):
        values = table["site"] if name == "site" else truth[name]
        for column in ("age", "sex", "ischaemia"):
            assert abs(np.corrcoef(table[column], values)[0, 1]) < 0.07, (name, column)  # 3 standard errors
