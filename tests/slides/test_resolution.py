import pytest

from rnagan.slides.resolution import UnusableResolutionError, choose_level, find_resolution

EVERYTHING = {
    "openslide.mpp-x": "0.25030000000000002",
    "openslide.mpp-y": "0.2501",
    "tiff.ResolutionUnit": "centimeter",
    "tiff.XResolution": "20000",
    "tiff.YResolution": "20000",
    "openslide.objective-power": "10",
}


def without(*names):
    return {name: value for name, value in EVERYTHING.items() if not any(word in name for word in names)}


@pytest.mark.parametrize(
    ("properties", "given", "expected"),
    [
        (EVERYTHING, 0.7, (0.7, "cohort")),
        (EVERYTHING, None, (0.2502, "openslide")),
        (without("mpp"), None, (0.5, "tiff")),
        (without("mpp") | {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "50800", "tiff.YResolution": "50800"},
         None, (0.5, "tiff")),
        (without("mpp", "Unit"), None, (1.0, "objective")),
        (without("mpp", "tiff"), None, (1.0, "objective")),
        (without("mpp", "tiff", "power"), None, (0.4, "assumed")),
    ],
)  # fmt: skip
def test_the_first_that_is_there_decides(properties, given, expected):
    mpp, source = find_resolution(properties, given, 0.4)
    assert (mpp, source) == (pytest.approx(expected[0]), expected[1])


@pytest.mark.parametrize(
    "nonsense",
    [
        {"tiff.ResolutionUnit": "inch", "tiff.XResolution": "72", "tiff.YResolution": "72"},  # 353 µm
        {"tiff.ResolutionUnit": "centimeter", "tiff.XResolution": "0", "tiff.YResolution": "0"},
        {"openslide.mpp-x": "0", "openslide.mpp-y": "0"},
        {"openslide.mpp-x": "unknown", "openslide.mpp-y": "unknown"},
        {"openslide.mpp-x": "nan", "openslide.mpp-y": "nan"},
        {"openslide.objective-power": "0"},
    ],
)
def test_what_no_scanner_means_is_passed_over(nonsense):
    assert find_resolution(nonsense) is None
    assert find_resolution(nonsense | {"openslide.objective-power": "40"}).source == "objective"


def test_pixels_must_be_square():
    with pytest.raises(UnusableResolutionError, match="has pixels of 0.25 × 0.5 µm"):
        find_resolution(EVERYTHING | {"openslide.mpp-x": "0.25", "openslide.mpp-y": "0.5"})


@pytest.mark.parametrize(
    ("levels", "mpp", "expected"),
    [
        ([0.5, 2.0], 0.5, (0, 1.0)),
        ([0.25, 1.0], 0.5, (0, 2.0)),
        ([0.25, 1.0], 1.0, (1, 1.0)),
        ([0.4942, 0.9884], 0.5, (0, 1.0)),  # 1.2 % off: read as it is
        ([0.2508, 1.0032], 0.5, (0, 2.0)),
        ([0.4, 1.6], 0.5, (0, 1.25)),
        ([0.52], 0.5, (0, 0.5 / 0.52)),  # within the tolerance of upsampling
    ],
)
def test_level_and_factor(levels, mpp, expected):
    level, factor = choose_level(levels, mpp)
    assert (level, factor) == (expected[0], pytest.approx(expected[1]))


def test_tolerances_are_settings():
    assert choose_level([0.46], 0.5)[1] == pytest.approx(0.5 / 0.46)
    assert choose_level([0.46], 0.5, tolerance=0.1) == (0, 1.0)
    with pytest.raises(UnusableResolutionError, match="has 0.6 µm per px at best"):
        choose_level([0.6], 0.5)
    assert choose_level([0.6], 0.5, max_upsampling=0.2)[1] == pytest.approx(0.5 / 0.6)
