"""Do painted tiles hold a checkerboard that real ones don't? Spectra of models beside that of real tiles."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rnagan import progress
from rnagan.evaluation.figures import spectra_figure
from rnagan.evaluation.held_out import HeldOut, TileInputs, Tiles
from rnagan.evaluation.spectrum import Checkerboard, Spectrum, checkerboards, compare, power_spectrum
from rnagan.files import write_json
from rnagan.pretrained import RNAGAN

TOLERANCE = 0.1  # by which painted tiles may stand out more, or less, than real ones


def compare_spectra(
    folders: list[Path], inputs: TileInputs, out: Path, split: str = "test", n: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Compare each model with the first `n` real tiles of every slide of `split`; writes `out/spectra.png`, then
    `out/spectra.json`, and returns it.

    Painted tiles are as many, from the profiles of the same slides. `over_real`: by period, how much more stands out at
    the checkerboard's frequencies, and plain energy there; `worst` is the period that is furthest from 1, and
    `within_tolerance` says whether that is within TOLERANCE. `real_halves`: the same between two halves of the donors,
    so how far apart these figures come by chance.
    """
    models = dict(zip(_names(folders), map(RNAGAN.from_pretrained, folders), strict=True))
    held_out = HeldOut(list(models.values()), inputs, split, n)
    rows = held_out.rows
    donors = rows["donor"].rank(method="dense").to_numpy().astype(int)
    of_rows = [power_spectrum(tiles) for tiles in held_out.real()]
    counts = rows["tiles"].to_numpy()
    halves = [_mean(of_rows, counts * (donors % 2 == half)) for half in (0, 1)] if len(set(donors)) > 1 else []
    real = _mean(of_rows, counts)
    spectra, told = {"real tiles": real}, {}
    for name, model in models.items():
        spectra[name] = _of(held_out.painted(model, seed), counts, name)
        told[name] = {"model": model.digest} | _verdict(checkerboards(spectra[name]), checkerboards(real))
    result = {
        "split": split,
        "tiles": int(counts.sum()),
        "donors": len(set(donors)),
        "resolution": held_out.resolution,
        "seed": seed,
        "real": _plain(checkerboards(real)),
        "real_halves": compare(*map(checkerboards, halves)) if halves else None,
        "models": told,
    }
    spectra_figure(Path(out) / "spectra.png", spectra)
    write_json(Path(out) / "spectra.json", result)
    return result


def _verdict(painted: dict[int, Checkerboard], real: dict[int, Checkerboard]) -> dict[str, Any]:
    over_real = compare(painted, real)
    worst = max(over_real, key=lambda period: abs(np.log(over_real[period]["prominence"])))
    within = abs(over_real[worst]["prominence"] - 1) <= TOLERANCE
    return {"painted": _plain(painted), "over_real": over_real, "worst": worst, "within_tolerance": bool(within)}


def _plain(found: dict[int, Checkerboard]) -> dict[str, dict[str, float]]:
    return {str(period): board._asdict() for period, board in found.items()}


def _of(tiles_of_rows: Iterable[Tiles], counts: np.ndarray, name: str) -> Spectrum:
    spectra = []
    with progress.bar(int(counts.sum()), "tile", f"Painting {name}") as bar:
        for tiles in tiles_of_rows:
            spectra.append(power_spectrum(tiles))
            bar.update(len(tiles))
    return _mean(spectra, counts)


def _mean(spectra: list[Spectrum], weights: np.ndarray) -> Spectrum:
    return np.average(spectra, axis=0, weights=weights)


def _names(folders: list[Path]) -> list[str]:
    """The run's name, or the whole path where two are called alike."""
    names = [folder.parent.name if folder.name == "model" else folder.name for folder in folders]
    return [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)]
