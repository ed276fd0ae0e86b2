import numpy as np
import pytest

from rnagan.slides.resolution import MissingResolutionError, UnusableResolutionError
from rnagan.slides.slide import DamagedSlideError, Slide


def test_pixels_are_the_slides_own_and_x_is_not_y(make_slide):
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide("a.svs", image)) as slide:
        assert (slide.width_px, slide.height_px, slide.vendor) == (900, 600, "aperio")
        assert slide.mpp == pytest.approx(0.5)
        tile = slide.read(400, 128, 128, 0.5)
    assert np.abs(tile.astype(int) - image[128:256, 400:528]).mean() < 2
    assert np.abs(tile.astype(int) - image[400:528, 128:256]).mean() > 10  # a swap would be seen


@pytest.mark.parametrize(("mpp", "factor"), [(1.0, 2), (1.5, 3), (2.0, 4)])
def test_reduction_by_a_whole_factor_is_the_mean_over_areas(make_slide, mpp, factor):
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide("a.svs", image)) as slide:
        tile = slide.read(240, 120, 64, mpp)
    area = image[120 : 120 + 64 * factor, 240 : 240 + 64 * factor].reshape(64, factor, 64, factor, 3).mean((1, 3))
    assert np.abs(tile - area).mean() < 2


def test_reduction_averages_fine_texture_away(make_slide):
    rows, columns = np.mgrid[:600, :900]
    checks = np.where((rows + columns) % 2, 255, 0).astype(np.uint8)
    with Slide(make_slide("a.svs", np.stack([checks] * 3, axis=2))) as slide:
        tile = slide.read(40, 80, 64, 2.0)
    assert np.abs(tile.astype(int) - 127).max() < 12  # picking pixels would give 0 or 255


def test_reduction_by_a_fraction_keeps_place_and_scale(make_slide):
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide("a.svs", image)) as slide:
        assert slide.footprint_px(0.65) == pytest.approx(1.3)
        tile = slide.read(100, 200, 200, 0.65)
    centres = (np.arange(200) + 0.5) * 1.3
    expected = image[np.ix_((200 + centres).astype(int), (100 + centres).astype(int))]
    assert np.abs(tile.astype(int) - expected).mean() < 3


def test_outside_of_the_slide_is_white(make_slide):
    with Slide(make_slide("a.svs", make_slide.smooth_image(600, 900))) as slide:
        tile = slide.read(836, 536, 128, 0.5)
    assert (tile[70:, 70:] == 255).all()
    assert tile[:60, :60].max() < 255


def test_thumbnail_covers_the_slide(make_slide):
    image = make_slide.smooth_image(600, 900)
    image[:300, :450] = (200, 0, 200)
    with Slide(make_slide("a.svs", image)) as slide:
        thumbnail, pixel_px, unreadable = slide.thumbnail(8.0)
    assert not unreadable.any()
    assert (thumbnail.shape, pixel_px) == ((38, 57, 3), 16)
    assert np.abs(thumbnail[5, 5].astype(int) - (200, 0, 200)).max() < 5
    assert (thumbnail[-1, :] > 100).any()


def test_thumbnail_read_in_pieces_is_the_same(make_slide, monkeypatch):
    with Slide(make_slide("a.svs", make_slide.smooth_image(600, 900))) as slide:
        whole = slide.thumbnail(4.0).pixels
        monkeypatch.setattr("rnagan.slides.slide._READ_PX", 64)
        pieces = slide.thumbnail(4.0).pixels
    assert np.abs(whole.astype(int) - pieces).max() <= 1


def test_upsampling_is_refused(make_slide):
    with (
        Slide(make_slide("a.svs")) as slide,
        pytest.raises(ValueError, match=r"a\.svs has 0\.5 µm per px at best, coarser than the 0\.25"),
    ):
        slide.read(0, 0, 64, 0.25)


def test_files_that_are_no_slide(make_slide, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.svs does not exist"):
        Slide(tmp_path / "none.svs")
    (tmp_path / "text.svs").write_text("not a slide")
    with pytest.raises(ValueError, match="text.svs is no slide that OpenSlide can read"):
        Slide(tmp_path / "text.svs")
    whole = make_slide("a.svs").read_bytes()
    (tmp_path / "cut.svs").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ValueError, match="cut.svs is no slide that OpenSlide can read, or is truncated"):
        Slide(tmp_path / "cut.svs")


def test_missing_resolution(make_slide):
    path = make_slide("a.svs", mpp=None)
    with pytest.raises(MissingResolutionError, match="does not say its resolution; give it with --missing-mpp"):
        Slide(path)
    with Slide(path, fallback_mpp=0.4) as slide:
        assert slide.mpp == 0.4


def test_a_resolution_that_is_given_wins(make_slide):
    with Slide(make_slide("a.svs"), given_mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "cohort") and slide.footprint_px(0.5) == 2
    with Slide(make_slide("b.svs", mpp=None, power=40)) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "objective")


def test_pixels_that_are_not_square_are_refused(make_slide):
    path = make_slide("a.tif", resolution=(20000, 10000), resolutionunit="CENTIMETER", mpp=None)
    with pytest.raises(UnusableResolutionError, match=r"a\.tif has pixels of 0\.5 × 1 µm; only square ones"):
        Slide(path)


def test_upsampling_up_to_the_limit(make_slide):
    path = make_slide("a.svs", mpp=0.6)
    with Slide(path) as slide, pytest.raises(UnusableResolutionError, match="coarser than the 0.5"):
        slide.plan(0.5)
    with Slide(path, max_upsampling=0.25) as slide:
        assert slide.plan(0.5) == (0, pytest.approx(0.5 / 0.6)) and slide.read(0, 0, 64, 0.5).shape == (64, 64, 3)


def test_a_jpeg_2000_slide_is_read_by_openslide(make_slide):
    image = make_slide.smooth_image(600, 900)
    with Slide(make_slide("a.svs", image, compression=33005)) as slide:
        assert slide.decoder(0.5) == "openslide"
        tile = slide.read(400, 128, 128, 0.5)
    assert np.abs(tile.astype(int) - image[128:256, 400:528]).max() <= 1


def test_a_damaged_tile_is_named_and_an_undamaged_one_read(make_slide):
    path = make_slide("a.svs", make_slide.smooth_image(600, 900))
    with Slide(path) as slide:
        level = slide._native.get(900, 600)
        offset, size = level._offsets[5], level._sizes[5]  # row 1, column 1 of 3 × 4
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    with Slide(path) as slide:
        assert slide.read(600, 0, 128, 0.5).shape == (128, 128, 3)
        with pytest.raises(DamagedSlideError, match=r"a\.svs is damaged at x 256, y 256"):
            slide.read(256, 256, 128, 0.5)
