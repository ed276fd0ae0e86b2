"""Which files of a folder are slides, what they are called, and that nothing is passed over without a word."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from rnagan.cohort.readers.user_tables import read_slides
from rnagan.cohort.slide_files import find_slides, readable_path
from rnagan.slides.sources import find_sources
from tests.cohort.dicom_slides import write_dicom_slide


def test_slides_are_found_below_a_folder_by_id(tmp_path):
    for name in ("b/deep/Z.SVS", "a/A.1.tif", "a/notes.txt", "a/B.svs.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_slides([tmp_path])
    assert list(found) == ["A_1", "Z"] and found["Z"].path == tmp_path / "b/deep/Z.SVS"
    (tmp_path / "a/A_1.ndpi").touch()
    with pytest.raises(ValueError, match="A.1.tif and .*A_1.ndpi would both become slide A_1; rename or remove one"):
        find_slides([tmp_path])


def test_files_and_folders_may_be_given(tmp_path):
    for name in ("a.svs", "deep/b.ndpi", "empty/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = [tmp_path / "deep", tmp_path / "a.svs", tmp_path / "deep/b.ndpi"]
    assert list(find_slides(given)) == ["a", "b"]
    with pytest.raises(FileNotFoundError, match="empty holds no slide"):
        find_slides([tmp_path / "empty"])


def write_tiff(path, level=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((64, 96, 3), level, np.uint8)
    tifffile.imwrite(path, image, tile=(32, 32), photometric="rgb", metadata=None)
    return path


def test_the_content_says_what_a_slide_is(tmp_path):
    """A name decides only where OpenSlide knows nothing: that file fails by itself, instead of going unseen."""
    for name in ("scan", "scan.image", "scan_3.TIF"):
        write_tiff(tmp_path / "of one" / name.replace("scan", f"s{len(name)}"))
    (tmp_path / "of one/broken.czi").write_text("nothing")
    (tmp_path / "of one/notes.txt").write_text("three slides")
    notes = []
    assert list(find_slides([tmp_path], notes)) == ["broken", "s10", "s10_3", "s4"]
    assert notes == [f"1 files are no slides: {tmp_path}/of one/notes.txt."]
    assert read_slides(tmp_path)["slide"].tolist() == ["broken", "s10", "s10_3", "s4"]


def test_links_count_by_their_own_names(tmp_path):
    """A farm of links: each is a slide of its own name, and files that have two are named."""
    farm = tmp_path / "farm"
    farm.mkdir()
    for number, name in enumerate(("patient 1.tif", "patient 2.tif", "patient 3.tif")):
        target = write_tiff(tmp_path / "store" / str(number // 2) / "data.tif", number // 2)
        (farm / name).symlink_to(target)
    notes = []
    found = find_slides([farm], notes)
    assert {slide: file.path for slide, file in found.items()} == {
        f"patient {n}": farm / f"patient {n}.tif" for n in (1, 2, 3)
    }
    assert notes == ["2 slides are one file under several names: patient 1, patient 2."]
    sources, _ = find_sources([farm])
    assert [source.slide for source in sources] == [source.path.stem for source in sources] == list(found)
    assert list(find_slides([farm / "patient 1.tif", tmp_path / "store/1/data.tif"])) == ["data", "patient 1"]
    with pytest.raises(ValueError, match="0/data.tif and .*1/data.tif would both become slide data"):
        find_slides([tmp_path / "store"])


def test_two_spellings_of_a_path_are_one_slide(tmp_path, monkeypatch):
    write_tiff(tmp_path / "a/x.tif")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    monkeypatch.chdir(tmp_path / "a")
    found = find_slides([Path("x.tif"), tmp_path / "a", tmp_path / "b", tmp_path / "a/../a/x.tif"])
    assert list(found) == ["x"] and found["x"].path.is_absolute()


def test_everything_that_is_passed_over_is_named(tmp_path):
    write_tiff(tmp_path / "in/a.tif")
    (tmp_path / "in/lost.svs").symlink_to(tmp_path / "gone.svs")
    (tmp_path / "in/more").symlink_to(tmp_path / "in")
    write_tiff(tmp_path / "in/.hidden.tif")
    write_tiff(tmp_path / "in/b.svs.part")
    os.mkfifo(tmp_path / "in/pipe")
    for n in range(5):
        (tmp_path / f"in/{n}.csv").touch()
    notes = []
    assert list(find_slides([tmp_path / "in"], notes)) == ["a"]
    place = tmp_path / "in"
    assert sorted(notes) == [
        f"1 are neither file nor folder: {place}/pipe.",
        f"1 folders are links; give them by themselves: {place}/more.",
        f"1 links lead to nothing: {place}/lost.svs.",
        f"2 files are hidden or unfinished: {place}/.hidden.tif, {place}/b.svs.part.",
        f"5 files are no slides: {place}/0.csv, {place}/1.csv, {place}/2.csv and 2 more.",
    ]
    (place / "a.tif").unlink()
    with pytest.raises(FileNotFoundError, match="holds no slide.*1 links lead to nothing: .*lost.svs"):
        find_slides([place])


def test_a_slide_of_several_files_keeps_them(tmp_path):
    for name in ("a.mrxs", "a/Slidedat.ini", "a/Data0000.dat", "h.vms", "h(0,1).jpg", "h.opt", "other.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "h.vms").write_text(
        "[Virtual Microscope Specimen]\nImageFile(0,1)=h(0,1).jpg\nOptimisationFile=h.opt\n"
    )
    notes = []
    assert list(find_slides([tmp_path], notes)) == ["a", "h"]
    assert notes == [f"1 files are no slides: {tmp_path}/other.jpg."]
    assert readable_path(tmp_path / "a.mrxs") == tmp_path / "a.mrxs"


@pytest.fixture
def series(tmp_path):
    """Two DICOM series, of three files and of one, by folder."""
    write_dicom_slide(tmp_path / "scans/left", series="1.2.77.1", files=3)
    write_dicom_slide(tmp_path / "scans/right", series="1.2.77.2", files=1)
    return tmp_path / "scans"


def test_the_files_of_a_dicom_series_are_one_slide(series):
    found = find_slides([series])
    assert {slide: [path.name for path in file.parts] for slide, file in found.items()} == {
        "left": ["DCM_0", "DCM_1", "DCM_2"],
        "DCM_0": ["DCM_0"],
    }
    one_of_them = find_slides([series / "left/DCM_2", series / "left/DCM_1"])
    assert one_of_them == {"left": found["left"]}
    assert read_slides(series)["slide"].tolist() == ["DCM_0", "left"]


def test_series_that_share_a_folder_are_called_by_their_uid(series):
    shutil.move(series / "right/DCM_0", series / "left/other")
    assert list(find_slides([series / "left"])) == ["1_2_77_1", "other"]


def test_one_series_in_two_folders_is_refused(series):
    (series / "copy").mkdir()
    shutil.move(series / "left/DCM_2", series / "copy/DCM_2")
    with pytest.raises(ValueError, match="both hold files of the DICOM series 1.2.77.1, which is one slide"):
        find_slides([series])


@pytest.mark.parametrize(
    ("name", "called"),
    [("left", "left"), ("DCM_1", "DCM_1"), ("1.2.77.1", "1_2_77_1"), ("DCM_2.dcm", "DCM_2")],
)
def test_a_table_names_a_series_by_folder_file_or_uid(series, tmp_path, name, called):
    (tmp_path / "cohort.csv").write_text(f"slide,mpp\n{name},0.4\n")
    (source,), notes = find_sources([series / "left"], cohort=tmp_path / "cohort.csv")
    assert (source.slide, source.mpp, len(source.parts), notes) == (called, 0.4, 3, [])
    assert source.stamp["bytes"] == sum(path.stat().st_size for path in source.parts)


def test_a_table_names_a_slide_once(series, tmp_path):
    (tmp_path / "cohort.csv").write_text("slide\nDCM_1\nDCM_2\n")
    with pytest.raises(ValueError, match="cohort.csv: DCM_1 and DCM_2 are one slide .*keep one of them"):
        find_sources([series / "left"], cohort=tmp_path / "cohort.csv")


def test_a_file_whose_name_is_unfit_is_left_out_of_the_cohort(tmp_path):
    write_tiff(tmp_path / "a.tif")
    write_tiff(tmp_path / "b\tc.tif")
    notes = []
    assert read_slides(tmp_path, notes=notes)["slide"].tolist() == ["a"]
    assert notes == ["1 slides are left out, whose names are unfit for shards: b\tc."]
