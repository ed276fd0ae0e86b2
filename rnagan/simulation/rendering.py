"""Renders H&E tissue as the programmes say: pure functions from numbers and a generator to RGB arrays.

Colour is built in optical density. Matrix M and haematoxylin H absorb
    red: matrix_colour · M + 0.93 · H,  green: M + H,  blue: site_stain · (M + H)
so a programme moves red against green in the matrix, and the site moves blue against green in everything.
"""

import dataclasses
import functools

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from rnagan.simulation.tissues import Tissue

SLIDE_MPP = 0.5  # 20×
GLASS = 244  # grey level of empty glass
HAEMATOXYLIN_RED = 0.93  # red over green optical density of haematoxylin (Ruifrok & Johnston 2001: 0.65 / 0.70)
ALVEOLUS_UM = 30  # pitch of alveoli; far below nature's, so that a small tile holds some
DROPLET_UM = 13  # pitch of places for a fat droplet
FIBRE_UM = 9  # width of a muscle fibre; likewise far below nature's
COARSE_PX = 6  # shapes of tissue are drawn on every 6th pixel and interpolated

Field = NDArray[np.floating]  # float32 mostly
Points = NDArray[np.float64]  # (n, 2): y, x in px


@dataclasses.dataclass(frozen=True)
class Morphology:
    """What is rendered: nuclei per mm², nuclear radius in µm, the colours of matrix and site, and air or NaN.

    All but the site's may vary over a slide: then they are float32 (rows, columns) of its pixels.
    """

    nuclear_density: float | Field
    nuclear_radius_um: float | Field
    matrix_colour: float | Field
    site_stain: float
    air_fraction: float | Field


@dataclasses.dataclass(frozen=True)
class Layout:
    """Tissue of whole tiles in a frame of glass one tile wide; all in pixels of the slide."""

    tile: int
    across: int
    down: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the slide."""
        return (self.down + 2) * self.tile, (self.across + 2) * self.tile

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the whole tiles of tissue."""
        return slice(self.tile, -self.tile), slice(self.tile, -self.tile)


def render_slide(
    tissue: Tissue, morphology: Morphology, layout: Layout, random: np.random.Generator
) -> NDArray[np.uint8]:
    """A slide at 0.5 µm per px, uint8 RGB of `layout.shape`: whole tiles of tissue, ragged beyond them, then glass.

    Nuclei and air meet their expected values over the whole tiles.
    """
    cover = _tissue_cover(layout, random)
    air_depth = {"alveoli": _alveolar_depth, "droplets": _droplet_depth}[tissue.air_shape]
    depth = None if np.isnan(morphology.air_fraction).any() else air_depth(layout, morphology.air_fraction, random)
    air = np.float32(0) if depth is None else np.clip(depth / (2 * SLIDE_MPP) + 0.5, 0, 1)
    along = random.uniform(0, np.pi) if tissue.fibres else None
    nuclei = _nuclei(tissue, morphology, cover, depth, along, random)
    grain = _noise(layout.shape, tissue.grain_um / SLIDE_MPP, random)
    drift = _coarse_noise(layout.shape, 6 / SLIDE_MPP, random)
    if along is not None:
        drift = _fibres(layout.shape, along, random)
    matrix = tissue.matrix_density * np.clip(1 + tissue.grain_contrast * grain + 0.12 * drift, 0.6, 1.5)
    matrix *= (1 - air) * cover * (1 - 0.9 * np.clip(nuclei * 1.6, 0, 1))
    haematoxylin = nuclei * cover * (1 + 0.08 * grain)
    return _develop(matrix, haematoxylin, morphology, random)


def _develop(
    matrix: Field, haematoxylin: Field, morphology: Morphology, random: np.random.Generator
) -> NDArray[np.uint8]:
    """The stained section as a camera with a little noise sees it."""
    green = matrix + haematoxylin
    red = morphology.matrix_colour * matrix + HAEMATOXYLIN_RED * haematoxylin
    light = np.stack([-red, -green, -(morphology.site_stain * green)], axis=2)
    noise = random.standard_normal(green.shape, np.float32)[..., None]
    np.exp(light, out=light)  # in place: memory that is asked for anew costs more than the sums
    light *= GLASS
    light += 1.2 * noise
    light += 0.5
    return light.clip(0, 255, out=light).astype(np.uint8)


def _tissue_cover(layout: Layout, random: np.random.Generator) -> Field:
    """1 on tissue, 0 on glass: the whole tiles and a ragged seam of up to a third of a tile around them."""
    seam = layout.tile * np.clip(0.17 + 0.07 * _coarse_noise(layout.shape, 0.15 * layout.tile, random), 0.04, 0.33)
    return np.clip((seam - _outside(layout)) / 3, 0, 1)


@functools.lru_cache(maxsize=1)
def _outside(layout: Layout) -> Field:
    """Distance of each pixel from the whole tiles, px; 0 within them. Slides of a cohort share it."""
    rows, columns = layout.shape
    y, x = np.ogrid[:rows, :columns]
    across = np.maximum(layout.tile - x, x - (columns - layout.tile))
    down = np.maximum(layout.tile - y, y - (rows - layout.tile))
    return np.hypot(np.maximum(across, 0), np.maximum(down, 0)).astype(np.float32)


def _alveolar_depth(layout: Layout, fraction: float | Field, random: np.random.Generator) -> Field:
    """Alveoli: µm, positive in air and highest in mid-alveolus, negative in septa, roughly twice the distance.

    Distance to the second nearest minus distance to the nearest of scattered centres (Worley 1996, F2 − F1), lowered
    so that `fraction` of the whole tiles is air.
    """
    centres = _scattered(layout.shape, ALVEOLUS_UM / SLIDE_MPP, 0.42, random)
    rows, columns = (-(-n // COARSE_PX) for n in layout.shape)
    y, x = np.mgrid[:rows, :columns] * COARSE_PX
    warp = _coarse_noise((2 * rows, columns), 3, random).reshape(2, rows, columns) * 4
    near = cKDTree(centres).query(np.stack([y + warp[0], x + warp[1]], axis=-1), k=2)[0]
    depth = _enlarge(((near[..., 1] - near[..., 0]) * SLIDE_MPP).astype(np.float32), layout.shape)
    return _lowered(depth, depth[layout.inside][::2, ::2], fraction)


def _lowered(depth: Field, inside: Field, fraction: float | Field) -> Field:
    """Depths lowered so that `fraction` of them `inside` is above 0; where it varies, by what each place wants."""
    if np.ndim(fraction) == 0:
        return depth - np.quantile(inside, 1 - fraction)
    shares = np.linspace(0, 1, 101)
    return depth - np.interp(1 - np.asarray(fraction), shares, np.quantile(inside, shares)).astype(np.float32)


def _droplet_depth(layout: Layout, fraction: float | Field, random: np.random.Generator) -> Field:
    """Fat droplets: µm, the distance to the rim of the next round droplet, positive within it.

    All are made larger or smaller by the same length, so that `fraction` of the whole tiles is fat; the smallest go.
    """
    centres = _scattered(layout.shape, DROPLET_UM / SLIDE_MPP, 0.42, random)
    radius = random.uniform(0, 4.5, len(centres)) / SLIDE_MPP
    y, x = 2.0 * np.mgrid[: layout.shape[0] // 2, : layout.shape[1] // 2] + 0.5  # middles of squares of 2 px
    distance, nearest = cKDTree(centres).query(np.stack([y, x], axis=-1), k=3)
    depth = _enlarge(((radius[nearest] - distance).max(axis=-1) * SLIDE_MPP).astype(np.float32), layout.shape)
    return _lowered(depth, depth[layout.inside][::2, ::2], fraction)


def _fibres(shape: tuple[int, int], along: float, random: np.random.Generator) -> Field:
    """Muscle fibres along an angle (0: x): fine streaks of SD about 1 in each, and pale seams between them."""
    side = int(np.hypot(*shape)) + 8
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = y - shape[0] / 2, x - shape[1] / 2
    u, v = x * np.cos(along) + y * np.sin(along), y * np.cos(along) - x * np.sin(along)
    v += _enlarge(_noise((24, 24), 2, random), shape) * 3 / SLIDE_MPP  # fibres wave
    streaks = random.standard_normal((side, side // 16), np.float32)
    streaks = gaussian_filter(streaks, (1.2, 1.5), mode="wrap")
    streaks = map_coordinates(streaks / streaks.std(), [v + side / 2, (u + side / 2) / 16], order=1, mode="wrap")
    fibre = FIBRE_UM / SLIDE_MPP
    seams = np.arange(-side, side, fibre)
    seams += random.uniform(-0.25, 0.25, len(seams)) * fibre
    behind = np.searchsorted(seams, v)
    to_seam = np.minimum(v - seams[behind - 1], seams[behind] - v)
    return (streaks - 3 * np.exp(-((to_seam / 1.5) ** 2))).astype(np.float32)


def _scattered(shape: tuple[int, int], pitch: float, jitter: float, random: np.random.Generator) -> Points:
    """Points, one in each cell of a hexagonal lattice: 1 / pitch² to the px², evenly."""
    row_pitch, column_pitch = pitch * 3**0.25 / 2**0.5, pitch * 2**0.5 / 3**0.25
    rows, columns = int(shape[0] / row_pitch) + 4, int(shape[1] / column_pitch) + 3
    y, x = np.mgrid[:rows, :columns].astype(float)
    x += 0.5 * (y % 2)
    points = np.stack([(y - 1) * row_pitch, (x - 1) * column_pitch], axis=-1).reshape(-1, 2)
    points += random.uniform(-1, 0, 2) * (2 * row_pitch, column_pitch)  # the lattice repeats every second row
    return points + pitch * jitter * random.uniform(-1, 1, points.shape)


def _nuclei(
    tissue: Tissue,
    morphology: Morphology,
    cover: Field,
    depth: Field | None,
    along: float | None,
    random: np.random.Generator,
) -> Field:
    """Haematoxylin in optical density: nuclei on tissue, out of the air (and along its septa) where there is any, and
    along the fibres where there are some."""
    densest = float(np.max(morphology.nuclear_density))
    pitch = (1e6 / densest) ** 0.5 / SLIDE_MPP
    if along is None:
        centres = _scattered(cover.shape, pitch, tissue.disorder, random)
    else:
        centres = _scattered_along(cover.shape, pitch, tissue.disorder, along, tissue.elongation**0.5, random)
    centres = centres[_at(cover, centres) > 0.5]
    if np.ndim(morphology.nuclear_density):  # of the densest lattice, some are left out where there are fewer
        share = _at(np.asarray(morphology.nuclear_density), centres) / densest
        centres = centres[random.random(len(centres)) < share]
    if along is None:
        margin_um = 1.0 if tissue.air_shape == "alveoli" else 0.7 * morphology.nuclear_radius_um
        septa = np.ones(cover.shape, np.bool_) if depth is None else depth < -margin_um
        centres = _move_into(centres, septa, 2.3 * float(np.max(morphology.nuclear_radius_um)) / SLIDE_MPP, random)
    radius = morphology.nuclear_radius_um
    radius = (_at(np.asarray(radius), centres) if np.ndim(radius) else radius) / SLIDE_MPP
    count = len(centres)
    angle = random.uniform(0, np.pi, count)
    if depth is not None:
        down, across = (np.gradient(depth, axis=axis) for axis in (0, 1))
        angle = np.arctan2(_at(across, centres), -_at(down, centres)) + random.normal(0, 0.3, count)
    is_neuron = random.random(count) < tissue.neurons
    if along is not None:
        angle = along + random.normal(0, 0.08, count)
    shortest = 1 if along is None else 0.6 * tissue.elongation
    stretch = np.sqrt(random.uniform(shortest, np.where(is_neuron, 1.15, tissue.elongation)))
    size = radius * np.where(is_neuron, 1.3, 0.95) * np.exp(random.normal(0, 0.08, count))
    darkness = np.where(is_neuron, 0.72, random.uniform(0.95, 1.25, count))
    return _stamp(cover.shape, centres, size, stretch, angle, darkness, is_neuron, random)


def _scattered_along(
    shape: tuple[int, int], pitch: float, jitter: float, along: float, stretch: float, random: np.random.Generator
) -> Points:
    """`_scattered` points, farther apart by `stretch` along an angle (0: x) and nearer across it."""
    side = int(np.hypot(*shape)) + 2 * int(pitch)
    lattice = _scattered((int(side * stretch), int(side / stretch)), pitch, jitter, random)
    v, u = (lattice - np.array([side * stretch, side / stretch]) / 2).T * np.array([[1 / stretch], [stretch]])
    points = np.stack([u * np.sin(along) + v * np.cos(along), u * np.cos(along) - v * np.sin(along)], axis=1)
    points += np.array(shape) / 2
    return points[((points >= 0) & (points < shape)).all(axis=1)]


def _move_into(points: Points, allowed: NDArray[np.bool_], spacing: float, random: np.random.Generator) -> Points:
    """Points outside of `allowed` go to its nearest pixel; those that crowd there push each other along."""
    if allowed.all():  # each pixel is its own nearest
        nearest = np.indices(allowed.shape)
    else:
        nearest = distance_transform_edt(~allowed, return_distances=False, return_indices=True)
    for _ in range(6):
        cell = _index(allowed.shape, points)
        target = np.stack([nearest[0][cell], nearest[1][cell]], axis=1)
        points = np.where(allowed[cell][:, None], points, target + random.uniform(0, 2, points.shape))
        pairs = cKDTree(points).query_pairs(spacing, output_type="ndarray")
        apart = points[pairs[:, 0]] - points[pairs[:, 1]]
        distance = np.linalg.norm(apart, axis=1, keepdims=True) + 1e-6
        push = apart / distance * (spacing - distance) / 2
        np.add.at(points, pairs[:, 0], push)
        np.add.at(points, pairs[:, 1], -push)
    return points


def _stamp(
    shape: tuple[int, int],
    centres: Points,
    size: NDArray,
    stretch: NDArray,
    angle: NDArray,
    darkness: NDArray,
    is_neuron: NDArray[np.bool_],
    random: np.random.Generator,
) -> Field:
    """Draw ellipses with soft rims, each with its chromatin; the darkest wins where they overlap. Sizes in px."""
    reach = int(np.ceil((size * stretch).max(initial=0))) + 2
    offset = np.arange(-reach, reach + 1)
    corner = np.rint(centres).astype(int)
    y, x = np.broadcast_arrays(corner[:, 0, None, None] + offset[:, None], corner[:, 1, None, None] + offset)
    size, stretch, angle, darkness, is_neuron = (
        values[:, None, None] for values in (size, stretch, angle, darkness, is_neuron)
    )
    dy, dx = y - centres[:, 0, None, None], x - centres[:, 1, None, None]
    u = (dx * np.cos(angle) + dy * np.sin(angle)) / (size * stretch)
    v = (dy * np.cos(angle) - dx * np.sin(angle)) / (size / stretch)
    radial = np.hypot(u, v)
    inside = np.clip((1 - radial) * size / 1.5 + 0.5, 0, 1)
    rim = np.clip((radial - 0.6) / 0.25, 0, 1)
    spot = random.uniform(-0.3, 0.3, (2, len(centres), 1, 1))
    nucleolus = np.exp(-((u - spot[0]) ** 2 + (v - spot[1]) ** 2) / 0.06)
    chromatin = np.where(is_neuron, 0.8 + 0.3 * rim + 0.6 * nucleolus, 0.9 + 0.12 * rim + 0.12 * nucleolus)
    ink = (inside * chromatin * darkness).astype(np.float32)
    visible = (ink > 0) & (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    canvas = np.zeros(shape, np.float32)
    np.maximum.at(canvas, (y[visible], x[visible]), ink[visible])
    return canvas


def _noise(shape: tuple[int, int], sigma_px: float, random: np.random.Generator) -> Field:
    """Gaussian noise smoothed to grains of `sigma_px`, of SD about 1."""
    noise = gaussian_filter(random.standard_normal(shape, np.float32), sigma_px, mode="wrap", truncate=2.5)
    return noise * np.float32(2 * np.pi**0.5 * sigma_px)


def _coarse_noise(shape: tuple[int, int], sigma_px: float, random: np.random.Generator) -> Field:
    """`_noise` of large grains, drawn on a coarse grid and interpolated."""
    step = max(1, int(sigma_px / 1.5))
    return _enlarge(_noise((shape[0] // step + 3, shape[1] // step + 3), sigma_px / step, random), shape)


def _enlarge(field: Field, shape: tuple[int, int]) -> Field:
    return np.asarray(Image.fromarray(field).resize(shape[::-1], Image.Resampling.BICUBIC))


def _index(shape: tuple[int, ...], points: Points) -> tuple[NDArray, NDArray]:
    y, x = np.rint(points).astype(int).T
    return np.clip(y, 0, shape[0] - 1), np.clip(x, 0, shape[1] - 1)


def _at(field: Field, points: Points) -> Field:
    return field[_index(field.shape, points)]
