"""UMAPs: of profiles (article: figure 2), and of the features of real and generated tiles (figures 3B, 3C and 4B)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from rnagan.reports.figures import in_legend, save_figure
from rnagan.runtime import rng

NEIGHBOURS = 15
FEWEST = 4  # profiles
_COMPONENTS = 50  # distances among 19,198 genes are mostly noise, and slow


def umap_embedding(z: NDArray[np.floating], seed: int = 0) -> NDArray[np.float32]:
    """Places (samples, 2) of Z scores (samples, genes), of their first 50 principal components; at least 4 samples.

    The same on every run with the same seed, on the same machine. Points attract and repel less than by UMAP's
    defaults, which draw the few profiles of a tissue together into one dot.
    """
    import umap
    from sklearn.decomposition import PCA

    if len(z) < FEWEST:
        raise ValueError(f"UMAP needs at least {FEWEST} profiles, and there are {len(z)}.")
    parts = min(_COMPONENTS, len(z) - 1, z.shape[1])
    scores = PCA(parts, random_state=0).fit_transform(np.asarray(z, np.float64))
    neighbours = min(NEIGHBOURS, len(z) - 1)
    looser = {"min_dist": 0.8, "spread": 1.5, "repulsion_strength": 0.15}
    return umap.UMAP(n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1, **looser).fit_transform(scores)


def feature_map(
    path: Path, features: Sequence[NDArray], tissues: Sequence[NDArray], tiles: int, extractor: str, seed: int
) -> None:
    """A PNG with two panels, real and generated tiles, placed by one UMAP of both and coloured by tissue.

    `features` (n, width) and `tissues` (n,) of generated, then of real tiles; of either at most `tiles`, drawn at
    random. Nothing is drawn of fewer tiles than a UMAP needs.
    """
    random = rng.generator(seed, "features/map")
    rows = [np.sort(random.permutation(len(own))[:tiles]) for own in features]
    if sum(map(len, rows)) < FEWEST:
        return
    shown = [np.asarray(own[chosen], np.float64) for own, chosen in zip(features, rows, strict=True)]
    places = umap_embedding(np.concatenate(shown), seed)
    parts = np.split(places, [len(rows[0])])
    names = sorted(set(np.concatenate([np.unique(own) for own in tissues]).tolist()))
    colours = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), sharex=True, sharey=True)
    for axis, title, own, chosen, labels in zip(
        axes[::-1], ("generated", "real"), parts, rows, tissues, strict=True
    ):  # real at the left
        axis.scatter(*places.T, s=3, c="0.9", lw=0)
        for k, name in enumerate(names):
            axis.scatter(*own[labels[chosen] == name].T, s=5, lw=0, color=colours(k % colours.N), label=in_legend(name))
        axis.set_title(f"{title} tiles ({len(chosen):,})", fontsize=10)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].legend(fontsize=8, markerscale=3, frameon=False)
    figure.suptitle(f"UMAP of {extractor} features; in grey, the tiles of the other panel", fontsize=9)
    save_figure(figure, path)
