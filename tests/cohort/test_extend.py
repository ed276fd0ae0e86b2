"""A third tissue is added to two, from downloaded slides to shards, and nothing that was there changes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnagan.cohort.table import read_cohort
from rnagan.simulation.svs import write_svs
from tests import programs

SITES = {"Lung": "07", "Brain - Cortex": "31", "Liver": "06"}


def run(command: str, *arguments: object) -> str:
    return programs.run("rnagan", command, *arguments).check().stdout


class Download:
    """A folder of GTEx slides and the attributes of its RNA samples, which grows."""

    def __init__(self, folder: Path) -> None:
        self.slides, self.attributes, self.rows = folder / "slides", folder / "attributes.txt", []
        self.cohort, self.shards = folder / "cohort.csv", folder / "shards"

    def add(self, tissue: str, donors: range) -> None:
        for number in donors:
            piece = f"GTEX-{number:05d}-{SITES[tissue]}"
            self.rows.append({"SAMPID": f"{piece}26-SM-A", "SMTSD": tissue, "SMCENTER": "B1", "SMAFRZE": "RNASEQ"})
            noise = np.random.default_rng([number, len(tissue)]).integers(-30, 30, (300, 420, 1))
            pixels = (np.array([200, 110, 170]) + noise).astype(np.uint8)
            pixels[:, 300:] = 245
            write_svs(self.slides / tissue / f"{piece}25.svs", pixels, 0.5)
        pd.DataFrame(self.rows).to_csv(self.attributes, sep="\t", index=False)

    def build(self, *more: object) -> str:
        said = run("build-cohort", "--samples", self.attributes, "--slides", self.slides, "--out", self.cohort, *more)
        settings = ("--tile-px", 32, "--thumbnail-mpp", 2, "--min-sharpness", 0, "--processes", 1, "--no-qc")
        run("build-tiles", "--slides", self.slides, "--cohort", self.cohort, "--out", self.shards, *settings)
        return said

    def files(self) -> dict[str, bytes]:
        """Every tar, index and record of the shards."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.shards.iterdir())
            if path.name.endswith((".tar", ".index.parquet", ".record.json"))
        }


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(200)
def test_a_third_tissue_changes_nothing_that_was_there(tmp_path):
    download = Download(tmp_path)
    download.add("Lung", range(0, 7))
    download.add("Brain - Cortex", range(3, 8))
    said = download.build()
    assert "12 profiles, 12 slides, 8 donors" in said
    before, files = read_cohort(download.cohort), download.files()
    assert len(files) == 3 * 12 and all(len(content) > 500 for content in files.values())

    # Liver of donors who are there already, of one who has both, and of new ones.
    download.add("Liver", range(1, 12))
    said = download.build("--extend", download.cohort)
    assert "23 profiles, 23 slides, 12 donors" in said
    after, grown = read_cohort(download.cohort), download.files()
    assert len(grown) == 3 * 23
    assert {name: grown[name] for name in files} == files
    assert after[after["sample"].isin(before["sample"])].reset_index(drop=True).equals(before)
    splits = dict(zip(before["donor"], before["split"], strict=True))
    of_liver = after[after["tissue"] == "Liver"]
    assert set(of_liver["split"]) == {"train", "validation", "test"}
    again = of_liver[of_liver["donor"].isin(splits)]
    assert len(again) == 7 and (again["split"] == again["donor"].map(splits)).all()
    assert (again["split"] == "train").any() and (again["split"] != "train").any()


@pytest.mark.slow
@pytest.mark.guard
@pytest.mark.timeout(200)
def test_the_order_of_growth_would_move_donors_without_extend(tmp_path):
    """What `--extend` prevents does happen: the same tables from nothing split these donors otherwise."""
    download = Download(tmp_path)
    download.add("Lung", range(0, 7))
    base = ("--samples", download.attributes, "--slides", download.slides)
    run("build-cohort", *base, "--out", download.cohort)
    download.add("Liver", range(1, 12))
    run("build-cohort", *base, "--out", tmp_path / "fresh.csv")
    run("build-cohort", *base, "--out", tmp_path / "grown.csv", "--extend", download.cohort)
    first, fresh, grown = (
        read_cohort(path).set_index("sample")["split"]
        for path in (download.cohort, tmp_path / "fresh.csv", tmp_path / "grown.csv")
    )
    assert grown[first.index].equals(first) and not fresh[first.index].equals(first)


@pytest.mark.slow
@pytest.mark.guard
def test_only_the_new_slides_need_be_at_hand(tmp_path):
    download = Download(tmp_path)
    download.add("Lung", range(0, 5))
    base = ("--samples", download.attributes, "--out", download.cohort)
    run("build-cohort", *base, "--slides", download.slides)
    before = read_cohort(download.cohort)
    download.add("Liver", range(3, 8))
    said = run("build-cohort", *base, "--slides", download.slides / "Liver", "--extend", download.cohort)
    after = read_cohort(download.cohort)
    assert "5 slides of the earlier table are kept without being given again." in said
    assert after[after["sample"].isin(before["sample"])].reset_index(drop=True).equals(before)
    assert (after["slide"] != "").sum() == 10
    # Another tissue alone, of the same attributes, leaves the others as they are as well.
    said = run("build-cohort", *base, "--slides", download.slides, "--tissues", "liver", "--extend", download.cohort)
    assert "is up to date" in said
