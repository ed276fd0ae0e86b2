"""A DICOM series, from its files to the tiles of one shard."""

import numpy as np
import pytest
import webdataset as wds
from click.testing import CliRunner

from rnagan.commands.build_tiles import main
from rnagan.data.index import open_dataset
from rnagan.slides.slide import Slide
from tests.cohort.dicom_slides import write_dicom_slide


@pytest.fixture
def image():
    y, x = np.mgrid[:256, :384]
    return np.stack([150 + x / 6, 60 + y / 4, 140 + 30 * np.sin((x + 2 * y) / 41)], axis=2).astype(np.uint8)


def build(out, *arguments):
    settings = ("--tile-px", 64, "--min-sharpness", 0, "--min-contrast", 0, "--no-ink", "--processes", 1, "--no-qc")
    return CliRunner().invoke(main, [*map(str, (*arguments, "--out", out, *settings))])


def test_its_files_are_one_slide_however_they_are_given(tmp_path, image):
    files = write_dicom_slide(tmp_path / "scans/P7", "1.2.77.5", files=3, image=image)
    (tmp_path / "table.csv").write_text("slide\nDCM_1.dcm\n")
    for name, given in {
        "folder": ("--slides", tmp_path / "scans"),
        "files": files,
        "last": files[2:],
        "table": (files[0], "--cohort", tmp_path / "table.csv"),
    }.items():
        result = build(tmp_path / name, *given)
        assert result.exit_code == 0, result.output
        slides = open_dataset(tmp_path / name).slides
        assert (slides["slide"].tolist(), slides["tiles"].tolist()) == (["DCM_1" if name == "table" else "P7"], [24])
        for sample in wds.WebDataset(f"file:{tmp_path / name / slides['slide'][0]}.tar", shardshuffle=False).decode(
            "rgb8"
        ):
            x, y = sample["json"]["x"], sample["json"]["y"]
            assert np.abs(sample["jpg"].astype(int) - image[y : y + 64, x : x + 64]).mean() < 3
    again = build(tmp_path / "last", files[0])  # another task of a job array, which got another of the files
    assert "1 shards (up to date)" in again.output


def test_a_level_of_another_series_picture_is_not_read(tmp_path, image):
    first = write_dicom_slide(tmp_path / "a", "1.2.77.6", files=2, image=image)
    other = write_dicom_slide(tmp_path / "b", "1.2.77.6", files=2, image=image[::-1, ::-1])
    with Slide(first[0]) as slide:
        assert slide.plan(1.0) == (1, 1.0)
    first[1].write_bytes(other[1].read_bytes())
    with Slide(first[0]) as slide:
        assert slide.plan(1.0) == (0, 2.0)
        half = image.reshape(128, 2, 192, 2, 3).mean((1, 3))
        assert np.abs(slide.read(0, 0, 64, 1.0) - half[:64, :64]).max() <= 1
