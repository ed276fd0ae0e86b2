import pytest

from rnagan.cohort.slide_ids import find_slides, slide_id, slide_of


def test_slide_id():
    assert slide_id("/x/GTEX-15RJ7-0625.svs") == "GTEX-15RJ7-0625"
    assert slide_id("TCGA-02.0cc8.svs") == "TCGA-02_0cc8"


def test_a_table_may_give_the_file_or_the_id():
    assert slide_of("A-1.0.svs") == slide_of("A-1.0") == "A-1_0"


def test_slides_are_found_below_a_folder_by_id(tmp_path):
    for name in ("b/deep/Z.SVS", "a/A.1.tif", "a/notes.txt", "a/B.svs.partial"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_slides([tmp_path])
    assert list(found) == ["A_1", "Z"] and found["Z"] == tmp_path / "b/deep/Z.SVS"
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
