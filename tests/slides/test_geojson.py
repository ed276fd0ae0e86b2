"""Outlines of tissue as QuPath, TRIDENT and others export them: what is read, and which pixels lie inside."""

import json
import time

import numpy as np
import pytest
from skimage.draw import polygon2mask

from rnagan.slides.geojson import Outlines, read_outlines

SQUARE = [[10, 20], [60, 20], [60, 90], [10, 90], [10, 20]]
HOLE = [[30, 40], [50, 40], [50, 60], [30, 60], [30, 40]]
POLYGON = {"type": "Polygon", "coordinates": [SQUARE, HOLE]}
TWO = {"type": "MultiPolygon", "coordinates": [[SQUARE, HOLE], [[[70, 20], [90, 20], [90, 30], [70, 20]]]]}
POINT = {"type": "Point", "coordinates": [1, 2]}
LINE = {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}


def feature(geometry, **properties):
    return {"type": "Feature", "id": "6f2c", "geometry": geometry, "properties": properties}


def of_class(name, geometry=POLYGON):
    return feature(geometry, objectType="annotation", classification={"name": name, "color": [200, 0, 0]})


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


def written(tmp_path, document):
    text = document if isinstance(document, str | bytes) else json.dumps(document)
    path = tmp_path / "a.geojson"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def rings_of(outlines):
    return [[ring.tolist() for ring in rings] for rings in outlines.polygons]


@pytest.mark.parametrize(
    "document",
    [
        collection(feature(POLYGON, objectType="annotation", isLocked=True)),
        [feature(POLYGON)],
        feature(POLYGON),
        POLYGON,
        {**collection(feature(POLYGON, tissue_id=0)), "crs": {"type": "name", "properties": {"name": "EPSG:3857"}}},
        feature({"type": "GeometryCollection", "geometries": [POLYGON]}),
        collection(feature({**POLYGON, "plane": {"c": -1, "z": 0, "t": 0}})),
        b"\xef\xbb\xbf" + json.dumps(POLYGON).encode(),
        POLYGON | {"coordinates": [[[*point, 0.5] for point in ring] for ring in POLYGON["coordinates"]]},
        POLYGON | {"coordinates": [SQUARE, HOLE, []]},
        collection(feature({"type": "Polygon", "coordinates": []}), of_class("Tissue")),
    ],
    ids=["collection", "list", "feature", "geometry", "TRIDENT", "collected", "plane", "BOM", "height", "empty ring",
         "empty polygon"],
)  # fmt: skip
def test_polygons_are_read_in_every_wrapping(tmp_path, document):
    outlines = read_outlines(written(tmp_path, document))
    assert rings_of(outlines) == [[SQUARE, HOLE]] and not outlines.left_out
    assert outlines.box() == (10, 20, 60, 90)


def test_other_geometries_are_left_out_and_counted(tmp_path):
    mixed = {"type": "GeometryCollection", "geometries": [TWO, LINE]}
    outlines = read_outlines(
        written(tmp_path, collection(feature(POINT), feature(mixed), feature(None), feature(POINT)))
    )
    assert [len(rings) for rings in outlines.polygons] == [2, 1]
    assert outlines.left_out == {"Point": 2, "LineString": 1, "without geometry": 1}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (collection(), "holds no polygon; a slide without tissue"),
        ([], "holds no polygon"),
        (collection(feature(POINT), feature(LINE)), "holds no polygon, but 1 LineString, 1 Point"),
        ("", "is no JSON in UTF-8"),
        ('{"type": "Polygon"', "is no JSON in UTF-8"),
        (json.dumps(POLYGON).encode("utf-16"), "is no JSON in UTF-8"),
        (b"\x89PNG\r\n\x1a\n", "is no JSON in UTF-8"),
        ("7", "is no GeoJSON: it has an object of kind float"),
        ({"type": "Topology", "objects": {}}, "is no GeoJSON: it has an object of type 'Topology'"),
        ({"annotations": []}, "is no GeoJSON: it has an object of type None"),
        (collection(["Feature"]), "is no GeoJSON: it has an object of kind list"),
        ({"type": ["Polygon"]}, "is no GeoJSON: it has an object of type"),
        ({"type": "FeatureCollection", "features": {}}, "has a FeatureCollection without a list"),
        ({"type": "Polygon"}, "has a Polygon that is no list of rings"),
        ({"type": "MultiPolygon", "coordinates": 5}, "has a MultiPolygon whose coordinates aren't a list"),
        ({"type": "Polygon", "coordinates": SQUARE}, r"has a Polygon with a ring that is no list of \[x, y\]"),
        ({"type": "Polygon", "coordinates": [[*SQUARE, [1]]]}, "with a ring that is no list of"),
        ({"type": "Polygon", "coordinates": [[["10", "20"]] * 4]}, "with a ring that is no list of"),
        ({"type": "Polygon", "coordinates": [[[None, 20]] * 4]}, "with a ring that is no list of"),
        ({"type": "Polygon", "coordinates": [[[1, 2, 3, 4]] * 4]}, "with a ring that is no list of"),
        ({"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]}, "with a ring of 2 points"),
        ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 5]]]}', "has a number that is NaN"),
        ('{"type": "Polygon", "coordinates": [[[1, -Infinity], [2, 3], [4, 5]]]}', "has a number that is -Infinity"),
        ('{"type": "Polygon", "coordinates": [[[1e999, 1], [2, 3], [4, 5]]]}', "with a number that isn't finite"),
        ('{"type": "Polygon", "coordinates": [[[%s, 1], [2, 3], [4, 5]]]}' % ("9" * 5000), "that isn't finite"),
        ("[" * 100_000 + "]" * 100_000, "is nested too deeply"),
        ('{"type": "Polygon", "coordinates": ' + "[" * 500 + "]" * 500 + "}", "with a ring that is no list of"),
        (collection(of_class("Tumor"), of_class("Artefact")), r"several classes \(Artefact, Tumor\); say which"),
        (collection(of_class("Tumor"), feature(POLYGON)), r"several classes \(Tumor, no class\)"),
    ],
)  # fmt: skip
def test_what_is_no_outline_is_refused_in_a_sentence(tmp_path, document, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_outlines(written(tmp_path, document))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.geojson"
    with open(path, "wb") as file:
        file.truncate(2 * 2**30)
    with pytest.raises(ValueError, match="has 2,048 MiB, more than the 64 of an outline"):
        read_outlines(path)


def test_classes_choose_what_is_tissue(tmp_path):
    in_parts = feature(POLYGON, classification={"names": ["Tumor", "necrosis"]})
    path = written(
        tmp_path,
        collection(of_class("Tumor"), of_class("Stroma", TWO), of_class("Artefact"), in_parts, feature(POLYGON)),
    )
    assert len(read_outlines(path, ["Stroma"]).polygons) == 2
    assert len(read_outlines(path, ["Stroma", "Tumor"]).polygons) == 3
    assert (
        len(read_outlines(path, ["no class"]).polygons) == len(read_outlines(path, ["Tumor: necrosis"]).polygons) == 1
    )
    with pytest.raises(ValueError, match=r"has no polygon of class Tissue \(it has Artefact, Stroma, Tumor"):
        read_outlines(path, ["Tissue"])


def outlines_of(*polygons):
    return Outlines([[np.array(ring, float) for ring in rings] for rings in polygons], {})


def oracle(polygons, shape, pixel_px, shift=0.5):
    """scikit-image on each ring: in a polygon is what an odd number of its rings encloses."""
    whole = np.zeros(shape, bool)
    for rings in polygons:
        inside = np.zeros(shape, bool)
        for ring in rings:
            inside ^= polygon2mask(shape, np.array(ring, float)[:, ::-1] / pixel_px - shift)
        whole |= inside
    return whole


@pytest.mark.parametrize("seed", range(20))
def test_pixels_are_those_of_scikit_image(seed):
    """Random rings cross themselves, each other and the edges of the picture; some are closed, some aren't."""
    draw, shape, pixel_px = np.random.default_rng(seed), (70, 110), 7.3
    polygons = []
    for _ in range(draw.integers(1, 5)):
        rings = [draw.uniform(-60, 900, (draw.integers(3, 12), 2)) for _ in range(draw.integers(1, 4))]
        polygons.append([np.vstack([ring, ring[:1]]) if draw.random() < 0.5 else ring for ring in rings])
    found = outlines_of(*polygons).pixels(shape, pixel_px)
    assert found.shape == shape and np.array_equal(found, oracle(polygons, shape, pixel_px))
    turned = [[ring[:, ::-1] for ring in rings] for rings in polygons]
    assert not np.array_equal(found, oracle(turned, shape, pixel_px))  # x and y swapped
    assert not np.array_equal(found, oracle(polygons, shape, pixel_px, shift=0))  # corners of pixels for centres


def test_edges_on_pixels_are_exact():
    """A pixel belongs to an outline by its centre: neighbours that share an edge share no pixel and leave none."""
    left, right = [[0, 0], [30, 0], [30, 40], [0, 40]], [[30, 0], [50, 0], [50, 40], [30, 40]]
    ring, hole = [[0, 0], [50, 0], [50, 40], [0, 40]], [[10, 10], [20, 10], [20, 30], [10, 30]]
    shape = (4, 6)
    assert outlines_of([left]).pixels(shape, 10.0).sum() == 12 and outlines_of([right]).pixels(shape, 10.0).sum() == 8
    assert outlines_of([left], [right]).pixels(shape, 10.0).sum() == 20
    assert outlines_of([left], [left]).pixels(shape, 10.0).sum() == 12  # given twice
    assert outlines_of([ring, hole]).pixels(shape, 10.0).sum() == 18
    assert outlines_of([ring, hole], [hole]).pixels(shape, 10.0).sum() == 20  # an island fills the hole
    assert outlines_of([ring, hole[::-1]]).pixels(shape, 10.0).sum() == 18  # whichever way it turns
    assert (
        outlines_of([[[0, 0], [40, 40], [40, 0], [0, 40]]]).pixels((4, 4), 10.0).sum() == 8
    )  # crosses itself: both lobes
    flat = outlines_of([[[0, 0], [40, 0], [20, 0]]])
    assert not flat.pixels(shape, 10.0).any()


def test_large_outlines_take_a_moment_and_intricate_ones_are_refused():
    angle = np.linspace(0, 2 * np.pi, 200_000, endpoint=False)
    radius = 35_000 * (1 + 0.1 * np.sin(40 * angle))
    circle = np.stack([45_000 + radius * np.cos(angle), 40_000 + radius * np.sin(angle)], axis=1)
    began = time.process_time()
    found = outlines_of([circle]).pixels((2500, 2900), 32.0)
    assert time.process_time() - began < 3  # 0.2 s; asking every pixel about every edge takes hours
    assert found.sum() * 32.0**2 == pytest.approx(np.pi * 35_000**2 * 1.005, rel=1e-3)
    comb = np.stack([np.arange(10_000), np.tile([0, 80_000], 5000)], axis=1)
    with pytest.raises(ValueError, match="has outlines too intricate for a mask"):
        outlines_of([comb]).pixels((2500, 2900), 32.0)
