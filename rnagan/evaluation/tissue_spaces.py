"""The spaces in which the nearest training profiles call the tissue of a profile: the latent, and what it must beat."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from rnagan.evaluation.reconstruction import PCAModel
from rnagan.expression.transform import ExpressionTransform
from rnagan.models.trained_vae import VAEModel


def spaces_of(
    model: VAEModel,
    pca: PCAModel,
    z: NDArray[np.float32],
    latents: NDArray[np.float32],
    raw: NDArray[np.float32] | None,
) -> dict[str, NDArray]:
    """Profiles (samples, …) in each space whose nearest neighbours call the tissue: the latent, PCA, what the encoder
    sees and, where that is something else and `raw` holds them, Z scores."""
    spaces: dict[str, NDArray] = {"vae": model.space.neighbour_units(latents), "pca": pca.scores(z)}
    if model.transform.kind == "zscore":
        return spaces | {"z_scores": z}
    return spaces | {"input": z} | ({} if raw is None else {"z_scores": raw})


def raw_z_scores(
    model: VAEModel, x_train: NDArray[np.float32]
) -> Callable[[NDArray[np.float32]], NDArray[np.float32] | None]:
    """Makes Z scores of log expression, with mean and SD of training profiles (samples, the model's genes), of profiles
    in the same genes and units; None for a model whose encoder sees just those."""
    if model.transform.kind == "zscore":
        return lambda _: None
    genes, units = model.transform.genes, model.transform.units
    fitted = ExpressionTransform.fit(x_train, genes, units, model.transform.log)
    return lambda x: fitted.apply(x, genes, units)


def distances(model: VAEModel, spaces: Iterable[str]) -> dict[str, str]:
    """The name of the distance between neighbours in each of `spaces_of`."""
    return dict.fromkeys(spaces, "euclidean") | {"vae": model.space.neighbours_by}
