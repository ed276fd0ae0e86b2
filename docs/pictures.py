"""Draws the pictures of pages that no command draws as they are: `python docs/pictures.py NAME …`.

All that they show is simulated, generated, or a figure of the page itself. `generators` needs the demo.
"""

import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image
from scipy.ndimage import gaussian_filter

from rnagan.api import RNAGAN
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json
from rnagan.io.images import grid
from rnagan.reports.figures import COLOURS
from rnagan.runtime import rng
from rnagan.simulation.rendering import SLIDE_MPP, Layout, Morphology, render_slide
from rnagan.simulation.svs import write_svs
from rnagan.simulation.tissues import TISSUES

DOCS = Path(__file__).parent
MODEL, PROFILES = Path("runs/demo/rnagan"), Path("shards/data/demo/expression.h5ad")
TRUNCATIONS = (0.3, 0.6, 1.0)
INK = (25, 75, 50)
TILE, TEXT = "#d9e7f3", "0.25"


def data() -> Image.Image:
    """The QC picture of a slide with faults: what `rnagan build-tiles` keeps of it, and why it drops the rest."""
    with tempfile.TemporaryDirectory() as folder:
        with Image.open(build_shard(Path(folder)) / "qc/lung.jpg") as picture:
            return picture.convert("RGB")


def formats() -> Image.Image:
    """The files of a shard, and how the index finds a tile in the tar."""
    with tempfile.TemporaryDirectory() as folder:
        shards = build_shard(Path(folder))
        index = pd.read_parquet(shards / "lung.index.parquet")
        record = read_json(shards / "lung.record.json")
        with tarfile.open(shards / "lung.tar") as tar:
            members = tar.getmembers()[:6]
            thumbnails = [np.asarray(Image.open(tar.extractfile(member))) for member in members[::2]]
    figure, axis = plt.subplots(figsize=(11, 4.6))
    axis.set(xlim=(0, 110), ylim=(0, 46), xticks=[], yticks=[], frame_on=False)
    heading(axis, 0, 44, "lung.tar", f"{len(index)} tiles, in an order that is random and always the same")
    for number, member in enumerate(members):
        x, image = 18 * number, number % 2 == 0
        axis.add_patch(Rectangle((x, 28), 17, 12, facecolor=TILE if image else "0.94", edgecolor="0.5"))
        axis.text(x + 8.5, 38, Path(member.name).name, ha="center", va="center", fontsize=8)
        if image:
            axis.imshow(thumbnails[number // 2], extent=(x + 5, x + 12, 29.2, 36.2), aspect="auto", zorder=2)
        else:
            axis.text(x + 8.5, 32.5, "slide, x, y,\ntile_px, mpp", ha="center", va="center", fontsize=8, color=TEXT)
    axis.text(108.3, 34, "…", fontsize=16, va="center")
    heading(axis, 0, 21, "lung.index.parquet", "a row a tile: where its image lies in the tar, so one tile is one read")
    rows = index.head(3)[["key", "offset", "size", "crc32", "x", "y"]].astype(str)
    lefts = (0, 22, 31, 38, 49, 56)
    for left, name in zip(lefts, rows, strict=True):
        axis.text(left, 16.5, name, fontsize=8.5, weight="bold", va="center")
        for line, value in enumerate(rows[name]):
            axis.text(left, 13.5 - 2.8 * line, value, fontsize=8.5, va="center")
    for line, member in enumerate(members[::2]):
        assert int(rows["offset"].iloc[line]) == member.offset_data  # the picture says what is there
    axis.plot((60, 63, 63, 8.5), (13.5, 13.5, 24.5, 24.5), color=COLOURS[0], lw=1.6)
    axis.annotate("", (8.5, 28), (8.5, 24.3), arrowprops={"arrowstyle": "->", "color": COLOURS[0], "lw": 1.6})
    heading(axis, 68, 21, "lung.record.json", "written last: the commit")
    facts = {name: record[name] for name in ("status", "tiles", "sha256", "counts", "options")}
    lines = [f"{name}: {short(value)}" for name, value in facts.items()]
    axis.text(68, 17.2, "\n".join(lines), fontsize=8.5, va="top", linespacing=1.5)
    axis.text(
        0,
        1.5,
        "dataset.json, slides.parquet: all slides of the folder, made again from the records at any time",
        fontsize=9,
        color=TEXT,
    )
    return drawn(figure)


def cohorts() -> Image.Image:
    """Tissues called right by docs/results-cohorts.md, by the alignment and the tissues of the cohort."""
    table = next(tables_of((DOCS / "results-cohorts.md").read_text(encoding="utf-8"), "alignment")).set_index(
        "alignment"
    )
    figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    for number, (name, row) in enumerate(table.iterrows()):
        outstanding = str(name).startswith("none")
        style = "-" if outstanding else "--"
        colour = "black" if outstanding and "scores" not in str(name) else COLOURS[number % len(COLOURS)]
        axis.plot(table.columns, row, style, marker="o", color=colour, lw=2 if outstanding else 1.2, label=name)
    axis.set(ylim=(0, 102), xlabel="tissues of the cohort that is aligned", ylabel="% of tissues called right")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn(figure)


def gpu() -> Image.Image:
    """The forecast of docs/gpu.md: images a second by GPU and preset, and what a step of `wgan_gp` is made of."""
    tables = dict(forecasts((DOCS / "gpu.md").read_text(encoding="utf-8")))
    figure, (rates, parts) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
    single = {name: table[~table["GPU"].str.contains("×")].set_index("GPU") for name, table in tables.items()}
    places, width = np.arange(len(next(iter(single.values())))), 0.84 / len(tables)  # of as many bars as presets
    for number, (name, table) in enumerate(single.items()):
        label = f"{name}, batch {table['batch'].iloc[0]}"
        left = places + width * (number - (len(tables) - 1) / 2)
        rates.bar(left, table["images/s"], 0.93 * width, label=label, color=COLOURS[number])
    rates.set_title("images a second on one GPU, forecast", fontsize=10)
    first = next(iter(single))
    causes = ["arithmetic, ms", "memory, ms", "launches, ms"]
    for number, cause in enumerate(causes):
        label = cause.removesuffix(", ms")
        parts.bar(places + 0.27 * (number - 1), single[first][cause], 0.25, label=label, color=COLOURS[number + 3])
    parts.set_title(f"milliseconds of a step of {first} by what takes them, forecast", fontsize=10)
    for axis in (rates, parts):
        axis.set_xticks(places, single[first].index, fontsize=8, rotation=20)
        axis.tick_params(axis="y", labelsize=8)
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    return drawn(figure)


def generators() -> Image.Image:
    """Tiles of the demo's GAN by `--truncation`: the same profile and noise in each row."""
    model = RNAGAN.from_pretrained(MODEL, "cpu")
    profiles = open_profiles(PROFILES)
    held_out = profiles.obs[(profiles.obs["split"] == "test") & (profiles.obs["tissue"] == "lung")]
    profile = profiles[held_out.index[:1]].copy()
    figure, axes = plt.subplots(len(TRUNCATIONS), 1, figsize=(6.4, 2.5), layout="constrained")
    for axis, truncation in zip(axes, TRUNCATIONS, strict=True):
        tiles = model.with_options(truncation=truncation).generate(profile, n=8, seed=0)
        axis.imshow(grid(tiles), interpolation="nearest")
        axis.set(xticks=[], yticks=[], frame_on=False)
        axis.set_ylabel(f"ψ = {truncation:g}", rotation=0, ha="right", va="center", fontsize=9)
    return drawn(figure)


def build_shard(folder: Path) -> Path:
    """A simulated lung of 10 × 6 tiles, marked with a pen and out of focus at one end, and its shard."""
    layout = Layout(round(64 / SLIDE_MPP), 10, 6)
    morphology = Morphology(3200, 3.2, 0.34, 0.45, 0.29)
    slide = render_slide(TISSUES["lung"], morphology, layout, rng.generator(0, "simulation/slide/docs"))
    start = 8 * layout.tile
    slide[:, start:] = gaussian_filter(slide, (7, 7, 0))[:, start:]
    rows, columns = np.mgrid[: slide.shape[0], : slide.shape[1]]
    middle = 2.2 * layout.tile + 60 * np.sin(columns / 140)
    slide[(np.abs(rows - middle) < 75) & (columns < 4.2 * layout.tile)] = INK
    write_svs(folder / "slides/lung.svs", slide, SLIDE_MPP)
    build = ["--slides", folder / "slides", "--out", folder / "shards", "--tile-px", 64, "--mpp", 1.0]
    words = [sys.executable, "-m", "rnagan", "build-tiles", *build, "--processes", 1]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    return folder / "shards"


def forecasts(page: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables of the presets' forecasts, each with the name of its preset."""
    return zip(re.findall(r"^`(\w+)`: A step of ", page, flags=re.MULTILINE), tables_of(page, "GPU"), strict=True)


def tables_of(page: str, first: str) -> Iterator[pd.DataFrame]:
    """The tables of a page whose first column has this name, with numbers in the columns that hold some."""
    for table in re.findall(rf"^\| {first} \|.*\n(?:\|.*\n)+", page, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        frame = pd.DataFrame(rows, columns=head)
        for name in head:
            numbers = pd.to_numeric(frame[name].str.replace(",", ""), errors="coerce")
            frame[name] = frame[name] if numbers.isna().all() else numbers
        yield frame


def drawn(figure: plt.Figure) -> Image.Image:
    with io.BytesIO() as packed:
        figure.savefig(packed, dpi=110, bbox_inches="tight")
        return Image.open(packed).convert("RGB")


def heading(axis: Axes, x: float, y: float, name: str, about: str) -> None:
    axis.text(x, y, name, fontsize=10.5, weight="bold", va="center")
    axis.text(x, y - 2.4, about, fontsize=9, va="center", color=TEXT)


def short(value: object) -> str:
    """A value of a record in a few letters."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {value[name]}" for name in list(value)[:3] if value[name]) + " …"
    return str(value) if len(str(value)) < 20 else f"{str(value)[:12]}…"


PICTURES = {
    "cohorts": (cohorts, "results-cohorts-alignment.png"),
    "data": (data, "data-slide.png"),
    "formats": (formats, "formats-shard.png"),
    "gpu": (gpu, "gpu-forecast.png"),
    "generators": (generators, "generators-truncation.png"),
}


@click.command(help=__doc__)
@click.argument("names", nargs=-1, required=True, type=click.Choice(sorted(PICTURES)))
@click.option("--out", type=click.Path(path_type=Path), default=DOCS, show_default=True, help="Folder of the pictures.")
def main(names: tuple[str, ...], out: Path) -> None:
    for name in names:
        draw, file = PICTURES[name]
        draw().quantize(192).save(out / file, optimize=True)


if __name__ == "__main__":
    main()
