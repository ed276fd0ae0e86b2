"""Tiles from profiles on disk: PNGs with a grid of them, or shards."""

import collections
import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from rnagan.api import RNAGAN
from rnagan.cohort.slide_ids import check_shard_name, slide_id
from rnagan.data import manifest
from rnagan.data.image_codec import encode_jpeg
from rnagan.data.index import open_dataset
from rnagan.data.manifest import read_records, shard_problem
from rnagan.data.set_digest import write_digest
from rnagan.data.writer import ShardWriter
from rnagan.io.files import read_json, write_json
from rnagan.io.images import grid, save_png, save_pngs, synthetic_texts
from rnagan.io.provenance import KEY, asked, read_current
from rnagan.io.tables import first_few
from rnagan.latent.profiles import Choice, choose_profiles
from rnagan.models.section_stain import read_section_stain
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.runtime.folder_lock import is_claim

RECORD = "generated.json"
GRID_ROWS, GRID_COLUMNS = 32, 16
JPEG_QUALITY = 95


class Generated(TypedDict):
    """The generated.json of a folder: digest of the model, tiles `n` a profile, and the file name of each profile."""

    model: str
    n: int
    names: dict[str, str]
    finished: NotRequired[bool]


def open_model(
    folder: Path, device: str | torch.device, stain_of: str | None = None, options: SamplingOptions = NO_OPTIONS
) -> RNAGAN:
    """A trained model with these options, whose tiles are stained like a training section of its run, where one is
    named."""
    model = RNAGAN.from_pretrained(folder, device)
    model = model.with_options(**options.given)
    return model if stain_of is None else model.stained_like(read_section_stain(folder, stain_of))


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
    options: SamplingOptions = NO_OPTIONS,
    stain_of: str | None = None,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Generate `n` tiles for each profile of an .h5ad into `out`; returns lines for the user.

    `form` "png": `out/SAMPLE/SAMPLE_0000.png` … and `out/grid.png` with a row for each of up to GRID_ROWS profiles,
    each PNG saying that it is synthetic; "shards": one tar a profile, as rnagan build-tiles makes them. `split` and
    `samples` choose profiles (all where empty); without `samples`, tissues that the model has not seen are left out.
    `options` of the generator; those that aren't its own are stored with every tile.
    `stain_of`: a training section of the run `model_folder`, whose stain the tiles get, not the average one.
    A model without profiles takes none (`profiles` None) and generates `n` tiles named `noise`. Batches hold tiles of
    several profiles, one batch and one profile are in memory at a time. `device`: as `choose_device` takes it.
    `out/generated.json` records the request: the same one is up to date (or generated anew where it was interrupted),
    another one replaces the tiles of the last, and a folder that holds anything else is refused.
    """
    if profiles is not None and not profiles.is_file():
        raise FileNotFoundError(f"The profiles {profiles} don't exist; make them with rnagan build-expression.")
    model = open_model(model_folder, device, stain_of, options)
    _check_mode(model, model_folder, profiles)
    request = asked(
        model=model.digest,
        profiles=profiles,
        n=n,
        seed=seed,
        form=form,
        split=split,
        samples=samples,
        stain_of=stain_of,
        **model.sampling,
    )
    stored = read_current(out / RECORD, request, Generated)
    if stored is not None and stored.get("finished") and _is_whole(out, form, n, stored["names"].values()):
        return [f"{out} is up to date."]
    lines: list[str] = []
    own_names = ["noise"]
    latents: NDArray[np.float32] | None = None
    trust: dict[str, dict[str, Any]] = {}
    if model.encoder is not None and profiles is not None:
        choice = Choice(profiles, split, tuple(samples))
        chosen, left_out = choose_profiles(choice, model.units, model.tissues)
        lines += [f"Left out {left_out:,} profiles of tissues that the model has not seen."] if left_out else []
        model.encode(chosen)
        own_names, latents = chosen.obs_names.tolist(), chosen.obsm["X_rnagan"]
        trust = {sample: _trust(row) for sample, row in chosen.obs.iterrows()}
    names = _file_names(own_names)
    _take_over(out)
    record = {"model": model.digest, "n": n, "seed": seed, KEY: request, "names": names, "finished": False}
    record |= {**model.sampling, "profiles": trust}
    write_json(out / RECORD, record)
    writer = _Writer(out, form, model, seed)
    shown = set(np.linspace(0, len(names) - 1, min(GRID_ROWS, len(names))).astype(int))
    rows: list[NDArray[np.uint8]] = []
    tiles_of = model.generate_each(latents, own_names, [n] * len(names), seed)
    with progress.bar(len(names) * n, "tile", "Generating") as bar:
        for k, ((sample, name), tiles) in enumerate(zip(names.items(), tiles_of, strict=True)):
            writer.write(name, sample, tiles, trust.get(sample, {}))
            if k in shown:
                rows.append(tiles[:GRID_COLUMNS].copy())  # a view would keep its whole batch
            bar.update(n)
    writer.finish(rows)
    write_json(out / RECORD, record | {"finished": True})
    if far := [sample for sample, row in trust.items() if row["far"]]:
        lines.append(f"Unlike the training profiles: {first_few(far)}.")  # the warning says what that means
    what = "noise" if profiles is None else f"{len(names):,} profiles"
    return [*lines, f"{out}: {len(names) * n:,} tiles of {what}."]


def _check_mode(model: RNAGAN, folder: Path, profiles: Path | None) -> None:
    if profiles is None and model.encoder is not None:
        raise ValueError(f"{folder} generates from profiles; give --profiles.")
    if profiles is not None and model.encoder is None:
        raise ValueError(f"{folder} was trained in mode {model.config.mode} and takes no profiles; leave them out.")


def _is_whole(out: Path, form: str, n: int, names: Iterable[str]) -> bool:
    """Whether the tiles are still there: PNGs by their names, shards by what their records vouch for."""
    if form == "png":
        return all((out / name / f"{name}_{k:04d}.png").is_file() for name in names for k in range(n))
    try:
        open_dataset(out)
        return not any(shard_problem(out, record) for record in read_records(out))
    except (FileNotFoundError, ValueError):
        return False


def _take_over(out: Path) -> None:
    """Clear the tiles of an earlier request from `out`; refuse a folder that holds anything of others."""
    if not (out / RECORD).is_file():
        if out.is_dir() and any(not is_claim(path) for path in out.iterdir()):
            raise ValueError(f"{out} holds other files; choose another --out.")
        return
    products = ["grid.png", "dataset.json", "slides.parquet"]
    for name in map(check_shard_name, read_json(out / RECORD, Generated)["names"].values()):
        shutil.rmtree(out / name, ignore_errors=True)
        products += [name + suffix for suffix in (manifest.RECORD, manifest.INDEX, manifest.TAR)]
    for product in products:
        (out / product).unlink(missing_ok=True)


def _trust(row: pd.Series) -> dict[str, Any]:
    """How far to trust tiles of a profile, of its row in the `obs` that `RNAGAN.encode` has filled."""
    return {
        "far": bool(row["rnagan_far"]),
        "distance": round(float(row["rnagan_distance"]), 4),
        "residual": round(float(row["rnagan_residual"]), 4),
        "missing_genes": round(float(row["rnagan_missing_genes"]), 4),
    }


def _file_names(samples: list[str]) -> dict[str, str]:
    """A file name for each profile; names from a stranger's table must not lead out of the folder."""
    names = [slide_id(sample + ".png") for sample in samples]
    name, times = collections.Counter(names).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{times} profiles would be written as {name}; give each a name of its own.")
    return dict(zip(samples, names, strict=True))


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Writes tiles and what is known of them: as PNGs with a grid, or as shards."""

    out: Path
    form: str
    model: RNAGAN
    seed: int

    def write(self, name: str, sample: str, tiles: NDArray[np.uint8], trust: dict[str, Any]) -> None:
        """Write the tiles (n, H, W, 3) of the profile `sample` under the file name `name`."""
        (self._write_pngs if self.form == "png" else self._write_shard)(
            name, sample, tiles, trust | self.model.unusual_sampling
        )

    def finish(self, rows: list[NDArray[np.uint8]]) -> None:
        """Write the grid, a row for each of `rows` (tiles, H, W, 3), or what makes the shards a data set."""
        if self.form == "png":
            save_png(
                self.out / "grid.png",
                grid(np.stack(rows)),
                self._texts(f"{len(rows)} profiles", self.model.unusual_sampling),
            )
        else:
            write_digest(self.out)

    def _texts(self, sample: str, more: dict[str, Any]) -> dict[str, str]:
        texts = synthetic_texts(self.model.digest, sample, self.seed, self.model.mpp)
        return texts | {f"rnagan:{key}": str(value).lower() for key, value in more.items()}

    def _write_pngs(self, name: str, sample: str, tiles: NDArray[np.uint8], more: dict[str, Any]) -> None:
        images = {f"{name}_{k:04d}.png": tile for k, tile in enumerate(tiles)}
        save_pngs(self.out / name, images, self._texts(sample, more))

    def _write_shard(self, name: str, sample: str, tiles: NDArray[np.uint8], more: dict[str, Any]) -> None:
        kind = {"tile_px": tiles.shape[1], "mpp": self.model.mpp}
        options = kind | {"seed": self.seed, "jpeg_quality": JPEG_QUALITY}
        source = {"synthetic": True, "model": self.model.digest, "profile": sample, "seed": self.seed} | more
        with ShardWriter(self.out, name) as writer:
            for k, tile in enumerate(tiles):
                writer.add(f"{name}_{k:04d}", encode_jpeg(tile, JPEG_QUALITY), {"slide": name} | kind | source)
            writer.commit("done", {}, source, options, {})
