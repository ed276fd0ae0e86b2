"""A simulated slide is what OpenSlide takes for one of Aperio's, the right way round."""

from pathlib import Path

import numpy as np
import openslide
import pytest

from rnagan.simulation.svs import write_svs

HEIGHT, WIDTH = 384, 640


@pytest.fixture
def image() -> np.ndarray:
    """Red grows with x and green with y: no flip or turn of it is the same."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([60 + 150 * x / WIDTH, 60 + 150 * y / HEIGHT, np.full(x.shape, 120.0)], axis=2).astype(np.uint8)


def test_openslide_reads_it_as_aperio_with_the_pixels_in_place(tmp_path: Path, image: np.ndarray) -> None:
    write_svs(tmp_path / "a.svs", image, 0.5)
    with openslide.OpenSlide(tmp_path / "a.svs") as slide:
        assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == "aperio"
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == 0.5
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == 0.5
        assert slide.dimensions == (WIDTH, HEIGHT)
        assert slide.level_dimensions == ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2))
        assert slide.level_downsamples == (1.0, 2.0)
        whole = np.asarray(slide.read_region((0, 0), 0, (WIDTH, HEIGHT)))[..., :3].astype(int)
        half = np.asarray(slide.read_region((0, 0), 1, (WIDTH // 2, HEIGHT // 2)))[..., :3].astype(int)
    assert np.abs(whole - image).mean() < 1 and np.abs(half - image[::2, ::2]).mean() < 1
    assert min(np.abs(wrong - image).mean() for wrong in (whole[:, ::-1], whole[::-1], whole[..., [1, 0, 2]])) > 10


def test_equal_pixels_give_equal_bytes(tmp_path: Path, image: np.ndarray) -> None:
    for name in ("a.svs", "b.svs"):
        write_svs(tmp_path / name, image, 0.5)
    assert (tmp_path / "a.svs").read_bytes() == (tmp_path / "b.svs").read_bytes()
