"""Sections drawn from their expression alone, spot by spot, beside the real ones where they have an image."""

from pathlib import Path
from typing import TypedDict

import numpy as np
import pandas as pd
import torch

from rnagan.api import RNAGAN
from rnagan.cohort.spots import POSITIONS, positions_of
from rnagan.cohort.table import read_cohort
from rnagan.data.index import ShardSet, open_dataset
from rnagan.evaluation.real_tiles import Tiles, read_tiles
from rnagan.evaluation.spatial_measures import SPATIAL_MEASURES, measure_spots, nuclear_level
from rnagan.evaluation.stats import Values
from rnagan.evaluation.test_set import check_sizes
from rnagan.generation import open_model
from rnagan.io.cells import safe_table
from rnagan.io.files import atomic_path, read_json, write_json
from rnagan.io.images import picture_name, synthetic_texts
from rnagan.io.provenance import KEY, asked, read_current
from rnagan.io.tables import need_columns
from rnagan.latent.profiles import Choice, choose_profiles
from rnagan.models.tile_generator import NO_OPTIONS, SamplingOptions
from rnagan.reports.section_pictures import mosaic, section_maps
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.runtime.folder_lock import is_claim

RECORD, TABLE = "mosaic.json", "measures.csv"


class Drawn(TypedDict):
    """The mosaic.json of a folder: digest of the model, tiles `n` a spot, and the pictures of each section."""

    model: str
    n: int
    pictures: dict[str, list[str]]


def draw_sections(
    model_folder: Path,
    profiles: Path,
    cohort: Path,
    out: Path,
    *,
    shards: Path | str | None = None,
    n: int = 8,
    seed: int = 0,
    split: str | None = None,
    samples: tuple[str, ...] = (),
    options: SamplingOptions = NO_OPTIONS,
    stain_of: str | None = None,
    device: str | torch.device = AUTO,
) -> list[str]:
    """Draw each section of the cohort table whose spots are among the chosen profiles; returns lines for the user.

    `out/SECTION.png` has the first generated tile of each spot at its place, at the right of the real tiles where
    `shards` holds them; `out/SECTION_maps.png` the measures of the mean of `n` tiles, and of the real ones;
    `out/measures.csv` the same by spot. `split`, `samples`, `options`, `stain_of`: as `generation.generate_tiles`.
    `out/mosaic.json`, written last, records the request: the same one is up to date. Raises `ValueError` where the
    cohort table has no positions, where no chosen profile is in it, where real tiles are of another size, and where
    `out` holds anything else.
    """
    model = open_model(model_folder, device, stain_of, options)
    if model.encoder is None:
        raise ValueError(f"{model_folder} was trained in mode {model.config.mode} and takes no profiles.")
    real_set = None if shards is None else open_dataset(shards)
    if real_set is not None:
        check_sizes([model], real_set)
    request = asked(
        model=model.digest,
        profiles=profiles,
        cohort=cohort,
        shards=None if real_set is None else real_set.digest,
        settings=[n, seed, split, list(samples), model.sampling, stain_of],
    )
    if read_current(out / RECORD, request, Drawn) is not None:
        return [f"{out} is up to date."]
    spots, latents, lines = _spots(model, profiles, cohort, split, samples)
    _take_over(out)
    taken: set[str] = set()
    pictures: dict[str, list[str]] = {}
    tables = []
    for section, rows in spots.groupby("slide"):
        progress.say(f"{section}: {len(rows):,} spots.")
        names = rows["sample"].tolist()
        own = latents[rows["row"].to_numpy()]
        generated = np.stack(list(model.generate_each(own, names, [n] * len(names), seed)))
        real = None if real_set is None else _real(real_set, rows, model.config.resolution)
        level = nuclear_level(generated[:, 0] if real is None else real)
        measured = [_measures(tiles, model.mpp, level) for tiles in generated]
        found = {name: np.array([each[name] for each in measured]) for name in measured[0]}
        of_real = {} if real is None else measure_spots(real, model.mpp, level)
        positions = positions_of(rows, str(cohort))
        name = picture_name(str(section), taken)
        pictures[str(section)] = [f"{name}.png", f"{name}_maps.png"]
        texts = synthetic_texts(model.digest, "those of the section's spots", seed, model.mpp)
        mosaic(out / f"{name}.png", positions, generated[:, 0], real, texts)
        section_maps(out / f"{name}_maps.png", str(section), positions, of_real, found)
        tables.append(_table(rows, found, of_real))
    with atomic_path(out / TABLE) as temporary:
        safe_table(pd.concat(tables)).to_csv(temporary, index=False)
    write_json(out / RECORD, {"model": model.digest, "n": n, "seed": seed, KEY: request, "pictures": pictures})
    drawn = "; ".join(f"{section}, {len(rows):,} spots" for section, rows in spots.groupby("slide"))
    return [*lines, f"{out}: {drawn}."]


def _spots(
    model: RNAGAN, profiles: Path, cohort: Path, split: str | None, samples: tuple[str, ...]
) -> tuple[pd.DataFrame, Values, list[str]]:
    """Rows of the cohort table with their `row` among the latents, (profiles, latent), and lines for the user."""
    table = read_cohort(cohort)
    need_columns(list(table), ("slide", *POSITIONS), cohort)
    chosen, left_out = choose_profiles(Choice(profiles, split, samples), model.units, model.tissues)
    lines = [f"Left out {left_out:,} profiles of tissues that the model has not seen."] if left_out else []
    rows = table[table["sample"].isin(chosen.obs_names) & (table["slide"] != "")]
    if rows.empty:
        raise ValueError(f"{cohort} has a section and a position for none of the chosen profiles of {profiles}.")
    if missing := chosen.n_obs - rows["sample"].nunique():
        lines.append(f"Left out {missing:,} profiles that {cohort} has no section for.")
    chosen = chosen[rows["sample"].to_numpy()].copy()
    model.encode(chosen)
    return rows.assign(row=np.arange(len(rows))), chosen.obsm["X_rnagan"], lines


def _real(shards: ShardSet, rows: pd.DataFrame, resolution: int) -> Tiles | None:
    """The real tile of each spot, (spots, S, S, 3); None where not every spot of the section has one."""
    if shards.profiles is None or (shards.stored(rows) == 0).any():
        return None
    return np.concatenate(read_tiles(shards, rows, 1, resolution))


def _measures(tiles: Tiles, mpp: float | None, level: float) -> dict[str, float]:
    return {name: float(values.mean()) for name, values in measure_spots(tiles, mpp, level).items()}


def _table(rows: pd.DataFrame, generated: dict[str, Values], real: dict[str, Values]) -> pd.DataFrame:
    """A row a spot: slide, sample, positions, its measures, and those of its real tile as MEASURE_real."""
    own = rows[["slide", "sample", *POSITIONS]].assign(**{name: generated[name] for name in SPATIAL_MEASURES})
    return own.assign(**{f"{name}_real": real[name] for name in SPATIAL_MEASURES if name in real})


def _take_over(out: Path) -> None:
    """Clear the pictures of an earlier request from `out`; refuse a folder that holds anything of others."""
    if not (out / RECORD).is_file():
        if out.is_dir() and any(not is_claim(path) for path in out.iterdir()):
            raise ValueError(f"{out} holds other files; choose another --out.")
        return
    old = read_json(out / RECORD, Drawn)["pictures"].values()
    for name in (RECORD, TABLE, *(picture for of_section in old for picture in of_section)):
        if Path(name).name == name:  # the record may be a stranger's
            (out / name).unlink(missing_ok=True)
