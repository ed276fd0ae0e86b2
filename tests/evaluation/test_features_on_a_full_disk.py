"""Features are written through memory; on a full disk that ended the process by a bus error."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rnagan.evaluation.feature_store import read_features, write_features
from rnagan.io.disk_errors import in_words
from rnagan.runtime.distributed import Processes
from tests.disks import enlarge, small_disk


class Wide(SimpleNamespace):
    """As many features a tile as fill the disk."""

    width = 4096

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        return np.repeat(tiles[:, :1, 0, 0].astype(np.float32), self.width, axis=1)


@pytest.mark.attack(kind=7, ends="unharmed")
def test_features_on_a_full_disk_and_again(tmp_path: Path) -> None:
    def tiles(numbers: range) -> np.ndarray:
        return np.stack([np.full((4, 4, 3), number % 200, np.uint8) for number in numbers])

    def write(path: Path) -> np.ndarray:
        write_features({path: Wide()}, tiles, 100, Processes(0, 1), "x")
        return np.array(read_features(path))

    with small_disk(tmp_path / "disk", "1m") as disk:
        with pytest.raises(OSError) as raised:
            write(disk / "x.npy")
        assert in_words(raised.value).startswith(f"the disk is full ({disk}/x.npy); free space")
        assert not list(disk.iterdir())
        enlarge(disk, "10m")
        np.testing.assert_array_equal(write(disk / "x.npy"), write(tmp_path / "calm.npy"))
        assert (disk / "x.npy").read_bytes() == (tmp_path / "calm.npy").read_bytes()
