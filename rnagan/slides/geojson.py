"""Outlines of tissue in GeoJSON, as QuPath and TRIDENT export them, and their pixels."""

import dataclasses
import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rnagan.io.bounds import MAX_JSON_BYTES  # as Python's lists it takes eight times as much
from rnagan.io.tables import first_few

_MOST_CROSSINGS = 10_000_000  # of edges and rows of pixels
_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection")
_NO_GEOMETRY = "without geometry"
NO_CLASS = "no class"
_NAMED = 5  # classes in a sentence

Ring = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Outlines:
    """`polygons`: the rings of each, (n, 2) float64 level-0 pixels, x then y; outside of its holes and of what a ring
    encloses twice is inside (even-odd rule). `left_out`: how many there are of other geometries, by type.
    """

    polygons: list[list[Ring]]
    left_out: Counter[str]

    def moved(self, x: float, y: float) -> "Outlines":
        """The same, further right and down."""
        return Outlines([[ring + np.array([x, y]) for ring in rings] for rings in self.polygons], self.left_out)

    def box(self) -> tuple[float, float, float, float]:
        """Smallest x and y and largest x and y of all points."""
        points = np.concatenate([ring for rings in self.polygons for ring in rings])
        return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())

    def pixels(self, shape: tuple[int, int], pixel_px: float) -> NDArray[np.bool_]:
        """(rows, columns) bool: whether the centre of each pixel, `pixel_px` wide, lies in any of the polygons.

        Each row is filled between its crossings with the edges. scikit-image's `polygon2mask` gives the same and asks
        every pixel about every edge, which takes minutes for outlines of 10,000 points. `ValueError` (the end of a
        sentence about the file) where there are too many crossings.
        """
        rows, columns = shape
        starts, ends, owners = [], [], []
        for number, rings in enumerate(self.polygons):
            for ring in rings:
                starts.append(ring)
                ends.append(np.roll(ring, -1, axis=0))  # an open ring is closed by this
                owners.append(np.full(len(ring), number))
        (x, y), (x_end, y_end) = (np.concatenate(points).T / pixel_px - 0.5 for points in (starts, ends))
        # The rows from `first` to before `last` have their centres between the ends of an edge. Each corner is on the
        # same side of a row for both of its edges, so that every row crosses a ring an even number of times.
        row, row_end = (np.clip(np.ceil(side), 0, rows).astype(np.int64) for side in (y, y_end))
        first, counts = np.minimum(row, row_end), np.abs(row_end - row)
        total = int(counts.sum())
        if total > _MOST_CROSSINGS:
            raise ValueError("has outlines too intricate for a mask; simplify them, or give the mask as PNG.")
        edge = np.repeat(np.arange(len(counts)), counts)
        at = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
        slope = (x_end - x)[edge] / (y_end - y)[edge]
        column = np.clip(np.ceil(x[edge] + (at - y[edge]) * slope), 0, columns).astype(np.int64)
        crossings = (np.concatenate(owners)[edge] * rows + at) * (columns + 1) + column
        crossings.sort()
        crossings %= rows * (columns + 1)
        change = np.zeros(rows * (columns + 1), np.int32)
        np.add.at(change, crossings[::2], 1)
        np.add.at(change, crossings[1::2], -1)
        depth = change.reshape(rows, columns + 1)
        return np.cumsum(depth, axis=1, out=depth)[:, :columns] > 0


def read_outlines(path: Path, classes: Collection[str] = ()) -> Outlines:
    """The polygons of a FeatureCollection, a list of features, a feature or a geometry.

    `classes`: those of QuPath that are tissue; without any, all polygons must be of one class or have none.
    `ValueError` (the end of a sentence about the file) where it is no such file, holds no polygon, or a number that
    isn't finite.
    """
    document = _read(path)
    left_out: Counter[str] = Counter()
    by_class: dict[str, list[list[Ring]]] = {}
    for name, geometry in _geometries(document):
        kind = geometry["type"] if geometry else _NO_GEOMETRY
        if geometry is None or kind not in ("Polygon", "MultiPolygon"):
            left_out[kind] += 1
            continue
        coordinates = geometry.get("coordinates")
        polygons = [coordinates] if kind == "Polygon" else coordinates
        if not isinstance(polygons, list):
            raise ValueError(f"has a {kind} whose coordinates aren't a list.")
        for polygon in polygons:
            if rings := _rings(polygon, kind):
                by_class.setdefault(name, []).append(rings)
    if not by_class:
        others = f", but {_counted(left_out)}" if left_out else ""
        raise ValueError(f"holds no polygon{others}; a slide without tissue is left out by --cohort.")
    found = first_few(sorted(by_class), _NAMED)
    if not classes and len(by_class) > 1:
        raise ValueError(
            f"has polygons of several classes ({found}); say which are tissue with --mask-class, or export those alone."
        )
    wanted = classes or by_class.keys()
    chosen = [rings for name, polygons in by_class.items() if name in wanted for rings in polygons]
    if not chosen:
        raise ValueError(f"has no polygon of class {first_few(sorted(classes), _NAMED)} (it has {found}).")
    return Outlines(chosen, left_out)


def _read(path: Path) -> Any:
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise ValueError(
            f"has {size / 2**20:,.0f} MiB, more than the {MAX_JSON_BYTES // 2**20} of an outline of tissue; "
            "simplify the outlines, or give the mask as PNG."
        )
    try:
        # Whole numbers become floats too: those of thousands of digits are infinite then
        return json.loads(path.read_bytes().decode("utf-8-sig"), parse_int=float, parse_constant=_refuse_constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"is no JSON in UTF-8 ({error}).") from None
    except RecursionError:
        raise ValueError("is nested too deeply for GeoJSON.") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"has a number that is {name}; coordinates must be finite.")


def _geometries(document: Any) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Class and geometry of everything in a document, in its order; None where a feature has no geometry."""
    waiting = [(NO_CLASS, item) for item in reversed(document if isinstance(document, list) else [document])]
    while waiting:
        name, item = waiting.pop()
        kind = item.get("type") if isinstance(item, dict) else None
        match kind:
            case "FeatureCollection" | "GeometryCollection":
                members = item.get("features" if kind == "FeatureCollection" else "geometries")
                if not isinstance(members, list):
                    raise ValueError(f"has a {kind} without a list of its members.")
                waiting += [(name, member) for member in reversed(members)]
            case "Feature":
                geometry = item.get("geometry")
                if geometry is None:
                    yield _class_of(item), None
                else:
                    waiting.append((_class_of(item), geometry))
            case str() if kind in _GEOMETRIES:
                yield name, item
            case _:
                said = f"type {kind!r:.40}" if isinstance(item, dict) else f"kind {type(item).__name__}"
                raise ValueError(f"is no GeoJSON: it has an object of {said} where a feature or a geometry must be.")


def _class_of(feature: dict[str, Any]) -> str:
    """QuPath's class of a feature: `classification` holds it as a text, as `name`, or in parts as `names`."""
    properties = feature.get("properties")
    given = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(given, dict):
        names = given.get("names")
        given = given.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else None)
    return str(given) if given else NO_CLASS


def _rings(polygon: Any, kind: str) -> list[Ring]:
    """The rings of a polygon that have points."""
    if not isinstance(polygon, list):
        raise ValueError(f"has a {kind} that is no list of rings.")
    rings = []
    for positions in polygon:
        if positions == []:
            continue
        try:
            ring = np.array(positions)
        except ValueError:  # lists of different lengths
            ring = np.array("ragged")
        if ring.dtype != np.float64 or ring.ndim != 2 or ring.shape[1] not in (2, 3):
            raise ValueError(f"has a {kind} with a ring that is no list of [x, y].")
        if not np.isfinite(ring).all():
            raise ValueError(f"has a {kind} with a number that isn't finite.")
        if len(ring) < 3:
            raise ValueError(f"has a {kind} with a ring of {len(ring)} points; it takes 3 to enclose anything.")
        rings.append(ring[:, :2])
    return rings


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
