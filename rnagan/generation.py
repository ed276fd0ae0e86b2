"""Tiles from profiles on disk: PNGs with a grid of them, or shards."""

import collections
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.slide_ids import check_shard_name, slide_id
from rnagan.data.manifest import INDEX, RECORD, TAR, write_digest
from rnagan.data.writer import ShardWriter
from rnagan.expression.h5ad import open_profiles
from rnagan.io.files import read_json, sha256_of, sha256_of_file, write_json
from rnagan.io.images import grid, save_png, synthetic_texts
from rnagan.io.tables import first_few
from rnagan.models.sampling import check_truncation
from rnagan.runtime import progress

TOLD = "generated.json"
GRID_ROWS, GRID_COLUMNS = 32, 16
JPEG_QUALITY = 95


def generate_tiles(
    model_folder: Path,
    profiles: Path | None,
    out: Path,
    *,
    n: int,
    seed: int,
    form: str,
    split: str | None,
    samples: list[str],
    truncation: float = 1.0,
) -> list[str]:
    """Generate `n` tiles for each profile of an .h5ad into `out`, and return what to tell the user, line by line.

    `form` "png": `out/SAMPLE/SAMPLE_0000.png` … and `out/grid.png` with a row for each of up to GRID_ROWS profiles,
    each PNG saying that it is synthetic; "shards": one tar a profile, as rnagan build-tiles makes them. `split` and
    `samples` choose profiles (all where empty); without `samples`, tissues that the model has not seen are left out.
    `truncation` below 1 gives more typical and less varied tiles (`sampling.generate`), and is told of every tile.
    A model without profiles takes none (`profiles` None) and generates `n` tiles named `noise`.
    `out/generated.json` tells what is made of what: the same request is up to date (or, where it was interrupted,
    generated anew), another one replaces the tiles of the last, and a folder of anything else is refused.
    """
    if profiles is not None and not profiles.is_file():
        raise FileNotFoundError(f"The profiles {profiles} don't exist; make them with rnagan build-expression.")
    check_truncation(truncation)
    model = RNAGAN.from_pretrained(model_folder)
    _check_mode(model, model_folder, profiles)
    asked = sha256_of(
        {
            "model": model.digest,
            "profiles": None if profiles is None else sha256_of_file(profiles),
            "n": n,
            "seed": seed,
            "form": form,
            "split": split,
            "samples": samples,
        }
        | _truncation_note(truncation)
    )
    if _is_done(out, asked):
        return [f"{out} is up to date."]
    lines: list[str] = []
    latents: dict[str, NDArray[np.float32] | None] = {"noise": None}
    trust: dict[str, dict[str, Any]] = {}
    if profiles is not None:
        chosen, lines = _choose(open_profiles(profiles), profiles, split, samples, model.tissues)
        model.encode(chosen)
        latents = dict(zip(chosen.obs_names, chosen.obsm["X_rnagan"], strict=True))
        trust = {sample: _trust(row) for sample, row in chosen.obs.iterrows()}
    names = _file_names(list(latents))
    _take_over(out)
    told = {"model": model.digest, "n": n, "seed": seed, "asked": asked, "names": names, "finished": False}
    told |= {"truncation": truncation, "profiles": trust}
    write_json(out / TOLD, told)
    shown = set(np.linspace(0, len(names) - 1, min(GRID_ROWS, len(names))).astype(int))
    rows: list[NDArray[np.uint8]] = []
    with progress.bar(len(names) * n, "tile", "Generating") as bar:
        for k, (sample, name) in enumerate(names.items()):
            tiles = model.generate_tiles(latents[sample], n, seed, sample, truncation)
            write = _write_pngs if form == "png" else _write_shard
            write(out, name, sample, tiles, model, seed, trust.get(sample, {}) | _truncation_note(truncation))
            if k in shown:
                rows.append(tiles[:GRID_COLUMNS])
            bar.update(n)
    if form == "png":
        texts = synthetic_texts(model.digest, f"{len(rows)} profiles", seed, model.mpp)
        texts |= {f"rnagan:{key}": str(value) for key, value in _truncation_note(truncation).items()}
        save_png(out / "grid.png", grid(np.stack(rows)), texts)
    else:
        write_digest(out)
    write_json(out / TOLD, told | {"finished": True})
    far = [sample for sample, told_of in trust.items() if told_of["far"]]
    if far:
        lines.append(
            f"{len(far):,} profiles are unlike the training profiles ({first_few(far)}): don't trust their tiles."
        )
    what = "noise" if profiles is None else f"{len(names):,} profiles"
    return [*lines, f"{out}: {len(names) * n:,} tiles of {what}."]


def _check_mode(model: RNAGAN, folder: Path, profiles: Path | None) -> None:
    if profiles is None and model.vae is not None:
        raise ValueError(f"{folder} generates from profiles; give --profiles.")
    if profiles is not None and model.vae is None:
        raise ValueError(f"{folder} was trained in mode {model.config.mode} and takes no profiles; leave them out.")


def _truncation_note(truncation: float) -> dict[str, Any]:
    """Nothing at 1: tiles generated without it are the same files as ever."""
    return {} if truncation == 1 else {"truncation": truncation}


def _is_done(out: Path, asked: str) -> bool:
    told = read_json(out / TOLD) if (out / TOLD).is_file() else {"finished": False}
    return told["finished"] and told["asked"] == asked


def _take_over(out: Path) -> None:
    """Clear the tiles of an earlier request from `out`; refuse a folder that holds anything of others."""
    if not (out / TOLD).is_file():
        if out.is_dir() and any(out.iterdir()):
            raise ValueError(f"{out} holds other files; choose another --out.")
        return
    products = ["grid.png", "dataset.json", "slides.parquet"]
    for name in map(check_shard_name, read_json(out / TOLD)["names"].values()):
        shutil.rmtree(out / name, ignore_errors=True)
        products += [name + suffix for suffix in (RECORD, INDEX, TAR)]
    for product in products:
        (out / product).unlink(missing_ok=True)


def _choose(
    adata: anndata.AnnData, path: Path, split: str | None, samples: list[str], tissues: list[str]
) -> tuple[anndata.AnnData, list[str]]:
    """The profiles asked for, and what to tell of those left out."""
    if split:
        if "split" not in adata.obs:
            raise ValueError(f"{path} has no obs column split; leave --split out.")
        adata = adata[adata.obs["split"] == split]
    unknown = sorted(set(samples) - set(adata.obs_names))
    if unknown:
        raise ValueError(f"{path} has no profile {unknown[0]}{f' in split {split}' if split else ''}.")
    lines = []
    if samples:
        adata = adata[samples]
    elif "tissue" in adata.obs:
        seen = adata.obs["tissue"].isin(tissues)
        if not seen.all():
            lines = [f"Left out {(~seen).sum():,} profiles of tissues that the model has not seen."]
        adata = adata[seen]
    if not len(adata):
        asked = f" in split {split}" if split else ""
        raise ValueError(f"{path} has no profile{asked} of a tissue that the model knows ({', '.join(tissues)}).")
    return adata.copy(), lines


def _trust(row: pd.Series) -> dict[str, Any]:
    """How far to trust tiles of a profile, of its row in the `obs` that `RNAGAN.encode` has filled."""
    return {
        "far": bool(row["rnagan_far"]),
        "distance": round(float(row["rnagan_distance"]), 4),
        "residual": round(float(row["rnagan_residual"]), 4),
        "missing_genes": round(float(row["rnagan_missing_genes"]), 4),
    }


def _file_names(samples: list[str]) -> dict[str, str]:
    """A file name for each profile. Profiles' names come from a stranger's table: no way out of the folder."""
    names = [slide_id(sample + ".png") for sample in samples]
    name, times = collections.Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} profiles would be written as {name}; give each a name of its own.")
    return dict(zip(samples, names, strict=True))


def _write_pngs(
    out: Path, name: str, sample: str, tiles: NDArray[np.uint8], model: RNAGAN, seed: int, trust: dict[str, Any]
) -> None:
    texts = synthetic_texts(model.digest, sample, seed, model.mpp)
    texts |= {f"rnagan:{key}": str(value).lower() for key, value in trust.items()}
    for k, tile in enumerate(tiles):
        save_png(out / name / f"{name}_{k:04d}.png", tile, texts)


def _write_shard(
    out: Path, name: str, sample: str, tiles: NDArray[np.uint8], model: RNAGAN, seed: int, trust: dict[str, Any]
) -> None:
    options = {"tile_px": tiles.shape[1], "mpp": model.mpp, "seed": seed, "jpeg_quality": JPEG_QUALITY}
    source = {"synthetic": True, "model": model.digest, "profile": sample, "seed": seed} | trust
    with ShardWriter(out, name) as writer:
        for k, tile in enumerate(tiles):
            jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(tile), quality=JPEG_QUALITY, colorsubsampling="444")
            writer.add(f"{name}_{k:04d}", jpeg, {"slide": name, "tile_px": tiles.shape[1], "mpp": model.mpp} | source)
        writer.commit("done", {}, source, options, {})
