"""Power spectra of tiles: do generated ones show a checkerboard that real ones don't?"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rnagan.evaluation.features import check_tiles
from rnagan.evaluation.real_tiles import Tiles
from rnagan.evaluation.test_set import EvaluationInputs, open_evaluation_set
from rnagan.io.claim import stating
from rnagan.io.files import write_json
from rnagan.reports.figures import spectra_figure
from rnagan.runtime import progress
from rnagan.runtime.devices import AUTO
from rnagan.tracking.evaluations import record_evaluation

PERIODS = (2, 4, 8)  # px
CENTRE, RING = 1, (3, 4)  # bins: a Hann window spreads a wave over ±1; around it, what is expected
BATCH = 64
Spectrum = NDArray[np.float64]
TOLERANCE = 0.1  # by which generated tiles may stand out more, or less, than real ones


class Checkerboard(NamedTuple):
    """Of one period: mean power at its frequencies, and mean multiple of what the frequencies around have."""

    energy: float
    prominence: float


def power_spectrum(tiles: NDArray[np.uint8]) -> Spectrum:
    """Mean power of tiles (n, S, S, 3) uint8 by frequency (row, column), (S, S) float64, as np.fft orders them.

    In squared grey levels: the mean over tiles and colours of |DFT|² under a Hann window (without it the jump from one
    edge to the other would fill both axes), scaled so that white noise of variance v has v in every bin. Each tile's
    own mean colour is taken off.
    """
    check_tiles(tiles)
    if tiles.shape[1] != tiles.shape[2] or not len(tiles):
        raise ValueError(f"A spectrum needs square tiles, not {tiles.shape}.")
    side = tiles.shape[1]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)  # periodic: a wave of a whole bin spreads over ±1
    window = np.outer(hann, hann)
    total = np.zeros((side, side))
    for first in range(0, len(tiles), BATCH):
        x = tiles[first : first + BATCH].astype(np.float64).transpose(0, 3, 1, 2)
        x -= x.mean(axis=(2, 3), keepdims=True)
        total += (np.abs(np.fft.fft2(x * window)) ** 2).sum(axis=(0, 1))
    return total / (3 * len(tiles) * (window**2).sum())


def checkerboards(spectrum: Spectrum) -> dict[int, Checkerboard]:
    """What a spectrum (S, S) has at the frequencies of each period, by period in px.

    `energy` is a mean over the 3 × 3 bins around each frequency, in squared grey levels a bin: a checkerboard of
    amplitude a adds a² S² to the sum over 9 of them. `prominence` is that energy over the geometric mean of the bins 3
    and 4 away, which a power law leaves near 1, averaged over the frequencies of the period: 1 is clean.
    A frequency belongs to the shortest period that has it. Periods whose frequencies are fewer than 8 bins apart are
    left out, so tiles are 16 px at least.
    """
    side = len(spectrum)
    periods = [period for period in PERIODS if side % period == 0 and side // period >= 2 * RING[1]]
    if not periods:
        raise ValueError(f"Tiles of {side} px are too small for checkerboards; 16 px and more are needed.")
    found, seen = {}, {(0, 0)}
    for period in periods:
        steps = range(0, side, side // period)
        places = [(row, column) for row in steps for column in steps if (row, column) not in seen]
        seen |= set(places)
        around = [_at(spectrum, *place) for place in places]
        found[period] = Checkerboard(*(float(np.mean(values)) for values in zip(*around, strict=True)))
    return found


def _at(spectrum: Spectrum, row: int, column: int) -> tuple[float, float]:
    """Mean power around one frequency, and its multiple of what is expected there."""
    reach = RING[1]
    around = np.roll(spectrum, (reach - row, reach - column), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    distance = np.maximum(*np.abs(np.mgrid[-reach : reach + 1, -reach : reach + 1]))
    centre = around[distance <= CENTRE].mean()
    # geometric: halfway down a slope it is what lies halfway; the floor stands for tiles without any texture
    expected = np.exp(np.log(np.maximum(around[distance >= RING[0]], 1e-12)).mean())
    return centre, max(centre, 1e-12) / expected


def radial(spectrum: Spectrum) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies in cycles per px, from one cycle a tile up to 1/2, and the mean power of each, in all directions."""
    side = len(spectrum)
    frequency = np.fft.fftfreq(side) * side
    ring = np.rint(np.hypot(frequency[:, None], frequency[None])).astype(int)
    power = np.bincount(ring.ravel(), spectrum.ravel()) / np.bincount(ring.ravel())
    rings = np.arange(1, side // 2 + 1)
    return rings / side, power[rings]


def compare(generated: dict[int, Checkerboard], real: dict[int, Checkerboard]) -> dict[str, dict[str, float]]:
    """Generated over real by period: `prominence` (1.1: a tenth more stands out) and plain `energy`."""
    return {
        str(period): {
            "prominence": generated[period].prominence / real[period].prominence,
            "energy": generated[period].energy / max(real[period].energy, 1e-12),
        }
        for period in real
    }


def compare_spectra(
    inputs: EvaluationInputs,
    out: Path,
    split: str = "test",
    n: int = 8,
    seed: int = 0,
    device: str | torch.device = AUTO,
) -> dict[str, Any]:
    """Compare the model, and those beside it, with the first `n` real tiles of every slide of `split`; writes
    `out/spectra.png`, then `out/spectra.json`, and returns it.

    Generated tiles are as many, from the profiles of the same slides. `over_real`: by period, how much more stands out
    at the checkerboard's frequencies, and plain energy there; `worst` is the period that is furthest from 1, and
    `within_tolerance` says whether that is within TOLERANCE. `real_halves`: the same between two halves of the donors,
    which shows how far apart these figures lie by chance.
    """
    held_out = open_evaluation_set(inputs, split, n, device=device)
    folders = [inputs.model, *inputs.beside]
    models = dict(zip(_names(folders), held_out.models, strict=True))
    rows = held_out.rows
    donors = rows["donor"].rank(method="dense").to_numpy().astype(int)
    of_rows = [power_spectrum(tiles) for tiles in held_out.real()]
    counts = rows["tiles"].to_numpy()
    halves = [_mean(of_rows, counts * (donors % 2 == half)) for half in (0, 1)] if len(set(donors)) > 1 else []
    real = _mean(of_rows, counts)
    spectra, verdicts = {"real tiles": real}, {}
    for name, model in models.items():
        spectra[name] = _of(held_out.generated(model, seed), counts, name)
        verdicts[name] = {"model": model.digest} | _verdict(checkerboards(spectra[name]), checkerboards(real))
    result = {
        "split": split,
        "tiles": int(counts.sum()),
        "donors": len(set(donors)),
        "resolution": held_out.resolution,
        "seed": seed,
        "real": _plain(checkerboards(real)),
        "real_halves": compare(*map(checkerboards, halves)) if halves else None,
        "models": verdicts,
    }
    curves = {name: radial(spectrum) for name, spectrum in spectra.items()}
    result |= {} if held_out.claim is None else held_out.claim.as_json()
    with stating(held_out.claim):
        spectra_figure(out / "spectra.png", spectra, curves, PERIODS)
    write_json(out / "spectra.json", result)
    protocol = dataclasses.replace(inputs, beside=()).protocol(split=split, tiles_per_slide=n, seed=seed)
    for folder, verdict in zip(folders, verdicts.values(), strict=True):
        scores = {
            f"{period}_px/{name}": {"value": value}
            for period, ratios in verdict["over_real"].items()
            for name, value in ratios.items()
        }
        own = out if len(folders) == 1 else out / "models" / verdict["model"][:12]
        pictures = [out / "spectra.png"]
        record_evaluation(own, "spectra", folder, scores, protocol, pictures=pictures, claim=held_out.claim)
    return result


def _verdict(generated: dict[int, Checkerboard], real: dict[int, Checkerboard]) -> dict[str, Any]:
    over_real = compare(generated, real)
    worst = max(over_real, key=lambda period: abs(np.log(over_real[period]["prominence"])))
    within = abs(over_real[worst]["prominence"] - 1) <= TOLERANCE
    return {"generated": _plain(generated), "over_real": over_real, "worst": worst, "within_tolerance": bool(within)}


def _plain(found: dict[int, Checkerboard]) -> dict[str, dict[str, float]]:
    return {str(period): board._asdict() for period, board in found.items()}


def _of(tiles_of_rows: Iterable[Tiles], counts: np.ndarray, name: str) -> Spectrum:
    spectra = []
    with progress.bar(int(counts.sum()), "tile", f"Generating {name}") as bar:
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
