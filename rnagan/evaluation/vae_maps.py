"""Profiles made in the latent: how good they are, and UMAPs of them beside real ones (article: figure 2)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnagan.evaluation.feature_map import FEWEST, umap_embedding
from rnagan.evaluation.reconstruction import nearest_tissues, scatter_within
from rnagan.latent.edits import SPREADS, sample_latents, shift_latents
from rnagan.models.trained_vae import VAEModel
from rnagan.reports.vae_figures import umap_by_tissue
from rnagan.runtime import rng

_SHOWN = 100  # profiles of a tissue and origin on a map, at most


class Made(NamedTuple):
    """Z scores (samples, the model's genes) of generated and shifted profiles, with their tissues, and how good
    they are. `pair`: the two tissues between which profiles were shifted, None where the model knows a single one."""

    generated: NDArray[np.float32]
    generated_tissues: NDArray[np.str_]
    generated_numbers: dict[str, Any]
    shifted: NDArray[np.float32]
    shifted_tissues: NDArray[np.str_]
    shifted_numbers: dict[str, Any]
    pair: tuple[str, str] | None


def choose_pair(tissues: NDArray[np.str_], asked: tuple[str, str] | None = None) -> tuple[str, str] | None:
    """The tissues `asked` for, or brain and lung as in the article where both are there, else the two with most
    profiles; None of a single one. Raises `ValueError` where there is no profile of one asked for."""
    names, counts = np.unique(tissues, return_counts=True)
    if asked is not None:
        strange = [name for name in asked if name not in names]
        if strange:
            raise ValueError(f"There is no held-out profile of {strange[0]!r} to shift; there are {', '.join(names)}.")
        if asked[0] == asked[1]:
            raise ValueError(f"Both tissues to shift between are {asked[0]}; give two.")
        return asked
    if len(names) < 2:
        return None
    brain = [name for name in names if "cortex" in name.lower()] or [name for name in names if "brain" in name.lower()]
    lung = [name for name in names if "lung" in name.lower()]
    if brain and lung:
        return str(brain[0]), str(lung[0])
    first, second = np.sort(np.argsort(-counts, kind="stable")[:2])
    return str(names[first]), str(names[second])


def generated_and_shifted(
    model: VAEModel,
    train_latents: NDArray[np.float32],
    train_tissues: NDArray[np.str_],
    z: NDArray[np.float32],
    latents: NDArray[np.float32],
    tissues: NDArray[np.str_],
    pair: tuple[str, str] | None,
    seed: int,
) -> Made:
    """As many generated profiles of each tissue as there are real ones, and those of `pair` shifted both ways.

    What is made is called by the nearest training profiles in Z scores after reconstruction, which is what the pictures
    show: `called_right` for each spread; `scatter`: RMS deviation from the tissue's mean, of real, reconstructed and
    generated profiles. `z`, `latents`, `tissues`: of the real profiles.
    """
    known = model.decode(train_latents)
    names, counts = np.unique(tissues, return_counts=True)
    drawn = {
        spread: model.decode(
            np.concatenate(
                [sample_latents(model.space, t, n, seed, spread) for t, n in zip(names.tolist(), counts, strict=True)]
            )
        )
        for spread in SPREADS
    }
    labels = np.repeat(names, counts)
    numbers = {
        "called_right": {
            s: float((nearest_tissues(known, train_tissues, d) == labels).mean()) for s, d in drawn.items()
        },
        "scatter": {"real": scatter_within(z, tissues), "reconstructed": scatter_within(model.decode(latents), tissues)}
        | {f"generated, spread {spread}": scatter_within(values, labels) for spread, values in drawn.items()},
    }
    shifted, targets, worth = drawn["tissue"][:0], labels[:0], {}
    if pair is not None:
        ways = [(tissues == start, end) for start, end in (pair, pair[::-1])]
        moved = [shift_latents(model.space, latents[rows], tissues[rows].tolist(), end) for rows, end in ways]
        shifted = model.decode(np.concatenate(moved))
        targets = np.concatenate([np.repeat(end, rows.sum()) for rows, end in ways])
        called = nearest_tissues(known, train_tissues, shifted) == targets
        worth = {"pair": list(pair), "profiles": len(shifted), "called_right": float(called.mean())}
    return Made(drawn["tissue"], labels, numbers, shifted, targets, worth, pair)


def write_maps(
    out: Path,
    model: VAEModel,
    z: NDArray[np.float32],
    tissues: NDArray[np.str_],
    z_hat: NDArray[np.float32],
    made: Made,
    seed: int,
) -> None:
    """Write umap_reconstructed.png and umap_generated.png (2C), two views of one UMAP of real, reconstructed and
    generated profiles together, and umap_pair.png (2A) and umap_shifted.png (2B), two of one of the pair's alone. At
    most 100 of a tissue and origin are shown. There is no map of fewer than 4 profiles."""
    parts = {
        "real": (z, tissues),
        "reconstructed": (z_hat, tissues),
        "generated": (made.generated, made.generated_tissues),
        "shifted": (made.shifted, made.shifted_tissues),
    }
    values, frames = [], []
    for origin, (rows, of) in parts.items():
        kept = _few(of, origin, seed)
        values.append(rows[kept][:, ~model.transform.constant])
        frames.append(pd.DataFrame({"tissue": of[kept], "origin": origin}))
    joined, points = np.concatenate(values), pd.concat(frames, ignore_index=True)
    if len(points) < FEWEST:
        return
    made_of_one = points["origin"] != "shifted"
    points.loc[made_of_one, ["x", "y"]] = umap_embedding(joined[made_of_one], seed)
    for name, title, origin in (
        ("umap_reconstructed", "Held-out profiles, real and reconstructed", "reconstructed"),
        ("umap_generated", "Held-out real profiles and generated ones", "generated"),
    ):
        umap_by_tissue(out / f"{name}.png", title, points[points["origin"].isin(("real", origin))])
    if made.pair is None or (two := points["tissue"].isin(made.pair)).sum() < FEWEST:
        return
    points.loc[two, ["x", "y"]] = umap_embedding(joined[two], seed)
    title = f"{made.pair[0]} and {made.pair[1]}"
    for name, what, origins in (
        ("umap_pair", "real, reconstructed, generated", ("real", "reconstructed", "generated")),
        ("umap_shifted", "shifted from one to the other", ("real", "shifted")),
    ):
        umap_by_tissue(out / f"{name}.png", f"{title}: {what}", points[two & points["origin"].isin(origins)])


def _few(tissues: NDArray[np.str_], origin: str, seed: int) -> NDArray[np.intp]:
    """Rows of at most _SHOWN profiles of each tissue, in order."""
    kept = []
    for tissue in np.unique(tissues):
        rows = np.flatnonzero(tissues == tissue)
        kept.append(rng.generator(seed, f"map/{origin}/{tissue}").permutation(rows)[:_SHOWN])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.intp)
