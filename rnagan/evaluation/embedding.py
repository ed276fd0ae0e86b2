"""UMAP of profiles (article: figure 2)."""

import numpy as np
from numpy.typing import NDArray

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
