"""Tissue masks that were made elsewhere decide which tiles are kept, and nothing about them is believed unseen."""

import io
import json
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import webdataset as wds
from click.testing import CliRunner
from PIL import Image

from rnagan.commands.build_tiles import main
from rnagan.config.tiling import TilingConfig
from rnagan.data.build_jobs import BuildOptions
from rnagan.io.files import read_json, sha256_of_file, write_json
from rnagan.runtime.workers import Workers
from rnagan.slides.dry_run import as_text, survey
from rnagan.slides.masks import MaskFolder
from rnagan.slides.qc import TISSUE_COLOUR
from rnagan.slides.sources import find_sources
from rnagan.slides.tiling import tile_slides

CONFIG = TilingConfig(tile_px=64, min_sharpness=0, min_contrast=0, max_background=0.4)
WIDTH, HEIGHT = 896, 640  # 14 × 10 tiles of 64 px, and 56 × 40 pixels of a thumbnail at 8 µm
ALL = {(x, y) for x in range(0, WIDTH, 64) for y in range(0, HEIGHT, 64)}
LEFT, TOP, RIGHT, BOTTOM = 128, 192, 704, 448  # of the marked tissue
HOLE = 256, 256, 512, 384
INSIDE = {
    (x, y)
    for x, y in ALL
    if LEFT <= x < RIGHT and TOP <= y < BOTTOM and not (HOLE[0] <= x < HOLE[2] and HOLE[1] <= y < HOLE[3])
}


def ring(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def geojson(*polygons, scale=1.0, **properties):
    def scaled(rings):
        return [[[x * scale, y * scale] for x, y in ring] for ring in rings]

    geometry = {"type": "MultiPolygon", "coordinates": [scaled(rings) for rings in polygons]}
    return json.dumps([{"type": "Feature", "geometry": geometry, "properties": properties}]).encode()


GEOJSON = geojson([ring(LEFT, TOP, RIGHT, BOTTOM), ring(*HOLE)])


def marked(factor=64):
    """The same tissue as a picture whose pixels span `factor` level-0 pixels."""
    picture = np.zeros((HEIGHT // factor, WIDTH // factor), np.uint8)
    picture[TOP // factor : BOTTOM // factor, LEFT // factor : RIGHT // factor] = 255
    picture[HOLE[1] // factor : HOLE[3] // factor, HOLE[0] // factor : HOLE[2] // factor] = 0
    return picture


def png(pixels, **options):
    data = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(data, "PNG", **options)
    return data.getvalue()


@pytest.fixture
def folders(make_slide, tmp_path):
    """A slide `a` full of tissue, and a folder for masks."""
    make_slide("a.svs", make_slide.smooth_image(HEIGHT, WIDTH))
    (tmp_path / "masks").mkdir()
    return tmp_path


def give(folders, **files):
    """Masks by name, in which `_` before the ending stands for the dot."""
    for name, data in files.items():
        stem, _, ending = name.rpartition("_")
        (folders / "masks" / f"{stem}.{ending}").write_bytes(data)


def build(folders, out="out", config=CONFIG, qc=False, masks=True, **options):
    folder = MaskFolder(folders / "masks", **options) if masks else None
    sources, notes = find_sources([folders / "slides"], masks=folder)
    return tile_slides(sources, folders / out, config, BuildOptions(Workers(1)), qc), notes


def tiles_of(folders, slide="a", out="out"):
    samples = wds.WebDataset(f"file:{folders}/{out}/{slide}.tar", shardshuffle=False)
    return [json.loads(sample["json"]) for sample in samples]


def places(folders, **where):
    return {(tile["x"], tile["y"]) for tile in tiles_of(folders, **where)}


def palette(*colours, **options):
    image = Image.new("P", (14, 10))
    image.putdata((marked() > 0).ravel().astype(int).tolist())
    image.putpalette([value for colour in colours for value in colour])
    return png(image, **options)


def see_through(red, green, blue, opaque=255, elsewhere=(0, 0, 0, 0)):
    picture = np.empty((10, 14, 4), np.uint8)
    picture[:] = elsewhere
    picture[marked() > 0] = red, green, blue, opaque
    return png(picture)


COLOURED = np.stack([marked(), marked() // 3, 0 * marked()], axis=2)
RIGHT_MASKS = {
    "geojson": GEOJSON,
    "coarse": png(marked()),
    "fine": png(marked(8)),
    "level 0": png(marked(1)),
    "larger than level 0": png(marked(2).repeat(4, 0).repeat(4, 1)),
    "ones": png(marked() // 255),
    "labels": png(np.where(marked() > 0, np.arange(10 * 14).reshape(10, 14) + 1, 0).astype(np.uint8)),
    "1 bit": png(marked() > 0),
    "2 bits": png(Image.fromarray(marked()), bits=2),
    "16 bits": png((marked() > 0).astype(np.uint16)),
    "rgb": png(np.stack([marked()] * 3, axis=2)),
    "coloured": png(COLOURED),
    "palette": palette((0, 0, 0), (128, 0, 0)),
    "palette with a hole": palette((0, 0, 0), (128, 0, 0), transparency=0),
    "rgba": see_through(255, 255, 255, elsewhere=(0, 0, 0, 255)),
    "overlay": see_through(200, 0, 0, 90),
    "grey and alpha": png(np.dstack([marked(), marked()])),
}


@pytest.mark.parametrize("name", RIGHT_MASKS)
def test_tiles_are_those_of_the_mask(folders, name):
    give(folders, **{f"a_{'geojson' if name == 'geojson' else 'png'}": RIGHT_MASKS[name]})
    summary, notes = build(folders)
    assert (summary.made, summary.warnings, notes) == (1, {}, [])
    assert places(folders) == INSIDE != ALL
    assert read_json(folders / "out/a.record.json")["counts"]["background"] == len(ALL - INSIDE)


def test_what_comes_after_the_mask_stays(folders, make_slide):
    """Ink inside of a mask is no tissue, and flat tiles are dropped."""
    image = make_slide.smooth_image(HEIGHT, WIDTH)
    pen = np.random.default_rng(0).normal((40, 70, 170), 15, (256, WIDTH, 3))
    image[:256] = np.clip(pen, 0, 255)
    image[384:448, 128:] = 200, 120, 180
    make_slide("a.svs", image)
    give(folders, a_geojson=GEOJSON)
    rows = {}
    for ink in (True, False):
        build(folders, config=CONFIG.replace(min_contrast=0.05, ink=ink))
        counts = read_json(folders / "out/a.record.json")["counts"]
        assert bool(counts["ink"]) == ink and counts["low_contrast"] and places(folders) < INSIDE
        rows[ink] = {y for _, y in places(folders)}
    assert 192 in rows[False] - rows[True] and 320 in rows[True] and 384 not in rows[True] | rows[False]


def png_head(width, height, depth=8, colour=0):
    """A PNG that claims a size and holds a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def turned():
    exif = Image.Exif()
    exif[274] = 3
    return png(marked(), exif=exif)


REFUSED = {
    "another aspect.png": (png(marked()[:, :12]), "has 12 × 10 px, another aspect than the slide of 896 × 640"),
    "turned by 90°.png": (png(marked().T), "has 10 × 14 px, another aspect"),
    "to be turned.png": (turned(), "is to be turned by its orientation tag"),
    "huge.png": (png_head(89_600, 64_000), "has more than the 67,108,864 px of a mask"),
    "large.png": (png_head(9_800, 7_000), r"has 9,800 × 7,000 px; scale it to"),
    "truncated.png": (png(marked(1))[:500], "is no readable PNG"),
    "claims.png": (png_head(896, 640), "is no readable PNG"),
    "jpeg.png": (b"\xff\xd8\xff\xe0" + bytes(200), "is no readable PNG"),
    "empty.png": (b"", "is no readable PNG"),
    "black.png": (png(0 * marked()), "marks no tissue at 8 µm per px"),
    "no background.png": (png(marked() // 255 + 1), "has several values and none of them is 0"),
    "white ground.png": (png(255 - COLOURED), "has several values and none of them is 0"),
    "photograph.png": (
        png(np.random.default_rng(0).integers(0, 256, (40, 56, 3)).astype(np.uint8)), "is a picture of many colours"
    ),
    "white first.png": (palette((255, 255, 255), (0, 0, 0)), "has a palette in which 0 isn't the one black colour"),
    "two blacks.png": (palette((0, 0, 0), (0, 0, 0)), "has a palette in which 0 isn't the one black colour"),
    "black on nothing.png": (see_through(0, 0, 0, elsewhere=(255, 255, 255, 0)), "is transparent elsewhere than where"),
    "white on nothing.png": (see_through(9, 9, 9, elsewhere=(255, 255, 255, 0)), "is transparent elsewhere than where"),
    "16 bits of colour.png": (imagecodecs.png_encode(COLOURED.astype(np.uint16)), "has 16 bits a channel in colours"),
    "animated.png": (
        png(marked(), save_all=True, append_images=[Image.fromarray(marked()[::-1])]), "has several pictures"
    ),
    "other slide.geojson": (geojson([ring(100, 100, 1800, 600)]), "outside of the slide of 896 × 640 px"),
    "negative.geojson": (geojson([ring(-300, 100, 200, 300)]), "has outlines from x -300 to 200"),
    "far.geojson": (geojson([ring(1e300, 1e300, 2e300, 2e300)]), "outside of the slide"),
    "too small.geojson": (geojson([ring(100, 100, 101, 101)]), "marks no tissue at 8 µm per px"),
    "all hole.geojson": (geojson([ring(100, 100, 300, 300), ring(100, 100, 300, 300)]), "marks no tissue"),
    "NaN.geojson": (GEOJSON.replace(b"192", b"NaN", 1), "has a number that is NaN"),
    "none.geojson": (b'{"type": "FeatureCollection", "features": []}', "holds no polygon"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_mask_that_is_not_sure_costs_its_slide(folders, name):
    data, sentence = REFUSED[name]
    give(folders, **{f"a_{name.rpartition('.')[2]}": data})
    summary, _ = build(folders)
    assert list(summary.failures) == ["a"] and summary.failures["a"].reason == "mask" and not summary.made
    assert str(folders / "masks") in summary.failures["a"].sentence
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(summary.failures["a"].sentence)


def test_outlines_that_reach_over_the_edge_by_a_little_are_cut(folders):
    give(folders, a_geojson=geojson([ring(-6, -6, 902, 645)]))
    build(folders)
    assert places(folders) == ALL


def test_the_mask_is_part_of_what_decides(folders):
    """The shard is made again when the mask changes, comes or goes, and only then."""

    def state():
        return (folders / "out/a.tar").read_bytes()

    assert build(folders, masks=False)[0].made == 1
    without, record = state(), read_json(folders / "out/a.record.json")
    assert record["source"].pop("mask") is None and record.pop("sum") and record.pop("index_sha256")
    write_json(folders / "out/a.record.json", record)  # as earlier versions wrote it
    assert build(folders, masks=False)[0].up_to_date == 1 and state() == without
    assert read_json(folders / "out/a.record.json") == record

    give(folders, a_geojson=GEOJSON)
    assert build(folders)[0].made == 1 and state() != without
    about = {"file": "a.geojson", "sha256": sha256_of_file(folders / "masks/a.geojson")}
    assert read_json(folders / "out/a.record.json")["source"]["mask"] == about
    assert all(tile["mask"] == about for tile in tiles_of(folders))
    assert build(folders)[0].up_to_date == 1
    give(folders, a_geojson=GEOJSON + b" ")
    assert build(folders)[0].made == 1
    give(folders, a_geojson=geojson([ring(0, 0, 256, 256)]))
    assert build(folders)[0].made == 1 and len(tiles_of(folders)) == 16
    (folders / "masks/a.geojson").unlink()
    give(folders, a_svs_png=png(marked()))
    assert build(folders)[0].made == 1 and places(folders) == INSIDE
    assert build(folders, masks=False)[0].made == 1 and state() == without
    assert not any("mask" in tile for tile in tiles_of(folders))


def test_a_slide_without_a_mask_fails_or_gets_our_own(folders, make_slide):
    make_slide("b.c.svs", make_slide.smooth_image(HEIGHT, WIDTH))
    give(folders, a_geojson=GEOJSON, zz_png=png(marked()))
    (folders / "masks/notes.txt").touch()
    (folders / "masks/gone.png").symlink_to(folders / "nowhere")
    build(folders, masks=False)
    summary, notes = build(folders)  # though b_c has a shard from Otsu's mask
    assert summary.made == 1 and list(summary.failures) == ["b_c"]
    assert "b.c.svs has no mask called b_c.geojson or .png; make one" in summary.failures["b_c"].sentence
    assert notes == [
        f"2 files of {folders}/masks are no masks: {folders}/masks/gone.png, {folders}/masks/notes.txt.",
        f"Warning: 1 masks of {folders}/masks are of no slide here: zz.",
    ]
    summary, notes = build(folders, required=False)
    assert (summary.up_to_date, summary.failures) == (2, {})
    assert notes[-1] == f"1 slides have no mask in {folders}/masks and get our own: b_c."
    give(folders, **{"b.c_png": png(marked())})
    assert build(folders)[0].made == 1 and places(folders, slide="b_c") == INSIDE


def test_masks_that_are_not_clear_stop_the_build(folders):
    with pytest.raises(FileNotFoundError, match="masks holds no mask, which is called like its slide"):
        build(folders)
    give(folders, zz_png=png(marked()))
    with pytest.raises(ValueError, match=r"None of the 1 masks in .* \(zz\) is called like a slide \(a\)"):
        build(folders, required=False)
    for other in ("a_png", "a.svs_geojson", "a_svs_png"):
        give(folders, a_geojson=GEOJSON, **{other: png(marked())})
        with pytest.raises(ValueError, match=r"a.geojson and .*a.* both hold the mask of slide a; keep one"):
            build(folders)
        next(path for path in (folders / "masks").iterdir() if path.name not in ("a.geojson", "zz.png")).unlink()


def test_a_folder_called_like_a_mask_and_one_below_are_searched(folders):
    (folders / "masks/a.png").mkdir()
    (folders / "masks/a.png/a.GeoJSON").write_bytes(GEOJSON)
    assert build(folders)[0].made == 1 and places(folders) == INSIDE


@pytest.mark.parametrize(
    ("data", "doubt"),
    [
        (geojson([ring(0, 0, 448, 320)]), r"stained by 2\d%, and by 100% if its coordinates are µm"),
        (geojson([ring(700, 0, 896, 640)]), "only 0% of its mask .* looks stained"),
        (geojson([ring(0, 0, 500, 300)])[:-1] + b', {"type": "Point", "coordinates": [3, 4]}]', "objects that are no"),
    ],
    ids=["µm", "beside the tissue", "a point"],
)  # fmt: skip
def test_what_is_doubtful_is_said_and_said_again(folders, make_slide, data, doubt):
    image = make_slide.smooth_image(HEIGHT, WIDTH)
    if b"700" in data:
        image[:, 640:] = 245
    make_slide("a.svs", image)
    give(folders, a_geojson=data)
    for expected in ((1, 0), (0, 1)):
        summary, _ = build(folders)
        assert (summary.made, summary.up_to_date) == expected and list(summary.warnings) == ["a"]
        with pytest.raises(AssertionError, match=doubt):
            raise AssertionError("; ".join(summary.warnings["a"]))
    sources, _ = find_sources([folders / "slides"], masks=MaskFolder(folders / "masks"))
    assert "Warning: a: " in as_text(survey(sources, CONFIG, Workers(1)))


def test_classes_of_qupath_choose(folders):
    features = [
        json.loads(geojson([ring(*box)], classification={"name": name}))[0]
        for name, box in (("Tissue", (0, 0, 256, 256)), ("Artefact", (512, 0, 768, 256)))
    ]
    give(folders, a_geojson=json.dumps({"type": "FeatureCollection", "features": features}).encode())
    assert "several classes (Artefact, Tissue); say which" in build(folders)[0].failures["a"].sentence
    build(folders, classes=("Tissue",))
    assert places(folders) == {(x, y) for x, y in ALL if x < 256 and y < 256}
    assert read_json(folders / "out/a.record.json")["source"]["mask"]["classes"] == ["Tissue"]
    assert build(folders, classes=("Tissue", "Artefact"))[0].made == 1 and len(tiles_of(folders)) == 32


def write_scn(path, image, left, top, width, height):
    """A Leica slide at 0.5 µm per px of (width, height) px, of which `image` at (left, top) was scanned."""

    def part(name, ifd, size, view, power):
        place = "".join(f' {key}="{500 * value}"' for key, value in view.items())
        return (
            f'<image name="{name}"><creationDate>2020-01-01T00:00:00Z</creationDate><device model="S" version="1"/>'
            f'<pixels sizeX="{size[0]}" sizeY="{size[1]}"><dimension sizeX="{size[0]}" sizeY="{size[1]}" r="0" '
            f'ifd="{ifd}"/></pixels><view{place} spacingZ="0"/><scanSettings><objectiveSettings><objective>{power}'
            "</objective></objectiveSettings><illuminationSettings><numericalAperture>0.4</numericalAperture>"
            "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings></image>"
        )

    rows, columns = image.shape[:2]
    whole = {"sizeX": width, "sizeY": height, "offsetX": 0, "offsetY": 0}
    scanned = {"sizeX": columns, "sizeY": rows, "offsetX": left, "offsetY": top}
    xml = (
        f'<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection '
        f'sizeX="{500 * width}" sizeY="{500 * height}">'
        + part("macro", 0, (width // 8, height // 8), whole, 0.6)
        + part("main", 1, (columns, rows), scanned, 20)
        + "</collection></scn>"
    )
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "compressionargs": {"level": 95}}
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        macro = np.full((height // 8, width // 8, 3), 240, np.uint8)
        tiff.write(macro, description=xml, metadata=None, **options)
        tiff.write(image, metadata=None, **options)


def test_outlines_of_a_slide_with_bounds_count_from_where_the_user_says(folders, make_slide):
    """QuPath counts from the corner of what Leica and MIRAX slides say was scanned, others from that of level 0."""
    (folders / "slides/a.svs").unlink()
    write_scn(folders / "slides/a.scn", make_slide.smooth_image(512, 640), 256, 192, 1280, 960)
    give(folders, a_geojson=geojson([ring(64, 0, 192, 128)]))
    sentence = build(folders)[0].failures["a"].sentence
    assert "was scanned from x 256, y 192 on; say with --mask-origin" in sentence
    build(folders, origin="bounds")
    assert places(folders) == {(320, 192), (384, 192), (320, 256), (384, 256)}
    give(folders, a_geojson=geojson([ring(320, 192, 448, 320)]))
    assert build(folders, origin="level-0")[0].made == 1
    assert places(folders) == {(320, 192), (384, 192), (320, 256), (384, 256)}


def test_qc_shows_the_given_mask(folders):
    for name, data in (("left", geojson([ring(0, 0, 256, 640)])), ("right", geojson([ring(640, 0, 896, 640)]))):
        give(folders, a_geojson=data)
        build(folders, name, qc=True)
        picture = np.asarray(Image.open(folders / name / "qc/a.jpg").convert("RGB")).astype(int)
        edge = np.flatnonzero((np.abs(picture - TISSUE_COLOUR).max(axis=2) < 50).sum(axis=0) > 150)
        assert len(edge) and edge == pytest.approx(20 + 336 * (256 if name == "left" else 640) / WIDTH, abs=3)


def command(folders, *flags):
    arguments = ["--slides", folders / "slides", "--out", folders / "out", "--tile-px", 64, "--processes", 1]
    arguments += ["--min-sharpness", 0, "--min-contrast", 0, "--no-qc", *flags]
    return CliRunner().invoke(main, list(map(str, arguments)), prog_name="rnagan build-tiles")


def test_the_command_takes_masks(folders):
    give(folders, a_geojson=geojson([ring(700, 0, 896, 640)])[:-1] + b', {"type": "Point", "coordinates": [3, 4]}]')
    done = command(folders, "--masks", folders / "masks")
    assert done.exit_code == 0 and "Warning: a: its mask" in done.stderr and "(1 Point)." in done.stderr
    right = {(x, y) for x, y in ALL if x >= 704}
    assert places(folders) == right
    give(folders, a_png=png(marked()))
    failed = command(folders, "--masks", folders / "masks")
    assert failed.exit_code == 1 and "both hold the mask of slide a" in failed.stderr and places(folders) == right
    (folders / "masks/a.geojson").write_text("[")
    (folders / "masks/a.png").unlink()
    failed = command(folders, "--masks", folders / "masks")
    assert failed.exit_code == 1 and "a failed: " in failed.stderr and "is no JSON in UTF-8" in failed.stderr
    assert places(folders) == right  # the earlier shard stays


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--masks", ".", "--coordinates", "."), "Give either --coordinates or --masks."),
        (("--missing-mask", "otsu"), "--mask-class, --mask-origin and --missing-mask are for --masks."),
        (("--mask-class", "Tissue"), "--mask-class, --mask-origin and --missing-mask are for --masks."),
        (("--mask-origin", "bounds"), "--mask-class, --mask-origin and --missing-mask are for --masks."),
    ],
)
def test_options_that_do_not_go_together(folders, flags, sentence):
    done = command(folders, *flags)
    assert done.exit_code == 2 and sentence in done.stderr and not (folders / "out").exists()
