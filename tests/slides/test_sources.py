import h5py
import numpy as np
import pytest

from rnagan.slides.coordinates import CoordinatesError, find_coordinates, read_coordinates
from rnagan.slides.masks import MaskFolder
from rnagan.slides.sources import find_sources
from tests.cohort.dicom_slides import write_dicom_slide


@pytest.fixture
def slides(tmp_path):
    for name in ("a.svs", "deep/b.ndpi", "deep/notes.txt", "c.TIF"):
        (tmp_path / "slides" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "slides" / name).touch()
    return tmp_path / "slides"


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("slide,mpp\na,wide\n", "cohort.csv, line 2: mpp must be µm per pixel, not 'wide'"),
        ("slide,mpp\na,0.5\na,0.25\n", "line 3: slide a has two resolutions"),
        ("slide,mpp\na,-1\n", "line 2: mpp must be"),
        ("slides\na\n", "has no column slide"),
        ("slide\nother\n", "None of the 3 slides is in .*cohort.csv .column slide has other"),
        ("slide,mpp\n,0.5\n", "names no slide"),
    ],
)
def test_bad_cohort_tables(slides, tmp_path, table, sentence):
    (tmp_path / "cohort.csv").write_text(table)
    with pytest.raises(ValueError, match=sentence):
        find_sources([slides], cohort=tmp_path / "cohort.csv")


def test_sources_are_absolute_and_their_stamp_follows_what_is_said_of_them(slides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cohort.csv").write_text("slide,mpp\na,0.4\nb.ndpi,\n")
    (plain, *_), _ = find_sources([slides.relative_to(tmp_path)])
    (given, other), notes = find_sources([slides], cohort=tmp_path / "cohort.csv")
    assert plain.path.is_absolute() and (given.mpp, other.mpp, other.slide) == (0.4, None, "b")
    assert plain.stamp != given.stamp and plain.stamp | {"given_mpp": 0.4} == given.stamp
    assert notes == [
        f"1 files are no slides: {slides / 'deep/notes.txt'}.",
        f"1 slides are not in {tmp_path / 'cohort.csv'}: c.",
    ]


def write(path, coordinates, **attributes):
    with h5py.File(path, "w") as file:
        file.create_dataset("coords", data=coordinates).attrs.update(attributes)
    return path


def test_repeats_are_dropped_and_the_order_kept(tmp_path):
    path = write(tmp_path / "a.h5", np.array([[5, 6], [1, 2], [5, 6]], np.int32), patch_size_level0=100)
    assert read_coordinates(path, 101, 0.02).tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: path.write_text("no h5"), "a.h5 is no readable .h5 file with coords"),
        (lambda path: write(path, np.zeros((3, 3), int), patch_size=1), "coords must be integers of shape .n, 2."),
        (lambda path: write(path, np.zeros((3, 2)), patch_size=1), "coords must be integers"),
        (lambda path: write(path, np.zeros((3, 2), int)), "doesn't say how wide its patches are"),
        (lambda path: write(path, np.zeros((3, 2), int), patch_size=256), "patches of 256 level-0 px, and a tile here"),
    ],
)
def test_bad_coordinates(tmp_path, make, sentence):
    make(tmp_path / "a.h5")
    with pytest.raises(CoordinatesError, match=sentence):
        read_coordinates(tmp_path / "a.h5", 128, 0.02)


@pytest.mark.parametrize("what", ["coordinates", "mask"])
def test_a_file_that_may_be_of_two_slides_is_refused(tmp_path, what):
    """Two DICOM series whose files have the same names; an id is not also taken for the name of another's file."""
    for number, folder in enumerate(("left", "right"), start=1):
        write_dicom_slide(tmp_path / "slides" / folder, series=f"1.2.77.{number}", files=2)

    def sources():
        if what == "mask":
            return find_sources([tmp_path / "slides"], masks=MaskFolder(tmp_path / "given"))[0]
        return find_sources([tmp_path / "slides"], coordinates=tmp_path / "given")[0]

    ending = "png" if what == "mask" else "h5"
    (tmp_path / "given").mkdir()
    (tmp_path / f"given/DCM_1.{ending}").touch()
    with pytest.raises(
        ValueError, match=f"DCM_1.{ending} may hold .*{what} of left or of right; call it by the slide's id"
    ):
        sources()
    (tmp_path / f"given/DCM_1.{ending}").rename(tmp_path / f"given/right.{ending}")
    left, right = sources()
    assert (left.mask, left.coordinates) == (None, None) != (right.mask, right.coordinates)
    (tmp_path / f"given/1.2.77.2.{ending}").touch()
    with pytest.raises(ValueError, match=f"both hold .*{what} of slide right; keep one"):
        sources()


def test_an_id_is_no_further_name_of_another_slide(slides, tmp_path):
    """Slide a_svs has the coordinates that slide a, whose file is a.svs, could have by the file's name."""
    (slides / "a_svs.tif").touch()
    (tmp_path / "h5").mkdir()
    (tmp_path / "h5/a_svs.h5").touch()
    found = {source.slide: source.coordinates for source in find_sources([slides], coordinates=tmp_path / "h5")[0]}
    assert found["a"] is None and found["a_svs"] == tmp_path / "h5/a_svs.h5"


def test_two_files_of_one_slide_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no .h5 file"):
        find_coordinates(tmp_path)
    for name in ("a.h5", "a_patches.h5"):
        write(tmp_path / name, np.zeros((1, 2), int))
    with pytest.raises(ValueError, match="both hold coordinates of slide a"):
        find_coordinates(tmp_path)
