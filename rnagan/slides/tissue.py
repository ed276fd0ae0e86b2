"""Where tissue is: Otsu's threshold on a thumbnail (paper: STAR Methods, "Otsu threshold")."""

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

# Bounds on Otsu's threshold. It always splits in two, so it would call half of an empty slide tissue, and half of a
# slide full of tissue background. Glass stays below the first, pale eosin lies above the second.
GLASS_CHROMA = 12
PALE_TISSUE_CHROMA = 20


def tissue_mask(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tissue in an RGB thumbnail: (rows, columns, 3) uint8 → (rows, columns) bool.

    Thresholds chroma, the largest minus the smallest colour channel: H&E is coloured, glass, alveolar air, grey
    scanner padding and black borders are not. Luminance would put pale tissue with the glass, and HSV saturation, which
    divides by brightness, would put noise in black borders with the tissue.
    """
    chroma = thumbnail.max(axis=2) - thumbnail.min(axis=2)
    flat = chroma.min() == chroma.max()
    threshold = GLASS_CHROMA if flat else np.clip(threshold_otsu(chroma), GLASS_CHROMA, PALE_TISSUE_CHROMA)
    return chroma > threshold
