"""What the loader makes: batches of tiles or of profiles, in the order of the endless sequence."""

from typing import NamedTuple

from torch import Tensor


class Replaced(NamedTuple):
    """A damaged tile, or profile, that a neighbour stands in for."""

    number: int  # of the image in the sequence
    slide: str
    tile: int
    problem: str


class Batch(NamedTuple):
    """Tiles of images `start` … `start + n − 1` of the endless sequence."""

    start: int
    images: Tensor  # (n, 3, H, W) uint8, channels-last memory, pinned where a GPU is used
    slides: Tensor  # (n,) int64, rows of the selection's table
    tiles: Tensor  # (n,) int64, numbers of the tiles in their slides, in stored order
    replaced: tuple[Replaced, ...] = ()


class ProfileBatch(NamedTuple):
    """Profiles number `start` … `start + n − 1` of the endless sequence."""

    start: int
    values: Tensor  # (n, genes) float32 in the units of the set, pinned where a GPU is used
    rows: Tensor  # (n,) int64, rows of the set's `samples`
    replaced: tuple[Replaced, ...] = ()
