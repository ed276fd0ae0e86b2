import pytest

from rnagan.cohort.slide_ids import is_shard_name, slide_id, slide_of, unchecked_slide_id


@pytest.mark.parametrize(
    ("file", "slide"),
    [
        ("/x/GTEX-15RJ7-0625.svs", "GTEX-15RJ7-0625"),
        ("TCGA-02.0cc8.svs", "TCGA-02_0cc8"),
        ("deep/scan.ome.tiff", "scan_ome"),
        ("1.2.840.113.51", "1_2_840_113_51"),  # DICOM files are called by their UID, without an extension
        ("1.2.840.113.51.dcm", "1_2_840_113_51"),
        ("no extension", "no extension"),
    ],
)
def test_slide_id(file, slide):
    assert slide_id(file) == unchecked_slide_id(file) == slide


@pytest.mark.parametrize("name", ["a\tb.svs", "x" * 71 + ".svs", "caf\udce9.svs", "a\\b.svs"])
def test_names_that_are_unfit(name):
    assert not is_shard_name(unchecked_slide_id(name))
    assert unchecked_slide_id(name).encode()  # can be printed
    with pytest.raises(ValueError, match="can't name a shard: 1 to 70 bytes"):
        slide_id(name)


def test_a_table_may_give_the_file_or_the_id():
    assert slide_of("A-1.0.svs") == slide_of("A-1.0") == "A-1_0"
    assert slide_of("A.dcm") == slide_of("A.CZI") == "A"
