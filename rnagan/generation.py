"""Tiles from profiles on disk: PNGs with a grid of them, or shards."""

import collections
from pathlib import Path

import anndata
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from rnagan import progress
from rnagan.cohort import slide_id
from rnagan.data.writer import ShardWriter, write_digest
from rnagan.expression.store import open_profiles
from rnagan.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.pictures import grid, save_png, synthetic_texts
from rnagan.pretrained import RNAGAN

GRID_ROWS, GRID_COLUMNS = 32, 16
JPEG_QUALITY = 95


def generate_tiles(
    model_folder: Path,
    profiles: Path,
    out: Path,
    *,
    n: int,
    seed: int,
    form: str,
    split: str | None,
    samples: list[str],
) -> str:
    """Paint `n` tiles for each profile of an .h5ad into `out`, and return what to tell the user.

    `form` "png": `out/SAMPLE/SAMPLE_0000.png` … and `out/grid.png` with a row for each of up to GRID_ROWS profiles,
    each PNG saying that it is synthetic; "shards": one tar a profile, as shards/build_tiles.py makes them. `split` and
    `samples` choose profiles (all where empty).
    `out/generated.json`, written last, tells what made them; with it in place nothing is painted again.
    """
    if not profiles.is_file():
        raise FileNotFoundError(f"The profiles {profiles} don't exist; make them with shards/build_expression.py.")
    model = RNAGAN.from_pretrained(model_folder)
    asked = sha256_of(
        {
            "model": model.digest,
            "profiles": sha256_of_file(profiles),
            "n": n,
            "seed": seed,
            "form": form,
            "split": split,
            "samples": samples,
        }
    )
    told = out / "generated.json"
    if told.is_file() and read_json(told)["asked"] == asked:
        return f"{out} is up to date."
    chosen = _choose(open_profiles(profiles), profiles, split, samples)
    names = _file_names(list(chosen.obs_names))
    model.encode(chosen)
    shown = set(np.linspace(0, len(chosen) - 1, min(GRID_ROWS, len(chosen))).astype(int))
    rows: list[NDArray[np.uint8]] = []
    with progress.bar(len(chosen) * n, "tile", "Painting") as bar:
        for k, (sample, name) in enumerate(names.items()):
            tiles = model.paint(chosen.obsm["X_rnagan"][k], n, seed, sample)
            (_write_pngs if form == "png" else _write_shard)(out, name, sample, tiles, model, seed)
            if k in shown:
                rows.append(tiles[:GRID_COLUMNS])
            bar.update(n)
    if form == "png":
        texts = synthetic_texts(model.digest, f"{len(rows)} profiles", seed, model.mpp)
        save_png(out / "grid.png", grid(np.stack(rows)), texts)
    else:
        write_digest(out)
    write_json(told, {"asked": asked, "model": model.digest, "profiles": list(chosen.obs_names), "n": n, "seed": seed})
    return f"{out}: {len(chosen) * n:,} tiles of {len(chosen):,} profiles."


def _choose(adata: anndata.AnnData, path: Path, split: str | None, samples: list[str]) -> anndata.AnnData:
    if split:
        if "split" not in adata.obs:
            raise ValueError(f"{path} has no obs column split; leave --split out.")
        adata = adata[adata.obs["split"] == split]
    unknown = sorted(set(samples) - set(adata.obs_names))
    if unknown:
        raise ValueError(f"{path} has no profile {unknown[0]}{f' in split {split}' if split else ''}.")
    adata = adata[samples] if samples else adata
    if not len(adata):
        raise ValueError(f"{path} has no profile in split {split}.")
    return adata.copy()


def _file_names(samples: list[str]) -> dict[str, str]:
    """A file name for each profile. Profiles' names come from a stranger's table: no way out of the folder."""
    names = [slide_id(sample + ".png") for sample in samples]
    name, times = collections.Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} profiles would be written as {name}; give each a name of its own.")
    return dict(zip(samples, names, strict=True))


def _write_pngs(out: Path, name: str, sample: str, tiles: NDArray[np.uint8], model: RNAGAN, seed: int) -> None:
    texts = synthetic_texts(model.digest, sample, seed, model.mpp)
    for k, tile in enumerate(tiles):
        save_png(out / name / f"{name}_{k:04d}.png", tile, texts)


def _write_shard(out: Path, name: str, sample: str, tiles: NDArray[np.uint8], model: RNAGAN, seed: int) -> None:
    options = {"tile_px": tiles.shape[1], "mpp": model.mpp, "seed": seed, "jpeg_quality": JPEG_QUALITY}
    source = {"synthetic": True, "model": model.digest, "profile": sample, "seed": seed}
    with ShardWriter(out, name) as writer:
        for k, tile in enumerate(tiles):
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality=JPEG_QUALITY, colorsubsampling="444")
            writer.add(f"{name}_{k:04d}", jpeg, {"slide": name, "tile_px": tiles.shape[1], "mpp": model.mpp} | source)
        writer.commit("done", {}, source, options, {})
